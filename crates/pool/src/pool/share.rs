//! The node as one who shares: a buffer that it keeps, and any number of readers.
//!
//! Each reader gets a capability of its own, derived from the buffer's root in a range of the table that is the node's. Once
//! the node gives the root up, the buffer is back with its last reader.

use baton_abi::Rights;
use baton_abi::limits::DERIVED_MAX;

use super::Pool;
use crate::capability::{CapabilityError, Derivation, Handle, Range};
use crate::region::View;

/// Where the node derives: a range of the table that no replica has.
#[derive(Debug)]
pub struct OwnArena {
    base: u32,
    cursor: u32,
}

/// Why a buffer was not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// As many readers as may have capabilities of the node's.
    Crowded,
    /// The table was tampered with, or the buffer is not the node's.
    Capability(CapabilityError),
}

impl Pool {
    /// A range of the table for the node to derive in; `index` is one that no replica gets.
    pub fn own_arena(&mut self, index: u32) -> OwnArena {
        OwnArena { base: self.derived_base(index), cursor: 0 }
    }

    /// Shares `range` of a buffer that the node holds, read-only, with `holder`, which is the other end of the edge `edge`. Behind
    /// the range nothing of another owner may be left.
    ///
    /// # Errors
    /// [`ShareError`]; nothing changes then.
    pub fn share_over(
        &mut self,
        arena: &mut OwnArena,
        root: Handle,
        range: Range,
        (edge, holder): (u16, u16),
    ) -> Result<Handle, ShareError> {
        let is_free = |index: &u32| self.table.look(*index).is_none_or(|found| !found.hold.state.is_live());
        let tried = (0..DERIVED_MAX).map(|step| arena.base + (arena.cursor + step) % DERIVED_MAX);
        let into = tried.into_iter().find(is_free).ok_or(ShareError::Crowded)?;
        arena.cursor = (into - arena.base + 1) % DERIVED_MAX;
        let to = self.hold_to(Some(edge), holder);
        let what = Derivation { range, rights: Rights::FROZEN, expiry_ns: 0, to };
        self.table.derive(root, crate::capability::NODE, into, what).map_err(ShareError::Capability)
    }

    /// Where in its buffer lies what the node sees as `view`. `None` if it does not.
    #[must_use]
    pub fn range_within(&self, handle: Handle, view: &View) -> Option<Range> {
        let (slot, generation) = match handle.index < self.slots {
            true => (handle.index, handle.generation),
            false => {
                let found = self.table.look(handle.index).filter(|found| found.handle == handle)?;
                (found.slot, found.slot_generation)
            }
        };
        let place = self.ledger.view().place(slot, generation).ok()?;
        let offset = view.offset().checked_sub(place.offset)?;
        let end = offset.checked_add(view.len())?;
        (end <= place.capacity).then_some(Range { offset, len: view.len() })
    }

    /// Says what of its own buffer the node has filled, before it shares any of it. What an earlier owner left behind that is
    /// zeroed.
    ///
    /// # Errors
    /// [`CapabilityError`] when the table was tampered with, or the buffer is not the node's.
    pub fn freeze(&mut self, root: Handle, range: Range) -> Result<(), CapabilityError> {
        let place = self.ledger.view().place(root.index, root.generation).map_err(CapabilityError::Ledger)?;
        let (_, dirty_len) = self.ledger.dirt(root.index);
        let end = range.offset.saturating_add(range.len);
        if dirty_len > end {
            self.zero(place.offset + end, dirty_len.min(place.capacity) - end);
            self.ledger.mark_clean(root.index);
        }
        self.table.describe_written(root, range, end, 0);
        self.table.restrict(root, crate::capability::NODE, Rights::FROZEN).map(|_| ())
    }
}
