//! Empty buffers that are kept for later, so that few allocations need a gate, and what waits to be given back.

use core::cell::RefCell;
use core::ptr::NonNull;

use baton_abi::gate::{Grant, Pair};
use baton_abi::limits::{HEADROOM_BYTES, SLAB_CLASSES, SLAB_MIN_BYTES};
use baton_abi::{NONE, Rights};

use super::{Gates, errno, kept, pair};
use crate::capability::Handle;
use crate::error::Error;
use crate::held::{Holding, Kind, UNKNOWN};
use crate::runtime::Runtime;
use crate::shelf::Chain;

/// Buffers that one gate takes, at most.
const BATCH_MAX: usize = 32;
/// Bytes that one gate takes, if that is more than one buffer.
const BATCH_BYTES: u64 = 16 << 10;
/// Lent capabilities that were dropped before their calls ended, told to the runtime so many at a time.
const SPENT_MAX: usize = 64;

/// Empty buffers by size class, last in, first out: each in the box that it was used in, so that whoever takes it has all of it.
#[derive(Default)]
pub(super) struct Stash {
    classes: [Chain; SLAB_CLASSES as usize],
    spent: RefCell<Spent>,
}

/// Lent capabilities that were dropped.
struct Spent {
    pairs: [Pair; SPENT_MAX],
    count: usize,
}

impl Default for Spent {
    fn default() -> Spent {
        Spent { pairs: [Pair { handle: NONE, generation: 0 }; SPENT_MAX], count: 0 }
    }
}

/// Bytes that a buffer of a class may have beyond it: room for a head, and a cache line.
const SLACK_MAX: u64 = HEADROOM_BYTES + 64;

/// The smallest class that holds payloads of `len` bytes; `None` above the largest.
#[inline]
fn class_of(len: u64) -> Option<u8> {
    (0..SLAB_CLASSES).find(|class| len <= SLAB_MIN_BYTES << class).and_then(|class| u8::try_from(class).ok())
}

/// The class of a buffer with `capacity`, wherever it lies: in the pool, or in this function's mail.
#[inline]
fn class_of_buffer(capacity: usize) -> Option<u8> {
    let capacity = capacity as u64;
    let class = capacity.checked_ilog2()?.checked_sub(SLAB_MIN_BYTES.ilog2())?;
    let is_small = class < SLAB_CLASSES && capacity - (SLAB_MIN_BYTES << class) <= SLACK_MAX;
    if is_small { u8::try_from(class).ok() } else { None }
}

/// Buffers of each class that one gate takes or gives back.
const BATCHES: [usize; SLAB_CLASSES as usize] = {
    let mut batches = [1; SLAB_CLASSES as usize];
    let mut class = 0;
    while class < batches.len() {
        let mut whole = (BATCH_BYTES / SLAB_MIN_BYTES) as usize >> class;
        if whole > BATCH_MAX {
            whole = BATCH_MAX;
        }
        if whole > 1 {
            batches[class] = whole;
        }
        class += 1;
    }
    batches
};

#[inline]
fn batch(class: u8) -> usize {
    BATCHES.get(usize::from(class)).copied().unwrap_or(1)
}

impl Stash {
    #[inline]
    fn take(&self, class: u8) -> Option<Box<Holding>> {
        let kept = self.classes.get(usize::from(class))?.take()?;
        kept::note(kept.handle, false);
        Some(kept)
    }

    /// Puts an empty buffer in, which is this function's own with all rights; whether there are too many now.
    #[inline(always)]
    fn put(&self, class: u8, empty: Box<Holding>) -> bool {
        let Some(chain) = self.classes.get(usize::from(class)) else {
            crate::shelf::forget(empty);
            return false;
        };
        kept::note(empty.handle, true);
        chain.put(empty);
        chain.len() > 2 * batch(class)
    }

    /// Notes a capability that is not needed any more; whether it is time to tell.
    #[inline]
    fn spend(&self, pair: Pair) -> bool {
        let mut spent = self.spent.borrow_mut();
        let count = spent.count;
        if let Some(place) = spent.pairs.get_mut(count) {
            *place = pair;
            spent.count += 1;
        }
        spent.count == SPENT_MAX
    }

    fn take_spent(&self) -> Vec<Pair> {
        let mut spent = self.spent.borrow_mut();
        let count = core::mem::take(&mut spent.count);
        spent.pairs.get(..count).unwrap_or_default().to_vec()
    }
}

impl Gates {
    /// A buffer for at least `len` payload bytes.
    #[inline]
    pub(crate) fn take(&'static self, len: usize) -> Result<Box<Holding>, Error> {
        let class = class_of(len as u64);
        if let Some(class) = class
            && let Some(kept) = self.stash.take(class)
        {
            return Ok(kept);
        }
        self.take_grants(class, len)
    }

