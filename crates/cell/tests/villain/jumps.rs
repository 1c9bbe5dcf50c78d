//! Jumps to where no guest should go.

use std::ops::Range;

use baton_abi::cell::Trust;

use crate::arena::{Arena, Inside, Runtime, VICTIM, both, one};

/// Registers for a jump: `rax`, `rcx`, `rdx`, the stack pointer, all other registers, what the words they point to are.
/// See `jump` in `e2e/villain/compartment/jumps.c`.
#[derive(Clone, Copy, Debug)]
struct Registers(u64, u64, u64, u64, u64, u64);

impl Registers {
    fn order(self, target: u64) -> String {
        let Registers(rax, rcx, rdx, rsp, pointer, fill) = self;
        format!("jump {target:x} {rax:x} {rcx:x} {rdx:x} {rsp:x} {pointer:x} {fill:x}")
    }
}

/// Jumps to every byte of `range` (counted from the gates), and expects that the guest either ends or comes back as it was.
fn sweep(arena: &mut Arena, range: Range<u64>, step: usize, registers: Registers) -> u64 {
    let mut back = 0;
    for target in range.step_by(step) {
        let order = registers.order(target);
        let answer = arena.ask(&order);
        let came_back = !answer.is_error && !answer.text().starts_with("ESCAPED");
        assert!(answer.is_error || came_back, "{registers:?} at {target:#x}: {}", answer.text());
        back += u64::from(came_back);
        if target % 32 == 0 {
            arena.goes_on(&order);
        }
    }
    back
}

/// What an attacker might have in its registers, for the assembly between the gates and the runtime.
fn wicked(arena: &mut Arena) -> Vec<Registers> {
    let inside = Inside::of(&arena.cell);
    let (stack, core) = (inside.at("SIGNAL_STACK"), inside.at("4arch4CORE"));
    let first_frame = inside.word(core + 64);
    assert!(
        (stack..stack + (256 << 10)).contains(&first_frame),
        "the layout of the runtime's core has changed"
    );
    let own_rights = u64::from_str_radix(&arena.says("rights"), 16).expect("a number");
    let host_stack = inside.own_stack();
    vec![
        // No key closed; then only those that a handler has; then none but the own, as the check expects it.
        Registers(0, 0, 0, 0, 1, 0),
        Registers(0x5555_5554, 0, 0, 0, 1, 0),
        Registers(own_rights, 0, 0, 0, 1, 0),
        Registers(u64::MAX, 0, 0, 0, 1, u64::MAX),
        // Stack pointers: all over the signal stack, the runtime's own, none, and one that is no address.
        Registers(0, 0, 0, stack + 64, 1, 0),
        Registers(0, 0, 0, stack + (160 << 10), core, 0),
        Registers(0, 0, 0, first_frame, 1, 0),
        Registers(0, 0, 0, first_frame + 1, core, 0),
        Registers(0, 0, 0, first_frame + 320, 1, 0),
        Registers(0, 0, 0, stack + (256 << 10) - 8, 1, 0),
        Registers(0, 0, 0, host_stack, core, 0),
        Registers(0, 0, 0, 8, core, 0),
        Registers(0, 0, 0, 0xdead_0000_0000_0000, 1, 0),
        // A state to restore that opens all keys, with and without asking for them.
        Registers(0x200, 1, 0, 0, 1, 1),
        Registers(0xe7, 1, 0, 0, 1, 1),
        // Structures whose every word is an address of the runtime's.
        Registers(0, 0, 0, 1, 1, core),
    ]
}

#[test]
fn a_guests_rights_are_its_own_key_and_what_all_may_read() {
    both("jumps", |arena| {
        let rights = u32::from_str_radix(&arena.says("rights"), 16).expect("a number");
        let of = |key: u32| rights >> (2 * key) & 0b11;
        let open = (0..16).filter(|&key| of(key) == 0).count();
        let readable = (0..16).filter(|&key| of(key) == 0b10).count();
        // Its own, and the pool where the app says so.
        assert_eq!(open, if arena.trust == Trust::App { 2 } else { 1 }, "{rights:#x}");
        assert_eq!(readable, 1, "{rights:#x}");
        assert_eq!(of(0), 0b11, "the runtime's key");
    });
}

