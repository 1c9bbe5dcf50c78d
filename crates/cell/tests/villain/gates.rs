//! Gates that are told lies, or entered with a processor in a state that no function has.

use baton_abi::cell::{GATE_PAGE_AT, POOL_AT, SEAT_BYTES, SEATS_AT, Trust};
use baton_abi::gate::{ALLOC, CALL, CLOCK, FREE, FREEZE, GATES, LOG, NARROW, RANDOM, RECV, REPLY, REVOKE};

use crate::arena::{Arena, Inside, PATIENCE, VICTIM, both, guest, one};
use crate::node::Function;

const EFAULT: &str = "-14";
const EINVAL: &str = "-22";
const EACCES: &str = "-13";
const ENOSPC: &str = "-28";
const ESTALE: &str = "-116";
const ENOSYS: &str = "-38";

const BYTES: u64 = 64;
const LEND: u64 = 1;
const SHARE: u64 = 2;
const INLINE: u64 = 16;

fn numbers(text: &str) -> Vec<u64> {
    text.split(' ').map(|word| u64::from_str_radix(word, 16).expect("a number")).collect()
}

/// In the villain's seat, and nothing is there.
const HOLE: u64 = SEATS_AT + (60 << 30);

/// Places that no gate may read from or write to for a guest.
fn foreign(arena: &mut Arena) -> Vec<u64> {
    let inside = Inside::of(&arena.cell);
    let neighbour = numbers(&arena.ask_seat(VICTIM, "where").text());
    let mut places = vec![
        0,
        8,
        inside.at("4arch4CORE"),
        inside.at("4arch5SHARE"),
        inside.at("SIGNAL_STACK") + 4096,
        inside.at("baton_gates"),
        GATE_PAGE_AT,
        // Where no buffer is out.
        POOL_AT + (200 << 20),
        SEATS_AT - 8,
        // The last bytes of the seat: what does not fit wholly into it is not in it.
        SEATS_AT + SEAT_BYTES - 4,
        SEATS_AT + SEAT_BYTES,
        HOLE,
        0x7fff_ffff_f000,
        0x8000_0000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8100_0000,
        u64::MAX - 63,
        u64::MAX,
    ];
    places.extend(neighbour);
    places
}

#[test]
fn addresses_of_others_are_refused() {
    both("gates", |arena| {
        let before = Inside::of(&arena.cell).word(GATE_PAGE_AT + 8);
        for at in foreign(arena) {
            let orders = [
                (RECV, at.max(1), at, 0),
                (RECV, 0, at, 0),
                (REPLY, at, 0, 0),
                (CALL, 0, at, 0),
                (ALLOC, 64, 1, at),
                (FREE, at, 1, 0),
                (FREEZE, at, 0, 0),
                (REVOKE, at, 0, 0),
                (NARROW, at, 0, 1),
                (LOG, 73, at, 64),
                (CLOCK, 1, at, 0),
                (RANDOM, at, 64, 0),
            ];
            for (gate, a, b, c) in orders {
                // Whether an event can be written there is found out only when there is one.
                if (gate, a, at) != (RECV, 0, HOLE) {
                    let order = format!("gate {gate:x} {a:x} {b:x} {c:x}");
                    assert_eq!(arena.says(&order), EFAULT, "gate {gate} at {at:#x}");
                }
            }
        }
        assert_eq!(Inside::of(&arena.cell).word(GATE_PAGE_AT + 8), before);
    });
}

#[test]
fn results_are_not_written_where_the_guest_itself_could_not_write() {
    both("gates", |arena| {
        let [_, _, constant, code, _] = numbers(&arena.says("where"))[..] else { panic!("five places") };
        for at in [constant, code] {
            for (gate, a, b, c) in
                [(RECV, 0, at, 0), (ALLOC, 64, 1, at), (CLOCK, 1, at, 0), (RANDOM, at, 64, 0)]
            {
                let order = format!("gate {gate:x} {a:x} {b:x} {c:x}");
                match gate {
                    // It is found out only when there is an event to write.
                    RECV => arena.dies(&order, "in its time"),
                    _ => assert_eq!(arena.says(&order), EFAULT),
                }
            }
        }
    });
}

#[test]
fn a_guest_that_wants_its_events_nowhere_ends_with_the_next_one() {
    both("gates", |arena| {
        assert_eq!(arena.ask(&format!("receive {HOLE:x}")).text(), "going");
        let answer = arena.ask("ping");
        assert!(answer.is_error && answer.text().contains("where it has no memory"), "{answer:?}");
        arena.goes_on("receive");
    });
}

