//! The socket over which the kernel hands over: what is written to it and what comes from it.
//!
//! What a turn sends goes with one system call at its end, and one brings whatever came: a receiver that is woken finds all of it. Whatever
//! comes was checked by the kernel's program, and what it names is in this replica's hands already. Reading only fills a queue, so that it may
//! be done anywhere: while a task waits for an allocation, too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use baton_abi::packet::{Op, PACKET_BYTES, PACKET_WORDS, Packet};
use baton_abi::{Descriptor, Kind as Message64};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use zerocopy::IntoBytes;

use super::NODE_PATIENCE_NS;

mod alarm;
mod outbox;
mod refused;
mod sort;
mod table;

pub use alarm::Alarm;
use outbox::Outbox;

/// Packets that one read takes at most.
const BATCH: usize = 64;
/// Packets to itself that a replica writes at most without reading any: they wait at its own socket.
const UNREAD_MAX: u32 = 256;
/// Turns that follow a read that found everything, without another one: the next sleep reads.
const TURNS_PER_READ: u32 = 2;

/// The status of a call whose callee is gone.
const STATUS_GONE: u16 = 503;

/// What the socket could not do: who was to get the packet is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost;

/// Bytes that came, up to the end of the last whole packet and beyond.
struct Received {
    bytes: Box<[u8]>,
    len: usize,
}

/// This replica's end of the kernel's road.
pub(super) struct Guard {
    socket: OwnedFd,
    outbox: RefCell<Outbox>,
    received: RefCell<Received>,
    /// Packets that nobody looked at yet.
    inbox: RefCell<VecDeque<Packet>>,
    /// Packets to itself since the last read.
    unread: Cell<u32>,
    /// Turns that need not read.
    idle_turns: Cell<u32>,
}

impl Guard {
    pub(super) fn new(socket: OwnedFd) -> Guard {
        Guard {
            socket,
            outbox: RefCell::new(Outbox::new()),
            received: RefCell::new(Received { bytes: vec![0; BATCH * PACKET_BYTES].into(), len: 0 }),
            inbox: RefCell::default(),
            unread: Cell::new(0),
            idle_turns: Cell::new(0),
        }
    }

    /// The socket, for other threads that wake this one.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Puts a packet among those that go with the next write. `false` if that has to come first: there is no room.
    #[inline]
    fn queue(&self, packet: &Packet) -> bool {
        self.outbox.borrow_mut().put(packet)
    }

    /// Writes what is queued. What each packet asks for is done, or refused, when this returns. `is_gone` says of a packet that the kernel
    /// may have taken, and then lost with its receiver, whether it did.
    #[inline]
    fn flush(&self, is_gone: impl Fn(&Packet) -> bool) {
        let mut outbox = self.outbox.borrow_mut();
        let packets = outbox.take();
        if !packets.is_empty() {
            self.write_all(packets, is_gone);
        }
    }

    fn write_all(&self, packets: &[[u64; PACKET_WORDS]], is_gone: impl Fn(&Packet) -> bool) {
        let packet = |at: usize| packets.get(at).map(|words| Packet::from_words(words.map(u64::from_le)));
        let gone_at = |done: usize| {
            packet(done / PACKET_BYTES).filter(|next| done.is_multiple_of(PACKET_BYTES) && is_gone(next))
        };
        let bytes = packets.as_bytes();
        let mut done = 0;
        while let Some(left) = bytes.get(done..).filter(|left| !left.is_empty()) {
            match write_some(&self.socket, left) {
                Ok(written) => done += written,
                Err(Lost) if gone_at(done).is_some() => {}
                Err(Lost) => {
                    let lost = (done / PACKET_BYTES..packets.len()).filter_map(packet);
                    lost.for_each(|packet| self.lose(&packet));
                    return;
                }
            }
            // Between two packets it was a signal that came, or those that come next were lost together, after all checks.
            while let Some(next) = gone_at(done) {
                self.lose(&next);
                done += PACKET_BYTES;
            }
        }
    }

    /// A packet that was not handed over is one that was refused.
    #[cold]
    fn lose(&self, packet: &Packet) {
        if packet.op == Op::Send as u8 {
            let refused = Packet {
                op: Op::Refused as u8,
                rights: packet.descriptor.kind,
                descriptor: Descriptor { code: STATUS_GONE, ..packet.descriptor },
                ..*packet
            };
            self.inbox.borrow_mut().push_back(refused);
        }
    }

