//! Pools where the kernel hands over: their table is a map of the kernel's, which replicas can only read.
//!
//! What a replica has is `Held` or `Stashed` by it; which of the two is its own affair. The node takes from its hands and gives into
//! them, with nothing in flight between: a descriptor comes over a ring that nobody else writes, and until the node has read it the
//! replica may as well hand the buffer to someone else. Then the node does not get it.

use std::os::fd::OwnedFd;

use baton_abi::Rights;
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX, slots_for};

use super::{Pool, rounded};
use crate::capability::{CapabilityError, Handle, Hold, NODE, Range, State};
use crate::region::RegionError;

impl Pool {
    /// Entries of the table of a pool for which so many bytes are asked: what to make a map of the kernel's with.
    #[must_use]
    pub fn entries_for(bytes: u64, huge_pages: bool) -> u32 {
        slots_for(rounded(bytes, huge_pages)) + REPLICAS_MAX * DERIVED_MAX
    }

    /// As [`Pool::create`], with the table in `table`: zeros, [`Pool::entries_for`] entries of 64 bytes, of which only the node and
    /// the kernel's program may write any.
    ///
    /// # Errors
    /// [`RegionError`] naming what the kernel refused.
    pub fn create_guarded(
        app: &str,
        bytes: u64,
        huge_pages: bool,
        table: OwnedFd,
    ) -> Result<Pool, RegionError> {
        Pool::over(app, bytes, huge_pages, (table, true))
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
        edge: Option<u16>,
        holder: u16,
    ) -> Result<Rights, CapabilityError> {
        let from = |hold: Hold| self.table.transfer(handle, hold, Hold::held(NODE));
        match edge {
            Some(edge) if !self.guarded => from(Hold::new(State::InFlight, edge)),
            None if !self.guarded => from(Hold::new(State::ToNode, holder)),
            // The kernel derived it for the node.
            _ if handle.index >= self.slots => from(Hold::new(State::ToNode, holder)),
            _ => from(Hold::held(holder)).or_else(|_| from(Hold::new(State::Stashed, holder))),
        }
    }

    /// The last holder may not have said how much it wrote: all of it, then. `range` is what it says that it sends.
    pub(super) fn soil(&self, handle: Handle, range: Option<Range>) {
        let Ok(place) = self.ledger.view().place(handle.index, handle.generation) else { return };
        let found = self.table.look(handle.index).filter(|found| found.handle == handle);
        if let Some(found) = found.filter(|_| handle.index < self.slots) {
            let range = range.unwrap_or(found.range);
            self.table.describe_written(handle, range, place.capacity, found.invocation);
        }
    }
}

#[cfg(test)]
mod tests;