#[test]
fn payloads_of_others_are_refused() {
    both("gates", |arena| {
        for at in foreign(arena) {
            for len in [1u64, 64, 4096, 1 << 20, 1 << 40, u64::MAX - at.min(u64::MAX - 1), u64::MAX] {
                let answer = arena.says(&format!("call {BYTES:x} 0 0 {at:x} {len:x} 0 0 0 0"));
                let errno = answer.split(' ').next().unwrap_or_default();
                let known = [EFAULT, ENOSPC].contains(&errno);
                assert!(known, "{len} bytes at {at:#x} under {:?}: {answer}", arena.trust);
                let answer = arena.says(&format!("reply {BYTES:x} 0 0 {at:x} {len:x} 0 0 0 0"));
                assert!([EFAULT, ENOSPC].contains(&answer.as_str()), "{len} bytes at {at:#x}: {answer}");
            }
        }
    });
}

#[test]
fn payloads_at_the_end_of_ones_own_memory_are_refused() {
    both("gates", |arena| {
        let [seat, data, ..] = numbers(&arena.says("where"))[..] else { panic!("five places") };
        // More than there is behind it, more than a seat, and so much that it wraps.
        for len in [1u64 << 30, SEAT_BYTES, SEAT_BYTES - (data - seat) + 1, u64::MAX - data + 1, u64::MAX] {
            let answer = arena.says(&format!("call {BYTES:x} 0 0 {data:x} {len:x} 0 0 0 0"));
            let errno = answer.split(' ').next().unwrap_or_default();
            assert!([EFAULT, ENOSPC].contains(&errno), "{len:#x}: {answer}");
        }
    });
}

#[test]
fn absurd_counts_and_lengths_are_cut_or_refused() {
    both("gates", |arena| {
        let [_, data, ..] = numbers(&arena.says("where"))[..] else { panic!("five places") };
        let max = u64::MAX;
        let small = [(LOG, 73, data, max, "0"), (FREE, data, max, 0, ESTALE), (RANDOM, data, 0, 0, "0")];
        for (gate, a, b, c, says) in small {
            assert_eq!(arena.says(&format!("gate {gate:x} {a:x} {b:x} {c:x}")), says, "gate {gate}");
        }
        assert_eq!(arena.says(&format!("gate {ALLOC:x} {max:x} {max:x} {data:x}")), ENOSPC);
        assert_eq!(arena.says(&format!("gate {ALLOC:x} {:x} 1 {data:x}", 1u64 << 62)), ENOSPC);
        assert_eq!(arena.says(&format!("gate {ALLOC:x} 40 0 {data:x}")), "0");
        assert_eq!(arena.says(&format!("gate {CLOCK:x} {max:x} {data:x} 0")), EINVAL);
        assert_eq!(
            arena.says(&format!("gate {CALL:x} 1 {data:x} 0")),
            EACCES,
            "there is one function to call"
        );
        assert_eq!(arena.says(&format!("gate {CALL:x} {max:x} {data:x} 0")), EACCES);
    });
}

#[test]
fn numbers_without_a_gate_have_no_entry() {
    one("gates", Trust::App, |arena| {
        for gate in GATES..32 {
            arena.dies(&format!("gate {gate:x} 0 0 0"), "that it does not have");
        }
    });
    one("jumps", Trust::App, |arena| {
        // Behind the place where a gate's number is set: a number of the guest's choice.
        let text = arena.says("gatenumber 1000");
        assert_eq!(text, ENOSYS);
    });
}

#[test]
fn handles_of_others_mean_nothing() {
    both("gates", |arena| {
        let held = numbers(&arena.ask_seat(VICTIM, "hold 40000").text());
        let [handle, generation, ..] = held[..] else { panic!("a grant") };
        for gate in [FREE, FREEZE, REVOKE, NARROW] {
            let count = u64::from(gate == FREE || gate == NARROW);
            let order = format!("pair {gate:x} {handle:x} {generation:x} {count:x} 10");
            assert_eq!(arena.says(&order), ESTALE, "gate {gate}");
        }
        for how in [0, LEND, SHARE] {
            let order = format!("call {how:x} {handle:x} {generation:x} 0 40 0 0 0 0");
            assert!(arena.says(&order).starts_with(ESTALE));
            let order = format!("reply {how:x} {handle:x} {generation:x} 0 40 0 0 0 0");
            let answer = arena.says(&order);
            assert!([ESTALE, EACCES].contains(&answer.as_str()), "{answer}");
            // As a head.
            let order = format!("call {INLINE:x} 0 0 0 8 {handle:x} {generation:x} 0 10");
            assert!(arena.says(&order).starts_with(ESTALE));
        }
        assert_eq!(arena.ask_seat(VICTIM, "held 40000").text(), "held");
        assert_eq!(arena.ask_seat(VICTIM, "free").text(), "0");
    });
}

#[test]
fn guessed_handles_hit_nothing() {
    both("gates", |arena| {
        let held = arena.ask_seat(VICTIM, "hold 40000").text();
        assert_eq!(arena.says("handles 800"), "0");
        assert_eq!(arena.ask_seat(VICTIM, "held 40000").text(), "held", "{held}");
    });
}

