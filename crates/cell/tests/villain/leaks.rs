//! What one guest, or one request, leaves behind for the next.

use std::time::Duration;

use baton_abi::cell::{SEAT_BYTES, SEATS_AT, Trust};

use crate::arena::{Arena, Inside, PATIENCE, Runtime, VILLAIN, guest};
use crate::node::Function;

/// Complements of patterns: programs carry these, so that the patterns themselves are nowhere by mistake.
const ONE: u64 = !0xa11a_5ec7_e7a1_1a5e;
const OTHER: u64 = !0xb22b_5ec7_e7b2_2b5f;
const THIRD: u64 = !0xc33c_5ec7_e7c3_3c60;

const ACCOMPLICE: usize = 2;

fn each(reset: bool, check: impl Fn(&mut Arena)) {
    if !crate::machine_can() {
        return;
    }
    for trust in [Trust::App, Trust::Buffer] {
        let program = guest("leaks");
        let mut villain = Function::new("villain", &program).calls(&["accomplice", "victim"]);
        (villain.timeout, villain.reset) = (PATIENCE, reset);
        let accomplice = Function::new("accomplice", &program).calls(&["villain"]);
        let mut victim = Function::new("victim", &guest("victim"));
        victim.timeout = PATIENCE;
        let functions = vec![villain, victim, accomplice];
        check(&mut Arena::with(trust, functions));
    }
}

fn machine_has_wide_registers() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = info.contains("avx512bw");
    if !has {
        println!("SKIP: this machine has no 512-bit registers to look into");
    }
    has
}

#[test]
fn registers_of_one_guest_are_not_the_next_ones() {
    each(false, |arena| {
        if !machine_has_wide_registers() {
            return;
        }
        // Where nobody cleans, it is found: 32 registers of eight words, of which each is found by every byte it begins at,
        // the masks, the floating-point registers; and what a function may change of the others.
        let control = arena.says(&format!("control {ONE:x}"));
        let (vectors, general) = control.split_once(' ').expect("two numbers");
        assert!(vectors.parse::<u32>().expect("a number") >= 32 * 8 + 8 + 8, "{control}");
        assert_eq!(general, "5", "{control}");
        assert_eq!(arena.ask_seat(ACCOMPLICE, &format!("carry {ONE:x}")).text(), "carrying");
        for _ in 0..4 {
            assert!(arena.ask_seat(ACCOMPLICE, "ping").text().starts_with("pong"));
            assert_eq!(arena.says(&format!("registers {ONE:x}")), "0");
        }
    });
}

#[test]
fn caller_and_callee_do_not_see_each_others_registers() {
    each(false, |arena| {
        if !machine_has_wide_registers() {
            return;
        }
        // The callee looks at what its event came with.
        for _ in 0..4 {
            assert_eq!(arena.says(&format!("call {ONE:x} {OTHER:x}")), "0 0 0 0");
        }
        assert_eq!(arena.ask_seat(ACCOMPLICE, &format!("registers {ONE:x}")).text(), "0");
        // The caller looks at what it got back, the callee having everything full.
        assert_eq!(arena.ask_seat(ACCOMPLICE, &format!("carry {OTHER:x}")).text(), "carrying");
        for _ in 0..4 {
            assert_eq!(arena.says(&format!("call {ONE:x} {OTHER:x}")), "0 0 0 0");
        }
    });
}

#[test]
fn the_block_that_all_can_read_tells_nothing_of_another_guest() {
    each(false, |arena| {
        let block = Runtime::new().distance("4arch5SHARE");
        for _ in 0..3 {
            assert_eq!(arena.ask_seat(ACCOMPLICE, &format!("syscall {ONE:x}")).text(), "1");
            // Beside the selector there are one's own rights in it.
            assert_eq!(arena.says(&format!("block {block:x} {ONE:x}")), "0 1");
        }
    });
}

#[test]
fn buffers_come_without_their_last_owners_bytes() {
    each(false, |arena| {
        for bytes in ["100", "1000", "10000", "20000", "100000"] {
            let filled = arena.ask_seat(ACCOMPLICE, &format!("fill {bytes} 20 {ONE:x} 1")).text();
            assert!(filled != "0", "{bytes}");
            let looked = arena.says(&format!("look {bytes} 40 {ONE:x}"));
            assert!(looked.ends_with(" 0") && !looked.starts_with('-'), "{bytes} bytes: {looked}");
        }
    });
}

