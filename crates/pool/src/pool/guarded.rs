//! Pools where the kernel hands over: their table is a map of the kernel's, which replicas can only read.
//!
//! What a replica has is `Held` or `Stashed` by it; which of the two is its own affair. The node takes from its hands and gives into
//! them, with nothing in flight between: a descriptor comes over a ring that nobody else writes, and until the node has read it the
//! replica may as well hand the buffer to someone else. Then the node does not get it.

use std::os::fd::OwnedFd;

use baton_abi::Rights;
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX, slots_for};

use super::{Pool, rounded};
use crate::capability::{CapabilityError, Handle, Hold, NODE, Range, Scribe, State};
use crate::region::RegionError;

impl Pool {
    /// Entries of the table of a pool for which so many bytes are asked: what to make a map of the kernel's with.
    #[must_use]
    pub fn entries_for(bytes: u64, huge_pages: bool) -> u32 {
        slots_for(rounded(bytes, huge_pages)) + REPLICAS_MAX * DERIVED_MAX
    }

    /// As [`Pool::create`], with the table in `table`: zeros, [`Pool::entries_for`] entries of 64 bytes, which nobody can write but the
    /// kernel's programs. The node does it by `scribe`.
    ///
    /// # Errors
    /// [`RegionError`] naming what the kernel refused.
    pub fn create_guarded(
        app: &str,
        bytes: u64,
        huge_pages: bool,
        table: OwnedFd,
        scribe: Box<dyn Scribe>,
    ) -> Result<Pool, RegionError> {
        Pool::over(app, bytes, huge_pages, (table, Some(scribe)))
    }

    /// Whether the kernel hands over what replicas send to each other.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The hold in which the node leaves what it sends to `holder`, over an edge or over the link.
    pub(super) fn hold_to(&self, edge: Option<u16>, holder: u16) -> Hold {
        match edge {
            _ if self.guarded => Hold::held(holder),
            Some(edge) => Hold::new(State::InFlight, edge),
            None => Hold::new(State::FromNode, holder),
        }
    }

    /// Takes a capability out of the hold in which an honest replica leaves what it sends to the node.
    pub(super) fn arrive(
        &self,
        handle: Handle,
        range: Range,
        edge: Option<u16>,
        holder: u16,
    ) -> Result<Rights, CapabilityError> {
        let from = |hold: Hold| self.table.transfer(handle, hold, Hold::held(NODE));
        match edge {
            Some(edge) if !self.guarded => from(Hold::new(State::InFlight, edge)),
            None if !self.guarded => from(Hold::new(State::ToNode, holder)),
            // The kernel derived it for the node.
            _ if handle.index >= self.slots => from(Hold::new(State::ToNode, holder)),
            _ => self.take_root(handle, range, Hold::held(NODE), &[State::Held, State::Stashed], holder),
        }
    }

    /// Takes a root out of a replica's hands. How much it wrote it need not have said: all of it, then.
    fn take_root(
        &self,
        handle: Handle,
        range: Range,
        to: Hold,
        states: &[State],
        holder: u16,
    ) -> Result<Rights, CapabilityError> {
        let place = self.ledger.view().place(handle.index, handle.generation);
        let capacity = place.map_err(CapabilityError::Ledger)?.capacity;
        let invocation = self.table.look(handle.index).map_or(0, |found| found.invocation);
        let now = self.table.hold(handle);
        let state = states.iter().copied().find(|state| now == Some(Hold::new(*state, holder)));
        let from = Hold::new(state.unwrap_or(State::Held), holder);
        self.table.transfer_described(handle, (from, to), (range, capacity, invocation))
    }

    /// As [`crate::capability::CapabilityTable::transfer`], of a root whose last holder may not have said how much it wrote: all of it,
    /// then.
    pub(super) fn soil(&self, handle: Handle, from: Hold, to: Hold) -> Result<Rights, CapabilityError> {
        let place = self.ledger.view().place(handle.index, handle.generation);
        let capacity = place.map_err(CapabilityError::Ledger)?.capacity;
        let named = self.table.look(handle.index).filter(|found| found.handle == handle);
        let (range, invocation) =
            named.map_or((Range { offset: 0, len: 0 }, 0), |found| (found.range, found.invocation));
        if self.guarded {
            return self.table.transfer_described(handle, (from, to), (range, capacity, invocation));
        }
        // Someone else may be faster, and then it is not this one's to describe.
        let rights = self.table.transfer(handle, from, to)?;
        self.table.describe_written(handle, range, capacity, invocation);
        Ok(rights)
    }
}

#[cfg(test)]
mod tests;
