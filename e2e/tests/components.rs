//! Components that lie, beside functions that do not: whatever one does by the interfaces that it is given, it harms its own call.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use baton_e2e::{App, Node, machine_runs, need_sandbox};

const REST: Duration = Duration::from_secs(10);

/// Everything that a module of the world imports, and how it answers. The letter behind the path's `?` says what it does: `h` is the
/// payload's handle, if `has`.
const MODULE: &str = r#"(core module $m
  (import "libc" "memory" (memory 1))
  (import "libc" "trap" (global $trap (mut i32)))
  (import "b" "drop" (func $drop (param i32)))
  (import "b" "alloc" (func $alloc (param i64 i32)))
  (import "b" "from-bytes" (func $from-bytes (param i32 i32 i32)))
  (import "b" "length" (func $length (param i32) (result i64)))
  (import "b" "read" (func $read (param i32 i64 i64 i32)))
  (import "b" "write" (func $write (param i32 i64 i32 i32 i32)))
  (import "b" "freeze" (func $freeze (param i32 i32)))
  (import "b" "slice" (func $slice (param i32 i64 i64 i32)))
  (import "b" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "b" "own-new" (func $own-new (param i32) (result i32)))
  (data (i32.const 1024) "wvz")
  (data (i32.const 1032) "/w?y/v?x/w?e/w?!")
  (data (i32.const 1056) "bad name\0d\0aset-cookie: forged\00x\0d\0ay: z\ff")
  (func $answer (param $status i32) (param $has i32) (param $payload i32) (result i32)
    (i32.store (i32.const 2048) (i32.const 0))
    (i32.store16 (i32.const 2052) (local.get $status))
    (i32.store (i32.const 2064) (local.get $has))
    (i32.store (i32.const 2068) (local.get $payload))
    (i32.const 2048))
  (func $fail (param $status i32) (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 2048) (i32.const 1))
    (i32.store16 (i32.const 2052) (local.get $status))
    (i32.store (i32.const 2056) (local.get $at))
    (i32.store (i32.const 2060) (local.get $len))
    (i32.const 2048))
  ;; Asks a function of one letter for a path of four, with a payload or none. What it came to lies at 3072.
  (func $ask (param $function i32) (param $path i32) (param $has i32) (param $h i32)
    (call $call (local.get $function) (i32.const 1) (i32.const 0) (i32.const 0) (local.get $path) (i32.const 4)
      (i32.const 0) (i32.const 0) (local.get $has) (local.get $h) (i32.const 3072)))
  ;; The status that the call came to, as its own.
  (func $pass-on (result i32)
    (call $answer (i32.load16_u (i32.const 3076)) (i32.const 0) (i32.const 0)))
  ;; Keeps what an answer at 3072 says: 0, or 1 more than which error it is. They lie from 4096 on.
  (func $note (param $at i32)
    (i32.store8 (i32.add (i32.const 4096) (local.get $at))
      (select (i32.add (i32.const 1) (i32.load8_u (i32.const 3076))) (i32.const 0) (i32.load8_u (i32.const 3072)))))
  (func $notes (param $count i32) (result i32)
    (call $from-bytes (i32.const 4096) (local.get $count) (i32.const 3072))
    (call $answer (i32.const 200) (i32.const 1) (i32.load (i32.const 3076))))
  (func $header (param $at i32) (param $name i32) (param $name-len i32) (param $value i32) (param $value-len i32)
    (i32.store (local.get $at) (local.get $name))
    (i32.store offset=4 (local.get $at) (local.get $name-len))
    (i32.store offset=8 (local.get $at) (local.get $value))
    (i32.store offset=12 (local.get $at) (local.get $value-len)))
  (func $headers (param $at i32) (param $count i32)
    (i32.store (i32.const 2056) (local.get $at))
    (i32.store (i32.const 2060) (local.get $count)))
  (func $down (param i32) (result i32)
    (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (local.get 0)))
  (func (export "handle") (param i32 i32) (param $path i32) (param $path-len i32) (param i32 i32) (param $has i32) (param $h i32)
    (result i32)
    (local $what i32) (local $n i32)
    (local.set $what (i32.load8_u (i32.sub (i32.add (local.get $path) (local.get $path-len)) (i32.const 1))))
    (call $headers (i32.const 0) (i32.const 0))
    ACTIONS
    (call $answer (i32.const 200) (local.get $has) (local.get $h))))"#;

