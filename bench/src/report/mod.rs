//! From samples to rows and ratios.
//!
//! A [`Series`] collects the samples of an interleaved run, one per round, system and case. A [`Report`] holds their
//! medians with minimum and maximum, and ratios between systems. A ratio is the median of the rounds' own ratios: a
//! round's samples were taken seconds apart, so what slows the whole machine down cancels out.

mod machine;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::load::Errors;
pub use machine::Machine;

/// A load generator that is busier than this share of its core may be what limits a closed loop.
const LOAD_SHARE_MAX: f64 = 0.95;

/// Figures by name; the unit is part of the name.
pub type Figures = BTreeMap<String, f64>;

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The case, for example `mix`.
    pub case: String,
    /// The payload, where the suite varies it.
    pub payload_bytes: Option<u64>,
    /// Connections or callers at a time.
    pub concurrency: u32,
    /// The system, for example `baton-process` or `grpc`.
    pub system: String,
}

impl Key {
    /// A key without a chosen payload.
    #[must_use]
    pub fn new(system: &str, case: &str, concurrency: u32) -> Self {
        Self { case: case.into(), payload_bytes: None, concurrency, system: system.into() }
    }

    /// The same with a payload.
    #[must_use]
    pub fn payload(mut self, bytes: u64) -> Self {
        self.payload_bytes = Some(bytes);
        self
    }

    /// The same for another system.
    #[must_use]
    pub fn of(&self, system: &str) -> Self {
        Self { system: system.into(), ..self.clone() }
    }
}

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The figures.
    pub figures: Figures,
    /// What went wrong.
    pub errors: Errors,
    /// Mean payload of an answer, used where the key has none.
    pub payload_bytes: u64,
}

/// One row of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The system.
    pub system: String,
    /// The case.
    pub case: String,
    /// The payload of a request (hop) or an answer (HTTP).
    pub payload_bytes: u64,
    /// Connections or callers at a time.
    pub concurrency: u32,
    /// The medians.
    #[serde(flatten)]
    pub figures: Figures,
    /// Errors of all rounds together.
    pub errors: u64,
    /// How many rounds the medians are of.
    pub rounds: usize,
    /// How it was counted, where a count needs that said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// The least of each figure.
    pub min: Figures,
    /// The greatest of each figure.
    pub max: Figures,
}

/// What is promised of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// It is this or more.
    AtLeast(f64),
    /// It is this or less.
    AtMost(f64),
}

impl Promise {
    /// Whether a ratio keeps it.
    #[must_use]
    pub fn is_kept(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }
}

/// The JSON that a suite writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The suite.
    pub bench: String,
    /// Where it ran.
    pub machine: Machine,
    /// Whether samples were short.
    pub quick: bool,
    /// Rounds that were interleaved.
    pub rounds: usize,
    /// Medians of all systems and cases.
    pub rows: Vec<Row>,
    /// Medians of the rounds' ratios; differences where the name says `minus`, figures where it says neither.
    pub ratios: BTreeMap<String, f64>,
    /// Their least and greatest values.
    pub ratio_ranges: BTreeMap<String, [f64; 2]>,
    /// What is promised of them.
    pub promises: BTreeMap<String, Promise>,
    /// What was left out and why, and what blurs the figures.
    pub notes: Vec<String>,
}

/// Samples in the order of their rounds.
#[derive(Debug, Default)]
pub struct Series {
    order: Vec<Key>,
    samples: BTreeMap<Key, Vec<Sample>>,
}

impl Series {
    /// Adds the sample of the next round.
    pub fn add(&mut self, key: Key, sample: Sample) {
        if !self.samples.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.samples.entry(key).or_default().push(sample);
    }

    /// The median of one figure.
    #[must_use]
    pub fn median_of(&self, key: &Key, figure: &str) -> Option<f64> {
        median(self.figure(key, figure)?)
    }

    /// One figure of all rounds; `None` if a round lacks it.
    #[must_use]
    pub fn figure(&self, key: &Key, figure: &str) -> Option<Vec<f64>> {
        self.samples.get(key)?.iter().map(|sample| sample.figures.get(figure).copied()).collect()
    }

    /// Rows in the order in which their first samples came.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.order.iter().filter_map(|key| self.samples.get(key).map(|samples| row(key, samples))).collect()
    }

    /// All errors, by kind.
    #[must_use]
    pub fn errors(&self) -> Errors {
        let mut sum = Errors::default();
        self.samples.values().flatten().for_each(|sample| sum.add(&sample.errors));
        sum
    }
}

