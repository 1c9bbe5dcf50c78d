//! Buffers that are closed to a guest: given away, lent and taken back, revoked, frozen.

use baton_abi::cell::Trust;
use baton_abi::gate::{FREE, FREEZE, NARROW, REVOKE};

use crate::arena::{Arena, PATIENCE, VILLAIN, guest};
use crate::node::Function;

const KEY: &str = "behind another key";
/// Pages without the right: what is frozen is open to its reader's key, for reading.
const PAGE: &str = "touched memory";
/// The one whom the villain calls.
const ACCOMPLICE: usize = 2;

const MOVE: u64 = 0;
const LEND: u64 = 1;
const SHARE: u64 = 2;
const READ: u64 = 1;
const ALL: u64 = 7;

/// What the accomplice does with what it gets.
const KEEP: u64 = 1;
const WRITE: u64 = 2;
const GIVE_UP: u64 = 3;
const ANSWER_WITH_IT: u64 = 4;
const ANSWER_WITH_MORE: u64 = 6;
const READ_BEFORE: u64 = 7;
const READ_BEHIND: u64 = 8;

/// Large enough to lie in pages of its own.
const BYTES: u64 = 1 << 20;

fn each(check: impl Fn(&mut Arena)) {
    if crate::machine_can() {
        let program = guest("buffers");
        let mut villain = Function::new("villain", &program).calls(&["accomplice"]);
        villain.timeout = PATIENCE;
        let mut accomplice = Function::new("accomplice", &program).calls(&["villain"]);
        accomplice.timeout = PATIENCE;
        let functions = vec![villain, Function::new("victim", &guest("victim")), accomplice];
        check(&mut Arena::with(Trust::Buffer, functions));
    }
}

fn take(arena: &mut Arena) {
    let text = arena.says(&format!("take {BYTES:x}"));
    assert!(text.starts_with("1 3"), "{text}");
}

fn send(arena: &mut Arena, how: u64, (offset, len): (u64, u64), rights: u64, what: u64) -> String {
    arena.says(&format!("send {how:x} {offset:x} {len:x} {rights:x} {what:x}"))
}

#[track_caller]
fn accomplice_dies(arena: &mut Arena, order: &str) {
    let answer = arena.ask_seat(ACCOMPLICE, order);
    assert!(answer.is_error && answer.text().contains(PAGE), "`{order}`: {answer:?}");
    assert!(arena.ask_seat(ACCOMPLICE, "ping").text().starts_with("pong "));
    arena.goes_on(order);
}

#[test]
fn a_buffer_that_was_given_back_is_closed() {
    each(|arena| {
        take(arena);
        assert_eq!(arena.says(&format!("pair {FREE:x} 1 0")), "0");
        arena.dies("touch 0", KEY);
    });
}

#[test]
fn a_buffer_that_was_moved_is_closed_to_its_sender() {
    each(|arena| {
        for order in ["touch 0", "dirty 8", "touch ff000"] {
            take(arena);
            assert_eq!(send(arena, MOVE, (0, 4096), 0, KEEP), "0 200 kept");
            arena.dies(order, KEY);
            assert_eq!(arena.ask_seat(ACCOMPLICE, "peek 8").text(), "b0ffe400b0ffe401", "it is the other's");
        }
    });
}

#[test]
fn what_lies_beside_a_moved_payload_is_not_moved_with_it() {
    each(|arena| {
        for (offset, len) in [(0, 64), (4096, 4096), (8, 8), (0, 0), (BYTES - 8, 8)] {
            take(arena);
            assert_eq!(send(arena, MOVE, (offset, len), 0, KEEP), "0 200 kept");
            assert_eq!(arena.ask_seat(ACCOMPLICE, "slack").text(), "0", "{len} bytes at {offset}");
        }
    });
}

#[test]
fn what_lies_beside_a_frozen_payload_is_not_moved_with_it() {
    each(|arena| {
        take(arena);
        assert_eq!(arena.says(&format!("pair {FREEZE:x} 0 0")), "0");
        assert_eq!(send(arena, MOVE, (4096, 64), 0, KEEP), "0 200 kept");
        assert_eq!(arena.ask_seat(ACCOMPLICE, "slack").text(), "0");
    });
}

#[test]
fn what_was_lent_is_closed_when_the_call_is_over() {
    each(|arena| {
        for (rights, order) in [(READ, "peek 0"), (ALL, "peek 0"), (ALL, "poke 0")] {
            take(arena);
            assert_eq!(send(arena, LEND, (0, BYTES), rights, KEEP), "0 200 kept");
            accomplice_dies(arena, order);
            assert_eq!(arena.says("holds"), "holds");
        }
    });
}

#[test]
fn what_was_lent_to_read_is_not_written() {
    each(|arena| {
        for rights in [0, READ, 5] {
            take(arena);
            let answer = send(arena, LEND, (0, BYTES), rights, WRITE);
            assert!(answer.starts_with("0 502"), "rights {rights}: {answer}");
            assert_eq!(arena.says("holds"), "holds");
        }
        // With the right it is.
        take(arena);
        assert_eq!(send(arena, LEND, (0, BYTES), ALL, WRITE), "0 200 written");
        assert_eq!(arena.says("holds"), "changed at 0");
    });
}