/// What a letter stands for, in code of the module's, and the statuses that may come of it.
const ACTIONS: [(char, &str, &[u16]); 36] = [
    // Handles that were never given, given away, or are of something else: 502, as for every trap.
    ('f', "(drop (call $length (i32.const 0x7fffffff)))", &[502]),
    ('0', "(drop (call $length (i32.const 0)))", &[502]),
    ('F', "(return (call $answer (i32.const 200) (i32.const 1) (i32.const 12345)))", &[502]),
    ('d', "(call $drop (local.get $h)) (call $drop (local.get $h))", &[502]),
    ('u', "(call $drop (local.get $h)) (drop (call $length (local.get $h)))", &[502]),
    ('D', "(call $drop (local.get $h)) (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))", &[502]),
    ('t', "(drop (call $length (call $own-new (i32.const 5))))", &[502]),
    ('T', "(return (call $answer (i32.const 200) (i32.const 1) (call $own-new (i32.const 5))))", &[502]),
    ('o', "(call $drop (call $own-new (i32.const 5)))", &[502]),
    // An answer without a payload, so that the index is nobody's.
    ('m', "(call $ask (i32.const 1026) (i32.const 1040) (i32.const 1) (local.get $h)) (drop (call $length (local.get $h)))", &[502]),
    (
        'b',
        "(call $ask (i32.const 1026) (i32.const 1040) (i32.const 1) (local.get $h))
         (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[502],
    ),
    ('c', "(call $ask (i32.const 1024) (i32.const 1040) (i32.const 7) (local.get $h))", &[502]),
    // Over its stack.
    ('q', "(return (call $down (local.get $h)))", &[502]),
    // Traps, on its own and in the middle of a call; a callee that traps.
    ('!', "(unreachable)", &[502]),
    ('k', "(call $ask (i32.const 1024) (i32.const 1044) (i32.const 1) (local.get $h)) (return (call $pass-on))", &[502]),
    (
        'R',
        "(global.set $trap (i32.const 1)) (call $ask (i32.const 1026) (i32.const 1040) (i32.const 1) (local.get $h))",
        &[502],
    ),
    // Each calls the other, whose one replica is at work.
    ('x', "(call $ask (i32.const 1024) (i32.const 1032) (i32.const 1) (local.get $h)) (return (call $pass-on))", &[502, 503, 504]),
    ('y', "(call $ask (i32.const 1025) (i32.const 1036) (i32.const 1) (local.get $h)) (return (call $pass-on))", &[500]),
    ('z', "(call $ask (i32.const 1026) (i32.const 1040) (i32.const 1) (local.get $h)) (return (call $pass-on))", &[500, 502]),
    ('l', "(loop $for-ever (br $for-ever))", &[502, 504]),
    // Answers that are none.
    ('s', "(return (call $answer (i32.const 0) (i32.const 1) (local.get $h)))", &[502]),
    ('S', "(return (call $answer (i32.const 65535) (i32.const 1) (local.get $h)))", &[502]),
    ('1', "(return (call $answer (i32.const 101) (i32.const 1) (local.get $h)))", &[500, 502]),
    ('9', "(return (call $answer (i32.const 999) (i32.const 1) (local.get $h)))", &[500, 502]),
    ('2', "(return (call $answer (i32.const 204) (i32.const 1) (local.get $h)))", &[204]),
    (
        'n',
        "(call $header (i32.const 8192) (i32.const 1056) (i32.const 28) (i32.const 1057) (i32.const 1))
         (call $headers (i32.const 8192) (i32.const 1)) (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[500, 502],
    ),
    (
        'N',
        "(call $header (i32.const 8192) (i32.const 1056) (i32.const 0) (i32.const 1056) (i32.const 3))
         (call $headers (i32.const 8192) (i32.const 1)) (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[500, 502],
    ),
    (
        'v',
        "(call $header (i32.const 8192) (i32.const 1056) (i32.const 3) (i32.const 1085) (i32.const 7))
         (call $headers (i32.const 8192) (i32.const 1)) (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[500, 502],
    ),
    (
        'h',
        "(drop (memory.grow (i32.const 64)))
         (loop $more
            (call $header (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 16)))
                (i32.const 1056) (i32.const 3) (i32.const 1056) (i32.const 3))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $n) (i32.const 200000))))
         (call $headers (i32.const 131072) (i32.const 200000))
         (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[500, 502],
    ),
    (
        'H',
        "(call $headers (i32.const 8192) (i32.const 0x0fffffff))
         (return (call $answer (i32.const 200) (i32.const 1) (local.get $h)))",
        &[502],
    ),
    ('E', "(return (call $fail (i32.const 0) (i32.const 1056) (i32.const 3)))", &[500, 502]),
    ('G', "(return (call $fail (i32.const 200) (i32.const 8192) (i32.const 200000)))", &[500, 502]),
    ('i', "(return (call $fail (i32.const 418) (i32.const 1056) (i32.const 37)))", &[502]),
    ('I', "(return (call $fail (i32.const 418) (i32.const -16) (i32.const 32)))", &[502]),
    // Payloads until there is no room, all kept; and then it traps.
    (
        'p',
        "(loop $more
            (call $alloc (i64.const 0x100000) (i32.const 3072))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.eqz (i32.load8_u (i32.const 3072)))))
         (if (i32.load8_u (i32.const 3076)) (then (unreachable)))",
        &[200],
    ),
    (
        'P',
        "(loop $more
            (call $alloc (i64.const 0x100000) (i32.const 3072))
            (br_if $more (i32.eqz (i32.load8_u (i32.const 3072)))))
         (unreachable)",
        &[502],
    ),
];

