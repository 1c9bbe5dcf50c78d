//! The state of one run: when it ends, what is idle, what was measured.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::Timespec;

use super::connection::Flight;
use super::response::Response;
use super::schedule::{BACKLOG_MAX, Schedule};
use super::{Errors, Outcome, Pace, Until};
use crate::units::nanos;

/// How long a run waits for its last answers.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How often time-outs are looked for and dead connections made anew.
pub(super) const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// Below this distance to the next due time the generator spins.
const SPIN_BELOW_NS: u64 = 250_000;
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The state of one run.
pub(super) struct Run {
    pub(super) begun: Instant,
    last_answer: Instant,
    pub(super) schedule: Option<Schedule>,
    until: Until,
    pub(super) stopping: bool,
    /// Connections without a request, the longest idle first: at low load, too, every visitor has his turn.
    pub(super) idle: VecDeque<usize>,
    /// Requests, and preparations of requests, that wait for an answer.
    pub(super) in_flight: usize,
    pub(super) outcome: Outcome,
}

impl Run {
    pub(super) fn new(pace: Pace, until: Until) -> Self {
        let schedule = match (pace, until) {
            (Pace::Open(rate), Until::Elapsed(time)) => Some(Schedule::new(rate, nanos(time), BACKLOG_MAX)),
            (Pace::Open(rate), Until::Answered(count)) => {
                let duration = Duration::from_secs_f64(count as f64 / rate.max(1e-3));
                Some(Schedule::new(rate, nanos(duration), BACKLOG_MAX))
            }
            (Pace::Closed, _) => None,
        };
        let begun = Instant::now();
        Self {
            begun,
            last_answer: begun,
            schedule,
            until,
            stopping: false,
            idle: VecDeque::new(),
            in_flight: 0,
            outcome: Outcome {
                latencies: Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3)
                    .expect("invariant: the bounds are in order"),
                answered: 0,
                elapsed: Duration::ZERO,
                body_bytes: 0,
                errors: Errors::default(),
                last_status: None,
            },
        }
    }

    /// Notices that no further request shall be sent.
    pub(super) fn watch_end(&mut self, now: Instant) {
        self.stopping |= match (self.until, &self.schedule) {
            (_, Some(schedule)) => schedule.is_done(),
            (Until::Elapsed(time), None) => now - self.begun >= time,
            (Until::Answered(count), None) => self.outcome.answered + self.outcome.errors.total() >= count,
        };
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        let planned = match self.until {
            Until::Elapsed(time) => time,
            Until::Answered(_) => Duration::MAX / 2,
        };
        (self.stopping && self.in_flight == 0)
            || now.saturating_duration_since(self.begun) > planned + DRAIN_MAX
    }

    pub(super) fn record(&mut self, flight: &Flight, response: Response, now: Instant) {
        if !flight.step.expect.contains(&response.status) {
            self.outcome.errors.status += 1;
            self.outcome.last_status = Some(response.status);
        } else if flight.step.counted {
            self.outcome.latencies.saturating_record(nanos(now.saturating_duration_since(flight.origin)));
            self.outcome.answered += 1;
            self.outcome.body_bytes += response.body_bytes;
        }
        self.last_answer = now;
        if let Until::Answered(count) = self.until {
            self.stopping |= self.outcome.answered + self.outcome.errors.total() >= count;
        }
    }

    /// How long the generator may sleep.
    pub(super) fn wait(&self, now: Instant) -> Timespec {
        let housekeeping = nanos(HOUSEKEEPING);
        let ns = match &self.schedule {
            Some(schedule) if !self.idle.is_empty() => {
                schedule.next_in(nanos(now - self.begun)).unwrap_or(housekeeping).min(housekeeping)
            }
            _ => housekeeping,
        };
        Timespec { tv_sec: 0, tv_nsec: i64::try_from(ns.saturating_sub(SPIN_BELOW_NS)).unwrap_or(0) }
    }

    pub(super) fn finish(mut self) -> Outcome {
        if let Some(mut schedule) = self.schedule {
            self.outcome.errors.unsent += schedule.dropped() + schedule.abandon();
        }
        self.outcome.elapsed = self.last_answer - self.begun;
        self.outcome
    }
}
