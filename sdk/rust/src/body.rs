//! Bodies: payloads that were received, and frozen payloads that are shared.

// UNSAFETY: slices into the app's pool.
#![expect(unsafe_code, reason = "slices over buffers that this function may read")]

use core::cell::Cell;
use core::fmt;
use core::ops::Deref;
use std::rc::Rc;

use baton_abi::Rights;
use baton_pool::capability::{Handle, Range};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::buffer::Buffer;
use crate::capability::{Capability, Departing, Kind};
use crate::error::Error;

/// A received payload, read in place.
pub struct Body {
    capability: Capability,
    start: usize,
    len: usize,
}

impl Body {
    /// `start..start + len` lies inside the capability's buffer.
    #[inline]
    pub(crate) fn new(capability: Capability, start: usize, len: usize) -> Body {
        Body { capability, start, len }
    }

    /// The payload as a buffer that can be written, if this function owns it (it was moved here, not lent).
    ///
    /// # Errors
    /// The body itself, unchanged, if it is only lent or shared.
    pub fn into_buffer(self) -> Result<Buffer, Body> {
        if self.capability.kind != Kind::Owned || !self.capability.rights.allows(Rights::WRITE) {
            return Err(self);
        }
        Ok(Buffer::received(self.capability, self.start, self.len))
    }

    /// The payload, to be written in place: where this function owns it, or its sender lent it writable (`&mut Buffer`).
    ///
    /// # Errors
    /// [`Error::Denied`] if it may only be read, or was taken back.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], Error> {
        self.capability.check(Rights::WRITE, self.range())?;
        // SAFETY: `start` lies inside the buffer, checked when the body arrived.
        let from = unsafe { self.capability.base.as_ptr().add(self.start) };
        // SAFETY: `start + len` lies inside writable memory: this function holds the capability with the right to write,
        // by the check. A lender that gave it cannot touch its buffer while its `&mut` lasts, and `&mut self` is the only
        // reference here.
        Ok(unsafe { core::slice::from_raw_parts_mut(from, self.len) })
    }

    /// Whether this function owns the payload and may move it on.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.capability.kind == Kind::Owned
    }

    /// Keeps the payload beyond the call, read-only, where its sender shared it or moved it here.
    ///
    /// # Errors
    /// [`Error::Denied`] if it is only lent.
    pub fn into_shared(self) -> Result<Shared, Error> {
        match self.capability.kind {
            Kind::Lent => Err(Error::Denied { what: "keeping a payload that is only lent" }),
            Kind::Owned | Kind::Shared => Ok(Shared::freeze(self)),
        }
    }

    /// The payload as a value of `T`, in place.
    ///
    /// # Errors
    /// [`Error::Layout`] unless size and alignment fit.
    pub fn value<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T, Error> {
        value(self)
    }

    /// The payload as a slice of `T`, in place.
    ///
    /// # Errors
    /// [`Error::Layout`] unless size and alignment fit.
    pub fn values<T: FromBytes + Immutable>(&self) -> Result<&[T], Error> {
        values(self)
    }

    /// The head that lies in the same buffer, at `range`, which was checked against the buffer on arrival.
    pub(crate) fn before(&self, range: Range) -> &[u8] {
        let (Ok(at), Ok(len)) = (usize::try_from(range.offset), usize::try_from(range.len)) else {
            return &[];
        };
        // SAFETY: `range` lies inside the buffer, checked when the message was accepted.
        let from = unsafe { self.capability.base.as_ptr().add(at) };
        // SAFETY: as in `deref`: the whole buffer is this function's while it holds the capability.
        unsafe { core::slice::from_raw_parts(from, len) }
    }

    pub(crate) fn range(&self) -> Range {
        Range { offset: self.start as u64, len: self.len as u64 }
    }

    #[inline]
    pub(crate) fn handle(&self) -> Handle {
        self.capability.handle
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.capability.kind
    }

    /// Bytes of the whole buffer.
    pub(crate) fn capacity(&self) -> u64 {
        self.capability.capacity
    }

    /// The payload, to be sent, if this function owns it.
    #[inline]
    pub(crate) fn departing(&mut self) -> Departing<'_> {
        let range = self.range();
        let written = range.offset.saturating_add(range.len).max(u64::from(self.capability.written));
        Departing { capability: &mut self.capability, range, written }
    }
}

