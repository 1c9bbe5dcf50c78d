//! The nodes of a simulated cluster as they truly are, and what they know of each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use baton_placement::{
    Assignment, Demand, Here, Load, Need, Place, Policy, Seat, There, assign, busy, reported,
};

use crate::board::{Board, Row};
use crate::time::{Nanos, SECOND};
use crate::workload::App;

/// Cores of a node.
pub(crate) const CORES: u32 = 8;
/// Bytes of a node for functions.
pub(crate) const MEMORY: u64 = 16 << 30;
/// Replicas of a function on a node.
pub(crate) const REPLICAS_MAX: u32 = CORES;
/// Calls that may wait for a function on a node, as in a manifest that says nothing else.
pub(crate) const QUEUE: u32 = 128;
/// After so long without a call, a function's replicas go.
pub(crate) const IDLE: Nanos = 60 * SECOND;

/// A call on its way through the cluster; out of date once the call is tried anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) call: u32,
    pub(crate) attempt: u32,
}

/// What has become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It serves.
    Up,
    /// It takes no new calls.
    Draining,
    /// It died, and nobody knows.
    Dead,
    /// It died, and its peers know.
    Gone,
}

/// A node.
pub(crate) struct Machine {
    name: String,
    pub(crate) state: State,
    pub(crate) died: Option<Nanos>,
    /// Calls that run on it, of all functions, calls that wait there, and calls that are on their way.
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) coming: u32,
    pub(crate) locals: BTreeMap<u32, Local>,
    /// Calls that were on their way to it or on it as it died.
    pub(crate) stranded: Vec<Ticket>,
}

impl Machine {
    /// Calls that it has or will have.
    pub(crate) const fn all(&self) -> u32 {
        self.running + self.waiting + self.coming
    }
}

/// A function on a node.
#[derive(Default)]
pub(crate) struct Local {
    pub(crate) loads: Vec<Load>,
    pub(crate) starting: u32,
    pub(crate) queue: VecDeque<Ticket>,
    pub(crate) cursor: usize,
    pub(crate) used: Nanos,
}

impl Local {
    pub(crate) fn queued(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn running(&self) -> u32 {
        self.loads.iter().map(|load| load.in_flight).sum()
    }

    /// Running, waiting, and running at most.
    fn counts(&self) -> (u32, u32, u32) {
        (self.running(), self.queued(), self.loads.iter().map(|load| load.concurrency).sum())
    }
}

/// The cluster.
pub(crate) struct World {
    pub(crate) apps: Vec<App>,
    /// App and place in it, by a function's number.
    pub(crate) functions: Vec<Place>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) board: Board,
    /// Whether nodes mind that all of their cores are busy.
    pub(crate) minds_cores: bool,
    policy: Policy,
    assignment: Option<Assignment>,
    /// Machine of a seat, and seat of a machine.
    seated: Vec<u32>,
    seats: Vec<Option<usize>>,
    /// Calls that run or wait, and machine, for whoever knows everything.
    pub(crate) by_load: BTreeSet<(u32, u32)>,
    /// Machines with a ready replica, by function.
    pub(crate) warm: Vec<BTreeSet<u32>>,
}

impl World {
    pub(crate) fn new(apps: Vec<App>, nodes: u32, policy: Policy, minds_cores: bool) -> Self {
        let places = apps
            .iter()
            .enumerate()
            .flat_map(|(app, it)| (0..it.functions.len()).map(move |function| Place { app, function }));
        let functions: Vec<Place> = places.collect();
        let machine = |number| Machine {
            name: format!("node-{number}"),
            state: State::Up,
            died: None,
            running: 0,
            waiting: 0,
            coming: 0,
            locals: BTreeMap::new(),
            stranded: Vec::new(),
        };
        let mut world = Self {
            board: Board::new(functions.len(), nodes as usize),
            warm: vec![BTreeSet::new(); functions.len()],
            machines: (0..nodes).map(machine).collect(),
            by_load: (0..nodes).map(|node| (0, node)).collect(),
            seats: vec![None; nodes as usize],
            seated: Vec::new(),
            assignment: None,
            apps,
            functions,
            minds_cores,
            policy,
        };
        world.plan();
        world
    }