    /// One more packet comes back to this replica.
    fn note_own(&self) {
        if self.unread.get() >= UNREAD_MAX {
            self.look();
        }
        self.unread.set(self.unread.get() + 1);
    }

    /// Whether everything that came was looked at.
    pub(super) fn is_quiet(&self) -> bool {
        self.inbox.borrow().is_empty()
    }

    /// Writes packets, none of which is lost after all checks.
    #[cfg(test)]
    pub(super) fn put_all(&self, packets: &[Packet]) {
        packets.iter().for_each(|packet| assert!(self.queue(packet)));
        self.flush(|_| false);
    }

    #[cfg(test)]
    pub(super) fn take_all(&self) -> Vec<Packet> {
        self.inbox.take().into()
    }

    /// A turn begins: reads, unless that was just done.
    #[inline]
    pub(super) fn begin_turn(&self) {
        match self.idle_turns.get().checked_sub(1) {
            Some(left) => self.idle_turns.set(left),
            None => self.look(),
        }
    }

    /// Takes in what is there.
    pub(super) fn look(&self) {
        while self.read(RecvFlags::DONTWAIT) {}
    }

    /// Sleeps until something comes, at most `timeout_ns` nanoseconds, and takes it in.
    #[inline]
    pub(super) fn wait(&self, timeout_ns: Option<u64>) {
        let may_be_more = match timeout_ns {
            None => self.read(RecvFlags::empty()),
            Some(ns) => self.is_readable(ns),
        };
        if may_be_more {
            self.look();
        }
        self.idle_turns.set(TURNS_PER_READ);
    }

    /// The next turn reads: someone else saw that there is something.
    pub(super) fn note_readable(&self) {
        self.idle_turns.set(0);
    }

    fn is_readable(&self, timeout_ns: u64) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(timeout_ns % 1_000_000_000).unwrap_or(0),
        };
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        // Timed out or interrupted: the caller looks at everything in every case.
        poll(&mut watched, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// One read. `true` if there may be more.
    fn read(&self, flags: RecvFlags) -> bool {
        let mut received = self.received.borrow_mut();
        let Received { bytes, len } = &mut *received;
        let space = bytes.get_mut(*len..).unwrap_or_default();
        let room = space.len();
        let count = match recv(&self.socket, space, flags) {
            // The node closed its end: nothing comes or goes any more.
            Ok((_, 0)) => std::process::exit(1),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => std::process::exit(1),
        };
        *len += count;
        self.unread.set(0);
        let mut inbox = self.inbox.borrow_mut();
        let whole = *len / PACKET_BYTES * PACKET_BYTES;
        for packet in bytes.get(..whole).unwrap_or_default().chunks_exact(PACKET_BYTES).filter_map(parse) {
            inbox.push_back(packet);
        }
        bytes.copy_within(whole..*len, 0);
        *len -= whole;
        count == room
    }
}

/// What of a packet is news. Wake-ups have done their work by coming, what a replica wrote to itself when it was written.
fn parse(bytes: &[u8]) -> Option<Packet> {
    let mut words = [0u64; PACKET_WORDS];
    words.as_mut_bytes().copy_from_slice(bytes);
    let packet = Packet::from_words(words.map(u64::from_le));
    matches!(Op::from_u8(packet.op), Some(Op::Send | Op::Refused)).then_some(packet)
}

/// Writes what the socket takes.
fn write_some(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Lost> {
    loop {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(socket)?,
            Err(_) => return Err(Lost),
        }
    }
}

/// Writes one packet. A part that the socket did not take goes after it: the node, to whom parts are passed, then sees all of it.
fn write(socket: &OwnedFd, packet: &Packet) -> Result<(), Lost> {
    let words = packet.to_words().map(u64::to_le);
    let mut left = words.as_bytes();
    while !left.is_empty() {
        left = left.get(write_some(socket, left)?..).unwrap_or_default();
    }
    Ok(())
}

#[cold]
fn wait_for_room(socket: &OwnedFd) -> Result<(), Lost> {
    let patience =
        Timespec { tv_sec: i64::try_from(NODE_PATIENCE_NS / 1_000_000_000).unwrap_or(5), tv_nsec: 0 };
    let mut watched = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut watched, Some(&patience)) {
        Ok(0) => Err(Lost),
        _ => Ok(()),
    }
}

/// A packet that says nothing but what it is.
fn bare(op: Op) -> Packet {
    Packet::new(op, Descriptor::new(Message64::Request))
}
