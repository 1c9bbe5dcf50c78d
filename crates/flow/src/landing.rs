//! A head and, behind it, a body that comes piece by piece, into one buffer of an app's pool: requests of the gateway, and the
//! answers to what functions ask of the network.

use std::rc::Rc;
use std::sync::Arc;

use baton_abi::descriptor::NONE;
use baton_abi::{Extent, HeadExtent};
use baton_pool::capability::{Handle, Range};
use baton_pool::ledger::Place;
use baton_pool::pool::NodeBuffer;
use baton_pool::region::{Mapping, View};
use bytes::Buf;

use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::{Body, Head};

/// Room for a body whose length nobody declared, at first.
const UNKNOWN_BODY_BYTES: u64 = 16 * 1024 - 1024;
/// How much such a body's room grows each time, as a factor.
const GROWTH: u64 = 4;
/// Alignment of a body behind its head, so that typed values can be read in place.
const BODY_ALIGN: u64 = 64;

/// A payload on its way into the pool. Dropping it gives the buffer back.
pub struct Landing {
    app: Rc<App>,
    buffer: Option<NodeBuffer>,
    head_len: u64,
    body_at: u64,
    written: u64,
}

impl Landing {
    /// A buffer with `head` in it, and room for `body_len` bytes behind that.
    pub(crate) fn begin(app: &Rc<App>, head: &Head, body_len: Option<u64>) -> Result<Landing, InvokeError> {
        Landing::in_pieces(app, &[&head.bytes], body_len)
    }

    /// As [`Landing::begin`], of a head whose pieces lie in different places.
    pub(crate) fn in_pieces(
        app: &Rc<App>,
        head: &[impl AsRef<[u8]>],
        body_len: Option<u64>,
    ) -> Result<Landing, InvokeError> {
        let head_len: u64 = head.iter().map(|piece| piece.as_ref().len() as u64).sum();
        let body_at = head_len.next_multiple_of(BODY_ALIGN);
        let limit = app.pool.borrow().bytes();
        let wanted = body_at.saturating_add(body_len.unwrap_or(UNKNOWN_BODY_BYTES));
        if wanted > limit {
            return Err(InvokeError::TooLarge { limit });
        }
        let buffer = app.pool.borrow_mut().alloc(wanted).map_err(|_| InvokeError::PoolFull)?;
        let landing = Landing { app: Rc::clone(app), buffer: Some(buffer), head_len, body_at, written: 0 };
        // The buffer was made for the head: there is room.
        let pool = app.pool.borrow();
        let mut at = 0;
        for piece in head.iter().map(AsRef::as_ref).filter(|piece| !piece.is_empty()) {
            pool.write(&buffer, at, piece);
            at += piece.len() as u64;
        }
        // The gap up to the body may hold bytes of an owner before.
        let gap = [0u8; 64];
        let gap_len = usize::try_from(body_at - head_len).unwrap_or(0);
        pool.write(&buffer, head_len, gap.get(..gap_len).unwrap_or_default());
        drop(pool);
        Ok(landing)
    }

    /// Appends to the body.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`] and [`InvokeError::TooLarge`] when a body of undeclared length outgrows the pool.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        let at = self.body_at + self.written;
        let end = at.saturating_add(bytes.len() as u64);
        if self.buffer.is_none_or(|buffer| end > buffer.place.capacity) {
            self.grow(end)?;
        }
        let Some(buffer) = self.buffer else { return Err(InvokeError::PoolFull) };
        if !self.app.pool.borrow().write(&buffer, at, bytes) {
            return Err(InvokeError::PoolFull);
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn grow(&mut self, needed: u64) -> Result<(), InvokeError> {
        let Some(old) = self.buffer else { return Err(InvokeError::PoolFull) };
        let mut pool = self.app.pool.borrow_mut();
        let limit = pool.bytes();
        if needed > limit {
            return Err(InvokeError::TooLarge { limit });
        }
        let wanted = old.place.capacity.saturating_mul(GROWTH).max(needed).min(limit);
        let new = pool.alloc(wanted).or_else(|_| pool.alloc(needed)).map_err(|_| InvokeError::PoolFull)?;
        pool.mapping().copy_within(old.place.offset, new.place.offset, self.body_at + self.written);
        pool.release(old.handle);
        self.buffer = Some(new);
        Ok(())
    }

    /// The body as a descriptor carries it by itself; `None` if it is too long for that.
    pub(crate) fn inline(&self, buffer: &NodeBuffer) -> Option<Extent> {
        let mut bytes = [0; 8];
        let into = bytes.get_mut(..usize::try_from(self.written).ok()?)?;
        self.app.pool.borrow().mapping().read(buffer.place.offset + self.body_at, into);
        Some(Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(bytes), len: self.written })
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.written
    }

