//! Parcels that carry a few bytes at most, as most calls and answers do: from words to words, with nothing in between.
//!
//! Descriptors that are taken apart and put together again cost more than all that these need.

use baton_abi::boot::PoolAccess;
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Flags, Kind as Message, NONE};

use super::HandError;
use crate::arch;
use crate::gates::SMALL_AT;
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::Seat;

/// Bytes that a descriptor holds itself.
const WORD_BYTES: u64 = 8;
/// Code and flags, in a descriptor's first word.
const SAID: u64 = 0xffff_ff00;

/// What a guest sends: the words of its parcel, copied once, and the parcel's address.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'w> {
    pub(crate) at: u64,
    pub(crate) words: &'w [u64; DESCRIPTOR_WORDS],
}

impl Sent<'_> {
    /// One of the words, read as it was written.
    #[inline(always)]
    pub(crate) fn word(self, nth: usize) -> u64 {
        self.words.get(nth).map_or(0, arch::alone)
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u32 {
        (self.word(0) >> 32) as u32
    }

    #[inline(always)]
    pub(crate) fn code(self) -> u16 {
        (self.word(0) >> 16 & 0xffff) as u16
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> Flags {
        Flags((self.word(0) >> 8 & 0xff) as u8)
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
    /// What a sender's words become, with that in them: a body, and no head.
    #[inline(always)]
    pub(super) fn words(&self, sent: Sent<'_>, body: [u64; 3]) -> [u64; DESCRIPTOR_WORDS] {
        let first = self.kind as u64 | sent.word(0) & SAID | u64::from(self.tag) << 32;
        let [name, offset, len] = body;
        [first, self.invocation, self.deadline_ns, name, offset, len, u64::from(NONE), 0]
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

/// First word and bytes of the payload if it is plain: none, or inline, without a head.
#[inline(always)]
fn plain(a: &Seat, b: &Seat, sent: Sent<'_>) -> Option<(u64, u64)> {
    if !nowhere(sent.word(6)) {
        return None;
    }
    match sent.flags() {
        Flags::INLINE => {
            let bytes = sent.word(5);
            // What is more than a word counts as a payload.
            let has_pools = || a.facts.access == PoolAccess::Write && Runtime::may_use_pool(b);
            let is_plain = bytes <= WORD_BYTES || bytes <= SMALL_BYTES as u64 && has_pools();
            is_plain.then(|| (if bytes > WORD_BYTES { 0 } else { sent.word(4) }, bytes))
        }
        Flags::MOVE if nowhere(sent.word(3)) => Some((0, 0)),
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
        let Some((word, bytes)) = plain(a, b, sent).filter(|_| !as_what.record) else { return Ok(false) };
        if bytes > WORD_BYTES {
            let (from, to) = (sent.at.wrapping_add(SMALL_AT), core::ptr::from_mut(&mut out.small) as u64);
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
        out.from = u32::from(a.holder.get());
        Ok(true)
    }
}
