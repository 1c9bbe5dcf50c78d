//! Boxes for payloads, kept for later: one behind the other, last in, first out.

use core::cell::Cell;
use core::mem::ManuallyDrop;

use crate::held::{Holding, blank};
use crate::runtime::Runtime;

/// Boxes that are kept at most, beside those of buffers.
const SHELF_MAX: usize = 1024;

/// Boxes, each holding on to the next.
#[derive(Default)]
pub(crate) struct Chain {
    first: Cell<Option<Box<Holding>>>,
    len: Cell<usize>,
}

/// What was replaced is nothing: there is nothing to drop, and no need to look.
#[inline]
fn is_none(replaced: Option<Box<Holding>>) {
    debug_assert!(replaced.is_none());
    let _ = ManuallyDrop::new(replaced);
}

impl Chain {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Box<Holding>> {
        let mut taken = self.first.take()?;
        let none = self.first.replace(taken.next.take());
        is_none(none);
        self.len.set(self.len.get() - 1);
        Some(taken)
    }

    #[inline]
    pub(crate) fn put(&self, mut holding: Box<Holding>) {
        is_none(core::mem::replace(&mut holding.next, self.first.take()));
        is_none(self.first.replace(Some(holding)));
        self.len.set(self.len.get() + 1);
    }

    /// Takes all but those that were put in last, so many of them.
    pub(crate) fn all_but(&self, newest: usize) -> Chain {
        let kept = Chain::default();
        for _ in 0..newest {
            let Some(holding) = self.take() else { break };
            kept.put(holding);
        }
        let rest = Chain { first: Cell::new(self.first.take()), len: Cell::new(self.len.replace(0)) };
        while let Some(holding) = kept.take() {
            self.put(holding);
        }
        rest
    }
}

/// Boxes that hold nothing.
#[derive(Default)]
pub(crate) struct Shelf {
    boxes: Chain,
}

impl Shelf {
    #[inline]
    pub(crate) fn take(&self, runtime: Runtime) -> Box<Holding> {
        match self.boxes.take() {
            Some(holding) => holding,
            None => blank(runtime),
        }
    }

    #[inline]
    pub(crate) fn put(&self, holding: Box<Holding>) {
        if self.boxes.len() < SHELF_MAX {
            self.boxes.put(holding);
        } else {
            forget(holding);
        }
    }
}

/// Gives the memory of a box back.
#[cold]
pub(crate) fn forget(holding: Box<Holding>) {
    drop(holding);
}
