//! Bodies: payloads that were received, and frozen payloads that are shared.

use core::cell::Cell;
use core::fmt;
use core::ops::Deref;
use std::rc::Rc;

use crate::capability::{Handle, Range};
use baton_abi::Rights;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::held::{Held, Kind};

/// A received payload, read in place.
pub struct Body {
    pub(crate) held: Held,
}

impl Body {
    /// The payload as a buffer that can be written, if this function owns it (it was moved here, not lent).
    ///
    /// # Errors
    /// The body itself, unchanged, if it is only lent or shared.
    pub fn into_buffer(mut self) -> Result<Buffer, Body> {
        match self.held.kind {
            Kind::Owned if self.held.rights.allows(Rights::WRITE) => {
                let range = self.held.range();
                let end = usize::try_from(range.offset + range.len).unwrap_or(usize::MAX);
                self.held.written = self.held.written.max(end);
                Ok(Buffer { held: self.held })
            }
            // What fits a descriptor moves into a buffer when there is to be more of it.
            Kind::Inline => Buffer::copied(self.held.runtime, &self).map_err(|_| self),
            _ => Err(self),
        }
    }

    /// The payload, to be written in place: where this function owns it, or its sender lent it writable (`&mut Buffer`).
    ///
    /// # Errors
    /// [`Error::Denied`] if it may only be read, or was taken back.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], Error> {
        self.held.check(Rights::WRITE)?;
        Ok(self.held.bytes_mut())
    }

    /// Whether this function owns the payload and may move it on.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        matches!(self.held.kind, Kind::Owned | Kind::Inline)
    }

    /// Keeps the payload beyond the call, read-only, where its sender shared it or moved it here.
    ///
    /// # Errors
    /// [`Error::Denied`] if it is only lent.
    pub fn into_shared(self) -> Result<Shared, Error> {
        match self.held.kind {
            Kind::Lent => Err(Error::Denied { what: "keeping a payload that is only lent" }),
            Kind::Owned | Kind::Shared => Ok(Shared::frozen(self)),
            Kind::Inline => Ok(Buffer::copied(self.held.runtime, &self)?.freeze()),
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

    #[inline]
    fn deref(&self) -> &[u8] {
        self.held.bytes()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).field("kind", &self.held.kind).finish()
    }
}

/// A frozen payload: read-only for everyone, shared with any number of readers.
#[derive(Clone)]
pub struct Shared {
    frozen: Rc<Frozen>,
    range: Range,
}

struct Frozen {
    held: Held,
    /// The epoch in which the capability was found valid.
    checked: Cell<Option<u32>>,
}

impl Shared {
    /// Freezes `body`, which lies in a buffer.
    pub(crate) fn frozen(body: Body) -> Shared {
        let mut held = body.held;
        held.freeze();
        let range = held.range();
        Shared { frozen: Rc::new(Frozen { held, checked: Cell::new(None) }), range }
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`Error::Denied`] when the payload was revoked or has expired. A slice that was taken before stays readable
    /// in this process; what it shows then is not defined.
    pub fn bytes(&self) -> Result<&[u8], Error> {
        let Frozen { held, checked } = &*self.frozen;
        let epoch = held.runtime.epoch();
        if epoch.is_none() || checked.get() != epoch {
            held.check(Rights::READ)?;
            checked.set(epoch);
        }
        let skip =
            usize::try_from(self.range.offset.saturating_sub(held.range().offset)).unwrap_or(usize::MAX);
        let rest = held.bytes().get(skip..);
        Ok(rest.and_then(|rest| rest.get(..self.len())).unwrap_or_default())
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
        self.frozen.held.revoke_derived()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.frozen.held.handle
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
