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
