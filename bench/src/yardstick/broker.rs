//! A hand-over by a process between two others, as a broker in user space does it: the payload stays where it is, and what the
//! caller may no longer touch, the broker writes down.
//!
//! ```text
//!   caller ── descriptor ──▶ broker: whose is it? now the callee's ── descriptor ──▶ callee
//!      ◀──────────────────── broker: now the caller's again ◀────────────────────────┘
//! ```
//! Descriptors are of 64 bytes, as Baton's are. The broker waits for one side at a time, which is less than one with many
//! functions would have to do: nothing tells it which of them has something to say.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use super::{REPLY_BYTES, RoundTrips, YardstickError, measure, spawn_between, spawn_peer};

const DESCRIPTOR_BYTES: usize = 64;
/// Buffers that the broker knows.
const SLOTS: usize = 64;
/// The one that goes back and forth.
const SLOT: u32 = 7;
/// The generation of all of them.
const GENERATION: u32 = 3;

/// What is handed over: a range of a buffer of a generation.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Descriptor {
    slot: u32,
    generation: u32,
    offset: u64,
    len: u64,
}

impl Descriptor {
    fn bytes(self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; DESCRIPTOR_BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        Self { slot: word(0), generation: word(4), offset: long(8), len: long(16) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Caller,
    Callee,
}

/// A buffer, as the broker knows it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    generation: u32,
    owner: Side,
    len: u64,
}

/// Whose buffers are.
#[derive(Debug)]
struct Ledger(Vec<Entry>);

impl Ledger {
    fn of(len: u64) -> Self {
        Self(vec![Entry { generation: GENERATION, owner: Side::Caller, len }; SLOTS])
    }

