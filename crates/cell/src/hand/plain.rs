//! Parcels that carry a few bytes at most, as most calls and answers do: from words to words, with nothing in between.
//!
//! Descriptors that are taken apart and put together again cost more than all that these need.

use baton_abi::boot::PoolAccess;
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Flags, Kind as Message, NONE};

use super::HandError;
use crate::arch::{self, Plain};
use crate::gates::SMALL_AT;
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::Seat;

/// Bytes that a descriptor holds itself.
const WORD_BYTES: u64 = 8;
/// Bytes that a parcel holds beside it.
const LINE_BYTES: u64 = SMALL_BYTES as u64;
/// Code and flags, in a descriptor's first word.
const SAID: u64 = 0xffff_ff00;

/// What a guest sends: the words of its parcel, copied once, and the parcel's address.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'w> {
    pub(crate) at: u64,
    pub(crate) words: &'w [u64; DESCRIPTOR_WORDS],
    /// The first of them.
    first: u64,
}

impl<'w> Sent<'w> {
    #[inline(always)]
    pub(crate) fn new(at: u64, words: &'w [u64; DESCRIPTOR_WORDS]) -> Sent<'w> {
        let [first, ..] = words;
        Sent { at, words, first: arch::alone(first) }
    }

    /// One of the words, read as it was written.
    #[inline(always)]
    pub(crate) fn word(self, nth: usize) -> u64 {
        self.words.get(nth).map_or(0, arch::alone)
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u32 {
        (self.first >> 32) as u32
    }

    #[inline(always)]
    pub(crate) fn code(self) -> u16 {
        (self.first >> 16 & 0xffff) as u16
    }

    /// Where a small payload lies.
    #[inline(always)]
    fn small_at(self) -> u64 {
        self.at.wrapping_add(SMALL_AT)
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> Flags {
        Flags((self.first >> 8 & 0xff) as u8)
    }
}

/// What the runtime says in the place of what the sender said.
pub(crate) struct Dispatch {
    pub(crate) kind: Message,
    pub(crate) tag: u32,
    pub(crate) invocation: u64,
    pub(crate) deadline_ns: u64,
    /// What it costs is recorded.
    pub(crate) record: bool,
}

impl Dispatch {
    /// What a sender's first word becomes.
    #[inline(always)]
    fn first(&self, sent: Sent<'_>) -> u64 {
        self.kind as u64 | sent.first & SAID | u64::from(self.tag) << 32
    }

    /// What a sender's words become, with that in them: a body, and no head.
    #[inline(always)]
    pub(super) fn words(&self, sent: Sent<'_>, body: [u64; 3]) -> [u64; DESCRIPTOR_WORDS] {
        let [name, offset, len] = body;
        [self.first(sent), self.invocation, self.deadline_ns, name, offset, len, u64::from(NONE), 0]
    }

    /// A sender's descriptor with that in it.
    pub(crate) fn of(&self, d: &Descriptor) -> Descriptor {
        let &Dispatch { kind, tag, invocation, deadline_ns, record } = self;
        let flags = if record { d.flags.with(Flags::RECORD) } else { d.flags };
        Descriptor { kind: kind as u8, flags, tag, invocation, deadline_ns, ..*d }
    }
}

/// Whether a word names no capability.
#[inline(always)]
pub(super) fn nowhere(word: u64) -> bool {
    word & u64::from(NONE) == u64::from(NONE)
}

/// A plain payload: a word of it, where it has no more, and its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Few {
    word: u64,
    pub(crate) bytes: u64,
}

/// The payload if it is plain: none, or inline, without a head.
#[inline(always)]
pub(crate) fn few(a: &Seat, b: &Seat, sent: Sent<'_>) -> Option<Few> {
    if !nowhere(sent.word(6)) {
        return None;
    }
    match sent.flags() {
        Flags::INLINE => {
            let bytes = sent.word(5);
            // What is more than a word counts as a payload.
            let has_pools = || a.facts.access == PoolAccess::Write && Runtime::may_use_pool(b);
            let is_plain = bytes <= WORD_BYTES || bytes <= SMALL_BYTES as u64 && has_pools();
            is_plain.then(|| Few { word: if bytes > WORD_BYTES { 0 } else { sent.word(4) }, bytes })
        }
        Flags::MOVE if nowhere(sent.word(3)) => Some(Few { word: 0, bytes: 0 }),
        _ => None,
    }
}

impl Runtime {
    /// Hands a plain parcel over; `false` if it is none.
    #[inline(always)]
    pub(crate) fn hand_plain(
        &self,
        a: &Seat,
        b: &Seat,
        sent: Sent<'_>,
        as_what: &Dispatch,
        out: &mut Parcel,
    ) -> Result<bool, HandError> {
        let Some(Few { word, bytes }) = few(a, b, sent).filter(|_| !as_what.record) else { return Ok(false) };
        if bytes > WORD_BYTES {
            let (from, to) = (sent.small_at(), core::ptr::from_mut(&mut out.small) as u64);
            let copied = a.reach.contains(from, bytes)
                && if bytes == SMALL_BYTES as u64 {
                    memory::copy_line(to, from)
                } else {
                    memory::copy(to, from, bytes)
                };
            if !copied {
                return Err(HandError::Fault);
            }
            self.copied.set((1, bytes));
        }
        out.words = as_what.words(sent, [u64::from(NONE), word, bytes]);
        out.from = u32::from(a.holder());
        Ok(true)
    }

    /// Puts a plain payload where `b` waits for it, at once: what else lies beside it is the sender's own, and zeros to the receiver.
    /// `false` if that cannot be: then nothing changed hands, and who does it step by step finds out why.
    #[inline(always)]
    pub(crate) fn put_few(
        &self,
        a: &Seat,
        (b, at): (&Seat, u64),
        (sent, few): (Sent<'_>, Few),
        as_what: &Dispatch,
    ) -> bool {
        self.handed.set(0);
        let line = if few.bytes <= WORD_BYTES {
            self.copied.set((0, 0));
            0
        } else {
            self.copied.set((1, few.bytes));
            let line = sent.small_at();
            // One that hangs over the end of its seat may hold what was meant all the same: not here.
            if !a.reach.holds::<LINE_BYTES>(line) {
                return false;
            }
            line
        };
        let plain = Plain {
            first: as_what.first(sent),
            invocation: as_what.invocation,
            deadline_ns: as_what.deadline_ns,
            word: few.word,
            bytes: few.bytes,
            from: a.holder(),
        };
        b.reach.holds::<{ size_of::<Parcel>() as u64 }>(at) && memory::write_plain(at, line, plain)
    }
}
