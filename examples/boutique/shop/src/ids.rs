//! Ids that nobody can guess: orders, parcels, payments, mails, sessions.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::text::Text;

/// A source of ids.
#[derive(Debug)]
pub struct Ids(Source);

#[derive(Debug)]
enum Source {
    /// SipHash, under a key from the system's random source, of a counter.
    Counted { key: RandomState, used: AtomicU64 },
    /// Random bytes, drawn for each id.
    Drawn(fn(&mut [u8])),
}

impl Default for Ids {
    fn default() -> Self {
        Ids(Source::Counted { key: RandomState::new(), used: AtomicU64::new(0) })
    }
}

impl Ids {
    /// A source with a fresh random key. Copies of the process would have the same one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A source that fills each id by `fill`. For functions: replicas are copies of one that has started, and must not go on
    /// with one and the same key.
    pub fn drawn(fill: fn(&mut [u8])) -> Self {
        Ids(Source::Drawn(fill))
    }

    /// 64 bits that were not handed out before.
    pub fn bits(&self) -> u64 {
        match &self.0 {
            Source::Counted { key, used } => key.hash_one(used.fetch_add(1, Ordering::Relaxed)),
            Source::Drawn(fill) => {
                let mut bytes = [0; 8];
                fill(&mut bytes);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// 128 bits as 32 hexadecimal digits.
    pub fn hex(&self) -> Text<35> {
        let mut digits = [0; 32];
        let wide = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        for (nth, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(wide >> (4 * nth) & 15) as usize];
        }
        core::str::from_utf8(&digits).ok().and_then(|hex| Text::new(hex).ok()).unwrap_or(Text::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_a_source_and_between_sources() {
        let (one, two) = (Ids::new(), Ids::new());
        let ids = [one.hex(), one.hex(), two.hex(), two.hex()];
        for (nth, id) in ids.iter().enumerate() {
            assert_eq!(id.as_str().len(), 32);
            assert!(ids.iter().skip(nth + 1).all(|other| other != id));
        }
    }
}
