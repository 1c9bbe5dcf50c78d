//! What is derived from buffers: lent and shared inside the cell, or come from outside.

use baton_abi::Rights;
use baton_abi::gate::Pair;
use baton_pool::capability::{Handle, Range};
use baton_pool::ledger::Place;

use super::{Book, DERIVED, Owner, Refusal, SeatId, View, What, what};

/// Capabilities that may be lent and shared inside a cell at a time.
const DERIVED_MAX: usize = 8192;
/// How deep a derivation of derivations may go.
pub(super) const DEPTH_MAX: u8 = 16;

/// A capability that is derived from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Derived {
    pub(crate) generation: u32,
    pub(crate) live: bool,
    pub(crate) holder: SeatId,
    pub(crate) rights: Rights,
    depth: u8,
    /// Capabilities derived from it that live.
    children: u16,
    /// The handle that it was derived from; for one that came from outside, none.
    parent: Option<Pair>,
    /// Its entry in the shared table, if it came from outside.
    pub(crate) foreign: Option<Handle>,
    /// Its entry in the shared table, and whose range that is in, if it was made for others to see.
    pub(crate) published: Option<(SeatId, Handle)>,
    /// The buffer.
    pub(crate) place: Place,
    pub(crate) root: Handle,
    pub(crate) range: Range,
    /// What its range was at first: the pages of that are open to its holder, however it narrows itself.
    pub(super) part: Range,
}

const NO_DERIVED: Derived = Derived {
    generation: 0,
    live: false,
    holder: 0,
    rights: Rights::NONE,
    depth: 0,
    children: 0,
    parent: None,
    foreign: None,
    published: None,
    place: Place { offset: 0, capacity: 0 },
    root: Handle { index: 0, generation: 0 },
    range: Range { offset: 0, len: 0 },
    part: Range { offset: 0, len: 0 },
};

impl Book {
    /// Derives a capability for `holder` from `parent`, whose view was just checked for the range and the right to pass it on.
    #[inline(always)]
    pub(crate) fn derive_from(
        &mut self,
        view: &View,
        parent: Pair,
        range: Range,
        rights: Rights,
        holder: SeatId,
    ) -> Result<Pair, Refusal> {
        let (slot, generation, depth) = match view.what {
            What::Root(slot) => (slot, parent.generation, 1),
            What::Derived(index) => {
                let above = self.derived.get_mut(index as usize).ok_or(Refusal::NotHeld)?;
                if above.depth >= DEPTH_MAX {
                    return Err(Refusal::TooMany);
                }
                (above.root.index, above.root.generation, above.depth + 1)
            }
            What::Mail(_) => return Err(Refusal::NotHeld),
        };
        let root = Handle { index: slot, generation };
        let pair = self.add(Derived {
            generation: 0,
            live: true,
            holder,
            rights: view.rights.intersect(rights),
            depth,
            children: 0,
            parent: Some(parent),
            foreign: None,
            published: None,
            place: view.place,
            root,
            range,
            part: range,
        })?;
        self.count(root, 1);
        if let What::Derived(index) = view.what
            && let Some(above) = self.derived.get_mut(index as usize)
        {
            above.children += 1;
        }
        Ok(pair)
    }

    /// A capability came into the cell that is derived from a buffer outside of it.
    pub(crate) fn admit_derived(
        &mut self,
        foreign: Handle,
        root: Handle,
        view: View,
        holder: SeatId,
    ) -> Result<Pair, Refusal> {
        self.add(Derived {
            generation: 0,
            live: true,
            holder,
            rights: view.rights,
            depth: 1,
            children: 0,
            parent: None,
            foreign: Some(foreign),
            published: None,
            place: view.place,
            root,
            range: view.range,
            part: view.part,
        })
    }

