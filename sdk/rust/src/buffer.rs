//! Buffers: payloads that this function owns and may write.

use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(not(target_arch = "wasm32"))]
use baton_abi::Rights;
use baton_abi::limits::HEADROOM_BYTES;

use crate::body::{Body, Shared};
use crate::error::Error;
use crate::held::{Held, Holding};
#[cfg(not(target_arch = "wasm32"))]
use crate::held::{Kind, Place};
use crate::runtime::Runtime;

/// A payload that this function owns: append-only like a `Vec<u8>` of fixed capacity, writable in place.
pub struct Buffer {
    pub(crate) held: Held,
}

/// Where a payload of `wanted` bytes begins in a buffer.
#[inline]
fn start_in(capacity: usize, wanted: usize) -> usize {
    let headroom = usize::try_from(HEADROOM_BYTES).unwrap_or(0);
    if capacity.saturating_sub(headroom) >= wanted { headroom } else { 0 }
}

impl Buffer {
    /// An empty payload at `place`, with room for `wanted` bytes, and for a head in front where there is any to spare.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn new(runtime: Runtime, place: Place, wanted: usize) -> Buffer {
        let start = start_in(place.capacity, wanted);
        Buffer { held: Held::claim(runtime, place, (start, 0), (Kind::Owned, Rights::ALL)) }
    }

    /// The same in a buffer that was kept with its box.
    #[inline]
    pub(crate) fn again(kept: Box<Holding>, wanted: usize) -> Buffer {
        let start = start_in(kept.capacity, wanted);
        Buffer { held: Held::again(kept, start) }
    }

    /// A payload with a copy of `bytes`.
    #[inline]
    pub(crate) fn copied(runtime: Runtime, bytes: &[u8]) -> Result<Buffer, Error> {
        let mut buffer = runtime.alloc(bytes.len())?;
        buffer.extend_from_slice(bytes)?;
        Ok(buffer)
    }

    /// Bytes written.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.held.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.len == 0
    }

    /// Bytes that fit.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.held.room()
    }

    /// Bytes that still fit.
    #[must_use]
    #[inline]
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Forgets what is written.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets what is written behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.held.len = self.held.len.min(len);
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::BufferFull`]; nothing is appended then.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.remaining() {
            return Err(self.full(self.len() + bytes.len()));
        }
        self.held.append(bytes);
        Ok(())
    }

    /// Appends what `fill` writes into the space behind the payload, at most `most` bytes; `fill` says how many it wrote. What the
    /// space holds before is not defined.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn append_with<E>(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.held.append_with(most, fill)
    }

    /// Appends zeros until `len` bytes are written.
    ///
    /// # Errors
    /// [`Error::BufferFull`]; nothing is appended then.
    #[inline]
    pub fn grow_zeroed(&mut self, len: usize) -> Result<(), Error> {
        let Some(more) = len.checked_sub(self.len()) else { return Ok(()) };
        if more > self.remaining() {
            return Err(self.full(len));
        }
        self.held.append_zeros(more);
        Ok(())
    }

    #[cold]
    fn full(&self, wanted: usize) -> Error {
        Error::BufferFull { capacity: self.capacity(), wanted }
    }

    /// Freezes the payload: from now on anyone may be given read access, and nobody can write it.
    #[must_use]
    pub fn freeze(self) -> Shared {
        Shared::frozen(self.into_body())
    }

    /// The payload as something received: to be handed on as it is.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.describe();
        Body { held: self.held }
    }

    /// Says in the app's capability table which range is used: who looks there, or derives from it, sees that.
    #[inline]
    pub(crate) fn describe(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        if let Runtime::Link(link) = self.held.runtime {
            link.describe(&self.held);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.held.bytes()
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.held.bytes_mut()
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
        f.debug_struct("Buffer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}
