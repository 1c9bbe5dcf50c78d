//! Free space of a pool as a set of spans: best fit, exact to the cache line, neighbours joined on release.
//!
//! Small buffers come here only the first time (the slab recycles them by class), so two trees are quick enough;
//! what counts is that a payload may be exactly as large as the pool.

use std::collections::{BTreeMap, BTreeSet};

/// Granularity of spans and alignment of buffers, bytes.
pub(crate) const LINE: u64 = 64;

#[derive(Debug)]
pub(crate) struct Spans {
    by_offset: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
}

impl Spans {
    pub(crate) fn new(bytes: u64) -> Spans {
        let mut spans = Spans { by_offset: BTreeMap::new(), by_len: BTreeSet::new() };
        spans.insert(0, bytes / LINE * LINE);
        spans
    }

    fn insert(&mut self, offset: u64, len: u64) {
        if len > 0 {
            self.by_offset.insert(offset, len);
            self.by_len.insert((len, offset));
        }
    }

    fn remove(&mut self, offset: u64, len: u64) {
        self.by_offset.remove(&offset);
        self.by_len.remove(&(len, offset));
    }

    /// The offset of `len` bytes (a multiple of [`LINE`]) out of the smallest span that has them.
    pub(crate) fn take(&mut self, len: u64) -> Option<u64> {
        let (found_len, offset) = *self.by_len.range((len, 0)..).next()?;
        self.remove(offset, found_len);
        self.insert(offset + len, found_len - len);
        Some(offset)
    }

    /// As [`Spans::take`], at a multiple of `align`.
    pub(crate) fn take_aligned(&mut self, len: u64, align: u64) -> Option<u64> {
        let fits = |&(found_len, offset): &(u64, u64)| {
            let start = offset.next_multiple_of(align);
            start.checked_add(len).is_some_and(|end| end <= offset + found_len)
        };
        // From `len + align` on every span fits: few are looked at in vain.
        let (found_len, offset) = *self.by_len.range((len, 0)..).find(|span| fits(span))?;
        let start = offset.next_multiple_of(align);
        self.remove(offset, found_len);
        self.insert(offset, start - offset);
        self.insert(start + len, offset + found_len - start - len);
        Some(start)
    }

    /// Gives `len` bytes at `offset` back.
    pub(crate) fn give(&mut self, mut offset: u64, mut len: u64) {
        if let Some((&before, &before_len)) = self.by_offset.range(..offset).next_back()
            && before + before_len == offset
        {
            self.remove(before, before_len);
            offset = before;
            len += before_len;
        }
        if let Some(&after_len) = self.by_offset.get(&(offset + len)) {
            self.remove(offset + len, after_len);
            len += after_len;
        }
        self.insert(offset, len);
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.by_offset.values().sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_whole_pool_is_one_span_again_after_everything_came_back() {
        let mut spans = Spans::new(4096);
        let taken: Vec<u64> = (0..64).filter_map(|_| spans.take(64)).collect();
        assert_eq!(taken.len(), 64);
        assert_eq!(spans.take(64), None);
        for offset in taken.iter().step_by(2).chain(taken.iter().skip(1).step_by(2)) {
            spans.give(*offset, 64);
        }
        assert_eq!(spans.take(4096), Some(0));
    }

    #[test]
    fn the_smallest_span_that_fits_is_taken() {
        let mut spans = Spans::new(1024);
        let first = spans.take(128).unwrap();
        let _wall = spans.take(64).unwrap();
        spans.give(first, 128);
        assert_eq!(spans.take(128), Some(first));
        assert_eq!(spans.free_bytes(), 1024 - 192);
    }
}
