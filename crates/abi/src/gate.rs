//! Gates: how a guest in a compartment asks the runtime of its cell for something.
//!
//! The auxiliary vector's [`AT_BATON`] entry holds the address of a [`GatePage`], which the guest can read and not write.
//! Its table holds one address a gate; a gate is an ordinary function of the C calling convention,
//!
//! ```text
//! int64_t gate(uint64_t a, uint64_t b, uint64_t c);     // negative: an errno
//! ```
//!
//! | gate | arguments | result |
//! |---|---|---|
//! | [`RECV`] | address of a [`Parcel`] to reply with first, or 0; address of a [`Parcel`] to fill | 1 |
//! | [`REPLY`] | address of a [`Parcel`] | 0 |
//! | [`CALL`] | index in the function's `calls`; address of a [`Parcel`], replaced by the answer | 0 answered, [`PENDING`] with the parcel's tag set |
//! | [`ALLOC`] | bytes of each; how many; address of as many [`Grant`]s | how many there are, possibly fewer |
//! | [`FREE`] | address of [`Pair`]s; how many | 0 |
//! | [`FREEZE`], [`REVOKE`] | address of a [`Pair`] | 0; how many capabilities ended |
//! | [`NARROW`] | address of a [`Pair`]; first byte, counted from the start of the buffer; bytes | 0 |
//! | [`CANCEL`] | tag of a pending call | 0 |
//! | [`WAIT`] | tag of a pending call; address of a [`Parcel`] to fill | 0 |
//! | [`LOG`] | level's letter; address; bytes | 0 |
//! | [`CLOCK`] | clock id; address of a `timespec` | 0 |
//! | [`RANDOM`] | address; bytes | bytes |
//!
//! Addresses must lie in the guest's own writable memory; they are checked, and what they point to is copied once.
//!
//! Events that [`RECV`] brings, by the descriptor's kind: a request; the reply to a pending call, by its tag; a cancellation,
//! by the request's tag, which still has to be answered; a shutdown; and [`crate::Kind::Free`], upon which a guest should give
//! back what it only keeps for later. Others are none of a guest's business.
//!
//! A gate that refuses has taken nothing, or given it up: a guest that names it to [`FREE`] all the same does no harm, and
//! [`FREE`] goes on behind a stale pair. What is lent to a guest ends with its answer, whether the guest gave it back or not.

use crate::descriptor::DESCRIPTOR_WORDS;
use crate::limits::SLOTS_MAX;

/// Type of the auxiliary vector's entry that holds the address of the [`GatePage`].
pub const AT_BATON: u64 = 0x4254_4e00;
/// What the [`GatePage`] begins with.
pub const GATE_MAGIC: u32 = 0x4254_4e67;

/// Replies if asked to, then waits for the next event.
pub const RECV: usize = 0;
/// Replies to a request.
pub const REPLY: usize = 1;
/// Calls another function of the app.
pub const CALL: usize = 2;
/// Takes buffers for payloads.
pub const ALLOC: usize = 3;
/// Gives capabilities back.
pub const FREE: usize = 4;
/// Makes an owned buffer read-only, for good.
pub const FREEZE: usize = 5;
/// Takes away what was derived from a capability.
pub const REVOKE: usize = 6;
/// Narrows an own capability to a range, for good.
pub const NARROW: usize = 7;
/// Gives a pending call up.
pub const CANCEL: usize = 8;
/// Waits for the answer of one pending call.
pub const WAIT: usize = 9;
/// Writes a line to the function's log.
pub const LOG: usize = 10;
/// Reads a clock.
pub const CLOCK: usize = 11;
/// Gets random bytes.
pub const RANDOM: usize = 12;
/// Number of gates.
pub const GATES: usize = 13;
/// Places of the table; those behind [`GATES`] are empty.
pub const GATES_MAX: usize = 32;

/// [`CALL`]: the answer comes later, as an event with the parcel's tag.
pub const PENDING: i64 = 1;

/// What every guest of a cell can read.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GatePage {
    /// [`GATE_MAGIC`].
    pub magic: u32,
    /// Must equal [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// Addresses of the gates. They differ between cells: read them anew for each call, do not keep them.
    pub gates: [u64; GATES_MAX],
    /// Changes whenever a guest may find itself in a copy: after every fork and every restore from a snapshot. A guest
    /// that keeps random state compares it and draws anew.
    pub incarnation: u64,
}

