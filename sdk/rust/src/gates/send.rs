//! Payloads to parcels. What moves leaves this function's hands as soon as it stands in the words.

use crate::capability::{Handle, Range};
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{Pair, Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind as Message, NONE, Rights};
use zerocopy::IntoBytes;

use super::{Gates, pair};
use crate::buffer::Buffer;
use crate::call::Payload;
use crate::error::Error;
use crate::held::{Holding, Kind};
use crate::runtime::Runtime;

/// Payloads up to this size travel in the descriptor itself, bytes.
const INLINE_MAX: usize = 8;
/// What is lent so is only read.
const TO_READ: u8 = Rights::FROZEN.0;

const fn handle_word(handle: Handle) -> u64 {
    handle.index as u64 | (handle.generation as u64) << 32
}

/// The first word of a descriptor.
#[inline]
pub(super) const fn first_word(kind: Message, flags: Flags, code: u32, tag: u32) -> u64 {
    kind as u64 | (flags.0 as u64) << 8 | (code as u64) << 16 | (tag as u64) << 32
}

/// Makes `parcel` one without a payload.
#[inline]
pub(super) fn clear(parcel: &mut Parcel, first: u64, deadline_ns: u64) {
    let none = u64::from(NONE);
    parcel.words = [first, 0, deadline_ns, none, 0, 0, none, 0];
}

// Whole words, each written once: parts of words that are written one by one and read together soon after would cost more
// than all the rest.

#[inline]
fn set_body(parcel: &mut Parcel, flags: Flags, word: u64, (offset, len): (u64, u64)) {
    let [first, _, _, handle, at, bytes, ..] = &mut parcel.words;
    *first |= u64::from(flags.0) << 8;
    *handle = word;
    *at = offset;
    *bytes = len;
}

#[inline]
fn set_range(parcel: &mut Parcel, flags: Flags, handle: Handle, range: Range) {
    set_body(parcel, flags, handle_word(handle), (range.offset, range.len));
}

fn set_head(parcel: &mut Parcel, handle: Handle, at: u32, len: usize) {
    let len = u32::try_from(len).unwrap_or(0);
    let [.., head, range] = &mut parcel.words;
    *head = handle_word(handle);
    *range = u64::from(at) | u64::from(len) << 32;
}

/// Whether a payload of `len` bytes travels in the parcel.
#[inline]
const fn is_small(len: usize) -> bool {
    len <= SMALL_BYTES
}

/// Copies what is no more than a parcel holds, and as long as its place.
#[inline]
fn copy_small(space: &mut [u8], bytes: &[u8]) {
    // A copy of any length is a call, where this is a module one of the host; of a length that is known it is a few words.
    if let (Some(space), Some(whole)) = (space.first_chunk_mut::<SMALL_BYTES>(), bytes.first_chunk()) {
        *space = *whole;
        return;
    }
    space.copy_from_slice(bytes);
}

/// Puts what is lent, for reading, and so little that it is copied, into the parcel. `false` if it is anything else.
#[inline(always)]
pub(super) fn put_lent(payload: &Payload<'_>, parcel: &mut Parcel) -> bool {
    match payload {
        Payload::Lend(held, Rights(TO_READ)) if is_small(held.len) => {
            put_small(held.bytes(), parcel);
            true
        }
        _ => false,
    }
}

/// Puts a small payload into the parcel itself.
#[inline(always)]
fn put_small(bytes: &[u8], parcel: &mut Parcel) {
    let len = bytes.len();
    let mut inline = [0u8; INLINE_MAX];
    if let Some(space) = inline.get_mut(..len) {
        space.copy_from_slice(bytes);
    } else if let Some(space) = parcel.small.as_mut_bytes().get_mut(..len) {
        copy_small(space, bytes);
    }
    let word = u64::from_le_bytes(inline);
    set_body(parcel, Flags::INLINE, u64::from(NONE), (word, len as u64));
}

impl Gates {
    /// Writes `payload`, with `head` before it, into `parcel`.
    ///
    /// # Errors
    /// Nothing has left this function's hands then.
    #[inline]
    pub(super) fn put(
        &'static self,
        payload: &mut Payload<'_>,
        head: &[u8],
        can_lend: bool,
        parcel: &mut Parcel,
    ) -> Result<(), Error> {
        match payload {
            // Stays in this function's hands, and is dropped with the payload.
            Payload::Buffer(buffer) if head.is_empty() && is_small(buffer.held.len) => {
                put_small(buffer.held.bytes(), parcel);
                Ok(())
            }
            Payload::Buffer(buffer) => self.put_owned(&mut buffer.held, head, parcel),
            lent if can_lend && head.is_empty() && put_lent(lent, parcel) => Ok(()),
            Payload::Lend(held, rights) if can_lend => {
                self.put_head(head, parcel)?;
                set_range(parcel, Flags::LEND, held.handle, held.range());
                parcel.rights = u32::from(rights.0);
                Ok(())
            }
            Payload::Empty => self.put_head(head, parcel),
            other => self.put_other(other, head, parcel),
        }
    }

