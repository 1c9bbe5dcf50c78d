//! Words, their counts, and how counts are handed over.
//!
//! A word is what stands between white space of ASCII, without punctuation of ASCII at its ends, its ASCII letters small. A
//! *part* is the counts of some words, one after the other: 8 bytes count, 4 bytes length, the word.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Parts that each mapper makes, and reducers that there are.
pub const PARTS: usize = 2;

/// Bytes in front of a word in a part.
const FRONT: usize = 12;

/// How often each word stands somewhere.
#[derive(Debug, Default)]
pub struct Counts {
    of: HashMap<Box<[u8]>, u64, BuildHasherDefault<Fnv>>,
}

impl Counts {
    /// Counts the words of a text.
    #[must_use]
    pub fn of(text: &[u8]) -> Counts {
        let mut counts = Counts::default();
        let mut small = Vec::new();
        for word in words(text) {
            if word.iter().any(u8::is_ascii_uppercase) {
                small.clear();
                small.extend(word.iter().map(u8::to_ascii_lowercase));
                counts.add(&small, 1);
            } else {
                counts.add(word, 1);
            }
        }
        counts
    }

    /// Adds `count` to a word's.
    pub fn add(&mut self, word: &[u8], count: u64) {
        match self.of.get_mut(word) {
            Some(all) => *all += count,
            None => {
                self.of.insert(word.into(), count);
            }
        }
    }

    /// Adds the counts of a part.
    ///
    /// # Errors
    /// The bytes are no part.
    pub fn add_part(&mut self, part: &[u8]) -> Result<(), NoPart> {
        let mut rest = part;
        while !rest.is_empty() {
            let (front, after) = rest.split_first_chunk::<FRONT>().ok_or(NoPart)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *front;
            let len = usize::try_from(u32::from_le_bytes([i, j, k, l])).map_err(|_| NoPart)?;
            let (word, after) = after.split_at_checked(len).ok_or(NoPart)?;
            self.add(word, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            rest = after;
        }
        Ok(())
    }

    /// All words with a number in front, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.of.iter().map(|(word, count)| (&**word, *count))
    }

    /// How many different words there are.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.of.len()
    }

    /// The `most` frequent words, the most frequent first; those that are as frequent by the alphabet.
    #[must_use]
    pub fn most_frequent(&self, most: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|(word, count), (other, than)| than.cmp(count).then(word.cmp(other)));
        all.truncate(most);
        all
    }
}

/// Bytes that are no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPart;

/// How many bytes a word takes in a part. Words of 4 GiB and more are not counted.
#[must_use]
pub fn entry_len(word: &[u8]) -> usize {
    FRONT + word.len()
}

/// The front of a word's entry in a part: its count and length.
#[must_use]
pub fn entry_front(word: &[u8], count: u64) -> [u8; FRONT] {
    let [a, b, c, d, e, f, g, h] = count.to_le_bytes();
    let [i, j, k, l] = u32::try_from(word.len()).unwrap_or(u32::MAX).to_le_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// Which part a word belongs to.
#[must_use]
pub fn part_of(word: &[u8]) -> usize {
    let mut hash = Fnv::default();
    hash.write(word);
    usize::try_from(hash.finish() >> 32).unwrap_or(0) % PARTS
}

/// The words of a text.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).map(bare).filter(|word| !word.is_empty())
}

/// Cuts a text into at most `pieces` ranges of about the same length, none in the middle of a word.
#[must_use]
pub fn cut(text: &[u8], pieces: usize) -> Vec<Range<usize>> {
    let step = text.len().div_ceil(pieces.max(1)).max(1);
    let mut cuts = Vec::with_capacity(pieces);
    let mut start = 0;
    while start < text.len() {
        let rest = text.get(start + step..).unwrap_or_default();
        let more = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let end = (start + step + more).min(text.len());
        cuts.push(start..end);
        start = end;
    }
    cuts
}

fn bare(word: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| !byte.is_ascii_punctuation();
    let first = word.iter().position(is_part).unwrap_or(word.len());
    let last = word.iter().rposition(is_part).map_or(first, |at| at + 1);
    word.get(first..last).unwrap_or_default()
}

/// FNV-1a: quick for words, and the same everywhere, which the parts need.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(counts: &Counts, number: usize) -> Vec<u8> {
        let mut part = Vec::new();
        for (word, count) in counts.iter().filter(|(word, _)| part_of(word) == number) {
            part.extend(entry_front(word, count));
            part.extend_from_slice(word);
        }
        part
    }

    #[test]
    fn words_lose_case_and_punctuation_at_their_ends() {
        let counts = Counts::of(b"\"Stop!\" - she said; don't STOP.\n\tstop");
        assert_eq!(counts.most_frequent(2), [(&b"stop"[..], 3), (&b"don't"[..], 1)]);
        assert_eq!(counts.distinct(), 4);
    }

    #[test]
    fn half_a_part_is_none() {
        let counts = Counts::of(b"one");
        let part = part(&counts, part_of(b"one"));
        for len in 1..part.len() {
            assert_eq!(Counts::default().add_part(&part[..len]), Err(NoPart), "{len}");
        }
    }

    proptest! {
        #[test]
        fn pieces_and_parts_count_as_the_whole(text in "([a-eA-C.,]{0,4}[ \n]{0,2}){0,60}", pieces in 0_usize..9) {
            let text = text.as_bytes();
            let cuts = cut(text, pieces);
            prop_assert!(cuts.len() <= pieces.max(1));
            prop_assert_eq!(cuts.iter().map(|range| range.len()).sum::<usize>(), text.len());
            let mut all = Counts::default();
            for range in cuts {
                let counts = Counts::of(&text[range]);
                for number in 0..PARTS {
                    all.add_part(&part(&counts, number)).unwrap();
                }
            }
            let whole = Counts::of(text);
            prop_assert_eq!(all.most_frequent(usize::MAX), whole.most_frequent(usize::MAX));
        }
    }
}
