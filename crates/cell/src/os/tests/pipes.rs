//! Pipes and pairs of sockets.

use super::{BASE, Guest, SCRATCH, errno};
use crate::os::{Ending, Errno, Outcome, ThreadId};

const NONBLOCK: i32 = libc::O_NONBLOCK;
const UNIX: u64 = libc::AF_UNIX as u64;
const STREAM: u64 = libc::SOCK_STREAM as u64;

/// The two descriptors that a call wrote.
fn pair(guest: &mut Guest) -> (u64, u64) {
    let both = guest.host.peek_u64(SCRATCH);
    (both & 0xffff_ffff, both >> 32)
}

fn pipe(guest: &mut Guest, flags: i32) -> (u64, u64) {
    assert_eq!(guest.call(libc::SYS_pipe2, [SCRATCH, flags as u64]), 0);
    pair(guest)
}

fn write(guest: &mut Guest, fd: u64, text: &str) -> i64 {
    let at = guest.text(text);
    guest.call(libc::SYS_write, [fd, at, text.len() as u64])
}

fn read(guest: &mut Guest, fd: u64) -> Result<Vec<u8>, i64> {
    match guest.call(libc::SYS_read, [fd, SCRATCH, 2000]) {
        got @ 0.. => Ok(guest.host.peek(SCRATCH, got as usize)),
        error => Err(error),
    }
}

#[test]
fn what_goes_in_comes_out_in_order() {
    let mut guest = Guest::new();
    let (from, to) = pipe(&mut guest, NONBLOCK);
    assert_eq!((from, to), (3, 4));
    assert_eq!(read(&mut guest, from), Err(errno(Errno::AGAIN)));
    assert_eq!((write(&mut guest, to, "one"), write(&mut guest, to, "two")), (3, 3));
    assert_eq!(guest.call(libc::SYS_read, [from, SCRATCH, 2]), 2);
    assert_eq!(guest.host.peek(SCRATCH, 2), b"on");
    assert_eq!(read(&mut guest, from), Ok(b"etwo".to_vec()));
    assert_eq!(write(&mut guest, from, "x"), errno(Errno::BADF));
    assert_eq!(read(&mut guest, to), Err(errno(Errno::BADF)));
    assert_eq!(guest.call(libc::SYS_lseek, [from, 0, 0]), errno(Errno::SPIPE));
    write(&mut guest, to, "end");
    guest.call(libc::SYS_close, [to]);
    assert_eq!(read(&mut guest, from), Ok(b"end".to_vec()));
    assert_eq!(read(&mut guest, from), Ok(Vec::new()), "nobody writes any more");
}

#[test]
fn a_small_write_is_done_as_a_whole_and_a_large_one_in_part() {
    let mut guest = Guest::new();
    let (from, to) = pipe(&mut guest, NONBLOCK);
    let stack = BASE + 200 * 4096;
    assert_eq!(guest.call(libc::SYS_write, [to, stack, 4000]), 4000);
    assert_eq!(guest.call(libc::SYS_write, [to, stack, 97]), errno(Errno::AGAIN));
    assert_eq!(guest.call(libc::SYS_write, [to, stack, 8000]), 96);
    assert_eq!(guest.call(libc::SYS_write, [to, stack, 8000]), errno(Errno::AGAIN));
    assert_eq!(guest.call(libc::SYS_read, [from, stack, u64::MAX]), 4096);
    assert_eq!(guest.call(libc::SYS_write, [to, BASE, 8]), errno(Errno::FAULT));
    assert_eq!(guest.call(libc::SYS_write, [to, stack, u64::MAX]), 4096);
}

#[test]
fn a_write_that_nobody_reads_raises_a_signal() {
    let mut guest = Guest::new();
    let (from, to) = pipe(&mut guest, 0);
    guest.call(libc::SYS_close, [from]);
    let at = guest.text("x");
    let end = guest.clone().outcome(libc::SYS_write, [to, at, 1]);
    assert_eq!(end, Outcome::End(Ending::Signal(libc::SIGPIPE)));
    guest.host.poke_words(SCRATCH, &[1, 0, 0, 0]);
    guest.call(libc::SYS_rt_sigaction, [libc::SIGPIPE as u64, SCRATCH, 0, 8]);
    assert_eq!(write(&mut guest, to, "x"), errno(Errno::PIPE), "ignored, as Rust does");
}

