//! When open-loop requests are due: pure arithmetic on nanoseconds, no clock and no sockets.
//!
//! Request `i` is due at `i × interval` after the start, whatever the server does. Requests that find no idle
//! connection wait in a bounded backlog with their due times, and their latency counts from those: a server that
//! stalls cannot hide the stall by slowing the generator down (no coordinated omission).

use std::collections::VecDeque;

/// The most requests that wait for an idle connection; more are dropped and counted.
pub const BACKLOG_MAX: usize = 20_000;

/// The plan of one open-loop run.
#[derive(Debug)]
pub struct Schedule {
    interval_ns: f64,
    total: u64,
    released: u64,
    backlog: VecDeque<u64>,
    backlog_max: usize,
    dropped: u64,
}

impl Schedule {
    /// `rate` requests per second for `duration_ns`, with at most `backlog_max` waiting.
    #[must_use]
    pub fn new(rate: f64, duration_ns: u64, backlog_max: usize) -> Self {
        let interval_ns = 1e9 / rate.max(1e-3);
        let total = crate::units::floor(duration_ns as f64 / interval_ns).max(1);
        Self { interval_ns, total, released: 0, backlog: VecDeque::new(), backlog_max, dropped: 0 }
    }

    fn due_ns(&self, index: u64) -> u64 {
        crate::units::floor(index as f64 * self.interval_ns)
    }

    /// Moves every request that is due at `now_ns` to the backlog.
    pub fn release(&mut self, now_ns: u64) {
        while self.released < self.total && self.due_ns(self.released) <= now_ns {
            if self.backlog.len() < self.backlog_max {
                self.backlog.push_back(self.due_ns(self.released));
            } else {
                self.dropped += 1;
            }
            self.released += 1;
        }
    }

    /// Takes the longest-waiting request: its due time.
    pub fn take(&mut self) -> Option<u64> {
        self.backlog.pop_front()
    }

    /// Nanoseconds until the next request is due; `None` after the last.
    #[must_use]
    pub fn next_in(&self, now_ns: u64) -> Option<u64> {
        (self.released < self.total).then(|| self.due_ns(self.released).saturating_sub(now_ns))
    }

    /// Whether nothing is left to release or to take.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.released == self.total && self.backlog.is_empty()
    }

    /// Drops what still waits; returns how many that were.
    pub fn abandon(&mut self) -> u64 {
        let left = self.backlog.len() as u64 + (self.total - self.released);
        self.backlog.clear();
        self.released = self.total;
        left
    }

    /// How many requests found the backlog full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_due_at_a_constant_rate() {
        let mut schedule = Schedule::new(1000.0, 10_000_000, 100);
        schedule.release(0);
        assert_eq!(schedule.take(), Some(0));
        assert_eq!(schedule.take(), None);
        assert_eq!(schedule.next_in(400_000), Some(600_000));
        schedule.release(3_500_000);
        assert_eq!(
            [schedule.take(), schedule.take(), schedule.take()],
            [1, 2, 3].map(|ms| Some(ms * 1_000_000))
        );
        assert_eq!(schedule.take(), None);
        schedule.release(u64::MAX);
        assert_eq!(std::iter::from_fn(|| schedule.take()).count(), 6);
        assert!(schedule.is_done());
        assert_eq!(schedule.next_in(0), None);
    }

    #[test]
    fn a_stall_keeps_the_due_times_and_bounds_the_backlog() {
        let mut schedule = Schedule::new(1_000_000.0, 1_000_000, 10);
        schedule.release(1_000_000);
        assert_eq!(schedule.dropped(), 990);
        assert_eq!(schedule.take(), Some(0), "the first that waits is the first that fell due");
        assert_eq!(schedule.abandon(), 9);
        assert!(schedule.is_done());
    }
}
