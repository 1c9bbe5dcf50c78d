//! Tokens that were found good, in two halves of bounded size: when the younger is full it becomes the older, and what was in the
//! older is forgotten. A token that is used comes into the younger again.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;

use super::Token;

/// Bytes of a token's end by which it is found: they are of its signature, and differ from token to token.
const END_BYTES: usize = 64;

/// Takes a number for its own hash: it is one already, of a hasher that nobody outside knows.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Debug)]
struct Entry {
    token: Box<[u8]>,
    good: Rc<Token>,
}

#[derive(Debug)]
pub(super) struct Remembered {
    half: usize,
    hasher: RandomState,
    younger: HashMap<u64, Entry, BuildHasherDefault<AsItIs>>,
    older: HashMap<u64, Entry, BuildHasherDefault<AsItIs>>,
    /// Of which keys all this is true.
    generation: u64,
}

impl Remembered {
    pub(super) fn new(most: usize) -> Self {
        Self {
            half: most.div_ceil(2),
            hasher: RandomState::new(),
            younger: HashMap::default(),
            older: HashMap::default(),
            generation: 0,
        }
    }

    fn number(&self, token: &[u8]) -> u64 {
        let from = token.len().saturating_sub(END_BYTES);
        self.hasher.hash_one(token.get(from..).unwrap_or_default())
    }

    /// A token of which every byte is known to be good under the keys of a generation.
    pub(super) fn find(&mut self, token: &[u8], generation: u64) -> Option<Rc<Token>> {
        if generation != self.generation {
            // A key that is gone vouches for nothing.
            self.younger.clear();
            self.older.clear();
            self.generation = generation;
            return None;
        }
        let number = self.number(token);
        if let Some(entry) = self.younger.get(&number) {
            return (*entry.token == *token).then(|| Rc::clone(&entry.good));
        }
        let entry = self.older.remove(&number)?;
        let good = (*entry.token == *token).then(|| Rc::clone(&entry.good));
        self.insert(number, entry);
        good
    }

    pub(super) fn keep(&mut self, token: &[u8], generation: u64, good: Rc<Token>) {
        if self.half > 0 && generation == self.generation {
            self.insert(self.number(token), Entry { token: token.into(), good });
        }
    }

    fn insert(&mut self, number: u64, entry: Entry) {
        if self.younger.len() >= self.half {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(number, entry);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}