    #[inline(always)]
    fn add(&mut self, new: Derived) -> Result<Pair, Refusal> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let place = self.derived.get_mut(index as usize).ok_or(Refusal::TooMany)?;
        let generation = place.generation.checked_add(1).unwrap_or(1);
        *place = Derived { generation, ..new };
        self.live += 1;
        Ok(Pair { handle: DERIVED | index, generation })
    }

    #[cold]
    fn grow(&mut self) -> Result<u32, Refusal> {
        if self.derived.len() >= DERIVED_MAX {
            return Err(Refusal::TooMany);
        }
        self.derived.push(NO_DERIVED);
        u32::try_from(self.derived.len() - 1).map_err(|_| Refusal::TooMany)
    }

    #[inline]
    fn count(&mut self, root: Handle, by: i16) {
        let slot = root.index;
        if let Some(root) =
            self.roots.get_mut(slot as usize).filter(|held| held.generation == root.generation)
        {
            root.derived = root.derived.saturating_add_signed(by);
            if root.derived == 0 && root.owner == Owner::Orphan {
                self.released.push(slot);
            }
        }
    }

    /// Orphans that nobody reads any more; forgets them.
    pub(crate) fn take_released(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.released)
    }

    /// Capabilities that were derived inside the cell, live, and are not in the shared table.
    pub(crate) fn unpublished_derived(&self) -> Vec<(u32, Derived)> {
        if self.live == 0 {
            return Vec::new();
        }
        let hidden =
            |derived: &Derived| derived.live && derived.foreign.is_none() && derived.published.is_none();
        (0u32..)
            .zip(&self.derived)
            .filter(|(_, derived)| hidden(derived))
            .map(|(at, derived)| (at, *derived))
            .collect()
    }

    /// A derived capability has an entry in the shared table now.
    pub(crate) fn note_published(&mut self, index: u32, entry: (SeatId, Handle)) {
        if let Some(derived) = self.derived.get_mut(index as usize) {
            derived.published = Some(entry);
        }
    }

    pub(crate) fn derived(&self, index: u32) -> Option<&Derived> {
        self.derived.get(index as usize).filter(|derived| derived.live)
    }

    /// Ends a derived capability as most are: made in the cell from a buffer that has an owner, with nothing derived from it,
    /// and unknown to the shared table. Gives the buffer's slot and place; `None` for any other, which stays as it is.
    #[inline]
    pub(crate) fn end_plain(&mut self, pair: Pair) -> Option<(u32, Place)> {
        let What::Derived(index) = what(pair.handle) else { return None };
        let found = self.derived.get_mut(index as usize)?;
        let is_known = found.foreign.is_some() || found.published.is_some();
        if !found.live
            || found.generation != pair.generation
            || is_known
            || found.children > 0
            || found.depth > 1
        {
            return None;
        }
        let slot = found.root.index;
        let root = self.roots.get_mut(slot as usize)?;
        if root.generation != found.root.generation || !matches!(root.owner, Owner::Seat(_)) {
            return None;
        }
        root.derived = root.derived.saturating_sub(1);
        found.live = false;
        self.live -= 1;
        self.free.push(index);
        Some((slot, root.place))
    }

    /// Ends a derived capability. `None` if there is none such; else it, and what was derived from it, the deepest last.
    pub(crate) fn end(&mut self, pair: Pair) -> Option<(Derived, Vec<Derived>)> {
        let What::Derived(index) = what(pair.handle) else { return None };
        let found = self.derived.get_mut(index as usize)?;
        if !found.live || found.generation != pair.generation {
            return None;
        }
        found.live = false;
        self.live -= 1;
        let found = *found;
        self.free.push(index);
        self.count(found.root, -1);
        if let Some(Pair { handle, generation }) = found.parent
            && let What::Derived(above) = what(handle)
            && let Some(above) = self.derived.get_mut(above as usize)
            && above.generation == generation
        {
            above.children = above.children.saturating_sub(1);
        }
        let below = if found.children == 0 { Vec::new() } else { self.end_derived(pair) };
        Some((found, below))
    }

    /// Ends what was derived from `parent`, which itself stays.
    pub(crate) fn end_derived(&mut self, parent: Pair) -> Vec<Derived> {
        let children: Vec<Pair> = (0u32..)
            .zip(&self.derived)
            .filter(|(_, derived)| derived.live && derived.parent == Some(parent))
            .map(|(index, derived)| Pair { handle: DERIVED | index, generation: derived.generation })
            .collect();
        let end = |child| {
            self.end(child).into_iter().flat_map(|(first, below)| core::iter::once(first).chain(below))
        };
        children.into_iter().flat_map(end).collect()
    }
}
