//! System calls that guests must not have, and ways to make some that the runtime does not expect.

use baton_abi::cell::{
    GATE_PAGE_AT, MAIL_OFFSET, POOL_AT, SEAT_BYTES, SEATS_AT, STACK_BYTES, STACK_TOP, Trust,
};

use crate::arena::{Arena, Inside, Runtime, VICTIM, both, one};

fn numbers(text: &str) -> Vec<i64> {
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

fn runtime_data(arena: &Arena) -> [u64; 3] {
    let inside = Inside::of(&arena.cell);
    [inside.at("4arch4CORE"), inside.at("4arch5SHARE"), inside.at("SIGNAL_STACK")]
}

/// The numbers of calls that succeeded, of those that `text` names.
fn successes(text: &str) -> Vec<i64> {
    let number = |word: &str| word.split_once('=').and_then(|(number, _)| number.parse().ok());
    text.split_whitespace().filter_map(number).collect()
}

/// What may succeed with arguments that mean nothing: it has no effect beyond the guest.
const HARMLESS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_lseek,
    libc::SYS_brk,
    libc::SYS_mprotect,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pipe,
    libc::SYS_sched_yield,
    libc::SYS_madvise,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_getpid,
    libc::SYS_kill,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_umask,
    libc::SYS_gettimeofday,
    libc::SYS_getrlimit,
    libc::SYS_times,
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_setrlimit,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_getppid,
    libc::SYS_getpgrp,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_sigaltstack,
    libc::SYS_personality,
    libc::SYS_getpriority,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_prctl,
    libc::SYS_gettid,
    libc::SYS_readahead,
    libc::SYS_time,
    libc::SYS_futex,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_set_tid_address,
    libc::SYS_fadvise64,
    libc::SYS_clock_getres,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_set_robust_list,
    libc::SYS_eventfd,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_pipe2,
    libc::SYS_prlimit64,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_membarrier,
    libc::SYS_close_range,
    libc::SYS_tkill,
];

#[track_caller]
fn only_harmless(text: &str) {
    for number in successes(text) {
        assert!(HARMLESS.contains(&number), "system call {number} succeeded: {text}");
    }
}

#[test]
fn no_number_does_anything_outside() {
    both("syscalls", |arena| {
        let [core, ..] = runtime_data(arena);
        let arguments = [
            [0; 6],
            [u64::MAX; 6],
            [core; 6],
            [0, core, 64, core, core, 0],
            [1, core, 8, 0, 0, 0],
            [POOL_AT + (200 << 20); 6],
        ];
        for [a, b, c, d, e, f] in arguments {
            // In parts, each of which has its time.
            for from in (0..480).step_by(40) {
                let order = format!("all {from:x} {:x} 0 {a:x} {b:x} {c:x} {d:x} {e:x} {f:x}", from + 40);
                let answer = arena.ask(&order);
                // A wait without an end is one that the guest made itself.
                assert!(
                    !answer.is_error || answer.text().contains("waits for itself"),
                    "{order}: {answer:?}"
                );
                only_harmless(&answer.text());
                arena.goes_on(&order);
            }
        }
    });
}

#[test]
fn numbers_with_the_x32_bit_are_unknown() {
    one("syscalls", Trust::App, |arena| {
        for from in (0..560).step_by(80) {
            let text = arena.says(&format!("all {from:x} {:x} 40000000 0 0 0 0 0 0", from + 80));
            assert_eq!(text, "", "x32");
        }
        for bits in [1u64 << 31, 1 << 29] {
            let text = arena.says(&format!("all 0 50 {bits:x} 0 0 0 0 0 0"));
            assert_eq!(text, "", "bits {bits:#x}");
        }
    });
}

