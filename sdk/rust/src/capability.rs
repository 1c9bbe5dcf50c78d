//! Live capabilities: what [`crate::Buffer`], [`crate::Body`] and [`crate::Shared`] hold, and give back when dropped.

use std::rc::Rc;

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
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) handle: Handle,
    pub(crate) kind: Kind,
    pub(crate) rights: Rights,
    /// Bytes of the buffer.
    pub(crate) capacity: u64,
    /// Whether it is still this value's to give back.
    pub(crate) armed: bool,
}

impl Capability {
    /// Hands an owned capability over: this replica's access ends here, before the receiver's begins.
    pub(crate) fn depart(mut self, range: Range, invocation: u64, to: Hold) -> Result<Handle, Error> {
        let memory = &self.runtime.memory;
        memory.table.describe(self.handle, range, invocation);
        memory
            .table
            .pass(self.handle, Hold::held(memory.holder), to)
            .map_err(|_| Error::Denied { what: "handing on a payload that was revoked" })?;
        self.armed = false;
        Ok(self.handle)
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
