//! Core Wasm modules as functions: beside native ones in the same app, over the same payloads, begun anew for each request.

use std::fs;
use std::time::Duration;

use baton_e2e::{App, Node, machine_runs, need_sandbox, wait_until};

const REST: Duration = Duration::from_secs(5);

/// A module that answers with the payload that it got, and with what the payload's first byte asks for.
const ECHO: &str = r#"(module
  (import "baton" "gate" (func $gate (param i32 i64 i64 i64) (result i64)))
  (memory (export "memory") 1 16)
  (func (export "baton_parcel") (result i32) (i32.const 1024))
  (func $body (result i32) (i32.wrap_i64 (i64.add (i64.load (i32.const 1088)) (i64.load (i32.const 1056)))))
  (func $reply (drop (call $gate (i32.const 1) (i64.const 1024) (i64.const 0) (i64.const 0))))
  (func $say (param i64)
    (i64.store (i32.const 1048) (i64.const 0xffffffff))
    (i64.store (i32.const 1056) (local.get 0))
    (i64.store (i32.const 1064) (i64.const 1))
    (i32.store8 (i32.const 1025) (i32.const 16))
    (call $reply))
  (func (export "baton_event") (local $what i32)
    (if (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 1)) (then (return)))
    (i32.store8 (i32.const 1024) (i32.const 2))
    (i32.store16 (i32.const 1026) (i32.const 200))
    ;; No head goes out: what came with the request is given up with everything else, since each request begins anew.
    (i64.store (i32.const 1072) (i64.const 0xffffffff))
    (local.set $what (i32.load8_u (call $body)))
    ;; 'n': how many requests this memory has seen
    (if (i32.eq (local.get $what) (i32.const 110))
      (then
        (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
        (call $say (i64.add (i64.const 48) (i64.extend_i32_u (i32.load (i32.const 512)))))
        (return)))
    ;; 'g': grows by two pages, and uses the last; its size before, its size after, and -1 for what is beyond its bound
    (if (i32.eq (local.get $what) (i32.const 103))
      (then
        (local.set $what (memory.grow (i32.const 2)))
        (i32.store (i32.const 0x2fffc) (i32.const 1))
        (local.set $what (i32.add (local.get $what) (memory.size)))
        (local.set $what (i32.add (local.get $what) (memory.grow (i32.const 100))))
        (call $say (i64.add (i64.const 48) (i64.extend_i32_u (local.get $what))))
        (return)))
    ;; 't': a trap
    (if (i32.eq (local.get $what) (i32.const 116)) (then (unreachable)))
    ;; 'o': outside of its memory
    (if (i32.eq (local.get $what) (i32.const 111))
      (then (i32.store (i32.const 0x10000000) (i32.const 1))))
    ;; 'l': for ever
    (if (i32.eq (local.get $what) (i32.const 108)) (then (loop $for_ever (br $for_ever))))
    (call $reply)))"#;

fn app(more: &str) -> App {
    let app = App::new("mixed");
    let module = wat::parse_str(ECHO).expect("the module is well-formed");
    fs::write(app.directory().join("echo.wasm"), module).expect("the module can be written");
    app.module("w", "echo.wasm", &format!("timeout = \"1s\"\n{more}")).function(
        "a",
        "relay",
        "calls = [\"w\"]\nenv = { NEXT = \"w\" }\ntimeout = \"5s\"",
    )
}

#[test]
fn a_module_answers_beside_native_functions() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    for len in [1, 5000, 300_000] {
        let body = vec![b'.'; len];
        for path in ["/w", "/a?move"] {
            let answer = node.post(path, &body);
            assert!(answer.status == 200 && answer.body == body, "{path} {len}: {}", answer.status);
        }
    }
    // Each request finds the memory as it was at first.
    for _ in 0..3 {
        assert_eq!(node.post("/w", b"n").text(), "1");
    }
    // A memory that grew is as small as it was, and grows again.
    for _ in 0..3 {
        assert_eq!(node.post("/w", b"g").text(), "3");
    }
    node.wait_at_rest(REST);
}

#[test]
fn a_module_that_fails_fails_its_own_call() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    for (body, status) in [("t", 502), ("o", 502), ("l", 504)] {
        assert_eq!(node.post("/w", body.as_bytes()).status, status, "{body}");
        assert_eq!(node.post("/w", b"and on").text(), "and on");
    }
    wait_until(REST, "all three were counted", || node.faults("w") == 3);
    node.wait_at_rest(REST);
}

#[test]
fn a_module_may_keep_its_memory() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app("reuse = true"));
    for count in ["1", "2", "3"] {
        assert_eq!(node.post("/w", b"n").text(), count);
    }
}