/// Ranges that overflow, and what a frozen payload refuses; what each came to is the answer. 1 is a full pool, 2 a range outside, 3 a
/// payload that may only be read, 4 one that is not frozen, 0 nothing wrong.
const RANGES: &str = "
    (call $read (local.get $h) (i64.const -1) (i64.const -1) (i32.const 3072)) (call $note (i32.const 0))
    (call $read (local.get $h) (i64.const 5) (i64.const -1) (i32.const 3072)) (call $note (i32.const 1))
    (call $read (local.get $h) (i64.const 1) (i64.const -1) (i32.const 3072)) (call $note (i32.const 2))
    (call $write (local.get $h) (i64.const -1) (i32.const 1024) (i32.const 2) (i32.const 3072)) (call $note (i32.const 3))
    (call $write (local.get $h) (i64.const 3) (i32.const 1024) (i32.const 2) (i32.const 3072)) (call $note (i32.const 4))
    (call $write (local.get $h) (i64.const 0) (i32.const 1024) (i32.const 2) (i32.const 3072)) (call $note (i32.const 5))
    (call $slice (local.get $h) (i64.const 0) (i64.const 1) (i32.const 3072)) (call $note (i32.const 6))
    (call $freeze (local.get $h) (i32.const 3072)) (call $note (i32.const 7))
    (call $write (local.get $h) (i64.const 0) (i32.const 1024) (i32.const 2) (i32.const 3072)) (call $note (i32.const 8))
    (call $slice (local.get $h) (i64.const -1) (i64.const 2) (i32.const 3072)) (call $note (i32.const 9))
    (call $slice (local.get $h) (i64.const 2) (i64.const -1) (i32.const 3072)) (call $note (i32.const 10))
    (call $slice (local.get $h) (i64.const 1) (i64.const 2) (i32.const 3072)) (call $note (i32.const 11))
    (local.set $h (i32.load (i32.const 3076)))
    (call $slice (local.get $h) (i64.const 0) (i64.const 3) (i32.const 3072)) (call $note (i32.const 12))
    (call $alloc (i64.const -1) (i32.const 3072)) (call $note (i32.const 13))
    (call $alloc (i64.const 0x100000000) (i32.const 3072)) (call $note (i32.const 14))
    (return (call $notes (i32.const 15)))";

