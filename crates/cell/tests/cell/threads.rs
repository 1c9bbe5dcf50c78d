//! Guests with threads of their own: what they can rely on, and that they keep nobody else from work.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use baton_abi::cell::Trust;

use crate::calls::both;
use crate::guest;
use crate::node::{Cell, Function, Node};

fn threaded(trust: Trust, environment: &[&str]) -> Node {
    let mut function = Function::new("threads", &guest("threads")).calls(&["echo"]);
    function.env = environment.iter().map(|&variable| variable.to_owned()).collect();
    Node::start(trust, vec![function, Function::new("echo", &guest("echo"))]).unwrap()
}

fn ask(node: &mut Node, cell: &mut Cell, what: &str) -> String {
    cell.ask(&mut node.pool, 0, what.as_bytes()).text()
}

/// Processor time that a cell has used.
fn processor_time(cell: &Cell) -> Duration {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", cell.pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd").trim();
    let times = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// Asks until the answer is `expect`, for as long as something that goes on behind requests may take.
fn ask_until(node: &mut Node, cell: &mut Cell, what: &str, expect: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = ask(node, cell, what);
        if answer == expect {
            return;
        }
        assert!(Instant::now() < until, "{what}: {answer}, not {expect}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn threads_share_locks_and_have_their_own_storage() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        for _ in 0..3 {
            assert_eq!(ask(&mut node, &mut cell, "j"), "8028 8028", "create, lock, join");
            assert_eq!(ask(&mut node, &mut cell, "p"), "4000", "condition variables");
            assert_eq!(ask(&mut node, &mut cell, "t"), "5 6 17", "thread-local storage");
        }
    });
}

#[test]
fn a_thread_that_spins_is_interrupted_for_the_others() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        for _ in 0..5 {
            assert_eq!(ask(&mut node, &mut cell, "w"), "seen");
        }
        assert_eq!(ask(&mut node, &mut cell, "v"), "16 16", "vector registers survive an interruption");
    });
}

#[test]
fn threads_go_on_behind_the_answer() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        assert_eq!(ask(&mut node, &mut cell, "s"), "begun");
        ask_until(&mut node, &mut cell, "b", "5");
        assert_eq!(ask(&mut node, &mut cell, "r"), "begun");
        // Longer than the function's timeout: between requests nothing is too late.
        std::thread::sleep(Duration::from_millis(2500));
        for _ in 0..5 {
            assert_eq!(ask(&mut node, &mut cell, "q"), "spins");
            assert_eq!(cell.ask(&mut node.pool, 1, b"hello").text(), "hello", "the other seat has its turn");
        }
        assert_eq!(cell.faults(), 0, "{:?}", cell.said);
    });
}

#[test]
fn threads_from_before_the_first_request_are_in_the_snapshot() {
    both(|trust| {
        let mut node = threaded(trust, &["EARLY=sleeper"]);
        for _ in 0..2 {
            let mut cell = node.fork();
            ask_until(&mut node, &mut cell, "b", "5");
            assert!(cell.ask(&mut node.pool, 0, b"x").is_error);
            let after: i64 = ask(&mut node, &mut cell, "b").parse().unwrap();
            assert!(after < 5, "back at the snapshot, and its thread too");
            ask_until(&mut node, &mut cell, "b", "5");
        }
    });
}

#[test]
fn a_function_that_never_asks_for_a_request_cannot_be_loaded() {
    both(|trust| {
        for (early, says) in [("EARLY=loop", "did not come back"), ("EARLY=wait", "it sleeps for long")] {
            let mut function = Function::new("threads", &guest("threads"));
            function.env = vec![early.to_owned()];
            let why = Node::start(trust, vec![function]).err().expect("it cannot be loaded");
            assert!(why.contains(says), "{early}: {why}");
        }
    });
}

