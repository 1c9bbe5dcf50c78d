//! Requests in a time, for each key: the generic cell rate algorithm over a table that never grows.
//!
//! ```text
//!  key ─hash─▶ set of 8 places ─▶ (hash, earliest time at which the key would be at rest)
//! ```
//!
//! A key's whole state is one time, so a place is two words. The table has a fixed number of places; a key that is not in it takes
//! the place of its set that is nearest to rest: first one that is at rest, which had nothing to forget, else the one that had
//! used its rate the least. A flood of keys therefore costs no memory, and throws out each other, not those that are over their limit.

use std::hash::RandomState;

use baton_catalog::policy::{RateLimit, Source};

use super::number;
use crate::request::{Now, Request};
use crate::verdict::Refusal;

const WAYS: usize = 8;

/// One key.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: u64,
    /// When it is at rest, nanoseconds; 0 for a place that was never used.
    rests_at: u64,
}

/// Rates by key.
#[derive(Debug)]
pub(crate) struct InTime {
    source: Source,
    hasher: RandomState,
    interval_ns: u64,
    /// How far ahead of rest a key may be.
    tolerance_ns: u64,
    sets: Vec<[Place; WAYS]>,
}

impl InTime {
    pub(crate) fn new(settings: &RateLimit) -> Self {
        let interval_ns = settings.rate.interval_ns();
        let burst = settings.burst.unwrap_or((settings.rate.count / settings.rate.seconds).max(1));
        let sets = (settings.keys as usize).div_ceil(WAYS).next_power_of_two();
        let sets = if settings.key == Source::All { 1 } else { sets };
        Self {
            source: settings.key.clone(),
            hasher: RandomState::new(),
            interval_ns,
            tolerance_ns: interval_ns.saturating_mul(u64::from(burst.max(1))),
            sets: vec![[Place::default(); WAYS]; sets],
        }
    }

    pub(crate) fn admit(&mut self, request: &Request<'_>, now: Now) -> Result<(), Refusal> {
        let key = number(&self.hasher, &self.source, request);
        self.take(key, now.ns).map_err(|wait_ns| {
            let seconds = u32::try_from(wait_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
            Refusal::new(429, "too many requests in this time; send it again later").after(seconds)
        })
    }

    /// Takes one request of a key. Fails with the nanoseconds after which it would not.
    fn take(&mut self, key: u64, now_ns: u64) -> Result<(), u64> {
        let mask = self.sets.len() - 1;
        let Some(set) = self.sets.get_mut(usize::try_from(key >> 32).unwrap_or(0) & mask) else {
            return Ok(());
        };
        let place = match set.iter().position(|place| place.key == key && place.rests_at > 0) {
            Some(place) => place,
            None => {
                let least = set.iter().enumerate().min_by_key(|(_, place)| place.rests_at);
                let place = least.map_or(0, |(place, _)| place);
                if let Some(old) = set.get_mut(place) {
                    *old = Place { key, rests_at: 0 };
                }
                place
            }
        };
        let Some(place) = set.get_mut(place) else { return Ok(()) };
        let rests_at = place.rests_at.max(now_ns).saturating_add(self.interval_ns);
        let ahead = rests_at - now_ns;
        if ahead > self.tolerance_ns {
            return Err(ahead - self.tolerance_ns);
        }
        place.rests_at = rests_at;
        Ok(())
    }

    /// Bytes of its table.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.sets.capacity() * size_of::<[Place; WAYS]>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(rate: &str, burst: u32, keys: u32) -> InTime {
        let only = Default::default();
        InTime::new(&RateLimit {
            only,
            key: Source::Address,
            rate: rate.parse().unwrap(),
            burst: Some(burst),
            keys,
        })
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limit = limit("10/s", 3, 64);
        let at = S;
        assert_eq!([(); 4].map(|()| limit.take(7, at).is_ok()), [true, true, true, false]);
        assert_eq!(limit.take(7, at), Err(S / 10));
        assert!(limit.take(8, at).is_ok(), "another key has a limit of its own");
        assert!(limit.take(7, at + S / 10).is_ok());
        assert!(limit.take(7, at + S / 10).is_err());
    }

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_frees_nobody() {
        let mut limit = limit("1/h", 5, 1024);
        let before = limit.bytes();
        for _ in 0..5 {
            limit.take(42 << 32, S).unwrap();
        }
        assert!(limit.take(42 << 32, S).is_err());
        let hasher = RandomState::new();
        for key in 0..1_000_000u64 {
            let _ = limit.take(std::hash::BuildHasher::hash_one(&hasher, key), S + key);
        }
        assert!(
            limit.take(42 << 32, S + 2_000_000).is_err(),
            "the flood freed a key that was over its limit"
        );
        assert_eq!(limit.bytes(), before);
    }

    proptest! {
        /// Against a plain oracle: in any window of time, no more than the burst and what the rate gives.
        #[test]
        fn no_window_has_more_than_rate_and_burst(gaps in prop::collection::vec(0u64..400_000_000, 1..200)) {
            let mut limit = limit("10/s", 4, 64);
            let mut now = S;
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                if limit.take(1 << 40, now).is_ok() {
                    passed.push(now);
                }
            }
            for (place, from) in passed.iter().enumerate() {
                for (further, to) in passed.iter().enumerate().skip(place) {
                    let most = 4 + (to - from) / (S / 10);
                    prop_assert!((further - place + 1) as u64 <= most, "{from} to {to}");
                }
            }
        }
    }
}
