//! Threads: who runs, who waits, and who wakes whom.

use super::fake::resumed;
use super::{BASE, Guest, SCRATCH, errno};
use crate::os::{Ending, Errno, NewThread, Outcome, PAGE, THREADS_MAX, ThreadId};

const FIRST: ThreadId = ThreadId::FIRST;
const WAIT: u64 = libc::FUTEX_WAIT as u64;
const WAKE: u64 = libc::FUTEX_WAKE as u64;
const WAIT_BITS: u64 = libc::FUTEX_WAIT_BITSET as u64;
const WAKE_BITS: u64 = libc::FUTEX_WAKE_BITSET as u64;
const PRIVATE: u64 = libc::FUTEX_PRIVATE_FLAG as u64;
/// As glibc's `pthread_create`.
const PTHREAD: u64 =
    GO | (libc::CLONE_SETTLS | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
/// As Go's `newosproc`.
const GO: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_SYSVSEM
    | libc::CLONE_THREAD) as u64;
/// Where threads keep what they wait for.
const WORD: u64 = SCRATCH + 512;

fn spawn(guest: &mut Guest) -> ThreadId {
    match guest.outcome(libc::SYS_clone, [GO, SCRATCH, 0, 0, 0]) {
        Outcome::Spawned(NewThread { thread, stack: SCRATCH }, _) => thread,
        other => panic!("no thread: {other:?}"),
    }
}

/// Lets the others run until each of them waits at `WORD` (in the order in which they were made), and the first runs.
fn all_wait(guest: &mut Guest, count: usize) -> Vec<ThreadId> {
    let threads: Vec<ThreadId> = (0..count).map(|_| spawn(guest)).collect();
    let mut last = guest.switch(libc::SYS_sched_yield, [0]);
    for thread in &threads {
        assert_eq!(last, (*thread, Some(0)));
        last = guest.switch(libc::SYS_futex, [WORD, WAIT | PRIVATE, 0, 0]);
    }
    assert_eq!(last, (FIRST, Some(0)));
    threads
}

fn order(guest: &mut Guest, count: usize) -> Vec<ThreadId> {
    (0..count)
        .map(|_| {
            let (thread, result) = guest.switch(libc::SYS_sched_yield, [0]);
            assert_eq!(result, Some(0));
            thread
        })
        .collect()
}

#[test]
fn a_thread_is_made_as_glibc_asks() {
    let mut guest = Guest::new();
    let (tls, parent, child) = (BASE + 7 * PAGE, SCRATCH + 8, SCRATCH + 16);
    let outcome = guest.outcome(libc::SYS_clone, [PTHREAD, SCRATCH, parent, child, tls]);
    let Outcome::Spawned(NewThread { thread, stack }, tid) = outcome else { panic!("{outcome:?}") };
    assert_eq!((stack, tid, thread.index()), (SCRATCH, 2, 1));
    assert_eq!(guest.host.peek(parent, 4), [2, 0, 0, 0]);
    let outcome = guest.outcome(libc::SYS_sched_yield, [0]);
    assert!(
        matches!(outcome, Outcome::Switch(to) if to.thread == thread && to.fs_base == tls && to.result == Some(0))
    );
    assert_eq!(guest.call(libc::SYS_gettid, [0]), 2);
    assert_eq!(guest.call(libc::SYS_getpid, [0]), 1);
    // The other one waits for its end, as `pthread_join` does.
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (FIRST, Some(0)));
    guest.host.poke(child, &[2, 0, 0, 0]);
    assert_eq!(guest.switch(libc::SYS_futex, [child, WAIT, 2, 0]), (thread, Some(0)));
    assert_eq!(guest.switch(libc::SYS_exit, [0]), (FIRST, Some(0)));
    assert_eq!(guest.host.peek(child, 4), [0; 4]);
    assert_eq!(guest.outcome(libc::SYS_exit, [300]), Outcome::End(Ending::Exit(44)), "the last one");
}