#[test]
fn threads_wait_for_one_another_at_a_pipe() {
    let mut guest = Guest::new();
    let (from, to) = pipe(&mut guest, 0);
    let flags = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
    let Outcome::Spawned(new, _) = guest.outcome(libc::SYS_clone, [flags, SCRATCH]) else {
        panic!("no thread")
    };
    assert_eq!(guest.switch(libc::SYS_read, [from, SCRATCH, 8]), (new.thread, Some(0)));
    assert_eq!(write(&mut guest, to, "hello"), 5);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (ThreadId::FIRST, Some(5)));
    assert_eq!(guest.host.peek(SCRATCH, 5), b"hello");
    assert_eq!(guest.switch(libc::SYS_read, [from, SCRATCH, 8]), (new.thread, Some(0)));
    guest.call(libc::SYS_close, [to]);
    assert_eq!(guest.switch(libc::SYS_sched_yield, [0]), (ThreadId::FIRST, Some(0)), "its end is told");
}

#[test]
fn a_pair_of_sockets_wakes_an_event_loop() {
    let mut guest = Guest::new();
    let flags = STREAM | (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u64;
    assert_eq!(guest.call(libc::SYS_socketpair, [UNIX, flags, 0, SCRATCH]), 0);
    let (one, other) = pair(&mut guest);
    let epoll = guest.call(libc::SYS_epoll_create1, [0]).cast_unsigned();
    let edges = (libc::EPOLLIN | libc::EPOLLET) as u64;
    guest.host.poke_words(SCRATCH, &[edges & 0xffff_ffff | 9 << 32, 0]);
    assert_eq!(guest.call(libc::SYS_epoll_ctl, [epoll, 1, one, SCRATCH]), 0);
    let wait = |guest: &mut Guest| guest.call(libc::SYS_epoll_wait, [epoll, SCRATCH, 8, 0]);
    assert_eq!(wait(&mut guest), 0);
    for _ in 0..2 {
        assert_eq!(write(&mut guest, other, "w"), 1);
        assert_eq!((wait(&mut guest), wait(&mut guest)), (1, 0), "each write, once");
    }
    let at = guest.text("w");
    let receive = |guest: &mut Guest| guest.call(libc::SYS_recvfrom, [one, SCRATCH, 100, 0, 0, 0]);
    assert_eq!((receive(&mut guest), receive(&mut guest)), (2, errno(Errno::AGAIN)));
    assert_eq!(guest.call(libc::SYS_sendto, [one, at, 1, libc::MSG_NOSIGNAL as u64, 0, 0]), 1);
    assert_eq!(guest.call(libc::SYS_sendto, [one, at, 1, 0, SCRATCH, 16]), errno(Errno::OPNOTSUPP));
    assert_eq!(read(&mut guest, other), Ok(b"w".to_vec()));
    assert_eq!(guest.call(libc::SYS_recvfrom, [0, SCRATCH, 1, 0, 0, 0]), errno(Errno::NOTSOCK));
    guest.call(libc::SYS_close, [other]);
    assert_eq!(wait(&mut guest), 1, "its end");
    assert_eq!(
        guest.call(libc::SYS_sendto, [one, at, 1, libc::MSG_NOSIGNAL as u64, 0, 0]),
        errno(Errno::PIPE)
    );
    for (family, kind) in [(libc::AF_INET as u64, STREAM), (UNIX, libc::SOCK_DGRAM as u64)] {
        assert_eq!(guest.call(libc::SYS_socketpair, [family, kind, 0, SCRATCH]), errno(Errno::ACCESS));
    }
}

#[test]
fn pipes_run_out_and_come_back() {
    let mut guest = Guest::new();
    let opened: Vec<(u64, u64)> = (0..15).map(|_| pipe(&mut guest, 0)).collect();
    assert_eq!(guest.call(libc::SYS_socketpair, [UNIX, STREAM, 0, SCRATCH]), errno(Errno::NFILE));
    assert_eq!(guest.call(libc::SYS_pipe2, [BASE, 0]), errno(Errno::FAULT), "the last one, and not for long");
    pipe(&mut guest, 0);
    assert_eq!(guest.call(libc::SYS_pipe2, [SCRATCH, 0]), errno(Errno::NFILE));
    for (from, to) in opened {
        guest.call(libc::SYS_close, [from]);
        guest.call(libc::SYS_close, [to]);
    }
    assert_eq!(pipe(&mut guest, 0), (3, 4));
}

#[test]
fn what_rust_asks_of_any_descriptor_is_done() {
    let mut guest = Guest::new();
    let (from, _) = pipe(&mut guest, 0);
    guest.host.poke_words(SCRATCH, &[1]);
    assert_eq!(guest.call(libc::SYS_ioctl, [from, libc::FIONBIO, SCRATCH]), 0);
    assert_eq!(guest.call(libc::SYS_ioctl, [from, libc::FIOCLEX, 0]), 0);
    assert_eq!(guest.call(libc::SYS_fcntl, [from, libc::F_GETFL as u64]), i64::from(NONBLOCK));
    assert_eq!(guest.call(libc::SYS_fcntl, [from, libc::F_GETFD as u64]), 1);
    assert_eq!(guest.call(libc::SYS_ioctl, [from, libc::FIONREAD, SCRATCH]), errno(Errno::NOTTY));
}
