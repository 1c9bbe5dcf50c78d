//! Guests that take more than their share.

use std::time::{Duration, Instant};

use baton_abi::cell::Trust;

use crate::arena::{Arena, PATIENCE, VICTIM, both, guest, one};
use crate::node::Function;

/// How late a guest may be stopped, on a machine with other work to do.
const GRACE: Duration = Duration::from_millis(1200);

#[track_caller]
fn is_stopped(arena: &mut Arena, order: &str) {
    let began = Instant::now();
    arena.dies(order, "did not come back in its time");
    let took = began.elapsed();
    assert!(took < PATIENCE + GRACE, "`{order}` under {:?} took {took:?}", arena.trust);
}

#[test]
fn loops_end_with_their_time() {
    one("exhaustion", Trust::Buffer, |arena| is_stopped(arena, "loop 0"));
}

#[test]
fn loops_of_system_calls_end_with_their_time() {
    one("exhaustion", Trust::Buffer, |arena| {
        for kind in [1, 2, 6, 7, 10] {
            is_stopped(arena, &format!("loop {kind:x}"));
        }
    });
}

#[test]
fn loops_of_gates_end_with_their_time() {
    one("exhaustion", Trust::Buffer, |arena| {
        for kind in [3, 4, 5, 8] {
            is_stopped(arena, &format!("loop {kind:x}"));
        }
    });
}

#[test]
fn loops_of_calls_end_with_their_time() {
    both("exhaustion", |arena| is_stopped(arena, "loop 9"));
}

#[test]
fn sleeping_over_the_time_ends_as_well() {
    both("exhaustion", |arena| is_stopped(arena, "sleep 64"));
}

#[test]
fn a_request_that_is_dropped_does_not_block_its_function() {
    both("exhaustion", |arena| is_stopped(arena, "silent"));
}

#[test]
fn a_call_that_is_dropped_does_not_block_its_function() {
    both("exhaustion", |arena| {
        let answer = arena.ask_seat(VICTIM, "relay silent").text();
        assert!(answer == "-110" || answer.starts_with("504:") || answer.starts_with("502:"), "{answer}");
        arena.goes_on("relay silent");
    });
}

#[test]
fn memory_ends_at_its_limit() {
    both("exhaustion", |arena| {
        let most = 64u64 << 20;
        for order in ["map", "break"] {
            let text = arena.says(order);
            let (bytes, errno) = text.split_once(' ').expect("two numbers");
            let bytes = u64::from_str_radix(bytes, 16).expect("a number");
            assert!(errno == "12" && bytes < most, "{order}: {text}");
            // It keeps what it took: the limit stays.
            assert_eq!(arena.says("map"), "0 12");
            arena.dies("loop 0", "in its time");
        }
    });
}

#[test]
fn ranges_end_at_their_limit() {
    one("exhaustion", Trust::Buffer, |arena| {
        let made: u32 = arena.says("shred").parse().expect("a number");
        assert!((100..4096).contains(&made), "{made} ranges");
    });
}

#[test]
fn a_watched_seat_cannot_use_up_the_ranges_of_its_process() {
    for order in ["stripe 23000000", "stripeearly"] {
        if !crate::machine_can() {
            return;
        }
        let mut function = Function::new("villain", &guest("exhaustion")).calls(&["victim"]);
        (function.reset, function.memory) = (true, 600 << 20);
        function.timeout = Duration::from_secs(4);
        if order == "stripeearly" {
            function.env = vec!["STRIPES=560".to_owned()];
        }
        let mut neighbour = Function::new("victim", &guest("victim"));
        neighbour.reset = true;
        let mut arena = Arena::with(Trust::Buffer, vec![function, neighbour]);
        for _ in 0..2 {
            assert_eq!(arena.says(order), "striped");
        }
        // While it holds them, others get what they need.
        let ranges = crate::arena::Inside::of(&arena.cell).maps.len();
        assert!(ranges < 1000, "{ranges} ranges are left");
    }
}