#[test]
fn functions_of_the_runtime_run_with_the_guests_rights() {
    one("jumps", Trust::App, |arena| {
        let inside = Inside::of(&arena.cell);
        let (gates, core) = (inside.at("baton_gates"), inside.at("4arch4CORE"));
        for registers in [Registers(0, 0, 0, 0, 1, 0), Registers(0, 0, 0, 0, core, 0)] {
            for (nth, function) in inside.functions().into_iter().enumerate() {
                let order = registers.order(function.wrapping_sub(gates));
                let answer = arena.ask(&order);
                assert!(answer.is_error || !answer.text().starts_with("ESCAPED"), "{order}: {answer:?}");
                if nth % 64 == 0 {
                    arena.goes_on(&order);
                }
            }
        }
        arena.goes_on("all of them");
    });
}

#[test]
fn every_byte_of_the_gates_is_a_bad_place_to_jump_to() {
    one("jumps", Trust::App, |arena| {
        let runtime = Runtime::new();
        let range = runtime.distance("baton_asm_begin")..runtime.distance("baton_asm_end");
        for registers in wicked(arena) {
            let began = std::time::Instant::now();
            let back = sweep(arena, range.clone(), 1, registers);
            println!(
                "{registers:x?}: {back} of {} came back, {:?}",
                range.end - range.start,
                began.elapsed()
            );
        }
        assert_eq!(arena.ask_seat(VICTIM, "intact").text(), "intact");
    });
}

/// The place of a gate's entry, from the first one.
fn entry(gate: usize) -> u64 {
    16 * gate as u64
}

#[test]
fn gates_are_entered_with_any_stack_pointer() {
    one("jumps", Trust::App, |arena| {
        let inside = Inside::of(&arena.cell);
        let (stack, core) = (inside.at("SIGNAL_STACK"), inside.at("4arch4CORE"));
        let clock = entry(baton_abi::gate::CLOCK);
        let order = |rsp: u64| Registers(0, 0, 0, rsp, 0, 0).order(clock);
        // Its own, of its own choice: an address that leads back lies on it, or does not.
        assert!(arena.says(&order(0)).starts_with("back "));
        arena.dies(&order(1), "that it does not have");
        // The gate does its work, and its return finds what this guest can find there.
        let neighbour = arena.ask_seat(VICTIM, "where").text();
        let neighbour =
            u64::from_str_radix(neighbour.rsplit(' ').next().unwrap_or_default(), 16).expect("a stack");
        for foreign in [
            neighbour,
            stack + 4096,
            stack + (256 << 10) - 64,
            core,
            inside.own_stack(),
            inside.at("baton_gates"),
        ] {
            arena.dies(&order(foreign), "touched memory");
        }
        for none in
            [8, 0x7fff_ffff_f000, 0x8000_0000_0000_0000, 0xffff_8000_0000_0000, u64::MAX - 7, u64::MAX]
        {
            arena.dies(&order(none), "touched memory");
        }
    });
}

#[test]
fn gates_of_another_app_are_not_there() {
    one("jumps", Trust::App, |arena| {
        let other = Arena::new("jumps", Trust::App);
        let (own, theirs) = (Inside::of(&arena.cell), Inside::of(&other.cell));
        let away = theirs.at("baton_gates").wrapping_sub(own.at("baton_gates"));
        assert_ne!(away, 0, "each cell has its place by chance");
        for gate in 0..baton_abi::gate::GATES {
            let order = Registers(0, 0, 0, 0, 0, 0).order(away.wrapping_add(entry(gate)));
            arena.dies(&order, "touched memory");
        }
    });
}

#[test]
fn a_frame_in_the_vector_registers_of_another_is_none() {
    one("jumps", Trust::App, |arena| {
        let runtime = Runtime::new();
        let (stack, core) = (runtime.distance("SIGNAL_STACK"), runtime.distance("4arch4CORE"));
        let top = stack + 256 * 1024;
        // Behind the handler's look at the rights that it comes with.
        let trap = runtime.distance("baton_trap_open") - 3;
        // Where the vector registers 16 and up lie in the first frame of the stack, give or take.
        for back in (512..3072).step_by(64) {
            for signal in [libc::SIGALRM, libc::SIGSYS, libc::SIGSEGV] {
                arena.dies(
                    &format!("frame {trap:x} {:x} {signal:x} {core:x}", top - back),
                    "jumped past the check",
                );
            }
        }
    });
}
