//! Empty buffers that are kept for later, so that few allocations need a gate, and what waits to be given back.

use core::ptr::NonNull;

use baton_abi::gate::{Grant, Pair};
use baton_abi::limits::{HEADROOM_BYTES, SLAB_CLASSES, SLAB_MIN_BYTES};
use baton_abi::{NONE, Rights};

use super::{Gates, errno, kept, pair};
use crate::capability::Handle;
use crate::error::Error;
use crate::held::{Holding, Kind, Place};

/// Buffers that one gate takes, at most.
const BATCH_MAX: usize = 32;
/// Bytes that one gate takes, if that is more than one buffer.
const BATCH_BYTES: u64 = 16 << 10;
/// Lent capabilities that were dropped before their calls ended, told to the runtime so many at a time.
const SPENT_MAX: usize = 64;

/// A kept buffer on its way back to the runtime.
fn given_back(place: Place) -> Pair {
    kept::note(place.handle, false);
    pair(place.handle)
}

/// Empty buffers by size class, last in, first out.
#[derive(Debug)]
pub(super) struct Stash {
    classes: [Vec<Place>; SLAB_CLASSES as usize],
    /// Lent capabilities that were dropped.
    spent: [Pair; SPENT_MAX],
    spent_count: usize,
}

impl Default for Stash {
    fn default() -> Stash {
        let none = Pair { handle: NONE, generation: 0 };
        Stash { classes: Default::default(), spent: [none; SPENT_MAX], spent_count: 0 }
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

/// Buffers of a class that one gate takes or gives back.
#[inline]
fn batch(class: u8) -> usize {
    let whole = usize::try_from(BATCH_BYTES / SLAB_MIN_BYTES).unwrap_or(1);
    (whole >> class).clamp(1, BATCH_MAX)
}

impl Stash {
    #[inline]
    fn take(&mut self, class: u8) -> Option<Place> {
        let place = self.classes.get_mut(usize::from(class))?.pop()?;
        kept::note(place.handle, false);
        Some(place)
    }

    /// Puts a buffer in; whether there are too many now.
    #[inline]
    fn put(&mut self, class: u8, place: Place) -> bool {
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return false };
        kept::note(place.handle, true);
        list.push(place);
        list.len() > 2 * batch(class)
    }

    /// The colder ones of what there is too many of.
    fn surplus(&mut self, class: u8) -> Vec<Pair> {
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return Vec::new() };
        list.drain(..batch(class).min(list.len())).map(given_back).collect()
    }

    /// Notes a capability that is not needed any more; whether it is time to tell.
    #[inline]
    fn spend(&mut self, pair: Pair) -> bool {
        if let Some(place) = self.spent.get_mut(self.spent_count) {
            *place = pair;
            self.spent_count += 1;
        }
        self.spent_count == SPENT_MAX
    }

    fn take_spent(&mut self) -> &[Pair] {
        let count = core::mem::take(&mut self.spent_count);
        self.spent.get(..count).unwrap_or_default()
    }

    /// Everything.
    fn clear(&mut self) -> Vec<Pair> {
        let mut pairs = self.take_spent().to_vec();
        for list in &mut self.classes {
            pairs.extend(list.drain(..).map(given_back));
        }
        pairs
    }
}

impl Gates {
    /// A buffer for at least `len` payload bytes.
    #[inline]
    pub(crate) fn take(&self, len: usize) -> Result<Place, Error> {
        let class = class_of(len as u64);
        if let Some(class) = class
            && let Some(place) = self.stash.borrow_mut().take(class)
        {
            return Ok(place);
        }
        self.take_grants(class, len)
    }

    /// Takes buffers through the gate: one for now, more for later if they are small.
    #[cold]
    fn take_grants(&self, class: Option<u8>, len: usize) -> Result<Place, Error> {
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
            let handle = Handle { index: grant.handle, generation: grant.generation };
            let at = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(grant.base).unwrap_or(0));
            let Some(base) = NonNull::new(at) else { continue };
            let capacity = usize::try_from(grant.capacity).unwrap_or(0);
            let place = Place { handle, base, capacity, written: 0 };
            match class {
                Some(class) if first.is_some() => {
                    self.stash.borrow_mut().put(class, place);
                }
                _ => first = Some(place),
            }
        }
        first.ok_or(Error::PoolFull { wanted: len })
    }

    /// Takes back what this function does not need any more.
    #[inline]
    pub(crate) fn give_back(&self, holding: &Holding) {
        match holding.kind {
            // What is lent ends with its call: that it is not needed any more is worth no gate of its own.
            Kind::Lent => {
                if self.stash.borrow_mut().spend(pair(holding.handle)) {
                    self.return_spent();
                }
            }
            Kind::Owned if holding.rights == Rights::ALL => self.recycle(holding.place()),
            Kind::Owned | Kind::Shared => self.free(&[pair(holding.handle)]),
            Kind::Inline => {}
        }
    }

    #[inline]
    fn recycle(&self, place: Place) {
        match class_of_buffer(place.capacity) {
            Some(class) => {
                if self.stash.borrow_mut().put(class, place) {
                    self.return_surplus(class);
                }
            }
            None => self.free(&[pair(place.handle)]),
        }
    }

    #[cold]
    fn return_spent(&self) {
        self.free(self.stash.borrow_mut().take_spent());
    }

    #[cold]
    fn return_surplus(&self, class: u8) {
        let surplus = self.stash.borrow_mut().surplus(class);
        self.free(&surplus);
    }

    /// Gives everything back that is only kept for later.
    #[cold]
    pub(super) fn clear_stash(&self) {
        let pairs = self.stash.borrow_mut().clear();
        // No more at a time than the runtime looks at.
        pairs.chunks(SPENT_MAX).for_each(|some| self.free(some));
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
