//! Parcels to payloads.

use core::ptr::NonNull;

use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Flags, NONE, Rights};
use baton_pool::capability::{Handle, Range};

use super::Gates;
use crate::body::Body;
use crate::capability::{Capability, Kind};
use crate::error::Error;
use crate::message::{Accepted, Content, Head, Inline};
use crate::runtime::Runtime;

/// One buffer of a parcel.
struct Place {
    handle: Handle,
    base: u64,
    capacity: u64,
    range: Range,
    kind: Kind,
    rights: Rights,
}

impl Gates {
    /// Takes over what a parcel carries.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a range outside of its buffer, which the runtime does not send.
    #[inline]
    pub(super) fn accept(&'static self, parcel: &Parcel, d: &Descriptor) -> Result<Accepted, Error> {
        let content = if d.body.handle != NONE && !d.flags.has(Flags::INLINE) {
            let kind = match d.flags {
                flags if flags.has(Flags::LEND) => Kind::Lent,
                flags if flags.has(Flags::SHARE) => Kind::Shared,
                _ => Kind::Owned,
            };
            let [rights, ..] = parcel.rights.to_le_bytes();
            Content::Body(self.take(&Place {
                handle: Handle { index: d.body.handle, generation: d.body.generation },
                base: parcel.body_base,
                capacity: parcel.body_capacity,
                range: Range { offset: d.body.offset, len: d.body.len },
                kind,
                rights: Rights(rights),
            })?)
        } else {
            Inline::of(Runtime::Gates(self), d.body, d.flags)
        };
        if d.head.handle == NONE {
            return Ok(Accepted { content, head: Head::Absent });
        }
        self.accept_head(parcel, d, content)
    }

    fn accept_head(
        &'static self,
        parcel: &Parcel,
        d: &Descriptor,
        content: Content,
    ) -> Result<Accepted, Error> {
        let range = Range { offset: u64::from(d.head.offset), len: u64::from(d.head.len) };
        if let Content::Body(part) = &content
            && d.head.handle == d.body.handle
        {
            if !(Range { offset: 0, len: part.capacity() }).contains(range) {
                return Err(Error::Protocol { what: "a head outside of its buffer" });
            }
            return Ok(Accepted { content, head: Head::Beside { offset: d.head.offset, len: d.head.len } });
        }
        let head = self.take(&Place {
            handle: Handle { index: d.head.handle, generation: d.head.generation },
            base: parcel.head_base,
            capacity: parcel.head_capacity,
            range,
            kind: Kind::Owned,
            rights: Rights::ALL,
        })?;
        Ok(match content {
            Content::Empty => Accepted { content: Content::Body(head), head: Head::Alone },
            content => Accepted { content, head: Head::Apart(Box::new(head)) },
        })
    }

    #[inline]
    fn take(&'static self, place: &Place) -> Result<Body, Error> {
        let Place { handle, base, capacity, range, kind, rights } = *place;
        let at = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(base).unwrap_or(0));
        let outside = Error::Protocol { what: "a payload outside of its buffer" };
        let (Some(base), true) = (NonNull::new(at), (Range { offset: 0, len: capacity }).contains(range))
        else {
            return Err(outside);
        };
        let written = u32::try_from(range.offset + range.len).unwrap_or(u32::MAX);
        let runtime = Runtime::Gates(self);
        let capability = Capability { runtime, handle, base, capacity, written, kind, rights, armed: true };
        // In bounds of the capacity, which fits the address space.
        let start = usize::try_from(range.offset).unwrap_or(0);
        let len = usize::try_from(range.len).unwrap_or(0);
        Ok(Body::new(capability, start, len))
    }
}
