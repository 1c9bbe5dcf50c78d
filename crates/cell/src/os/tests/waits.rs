//! Waiting for descriptors: `eventfd`, `poll`, `epoll`.

use super::fake::resumed;
use super::{BASE, Guest, SCRATCH, errno};
use crate::os::{Ending, Errno, Outcome, ThreadId};

const FIRST: ThreadId = ThreadId::FIRST;
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const FOREVER: u64 = u64::MAX;
const EVENTS: u64 = SCRATCH + 256;

fn eventfd(guest: &mut Guest, flags: i32) -> u64 {
    u64::try_from(guest.call(libc::SYS_eventfd2, [0, flags as u64])).unwrap()
}

fn add(guest: &mut Guest, fd: u64, value: u64) -> i64 {
    guest.host.poke_words(SCRATCH, &[value]);
    guest.call(libc::SYS_write, [fd, SCRATCH, 8])
}

fn control(guest: &mut Guest, epoll: u64, operation: i32, fd: u64, events: u32, token: u64) -> i64 {
    guest.host.poke(SCRATCH, &events.to_le_bytes());
    guest.host.poke(SCRATCH + 4, &token.to_le_bytes());
    guest.call(libc::SYS_epoll_ctl, [epoll, operation as u64, fd, SCRATCH])
}

/// An epoll set with one eventfd in it, of token 77.
fn set(guest: &mut Guest, events: u32) -> (u64, u64) {
    let epoll = u64::try_from(guest.call(libc::SYS_epoll_create1, [libc::EPOLL_CLOEXEC as u64])).unwrap();
    let fd = eventfd(guest, libc::EFD_NONBLOCK);
    assert_eq!(control(guest, epoll, libc::EPOLL_CTL_ADD, fd, events, 77), 0);
    (epoll, fd)
}

fn wait(guest: &mut Guest, epoll: u64, millis: u64) -> Outcome {
    guest.outcome(libc::SYS_epoll_pwait, [epoll, EVENTS, 8, millis, 0, 8])
}

fn clone(guest: &mut Guest) -> ThreadId {
    let flags = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
    match guest.outcome(libc::SYS_clone, [flags, SCRATCH]) {
        Outcome::Spawned(new, _) => new.thread,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_eventfd_counts() {
    let mut guest = Guest::new();
    let fd = eventfd(&mut guest, libc::EFD_NONBLOCK);
    assert_eq!(guest.call(libc::SYS_read, [fd, SCRATCH, 8]), errno(Errno::AGAIN));
    assert_eq!(add(&mut guest, fd, 3), 8);
    assert_eq!(add(&mut guest, fd, 4), 8);
    assert_eq!(add(&mut guest, fd, u64::MAX), errno(Errno::INVAL));
    assert_eq!(add(&mut guest, fd, u64::MAX - 7), errno(Errno::AGAIN));
    assert_eq!(guest.call(libc::SYS_read, [fd, SCRATCH, 7]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_read, [fd, BASE, 8]), errno(Errno::FAULT));
    assert_eq!(guest.call(libc::SYS_read, [fd, SCRATCH, 8]), 8);
    assert_eq!(guest.host.peek_u64(SCRATCH), 7);
    let semaphore = eventfd(&mut guest, libc::EFD_SEMAPHORE);
    add(&mut guest, semaphore, 2);
    assert_eq!(guest.call(libc::SYS_read, [semaphore, SCRATCH, 8]), 8);
    assert_eq!(guest.host.peek_u64(SCRATCH), 1);
    assert_eq!(guest.call(libc::SYS_eventfd2, [0, 2]), errno(Errno::INVAL));
}

#[test]
fn a_read_of_an_eventfd_waits_for_a_write() {
    let mut guest = Guest::new();
    let fd = eventfd(&mut guest, 0);
    assert_eq!(guest.clone().outcome(libc::SYS_read, [fd, SCRATCH, 8]), Outcome::End(Ending::Deadlock));
    let second = clone(&mut guest);
    assert_eq!(guest.switch(libc::SYS_read, [fd, SCRATCH + 64, 8]), (second, Some(0)));
    assert_eq!(add(&mut guest, fd, 9), 8);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (FIRST, Some(8)));
    assert_eq!(guest.host.peek_u64(SCRATCH + 64), 9);
}

#[test]
fn an_epoll_set_tells_what_is_ready() {
    let mut guest = Guest::new();
    let (epoll, fd) = set(&mut guest, IN | OUT);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(1));
    assert_eq!(guest.host.peek(EVENTS, 12), [4, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_MOD, fd, IN, 78), 0);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(0));
    add(&mut guest, fd, 1);
    for _ in 0..2 {
        assert_eq!(wait(&mut guest, epoll, FOREVER), Outcome::Return(1), "as long as it is so");
    }
    assert_eq!(guest.host.peek(EVENTS, 5), [1, 0, 0, 0, 78]);
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_ADD, fd, IN, 0), errno(Errno::EXIST));
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_DEL, fd, 0, 0), 0);
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_MOD, fd, IN, 0), errno(Errno::NOENT));
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_ADD, epoll, IN, 0), errno(Errno::INVAL));
    assert_eq!(control(&mut guest, fd, libc::EPOLL_CTL_ADD, fd, IN, 0), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_epoll_wait, [epoll, EVENTS, 0, 0]), errno(Errno::INVAL));
    let path = guest.text("/app/a/d");
    let file = guest.call(libc::SYS_open, [path, 0, 0]).cast_unsigned();
    assert_eq!(control(&mut guest, epoll, libc::EPOLL_CTL_ADD, file, IN, 0), errno(Errno::PERM));
}