/// Grows its memory by a mebibyte at a time, and uses each, until it is told that there is no more; how many there were.
const GROWS: &str = "
    (block $no-more
        (loop $more
            (br_if $no-more (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
            (memory.fill (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 0x100000)) (i32.const 1) (i32.const 0x100000))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br $more)))
    (i32.store (i32.const 4096) (local.get $n))
    (return (call $notes (i32.const 4)))";

fn component() -> Vec<u8> {
    let more = [('r', RANGES), ('g', GROWS)];
    let mut code = String::new();
    for (letter, action) in ACTIONS.iter().map(|(letter, action, _)| (*letter, *action)).chain(more) {
        let _ =
            writeln!(code, "(if (i32.eq (local.get $what) (i32.const {})) (then {action}))", letter as u32);
    }
    let module = MODULE.replacen("ACTIONS", &code, 1);
    let text = include_str!("components/world.wat").replacen("\n  MODULE\n", &module, 1);
    wat::parse_str(text).unwrap_or_else(|error| panic!("the component is not well-formed: {error}"))
}

/// `v` misbehaves, `w` is the same component and does as it is told; a native function hands on to it.
fn app(more: &str) -> App {
    let app = App::new("liars").pool("64MiB");
    fs::write(app.directory().join("liar.wasm"), component()).expect("the component can be written");
    let more = format!("timeout = \"1500ms\"\nscale = {{ concurrency = 1, queue = 4 }}\n{more}");
    app.module("v", "liar.wasm", &format!("calls = [\"w\"]\n{more}"))
        .module("w", "liar.wasm", &format!("calls = [\"v\"]\n{more}"))
        .function("a", "relay", "calls = [\"w\"]\nenv = { NEXT = \"w\" }\ntimeout = \"5s\"")
}

/// The good functions answer.
#[track_caller]
fn all_is_well(node: &Node, after: &str) {
    for len in [4, 70_000] {
        let body = vec![b'.'; len];
        for path in ["/w?e", "/a?move", "/v?e"] {
            let answer = node.post(path, &body);
            let shown = if answer.status == 200 { String::new() } else { answer.text() };
            assert!(
                answer.status == 200 && answer.body == body,
                "{path} after {after}: {} {shown}",
                answer.status
            );
        }
    }
}

/// Has `v` do everything, and asks the others after each.
fn lie(node: &Node, mut after_each: impl FnMut()) {
    all_is_well(node, "the start");
    let mut wrong = Vec::new();
    for (letter, _, statuses) in ACTIONS {
        let begin = Instant::now();
        let answer = node.post(&format!("/v?{letter}"), b"four");
        let text: String = answer.text().chars().take(200).collect();
        println!("{letter}: {} {text:?} in {:?}", answer.status, begin.elapsed());
        let forged =
            answer.headers.iter().any(|(name, value)| name.contains("cookie") || value.contains("forged"));
        if !statuses.contains(&answer.status) || forged || begin.elapsed() > Duration::from_secs(5) {
            wrong.push(format!("{letter}: {} {text:?} {:?}", answer.status, answer.headers));
        }
        all_is_well(node, &format!("`{letter}`"));
        after_each();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_component_that_lies_fails_its_own_call() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    lie(&node, || node.wait_at_rest(REST));
    let log = node.log_of("v");
    for reason in ["unknown handle index 12345", "used with the wrong type", "wasm trap: unreachable"] {
        assert!(log.iter().any(|line| line.contains(reason)), "{reason}: {log:#?}");
    }
}

/// One that keeps its memory from request to request keeps its payloads too, until it begins anew.
#[test]
fn a_component_that_lies_and_keeps_its_memory_fails_its_own_calls() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app("reuse = true"));
    lie(&node, || ());
    for path in ["/v?!", "/w?!"] {
        assert_eq!(node.post(path, b"four").status, 502);
    }
    node.wait_at_rest(REST);
    all_is_well(&node, "all of it");
}

/// Two that call each other, each at work while the other asks: nobody waits for ever, and what was begun ends with the request.
#[test]
fn two_components_that_call_each_other_end_with_their_request() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    for round in 1..=2 {
        let begin = Instant::now();
        assert_eq!(node.post("/v?x", b"four").status, 504);
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        all_is_well(&node, "each called the other");
        node.wait_at_rest(REST);
        let given_up = |name| node.log_of(name).iter().filter(|line| line.contains("given up")).count();
        assert!(
            given_up("v") + given_up("w") <= 2 * round,
            "{:#?} {:#?}",
            node.log_of("v"),
            node.log_of("w")
        );
    }
}