    /// Moves a buffer from one side to the other, if it is this side's.
    fn hand_over(&mut self, descriptor: Descriptor, from: Side, to: Side) -> bool {
        let slot = usize::try_from(descriptor.slot).unwrap_or(usize::MAX);
        let Some(entry) = self.0.get_mut(slot) else { return false };
        let end = descriptor.offset.checked_add(descriptor.len);
        let is_theirs = entry.generation == descriptor.generation && entry.owner == from;
        if !is_theirs || end.is_none_or(|end| end > entry.len) {
            return false;
        }
        entry.owner = to;
        true
    }
}

fn buffer_len(payload: usize) -> u64 {
    payload.max(REPLY_BYTES) as u64
}

pub(super) fn call(payload: usize, iterations: u64) -> Result<RoundTrips, YardstickError> {
    let (mut here, theirs) = UnixStream::pair().map_err(YardstickError::Channel)?;
    let (beyond, callee) = UnixStream::pair().map_err(YardstickError::Channel)?;
    let callee = spawn_peer("broker-callee", payload, callee.into())?;
    let broker = spawn_between("broker", payload, OwnedFd::from(theirs), OwnedFd::from(beyond));
    let request = Descriptor { slot: SLOT, generation: GENERATION, offset: 0, len: payload as u64 };
    let result = broker.and_then(|broker| {
        let result = measure(iterations, || trip(&mut here, request).map_err(YardstickError::Channel));
        // Each ends when the one before it has.
        drop(here);
        wait_for(broker);
        result
    });
    wait_for(callee);
    result
}

fn trip(here: &mut UnixStream, request: Descriptor) -> io::Result<()> {
    here.write_all(&request.bytes())?;
    let mut reply = [0; DESCRIPTOR_BYTES];
    here.read_exact(&mut reply)?;
    match Descriptor::read(&reply) {
        Descriptor { slot: SLOT, len, .. } if len == REPLY_BYTES as u64 => Ok(()),
        other => Err(io::Error::other(format!("the broker passed on {other:?}"))),
    }
}

fn wait_for(mut child: Child) {
    let _ = child.wait();
}

/// The broker: the caller is its standard input, the callee its standard output.
pub(super) fn pass_on(payload: usize) -> Result<(), YardstickError> {
    let stream = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(UnixStream::from);
    let caller = stream(io::stdin().as_fd()).map_err(YardstickError::Channel)?;
    let callee = stream(io::stdout().as_fd()).map_err(YardstickError::Channel)?;
    broker(caller, callee, Ledger::of(buffer_len(payload))).map_err(YardstickError::Channel)
}

fn broker(mut caller: UnixStream, mut callee: UnixStream, mut ledger: Ledger) -> io::Result<()> {
    let mut bytes = [0; DESCRIPTOR_BYTES];
    while is_next(&mut caller, &mut bytes)? {
        for (from, to) in [(Side::Caller, Side::Callee), (Side::Callee, Side::Caller)] {
            if !ledger.hand_over(Descriptor::read(&bytes), from, to) {
                return Err(io::Error::other(format!("the buffer is not the {from:?}'s")));
            }
            if to == Side::Callee {
                callee.write_all(&bytes)?;
                callee.read_exact(&mut bytes)?;
            } else {
                caller.write_all(&bytes)?;
            }
        }
    }
    Ok(())
}

/// The callee: gives every buffer back with a short reply in it.
pub(super) fn answer() -> Result<(), YardstickError> {
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(YardstickError::Channel)?;
    reply(UnixStream::from(channel)).map_err(YardstickError::Channel)
}

fn reply(mut channel: UnixStream) -> io::Result<()> {
    let mut bytes = [0; DESCRIPTOR_BYTES];
    while is_next(&mut channel, &mut bytes)? {
        let given = Descriptor::read(&bytes);
        channel.write_all(&Descriptor { len: REPLY_BYTES as u64, ..given }.bytes())?;
    }
    Ok(())
}

/// Whether there was another descriptor before the end.
fn is_next(channel: &mut UnixStream, bytes: &mut [u8; DESCRIPTOR_BYTES]) -> io::Result<bool> {
    match channel.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Descriptor = Descriptor { slot: SLOT, generation: GENERATION, offset: 0, len: 100 };

    #[test]
    fn descriptors_are_read_as_they_were_written() {
        let odd = Descriptor { slot: 5, generation: u32::MAX, offset: 1 << 40, len: 9 };
        assert_eq!(Descriptor::read(&odd.bytes()), odd);
    }

    #[test]
    fn only_who_has_a_buffer_hands_it_over() {
        let mut ledger = Ledger::of(100);
        let mut moves = |descriptor, from, to| ledger.hand_over(descriptor, from, to);
        assert!(!moves(MINE, Side::Callee, Side::Caller));
        assert!(!moves(Descriptor { slot: 64, ..MINE }, Side::Caller, Side::Callee));
        assert!(!moves(Descriptor { generation: 2, ..MINE }, Side::Caller, Side::Callee));
        assert!(!moves(Descriptor { offset: 1, ..MINE }, Side::Caller, Side::Callee));
        assert!(!moves(Descriptor { offset: u64::MAX, ..MINE }, Side::Caller, Side::Callee));
        assert!(moves(MINE, Side::Caller, Side::Callee));
        assert!(!moves(MINE, Side::Caller, Side::Callee), "it is the callee's now");
        assert!(moves(MINE, Side::Callee, Side::Caller));
    }

    #[test]
    fn a_buffer_goes_there_and_back_by_the_broker() {
        let (mut here, theirs) = UnixStream::pair().unwrap();
        let (beyond, callee) = UnixStream::pair().unwrap();
        let between = std::thread::spawn(move || broker(theirs, beyond, Ledger::of(100)));
        let end = std::thread::spawn(move || reply(callee));
        for _ in 0..3 {
            trip(&mut here, MINE).unwrap();
        }
        assert!(trip(&mut here, Descriptor { slot: 1000, ..MINE }).is_err(), "the broker refuses and ends");
        assert!(between.join().unwrap().is_err());
        end.join().unwrap().unwrap();
    }
}
