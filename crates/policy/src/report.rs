//! What handlers have done so far.

use std::cell::Cell;

use serde::Serialize;

use crate::answer::Outcome;
use crate::chain::{Slot, Step};

/// Durations are counted by powers of two of microseconds; the last part has all that is longer.
const PARTS: usize = 24;

/// Counters of one handler.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    passed: Cell<u64>,
    refused: Cell<u64>,
    panicked: Cell<u64>,
    timed: Cell<u64>,
    timed_ns: Cell<u64>,
}

fn add(to: &Cell<u64>, by: u64) {
    to.set(to.get().saturating_add(by));
}

impl Counts {
    pub(crate) fn pass(&self) {
        add(&self.passed, 1);
    }

    pub(crate) fn refuse(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn panic(&self) {
        add(&self.panicked, 1);
    }

    pub(crate) fn took(&self, ns: u64) {
        add(&self.timed, 1);
        add(&self.timed_ns, ns);
    }
}

/// Requests by outcome.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// By the first digit of their status.
    classes: [Cell<u64>; 6],
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    durations: [Cell<u64>; PARTS],
}

impl Outcomes {
    pub(crate) fn count(&self, outcome: &Outcome, bytes_in: u64, duration_ns: u64) {
        if let Some(class) = self.classes.get(usize::from(outcome.status / 100).min(5)) {
            add(class, 1);
        }
        add(&self.bytes_in, bytes_in);
        add(&self.bytes_out, outcome.bytes_out);
        let us = duration_ns / 1000;
        let part = (u64::BITS - us.leading_zeros()) as usize;
        if let Some(part) = self.durations.get(part.min(PARTS - 1)) {
            add(part, 1);
        }
    }

    fn report(&self) -> Report {
        let class = |digit: usize| self.classes.get(digit).map_or(0, Cell::get);
        Report {
            succeeded: class(2) + class(3),
            client_errors: class(4),
            server_errors: class(5),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            p50_us_at_most: self.quantile(50),
            p99_us_at_most: self.quantile(99),
        }
    }

    /// The end of the part in which a share of all durations is reached, microseconds.
    fn quantile(&self, percent: u64) -> u64 {
        let all: u64 = self.durations.iter().map(Cell::get).sum();
        let wanted = (all * percent).div_ceil(100);
        let mut seen = 0;
        for (part, count) in self.durations.iter().enumerate() {
            seen += count.get();
            if seen >= wanted {
                return 1 << part;
            }
        }
        0
    }
}

/// Requests by outcome, as the metrics handler counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Statuses 200 to 399.
    pub succeeded: u64,
    /// Statuses 400 to 499.
    pub client_errors: u64,
    /// Statuses 500 to 599.
    pub server_errors: u64,
    /// Bytes of bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Half of all took no more than this, to a power of two.
    pub p50_us_at_most: u64,
    /// 99 of 100 took no more than this, to a power of two.
    pub p99_us_at_most: u64,
}

/// What a handler has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandlerReport {
    /// The word of the manifest.
    #[serde(rename = "use")]
    pub kind: &'static str,
    /// Requests that it let pass.
    pub passed: u64,
    /// Requests that it did not.
    pub refused: u64,
    /// Requests that ended by its own failure.
    pub failed: u64,
    /// What it took, the mean of one request in 64.
    pub mean_ns: u64,
    /// Whether it stands in the app's list and is one for all functions: its figures are the same wherever it is shown.
    #[serde(rename = "shared")]
    pub is_shared: bool,
    /// Of a breaker: `closed`, `open` or `half-open`, and how often it opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<(&'static str, u64)>,
    /// Of the retry handler: calls that were made again, and those that the budget did not allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<(u64, u64)>,
    /// What there is to know of its state, for a person to read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Of the metrics handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Report>,
}

impl Slot {
    pub(crate) fn report(&self, is_shared: bool) -> HandlerReport {
        let Counts { passed, refused, panicked, timed, timed_ns } = &self.counts;
        let breaker = match &self.step {
            Step::Breaker(circuit) => {
                let circuit = circuit.borrow();
                Some((circuit.word(), circuit.opened))
            }
            _ => None,
        };
        let retries = match &self.step {
            Step::Retry(again) => Some((again.made.get(), again.spared.get())),
            _ => None,
        };
        let state = match &self.step {
            Step::Breaker(_) => {
                breaker.map_or_else(String::new, |(word, opened)| format!("{word}, opened {opened} times"))
            }
            Step::Retry(_) => retries.map_or_else(String::new, |(made, spared)| {
                format!("{made} made again, {spared} over budget")
            }),
            Step::Jwt(_, file) => {
                let keys = format!("{} keys of {}", file.count(), file.path().display());
                file.fault().map_or(keys.clone(), |fault| format!("{keys}; {fault}"))
            }
            _ => String::new(),
        };
        HandlerReport {
            kind: self.settings.kind().as_str(),
            passed: passed.get(),
            refused: refused.get(),
            failed: panicked.get(),
            is_shared,
            breaker,
            retries,
            mean_ns: timed_ns.get() / timed.get().max(1),
            state,
            outcomes: match &self.step {
                Step::Metrics(outcomes) => Some(outcomes.report()),
                _ => None,
            },
        }
    }
}
