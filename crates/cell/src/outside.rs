//! What a cell has to do with the rest of the app: the links of its seats to the node, the roads between its seats and
//! replicas in other processes, and the stash of empty pool buffers.

use std::collections::VecDeque;

use baton_abi::boot::Edge;
use baton_abi::limits::SLAB_CLASSES;
use baton_abi::{Descriptor, Extent, Kind};
use baton_pool::bell::Bell;
use baton_pool::ledger::{class_bytes, class_of_capacity};
use baton_pool::link::{Duplex, Side, map_bell};
use std::os::fd::OwnedFd;

/// Part of the pool that one class of the stash may take, as a divisor.
const POOL_SHARE: u64 = 4096;
/// Buffers that one refill asks for, at most.
const BATCH_MAX: u64 = 64;

/// A direct road to or from a replica in another process.
#[derive(Debug)]
pub(crate) struct Road {
    pub(crate) id: u16,
    pub(crate) peer: u16,
    pub(crate) name: String,
    pub(crate) duplex: Duplex,
    pub(crate) bell: Bell,
    pub(crate) dirty: bool,
    pub(crate) dead: bool,
    /// Calls that were sent and not answered.
    pub(crate) outstanding: u32,
    /// Most of them: half the ring, so that cancellations always fit.
    pub(crate) credits: u32,
}

impl Road {
    pub(crate) fn new(edge: &Edge, fds: Vec<OwnedFd>) -> Option<Road> {
        let mut fds = fds.into_iter();
        let side = if edge.is_caller { Side::Near } else { Side::Far };
        let duplex = Duplex::map(fds.next()?, edge.ring_entries, side).ok()?;
        let bell = map_bell(fds.next()?).ok()?;
        Some(Road {
            id: edge.id,
            peer: edge.peer,
            name: edge.name.as_str().to_owned(),
            duplex,
            bell,
            dirty: false,
            dead: false,
            outstanding: 0,
            credits: edge.ring_entries / 2,
        })
    }

    pub(crate) fn push(&mut self, descriptor: &Descriptor) -> bool {
        let pushed = self.duplex.to_peer.push(descriptor).is_ok();
        self.dirty |= pushed;
        pushed
    }

    /// The oldest descriptor. A peer that breaks the ring counts as dead.
    pub(crate) fn pop(&mut self) -> Option<Descriptor> {
        match self.duplex.from_peer.pop() {
            Ok(found) => found,
            Err(_) => {
                self.dead = true;
                None
            }
        }
    }

    pub(crate) fn is_quiet(&mut self) -> bool {
        self.dead || (self.duplex.from_peer.is_empty().unwrap_or(false) && !self.duplex.flags().is_closed())
    }

    pub(crate) fn flush(&mut self) {
        if core::mem::take(&mut self.dirty) {
            self.bell.ring();
        }
    }
}

/// Empty buffers of the pool by size class, last in, first out.
#[derive(Debug)]
pub(crate) struct Stash {
    classes: [Vec<u32>; SLAB_CLASSES as usize],
    asked: [bool; SLAB_CLASSES as usize],
    pool_bytes: u64,
}

impl Stash {
    pub(crate) fn new(pool_bytes: u64) -> Stash {
        Stash { classes: Default::default(), asked: [false; SLAB_CLASSES as usize], pool_bytes }
    }

    #[inline]
    pub(crate) fn take(&mut self, class: u8) -> Option<u32> {
        self.classes.get_mut(usize::from(class))?.pop()
    }

    /// Puts a slot in; gives back what is too much.
    #[inline]
    pub(crate) fn put(&mut self, class: u8, slot: u32) -> Vec<u32> {
        let most = usize::try_from(self.batch(class)).unwrap_or(1) * 4;
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return vec![slot] };
        list.push(slot);
        if list.len() <= most { Vec::new() } else { list.drain(..list.len() / 2).collect() }
    }

    pub(crate) fn batch(&self, class: u8) -> u64 {
        (self.pool_bytes / POOL_SHARE / class_bytes(class)).clamp(1, BATCH_MAX)
    }

    /// Whether a refill should be asked for now; remembers that it was.
    #[inline]
    pub(crate) fn should_ask(&mut self, class: u8) -> bool {
        let low = self.batch(class) / 4;
        let index = usize::from(class);
        let (Some(list), Some(asked)) = (self.classes.get(index), self.asked.get_mut(index)) else {
            return false;
        };
        if *asked || list.len() as u64 > low {
            return false;
        }
        *asked = true;
        true
    }

    pub(crate) fn answered(&mut self, class: u8) {
        if let Some(asked) = self.asked.get_mut(usize::from(class)) {
            *asked = false;
        }
    }
}

/// The class of a buffer, if it has one.
pub(crate) fn class_of_place(capacity: u64) -> Option<u8> {
    class_of_capacity(capacity)
}

/// A request to the node for buffers.
pub(crate) fn ask(kind: Kind, tag: u32, count: u16, bytes: u64) -> Descriptor {
    let body = Extent { len: bytes, ..Extent::EMPTY };
    Descriptor { tag, code: count, body, ..Descriptor::new(kind) }
}

/// Lines of output that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    parts: VecDeque<(u8, u32, Vec<u8>)>,
}

impl Lines {
    /// Adds output of a seat; gives the lines that are complete.
    pub(crate) fn add(&mut self, seat: u8, stream: u32, bytes: &[u8], max: usize) -> Vec<Vec<u8>> {
        let found = self.parts.iter().position(|(of, on, _)| (*of, *on) == (seat, stream));
        let mut part = found.and_then(|at| self.parts.remove(at)).map(|(.., part)| part).unwrap_or_default();
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || part.len() >= max {
                lines.push(core::mem::take(&mut part));
            }
            if byte != b'\n' {
                part.push(byte);
            }
        }
        if !part.is_empty() {
            self.parts.push_back((seat, stream, part));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_their_parts() {
        let mut lines = Lines::default();
        assert!(lines.add(1, 2, b"hel", 8).is_empty());
        assert!(lines.add(2, 2, b"other", 8).is_empty());
        assert_eq!(lines.add(1, 2, b"lo\nwor", 8), [b"hello".to_vec()]);
        assert_eq!(lines.add(1, 2, b"ld, long\n", 8), [b"world, l".to_vec(), b"ong".to_vec()]);
    }

    #[test]
    fn the_stash_gives_back_what_is_too_much() {
        let mut stash = Stash::new(1 << 20);
        assert!(stash.should_ask(0) && !stash.should_ask(0));
        stash.answered(0);
        let back: Vec<u32> = (0..5).flat_map(|slot| stash.put(0, slot)).collect();
        assert_eq!(back, [0, 1]);
        assert_eq!(stash.take(0), Some(4));
    }
}
