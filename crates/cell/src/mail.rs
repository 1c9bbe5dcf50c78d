//! Mail: a part of each seat's memory where the runtime puts copies of small payloads, and where the guest allocates
//! what it sends (`trust = "buffer"`).
//!
//! Chunks have the pool's size classes. What is free and who holds what stands here, out of the guest's reach; the bytes
//! themselves carry the seat's key.

use baton_abi::cell::MAIL_BYTES;
use baton_abi::gate::Pair;
use baton_abi::limits::SLAB_CLASSES;
use baton_pool::ledger::{class_bytes, class_of};

use crate::book::{What, mail_handle, what};

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    generation: u32,
    held: bool,
    class: u8,
    /// Address of its first byte.
    pub(crate) base: u64,
}

impl Chunk {
    pub(crate) fn capacity(&self) -> u64 {
        class_bytes(self.class)
    }
}

/// The mail of one seat.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    base: u64,
    /// Bytes that were ever made into chunks.
    used: u64,
    chunks: Vec<Chunk>,
    free: [Vec<u32>; SLAB_CLASSES as usize],
}

impl Mail {
    /// The mail at `base`, which is mapped when first used.
    pub(crate) fn new(base: u64) -> Mail {
        Mail { base, used: 0, chunks: Vec::new(), free: Default::default() }
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// A chunk for `len` bytes, held by the guest; `None` if there is no room, or `len` is not small.
    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> Option<(Pair, Chunk)> {
        let class = class_of(len)?;
        let index = match self.free.get_mut(usize::from(class))?.pop() {
            Some(index) => index,
            None => self.carve(class)?,
        };
        let chunk = self.chunks.get_mut(index as usize)?;
        chunk.held = true;
        chunk.generation = chunk.generation.checked_add(1).unwrap_or(1);
        Some((Pair { handle: mail_handle(index), generation: chunk.generation }, *chunk))
    }

    fn carve(&mut self, class: u8) -> Option<u32> {
        let at = self.used;
        let end = at.checked_add(class_bytes(class)).filter(|&end| end <= MAIL_BYTES)?;
        self.used = end;
        self.chunks.push(Chunk { generation: 0, held: false, class, base: self.base + at });
        u32::try_from(self.chunks.len() - 1).ok()
    }

    /// The chunk that `pair` names, if the guest holds it.
    #[inline]
    pub(crate) fn get(&self, pair: Pair) -> Option<Chunk> {
        let What::Mail(index) = what(pair.handle) else { return None };
        self.chunks
            .get(index as usize)
            .filter(|chunk| chunk.held && chunk.generation == pair.generation)
            .copied()
    }

    /// Takes a chunk back; `false` if the guest does not hold it.
    #[inline]
    pub(crate) fn put(&mut self, pair: Pair) -> bool {
        let What::Mail(index) = what(pair.handle) else { return false };
        let Some(chunk) = self.chunks.get_mut(index as usize) else { return false };
        if !chunk.held || chunk.generation != pair.generation {
            return false;
        }
        chunk.held = false;
        let class = usize::from(chunk.class);
        if let Some(list) = self.free.get_mut(class) {
            list.push(index);
        }
        true
    }

    /// Takes every chunk back but those with the handles `keep`. Gives the ranges that may hold something, and now belong to
    /// nobody: address and bytes.
    pub(crate) fn clear(&mut self, keep: &[u32]) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (index, chunk) in (0u32..).zip(&mut self.chunks) {
            if chunk.held && keep.contains(&mail_handle(index)) {
                continue;
            }
            if core::mem::take(&mut chunk.held)
                && let Some(list) = self.free.get_mut(usize::from(chunk.class))
            {
                list.push(index);
            }
            match ranges.last_mut() {
                Some((base, bytes)) if *base + *bytes == chunk.base => *bytes += chunk.capacity(),
                _ => ranges.push((chunk.base, chunk.capacity())),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_recycled_with_another_generation() {
        let mut mail = Mail::new(1 << 40);
        let (first, chunk) = mail.take(100).unwrap();
        assert_eq!((chunk.base, chunk.capacity()), (1 << 40, 256));
        assert!(mail.get(first).is_some());
        assert!(mail.put(first));
        assert!(!mail.put(first), "twice");
        let (second, again) = mail.take(256).unwrap();
        assert_eq!(again.base, chunk.base);
        assert!(mail.get(first).is_none() && mail.get(second).is_some());
        assert!(mail.get(Pair { handle: 0, generation: 1 }).is_none());
    }

    #[test]
    fn mail_is_bounded() {
        let mut mail = Mail::new(0);
        let mut taken = 0;
        while mail.take(64 << 10).is_some() {
            taken += 1;
        }
        assert_eq!(taken, MAIL_BYTES / (64 << 10));
        assert!(mail.take(1).is_none());
        assert!(mail.take((64 << 10) + 1).is_none());
    }
}
