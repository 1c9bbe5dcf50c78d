//! One entry of the capability table: its layout, the word that decides, and what handles and ranges are.
//!
//! Only the table changes entries; here is what the bits mean.

use baton_abi::Rights;

use crate::placed::SharedLayout;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The parent of a root.
pub(super) const NO_PARENT: u64 = u64::MAX;

/// One capability.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Entry {
    // generation (32) | holder (16) | state (8) | rights (8)
    pub(super) word: AtomicU64,
    pub(super) offset: AtomicU64,
    pub(super) len: AtomicU64,
    pub(super) expiry_ns: AtomicU64,
    pub(super) parent: AtomicU64,
    pub(super) slot: AtomicU32,
    pub(super) slot_generation: AtomicU32,
    pub(super) invocation: AtomicU64,
    pub(super) high_water: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 64);

// UNSAFETY: promises that an entry may lie in memory that other processes write.
#[expect(unsafe_code, reason = "marks a structure as made of atomics only")]
// SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
unsafe impl SharedLayout for Entry {}

/// Where a capability is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// In a replica's stash: memory to allocate from, no payload in it.
    Stashed = 1,
    /// Held; the holder may use it.
    Held = 2,
    /// On the way over an edge; the holder field is the edge's number.
    InFlight = 3,
    /// On the way from the replica in the holder field to the node.
    ToNode = 4,
    /// On the way from the node to the replica in the holder field.
    FromNode = 5,
    /// Derived, and given up by its holder; whoever derived it may recycle the entry.
    Released = 6,
    /// Taken away. Every further use is refused.
    Revoked = 7,
    /// A root whose owner is gone while derived capabilities live.
    Orphan = 8,
}

impl State {
    const fn from_u8(raw: u8) -> Option<State> {
        Some(match raw {
            0 => State::Free,
            1 => State::Stashed,
            2 => State::Held,
            3 => State::InFlight,
            4 => State::ToNode,
            5 => State::FromNode,
            6 => State::Released,
            7 => State::Revoked,
            8 => State::Orphan,
            _ => return None,
        })
    }

    /// Whether a capability in this state gives, or will give, someone access.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, State::Held | State::InFlight | State::ToNode | State::FromNode)
    }
}

/// Who has a capability, and in what state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The state.
    pub state: State,
    /// Holder or edge number, as the state says.
    pub holder: u16,
}

impl Hold {
    /// In the hands of `holder`.
    #[must_use]
    pub const fn held(holder: u16) -> Hold {
        Hold { state: State::Held, holder }
    }

    /// `holder` in `state`.
    #[must_use]
    pub const fn new(state: State, holder: u16) -> Hold {
        Hold { state, holder }
    }
}

/// What one compare-and-swap changes: everything that decides who may use the capability.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) generation: u32,
    pub(super) hold: Hold,
    pub(super) rights: Rights,
}

impl Word {
    #[inline]
    pub(super) const fn pack(self) -> u64 {
        (self.generation as u64) << 32
            | (self.hold.holder as u64) << 16
            | (self.hold.state as u64) << 8
            | self.rights.0 as u64
    }

    #[inline]
    pub(super) fn unpack(raw: u64) -> Option<Word> {
        let [rights, state, low, high, g0, g1, g2, g3] = raw.to_le_bytes();
        Some(Word {
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
            hold: Hold { state: State::from_u8(state)?, holder: u16::from_le_bytes([low, high]) },
            rights: Rights(rights),
        })
    }
}

/// An index and a generation: all that anyone passes around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Index in the table.
    pub index: u32,
    /// Generation of that entry.
    pub generation: u32,
}

impl Handle {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    fn unpack(raw: u64) -> Option<Handle> {
        if raw == NO_PARENT {
            return None;
        }
        let [g0, g1, g2, g3, i0, i1, i2, i3] = raw.to_le_bytes();
        Some(Handle {
            index: u32::from_le_bytes([i0, i1, i2, i3]),
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
        })
    }
}

/// A range inside a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte, from the start of the buffer.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Range {
    /// Whether `other` lies inside this range.
    #[must_use]
    pub fn contains(self, other: Range) -> bool {
        match (self.offset.checked_add(self.len), other.offset.checked_add(other.len)) {
            (Some(end), Some(other_end)) => other.offset >= self.offset && other_end <= end,
            _ => false,
        }
    }
}

impl Entry {
    pub(super) fn range(&self) -> Range {
        Range { offset: self.offset.load(Ordering::Relaxed), len: self.len.load(Ordering::Relaxed) }
    }

    /// The buffer that the capability lies in, as a handle of its root.
    pub(super) fn root(&self) -> Handle {
        let index = self.slot.load(Ordering::Relaxed);
        Handle { index, generation: self.slot_generation.load(Ordering::Relaxed) }
    }

    pub(super) fn parent(&self) -> Option<Handle> {
        Handle::unpack(self.parent.load(Ordering::Relaxed))
    }
}
