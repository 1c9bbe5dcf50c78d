//! Live capabilities: what [`crate::Buffer`], [`crate::Body`] and [`crate::Shared`] hold, and give back when dropped.

// UNSAFETY: writes into payload memory.
#![expect(unsafe_code, reason = "writes into buffers that this function owns")]

use core::ptr::NonNull;

use baton_abi::Rights;
use baton_pool::capability::{Handle, Range};

use crate::error::Error;
use crate::runtime::Runtime;

/// How a capability came into this function's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The buffer is this function's.
    Owned,
    /// Derived; it ends with the call.
    Lent,
    /// Derived and read-only; this function may keep it.
    Shared,
}

/// One capability in this function's hands. Dropping it gives it back.
pub(crate) struct Capability {
    pub(crate) runtime: Runtime,
    pub(crate) handle: Handle,
    /// Where the buffer is mapped, `capacity` bytes long.
    pub(crate) base: NonNull<u8>,
    pub(crate) capacity: u64,
    /// First byte behind everything that was ever written, as far as this function knows; large buffers do not need it.
    pub(crate) written: u32,
    pub(crate) kind: Kind,
    pub(crate) rights: Rights,
    /// Whether it is still this value's to give back.
    pub(crate) armed: bool,
}

impl Capability {
    /// Takes the capability out of a value that is taken apart.
    #[inline]
    pub(crate) fn take(&mut self) -> Capability {
        let armed = core::mem::take(&mut self.armed);
        Capability { armed, ..*self }
    }

    /// Whether this function still may do `need` with `range`.
    #[inline]
    pub(crate) fn check(&self, need: Rights, range: Range) -> Result<(), Error> {
        match self.runtime {
            Runtime::Link(link) => link.check(self.handle, need, range),
            Runtime::Gates(gates) => gates.check(self, need, range),
        }
    }

    /// Notes which range is used, and how far bytes were ever written.
    #[inline]
    pub(crate) fn describe(&mut self, range: Range, written: u64) {
        match self.runtime {
            Runtime::Link(link) => link.describe(self.handle, range, written),
            Runtime::Gates(_) => self.written = u32::try_from(written).unwrap_or(u32::MAX),
        }
    }

    /// Gives up all rights but to read and to pass on, for good.
    pub(crate) fn freeze(&mut self, range: Range) {
        match self.runtime {
            Runtime::Link(link) => link.freeze(self, range),
            Runtime::Gates(gates) => gates.freeze(self),
        }
    }

    /// Ends everything that was derived from this capability; how much that was.
    pub(crate) fn revoke_derived(&self) -> u32 {
        match self.runtime {
            Runtime::Link(link) => link.revoke_derived(self.handle),
            Runtime::Gates(gates) => gates.revoke_derived(self.handle),
        }
    }
}

impl Drop for Capability {
    #[inline]
    fn drop(&mut self) {
        if self.armed {
            match self.runtime {
                Runtime::Link(link) => link.give_back(self),
                Runtime::Gates(gates) => gates.give_back(self),
            }
        }
    }
}

/// An owned payload that is about to be sent.
pub(crate) struct Departing<'a> {
    pub(crate) capability: &'a mut Capability,
    pub(crate) range: Range,
    /// First byte behind everything that was ever written.
    pub(crate) written: u64,
}

impl Departing<'_> {
    /// Writes `head` in front of the payload if there is room; returns where.
    pub(crate) fn put_head(&mut self, head: &[u8]) -> Option<u32> {
        if !self.capability.rights.allows(Rights::WRITE) {
            return None;
        }
        let at = u32::try_from(self.range.offset.checked_sub(head.len() as u64)?).ok()?;
        // SAFETY: `at + head.len()` is the payload's start, inside the buffer.
        let to = unsafe { self.capability.base.as_ptr().add(at as usize) };
        // SAFETY: writable memory that this function owns; no reference to bytes in front of the payload is ever given
        // out once it is being sent, and `head` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len()) };
        Some(at)
    }

    /// Writes zeros over what was written behind the payload: only the payload's end is told to whoever gets the buffer.
    #[inline]
    pub(crate) fn wipe_tail(&mut self) {
        let end = self.range.offset + self.range.len;
        let written = self.written.min(self.capability.capacity);
        let (Some(len), true) = (written.checked_sub(end), self.capability.rights.allows(Rights::WRITE))
        else {
            return;
        };
        let (Ok(end), Ok(len)) = (usize::try_from(end), usize::try_from(len)) else { return };
        // SAFETY: `end + len <= capacity`, inside the buffer.
        let from = unsafe { self.capability.base.as_ptr().add(end) };
        // SAFETY: writable memory that this function owns; no reference behind the payload is ever given out.
        unsafe { core::ptr::write_bytes(from, 0, len) };
    }
}
