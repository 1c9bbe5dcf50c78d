//! What a simulation counts.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::time::{MICROSECOND, Nanos};

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// Every node that was asked had a full queue.
    Refused,
    /// Its node died with it, or the node that its client was connected to.
    Lost,
    /// No node hosts the function.
    Nowhere,
}

/// Counts of one run.
pub(crate) struct Tally {
    /// Microseconds on top of what the handlers took.
    added: Histogram<u64>,
    /// Thousandths of a node's cores that are wanted, of all nodes at all samples.
    load: Histogram<u64>,
    pub(crate) invocations: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) nowhere: u64,
    pub(crate) calls: u64,
    pub(crate) local: u64,
    pub(crate) cold: u64,
    pub(crate) again: u64,
    pub(crate) bounced: u64,
    pub(crate) samples: u64,
    pub(crate) used: u64,
    pub(crate) reports: u64,
    pub(crate) rows: u64,
    pub(crate) plans: u64,
    /// Rules that were broken, in words.
    pub(crate) violations: Vec<String>,
}

/// Most that is told apart: an hour in microseconds.
const VALUE_MAX: u64 = 3_600_000_000;
/// Violations that are kept in words.
const VIOLATIONS_MAX: usize = 20;

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, VALUE_MAX, 3).expect("invariant: these bounds are a range");
        Self {
            added: histogram(),
            load: histogram(),
            invocations: 0,
            answered: 0,
            refused: 0,
            lost: 0,
            nowhere: 0,
            calls: 0,
            local: 0,
            cold: 0,
            again: 0,
            bounced: 0,
            samples: 0,
            used: 0,
            reports: 0,
            rows: 0,
            plans: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn end(&mut self, outcome: Outcome, added: Nanos) {
        match outcome {
            Outcome::Answered => {
                self.answered += 1;
                self.added.saturating_record(added / MICROSECOND);
            }
            Outcome::Refused => self.refused += 1,
            Outcome::Lost => self.lost += 1,
            Outcome::Nowhere => self.nowhere += 1,
        }
    }

    /// A node's running and waiting calls, in thousandths of its cores.
    pub(crate) fn sample(&mut self, thousandths: u64) {
        self.load.saturating_record(thousandths);
        self.used += u64::from(thousandths > 0);
    }

    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub(crate) fn summary(&self, case: Case) -> Summary {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let added_ms = |quantile| self.added.value_at_quantile(quantile) as f64 / 1e3;
        let load = |quantile| self.load.value_at_quantile(quantile) as f64 / 1e3;
        Summary {
            case,
            invocations: self.invocations,
            calls: self.calls,
            answered: self.answered,
            refused: self.refused,
            lost: self.lost,
            nowhere: self.nowhere,
            tried_again: self.again,
            local: share(self.local, self.calls),
            cold: share(self.cold, self.calls),
            added_ms_p50: added_ms(0.5),
            added_ms_p90: added_ms(0.9),
            added_ms_p99: added_ms(0.99),
            added_ms_p999: added_ms(0.999),
            load_p50: load(0.5),
            load_p99: load(0.99),
            load_max: self.load.max() as f64 / 1e3,
            nodes_used: share(self.used, self.samples),
            rows_per_report: share(self.rows, self.reports),
            plans: self.plans,
            violations: self.violations.clone(),
        }
    }
}

/// What was simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Case {
    pub(crate) nodes: u32,
    pub(crate) apps: u32,
    pub(crate) policy: &'static str,
    pub(crate) router: &'static str,
    /// Whether a node with no free core counts as full.
    pub(crate) minds_cores: bool,
    pub(crate) bounces: u32,
    /// Milliseconds between two reports of a node.
    pub(crate) report_ms: u64,
    pub(crate) seed: u64,
}

/// What came of it. Shares are between 0 and 1, loads in cores that are wanted over cores that are there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) invocations: u64,
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) nowhere: u64,
    pub(crate) tried_again: u64,
    pub(crate) local: f64,
    pub(crate) cold: f64,
    pub(crate) added_ms_p50: f64,
    pub(crate) added_ms_p90: f64,
    pub(crate) added_ms_p99: f64,
    pub(crate) added_ms_p999: f64,
    pub(crate) load_p50: f64,
    pub(crate) load_p99: f64,
    pub(crate) load_max: f64,
    /// Nodes that work at a moment, on average.
    pub(crate) nodes_used: f64,
    pub(crate) rows_per_report: f64,
    pub(crate) plans: u64,
    pub(crate) violations: Vec<String>,
}