#[test]
fn beside_what_was_lent_or_shared_nothing_is_open() {
    each(|arena| {
        for how in [LEND, SHARE] {
            for what in [READ_BEFORE, READ_BEHIND] {
                take(arena);
                // A part in the middle: pages are what a key can close.
                let answer = send(arena, how, (8200, 4000), ALL, what);
                assert!(answer.starts_with("0 502"), "{how} {what}: {answer}");
                assert_eq!(arena.says("holds"), "holds");
            }
        }
        take(arena);
        assert_eq!(send(arena, LEND, (8192, 4096), ALL, WRITE), "0 200 written");
        assert_eq!(arena.says("holds"), "changed at 2000");
    });
}

#[test]
fn what_was_shared_is_not_written_and_ends_with_revocation() {
    each(|arena| {
        take(arena);
        assert_eq!(send(arena, SHARE, (0, BYTES), 0, KEEP), "0 200 kept");
        assert_eq!(arena.ask_seat(ACCOMPLICE, "peek 8").text(), "b0ffe400b0ffe401");
        accomplice_dies(arena, "poke 0");
        assert_eq!(arena.says("holds"), "holds");
        // That end took the share with it: another one.
        assert_eq!(send(arena, SHARE, (0, BYTES), 0, KEEP), "0 200 kept");
        assert_eq!(arena.ask_seat(ACCOMPLICE, "peek 8").text(), "b0ffe400b0ffe401");
        assert_eq!(arena.says(&format!("pair {REVOKE:x} 0 0")), "1");
        accomplice_dies(arena, "peek 8");
        assert_eq!(arena.says("holds"), "holds");
    });
}

#[test]
fn what_is_not_ones_own_is_not_given_on() {
    each(|arena| {
        take(arena);
        // Twice.
        assert_eq!(send(arena, LEND, (0, BYTES), ALL, GIVE_UP), "0 200 0 -116");
        assert_eq!(arena.says("holds"), "holds");
        // As an answer, which would be the caller's for good; and more of it than there is.
        for what in [ANSWER_WITH_IT, ANSWER_WITH_MORE] {
            for how in [LEND, SHARE] {
                let answer = send(arena, how, (4096, 4096), ALL, what);
                assert!(answer.starts_with("0 200 -"), "{answer}");
                assert_eq!(arena.says("holds"), "holds");
            }
        }
        // What was moved can be answered with, as far as it reaches.
        assert!(send(arena, MOVE, (0, 8), 0, ANSWER_WITH_IT).starts_with("0 200 "));
    });
}

#[test]
fn what_was_narrowed_or_frozen_stays_so() {
    each(|arena| {
        take(arena);
        assert_eq!(arena.says(&format!("pair {NARROW:x} 1000 1000")), "0");
        assert_eq!(arena.says(&format!("pair {NARROW:x} 0 2000")), "-22");
        assert!(send(arena, LEND, (0, BYTES), ALL, KEEP).starts_with("-22"));
        assert_eq!(arena.says(&format!("pair {FREEZE:x} 0 0")), "0");
        assert_eq!(send(arena, LEND, (4096, 4096), ALL, KEEP), "0 200 kept");
        arena.dies("dirty 0", PAGE);
    });
}

#[test]
fn a_holder_that_ends_takes_no_rights_along() {
    each(|arena| {
        // The borrower ends in the middle: the owner has all of it back.
        take(arena);
        let answer = send(arena, LEND, (0, BYTES), READ, WRITE);
        assert!(answer.starts_with("0 502"), "{answer}");
        assert_eq!(arena.says("holds"), "holds");
        // The owner ends: nobody reads what it shared once its reader gives that up.
        assert_eq!(send(arena, SHARE, (0, BYTES), 0, KEEP), "0 200 kept");
        arena.dies("peek 0", PAGE);
        assert_eq!(arena.ask_seat(ACCOMPLICE, "release").text(), "0");
        accomplice_dies(arena, "peek 8");
    });
}

#[test]
fn under_trust_app_handles_end_as_well() {
    if !crate::machine_can() {
        return;
    }
    let program = guest("buffers");
    let functions = vec![
        Function::new("villain", &program).calls(&["accomplice"]),
        Function::new("victim", &guest("victim")),
        Function::new("accomplice", &program),
    ];
    let mut arena = Arena::with(Trust::App, functions);
    take(&mut arena);
    assert_eq!(send(&mut arena, LEND, (0, BYTES), ALL, KEEP), "0 200 kept");
    // The bytes can be touched, as this setting says; the capability is gone.
    assert_eq!(arena.ask_seat(ACCOMPLICE, "release").text(), "-116");
    assert_eq!(arena.says("holds"), "holds");
    assert_eq!(send(&mut arena, MOVE, (0, BYTES), 0, KEEP), "0 200 kept");
    assert_eq!(arena.says(&format!("pair {FREE:x} 1 0")), "-116");
    assert_eq!(arena.ask_seat(ACCOMPLICE, "release").text(), "0");
    assert_eq!(VILLAIN, 0);
}
