//! Messages to parcels, and back.

use std::borrow::Cow;

use baton_abi::gate::{Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind as Message64, NONE, Rights};
use zerocopy::IntoBytes;

use super::payloads::Payloads;
use super::{Outgoing, Outside, Refusal};
use crate::buffer::Buffer;
use crate::call::Payload;
use crate::head::Heading;
use crate::held::{Head, Held, Kind};
use crate::message::Message;
use crate::runtime::Runtime;

/// Payloads that travel in the words of a descriptor, bytes.
const IN_WORDS_MAX: usize = 8;

/// What a parcel is to be sent with.
pub(super) enum Load {
    /// By value.
    Own(Payload<'static>),
    /// It is lent, with these rights, to the one call.
    Lent((u32, u32), Rights),
}

impl Outside {
    /// A parcel that says where the parts of a message lie, which are kept here from now on.
    pub(super) fn parcel(&self, about: Descriptor, message: Message) -> Parcel {
        let mut parcel = Parcel::EMPTY;
        let mut words = about;
        words.body = Extent::EMPTY;
        words.head = HeadExtent::EMPTY;
        if let Some(held) = message.0 {
            self.unpack(held, &mut words, &mut parcel);
        }
        parcel.words = words.to_words();
        parcel
    }

    fn unpack(&self, mut held: Held, words: &mut Descriptor, parcel: &mut Parcel) {
        let place = held.place();
        let (base, capacity) = (place.base.as_ptr().expose_provenance() as u64, place.capacity as u64);
        match core::mem::replace(&mut held.head, Head::Absent) {
            Head::Absent => {}
            Head::Beside { offset, len } => {
                let (handle, generation) = (held.handle.index, held.handle.generation);
                words.head = HeadExtent { handle, generation, offset, len };
                (parcel.head_base, parcel.head_capacity) = (base, capacity);
            }
            Head::Alone => {
                self.unpack_head(held, words, parcel);
                return;
            }
            Head::Apart(head) => self.unpack_head(head, words, parcel),
        }
        if held.kind == Kind::Inline {
            words.flags = words.flags.with(Flags::INLINE);
            words.body.len = held.len as u64;
            put_small(held.bytes(), words, parcel);
            return;
        }
        let range = held.range();
        let (handle, generation) = (held.handle.index, held.handle.generation);
        words.body = Extent { handle, generation, offset: range.offset, len: range.len };
        words.flags = words.flags.with(match held.kind {
            Kind::Lent => Flags::LEND,
            Kind::Shared => Flags::SHARE,
            Kind::Owned | Kind::Inline => Flags::MOVE,
        });
        parcel.rights = u32::from(held.rights.0);
        (parcel.body_base, parcel.body_capacity) = (base, capacity);
        self.payloads.borrow_mut().keep(held);
    }

    fn unpack_head(&self, head: Held, words: &mut Descriptor, parcel: &mut Parcel) {
        let (place, range) = (head.place(), head.range());
        let (offset, len) = (u32::try_from(range.offset), u32::try_from(range.len));
        let (Ok(offset), Ok(len)) = (offset, len) else { return };
        words.head =
            HeadExtent { handle: head.handle.index, generation: head.handle.generation, offset, len };
        parcel.head_base = place.base.as_ptr().expose_provenance() as u64;
        parcel.head_capacity = place.capacity as u64;
        self.payloads.borrow_mut().keep(head);
    }

    /// The end of a call that failed: a parcel with the status and a text.
    pub(super) fn failure(&self, tag: u32, status: u16, from: u32, text: &str) -> Parcel {
        let about =
            Descriptor { tag, code: status, flags: Flags::ERROR, ..Descriptor::new(Message64::Reply) };
        let message = match Buffer::copied(Runtime::Link(self.link), text.as_bytes()) {
            Ok(buffer) => Message(Some(buffer.into_body().held)),
            // A pool without room for it: as much as fits the parcel.
            Err(_) => Message(None),
        };
        let mut parcel = self.parcel(about, message);
        if parcel.body_base == 0 {
            let fits = text.len().min(SMALL_BYTES);
            let mut words = Descriptor::from_words(parcel.words);
            words.flags = words.flags.with(Flags::INLINE);
            words.body.len = fits as u64;
            put_small(text.as_bytes().get(..fits).unwrap_or_default(), &mut words, &mut parcel);
            parcel.words = words.to_words();
        }
        parcel.from = from;
        parcel
    }