#[test]
fn a_thread_is_made_by_clone3() {
    let mut guest = Guest::new();
    let tls = BASE + 7 * PAGE;
    let words = [PTHREAD, 0, SCRATCH + 200, SCRATCH + 208, 0, BASE + 201 * PAGE, PAGE, tls, 0, 0, 0];
    guest.host.poke_words(SCRATCH, &words);
    let outcome = guest.outcome(libc::SYS_clone3, [SCRATCH, 88]);
    assert!(matches!(outcome, Outcome::Spawned(NewThread { stack, .. }, 2) if stack == BASE + 202 * PAGE));
    for size in [0, 63, u64::MAX] {
        let refused = guest.call(libc::SYS_clone3, [SCRATCH, size]);
        assert_eq!(refused, errno(if size == u64::MAX { Errno::TOOBIG } else { Errno::INVAL }));
    }
    let mut check = |change: (usize, u64), expected| {
        let mut words = words;
        words[change.0] = change.1;
        guest.host.poke_words(SCRATCH, &words);
        assert_eq!(guest.call(libc::SYS_clone3, [SCRATCH, 88]), errno(expected), "{change:x?}");
    };
    check((0, PTHREAD | libc::CLONE_NEWUSER as u64), Errno::INVAL);
    check((0, libc::CLONE_VM as u64), Errno::PERM);
    check((5, 0), Errno::INVAL);
    check((6, u64::MAX), Errno::INVAL);
    check((7, 0), Errno::PERM);
    check((9, 1), Errno::INVAL);
    check((10, 1), Errno::INVAL);
}

#[test]
fn processes_and_strange_threads_are_refused() {
    let mut guest = Guest::new();
    let mut clone = |flags: u64, stack: u64, tls: u64| guest.call(libc::SYS_clone, [flags, stack, 0, 0, tls]);
    assert_eq!(clone(17, 0, 0), errno(Errno::PERM), "fork");
    assert_eq!(
        clone((libc::CLONE_VM | libc::CLONE_VFORK) as u64 | 17, SCRATCH, 0),
        errno(Errno::PERM),
        "spawn"
    );
    assert_eq!(clone(GO, 0, 0), errno(Errno::INVAL), "no stack");
    assert_eq!(clone(GO | libc::CLONE_NEWNS as u64, SCRATCH, 0), errno(Errno::INVAL));
    assert_eq!(clone(PTHREAD, SCRATCH, BASE - 8), errno(Errno::PERM), "its FS base is not in the seat");
    assert_eq!(guest.host.refused.len(), 5);
}

#[test]
fn there_are_so_many_threads_and_slots_are_used_again() {
    let mut guest = Guest::new();
    let threads: Vec<ThreadId> = (1..THREADS_MAX).map(|_| spawn(&mut guest)).collect();
    assert_eq!(guest.call(libc::SYS_clone, [GO, SCRATCH, 0, 0, 0]), errno(Errno::AGAIN));
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]).0, threads[0]);
    assert_eq!(guest.switch(libc::SYS_exit, [0]).0, threads[1]);
    assert_eq!(spawn(&mut guest), threads[0]);
    assert_eq!(guest.call(libc::SYS_tkill, [2, 0]), errno(Errno::SRCH), "numbers are not used again so soon");
    assert_eq!(guest.call(libc::SYS_tkill, [65, 0]), 0);
}

#[test]
fn wakes_come_in_the_order_of_the_waits() {
    let mut guest = Guest::new();
    let threads = all_wait(&mut guest, 4);
    assert_eq!(guest.call(libc::SYS_futex, [WORD + 4, WAKE, 9]), 0, "elsewhere");
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAKE, 2]), 2);
    assert_eq!(order(&mut guest, 3), [threads[0], threads[1], FIRST]);
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAKE | PRIVATE, i32::MAX as u64]), 2);
}

#[test]
fn waiters_can_be_moved() {
    let mut guest = Guest::new();
    let threads = all_wait(&mut guest, 4);
    let other = WORD + 8;
    let compare = libc::FUTEX_CMP_REQUEUE as u64;
    assert_eq!(guest.call(libc::SYS_futex, [WORD, compare, 1, 2, other, 5]), errno(Errno::AGAIN));
    assert_eq!(guest.call(libc::SYS_futex, [WORD, compare, 1, 2, other, 0]), 3);
    assert_eq!(guest.call(libc::SYS_futex, [other, WAKE, 9]), 2);
    assert_eq!(order(&mut guest, 3), threads[..3]);
    assert_eq!(
        guest.call(libc::SYS_futex, [WORD, libc::FUTEX_REQUEUE as u64, 0, u64::MAX, other]),
        errno(Errno::INVAL)
    );
}

