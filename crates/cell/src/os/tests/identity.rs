//! Who a guest is, its limits, signals that it raises, and what it is refused.

use super::{BASE, Guest, SCRATCH, errno};
use crate::os::refusal::name;
use crate::os::{Access, Config, ConfigError, Ending, Errno, Os, Outcome, PAGE, Segment};

fn end(guest: &mut Guest, number: i64, args: [u64; 3]) -> Ending {
    match guest.outcome(number, args) {
        Outcome::End(ending) => ending,
        other => panic!("{number} does not end it: {other:?}"),
    }
}

/// Sets what is done with a signal.
fn handle(guest: &mut Guest, signal: i32, handler: u64) {
    guest.host.poke_words(SCRATCH, &[handler, 0, 0, 0]);
    assert_eq!(guest.call(libc::SYS_rt_sigaction, [signal as u64, SCRATCH, 0, 8]), 0);
}

fn kill(signal: i32) -> [u64; 3] {
    [1, signal as u64, 0]
}

#[test]
fn a_guest_is_process_one_of_nobody() {
    let mut guest = Guest::new();
    for (number, value) in [
        (libc::SYS_getpid, 1),
        (libc::SYS_gettid, 1),
        (libc::SYS_getppid, 0),
        (libc::SYS_getuid, 65_534),
        (libc::SYS_getegid, 65_534),
        (libc::SYS_getpgrp, 1),
        (libc::SYS_sched_yield, 0),
    ] {
        assert_eq!(guest.call(number, [0; 3]), value, "{}", name(number.cast_unsigned()));
    }
    assert_eq!(guest.call(libc::SYS_uname, [SCRATCH]), 0);
    assert_eq!(guest.host.peek(SCRATCH, 6), b"Linux\0");
    assert_eq!(guest.host.peek(SCRATCH + 4 * 65, 7), b"x86_64\0");
    assert_eq!(guest.call(libc::SYS_sched_getaffinity, [0, 128, SCRATCH]), 8);
    assert_eq!(guest.host.peek_u64(SCRATCH), 1);
    assert_eq!(guest.call(libc::SYS_sched_getaffinity, [0, 7, SCRATCH]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_sysinfo, [SCRATCH]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 32), 80 * PAGE);
    assert_eq!(guest.call(libc::SYS_getrandom, [SCRATCH, 40, 0]), 40);
    assert_eq!(guest.host.peek(SCRATCH, 40), [0xa5; 40]);
    assert_eq!(guest.call(libc::SYS_getrandom, [SCRATCH, 40, 64]), errno(Errno::INVAL));
    assert_eq!(
        guest.call(libc::SYS_getrandom, [BASE + 208 * PAGE - 1500, u64::MAX, 0]),
        1024,
        "as far as it goes"
    );
}

#[test]
fn limits_can_be_read_and_not_changed() {
    let mut guest = Guest::new();
    let stack = u64::from(libc::RLIMIT_STACK);
    assert_eq!(guest.call(libc::SYS_prlimit64, [0, stack, 0, SCRATCH]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH), 8 * PAGE, "what new threads get by default");
    assert_eq!(guest.call(libc::SYS_setrlimit, [stack, SCRATCH]), 0, "as it is");
    guest.host.poke_words(SCRATCH, &[1 << 30, 1 << 30]);
    assert_eq!(guest.call(libc::SYS_setrlimit, [stack, SCRATCH]), errno(Errno::PERM));
    guest.host.poke_words(SCRATCH, &[2, 1]);
    assert_eq!(guest.call(libc::SYS_setrlimit, [stack, SCRATCH]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_prlimit64, [7, stack, 0, SCRATCH]), errno(Errno::SRCH));
    assert_eq!(guest.call(libc::SYS_getrlimit, [16, SCRATCH]), errno(Errno::INVAL));
}

#[test]
fn the_fs_base_stays_in_the_seat() {
    let mut guest = Guest::new();
    let (set, get) = (0x1002, 0x1003);
    assert_eq!(guest.call(libc::SYS_arch_prctl, [set, SCRATCH]), 0);
    assert_eq!(guest.host.fs_base, SCRATCH);
    for at in [0, BASE - 1, BASE + 256 * PAGE, 1 << 47, u64::MAX, 0x8000_0000_0000_0000] {
        assert_eq!(guest.call(libc::SYS_arch_prctl, [set, at]), errno(Errno::PERM), "{at:#x}");
    }
    assert_eq!(guest.call(libc::SYS_arch_prctl, [get, SCRATCH + 8]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 8), SCRATCH);
    assert_eq!(guest.call(libc::SYS_arch_prctl, [0x1001, SCRATCH]), errno(Errno::INVAL), "GS");
    assert_eq!(guest.call(libc::SYS_arch_prctl, [0x3001, SCRATCH]), errno(Errno::INVAL), "shadow stacks");
}