#[test]
fn the_32_bit_ways_in_lead_nowhere() {
    one("syscalls", Trust::App, |arena| {
        // exit, fork, write, mmap, mprotect, sigreturn, rt_sigreturn, as that way numbers them.
        for number in [1, 2, 4, 90, 125, 119, 173, 0x4000_0001, 0xffff_ffff_u64] {
            let answer = arena.ask(&format!("legacy {number:x} 1 0 0"));
            assert!(!answer.is_error || answer.text().contains("villain"), "{answer:?}");
            arena.goes_on("legacy");
        }
        for number in [1, 2, 4, 125, 173] {
            let answer = arena.ask(&format!("enter {number:x}"));
            assert!(answer.is_error, "sysenter {number}: {answer:?}");
            arena.goes_on("enter");
        }
    });
}

#[test]
fn the_kernels_own_pages_serve_nobody_against_the_cell() {
    one("syscalls", Trust::App, |arena| {
        let [core, ..] = runtime_data(arena);
        for call in [0xffff_ffff_ff60_0000_u64, 0xffff_ffff_ff60_0400, 0xffff_ffff_ff60_0800] {
            // Into one's own memory, and into the runtime's.
            for out in [0, core, 1] {
                let answer = arena.ask(&format!("vsyscall {call:x} {out:x}"));
                assert!(!answer.is_error || answer.text().contains("touched memory"), "{answer:?}");
                arena.goes_on("vsyscall");
            }
        }
        let inside = Inside::of(&arena.cell);
        let vdso = inside.maps.iter().find(|(.., name)| name == "[vdso]").expect("the kernel's object").0;
        for offset in (0x400..0x1000).step_by(16) {
            arena.ask(&format!("vsyscall {:x} 0", vdso + offset));
        }
        arena.goes_on("the kernel's object");
    });
}

#[test]
fn other_code_segments_lead_nowhere() {
    one("syscalls", Trust::App, |arena| {
        let code = SEATS_AT + 0x10000;
        let wrong =
            [(0x23, 0x1000), (0x23, code), (0x10, code), (0, code), (0x7, code), (0x2b, code), (0xf, 0)];
        for (selector, at) in wrong {
            let answer = arena.ask(&format!("far {selector:x} {at:x}"));
            assert!(answer.is_error, "{selector:#x}: {answer:?}");
            arena.goes_on("far");
        }
    });
}

#[test]
fn memory_to_run_is_not_to_be_had() {
    both("syscalls", |arena| {
        let results = numbers(&arena.says("executable 0"));
        let (personality, ways) = results.split_last().expect("results");
        assert!(ways.iter().all(|result| *result < 0), "{results:?}");
        assert_eq!(*personality, 0, "asked, and forgotten");
        arena.dies("executable 1", "that it does not have");
        assert!(Inside::of(&arena.cell).maps.iter().all(|(_, _, access, _)| !access.contains("wx")));
    });
}

#[test]
fn mappings_of_others_are_not_changed() {
    both("syscalls", |arena| {
        let inside = Inside::of(&arena.cell);
        let neighbour = SEATS_AT + SEAT_BYTES;
        let page = !4095;
        let mut places = vec![
            0,
            0x10000,
            GATE_PAGE_AT,
            POOL_AT,
            neighbour,
            neighbour + 0x1000,
            SEATS_AT - 4096,
            // The end of the own seat, the own stack, mail and code.
            SEATS_AT + SEAT_BYTES - 4096,
            SEATS_AT + STACK_TOP - STACK_BYTES,
            SEATS_AT + MAIL_OFFSET,
            SEATS_AT + 0x9000,
            inside.at("4arch4CORE") & page,
            inside.at("baton_gates") & page,
            0x7fff_ffff_f000,
            0xffff_8000_0000_0000,
        ];
        places.extend(inside.maps.iter().filter(|(from, ..)| *from > POOL_AT).map(|(from, ..)| *from));
        for at in places {
            for len in [4096u64, 1 << 37, u64::MAX - 4095] {
                let results = numbers(&arena.says(&format!("ranges {at:x} {len:x}")));
                assert!(results.iter().all(|result| *result < 0), "{len:#x} bytes at {at:#x}: {results:?}");
            }
        }
        // What lies around the seats is as it was.
        let keep = |(from, to, access, name): &(u64, u64, String, String)| {
            let seats = SEATS_AT..SEATS_AT + 2 * SEAT_BYTES;
            (!seats.contains(from) && name != "[heap]" && !name.is_empty())
                .then(|| (*from, *to, access.clone(), name.clone()))
        };
        let list = |inside: &Inside| inside.maps.iter().filter_map(keep).collect::<Vec<_>>();
        assert_eq!(list(&inside), list(&Inside::of(&arena.cell)));
    });
}