    /// What a message of the other language is to be sent with. What moves has left the other language's hands then; if this
    /// fails, nothing has.
    pub(super) fn load(&self, message: Outgoing<'_>, can_lend: bool) -> Result<(Load, Heading), Refusal> {
        let mut payloads = self.payloads.borrow_mut();
        let Descriptor { flags, body, head, tag, .. } = Descriptor::from_words(message.parcel.words);
        let heading = read_head(&payloads, head, message.head)?;
        // A head in a buffer of its own has been read.
        let is_apart = head.handle != NONE && head.handle != body.handle;
        let load = match message.bytes {
            Some(bytes) => Load::Own(self.copied(tag, bytes)?),
            None if flags.has(Flags::INLINE) => Load::Own(small(message.parcel, body)?),
            None if body.handle == NONE => Load::Own(Payload::Empty),
            None if flags.has(Flags::LEND) && !can_lend => return Err(Refusal::Denied),
            None if flags.has(Flags::LEND) => {
                let [rights, ..] = message.parcel.rights.to_le_bytes();
                Load::Lent(payloads.lend(body)?, Rights(rights))
            }
            None => Load::Own(payloads.send(body, flags.has(Flags::SHARE))?),
        };
        drop(payloads);
        if is_apart {
            let pair = baton_abi::gate::Pair { handle: head.handle, generation: head.generation };
            let _ = self.free(pair);
        }
        Ok((load, heading))
    }
}

impl Outside {
    /// Bytes of the other language's own memory, copied into the pool at the expense of the request with this tag.
    fn copied(&self, request: u32, bytes: &[u8]) -> Result<Payload<'static>, Refusal> {
        if bytes.is_empty() {
            return Ok(Payload::Empty);
        }
        if !self.link.can_write() {
            // As much as fits a descriptor, which is found out when it is sent.
            return Ok(Payload::Bytes(Cow::Owned(bytes.to_vec())));
        }
        let buffer =
            Buffer::copied(Runtime::Link(self.link), bytes).map_err(|error| Refusal::from(&error))?;
        self.count_copy(request, bytes.len());
        Ok(Payload::Buffer(buffer))
    }
}

fn read_head(payloads: &Payloads, head: HeadExtent, given: &[u8]) -> Result<Heading, Refusal> {
    let bytes = if head.handle == NONE {
        given.to_vec()
    } else {
        payloads.read((head.handle, head.generation), head.offset, head.len)?
    };
    Heading::encoded(bytes).ok_or(Refusal::Invalid)
}

fn put_small(bytes: &[u8], words: &mut Descriptor, parcel: &mut Parcel) {
    let mut inline = [0u8; IN_WORDS_MAX];
    if let Some(space) = inline.get_mut(..bytes.len()) {
        space.copy_from_slice(bytes);
    } else if let Some(space) = parcel.small.as_mut_bytes().get_mut(..bytes.len()) {
        space.copy_from_slice(bytes);
    }
    words.body.offset = u64::from_le_bytes(inline);
}

fn small(parcel: &Parcel, body: Extent) -> Result<Payload<'static>, Refusal> {
    let len = usize::try_from(body.len).map_err(|_| Refusal::Invalid)?;
    let word = body.offset.to_le_bytes();
    let from = if len <= IN_WORDS_MAX { &word[..] } else { parcel.small.as_bytes() };
    let bytes = from.get(..len).ok_or(Refusal::Invalid)?;
    Ok(Payload::Bytes(Cow::Owned(bytes.to_vec())))
}
