//! Parcels to payloads.

// UNSAFETY: reads the words of parcels one by one.
#![expect(unsafe_code, reason = "volatile reads, so that they stay apart")]

use core::ptr::NonNull;

use crate::capability::Handle;
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Extent, Flags, NONE, Rights};

use super::Gates;
use crate::held::{Head, Held, Kind, Place};
use crate::message::Message;
use crate::runtime::Runtime;

/// One word of a parcel's descriptor, as the runtime wrote it: words that are read in pairs soon after they were written one by
/// one keep the processor waiting.
#[inline]
pub(super) fn word(parcel: &Parcel, index: usize) -> u64 {
    let at = parcel.words.as_ptr().wrapping_add(index % DESCRIPTOR_WORDS);
    // SAFETY: one of the words.
    unsafe { at.read_volatile() }
}

// The parts of a descriptor's first word.

#[inline]
pub(super) const fn flags_of(first: u64) -> Flags {
    Flags((first >> 8 & 0xff) as u8)
}

/// The operation of a request, the status of an answer.
#[inline]
pub(super) const fn code_of(first: u64) -> u32 {
    (first >> 16 & 0xffff) as u32
}

#[inline]
pub(super) const fn tag_of(first: u64) -> u32 {
    (first >> 32) as u32
}

/// A handle as it stands in a word.
#[inline]
const fn handle_of(word: u64) -> Handle {
    Handle { index: (word & 0xffff_ffff) as u32, generation: (word >> 32) as u32 }
}

impl Gates {
    /// As [`Gates::accept`], where it is not worth being in line.
    #[inline(never)]
    pub(super) fn accept_late(&'static self, parcel: &Parcel) -> Message {
        self.accept(parcel)
    }

    /// Takes over what a parcel carries. A range outside of its buffer, which the runtime does not send, is no payload.
    #[inline(always)]
    pub(super) fn accept(&'static self, parcel: &Parcel) -> Message {
        let flags = flags_of(word(parcel, 0));
        let handle = handle_of(word(parcel, 3));
        let content = if flags.has(Flags::INLINE) {
            self.accept_inline(parcel, handle)
        } else if handle.index == NONE {
            None
        } else {
            let kind = match flags {
                flags if flags.has(Flags::LEND) => Kind::Lent,
                flags if flags.has(Flags::SHARE) => Kind::Shared,
                _ => Kind::Owned,
            };
            let place = (parcel.body_base, parcel.body_capacity);
            let [rights, ..] = parcel.rights.to_le_bytes();
            self.claim(handle, place, (word(parcel, 4), word(parcel, 5)), (kind, Rights(rights)))
        };
        if handle_of(word(parcel, 6)).index == NONE {
            return Message(content);
        }
        self.accept_head(parcel, content)
    }

    #[inline]
    fn accept_inline(&'static self, parcel: &Parcel, handle: Handle) -> Option<Held> {
        let (offset, len) = (word(parcel, 4), word(parcel, 5));
        let body = Extent { handle: handle.index, generation: handle.generation, offset, len };
        // In pairs all the same: since they were written a gate has been passed, and they are in memory.
        Message::inline(Runtime::Gates(self), body, Flags::INLINE, Some(&parcel.small))
    }

    #[inline(never)]
    fn accept_head(&'static self, parcel: &Parcel, mut content: Option<Held>) -> Message {
        let Descriptor { head, body, .. } = Descriptor::from_words(parcel.words);
        if let Some(part) = &mut content
            && head.handle == body.handle
        {
            // Looked at again whenever it is read: one outside of its buffer is empty.
            part.head = Head::Beside { offset: head.offset, len: head.len };
            return Message(content);
        }
        let handle = Handle { index: head.handle, generation: head.generation };
        let place = (parcel.head_base, parcel.head_capacity);
        let range = (u64::from(head.offset), u64::from(head.len));
        match self.claim(handle, place, range, (Kind::Owned, Rights::ALL)) {
            Some(head) => Message::with_head(content, head),
            None => Message(content),
        }
    }

    #[inline]
    fn claim(
        &'static self,
        handle: Handle,
        (base, capacity): (u64, u64),
        (offset, len): (u64, u64),
        how: (Kind, Rights),
    ) -> Option<Held> {
        let base = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(base).ok()?))?;
        let (start, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        let written = start.checked_add(len)?;
        let capacity = usize::try_from(capacity).ok()?;
        if written > capacity {
            return None;
        }
        let place = Place { handle, base, capacity, written };
        Some(Held::claim(Runtime::Gates(self), place, (start, len), how))
    }
}