#[test]
fn threads_begin_anew_with_every_request_of_a_function_that_is_reset() {
    both(|trust| {
        for early in ["EARLY=none", "EARLY=sleeper", "EARLY=runner"] {
            let mut function = Function::new("threads", &guest("threads"));
            (function.reset, function.env) = (true, vec![early.to_owned()]);
            let mut node = Node::start(trust, vec![function]).unwrap();
            let mut cell = node.fork();
            for _ in 0..3 {
                if early != "EARLY=runner" {
                    // Beside a thread that never gives way, every lock costs a slice of time.
                    assert_eq!(ask(&mut node, &mut cell, "j"), "8028 8028");
                }
                assert_eq!(ask(&mut node, &mut cell, "s"), "begun");
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(ask(&mut node, &mut cell, "b"), "0", "what a request began is gone");
            }
            let before = processor_time(&cell);
            std::thread::sleep(Duration::from_millis(200));
            let used = processor_time(&cell) - before;
            assert!(used < Duration::from_millis(20), "{early}: between requests it runs for {used:?}");
            assert_eq!(cell.faults(), 0, "{:?}", cell.said);
        }
    });
}

#[test]
fn a_thread_that_ends_the_guest_fails_the_request() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        for (what, says) in [("g", "status 7"), ("x", "touched memory"), ("d", "waits for itself")] {
            let answer = cell.ask(&mut node.pool, 0, what.as_bytes());
            assert!(answer.is_error && answer.text().contains(says), "{what}: {answer:?}");
            assert_eq!(ask(&mut node, &mut cell, "j"), "8028 8028");
        }
        let answer = cell.ask(&mut node.pool, 0, b"l");
        assert_eq!((answer.status, answer.is_error), (504, true), "{answer:?}");
        assert_eq!(ask(&mut node, &mut cell, "p"), "4000");
        assert_eq!(cell.faults(), 4);
    });
}

#[test]
fn threads_call_and_answer() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        assert_eq!(ask(&mut node, &mut cell, "c"), "1 1", "calls from two threads");
        assert_eq!(ask(&mut node, &mut cell, "a"), "late", "an answer from another thread");
        assert_eq!(ask(&mut node, &mut cell, "a"), "late");
    });
}

#[test]
fn threads_go_on_while_others_wait_for_answers() {
    both(|trust| {
        let front = Function::new("front", &guest("threads")).calls(&["back"]);
        let mut back = Function::new("back", &guest("threads"));
        back.concurrency = 4;
        let mut node = Node::start(trust, vec![front, back]).unwrap();
        let mut cell = node.fork();
        for _ in 0..3 {
            assert_eq!(ask(&mut node, &mut cell, "C"), "1 1 went on");
        }
        assert_eq!(cell.faults(), 0, "{:?}", cell.said);
    });
}

#[test]
fn a_thread_stops_waiting_when_its_call_is_late() {
    both(|trust| {
        let mut front = Function::new("front", &guest("threads")).calls(&["back"]);
        front.timeout = Duration::from_millis(500);
        let mut back = Function::new("back", &guest("threads"));
        back.concurrency = 4;
        let mut node = Node::start(trust, vec![front, back]).unwrap();
        let mut cell = node.fork();
        // Its calls may take as long as itself: ETIMEDOUT, and the other one is answered.
        let answer = ask(&mut node, &mut cell, "N");
        assert!(answer == "-110 1" || answer == "1504 1", "{answer}");
        // Whether the callee is given its time or not, the caller goes on.
        std::thread::sleep(Duration::from_millis(1700));
        assert_eq!(ask(&mut node, &mut cell, "C"), "1 1 went on");
    });
}

#[test]
fn more_threads_than_there_may_be_are_refused() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        let answer = ask(&mut node, &mut cell, "m");
        assert!(answer.ends_with(" EAGAIN"), "{answer}");
        assert_eq!(ask(&mut node, &mut cell, "j"), "8028 8028", "and their places are free again");
    });
}

#[test]
fn the_receive_gate_is_any_one_threads() {
    both(|trust| {
        let mut node = threaded(trust, &[]);
        let mut cell = node.fork();
        assert_eq!(ask(&mut node, &mut cell, "z"), "gone");
        // The next request goes to the thread that waits now, which ends with it, and the guest with its last thread.
        let answer = cell.ask(&mut node.pool, 0, b"j");
        assert!(answer.is_error && answer.text().contains("exited"), "{answer:?}");
        assert_eq!(ask(&mut node, &mut cell, "j"), "8028 8028");
    });
}
