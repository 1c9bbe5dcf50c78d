//! Signals, and faults of every kind.

use baton_abi::cell::{SEAT_BYTES, SEATS_AT, Trust};

use crate::arena::{Inside, VICTIM, both, one};

#[test]
fn signals_to_oneself_end_the_guest_alone() {
    one("signals", Trust::App, |arena| {
        for signal in 1..=64 {
            let answer = arena.ask(&format!("raise {signal:x}"));
            let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH].contains(&signal);
            // The C library keeps two of them for itself.
            if harmless || [32, 33].contains(&signal) {
                assert_eq!(answer.text(), "lives", "signal {signal}");
            } else {
                let ended = answer.is_error && answer.text().contains(&format!("by signal {signal}"));
                assert!(ended, "signal {signal}: {answer:?}");
            }
            arena.goes_on("raise");
        }
    });
}

#[test]
fn handlers_of_guests_never_run() {
    one("signals", Trust::Buffer, |arena| {
        for signal in [libc::SIGUSR1, libc::SIGALRM, libc::SIGSYS, libc::SIGSEGV, libc::SIGTERM] {
            assert_eq!(arena.says(&format!("handle {signal:x}")), "0 0", "signal {signal}");
        }
        for signal in [libc::SIGKILL, libc::SIGSTOP] {
            arena.dies(&format!("handle {signal:x}"), &format!("by signal {signal}"));
        }
    });
}

#[test]
fn every_kind_of_fault_is_the_guests_own() {
    both("signals", |arena| {
        for kind in 0..=15 {
            arena.dies(&format!("fault {kind:x}"), "villain ");
        }
        // A call to a hypervisor, which refuses it, or a fault where there is none.
        arena.ask("fault 10");
        arena.goes_on("fault 10");
    });
}

#[test]
fn signals_come_whatever_the_stack_pointer_is() {
    both("signals", |arena| {
        let inside = Inside::of(&arena.cell);
        let stack = inside.at("SIGNAL_STACK");
        let size = 256 << 10;
        let first = inside.word(inside.at("4arch4CORE") + 64);
        let mut places = vec![
            0,
            8,
            1,
            stack - 8,
            stack,
            stack + 8,
            stack + 100,
            stack + 4096,
            stack + 4097,
            stack + size / 2,
            first - 3000,
            first - 8,
            first,
            first + 8,
            first + 312,
            stack + size - 8,
            stack + size,
            stack + size + 8,
            inside.at("4arch4CORE"),
            inside.own_stack(),
            SEATS_AT + SEAT_BYTES + 4096,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        places.extend((1..56).map(|nth| first + 64 * nth));
        for at in places {
            // Enough of a loop for a tick or two now and then.
            let spins = if at % 4096 == 0 { 40_000_000 } else { 1000 };
            assert_eq!(arena.says(&format!("stack {at:x} {spins:x} 0")), "1", "stack pointer {at:#x}");
            arena.dies(&format!("stack {at:x} 1 1"), "illegal instruction");
        }
        assert_eq!(arena.ask_seat(VICTIM, "intact").text(), "intact");
    });
}

#[test]
fn signals_in_the_future_are_not_to_be_had() {
    one("signals", Trust::App, |arena| {
        let text = arena.says("timers");
        assert!(text.split(' ').all(|result| result.starts_with('-')), "{text}");
    });
}