#[test]
fn stale_handles_and_ranges_outside_are_refused() {
    both("gates", |arena| {
        for bytes in ["40", "20000"] {
            let grant = arena.says(&format!("alloc {bytes} 1"));
            let (_, grant) = grant.split_once(' ').expect("a result");
            let [handle, generation, _, capacity] = numbers(grant)[..] else { panic!("a grant") };
            let ranges = [
                (0, capacity + 1),
                (capacity, 1),
                (capacity + 1, 0),
                (1, u64::MAX),
                (u64::MAX, 1),
                (u64::MAX, u64::MAX),
                (1 << 63, 1 << 63),
            ];
            for (offset, len) in ranges {
                for how in [0, LEND, SHARE] {
                    let order = format!("call {how:x} {handle:x} {generation:x} {offset:x} {len:x} 0 0 0 0");
                    let answer = arena.says(&order);
                    assert!(answer.starts_with(EINVAL), "{order} of {capacity}: {answer}");
                }
            }
            let other = generation ^ 1;
            assert!(arena.says(&format!("call 0 {handle:x} {other:x} 0 8 0 0 0 0")).starts_with(ESTALE));
            assert_eq!(arena.says(&format!("pair {FREE:x} {handle:x} {generation:x} 1 0")), "0");
            assert_eq!(arena.says(&format!("pair {FREE:x} {handle:x} {generation:x} 1 0")), ESTALE);
            assert!(arena.says(&format!("call 0 {handle:x} {generation:x} 0 8 0 0 0 0")).starts_with(ESTALE));
            assert_eq!(arena.says(&format!("reply 0 {handle:x} {generation:x} 0 8 0 0 0 0")), ESTALE);
        }
    });
}

#[test]
fn one_request_is_answered_once_and_by_its_own_function() {
    both("gates", |arena| {
        let answer = arena.ask("twice");
        assert_eq!(answer.text(), "once");
        arena.goes_on("twice");
        assert!(arena.cell.said.iter().any(|line| line.ends_with("0 -116")), "{:?}", arena.cell.said);
        assert_eq!(arena.says("tags 1000"), "0");
    });
}

#[test]
fn parcels_where_the_gate_writes_harm_their_guest_alone() {
    both("gates", |arena| {
        for kind in 0..=4 {
            let order = format!("alias {kind:x}");
            let tag = arena.cell.send(&mut arena.node.pool, crate::arena::VILLAIN, order.as_bytes(), 0);
            let answer = arena.cell.wait(&mut arena.node.pool, crate::arena::VILLAIN, tag);
            assert!(answer.is_some(), "{order}");
            if kind == 3 {
                // It took the next request into its answer.
                assert_eq!(arena.ask("ping").text(), "1");
            }
            arena.goes_on(&order);
        }
    });
}

#[test]
fn flags_do_not_follow_into_the_runtime() {
    one("gates", Trust::App, |arena| {
        const DIRECTION: u64 = 0x400;
        const ALIGNMENT: u64 = 0x4_0000;
        const NESTED: u64 = 0x4000;
        const RESUME: u64 = 0x1_0000;
        for bits in [DIRECTION, ALIGNMENT, NESTED, RESUME, DIRECTION | ALIGNMENT | NESTED, 0x20_0000, 0xcd5] {
            assert_eq!(arena.says(&format!("flags {bits:x}")), "0 0", "flags {bits:#x}");
            let text = arena.says(&format!("trapflags {bits:x}"));
            assert_eq!(text, "1 0", "flags {bits:#x}");
        }
        // Single steps are a trap of the guest's own.
        arena.dies("flags 100", "was trapped");
        assert_eq!(arena.says("trapflags 100"), "1 0", "the flag does not outlive the call");
    });
}

fn with_accomplice(trust: Trust) -> Arena {
    let program = guest("gates");
    let mut villain = Function::new("villain", &program).calls(&["accomplice"]);
    villain.timeout = PATIENCE;
    let functions =
        vec![villain, Function::new("victim", &guest("victim")), Function::new("accomplice", &program)];
    Arena::with(trust, functions)
}

#[test]
fn floating_point_exceptions_do_not_follow_into_the_runtime_or_a_callee() {
    if !crate::machine_can() {
        return;
    }
    for trust in [Trust::App, Trust::Buffer] {
        let mut arena = with_accomplice(trust);
        let alone = arena.ask_seat(2, "compute").text();
        // What it set is what it finds again; what the callee computes is what it computes alone.
        assert_eq!(arena.says("unmasked"), format!("0 0 0 340 {alone}"));
        assert_eq!(arena.ask_seat(2, "compute").text(), alone);
    }
}

#[test]
fn segment_registers_do_not_move_anybodys_base() {
    one("gates", Trust::App, |arena| {
        for selector in [0u64, 0x2b, 0x23, 3] {
            let text = arena.ask(&format!("segments {selector:x}"));
            assert!(text.is_error || text.text() == "0 1", "{selector:#x}: {text:?}");
            arena.goes_on("segments");
        }
    });
}
