//! How long to wait before a replica that died is started again.
//!
//! ```text
//!   failed(now) ─▶ delay 50 ms, 100 ms, 200 ms … 10 s ─▶ the caller starts a replica ─▶ started(now)
//!        ▲                                                                                │
//!        └──── dies within 30 s: the delay doubles ───────────────────────────────────────┤
//!        └──── dies later: the delay begins anew ─────────────────────────────────────────┘
//! ```
//!
//! It never gives up: a function that cannot start today may start once its database is back. A loop of crashes is
//! only reported.

use std::time::Duration;

/// Delay after the first failure.
pub const DELAY_MIN: Duration = Duration::from_millis(50);
/// Longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(10);
/// A run of this length is healthy: what came before is forgotten.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// So many failures without a healthy run between them are a loop of crashes.
pub const RAPID_FAILURES_OF_A_LOOP: u32 = 5;
/// Failures are counted up to here; the delay has long stopped growing.
pub const RAPID_FAILURES_MAX: u32 = 1_000_000;

/// The failures of one replica's place, and what follows from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Failures since the last healthy run.
    rapid_failures: u32,
    /// When the run that is on began; nothing between a failure and the next start.
    running_since: Option<Duration>,
}

impl Backoff {
    /// A place where nothing has failed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { rapid_failures: 0, running_since: None }
    }

    /// Notes that a replica runs; `now` is the time since any fixed start.
    pub fn started(&mut self, now: Duration) {
        self.running_since = Some(now);
    }

    /// Notes that the replica died or did not start, and says how long to wait before the next start.
    #[must_use = "the caller waits this long before it starts the replica again"]
    pub fn failed(&mut self, now: Duration) -> Duration {
        if self.is_healthy(now) {
            self.rapid_failures = 0;
        }
        self.running_since = None;
        let delay = delay_after(self.rapid_failures);
        self.rapid_failures = (self.rapid_failures + 1).min(RAPID_FAILURES_MAX);
        delay
    }

    /// Whether the replica keeps dying soon after its start: for `ps`, logs and metrics.
    #[must_use]
    pub fn crash_looping(&self, now: Duration) -> bool {
        self.rapid_failures >= RAPID_FAILURES_OF_A_LOOP && !self.is_healthy(now)
    }

    /// Failures since the last healthy run.
    #[must_use]
    pub const fn rapid_failures(&self) -> u32 {
        self.rapid_failures
    }

    fn is_healthy(&self, now: Duration) -> bool {
        // A clock that steps back makes a run look short, never long.
        self.running_since.is_some_and(|since| now.saturating_sub(since) >= HEALTHY_AFTER)
    }
}

/// The delay after so many earlier failures.
fn delay_after(failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures).and_then(|factor| DELAY_MIN.checked_mul(factor));
    doubled.map_or(DELAY_MAX, |delay| delay.min(DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..10).map(|_| backoff.failed(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn a_healthy_run_begins_anew() {
        let mut backoff = Backoff::new();
        for _ in 0..6 {
            let _ = backoff.failed(SECOND);
        }
        backoff.started(2 * SECOND);
        assert!(backoff.crash_looping(31 * SECOND));
        assert!(!backoff.crash_looping(32 * SECOND));
        assert_eq!(backoff.failed(32 * SECOND), DELAY_MIN);
        assert_eq!(backoff.rapid_failures(), 1);
    }

    #[test]
    fn a_short_run_goes_on_doubling() {
        let mut backoff = Backoff::new();
        let _ = backoff.failed(SECOND);
        backoff.started(2 * SECOND);
        assert_eq!(backoff.failed(31 * SECOND), 2 * DELAY_MIN);
    }

    #[test]
    fn time_spent_waiting_is_no_healthy_run() {
        let mut backoff = Backoff::new();
        backoff.started(Duration::ZERO);
        let _ = backoff.failed(SECOND);
        assert_eq!(backoff.failed(100 * SECOND), 2 * DELAY_MIN);
    }

    #[test]
    fn the_fifth_rapid_failure_is_a_loop() {
        let mut backoff = Backoff::new();
        for failure in 1..=5 {
            let _ = backoff.failed(SECOND);
            assert_eq!(backoff.crash_looping(SECOND), failure == 5, "after failure {failure}");
        }
    }

    proptest! {
        #[test]
        fn delays_stay_in_bounds_whatever_the_clock_does(
            events in prop::collection::vec((any::<bool>(), any::<u64>()), 0..100),
        ) {
            let mut backoff = Backoff::new();
            let mut last = Duration::ZERO;
            for (starts, now) in events {
                let now = Duration::from_nanos(now);
                if starts {
                    backoff.started(now);
                    continue;
                }
                let delay = backoff.failed(now);
                prop_assert!((DELAY_MIN..=DELAY_MAX).contains(&delay));
                prop_assert!(delay == DELAY_MIN || delay == (2 * last).min(DELAY_MAX));
                last = delay;
            }
        }
    }
}