/// More requests than it works on at once lie beside it; one that traps takes those with it that wait, and no others.
#[test]
fn a_component_works_on_what_lies_beside_it_in_turn() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let app = App::new("turns").pool("64MiB");
    fs::write(app.directory().join("liar.wasm"), component()).expect("the component can be written");
    let app = app.module("w", "liar.wasm", "reuse = true\nscale = { concurrency = 4 }").function(
        "a",
        "relay",
        "calls = [\"w\"]\nenv = { NEXT = \"w\" }\nscale = { concurrency = 8 }",
    );
    let node = Node::start(&app);
    let ask = |path: &str| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..12u8)
                .map(|number| {
                    let (node, body) = (&node, vec![number; 4 + usize::from(number) * 9_000]);
                    let traps = number == 5 && path == "/w?!";
                    let path = if path == "/w?!" && !traps { "/w?e" } else { path };
                    scope.spawn(move || (node.post(path, &body), body, traps))
                })
                .collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        })
    };
    for path in ["/w?e", "/a?move"] {
        for (answer, body, _) in ask(path) {
            assert!(
                answer.status == 200 && answer.body == body,
                "{path}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    let after = ask("/w?!");
    assert!(after.iter().all(|(answer, _, traps)| if *traps {
        answer.status == 502
    } else {
        answer.status != 504
    }));
    assert!(after.iter().filter(|(answer, _, _)| answer.status == 200).count() >= 4, "{after:?}");
    for (answer, body, _) in ask("/a?move") {
        assert!(answer.status == 200 && answer.body == body, "{} {}", answer.status, answer.text());
    }
    node.wait_at_rest(REST);
}

#[test]
fn ranges_that_overflow_are_refused() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app(""));
    let answer = node.post("/v?r", b"four");
    assert_eq!((answer.status, answer.body), (200, vec![2, 2, 0, 2, 2, 0, 4, 0, 3, 2, 2, 0, 2, 1, 1]));
    node.wait_at_rest(REST);
}

#[test]
fn memory_beyond_the_manifests_is_refused_and_given_back() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let node = Node::start(&app("memory = \"32MiB\""));
    for _ in 0..3 {
        let answer = node.post("/v?g", b"four");
        let grown = answer.body.first_chunk().map(|word| u32::from_le_bytes(*word));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(grown.is_some_and(|grown| (4..32).contains(&grown)), "{grown:?}");
        all_is_well(&node, "it grew");
    }
    node.wait_at_rest(REST);
}

/// A handler of `wasi:http` that lets go of where its answer belongs, and then works on, for ten milliseconds.
const SILENT: &str = r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core func $drop (canon resource.drop $outparam))
  (core func $forget (canon resource.drop $request))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core module $m
    (import "" "drop" (func $drop (param i32)))
    (import "" "forget" (func $forget (param i32)))
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "" "block" (func $block (param i32)))
    (func (export "handle") (param i32 i32)
      (call $drop (local.get 1))
      (call $forget (local.get 0))
      (call $block (call $subscribe (i64.const 10000000)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "drop" (func $drop)) (export "forget" (func $forget)) (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

#[test]
fn a_component_that_answers_nothing_and_works_on_is_waited_for() {
    need_sandbox!();
    if !machine_runs("wasm") {
        return;
    }
    let app = App::new("silence");
    let component = wat::parse_str(SILENT).unwrap_or_else(|error| panic!("{error}"));
    fs::write(app.directory().join("silent.wasm"), component).expect("the component can be written");
    let node = Node::start(&app.module("s", "silent.wasm", "reuse = true"));
    for _ in 0..3 {
        let answer = node.post("/s", b"four");
        assert!(answer.status == 502 && answer.text().contains("without an answer"), "{}", answer.text());
    }
    assert_eq!(node.faults("s"), 0);
    node.wait_at_rest(REST);
}