fn row(key: &Key, samples: &[Sample]) -> Row {
    let mut columns: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    for (name, value) in samples.iter().flat_map(|sample| &sample.figures) {
        columns.entry(name).or_default().push(*value);
    }
    let fold = |pick: fn(f64, f64) -> f64, from: f64| -> Figures {
        columns
            .iter()
            .map(|(name, values)| ((*name).clone(), values.iter().copied().fold(from, pick)))
            .collect()
    };
    let mean_payload = samples.iter().map(|s| s.payload_bytes).sum::<u64>() / samples.len().max(1) as u64;
    Row {
        system: key.system.clone(),
        case: key.case.clone(),
        payload_bytes: key.payload_bytes.unwrap_or(mean_payload),
        concurrency: key.concurrency,
        figures: columns.iter().filter_map(|(n, v)| Some(((*n).clone(), median(v.clone())?))).collect(),
        errors: samples.iter().map(|sample| sample.errors.total()).sum(),
        rounds: samples.len(),
        how: None,
        min: fold(f64::min, f64::INFINITY),
        max: fold(f64::max, f64::NEG_INFINITY),
    }
}

/// The median; `None` of nothing.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(values.len() / 2 - 1).map(|lower| f64::midpoint(*lower, upper))
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(bench: &str, quick: bool, rounds: usize) -> Self {
        Self {
            bench: bench.into(),
            machine: Machine::here(),
            quick,
            rounds,
            rows: Vec::new(),
            ratios: BTreeMap::new(),
            ratio_ranges: BTreeMap::new(),
            promises: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Takes the rows of a series.
    pub fn take_rows(&mut self, series: &Series) {
        self.rows = series.rows();
        // In an open loop the generator spins on purpose.
        let closed = self.rows.iter().filter(|row| !row.figures.contains_key("offered_rps"));
        let limited =
            closed.filter(|row| row.figures.get("load_share").is_some_and(|&share| share > LOAD_SHARE_MAX));
        let limited: Vec<String> =
            limited.map(|row| format!("{} {} {}", row.system, row.case, row.concurrency)).collect();
        if !limited.is_empty() {
            self.notes
                .push(format!("limited by the load generator, not by the server: {}", limited.join(", ")));
        }
        let errors = series.errors();
        if errors.total() > 0 {
            self.notes.push(format!("there were errors: {errors:?}"));
        }
    }

    /// Adds the ratio of a figure between two keys, if both were measured.
    pub fn ratio(
        &mut self,
        name: &str,
        series: &Series,
        figure: &str,
        over: [&Key; 2],
        promise: Option<Promise>,
    ) {
        self.relate(name, series, figure, over, promise, |a, b| a / b);
    }

    /// Adds a figure itself, if it was measured: for promises that are no relation.
    pub fn figure(&mut self, name: &str, series: &Series, figure: &str, key: &Key, promise: Option<Promise>) {
        self.relate(name, series, figure, [key, key], promise, |value, _| value);
    }

    /// Adds the difference of a figure between two keys, if both were measured.
    pub fn difference(
        &mut self,
        name: &str,
        series: &Series,
        figure: &str,
        over: [&Key; 2],
        promise: Option<Promise>,
    ) {
        self.relate(name, series, figure, over, promise, |a, b| a - b);
    }

    fn relate(
        &mut self,
        name: &str,
        series: &Series,
        figure: &str,
        [above, below]: [&Key; 2],
        promise: Option<Promise>,
        relation: fn(f64, f64) -> f64,
    ) {
        let (Some(above), Some(below)) = (series.figure(above, figure), series.figure(below, figure)) else {
            return;
        };
        let rounds: Vec<f64> = above.iter().zip(&below).map(|(a, b)| relation(*a, *b)).collect();
        self.of_rounds(name, &rounds, promise);
    }

    /// Adds what was made of several figures in each round, if there were rounds.
    pub fn of_rounds(&mut self, name: &str, rounds: &[f64], promise: Option<Promise>) {
        let Some(middle) = median(rounds.to_vec()).filter(|middle| middle.is_finite()) else { return };
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.ratios.insert(name.into(), middle);
        self.ratio_ranges.insert(name.into(), [least, greatest]);
        if let Some(promise) = promise {
            self.promises.insert(name.into(), promise);
        }
    }

    /// Writes the JSON.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}
