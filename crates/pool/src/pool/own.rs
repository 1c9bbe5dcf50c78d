//! The node's own book of what it holds.

use std::collections::BTreeMap;

use crate::capability::Handle;

/// What the node holds, in memory that no replica can write: a table that was overwritten can neither make the node
/// keep a buffer for good nor take one out of its hands.
#[derive(Debug)]
pub(super) struct OwnHolds {
    roots: Vec<bool>,
    /// Index and generation of derived capabilities.
    derived: BTreeMap<u32, u32>,
}

impl OwnHolds {
    pub(super) fn none(slots: u32) -> OwnHolds {
        OwnHolds { roots: vec![false; slots as usize], derived: BTreeMap::new() }
    }

    pub(super) fn has(&self, handle: Handle) -> bool {
        match self.roots.get(handle.index as usize) {
            Some(held) => *held,
            None => self.derived.get(&handle.index) == Some(&handle.generation),
        }
    }

    pub(super) fn set(&mut self, handle: Handle, held: bool) {
        match self.roots.get_mut(handle.index as usize) {
            Some(root) => *root = held,
            None if held => {
                self.derived.insert(handle.index, handle.generation);
            }
            None => {
                self.derived.remove(&handle.index);
            }
        }
    }
}
