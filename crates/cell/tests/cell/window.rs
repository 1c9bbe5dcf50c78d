//! Windows: the pool a second time, within reach of a Wasm module. What is open there is what is open in the pool's own place.

use baton_abi::cell::Trust;

use crate::calls::both;
use crate::guest;
use crate::node::{Cell, Function, Node};

/// Larger than what is copied under `trust = "buffer"`.
const BYTES: usize = 100_000;
const EFAULT: &str = "-14";

fn stage(trust: Trust) -> Node {
    let seat = |name| {
        let mut function = Function::new(name, &guest("window"));
        function.window = true;
        function
    };
    Node::start(trust, vec![seat("one"), seat("two")]).unwrap()
}

fn ask(node: &mut Node, cell: &mut Cell, seat: usize, what: u8, rest: &[u8]) -> String {
    let mut body = vec![7; BYTES];
    body[0] = what;
    body[8..8 + rest.len()].copy_from_slice(rest);
    cell.ask(&mut node.pool, seat, &body).text()
}

#[test]
fn a_payload_is_the_same_through_the_window() {
    both(|trust| {
        let mut node = stage(trust);
        let mut cell = node.fork();
        for seat in [0, 1, 0] {
            assert_eq!(ask(&mut node, &mut cell, seat, b'r', &[]), "7 7");
            assert_eq!(ask(&mut node, &mut cell, seat, b'w', &[]), "42");
        }
        assert_eq!(cell.faults(), 0);
    });
}

#[test]
fn the_window_is_no_memory_of_the_seat() {
    both(|trust| {
        let mut node = stage(trust);
        let mut cell = node.fork();
        // What lies there is looked up as what it is, a buffer, or not at all.
        assert_eq!(ask(&mut node, &mut cell, 0, b'b', &[]), EFAULT);
        assert_eq!(ask(&mut node, &mut cell, 0, b'g', &[]), EFAULT);
        assert_eq!(ask(&mut node, &mut cell, 0, b'r', &[]), "7 7");
    });
}

#[test]
fn what_was_given_back_is_closed_in_the_window() {
    let mut node = if crate::machine_can() { stage(Trust::Buffer) } else { return };
    let mut cell = node.fork();
    let told = ask(&mut node, &mut cell, 0, b'k', &[]);
    assert!(told.contains("behind another key"), "{told}");
    assert_eq!(ask(&mut node, &mut cell, 0, b'r', &[]), "7 7", "the seat begins anew");
}

#[test]
fn what_another_seat_holds_is_closed_in_the_window() {
    let mut node = if crate::machine_can() { stage(Trust::Buffer) } else { return };
    let mut cell = node.fork();
    let at: u64 = ask(&mut node, &mut cell, 0, b'a', &[]).parse().unwrap();
    let told = ask(&mut node, &mut cell, 1, b'o', &at.to_le_bytes());
    assert!(told.contains("behind another key"), "{told}");
    assert_eq!(ask(&mut node, &mut cell, 1, b'r', &[]), "7 7", "the seat begins anew");
}
