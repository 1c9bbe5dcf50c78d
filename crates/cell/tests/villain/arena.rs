//! A cell with a villain and an honest neighbour, and what is asked of it after every attack.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_abi::cell::Trust;
use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use crate::node::{Answer, Cell, Function, Node};
use crate::symbols::Symbols;
use crate::{cell_binary, compiled, machine_can};

/// The villain's seat.
pub(crate) const VILLAIN: usize = 0;
/// The neighbour's.
pub(crate) const VICTIM: usize = 1;

/// How long a villain may work on one request.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// A guest of this corpus.
pub(crate) fn guest(name: &str) -> PathBuf {
    compiled(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../e2e/villain/compartment/{name}.c")))
}

/// One cell and its node.
pub(crate) struct Arena {
    pub(crate) node: Node,
    pub(crate) cell: Cell,
    pub(crate) trust: Trust,
    served: u64,
}

/// Runs `check` under both settings of `trust`.
pub(crate) fn both(villain: &str, check: impl Fn(&mut Arena)) {
    if machine_can() {
        for trust in [Trust::App, Trust::Buffer] {
            check(&mut Arena::new(villain, trust));
        }
    }
}

/// Runs `check` under one of them.
pub(crate) fn one(villain: &str, trust: Trust, check: impl Fn(&mut Arena)) {
    if machine_can() {
        check(&mut Arena::new(villain, trust));
    }
}

impl Arena {
    pub(crate) fn new(villain: &str, trust: Trust) -> Arena {
        let mut function = Function::new("villain", &guest(villain)).calls(&["victim"]);
        function.timeout = PATIENCE;
        Arena::with(trust, vec![function, Function::new("victim", &guest("victim")).calls(&["villain"])])
    }

    pub(crate) fn with(trust: Trust, functions: Vec<Function>) -> Arena {
        let mut node = Node::start(trust, functions).expect("villains behave until they are asked");
        let cell = node.fork();
        Arena { node, cell, trust, served: 0 }
    }

    /// What the villain answers to an order.
    pub(crate) fn ask(&mut self, order: &str) -> Answer {
        self.ask_seat(VILLAIN, order)
    }

    pub(crate) fn ask_seat(&mut self, seat: usize, order: &str) -> Answer {
        let tag = self.cell.send(&mut self.node.pool, seat, order.as_bytes(), 0);
        let answer = self.cell.wait(&mut self.node.pool, seat, tag);
        answer.unwrap_or_else(|| panic!("`{order}`: {}", self.last_words()))
    }

    /// What can be said of a cell that does not answer.
    fn last_words(&mut self) -> String {
        self.cell.listen();
        let said = self.cell.said.len().saturating_sub(3);
        let mut ends = [PollFd::new(&self.cell.pidfd, PollFlags::IN)];
        let lives = rustix::event::poll(&mut ends, Some(&Timespec::default())) == Ok(0);
        let state = if lives { "lives and does not answer" } else { "died" };
        format!("the cell {state}; it said last {:?}", &self.cell.said[said..])
    }

    /// The villain is still there after an order, and says this.
    pub(crate) fn says(&mut self, order: &str) -> String {
        let answer = self.ask(order);
        assert!(!answer.is_error, "`{order}` under {:?}: {answer:?}", self.trust);
        self.goes_on(order);
        answer.text()
    }

    /// An order is the villain's end, for this reason.
    #[track_caller]
    pub(crate) fn dies(&mut self, order: &str, reason: &str) {
        let answer = self.ask(order);
        assert!(
            answer.is_error && answer.text().contains(reason),
            "`{order}` under {:?} should have died of \"{reason}\": {answer:?}",
            self.trust
        );
        self.goes_on(order);
    }

    /// Both functions serve their next request, and nobody touched the neighbour.
    #[track_caller]
    pub(crate) fn goes_on(&mut self, order: &str) {
        let pong = self.ask("ping").text();
        assert!(pong.starts_with("pong "), "the villain after `{order}`: {pong}");
        assert_eq!(self.ask_seat(VICTIM, "intact").text(), "intact", "the neighbour after `{order}`");
        self.served += 1;
        let _ = self.served;
    }
}

/// A cell as someone sees it who may look into every process.
pub(crate) struct Inside {
    memory: File,
    /// What is mapped: first byte, one behind the last, access, name.
    pub(crate) maps: Vec<(u64, u64, String, String)>,
    /// From a program's addresses to where it is loaded.
    base: u64,
    symbols: Symbols,
}

impl Inside {
    pub(crate) fn of(cell: &Cell) -> Inside {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", cell.pidfd.as_raw_fd()))
            .expect("a pidfd");
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a number").trim();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the cell lives");
        let maps: Vec<_> = maps.lines().filter_map(mapping).collect();
        let program =
            maps.iter().find(|(.., name)| name.ends_with("baton-cell")).expect("the cell's program");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("tests may look into their children");
        Inside { memory, base: program.0, symbols: Symbols::of(cell_binary()), maps: maps.clone() }
    }

    /// Where a symbol of the runtime lies.
    pub(crate) fn at(&self, name: &str) -> u64 {
        self.base + self.symbols.at(name)
    }

    /// Where the functions of the runtime begin.
    pub(crate) fn functions(&self) -> Vec<u64> {
        self.symbols.code().map(|at| self.base + at).collect()
    }

    /// Within the stack that the runtime runs on.
    pub(crate) fn own_stack(&self) -> u64 {
        self.maps.iter().find(|(.., name)| name == "[stack]").expect("every process has one").1 - 8192
    }

    pub(crate) fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, at).expect("mapped memory");
        u64::from_le_bytes(bytes)
    }
}

fn mapping(line: &str) -> Option<(u64, u64, String, String)> {
    let mut parts = line.split_whitespace();
    let (from, to) = parts.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let access = parts.next()?.to_owned();
    Some((number(from)?, number(to)?, access, parts.nth(3).unwrap_or_default().to_owned()))
}

/// Distances from the first gate to what lies in the runtime.
pub(crate) struct Runtime(Symbols);

impl Runtime {
    pub(crate) fn new() -> Runtime {
        Runtime(Symbols::of(cell_binary()))
    }

    /// From the first gate to a symbol, as a guest adds it.
    pub(crate) fn distance(&self, name: &str) -> u64 {
        self.0.at(name).wrapping_sub(self.0.at("baton_gates"))
    }
}
