//! The table entries for derivations.

use baton_abi::limits::DERIVED_MAX;
use baton_pool::capability::Handle;

/// This replica's own range of the capability table.
pub(crate) struct Arena {
    free: Vec<u32>,
    /// Derived for others, not known to be given up yet.
    outstanding: Vec<Handle>,
}

impl Arena {
    pub(crate) fn new(base: u32) -> Arena {
        Arena { free: (base..base + DERIVED_MAX).rev().collect(), outstanding: Vec::new() }
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    #[inline]
    pub(crate) fn put(&mut self, index: u32) {
        self.free.push(index);
    }

    /// Remembers a derivation that may outlive its call.
    pub(crate) fn remember(&mut self, handle: Handle) {
        self.outstanding.push(handle);
    }

    /// Takes back the entries that `is_over` says are not needed any more.
    pub(crate) fn collect(&mut self, is_over: impl Fn(Handle) -> bool) {
        let free = &mut self.free;
        self.outstanding.retain(|handle| {
            let over = is_over(*handle);
            if over {
                free.push(handle.index);
            }
            !over
        });
    }
}
