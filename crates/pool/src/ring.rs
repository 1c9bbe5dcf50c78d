//! Rings: one producer, one consumer, 64-byte descriptors, in memory that both can write.
//!
//! | field | producer | consumer |
//! |---|---|---|
//! | `slots[i]` for `i` in `tail..head + capacity` | writes, then publishes by `tail` | does not touch |
//! | `slots[i]` for `i` in `head..tail` | does not touch | copies once, then releases by `head` |
//! | `tail` | stores with Release; keeps its own copy, never reads it back | loads with Acquire |
//! | `head` | loads with Acquire | stores with Release; keeps its own copy, never reads it back |
//!
//! Positions run freely over 32 bits. The peer may be hostile: a position that claims more than the capacity is an
//! [`Overrun`]; a descriptor that changes after it was published can change what the consumer copies, never the copy.
//! Credits are the free entries: a producer that has none waits for its peer, it does not spin.

use baton_abi::Descriptor;
use baton_abi::descriptor::DESCRIPTOR_WORDS;

use crate::placed::{Placed, SharedLayout};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The two positions of a ring, each on a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Positions {
    tail: AtomicU32,
    _tail_line: [AtomicU32; 15],
    head: AtomicU32,
    _head_line: [AtomicU32; 15],
}

/// One entry of a ring.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RingSlot {
    words: [AtomicU64; DESCRIPTOR_WORDS],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Positions>() == 128);
    assert!(core::mem::offset_of!(Positions, head) == 64);
    assert!(size_of::<RingSlot>() == 64);
};

// UNSAFETY: promises that positions and slots may lie in memory that other processes write.
#[expect(unsafe_code, reason = "marks structures as made of atomics only")]
mod layouts {
    use super::{Positions, RingSlot, SharedLayout};
    // SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
    unsafe impl SharedLayout for Positions {}
    // SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
    unsafe impl SharedLayout for RingSlot {}
}

/// The peer's position is impossible: more entries than the ring has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Entries that the positions claim.
    pub claimed: u32,
    /// Entries that the ring has.
    pub capacity: u32,
}

/// Why a descriptor was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No credit: the consumer has not caught up.
    Full,
    /// The consumer lies about its position.
    Overrun(Overrun),
}

#[derive(Debug)]
struct Memory {
    positions: Placed<Positions>,
    slots: Placed<RingSlot>,
    mask: u32,
}

impl Memory {
    fn new(positions: Placed<Positions>, slots: Placed<RingSlot>) -> Option<Memory> {
        let capacity = u32::try_from(slots.len()).ok()?;
        if !capacity.is_power_of_two() || positions.len() != 1 {
            return None;
        }
        Some(Memory { positions, slots, mask: capacity - 1 })
    }

    #[inline]
    fn positions(&self) -> &Positions {
        // Both constructors checked that there is one.
        &self.positions[0]
    }

    #[inline]
    fn slot(&self, position: u32) -> &RingSlot {
        // The mask keeps the index below the capacity.
        &self.slots[(position & self.mask) as usize]
    }

    #[inline]
    fn entries(&self, tail: u32, head: u32) -> Result<u32, Overrun> {
        let claimed = tail.wrapping_sub(head);
        let capacity = self.mask + 1;
        if claimed > capacity { Err(Overrun { claimed, capacity }) } else { Ok(claimed) }
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Producer {
    memory: Memory,
    tail: u32,
    head_seen: u32,
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer {
    memory: Memory,
    head: u32,
    tail_seen: u32,
}

impl Producer {
    /// The writing end of an empty ring. `None` unless `slots` is a power of two and `positions` is one.
    #[must_use]
    pub fn new(positions: Placed<Positions>, slots: Placed<RingSlot>) -> Option<Producer> {
        Some(Producer { memory: Memory::new(positions, slots)?, tail: 0, head_seen: 0 })
    }

    /// Publishes one descriptor.
    ///
    /// # Errors
    /// [`PushError::Full`] without credit, [`PushError::Overrun`] when the peer lies.
    #[inline]
    pub fn push(&mut self, descriptor: &Descriptor) -> Result<(), PushError> {
        self.push_words(descriptor.to_words())
    }

    /// As [`Producer::push`], for descriptors that are packed otherwise.
    ///
    /// # Errors
    /// As [`Producer::push`].
    #[inline]
    pub fn push_words(&mut self, words: [u64; DESCRIPTOR_WORDS]) -> Result<(), PushError> {
        if self.credits_seen() == 0 {
            self.refresh().map_err(PushError::Overrun)?;
            if self.credits_seen() == 0 {
                return Err(PushError::Full);
            }
        }
        let slot = self.memory.slot(self.tail);
        for (to, word) in slot.words.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(1);
        self.memory.positions().tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    fn credits_seen(&self) -> u32 {
        (self.memory.mask + 1).wrapping_sub(self.tail.wrapping_sub(self.head_seen))
    }

    fn refresh(&mut self) -> Result<(), Overrun> {
        let head = self.memory.positions().head.load(Ordering::Acquire);
        self.memory.entries(self.tail, head)?;
        self.head_seen = head;
        Ok(())
    }

    /// Descriptors that can be pushed now.
    ///
    /// # Errors
    /// [`Overrun`] when the peer lies.
    pub fn credits(&mut self) -> Result<u32, Overrun> {
        self.refresh()?;
        Ok(self.credits_seen())
    }
}

impl Consumer {
    /// The reading end of an empty ring. `None` unless `slots` is a power of two and `positions` is one.
    #[must_use]
    pub fn new(positions: Placed<Positions>, slots: Placed<RingSlot>) -> Option<Consumer> {
        Some(Consumer { memory: Memory::new(positions, slots)?, head: 0, tail_seen: 0 })
    }

    /// Takes the oldest descriptor, as a private copy.
    ///
    /// # Errors
    /// [`Overrun`] when the peer lies.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Descriptor>, Overrun> {
        if self.head == self.tail_seen && self.is_empty()? {
            return Ok(None);
        }
        let mut words = [0; DESCRIPTOR_WORDS];
        for (word, from) in words.iter_mut().zip(&self.memory.slot(self.head).words) {
            *word = from.load(Ordering::Relaxed);
        }
        self.head = self.head.wrapping_add(1);
        self.memory.positions().head.store(self.head, Ordering::Release);
        Ok(Some(Descriptor::from_words(words)))
    }

    /// Whether nothing is there, after a fresh look.
    ///
    /// # Errors
    /// [`Overrun`] when the peer lies.
    #[inline]
    pub fn is_empty(&mut self) -> Result<bool, Overrun> {
        let tail = self.memory.positions().tail.load(Ordering::Acquire);
        self.memory.entries(tail, self.head)?;
        self.tail_seen = tail;
        Ok(self.head == tail)
    }
}

/// Both ends of a ring on the heap, for models and tests.
#[must_use]
pub fn heap_ring(entries: usize) -> Option<(Producer, Consumer)> {
    let (positions, slots) = (Placed::heap(1), Placed::heap(entries));
    Some((Producer::new(positions.share(), slots.share())?, Consumer::new(positions, slots)?))
}

#[cfg(test)]
mod tests;
