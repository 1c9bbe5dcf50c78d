//! Payloads to parcels. What moves leaves this function's hands as soon as it stands in a descriptor.

use baton_abi::gate::Pair;
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Handle, Range};

use super::Gates;
use crate::call::Payload;
use crate::capability::{Departing, Kind};
use crate::error::Error;

/// Payloads up to this size travel in the descriptor itself, bytes.
const INLINE_MAX: usize = 8;

fn extent(handle: Handle, range: Range) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset: range.offset, len: range.len }
}

impl Gates {
    /// Writes `payload`, with `head` before it, into `d`; gives the rights that a lent payload comes with.
    ///
    /// # Errors
    /// Nothing has left this function's hands then.
    #[inline]
    pub(super) fn put(
        &'static self,
        payload: &mut Payload<'_>,
        head: &[u8],
        can_lend: bool,
        d: &mut Descriptor,
    ) -> Result<Rights, Error> {
        match payload {
            Payload::Buffer(buffer) => self.put_owned(buffer.departing(), head, d)?,
            Payload::Body(body) => match body.kind() {
                Kind::Owned => self.put_owned(body.departing(), head, d)?,
                Kind::Shared => {
                    self.put_head(head, d)?;
                    put_shared(body.handle(), body.range(), d);
                }
                // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
                Kind::Lent => self.put_bytes(body, head, d)?,
            },
            Payload::Lend(handle, range, rights) if can_lend => {
                d.flags = d.flags.with(Flags::LEND);
                d.body = extent(*handle, *range);
                return Ok(*rights);
            }
            Payload::Lend(..) => {
                return Err(Error::Denied {
                    what: "a response cannot lend what its handler owns: move or share it",
                });
            }
            Payload::Shared(shared) => {
                self.put_head(head, d)?;
                put_shared(shared.handle(), shared.range(), d);
            }
            Payload::Bytes(bytes) => self.put_bytes(bytes, head, d)?,
            Payload::Empty => self.put_head(head, d)?,
        }
        Ok(Rights::NONE)
    }

    /// An owned payload moves; the head goes in front of it if there is room.
    #[inline]
    fn put_owned(
        &'static self,
        mut owned: Departing<'_>,
        head: &[u8],
        d: &mut Descriptor,
    ) -> Result<(), Error> {
        let handle = owned.capability.handle;
        if !head.is_empty() {
            match owned.put_head(head) {
                Some(at) => d.head = head_extent(handle, at, head.len()),
                None => self.put_head(head, d)?,
            }
        }
        owned.wipe_tail();
        d.body = extent(handle, owned.range);
        owned.capability.armed = false;
        Ok(())
    }

    /// Plain bytes: in the descriptor, or where they lie, for the runtime to copy; where a head comes with them, both in one
    /// buffer.
    fn put_bytes(&'static self, bytes: &[u8], head: &[u8], d: &mut Descriptor) -> Result<(), Error> {
        if bytes.is_empty() {
            return self.put_head(head, d);
        }
        if !head.is_empty() {
            let mut buffer = self.alloc(bytes.len())?;
            buffer.extend_from_slice(bytes)?;
            return self.put_owned(buffer.departing(), head, d);
        }
        let mut inline = [0u8; INLINE_MAX];
        let (how, offset) = match inline.get_mut(..bytes.len()) {
            Some(space) => {
                space.copy_from_slice(bytes);
                (Flags::INLINE, u64::from_le_bytes(inline))
            }
            None => (Flags::BYTES, bytes.as_ptr().expose_provenance() as u64),
        };
        d.flags = d.flags.with(how);
        d.body = Extent { handle: NONE, generation: 0, offset, len: bytes.len() as u64 };
        Ok(())
    }

    /// A head in a buffer of its own.
    #[inline]
    fn put_head(&'static self, head: &[u8], d: &mut Descriptor) -> Result<(), Error> {
        if head.is_empty() {
            return Ok(());
        }
        let mut buffer = self.alloc(head.len())?;
        buffer.extend_from_slice(head)?;
        let mut owned = buffer.departing();
        owned.wipe_tail();
        let at = u32::try_from(owned.range.offset).unwrap_or(u32::MAX);
        d.head = head_extent(owned.capability.handle, at, head.len());
        owned.capability.armed = false;
        Ok(())
    }

    /// Gives up what moved into `d`, which the runtime refused. Whatever it took all the same is no loss.
    #[cold]
    pub(super) fn give_up(&self, d: &Descriptor) {
        let moved = !d.flags.has(Flags::LEND) && !d.flags.has(Flags::SHARE) && d.body.handle != NONE;
        let body = moved.then_some(Pair { handle: d.body.handle, generation: d.body.generation });
        let apart = d.head.handle != NONE && (d.head.handle != d.body.handle || !moved);
        let head = apart.then_some(Pair { handle: d.head.handle, generation: d.head.generation });
        let pairs: Vec<Pair> = body.into_iter().chain(head).collect();
        self.free(&pairs);
    }
}

fn put_shared(handle: Handle, range: Range, d: &mut Descriptor) {
    d.flags = d.flags.with(Flags::SHARE);
    d.body = extent(handle, range);
}

fn head_extent(handle: Handle, at: u32, len: usize) -> HeadExtent {
    HeadExtent {
        handle: handle.index,
        generation: handle.generation,
        offset: at,
        len: u32::try_from(len).unwrap_or(0),
    }
}
