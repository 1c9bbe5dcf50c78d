//! Whatever a guest does: no panic, no effect outside of what is its own, books that are right, and an end to each call.

use proptest::prelude::*;

use super::fake::PAGES;
use super::{BASE, Guest, SCRATCH};
use crate::os::{Outcome, PAGE, ThreadId};

/// Something that happens to a guest.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Call {
        number: u64,
        args: [u64; 6],
    },
    /// It writes into the memory that its arguments point to.
    Poke {
        at: u64,
        words: Vec<u64>,
    },
    Park,
    Unpark(u8),
    Preempt,
    Next,
    Time(u32),
}

/// Numbers that a call may be made with: mostly those that are served.
fn numbers() -> impl Strategy<Value = u64> {
    const SERVED: &[i64] = &[
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_futex,
        libc::SYS_exit,
        libc::SYS_sched_yield,
        libc::SYS_nanosleep,
        libc::SYS_eventfd2,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_wait,
        libc::SYS_poll,
        libc::SYS_pipe2,
        libc::SYS_socketpair,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_openat,
        libc::SYS_getdents64,
        libc::SYS_dup3,
        libc::SYS_close,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_tkill,
    ];
    prop_oneof![
        6 => prop::sample::select(SERVED).prop_map(i64::cast_unsigned),
        4 => 0..480u64,
        1 => any::<u64>(),
    ]
}

/// Arguments: addresses in and around the seat, small numbers, flags, and anything at all.
fn words() -> impl Strategy<Value = u64> {
    const FLAGS: &[u64] = &[
        0x22,
        0x32,
        0x10_0022,
        0x3d_0f00,
        0x5_0f00,
        0x80,
        0x81,
        0x189,
        u64::MAX,
        i64::MAX as u64,
        1 << 63,
        0xffff_ff9c,
    ];
    prop_oneof![
        4 => 0..12u64,
        3 => (0..PAGES).prop_map(|page| BASE + page * PAGE),
        2 => (1..40u64).prop_map(|pages| pages * PAGE),
        4 => (0..512u64).prop_map(|word| SCRATCH + word * 8),
        2 => prop::sample::select(FLAGS),
        1 => (0..PAGES * PAGE).prop_map(|at| BASE + at),
        1 => any::<u64>(),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let args = || [words(), words(), words(), words(), words(), words()];
    prop_oneof![
        20 => (numbers(), args()).prop_map(|(number, args)| Step::Call { number, args }),
        4 => ((0..512u64), prop::collection::vec(words(), 1..12))
            .prop_map(|(word, words)| Step::Poke { at: SCRATCH + word * 8, words }),
        2 => Just(Step::Poke { at: SCRATCH, words: vec![u64::from_le_bytes(*b"/app/z\0\0")] }),
        1 => Just(Step::Park),
        1 => (0..70u8).prop_map(Step::Unpark),
        1 => Just(Step::Preempt),
        1 => Just(Step::Next),
        1 => any::<u32>().prop_map(Step::Time),
    ]
}

/// Takes steps until the guest ends.
pub(super) fn run(guest: &mut Guest, steps: &[Step]) {
    for step in steps {
        let outcome = match step {
            Step::Call { number, args } => guest.os.call(&mut guest.host, *number, *args),
            Step::Poke { at, words } => {
                // What lies behind the stack is not there.
                let room = ((BASE + 208 * PAGE - at) / 8) as usize;
                guest.host.poke_words(*at, &words[..words.len().min(room)]);
                continue;
            }
            Step::Park => guest.os.park(&mut guest.host),
            Step::Unpark(thread) => {
                guest.os.unpark(ThreadId(*thread));
                continue;
            }
            Step::Preempt => guest.os.preempt(&mut guest.host),
            Step::Next => guest.next(),
            Step::Time(nanos) => {
                guest.host.time += u64::from(*nanos);
                continue;
            }
        };
        check(guest, outcome);
        if matches!(outcome, Outcome::End(_)) {
            return;
        }
    }
}

/// What holds after every step.
fn check(guest: &Guest, outcome: Outcome) {
    let pages =
        guest.os.pages().flat_map(|(range, prot)| range.step_by(PAGE as usize).map(move |at| (at, prot)));
    assert!(
        pages.eq(guest.host.pages.iter().map(|(at, page)| (*at, page.prot))),
        "the list is what the host has"
    );
    assert_eq!(guest.os.memory(), guest.host.pages.len() as u64 * PAGE);
    assert!(guest.os.memory() <= 80 * PAGE);
    assert!((BASE..BASE + PAGES * PAGE).contains(&guest.host.fs_base) || guest.host.fs_base == 0);
    match outcome {
        Outcome::Switch(to) => assert_eq!(guest.os.current(), Some(to.thread)),
        Outcome::Idle { .. } => assert_eq!(guest.os.current(), None),
        Outcome::Return(_) | Outcome::Spawned(..) => assert!(guest.os.current().is_some()),
        Outcome::End(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_guest_asks_for_breaks_what_is_promised(steps in prop::collection::vec(steps(), 1..150)) {
        run(&mut Guest::new(), &steps);
    }

    #[test]
    fn a_host_that_fails_now_and_then_changes_nothing_about_that(
        steps in prop::collection::vec(steps(), 1..60),
        patience in 0..20u64,
    ) {
        let mut guest = Guest::new();
        guest.host.patience = patience;
        run(&mut guest, &steps);
    }
}
