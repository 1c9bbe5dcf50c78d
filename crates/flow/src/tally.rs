//! What the node counts of a function: how long its calls took, and the bytes that they brought and took.
//!
//! ```text
//!   bounds of the histogram, nanoseconds: 2^10 │ four steps an octave │ … │ 2^36 │ above
//! ```
//! Plain counters on the data plane's thread: one clock read and a few additions a call.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use baton_pool::figures::Counted;

use crate::ports::PortTally;
use crate::status::LatencyStatus;

/// The upper bound of the first bucket is two to this, nanoseconds: 1 µs.
const FIRST_LOG2: u32 = 10;
/// That of the last one: 68.7 s.
const LAST_LOG2: u32 = 36;
/// Buckets an octave, as a power of two.
const STEPS_LOG2: u32 = 2;
/// Counters: one for each bucket, and one for what took longer.
const BUCKETS: usize = ((LAST_LOG2 - FIRST_LOG2) << STEPS_LOG2) as usize + 2;

/// How often something took how long.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS], sum_ns: 0 }
    }
}

/// The bucket of a time: the first whose bound is not below it.
fn bucket_of(ns: u64) -> usize {
    // A time of exactly a bound is in that bound's bucket.
    let ns = ns.saturating_sub(1).max(1);
    let log2 = ns.ilog2();
    if log2 < FIRST_LOG2 {
        return 0;
    }
    let step = (ns >> (log2 - STEPS_LOG2)) & ((1 << STEPS_LOG2) - 1);
    let index = u64::from((log2 - FIRST_LOG2) << STEPS_LOG2) + step + 1;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The upper bound of a bucket, nanoseconds; `None` for the last.
fn bound_of(bucket: usize) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let steps = bucket as u64;
    let octave = u32::try_from(steps >> STEPS_LOG2).unwrap_or(0) + FIRST_LOG2;
    let step = steps & ((1 << STEPS_LOG2) - 1);
    Some(((1 << STEPS_LOG2) + step) << (octave - STEPS_LOG2))
}

impl Histogram {
    fn add(&mut self, ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(ns)) {
            *count += 1;
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// The time within which so many thousandths of the calls ended, by the bound of their bucket.
    fn quantile_ns(&self, thousandths: u64, count: u64) -> u64 {
        let wanted = count.saturating_mul(thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, some) in self.counts.iter().enumerate() {
            seen += some;
            if seen >= wanted {
                return bound_of(bucket).unwrap_or(1 << LAST_LOG2);
            }
        }
        0
    }

    pub(crate) fn status(&self) -> LatencyStatus {
        let count = self.counts.iter().sum();
        let filled = self.counts.iter().enumerate().filter(|(_, some)| **some > 0);
        LatencyStatus {
            count,
            sum_ns: self.sum_ns,
            p50_ns: self.quantile_ns(500, count),
            p95_ns: self.quantile_ns(950, count),
            p99_ns: self.quantile_ns(990, count),
            buckets: filled.map(|(bucket, some)| (bound_of(bucket).unwrap_or(u64::MAX), *some)).collect(),
        }
    }
}

/// What a function's calls through the node came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    latency: RefCell<Histogram>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Answers by the hundreds of their status; the first for those without one.
    by_class: Cell<[u64; 6]>,
    /// Those of the gateway and the admin API, as edges are counted.
    gateway: Cell<Counted>,
    /// What went over its replicas' own networks.
    pub(crate) ports: PortTally,
}

/// One call that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) is_error: bool,
    /// Whether it came from the gateway or the admin API, not from another node.
    pub(crate) is_own: bool,
    pub(crate) took: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Tally {
    /// Counts a call.
    pub(crate) fn add(&self, call: &Answered) {
        let ns = u64::try_from(call.took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.borrow_mut().add(ns);
        self.bytes_in.set(self.bytes_in.get() + call.bytes_in);
        self.bytes_out.set(self.bytes_out.get() + call.bytes_out);
        let mut classes = self.by_class.get();
        let class = usize::from(call.status / 100);
        if let Some(count) = classes.get_mut(if class > 5 { 0 } else { class }) {
            *count += 1;
        }
        self.by_class.set(classes);
        if call.is_own {
            let one = Counted {
                calls: 1,
                errors: u64::from(call.is_error),
                bytes: call.bytes_in + call.bytes_out,
                timed: 1,
                timed_ns: ns,
            };
            self.gateway.set(self.gateway.get().plus(one));
        }
    }

    pub(crate) fn latency(&self) -> LatencyStatus {
        self.latency.borrow().status()
    }

    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.get(), self.bytes_out.get())
    }

    pub(crate) fn classes(&self) -> [u64; 6] {
        self.by_class.get()
    }

    pub(crate) fn gateway(&self) -> Counted {
        self.gateway.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_lies_between_the_bounds_of_its_bucket(ns in 0u64..1 << 37) {
            let bucket = bucket_of(ns);
            prop_assert!(bound_of(bucket).is_none_or(|bound| ns <= bound));
            if bucket > 0 {
                prop_assert!(bound_of(bucket - 1).is_some_and(|below| ns > below));
            }
        }
    }

    #[test]
    fn bounds_grow_by_a_quarter_of_an_octave_at_most() {
        assert_eq!((bound_of(0), bound_of(BUCKETS - 1)), (Some(1024), None));
        let bounds: Vec<u64> = (0..BUCKETS).map_while(bound_of).collect();
        assert_eq!(bounds.last(), Some(&(1 << LAST_LOG2)));
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1] && pair[1] * 4 <= pair[0] * 5));
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_come_from_the_buckets() {
        let tally = Tally::default();
        let call = Answered {
            status: 200,
            is_error: false,
            is_own: true,
            took: Duration::from_micros(100),
            bytes_in: 3,
            bytes_out: 4,
        };
        (0..99).for_each(|_| tally.add(&call));
        tally.add(&Answered {
            status: 502,
            is_error: true,
            is_own: false,
            took: Duration::from_secs(1),
            ..call
        });
        let latency = tally.latency();
        assert_eq!((latency.count, latency.buckets.len()), (100, 2));
        assert!((100_000..=125_000).contains(&latency.p50_ns) && latency.p99_ns == latency.p50_ns);
        assert_eq!(tally.bytes(), (300, 400));
        assert_eq!(tally.classes(), [0, 0, 99, 0, 0, 1]);
        assert_eq!((tally.gateway().calls, tally.gateway().errors), (99, 0));
    }
}