    /// The buffer, whoever takes it has to give it back.
    pub(crate) fn take(&mut self) -> Option<NodeBuffer> {
        self.buffer.take()
    }

    /// A buffer with `bytes` for a body, and no head.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`].
    pub(crate) fn of(app: &Rc<App>, bytes: &[u8]) -> Result<Landing, InvokeError> {
        let mut landing = Landing::begin(app, &Head::new(), Some(bytes.len() as u64))?;
        landing.write(bytes)?;
        Ok(landing)
    }

    /// A second buffer with what was taken out of one.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`].
    pub(crate) fn again(
        app: &Rc<App>,
        head: &[impl AsRef<[u8]>],
        body: &Body,
    ) -> Result<Landing, InvokeError> {
        let mut landing = Landing::in_pieces(app, head, Some(body.remaining() as u64))?;
        match body.in_pool() {
            Some((_, view)) => landing.copy(&view)?,
            None => landing.write(body.chunk())?,
        }
        Ok(landing)
    }

    /// The body, in private memory, if it has no more bytes than `most`.
    pub(crate) fn body(&self, most: u64) -> Option<Vec<u8>> {
        let buffer = self.buffer.filter(|_| self.written <= most)?;
        let mut body = vec![0; usize::try_from(self.written).ok()?];
        self.app.pool.borrow().mapping().read(buffer.place.offset + self.body_at, &mut body);
        Some(body)
    }

    /// The head, in private memory.
    pub(crate) fn head(&self) -> Vec<u8> {
        let Some(buffer) = self.buffer else { return Vec::new() };
        let mut head = vec![0; usize::try_from(self.head_len).unwrap_or(0)];
        self.app.pool.borrow().mapping().read(buffer.place.offset, &mut head);
        head
    }

    /// Appends what lies elsewhere in the pool; it must fit.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`] if it does not.
    pub(crate) fn copy(&mut self, view: &View) -> Result<(), InvokeError> {
        let (mapping, to) = self.range_for(view.len()).ok_or(InvokeError::PoolFull)?;
        if !mapping.copy_within(view.offset(), to, view.len()) {
            return Err(InvokeError::PoolFull);
        }
        self.written = view.len();
        Ok(())
    }

    /// Everything, taken out as a body that lies where it landed; the head stays in front of it, unseen.
    pub(crate) fn take_body(&mut self) -> Body {
        let place = self.buffer.take().map(|buffer| {
            let offset = buffer.place.offset + self.body_at;
            (buffer.handle, Place { offset, capacity: self.written })
        });
        Body::landed(&self.app, place)
    }

    /// The range in which a body of `len` bytes lands that comes by itself. `None` if there was no room made for it.
    pub(crate) fn range_for(&self, len: u64) -> Option<(Arc<Mapping>, u64)> {
        let buffer =
            self.buffer.filter(|buffer| self.body_at.saturating_add(len) <= buffer.place.capacity)?;
        Some((Arc::clone(self.app.pool.borrow().mapping()), buffer.place.offset + self.body_at))
    }

    /// The whole of a body of `len` bytes has come by itself into the range that was made for it.
    pub(crate) fn has_landed(&mut self, len: u64) {
        self.written = len;
    }

    /// What was written of the buffer.
    pub(crate) fn whole(&self) -> Range {
        Range { offset: 0, len: self.body_at + self.written }
    }

    /// Where body and head lie in `buffer`, for a descriptor.
    pub(crate) fn extents(&self, buffer: &NodeBuffer) -> (Extent, HeadExtent) {
        let Handle { index: handle, generation } = buffer.handle;
        let body = if self.written == 0 {
            Extent::EMPTY
        } else {
            Extent { handle, generation, offset: self.body_at, len: self.written }
        };
        // A head is bounded by HEAD_MAX_BYTES.
        let len = u32::try_from(self.head_len).unwrap_or(0);
        (body, HeadExtent { handle, generation, offset: 0, len })
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.app.release(buffer.handle);
        }
    }
}
