//! Live capabilities: what [`crate::Buffer`], [`crate::Body`] and [`crate::Shared`] hold, and give back when dropped.

// UNSAFETY: writes heads into the app's pool.
#![expect(unsafe_code, reason = "writes into pool memory that this replica owns")]

use core::ptr::NonNull;

use baton_abi::Rights;
use baton_pool::capability::{Handle, Hold, Range, State};

use crate::error::Error;
use crate::runtime::Runtime;

/// How a capability came into this replica's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The buffer is this replica's.
    Owned,
    /// Derived; it ends with the call.
    Lent,
    /// Derived and read-only; this replica may keep it.
    Shared,
}

/// One capability in this replica's hands. Dropping it gives it back.
pub(crate) struct Capability {
    pub(crate) runtime: &'static Runtime,
    pub(crate) handle: Handle,
    pub(crate) kind: Kind,
    pub(crate) rights: Rights,
    /// Bytes of the buffer.
    pub(crate) capacity: u64,
    /// Whether it is still this value's to give back.
    pub(crate) armed: bool,
}

/// An owned payload that is about to be sent.
pub(crate) struct Departing<'a> {
    pub(crate) capability: &'a mut Capability,
    /// Where the whole buffer is mapped.
    pub(crate) base: NonNull<u8>,
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
        // SAFETY: `at + head.len()` is the payload's start, inside the buffer's mapping.
        let to = unsafe { self.base.as_ptr().add(at as usize) };
        // SAFETY: writable mapping that this replica owns; no reference to bytes in front of the payload is ever given
        // out once it is being sent, and `head` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len()) };
        Some(at)
    }

    /// Hands the capability over: this replica's access ends here, before the receiver's begins.
    #[inline]
    pub(crate) fn depart(self, invocation: u64, to: Hold) -> Result<Handle, Error> {
        let handle = self.capability.handle;
        let memory = &self.capability.runtime.memory;
        memory.table.describe_written(handle, self.range, self.written, invocation);
        memory
            .table
            .pass(handle, Hold::held(memory.holder), to)
            .map_err(|_| Error::Denied { what: "handing on a payload that was revoked" })?;
        self.capability.armed = false;
        Ok(handle)
    }
}

impl Capability {
    /// Takes the capability out of a value that is taken apart.
    #[inline]
    pub(crate) fn take(&mut self) -> Capability {
        let armed = core::mem::take(&mut self.armed);
        Capability { armed, ..*self }
    }

    /// Whether this replica still may do `need` with `range`.
    pub(crate) fn check(&self, need: Rights, range: Range) -> Result<(), Error> {
        let memory = &self.runtime.memory;
        let clock = (&memory.ledger, crate::wire::now_ns());
        memory
            .table
            .resolve(self.handle, memory.holder, need, range, clock)
            .map(|_place| ())
            .map_err(|_| Error::Denied { what: "using a payload that was revoked or has expired" })
    }
}

impl Drop for Capability {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let memory = &self.runtime.memory;
        match self.kind {
            Kind::Owned => self.runtime.give_back(self.handle, self.rights, self.capacity),
            Kind::Lent => {
                // A lender that took it back already is fine: it is given up either way.
                let _ = memory.table.transfer(
                    self.handle,
                    Hold::held(memory.holder),
                    Hold::new(State::Released, memory.holder),
                );
            }
            Kind::Shared => self.runtime.give_up_shared(self.handle),
        }
    }
}