    /// Takes buffers through the gate: one for now, more for later if they are small.
    #[cold]
    fn take_grants(&'static self, class: Option<u8>, len: usize) -> Result<Box<Holding>, Error> {
        let mut grants = [Grant { handle: 0, generation: 0, base: 0, capacity: 0 }; BATCH_MAX];
        let (count, bytes) = class.map_or((1, len as u64), |class| (batch(class), SLAB_MIN_BYTES << class));
        let space = grants.get_mut(..count).unwrap_or_default();
        let got = match self.page.alloc(bytes, space) {
            got if got >= 0 => usize::try_from(got).unwrap_or(0),
            gate if gate == -i64::from(errno::EACCES) => {
                return Err(Error::Denied { what: "allocating without `pool = \"write\"` in the manifest" });
            }
            gate => return Err(with_wanted(super::refused(gate), len)),
        };
        let mut first = None;
        for grant in grants.iter().take(got.min(count)) {
            let Some(empty) = self.empty(grant) else { continue };
            match class {
                Some(class) if first.is_some() => {
                    self.stash.put(class, empty);
                }
                _ => first = Some(empty),
            }
        }
        first.ok_or(Error::PoolFull { wanted: len })
    }

    /// A granted buffer in a box.
    fn empty(&'static self, grant: &Grant) -> Option<Box<Holding>> {
        let at = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(grant.base).unwrap_or(0));
        let base = NonNull::new(at)?;
        let mut empty = self.shelf.take(Runtime::Gates(self));
        empty.handle = Handle { index: grant.handle, generation: grant.generation };
        empty.base = base;
        empty.capacity = usize::try_from(grant.capacity).unwrap_or(0);
        empty.written = 0;
        empty.kind = Kind::Owned;
        empty.rights = Rights::ALL;
        empty.class = UNKNOWN;
        Some(empty)
    }

    /// Takes back what this function does not need any more.
    #[inline]
    pub(crate) fn give_back(&self, holding: Box<Holding>) {
        if holding.kind == Kind::Owned && holding.rights == Rights::ALL {
            return self.recycle(holding);
        }
        match holding.kind {
            // What is lent ends with its call: that it is not needed any more is worth no gate of its own.
            Kind::Lent => {
                if self.stash.spend(pair(holding.handle)) {
                    self.return_spent();
                }
            }
            Kind::Owned | Kind::Shared => self.free(&[pair(holding.handle)]),
            Kind::Inline => {}
        }
        self.shelf.put(holding);
    }

    #[inline]
    fn recycle(&self, mut empty: Box<Holding>) {
        match class_of_buffer(empty.capacity) {
            Some(class) => {
                empty.class = class;
                self.keep(empty);
            }
            None => {
                self.free(&[pair(empty.handle)]);
                self.shelf.put(empty);
            }
        }
    }

    /// Keeps a buffer for later whose class is known.
    #[inline]
    pub(crate) fn keep(&self, empty: Box<Holding>) {
        let class = empty.class;
        if self.stash.put(class, empty) {
            self.return_surplus(class);
        }
    }

    #[cold]
    fn return_spent(&self) {
        self.free(&self.stash.take_spent());
    }

    /// Gives the colder ones of a class back, of which there are too many.
    #[cold]
    fn return_surplus(&self, class: u8) {
        if let Some(chain) = self.stash.classes.get(usize::from(class)) {
            let newest = chain.len().saturating_sub(batch(class));
            self.free_all(&chain.all_but(newest));
        }
    }

    /// Gives buffers back; their boxes are for others.
    #[cold]
    fn free_all(&self, empty: &Chain) {
        let mut pairs = Vec::with_capacity(empty.len());
        while let Some(empty) = empty.take() {
            kept::note(empty.handle, false);
            pairs.push(pair(empty.handle));
            self.shelf.put(empty);
        }
        // No more at a time than the runtime looks at.
        pairs.chunks(SPENT_MAX).for_each(|some| self.free(some));
    }

    /// Gives everything back that is only kept for later.
    #[cold]
    pub(super) fn clear_stash(&self) {
        self.return_spent();
        self.stash.classes.iter().for_each(|chain| self.free_all(chain));
    }

    /// Gives capabilities up. Those that ended by themselves are no loss.
    pub(super) fn free(&self, pairs: &[Pair]) {
        if !pairs.is_empty() {
            let _ = self.page.free(pairs);
        }
    }
}

fn with_wanted(error: Error, wanted: usize) -> Error {
    match error {
        Error::PoolFull { .. } => Error::PoolFull { wanted },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_pool() {
        for len in [0, 1, 255, 256, 257, 4096, 65_536, 65_537, u64::MAX] {
            assert_eq!(class_of(len), baton_pool::ledger::class_of(len), "{len} bytes");
        }
        for class in 0..9 {
            assert_eq!(SLAB_MIN_BYTES << class, baton_pool::ledger::class_bytes(class));
        }
    }
}