/// A message through a gate: a descriptor, and where its buffers are mapped.
///
/// Towards the runtime only the descriptor counts, and with [`crate::Flags::LEND`] the rights. Its body names a buffer by handle;
/// or, with [`crate::Flags::BYTES`], plain bytes of the guest's own memory, `body.offset` being their address, which the runtime
/// copies. A call's tag is that of the request that it serves.
///
/// With [`crate::Flags::INLINE`] and more than eight bytes, up to [`SMALL_BYTES`], the payload lies in [`Parcel::small`], both ways:
/// so small a payload costs less to copy twice than a buffer costs to take and give back.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Parcel {
    /// A [`crate::Descriptor`] as words.
    pub words: [u64; DESCRIPTOR_WORDS],
    /// Address of byte 0 of the body's buffer; the payload begins at the descriptor's offset from there.
    pub body_base: u64,
    /// Bytes of that buffer.
    pub body_capacity: u64,
    /// Address of byte 0 of the head's buffer (the body's, if both have one handle).
    pub head_base: u64,
    /// Bytes of that buffer.
    pub head_capacity: u64,
    /// The guest's rights to the body, as [`crate::Rights`]; towards the runtime, those that a lent body comes with.
    pub rights: u32,
    /// The sender as a holder; 0 for the node, and for failures that the runtime itself answers calls with.
    pub from: u32,
    /// To the first [`RECV`]: address of a [`KeptMap`] of the guest's, or 0. Otherwise zero.
    pub kept_at: u64,
    /// Zero.
    pub reserved: [u64; 2],
    /// A small payload, first byte first.
    pub small: [u64; SMALL_WORDS],
}

/// Bytes of payload that a parcel holds itself.
pub const SMALL_BYTES: usize = 64;
const SMALL_WORDS: usize = SMALL_BYTES / 8;

/// A bit for each buffer slot of the pool: set while the guest has that buffer and uses it for nothing. Only for those who
/// look from outside: what the guest says here changes nothing but what they are shown.
pub type KeptMap = [core::sync::atomic::AtomicU64; SLOTS_MAX as usize / 64];

/// A capability as guests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// Index.
    pub handle: u32,
    /// Generation.
    pub generation: u32,
}

impl Pair {
    /// The pair that stands in a word.
    #[must_use]
    #[inline]
    pub const fn from_word(word: u64) -> Pair {
        Pair { handle: (word & 0xffff_ffff) as u32, generation: (word >> 32) as u32 }
    }

    /// The word that it stands in.
    #[must_use]
    #[inline]
    pub const fn to_word(self) -> u64 {
        // Widening: constant functions know no `From`.
        self.handle as u64 | (self.generation as u64) << 32
    }
}

/// A buffer that [`ALLOC`] gave.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Grant {
    /// Index of its capability.
    pub handle: u32,
    /// Generation of its capability.
    pub generation: u32,
    /// Address of its first byte.
    pub base: u64,
    /// Its bytes.
    pub capacity: u64,
}

impl Grant {
    /// What it is called.
    #[must_use]
    pub const fn pair(self) -> Pair {
        Pair { handle: self.handle, generation: self.generation }
    }
}

const _: () = {
    assert!(size_of::<GatePage>() == 8 + GATES_MAX * 8 + 8);
    assert!(size_of::<Parcel>() == 192 && align_of::<Parcel>() == 64);
    assert!(core::mem::offset_of!(Parcel, body_base) == 64 && core::mem::offset_of!(Parcel, rights) == 96);
    assert!(core::mem::offset_of!(Parcel, small) == 128);
    assert!(size_of::<Pair>() == 8 && size_of::<Grant>() == 24);
    assert!(core::mem::offset_of!(GatePage, gates) == 8);
};

impl Parcel {
    /// Nothing.
    pub const EMPTY: Parcel = Parcel {
        words: [0; DESCRIPTOR_WORDS],
        body_base: 0,
        body_capacity: 0,
        head_base: 0,
        head_capacity: 0,
        rights: 0,
        from: 0,
        kept_at: 0,
        reserved: [0; 2],
        small: [0; SMALL_WORDS],
    };
}