/// `bytes` as one `T`.
pub(crate) fn value<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<&T, Error> {
    T::ref_from_bytes(bytes).map_err(|_| Error::Layout { len: bytes.len(), expected: size_of::<T>() })
}

/// `bytes` as a slice of `T`.
pub(crate) fn values<T: FromBytes + Immutable>(bytes: &[u8]) -> Result<&[T], Error> {
    <[T]>::ref_from_bytes(bytes).map_err(|_| Error::Layout { len: bytes.len(), expected: size_of::<T>() })
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` lies inside the buffer, checked when the body arrived.
        let from = unsafe { self.capability.base.as_ptr().add(self.start) };
        // SAFETY: `start + len` lies inside the buffer (checked on arrival). While this function holds the
        // capability no other function of the app has a right to write the range; functions of one app trust
        // each other's intent.
        unsafe { core::slice::from_raw_parts(from, self.len) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len).field("kind", &self.capability.kind).finish()
    }
}

/// A frozen payload: read-only for everyone, shared with any number of readers.
#[derive(Clone)]
pub struct Shared {
    frozen: Rc<Frozen>,
    range: Range,
}

struct Frozen {
    body: Body,
    /// The epoch in which the capability was found valid.
    checked: Cell<Option<u32>>,
}

impl Shared {
    pub(crate) fn freeze(mut body: Body) -> Shared {
        let range = body.range();
        body.capability.freeze(range);
        Shared { frozen: Rc::new(Frozen { body, checked: Cell::new(None) }), range }
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`Error::Denied`] when the payload was revoked or has expired. A slice that was taken before stays readable
    /// in this process; what it shows then is not defined.
    pub fn bytes(&self) -> Result<&[u8], Error> {
        let Frozen { body, checked } = &*self.frozen;
        let epoch = body.capability.runtime.epoch();
        if epoch.is_none() || checked.get() != epoch {
            body.capability.check(Rights::READ, body.range())?;
            checked.set(epoch);
        }
        let skip = usize::try_from(self.range.offset).unwrap_or(usize::MAX).saturating_sub(body.start);
        let len = usize::try_from(self.range.len).unwrap_or(usize::MAX);
        Ok(body.get(skip..).and_then(|rest| rest.get(..len)).unwrap_or_default())
    }

    /// A part of it, `from..to` counted in bytes of this one. Narrowing only narrows.
    ///
    /// # Errors
    /// [`Error::Denied`] when the part does not lie inside.
    pub fn narrow(&self, part: core::ops::Range<usize>) -> Result<Shared, Error> {
        let (from, to) = (part.start as u64, part.end as u64);
        if from > to || to > self.range.len {
            return Err(Error::Denied { what: "a part outside of the payload" });
        }
        let range = Range { offset: self.range.offset + from, len: to - from };
        Ok(Shared { frozen: Rc::clone(&self.frozen), range })
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.range.len).unwrap_or(usize::MAX)
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.len == 0
    }

    /// Takes the payload away from everyone that it was shared with, and from everyone that they passed it on to.
    /// When this returns no further view of it can be opened. Returns how many capabilities ended.
    pub fn revoke(&self) -> u32 {
        self.frozen.body.capability.revoke_derived()
    }

    #[inline]
    pub(crate) fn handle(&self) -> Handle {
        self.frozen.body.handle()
    }

    pub(crate) fn range(&self) -> Range {
        self.range
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("len", &self.range.len).finish()
    }
}