/// Every import that there is, by the types of its parameters: `i` is an `i32`, `l` an `i64`.
const IMPORTS: [(&str, &str, &str); 14] = [
    ("baton", "gate", "illl"),
    ("wasi_snapshot_preview1", "args_get", "ii"),
    ("wasi_snapshot_preview1", "args_sizes_get", "ii"),
    ("wasi_snapshot_preview1", "environ_get", "ii"),
    ("wasi_snapshot_preview1", "environ_sizes_get", "ii"),
    ("wasi_snapshot_preview1", "clock_time_get", "ili"),
    ("wasi_snapshot_preview1", "random_get", "ii"),
    ("wasi_snapshot_preview1", "fd_write", "iiii"),
    ("wasi_snapshot_preview1", "fd_close", "i"),
    ("wasi_snapshot_preview1", "fd_seek", "ilii"),
    ("wasi_snapshot_preview1", "fd_fdstat_get", "ii"),
    ("wasi_snapshot_preview1", "fd_prestat_get", "ii"),
    ("wasi_snapshot_preview1", "fd_prestat_dir_name", "iii"),
    ("wasi_snapshot_preview1", "sched_yield", ""),
];

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.word() % bound as u64).expect("it is below")
    }

    /// A place in the memory mostly; else a number that somebody up to no good would pass: an edge of a memory, of the window,
    /// of a range, or anything.
    fn argument(&mut self) -> u64 {
        const EDGES: [u64; 12] = [
            0,
            1 << 16,
            1 << 20,
            1 << 31,
            (1 << 31) + 4096,
            1 << 32,
            0x1000_0000_0000,
            0x2000_0000_0000,
            0x3000_0000_0000,
            1 << 63,
            u64::MAX,
            0xffff_ffff,
        ];
        match self.below(24) {
            0 => self.word(),
            1 => EDGES[self.below(EDGES.len())].wrapping_add(self.word() % 17).wrapping_sub(8),
            2..=7 => self.word() % 70,
            _ => 2048 + self.word() % 4096,
        }
    }
}

/// A module that calls its imports in an order of its own, with anything, upon each request; then it answers, if it still can.
fn reckless(seed: u64) -> Vec<u8> {
    let mut draw = Draw(seed);
    let param = |letter: char| if letter == 'l' { "i64" } else { "i32" };
    let mut text = "(module ".to_owned();
    for (number, (module, name, params)) in IMPORTS.iter().enumerate() {
        let types: Vec<&str> = params.chars().map(param).collect();
        let result = if *name == "gate" { "i64" } else { "i32" };
        let types = if types.is_empty() { String::new() } else { format!("(param {})", types.join(" ")) };
        text += &format!("(import \"{module}\" \"{name}\" (func $f{number} {types} (result {result}))) ");
    }
    text += "(memory (export \"memory\") 1 16) (func (export \"baton_parcel\") (result i32) (i32.const 1024))
        (func (export \"baton_event\")\n";
    for _ in 0..12 {
        let number = draw.below(IMPORTS.len());
        let args: Vec<String> = IMPORTS[number]
            .2
            .chars()
            .enumerate()
            .map(|(place, letter)| match (number, place, letter) {
                // Mostly gates that there are.
                (0, 0, _) if draw.below(8) > 0 => format!("(i32.const {})", draw.below(20)),
                (_, _, 'l') => format!("(i64.const {})", draw.argument().cast_signed()),
                _ => format!("(i32.const {})", draw.argument() & 0xffff_ffff),
            })
            .collect();
        text += &format!("(drop (call $f{number} {}))\n", args.join(" "));
        if draw.below(4) == 0 {
            let (at, value) = (2048 + draw.below(1 << 12), draw.argument().cast_signed());
            text += &format!("(i64.store (i32.const {at}) (i64.const {value}))\n");
        }
    }
    text += "(i32.store8 (i32.const 1024) (i32.const 2)) (i32.store8 (i32.const 1025) (i32.const 16))
        (i32.store16 (i32.const 1026) (i32.const 200)) (i64.store (i32.const 1048) (i64.const 0xffffffff))
        (i64.store (i32.const 1064) (i64.const 1)) (i64.store (i32.const 1072) (i64.const 0xffffffff))
        (drop (call $f0 (i32.const 1) (i64.const 1024) (i64.const 0) (i64.const 0)))";
    wat::parse_str(text + "))").expect("the module is well-formed")
}

/// Whatever a module asks of its host, it harms itself: what is beside it in its cell answers as before.
#[test]
fn calls_of_every_import_with_anything_harm_nobody_else() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    const SEEDS: u64 = 48;
    let mut app = app("");
    for seed in 0..SEEDS {
        let name = format!("r{seed}");
        fs::write(app.directory().join(format!("{name}.wasm")), reckless(seed)).expect("it can be written");
        app = app.module(
            &name,
            &format!("{name}.wasm"),
            "timeout = \"300ms\"\nscale = { concurrency = 1, queue = 4 }",
        );
    }
    let node = Node::start(&app);
    let mut answers = std::collections::BTreeMap::new();
    for round in 0..3 {
        for seed in 0..SEEDS {
            let status = node.post(&format!("/r{seed}"), b"round").status;
            *answers.entry(status).or_insert(0) += 1;
            let (body, answer) = (format!("{round} {seed}"), node.post("/w", b"."));
            assert_eq!(answer.text(), ".", "after seed {seed}");
            assert_eq!(node.post("/a?move", body.as_bytes()).text(), body, "after seed {seed}");
        }
    }
    println!("{answers:?}");
    assert!(
        answers.contains_key(&200) && answers.contains_key(&502),
        "some come to their end, some do not: {answers:?}"
    );
    node.wait_at_rest(REST);
}

/// The log of a trap says what it is and where in the module; the caller is told whose it was.
#[test]
fn a_trap_is_told_as_what_it_is() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    for (body, trap) in [("t", "unreachable"), ("o", "out of bounds memory access")] {
        let answer = node.post("/w", body.as_bytes());
        assert!(answer.status == 502 && answer.text().contains("function w"), "{}", answer.text());
        let lines = || node.log_of("w");
        let wanted = format!("wasm trap: {trap}");
        wait_until(REST, "the trap is told", || lines().iter().any(|line| line.contains(&wanted)));
        let lines = lines();
        let at = lines.iter().rposition(|line| line.contains(&wanted)).expect("it was there");
        assert!(lines[at + 1].contains("at wasm[0]::function["), "{:?}", &lines[at..]);
    }
}