#[test]
fn keys_and_bases_are_not_the_guests_to_change() {
    both("syscalls", |arena| {
        assert!(numbers(&arena.says("keys")).iter().all(|result| *result < 0));
        let [core, share, stack] = runtime_data(arena);
        for at in
            [core, share, stack, 0, SEATS_AT - 1, SEATS_AT + SEAT_BYTES, 0xdead_0000_0000_0000, u64::MAX]
        {
            assert!(
                numbers(&arena.says(&format!("bases {at:x}"))).iter().all(|result| *result < 0),
                "{at:#x}"
            );
        }
    });
}

#[test]
fn other_processes_are_out_of_reach() {
    both("syscalls", |arena| {
        let [core, ..] = runtime_data(arena);
        let secret = arena.ask_seat(VICTIM, "where").text();
        let secret = secret.split(' ').next().unwrap_or_default().to_owned();
        let own = std::process::id();
        // Itself by the number that it knows, the test's and its neighbour's, and everybody.
        for pid in [1, own - 1, own, u32::MAX] {
            for at in [format!("{core:x}"), secret.clone()] {
                let answer = arena.ask(&format!("others {pid:x} {at}"));
                // It may end itself.
                let ended = answer.is_error && answer.text().contains("ended itself by signal 9");
                let refused = !answer.is_error && numbers(&answer.text()).iter().all(|result| *result < 0);
                assert!(refused || ended && (pid == 1 || pid == u32::MAX), "{pid}: {answer:?}");
                arena.goes_on("others");
            }
        }
    });
}

#[test]
fn calls_do_not_read_or_write_for_a_guest_what_it_could_not() {
    both("syscalls", |arena| {
        let [core, share, stack] = runtime_data(arena);
        let secret = arena.ask_seat(VICTIM, "where").text();
        let secret =
            u64::from_str_radix(secret.split(' ').next().unwrap_or_default(), 16).expect("an address");
        let pool = POOL_AT + (200 << 20);
        for at in [core, share, stack, secret, GATE_PAGE_AT, pool, 0xffff_8000_0000_0000, u64::MAX - 8] {
            let results = numbers(&arena.says(&format!("deputy {at:x}")));
            assert!(results.iter().all(|result| *result < 0), "{at:#x}: {results:?}");
        }
        arena.cell.listen();
        let leaked = arena.cell.said.iter().any(|line| line.contains('\u{fffd}'));
        assert!(!leaked, "the log has something of someone else's");
    });
}

#[test]
fn forged_signal_frames_are_the_end() {
    both("syscalls", |arena| {
        let landing = SEATS_AT + 0x10000;
        arena.dies(&format!("frame {landing:x}"), "ended itself by signal 11");
    });
}

#[test]
fn instructions_of_the_runtime_make_the_guests_calls() {
    one("syscalls", Trust::App, |arena| {
        let gates = Inside::of(&arena.cell).at("baton_gates");
        let runtime = Runtime::new();
        // Of the C library: whatever follows the instruction there, the call is the guest's.
        for symbol in ["syscall", "__restore_rt"] {
            let at = gates.wrapping_add(runtime.distance(symbol));
            for offset in 0..48 {
                // getpid, rt_sigreturn, exit_group
                for number in [39, 15, 231] {
                    arena.ask(&format!("at {:x} {number:x}", at + offset));
                }
            }
            arena.goes_on(symbol);
        }
    });
}