#[test]
fn bits_choose_whom_to_wake() {
    let mut guest = Guest::new();
    let thread = spawn(&mut guest);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]).0, thread);
    assert_eq!(guest.switch(libc::SYS_futex, [WORD, WAIT_BITS, 0, 0, 0, 0b100]).0, FIRST);
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAKE_BITS, 9, 0, 0, 0b011]), 0);
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAKE_BITS, 9, 0, 0, 0]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAKE_BITS, 9, 0, 0, 0b110]), 1);
}

#[test]
fn a_futex_checks_what_it_is_given() {
    let mut guest = Guest::new();
    let mut futex =
        |at: u64, op: u64, value: u64, timeout: u64| guest.call(libc::SYS_futex, [at, op, value, timeout]);
    assert_eq!(futex(WORD, WAIT, 1, 0), errno(Errno::AGAIN), "it is 0");
    assert_eq!(futex(WORD + 1, WAIT, 0, 0), errno(Errno::INVAL));
    assert_eq!(futex(BASE, WAIT, 0, 0), errno(Errno::FAULT));
    assert_eq!(futex(WORD, WAIT, 0, 1), errno(Errno::FAULT));
    assert_eq!(futex(WORD, 6, 0, 0), errno(Errno::NOSYS), "priority inheritance");
    assert_eq!(futex(u64::MAX - 3, WAKE, 1, 0), 0);
    guest.host.poke_words(SCRATCH, &[0, 1_000_000_000]);
    assert_eq!(guest.call(libc::SYS_futex, [WORD, WAIT, 0, SCRATCH]), errno(Errno::INVAL));
}

#[test]
fn waits_end_when_their_time_is_up() {
    let mut guest = Guest::new();
    guest.host.poke_words(SCRATCH, &[0, 500]);
    let until = guest.host.time + 500;
    assert_eq!(
        guest.outcome(libc::SYS_futex, [WORD, WAIT, 0, SCRATCH]),
        Outcome::Idle { until_ns: Some(until) }
    );
    assert_eq!(guest.next(), Outcome::Idle { until_ns: Some(until) }, "not yet");
    guest.host.time += 500;
    assert_eq!(resumed(guest.next()), (FIRST, Some(errno(Errno::TIMEDOUT))));
    // An absolute time of the clock on the wall, which has passed.
    let late = WAIT_BITS | libc::FUTEX_CLOCK_REALTIME as u64;
    assert_eq!(
        guest.switch(libc::SYS_futex, [WORD, late, 0, SCRATCH, 0, 1]),
        (FIRST, Some(errno(Errno::TIMEDOUT)))
    );
    guest.host.poke_words(SCRATCH, &[i64::MAX as u64, 0]);
    let outcome = guest.outcome(libc::SYS_futex, [WORD, WAIT, 0, SCRATCH]);
    assert_eq!(outcome, Outcome::Idle { until_ns: Some(u64::MAX) }, "the end of time");
}

#[test]
fn nobody_left_to_wake_anybody_is_the_end() {
    let mut guest = Guest::new();
    assert_eq!(guest.clone().outcome(libc::SYS_futex, [WORD, WAIT, 0, 0]), Outcome::End(Ending::Deadlock));
    assert_eq!(guest.clone().outcome(libc::SYS_pause, [0]), Outcome::End(Ending::Deadlock));
    spawn(&mut guest);
    guest.switch(libc::SYS_futex, [WORD, WAIT, 0, 0]);
    assert_eq!(guest.clone().outcome(libc::SYS_futex, [WORD, WAIT, 0, 0]), Outcome::End(Ending::Deadlock));
    assert_eq!(guest.outcome(libc::SYS_exit, [0]), Outcome::End(Ending::Deadlock));
}

