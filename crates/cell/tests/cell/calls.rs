//! Requests, calls between seats, faults, snapshots.

use baton_abi::cell::Trust;

use crate::node::{Function, Node};
use crate::{guest, machine_can};

pub(crate) fn both(check: impl Fn(Trust)) {
    if machine_can() {
        for trust in [Trust::App, Trust::Buffer] {
            println!("trust {trust:?}");
            check(trust);
        }
    }
}

fn pair(trust: Trust) -> Node {
    let echo = guest("echo");
    let functions =
        vec![Function::new("front", &echo).calls(&["back"]), Function::new("back", &echo).calls(&["front"])];
    Node::start(trust, functions).unwrap()
}

#[test]
fn a_request_is_answered_in_place_or_with_bytes() {
    both(|trust| {
        let mut node = pair(trust);
        let mut cell = node.fork();
        let answer = cell.ask(&mut node.pool, 0, b"hello");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
        assert_eq!(cell.ask(&mut node.pool, 0, b"n").text(), "1");
        assert_eq!(cell.ask(&mut node.pool, 0, b"n").text(), "2");
        assert_eq!(cell.ask(&mut node.pool, 1, b"n").text(), "1");
        assert_eq!(cell.ask(&mut node.pool, 0, b"m").text(), "7");
        assert!(cell.ask(&mut node.pool, 0, b"t").text().parse::<u64>().is_ok());
        assert_eq!(cell.ask(&mut node.pool, 0, b"z").text(), "slept");
        assert_eq!(cell.ask(&mut node.pool, 0, b"p").text(), "ok");
        cell.listen();
        assert!(cell.said.iter().any(|line| line == "printed"), "{:?}", cell.said);
        assert!(cell.said.iter().any(|line| line.ends_with("logged")), "{:?}", cell.said);
    });
}

#[test]
fn seats_call_each_other() {
    both(|trust| {
        let mut node = pair(trust);
        let mut cell = node.fork();
        assert_eq!(cell.ask(&mut node.pool, 0, b"c!ping").text(), "200:!ping");
        assert_eq!(cell.ask(&mut node.pool, 0, b"cn").text(), "200:1");
        // A call back to a seat that waits for this one ends with the caller's time, not with the cell's.
        assert_eq!(cell.ask(&mut node.pool, 1, b"cm").text(), "200:7");
    });
}

#[test]
fn a_guest_that_dies_fails_its_own_call_and_the_cell_goes_on() {
    both(|trust| {
        let mut node = pair(trust);
        let mut cell = node.fork();
        for (ask, says) in [("x", "signal 6"), ("e", "status 3"), ("s", "touched memory")] {
            let answer = cell.ask(&mut node.pool, 0, ask.as_bytes());
            assert!(answer.is_error && answer.text().contains(says), "{ask}: {answer:?}");
            assert_eq!(cell.ask(&mut node.pool, 0, b"n").text(), "1", "back at its snapshot");
            let called = cell.ask(&mut node.pool, 0, format!("c{ask}").as_bytes());
            assert!(called.text().starts_with("error 502"), "{called:?}");
            assert_eq!(cell.ask(&mut node.pool, 0, b"cn").text(), "200:1");
        }
        assert_eq!(cell.faults(), 6);
    });
}

#[test]
fn a_guest_that_does_not_return_is_stopped() {
    both(|trust| {
        let echo = guest("echo");
        let mut slow = Function::new("slow", &echo);
        slow.timeout = std::time::Duration::from_millis(100);
        let functions = vec![Function::new("front", &echo).calls(&["slow"]), slow];
        let mut node = Node::start(trust, functions).unwrap();
        let mut cell = node.fork();
        let answer = cell.ask(&mut node.pool, 1, b"l");
        assert_eq!((answer.status, answer.is_error), (504, true));
        let called = cell.ask(&mut node.pool, 0, b"cl").text();
        assert!(called.starts_with("error 504"), "{called}");
        assert_eq!(cell.ask(&mut node.pool, 0, b"n").text(), "1");
    });
}

#[test]
fn buffers_all_come_back() {
    both(|trust| {
        let mut node = pair(trust);
        {
            let mut cell = node.fork();
            for round in 0..200 {
                let body = vec![b'q'; 1 + round * 97];
                assert_eq!(cell.ask(&mut node.pool, 0, &body).body, body);
            }
            assert_eq!(cell.ask(&mut node.pool, 0, b"c!ping").text(), "200:!ping");
        }
        let held = node.pool.capabilities().count();
        assert_eq!(held, 0, "{:?}", node.pool.capabilities().collect::<Vec<_>>());
    });
}

#[test]
fn reset_leaves_nothing_of_a_request_to_the_next() {
    both(|trust| {
        let mut function = Function::new("fresh", &guest("echo"));
        function.reset = true;
        let mut node = Node::start(trust, vec![function]).unwrap();
        let mut cell = node.fork();
        for _ in 0..5 {
            assert_eq!(cell.ask(&mut node.pool, 0, b"n").text(), "1");
            assert_eq!(cell.ask(&mut node.pool, 0, b"m").text(), "7");
        }
    });
}

#[test]
fn cells_of_one_template_do_not_share_what_they_write() {
    both(|trust| {
        let mut node = pair(trust);
        let (mut first, mut second) = (node.fork(), node.fork());
        assert_eq!(first.ask(&mut node.pool, 0, b"n").text(), "1");
        assert_eq!(first.ask(&mut node.pool, 0, b"n").text(), "2");
        assert_eq!(second.ask(&mut node.pool, 0, b"n").text(), "1");
    });
}

#[test]
fn a_snapshot_brings_a_function_back_in_another_template() {
    both(|trust| {
        let echo = guest("echo");
        let functions = || vec![Function::new("front", &echo).calls(&["back"]), Function::new("back", &echo)];
        let first = Node::start(trust, functions()).unwrap();
        let mut second = Node::start_with(trust, functions(), &first.snapshots, false).unwrap();
        drop(first);
        let mut cell = second.fork();
        assert_eq!(cell.ask(&mut second.pool, 0, b"c!hi").text(), "200:!hi");
        assert_eq!(cell.ask(&mut second.pool, 0, b"m").text(), "7");
        assert!(second.snapshots.iter().all(Option::is_none), "kept snapshots are not made anew");
    });
}

#[test]
fn a_snapshot_of_another_function_or_a_damaged_one_is_refused() {
    both(|trust| {
        let echo = guest("echo");
        let functions = || vec![Function::new("front", &echo), Function::new("back", &echo)];
        let mut first = Node::start(trust, functions()).unwrap();
        first.snapshots.swap(0, 1);
        let why = Node::start_with(trust, functions(), &first.snapshots, false).err().unwrap();
        assert!(why.contains("none of this function"), "{why}");
        let empty = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let why = Node::start_with(trust, functions(), &[Some(empty)], false).err().unwrap();
        assert!(why.contains("none of this function"), "{why}");
    });
}
