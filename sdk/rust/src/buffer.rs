//! Buffers: payloads that this function owns and may write.

// UNSAFETY: slices into the app's pool.
#![expect(unsafe_code, reason = "slices over buffers that this function owns")]

use core::fmt;
use core::ops::{Deref, DerefMut};

use baton_abi::Rights;
use baton_abi::limits::HEADROOM_BYTES;
use baton_pool::capability::Range;

use crate::body::{Body, Shared};
use crate::call::Payload;
use crate::capability::{Capability, Departing};
use crate::error::Error;
use crate::runtime::Runtime;

/// A payload that this function owns: append-only like a `Vec<u8>` of fixed capacity, writable in place.
pub struct Buffer {
    capability: Capability,
    start: usize,
    len: usize,
    capacity: usize,
    high_water: usize,
}

impl Buffer {
    /// An empty payload in `capability`'s buffer, which is writable, with room for a head in front where there is any to
    /// spare.
    #[inline]
    pub(crate) fn new(capability: Capability, wanted: usize) -> Buffer {
        let whole = usize::try_from(capability.capacity).unwrap_or(usize::MAX);
        let headroom = usize::try_from(HEADROOM_BYTES).unwrap_or(0);
        let start = if whole.saturating_sub(headroom) >= wanted { headroom } else { 0 };
        let high_water = start.max(capability.written as usize);
        Buffer { capability, start, len: 0, capacity: whole - start, high_water }
    }

    /// A received payload, writable because it is owned; `start + len` lies inside the buffer.
    pub(crate) fn received(capability: Capability, start: usize, len: usize) -> Buffer {
        let whole = usize::try_from(capability.capacity).unwrap_or(usize::MAX);
        let capacity = whole.saturating_sub(start);
        let high_water = (start + len).max(capability.written as usize);
        Buffer { capability, start, len, capacity, high_water }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity - self.len
    }

    /// Forgets what is written.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets what is written behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.high_water = self.high_water.max(self.start + self.len);
        self.len = self.len.min(len);
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::BufferFull`]; nothing is appended then.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.remaining() {
            return Err(Error::BufferFull { capacity: self.capacity, wanted: self.len + bytes.len() });
        }
        // SAFETY: `start + len + bytes.len() <= start + capacity`, which is inside the buffer's mapping.
        let to = unsafe { self.capability.base.as_ptr().add(self.start + self.len) };
        // SAFETY: `to` is valid for that many bytes of writable mapping that this function owns; `bytes` cannot
        // overlap bytes behind `len`, to which no reference is ever given out.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.len += bytes.len();
        Ok(())
    }

    /// Appends zeros until `len` bytes are written.
    ///
    /// # Errors
    /// [`Error::BufferFull`]; nothing is appended then.
    pub fn grow_zeroed(&mut self, len: usize) -> Result<(), Error> {
        let Some(more) = len.checked_sub(self.len) else { return Ok(()) };
        if more > self.remaining() {
            return Err(Error::BufferFull { capacity: self.capacity, wanted: len });
        }
        // SAFETY: inside the mapping, as in `extend_from_slice`.
        let to = unsafe { self.capability.base.as_ptr().add(self.start + self.len) };
        // SAFETY: `to` is valid for `more` bytes of writable mapping that this function owns.
        unsafe { core::ptr::write_bytes(to, 0, more) };
        self.len = len;
        Ok(())
    }

    /// Freezes the payload: from now on anyone may be given read access, and nobody can write it.
    #[must_use]
    pub fn freeze(self) -> Shared {
        Shared::freeze(self.into_body())
    }

    /// The payload as something received: to be handed on as it is.
    #[must_use]
    pub fn into_body(mut self) -> Body {
        self.describe();
        Body::new(self.capability.take(), self.start, self.len)
    }

    /// The payload, to be lent. Nobody can write it through this reference while that lasts.
    #[inline]
    pub(crate) fn lend<'a>(&self, rights: Rights) -> Payload<'a> {
        if let Runtime::Link(link) = self.capability.runtime {
            // Whoever derives from a capability looks at its range.
            link.describe(self.capability.handle, self.range(), self.written());
        }
        Payload::Lend(self.capability.handle, self.range(), rights)
    }

    /// The range of the payload in its buffer.
    #[inline]
    fn range(&self) -> Range {
        Range { offset: self.start as u64, len: self.len as u64 }
    }

    /// The payload, to be sent.
    #[inline]
    pub(crate) fn departing(&mut self) -> Departing<'_> {
        let (range, written) = (self.range(), self.written());
        Departing { capability: &mut self.capability, range, written }
    }

    /// First byte behind everything that was ever written.
    #[inline]
    fn written(&self) -> u64 {
        self.high_water.max(self.start + self.len) as u64
    }

    #[inline]
    fn describe(&mut self) {
        let (range, written) = (self.range(), self.written());
        self.capability.describe(range, written);
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.capability.armed {
            self.describe();
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start <= whole buffer`, checked when the buffer was made.
        let from = unsafe { self.capability.base.as_ptr().add(self.start) };
        // SAFETY: the first `len` bytes were written, lie inside the mapping, and this function owns them: nobody else
        // has a right to write them while `self` lives.
        unsafe { core::slice::from_raw_parts(from, self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        let from = unsafe { self.capability.base.as_ptr().add(self.start) };
        // SAFETY: as in `deref`, and `&mut self` is the only reference.
        unsafe { core::slice::from_raw_parts_mut(from, self.len) }
    }
}

impl fmt::Write for Buffer {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fits = bytes.len().min(self.remaining());
        let part = bytes.get(..fits).unwrap_or_default();
        self.extend_from_slice(part).map_err(std::io::Error::other)?;
        Ok(fits)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("capacity", &self.capacity).finish()
    }
}
