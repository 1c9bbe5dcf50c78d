//! Memory that is not the guest's own.

use baton_abi::cell::{GATE_PAGE_AT, POOL_AT, SEAT_BYTES, SEATS_AT, STACK_TOP, Trust, VDSO_AT};

use crate::arena::{Arena, Inside, VICTIM, both, one};

const KEY: &str = "behind another key";
const NONE: &str = "that it does not have";

/// What a guest may do with a mapping of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// It is its own.
    Anything,
    Write,
    Read,
    Nothing,
}

fn policy(inside: &Inside, trust: Trust, (from, name): (u64, &str)) -> May {
    let share = inside.at("4arch5SHARE");
    match from {
        _ if (SEATS_AT..SEATS_AT + SEAT_BYTES).contains(&from) => May::Anything,
        GATE_PAGE_AT | VDSO_AT => May::Read,
        _ if from == share => May::Read,
        _ if from >= POOL_AT && name.contains("pool") && trust == Trust::App => May::Write,
        _ => May::Nothing,
    }
}

#[test]
fn every_mapping_of_the_process_is_closed_but_what_is_meant_to_be_open() {
    both("memory", |arena| {
        let inside = Inside::of(&arena.cell);
        let mut seen = [0; 4];
        for (from, to, access, name) in &inside.maps {
            let may = policy(&inside, arena.trust, (*from, name));
            seen[may as usize] += 1;
            if may == May::Anything {
                continue;
            }
            let middle = from + (to - from) / 2 / 4096 * 4096;
            for at in [*from, middle, to - 8] {
                // A prohibition of the page itself comes before that of the key.
                let reason = if access.starts_with('r') { KEY } else { "touched memory" };
                match may {
                    May::Nothing => arena.dies(&format!("read {at:x}"), reason),
                    _ => drop(arena.says(&format!("read {at:x}"))),
                }
                match may {
                    May::Write => assert_eq!(arena.says(&format!("rewrite {at:x}")), "written"),
                    _ => arena.dies(&format!("rewrite {at:x}"), "touched memory"),
                }
            }
        }
        let [own, writable, readable, closed] = seen;
        let pool = usize::from(arena.trust == Trust::App);
        assert!(own > 4 && writable == pool && readable == 3 && closed > 20, "{seen:?}: {:#x?}", inside.maps);
    });
}

fn secrets(arena: &mut Arena) -> Vec<u64> {
    let text = arena.ask_seat(VICTIM, "where").text();
    text.split(' ').map(|word| u64::from_str_radix(word, 16).expect("an address")).collect()
}

#[test]
fn a_neighbours_statics_heap_and_stack_can_be_neither_read_nor_written() {
    both("memory", |arena| {
        for at in secrets(arena) {
            arena.dies(&format!("read {at:x}"), KEY);
            arena.dies(&format!("write {at:x} 0"), KEY);
        }
    });
}

#[test]
fn no_instruction_gets_around_a_key() {
    one("memory", Trust::Buffer, |arena| {
        let secret = secrets(arena)[0];
        let core = Inside::of(&arena.cell).at("4arch4CORE");
        for at in [secret, core] {
            for way in 0..=9 {
                arena.dies(&format!("touch {way:x} {at:x}"), KEY);
            }
            // The system answers this one in the processor's place, with the guest's rights.
            arena.dies(&format!("touch b {at:x}"), "touched memory");
            // What only moves cache lines is a side channel, and shows nothing by itself.
            assert_eq!(arena.says(&format!("touch a {at:x}")), "touched");
        }
    });
}

#[test]
fn addresses_without_memory_are_the_guests_end() {
    one("memory", Trust::App, |arena| {
        let seat = SEATS_AT;
        let holes = [
            0,
            8,
            0xfff,
            seat - 8,
            seat + STACK_TOP,
            seat + SEAT_BYTES - 8,
            seat + (60 << 30),
            POOL_AT - 8,
            0x7fff_ffff_fff8,
            0x8000_0000_0000,
            0xdead_beef_dead_beef,
            0xffff_8000_0000_0000,
            0xffff_ffff_8100_0000,
            u64::MAX - 7,
        ];
        for at in holes {
            arena.dies(&format!("read {at:x}"), NONE);
            arena.dies(&format!("write {at:x} 1"), NONE);
            arena.dies(&format!("run {at:x}"), NONE);
        }
    });
}

#[test]
fn a_stack_that_overflows_meets_its_guard() {
    both("memory", |arena| {
        assert_eq!(arena.says("overflow 80"), "128");
        arena.dies("overflow 100000", NONE);
    });
}

#[test]
fn code_is_not_written_and_data_does_not_run() {
    both("memory", |arena| {
        for way in 0..=5 {
            arena.dies(&format!("own {way:x}"), NONE);
        }
    });
}

#[test]
fn memory_of_others_does_not_run_either() {
    one("memory", Trust::App, |arena| {
        let inside = Inside::of(&arena.cell);
        let data = [secrets(arena)[0], secrets(arena)[1], POOL_AT, GATE_PAGE_AT, inside.at("4arch5SHARE")];
        for at in data {
            arena.dies(&format!("run {at:x}"), NONE);
        }
    });
}