#[test]
fn a_signal_does_what_it_does_on_linux_but_for_handlers() {
    let mut guest = Guest::new();
    assert_eq!(end(&mut guest.clone(), libc::SYS_kill, kill(libc::SIGABRT)), Ending::Signal(libc::SIGABRT));
    assert_eq!(end(&mut guest.clone(), libc::SYS_tgkill, [1, 1, 6]), Ending::Signal(libc::SIGABRT));
    assert_eq!(end(&mut guest.clone(), libc::SYS_tkill, [1, 9, 0]), Ending::Signal(libc::SIGKILL));
    for signal in [libc::SIGURG, libc::SIGCHLD, libc::SIGWINCH, 0] {
        assert_eq!(guest.call(libc::SYS_kill, kill(signal)), 0);
    }
    assert_eq!(guest.call(libc::SYS_kill, [2, 15]), errno(Errno::SRCH));
    assert_eq!(guest.call(libc::SYS_tgkill, [1, 2, 15]), errno(Errno::SRCH));
    assert_eq!(guest.call(libc::SYS_tgkill, [2, 1, 15]), errno(Errno::SRCH));
    for signal in [-1, 65, i32::MIN, i32::MAX] {
        assert_eq!(guest.call(libc::SYS_kill, kill(signal)), errno(Errno::INVAL));
    }
    handle(&mut guest, libc::SIGTERM, 1);
    assert_eq!(guest.call(libc::SYS_kill, kill(libc::SIGTERM)), 0, "ignored");
    // As `abort` does it: with a handler first, then without.
    handle(&mut guest, libc::SIGABRT, 0x1234);
    assert_eq!(guest.call(libc::SYS_kill, kill(libc::SIGABRT)), 0, "dropped");
    assert_eq!(guest.host.refused, ["kill"]);
    handle(&mut guest, libc::SIGABRT, 0);
    assert_eq!(end(&mut guest, libc::SYS_kill, kill(libc::SIGABRT)), Ending::Signal(libc::SIGABRT));
}

#[test]
fn settings_of_signals_are_kept() {
    let mut guest = Guest::new();
    handle(&mut guest, libc::SIGSEGV, 0x1234);
    assert_eq!(guest.call(libc::SYS_rt_sigaction, [11, 0, SCRATCH + 64, 8]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 64), 0x1234);
    for signal in [9, 19] {
        assert_eq!(guest.call(libc::SYS_rt_sigaction, [signal, SCRATCH, 0, 8]), errno(Errno::INVAL));
    }
    for signal in [0, 65, u64::MAX] {
        assert_eq!(guest.call(libc::SYS_rt_sigaction, [signal, 0, 0, 8]), errno(Errno::INVAL));
    }
    assert_eq!(guest.call(libc::SYS_rt_sigaction, [11, 0, 0, 16]), errno(Errno::INVAL));
    guest.host.poke_words(SCRATCH, &[BASE, 0, 8192]);
    assert_eq!(guest.call(libc::SYS_sigaltstack, [SCRATCH, SCRATCH + 64]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 72), 2, "there was none");
    assert_eq!(guest.call(libc::SYS_sigaltstack, [0, SCRATCH + 64]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 64), BASE);
}

#[test]
fn a_blocked_signal_waits_until_it_is_unblocked() {
    let mut guest = Guest::new();
    let mask = |guest: &mut Guest, how: i32, set: u64| {
        guest.host.poke_words(SCRATCH, &[set]);
        guest.outcome(libc::SYS_rt_sigprocmask, [how as u64, SCRATCH, SCRATCH + 64, 8])
    };
    assert_eq!(mask(&mut guest, libc::SIG_BLOCK, u64::MAX), Outcome::Return(0));
    assert_eq!(mask(&mut guest, libc::SIG_BLOCK, 0), Outcome::Return(0));
    assert_eq!(guest.host.peek_u64(SCRATCH + 64), !(1 << 8 | 1 << 18), "but for those that cannot be");
    assert_eq!(guest.call(libc::SYS_kill, kill(libc::SIGTERM)), 0);
    assert_eq!(guest.call(libc::SYS_kill, kill(libc::SIGUSR1)), 0);
    assert_eq!(guest.call(libc::SYS_rt_sigpending, [SCRATCH + 64, 8]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 64), 1 << 14 | 1 << 9);
    guest.host.poke_words(SCRATCH, &[1 << 9]);
    assert_eq!(guest.call(libc::SYS_rt_sigtimedwait, [SCRATCH, SCRATCH + 64, 0, 8]), 10);
    assert_eq!(guest.host.peek(SCRATCH + 64, 4), [10, 0, 0, 0]);
    assert_eq!(mask(&mut guest, libc::SIG_UNBLOCK, 1 << 9), Outcome::Return(0));
    assert_eq!(mask(&mut guest, libc::SIG_SETMASK, 0), Outcome::End(Ending::Signal(libc::SIGTERM)));
}