#[test]
fn edges_are_told_once_each() {
    let mut guest = Guest::new();
    // As mio wakes its poll: it writes, and never reads.
    let (epoll, fd) = set(&mut guest, IN | EDGE);
    for _ in 0..2 {
        add(&mut guest, fd, 1);
        assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(1));
        assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(0));
    }
    let (epoll, fd) = set(&mut guest, IN | libc::EPOLLONESHOT as u32);
    add(&mut guest, fd, 1);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(1));
    add(&mut guest, fd, 1);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(0));
    control(&mut guest, epoll, libc::EPOLL_CTL_MOD, fd, IN, 0);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(1));
}

#[test]
fn a_wait_for_a_set_ends_with_a_wake_or_its_time() {
    let mut guest = Guest::new();
    // As Go's scheduler waits for its timers, and is woken by another thread.
    let (epoll, fd) = set(&mut guest, IN);
    let until = guest.host.time + 2_000_000;
    assert_eq!(wait(&mut guest, epoll, 2), Outcome::Idle { until_ns: Some(until) });
    guest.host.time += 1_999_999;
    assert_eq!(guest.next(), Outcome::Idle { until_ns: Some(until) });
    guest.host.time += 1;
    assert_eq!(resumed(guest.next()), (FIRST, Some(0)));
    let second = clone(&mut guest);
    assert_eq!(resumed(wait(&mut guest, epoll, FOREVER)), (second, Some(0)));
    // A change that makes nothing of the set ready: the call is tried again, and waits on.
    let other = eventfd(&mut guest, 0);
    add(&mut guest, other, 1);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (second, Some(0)));
    add(&mut guest, fd, 1);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (FIRST, Some(1)));
}

#[test]
fn closed_descriptors_leave_their_sets() {
    let mut guest = Guest::new();
    let (epoll, fd) = set(&mut guest, OUT);
    assert_eq!(guest.call(libc::SYS_dup, [fd]), 5);
    guest.call(libc::SYS_close, [fd]);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(1), "its duplicate is open");
    guest.call(libc::SYS_close, [5]);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(0));
    assert_eq!(eventfd(&mut guest, 0), fd);
    assert_eq!(wait(&mut guest, epoll, 0), Outcome::Return(0), "another file at the same number");
}

#[test]
fn poll_tells_what_is_ready_and_sleeps_otherwise() {
    let mut guest = Guest::new();
    let fd = eventfd(&mut guest, 0);
    let entry =
        |fd: i32, events: i16| u64::from(fd.cast_unsigned()) | u64::from(events.cast_unsigned()) << 32;
    // As Rust's runtime does at its start: nothing is asked, and nothing is missing.
    guest.host.poke_words(SCRATCH, &[entry(0, 0), entry(1, 0), entry(2, 0), entry(-1, 1), entry(99, 1)]);
    assert_eq!(guest.call(libc::SYS_poll, [SCRATCH, 5, 0]), 2);
    let got = |guest: &mut Guest, index: u64| guest.host.peek_u64(SCRATCH + index * 8) >> 48;
    assert_eq!([0, 1, 2, 3, 4].map(|index| got(&mut guest, index)), [0x10, 0, 0, 0, 0x20]);
    guest.host.poke_words(SCRATCH, &[entry(fd as i32, libc::POLLIN)]);
    let outcome = guest.outcome(libc::SYS_poll, [SCRATCH, 1, 5]);
    assert!(matches!(outcome, Outcome::Idle { until_ns: Some(_) }));
    guest.host.time += 5_000_000;
    assert_eq!(resumed(guest.next()), (FIRST, Some(0)));
    assert_eq!(guest.call(libc::SYS_poll, [SCRATCH, 257, 0]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_poll, [BASE, 1, 0]), errno(Errno::FAULT));
    assert!(matches!(guest.outcome(libc::SYS_poll, [0, 0, 5]), Outcome::Idle { .. }), "a way to sleep");
    guest.host.time += 5_000_000;
    assert_eq!(resumed(guest.next()), (FIRST, Some(0)));
    guest.host.poke_words(SCRATCH, &[0, 5]);
    assert!(
        matches!(guest.outcome(libc::SYS_select, [0, 0, 0, 0, SCRATCH]), Outcome::Idle { .. }),
        "another"
    );
}
