//! How long functions take to come up when a request waits for them, by phase. Bounded: one row of counts for each phase.
//!
//! ```text
//!   a request finds no replica ───────────── queue ─────────────▶ is given to one ── handler ──▶ is answered
//!            └─ ordered ──load──▶ template has it ──spawn──▶ process or cell exists ──init──▶ ready
//! ```

use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the classes of a [`Histogram`], microseconds; beyond the last one is one more class.
pub const BOUNDS_US: [u64; 20] = [
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// Durations, counted by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// All of them together, microseconds.
    pub sum_us: u64,
    /// The longest, microseconds.
    pub max_us: u64,
    /// How many were at most as long as each of [`BOUNDS_US`] and longer than the one before; the last are longer than all.
    pub classes: [u64; BOUNDS_US.len() + 1],
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
        let class = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(class) = self.classes.get_mut(class) {
            *class += 1;
        }
    }

    /// The upper bound of the class in which this share of all lies, in microseconds; the longest there was in the last one.
    #[must_use]
    pub fn at(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (class, bound) in self.classes.iter().zip(BOUNDS_US) {
            below += class;
            if below >= rank {
                return bound.min(self.max_us);
            }
        }
        self.max_us
    }
}

/// The cold starts of one function: replicas that came up because a request waited for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ColdStarts {
    /// Requests that found no replica ready, and how long each waited until it was given to one.
    pub queue: Histogram,
    /// From the order to start a replica until its process, or its cell, existed.
    pub spawn: Histogram,
    /// For those whose template was not there either: how long it took to load, or to restore, the function.
    pub load: Histogram,
    /// From there until it was ready for requests.
    pub init: Histogram,
    /// From being given the request that waited until it was answered.
    pub handler: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_classes() {
        let mut histogram = Histogram::default();
        for us in [0, 50, 51, 1_000, 100_000_000, 100_000_001] {
            histogram.add(Duration::from_micros(us));
        }
        let filled: Vec<(usize, u64)> =
            histogram.classes.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0, 2), (1, 1), (4, 1), (19, 1), (20, 1)]);
        assert_eq!((histogram.count, histogram.max_us), (6, 100_000_001));
        assert_eq!((histogram.at(1), histogram.at(50), histogram.at(100)), (50, 100, 100_000_001));
    }

    #[test]
    fn an_empty_one_says_zero() {
        assert_eq!(Histogram::default().at(99), 0);
    }
}