    /// Decides anew which nodes host what, as each of them does when the members change.
    pub(crate) fn plan(&mut self) {
        let lives = |machine: &&Machine| machine.state != State::Gone;
        let seat = |machine: &'_ Machine| (machine.name.clone(), machine.state == State::Draining);
        let living: Vec<(String, bool)> = self.machines.iter().filter(lives).map(seat).collect();
        let seats: Vec<Seat<'_>> = (living.iter())
            .map(|(name, draining)| Seat { name, cores: CORES, memory: MEMORY, draining: *draining })
            .collect();
        self.seated.clear();
        for (node, machine) in (0..).zip(&self.machines) {
            let seat = (machine.state != State::Gone).then_some(self.seated.len());
            self.seated.extend(seat.map(|_| node));
            if let Some(slot) = self.seats.get_mut(node as usize) {
                *slot = seat;
            }
        }
        self.assignment = Some(assign(&demands(&self.apps, self.policy), &seats));
    }

    pub(crate) fn place(&self, function: u32) -> Place {
        self.functions.get(function as usize).copied().unwrap_or(Place { app: 0, function: 0 })
    }

    /// The nodes that host a function.
    pub(crate) fn hosts(&self, function: u32) -> impl Iterator<Item = u32> {
        let hosts = self.assignment.as_ref().map(|assignment| assignment.hosts(self.place(function)));
        hosts.unwrap_or_default().iter().filter_map(|seat| self.seated.get(*seat).copied())
    }

    pub(crate) fn is_host(&self, function: u32, node: u32) -> bool {
        let seat = self.seats.get(node as usize).copied().flatten();
        seat.zip(self.assignment.as_ref()).is_some_and(|(seat, it)| it.is_host(self.place(function), seat))
    }

    pub(crate) fn state(&self, node: u32) -> State {
        self.machines.get(node as usize).map_or(State::Gone, |machine| machine.state)
    }

    /// What a node knows of a function on itself; `None` if it does not host it.
    pub(crate) fn here(&self, function: u32, node: u32) -> Option<Here> {
        let machine = self.machines.get(node as usize)?;
        if machine.state != State::Up || !self.is_host(function, node) {
            return None;
        }
        let local = machine.locals.get(&function);
        let (running, queued, room) = local.map_or((0, 0, 0), Local::counts);
        Some(Here { running, room, queued, bound: QUEUE, node: self.busy_node(machine) })
    }

    /// How busy a node is as it knows it.
    fn busy_node(&self, machine: &Machine) -> u32 {
        let busy = busy(machine.running, machine.waiting, CORES);
        if self.minds_cores { busy.unwrap_or_default() } else { 0 }
    }

    /// What a node reports: how busy it is, and its functions with ready replicas.
    pub(crate) fn rows(&self, node: u32) -> (u32, Vec<Row>) {
        let Some(machine) = self.machines.get(node as usize) else { return (0, Vec::new()) };
        if machine.state != State::Up {
            return (0, Vec::new());
        }
        let node = self.busy_node(machine);
        let ready = machine.locals.iter().filter(|(_, local)| !local.loads.is_empty());
        let row = |(function, local): (&u32, &Local)| {
            let (running, waiting, room) = local.counts();
            (*function, reported(busy(running, waiting, room), node))
        };
        (node, ready.map(row).collect())
    }

    /// So many calls more run or wait on a node or come to it.
    pub(crate) fn count(&mut self, node: u32, running: i32, waiting: i32, coming: i32) {
        let Some(machine) = self.machines.get_mut(node as usize) else { return };
        self.by_load.remove(&(machine.all(), node));
        machine.running = machine.running.saturating_add_signed(running);
        machine.waiting = machine.waiting.saturating_add_signed(waiting);
        machine.coming = machine.coming.saturating_add_signed(coming);
        if machine.state == State::Up {
            self.by_load.insert((machine.all(), node));
        }
    }

    /// Nodes and rows that are not known to be lost, for a router that looks at all hosts and not at the warm ones.
    pub(crate) fn all_hosts(&mut self, function: u32, from: u32) -> (Vec<u32>, Vec<There>) {
        let mut known: BTreeMap<u32, There> = self
            .hosts(function)
            .filter(|node| *node != from)
            .map(|node| (node, self.board.cold(node)))
            .collect();
        self.board.look(function, from, |there, nodes| {
            for (node, there) in nodes.iter().zip(there) {
                if let Some(slot) = known.get_mut(node) {
                    *slot = *there;
                }
            }
        });
        known.into_iter().unzip()
    }
}

/// Apps as the planner takes them.
pub(crate) fn demands(apps: &[App], policy: Policy) -> Vec<Demand<'_>> {
    apps.iter()
        .map(|app| Demand {
            app: &app.name,
            policy,
            functions: (app.functions.iter())
                .map(|function| Need {
                    name: &function.name,
                    nodes: Vec::new(),
                    memory: function.memory,
                    replicas: function.replicas,
                })
                .collect(),
        })
        .collect()
}