#[test]
fn threads_end_at_their_limit() {
    both("exhaustion", |arena| {
        assert_eq!(arena.says("threads 0"), "63 11");
        assert_eq!(arena.says("threads 0"), "0 11", "none came free");
    });
}

#[test]
fn threads_that_spin_behind_the_answer_keep_nobody_waiting_for_ever() {
    for kind in [1, 2] {
        one("exhaustion", Trust::Buffer, |arena| {
            let text = arena.ask(&format!("threads {kind}"));
            assert!(text.is_error || text.text() == "63 11", "{text:?}");
            std::thread::sleep(Duration::from_millis(30));
            let began = Instant::now();
            arena.goes_on("threads");
            arena.goes_on("threads");
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        });
    }
}

#[test]
fn processes_are_not_to_be_had() {
    one("exhaustion", Trust::App, |arena| assert_eq!(arena.says("processes"), "-1 -1 -1 -22 -1"));
}

#[test]
fn hoarded_buffers_come_back_with_the_end_of_their_guest() {
    both("exhaustion", |arena| {
        for bytes in ["10000", "100000"] {
            let answer = arena.ask(&format!("hoard {bytes}"));
            // Where there is no buffer left even for the answer, that ends the request.
            let hoarded = !answer.is_error && answer.text().ends_with(" -28");
            assert!(hoarded || answer.is_error, "{bytes} under {:?}: {answer:?}", arena.trust);
            if hoarded {
                is_stopped(arena, "loop 0");
            }
            arena.goes_on("hoard");
        }
        // All of it is there again.
        assert!(arena.says("leak 0").starts_with('0'));
        assert!(arena.node.pool.alloc(128 << 20).is_ok(), "half the pool in one piece");
    });
}

#[test]
fn log_floods_cost_their_own_time() {
    one("exhaustion", Trust::App, |arena| {
        assert_eq!(arena.says("flood 200"), "logged");
        is_stopped(arena, "flood ffffffff");
        // What the node did not fetch is lost; the cell does not wait for it.
        arena.goes_on("flood");
    });
}

#[test]
fn payloads_with_a_head_that_is_not_held_do_not_fill_the_callees_memory() {
    both("exhaustion", |arena| {
        assert_eq!(arena.says("bury 800"), "-116");
        assert_eq!(arena.ask_seat(VICTIM, "relay ping").text(), "200:pong 3");
    });
}

#[test]
fn answers_with_a_head_that_is_not_held_do_not_leak_buffers() {
    both("exhaustion", |arena| {
        arena.says("ping");
        let before = arena.node.pool.capabilities().count();
        assert_eq!(arena.says("leak 200"), "-116");
        let after = arena.node.pool.capabilities().count();
        assert!(after < before + 100, "{before} buffers were out, and then {after}");
    });
}

#[test]
fn callers_in_a_hurry_do_not_end_their_callee() {
    both("exhaustion", |arena| {
        for _ in 0..6 {
            let answer = arena.says("hurry 6");
            assert!(["0", "1"].contains(&answer.as_str()), "{answer}");
        }
        arena.cell.listen();
        assert!(!arena.cell.said.iter().any(|line| line.starts_with("victim")), "{:?}", arena.cell.said);
    });
}

#[test]
fn calls_in_a_circle_end() {
    both("exhaustion", |arena| {
        let answer = arena.says("recurse");
        assert!(!answer.is_empty(), "{answer}");
    });
}

#[test]
fn calls_that_are_given_up_again_and_again_end_at_their_limit() {
    both("exhaustion", |arena| {
        let answer = arena.ask("calls 4000");
        assert!(answer.is_error || answer.text() == "-11" || answer.text() == "1", "{answer:?}");
        // The neighbour has much to forget first.
        std::thread::sleep(Duration::from_millis(300));
        arena.goes_on("calls");
    });
}