#[test]
fn buffers_that_went_out_with_a_little_in_them_come_back_without_the_rest() {
    each(false, |arena| {
        for bytes in [0x1_0000u64, 0x2_0000, 0x10_0000] {
            for _ in 0..4 {
                let answer = arena.ask_seat(ACCOMPLICE, &format!("answer {bytes:x} {OTHER:x}"));
                assert!(answer.text().starts_with("answered"), "{answer:?}");
            }
            let looked = arena.says(&format!("look {bytes:x} 20 {OTHER:x}"));
            assert!(looked.ends_with(" 0") && !looked.starts_with('-'), "{bytes} bytes: {looked}");
        }
    });
}

#[test]
fn memory_of_the_system_is_fresh() {
    each(false, |arena| {
        arena.ask_seat(ACCOMPLICE, &format!("stain {ONE:x} 0"));
        assert_eq!(arena.says(&format!("fresh {ONE:x}")), "0");
    });
}

/// Looks through all that the villain can read of its own.
fn search(arena: &mut Arena, complement: u64) -> u64 {
    // The answer to a request is there before its guest is back at its snapshot; the next one's is not.
    assert!(arena.ask("ping").text().starts_with("pong "));
    let own = SEATS_AT..SEATS_AT + SEAT_BYTES;
    let maps = Inside::of(&arena.cell).maps;
    let readable = maps.iter().filter(|(from, _, access, _)| own.contains(from) && access.starts_with('r'));
    let mut found = 0;
    for (from, to, ..) in readable {
        let answer = arena.ask(&format!("search {from:x} {to:x} {complement:x}"));
        found += answer.text().parse::<u64>().unwrap_or_else(|_| panic!("{answer:?}"));
    }
    arena.goes_on("search");
    found
}

#[test]
fn a_request_leaves_nothing_to_the_next_one_of_a_function_that_is_reset() {
    each(true, |arena| {
        for round in 0..3 {
            assert_eq!(arena.ask(&format!("stain {ONE:x} 0")).text(), "stained 1");
            assert_eq!(search(arena, ONE), 0, "round {round} under {:?}", arena.trust);
        }
        assert_eq!(arena.says(&format!("fresh {ONE:x}")), "0");
        for bytes in ["200", "1000", "20000"] {
            arena.ask(&format!("fill {bytes} 20 {ONE:x} 0"));
            let looked = arena.says(&format!("look {bytes} 40 {ONE:x}"));
            assert!(looked.ends_with(" 0") && !looked.starts_with('-'), "{bytes} bytes: {looked}");
            arena.ask(&format!("fill {bytes} 20 {ONE:x} 1"));
            let looked = arena.says(&format!("look {bytes} 40 {ONE:x}"));
            assert!(looked.ends_with(" 0") && !looked.starts_with('-'), "{bytes} bytes: {looked}");
        }
    });
}

#[test]
fn a_call_that_stays_out_does_not_keep_a_function_from_being_reset() {
    each(true, |arena| {
        // The second callee does not answer.
        assert_eq!(arena.ask(&format!("stain {THIRD:x} 1")).text(), "stained 1");
        assert_eq!(search(arena, THIRD), 0);
    });
}

#[test]
fn threads_do_not_outlive_the_request_of_a_function_that_is_reset() {
    each(true, |arena| {
        for _ in 0..3 {
            assert_eq!(arena.ask(&format!("later {OTHER:x}")).text(), "0");
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(search(arena, OTHER), 0);
        }
    });
}

#[test]
fn a_function_that_ended_begins_without_what_it_had() {
    each(false, |arena| {
        assert_eq!(arena.ask(&format!("stain {ONE:x} 0")).text(), "stained 1");
        arena.dies("search 0 8 1", "that it does not have");
        assert_eq!(search(arena, ONE), 0);
    });
}

#[test]
fn requests_that_wait_for_a_reset_keep_their_own_payload() {
    each(true, |arena| {
        for len in [40usize, 5000, 70_000] {
            let bodies: Vec<Vec<u8>> =
                (0..6u8).map(|nth| [b"echo ".as_slice(), &vec![b'a' + nth; len]].concat()).collect();
            let send = |body: &Vec<u8>| arena.cell.send(&mut arena.node.pool, VILLAIN, body, 0);
            let tags: Vec<u32> = bodies.iter().map(send).collect();
            // They are answered in their order.
            for (tag, body) in tags.into_iter().zip(&bodies) {
                let answer = arena.cell.wait(&mut arena.node.pool, VILLAIN, tag).expect("an answer");
                let kept = body.len().min(59_000);
                assert_eq!(answer.body.get(..kept), body.get(..kept), "{len} bytes under {:?}", arena.trust);
            }
        }
    });
}
