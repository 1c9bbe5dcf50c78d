//! The node's own book of what it holds.

use std::collections::BTreeMap;

use crate::capability::Handle;
use crate::ledger::NOBODY;

/// What the node holds, in memory that no replica can write: a table that was overwritten can neither make the node
/// keep a buffer for good nor take one out of its hands.
#[derive(Debug)]
pub(super) struct OwnHolds {
    /// Of a buffer that the node has, whose bytes alone are in it; [`NOBODY`]'s if that is not known.
    roots: Vec<Option<u16>>,
    /// Index and generation of derived capabilities.
    derived: BTreeMap<u32, u32>,
}

impl OwnHolds {
    pub(super) fn none(slots: u32) -> OwnHolds {
        OwnHolds { roots: vec![None; slots as usize], derived: BTreeMap::new() }
    }

    pub(super) fn has(&self, handle: Handle) -> bool {
        match self.roots.get(handle.index as usize) {
            Some(root) => root.is_some(),
            None => self.derived.get(&handle.index) == Some(&handle.generation),
        }
    }

    /// The node has it.
    pub(super) fn take(&mut self, handle: Handle) {
        match self.roots.get_mut(handle.index as usize) {
            Some(root) => *root = Some(NOBODY),
            None => drop(self.derived.insert(handle.index, handle.generation)),
        }
    }

    /// No bytes but those of `writer` are in a buffer that the node has.
    pub(super) fn mark(&mut self, handle: Handle, writer: u16) {
        if let Some(Some(dirty_by)) = self.roots.get_mut(handle.index as usize) {
            *dirty_by = writer;
        }
    }

    /// The node has it no more; whose bytes are in it.
    pub(super) fn put(&mut self, handle: Handle) -> u16 {
        let root = self.roots.get_mut(handle.index as usize);
        if root.is_none() {
            self.derived.remove(&handle.index);
        }
        root.and_then(Option::take).unwrap_or(NOBODY)
    }

    /// Bytes of holders that are `gone` are nobody's from now on.
    pub(super) fn disown(&mut self, gone: impl Fn(u16) -> bool) {
        self.roots.iter_mut().flatten().filter(|by| gone(**by)).for_each(|by| *by = NOBODY);
    }
}