    #[inline(never)]
    fn put_other(
        &'static self,
        payload: &mut Payload<'_>,
        head: &[u8],
        parcel: &mut Parcel,
    ) -> Result<(), Error> {
        match payload {
            Payload::Body(body) => match body.held.kind {
                Kind::Owned => self.put_owned(&mut body.held, head, parcel),
                Kind::Shared => {
                    self.put_head(head, parcel)?;
                    set_range(parcel, Flags::SHARE, body.held.handle, body.held.range());
                    Ok(())
                }
                // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
                Kind::Lent | Kind::Inline => self.put_bytes(body, head, parcel),
            },
            Payload::Shared(shared) => {
                self.put_head(head, parcel)?;
                set_range(parcel, Flags::SHARE, shared.handle(), shared.range());
                Ok(())
            }
            Payload::Bytes(bytes) => self.put_bytes(bytes, head, parcel),
            Payload::Lend(..) => {
                Err(Error::Denied { what: "a response cannot lend what its handler owns: move or share it" })
            }
            Payload::Buffer(_) | Payload::Empty => Ok(()),
        }
    }

    /// An owned payload moves; the head goes in front of it if there is room.
    #[inline]
    fn put_owned(&'static self, owned: &mut Holding, head: &[u8], parcel: &mut Parcel) -> Result<(), Error> {
        if !head.is_empty() {
            match owned.put_head(head) {
                Some(at) => set_head(parcel, owned.handle, at, head.len()),
                None => self.put_head(head, parcel)?,
            }
        }
        owned.wipe_tail();
        set_range(parcel, Flags::MOVE, owned.handle, owned.range());
        owned.armed = false;
        Ok(())
    }

    /// Plain bytes: in the descriptor, or where they lie, for the runtime to copy; where a head comes with them, both in one
    /// buffer.
    fn put_bytes(&'static self, bytes: &[u8], head: &[u8], parcel: &mut Parcel) -> Result<(), Error> {
        if bytes.is_empty() {
            return self.put_head(head, parcel);
        }
        if !head.is_empty() {
            let mut buffer = Buffer::copied(Runtime::Gates(self), bytes)?;
            return self.put_owned(&mut buffer.held, head, parcel);
        }
        if is_small(bytes.len()) {
            put_small(bytes, parcel);
        } else {
            let at = bytes.as_ptr().expose_provenance() as u64;
            set_body(parcel, Flags::BYTES, u64::from(NONE), (at, bytes.len() as u64));
        }
        Ok(())
    }

    #[inline]
    fn put_head(&'static self, head: &[u8], parcel: &mut Parcel) -> Result<(), Error> {
        if head.is_empty() { Ok(()) } else { self.put_head_apart(head, parcel) }
    }

    /// A head in a buffer of its own.
    #[inline(never)]
    fn put_head_apart(&'static self, head: &[u8], parcel: &mut Parcel) -> Result<(), Error> {
        let mut buffer = Buffer::copied(Runtime::Gates(self), head)?;
        let held = &mut buffer.held;
        held.wipe_tail();
        set_head(parcel, held.handle, u32::try_from(held.range().offset).unwrap_or(u32::MAX), head.len());
        held.armed = false;
        Ok(())
    }

    /// Gives up what moved into `words`, which the runtime refused. Whatever it took all the same is no loss.
    #[cold]
    pub(super) fn give_up(&self, words: [u64; DESCRIPTOR_WORDS]) {
        let Descriptor { flags, body, head, .. } = Descriptor::from_words(words);
        let Extent { handle, generation, .. } = body;
        let moved = !flags.has(Flags::LEND) && !flags.has(Flags::SHARE) && handle != NONE;
        let body = moved.then_some(pair(Handle { index: handle, generation }));
        let HeadExtent { handle: apart, generation, .. } = head;
        let is_apart = apart != NONE && (apart != handle || !moved);
        let head = is_apart.then_some(pair(Handle { index: apart, generation }));
        let pairs: Vec<Pair> = body.into_iter().chain(head).collect();
        self.free(&pairs);
    }
}
