//! Empty buffers that the node granted ahead of need, by size class.

use baton_abi::limits::SLAB_CLASSES;

use crate::ledger::class_bytes;

/// Part of the pool that one refill of one class may take, as a divisor.
const POOL_SHARE: u64 = 4096;

/// Empty buffers by size class, last in, first out. `T` names a buffer.
#[derive(Debug)]
pub struct Stash<T> {
    classes: [Vec<T>; SLAB_CLASSES as usize],
    /// Buffers that one refill of a class asks for.
    batches: [usize; SLAB_CLASSES as usize],
    /// Classes whose refill is on its way.
    asked: [bool; SLAB_CLASSES as usize],
}

impl<T> Stash<T> {
    /// An empty one, for a pool of so many bytes; one refill asks for `batch_max` buffers at most.
    #[must_use]
    pub fn new(pool_bytes: u64, batch_max: u64) -> Stash<T> {
        let mut batches = [1; SLAB_CLASSES as usize];
        for (class, batch) in (0u8..).zip(&mut batches) {
            let wanted = (pool_bytes / POOL_SHARE / class_bytes(class)).clamp(1, batch_max);
            *batch = usize::try_from(wanted).unwrap_or(1);
        }
        Stash {
            classes: [const { Vec::new() }; SLAB_CLASSES as usize],
            batches,
            asked: [false; SLAB_CLASSES as usize],
        }
    }

    /// Buffers in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.iter().map(Vec::len).sum()
    }

    /// Whether there is none in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(Vec::is_empty)
    }

    /// The buffer that was put in last.
    #[inline]
    pub fn take(&mut self, class: u8) -> Option<T> {
        self.classes.get_mut(usize::from(class))?.pop()
    }

    /// Puts a buffer in. When there are too many, gives the colder half back, for the node: seldom and many at a time,
    /// because each time wakes it.
    #[inline]
    pub fn put(&mut self, class: u8, buffer: T) -> Vec<T> {
        let most = self.batch(class) * 4;
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return vec![buffer] };
        list.push(buffer);
        if list.len() <= most {
            return Vec::new();
        }
        list.drain(..list.len() / 2).collect()
    }

    /// Buffers that one refill of `class` asks for.
    #[inline]
    #[must_use]
    pub fn batch(&self, class: u8) -> usize {
        self.batches.get(usize::from(class)).copied().unwrap_or(1)
    }

    /// Whether a refill of `class` should be asked for now; remembers that it was.
    #[inline]
    pub fn should_ask(&mut self, class: u8) -> bool {
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
    pub fn answered(&mut self, class: u8) {
        if let Some(asked) = self.asked.get_mut(usize::from(class)) {
            *asked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stash_gives_back_what_is_too_much() {
        let mut stash = Stash::new(1 << 20, 64);
        assert!(stash.should_ask(0) && !stash.should_ask(0));
        stash.answered(0);
        let back: Vec<u32> = (0..5).flat_map(|slot| stash.put(0, slot)).collect();
        assert_eq!(back, [0, 1]);
        assert!(stash.len() == 3 && !stash.is_empty());
        assert_eq!(stash.take(0), Some(4));
    }
}