#[test]
fn a_forged_return_from_a_signal_ends_the_compartment() {
    let mut guest = Guest::new();
    assert_eq!(end(&mut guest, libc::SYS_rt_sigreturn, [0; 3]), Ending::Signal(libc::SIGSEGV));
    assert_eq!(guest.host.refused, ["rt_sigreturn"]);
}

#[test]
fn what_is_not_served_fails_as_programs_expect() {
    let mut guest = Guest::new();
    for (number, expected) in [
        (libc::SYS_socket, Errno::ACCESS),
        (libc::SYS_fork, Errno::PERM),
        (libc::SYS_vfork, Errno::PERM),
        (libc::SYS_execve, Errno::PERM),
        (libc::SYS_ptrace, Errno::PERM),
        (libc::SYS_process_vm_writev, Errno::PERM),
        (libc::SYS_io_uring_setup, Errno::PERM),
        (libc::SYS_userfaultfd, Errno::PERM),
        (libc::SYS_pkey_alloc, Errno::NOSYS),
        (libc::SYS_rseq, Errno::NOSYS),
        (libc::SYS_timer_create, Errno::NOSYS),
        (libc::SYS_mkdirat, Errno::ROFS),
        (libc::SYS_wait4, Errno::CHILD),
        (336, Errno::NOSYS),
        (1 << 30, Errno::NOSYS),
        (1 << 30 | 9, Errno::NOSYS),
        (-1, Errno::NOSYS),
        (i64::MAX, Errno::NOSYS),
    ] {
        let before = guest.host.refused.len();
        assert_eq!(guest.call(number, [0; 6]), errno(expected), "{number}");
        assert_eq!(guest.host.refused.len(), before + 1, "it is told");
    }
    assert_eq!(
        guest.host.refused.iter().filter(|name| **name == "x32").count(),
        4,
        "by the convention's bit"
    );
    assert_eq!((name(0), name(334), name(335), name(424)), ("read", "rseq", "unknown", "pidfd_send_signal"));
    assert_eq!(
        (name(451), name(469), name(470), name(435)),
        ("cachestat", "file_setattr", "unknown", "clone3")
    );
}

#[test]
fn seats_that_contradict_themselves_are_refused() {
    let check = |change: &dyn Fn(&mut Config), expected: ConfigError| {
        let mut config = super::fake::config();
        change(&mut config);
        assert_eq!(Os::new(config).unwrap_err(), expected);
    };
    let at = |page: u64| BASE + page * PAGE;
    let code = |page: u64, len| Segment { at: at(page), len, access: Access::Execute };
    check(&|config| config.heap.start += 1, ConfigError::Range { at: at(9) + 1 });
    check(&|config| config.heap.end = config.heap.start, ConfigError::Range { at: at(9) });
    check(&|config| config.maps.end = config.seat.end + PAGE, ConfigError::Range { at: at(64) });
    check(&|config| config.maps.start = at(39), ConfigError::Overlap { at: at(39) });
    check(&|config| config.segments.push(code(8, PAGE)), ConfigError::Overlap { at: at(8) });
    check(&|config| config.segments.push(code(9, PAGE)), ConfigError::Overlap { at: at(9) });
    check(&|config| config.segments.push(code(9, u64::MAX)), ConfigError::Range { at: at(9) });
    check(&|config| config.segments.push(code(9, 0)), ConfigError::Range { at: at(9) });
    check(&|config| config.memory_limit = 14 * PAGE, ConfigError::Memory { needed: 15 * PAGE });
    assert!(Os::new(Config::at(BASE, vec![code(0, PAGE)], 1 << 26)).is_ok());
}