#[test]
fn sleepers_let_others_run_and_wake_in_time() {
    let mut guest = Guest::new();
    let thread = spawn(&mut guest);
    guest.host.poke_words(SCRATCH, &[0, 300, 0, 100]);
    let now = guest.host.time;
    assert_eq!(guest.switch(libc::SYS_nanosleep, [SCRATCH, 0]), (thread, Some(0)));
    let outcome = guest.outcome(libc::SYS_clock_nanosleep, [1, 0, SCRATCH + 16, 0]);
    assert_eq!(outcome, Outcome::Idle { until_ns: Some(now + 100) });
    guest.host.time += 1000;
    assert_eq!(resumed(guest.next()), (FIRST, Some(0)), "it began to sleep first");
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (thread, Some(0)));
    for words in [[u64::MAX, 0], [0, 1_000_000_000], [0, u64::MAX]] {
        guest.host.poke_words(SCRATCH, &words);
        assert_eq!(guest.call(libc::SYS_nanosleep, [SCRATCH, 0]), errno(Errno::INVAL));
    }
    assert_eq!(guest.call(libc::SYS_nanosleep, [0, 0]), errno(Errno::FAULT));
}

#[test]
fn an_event_for_a_gate_goes_before_those_that_are_ready() {
    let mut guest = Guest::new();
    let second = spawn(&mut guest);
    let third = spawn(&mut guest);
    assert!(!guest.os.unpark(FIRST), "it is in no gate");
    assert_eq!(resumed(guest.os.park(&mut guest.host)), (second, Some(0)));
    assert!(guest.os.unpark(FIRST) && !guest.os.unpark(FIRST));
    assert_eq!(resumed(guest.next()), (FIRST, None), "the result is the gate's");
    assert_eq!(
        guest.switch(libc::SYS_sched_yield, [0]),
        (second, None),
        "it was chosen and its result taken"
    );
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (third, Some(0)));
    // All in gates, and nothing comes: that is no deadlock.
    resumed(guest.os.park(&mut guest.host));
    resumed(guest.os.park(&mut guest.host));
    assert_eq!(guest.os.park(&mut guest.host), Outcome::Idle { until_ns: None });
    assert_eq!(guest.os.current(), None);
    assert_eq!(
        guest.outcome(libc::SYS_getpid, [0]),
        Outcome::Idle { until_ns: None },
        "nobody could have called"
    );
    assert!(guest.os.unpark(third) && guest.os.unpark(FIRST));
    assert_eq!(resumed(guest.next()).0, third, "events in their order");
}

#[test]
fn a_preempted_thread_goes_to_the_back_with_its_registers_as_they_are() {
    let mut guest = Guest::new();
    let second = spawn(&mut guest);
    let preempt = |guest: &mut Guest| resumed(guest.os.preempt(&mut guest.host));
    assert_eq!(preempt(&mut guest), (second, Some(0)));
    assert_eq!(preempt(&mut guest), (FIRST, None));
    assert_eq!(preempt(&mut guest), (second, None));
    assert_eq!(guest.switch(libc::SYS_exit, [0]), (FIRST, None));
    assert_eq!(preempt(&mut guest), (FIRST, None), "alone");
    assert_eq!(guest.call(libc::SYS_sched_yield, [0]), 0);
}

#[test]
fn a_thread_can_be_set_aside_before_anybody_is_chosen() {
    let mut guest = Guest::new();
    assert!(guest.os.is_single());
    let second = spawn(&mut guest);
    assert!(!guest.os.is_single());
    guest.os.park_aside();
    assert_eq!((guest.os.current(), guest.os.due()), (None, Some(0)), "the other one is ready");
    assert_eq!(resumed(guest.next()), (second, Some(0)));
    guest.os.preempt_aside();
    assert_eq!((guest.os.current(), guest.os.due()), (None, Some(0)));
    assert_eq!(resumed(guest.next()), (second, None));
    guest.host.poke_words(SCRATCH, &[0, 100]);
    let until = guest.host.time + 100;
    assert_eq!(guest.outcome(libc::SYS_nanosleep, [SCRATCH, 0]), Outcome::Idle { until_ns: Some(until) });
    assert_eq!(guest.os.due(), Some(until));
}

#[test]
fn the_whole_guest_ends_with_any_thread() {
    let mut guest = Guest::new();
    spawn(&mut guest);
    assert_eq!(guest.clone().outcome(libc::SYS_exit_group, [7]), Outcome::End(Ending::Exit(7)));
    guest.switch(libc::SYS_exit, [7]);
    assert_eq!(guest.outcome(libc::SYS_exit_group, [0x1_0000_0102]), Outcome::End(Ending::Exit(2)));
}
