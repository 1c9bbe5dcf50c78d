//! The stash: empty buffers that the node granted ahead of need, by size class, and the table entries for derivations.

use baton_abi::limits::{DERIVED_MAX, SLAB_CLASSES};
use baton_pool::capability::Handle;
use baton_pool::ledger::class_bytes;

/// Part of the pool that one class of one stash may take, as a divisor.
const POOL_SHARE: u64 = 4096;
/// Buffers that one refill asks for, at most.
const BATCH_MAX: u64 = 128;

/// Empty buffers by size class, last in, first out.
pub(crate) struct Stash {
    classes: [Vec<Handle>; SLAB_CLASSES as usize],
    /// Buffers that one refill of a class asks for.
    batches: [usize; SLAB_CLASSES as usize],
    /// Classes whose refill is on its way.
    asked: [bool; SLAB_CLASSES as usize],
}

impl Stash {
    pub(crate) fn new(pool_bytes: u64) -> Stash {
        let mut batches = [1; SLAB_CLASSES as usize];
        for (class, batch) in (0u8..).zip(&mut batches) {
            let wanted = (pool_bytes / POOL_SHARE / class_bytes(class)).clamp(1, BATCH_MAX);
            *batch = usize::try_from(wanted).unwrap_or(1);
        }
        Stash { classes: Default::default(), batches, asked: [false; SLAB_CLASSES as usize] }
    }

    #[inline]
    pub(crate) fn take(&mut self, class: u8) -> Option<Handle> {
        self.classes.get_mut(usize::from(class))?.pop()
    }

    /// Puts a buffer in. When there are too many, gives the colder half back, for the node: seldom and many at a time,
    /// because each time wakes it.
    #[inline]
    pub(crate) fn put(&mut self, class: u8, handle: Handle) -> Vec<Handle> {
        let most = self.batch(class) * 4;
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return vec![handle] };
        list.push(handle);
        if list.len() <= most {
            return Vec::new();
        }
        list.drain(..list.len() / 2).collect()
    }

    /// Buffers that one refill of `class` asks for.
    #[inline]
    pub(crate) fn batch(&self, class: u8) -> usize {
        self.batches.get(usize::from(class)).copied().unwrap_or(1)
    }

    /// Whether a refill of `class` should be asked for now; remembers that it was.
    #[inline]
    pub(crate) fn should_ask(&mut self, class: u8) -> bool {
        let low = self.batch(class) / 4;
        let index = usize::from(class);
        let (Some(list), Some(asked)) = (self.classes.get(index), self.asked.get_mut(index)) else {
            return false;
        };
        if *asked || list.len() > low {
            return false;
        }
        *asked = true;
        true
    }

    /// The node answered a refill of `class`.
    pub(crate) fn answered(&mut self, class: u8) {
        if let Some(asked) = self.asked.get_mut(usize::from(class)) {
            *asked = false;
        }
    }
}

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
