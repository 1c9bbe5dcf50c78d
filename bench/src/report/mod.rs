//! From samples to rows and ratios.
//!
//! A [`Series`] collects the samples of an interleaved run, one per round, system and case. A [`Report`] holds their
//! medians with minimum and maximum, and ratios between systems. A ratio is the median of the rounds' own ratios: a
//! round's samples were taken seconds apart, so what slows the whole machine down cancels out.

mod machine;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::load::Errors;
pub use machine::Machine;

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
    /// Medians of the rounds' ratios (or differences, where the name says `minus`).
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
    fn figure(&self, key: &Key, figure: &str) -> Option<Vec<f64>> {
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
        let Some(middle) = median(rounds.clone()).filter(|middle| middle.is_finite()) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rps: f64, p50: f64) -> Sample {
        let figures =
            [("rps", rps), ("p50_us", p50), ("p95_us", 2.0), ("p99_us", 3.0), ("cpu_us_per_req", 4.0)];
        Sample {
            figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
            errors: Errors { status: 1, ..Errors::default() },
            payload_bytes: 14,
        }
    }

    fn series() -> (Series, Key, Key) {
        let (a, b) = (Key::new("baton-process", "mix", 64), Key::new("grpc", "mix", 64));
        let mut series = Series::default();
        for (rps, other) in [(100.0, 10.0), (400.0, 100.0), (300.0, 60.0)] {
            series.add(a.clone(), sample(rps, 10.0));
            series.add(b.clone(), sample(other, 20.0));
        }
        (series, a, b)
    }

    #[test]
    fn medians_come_with_minimum_and_maximum() {
        let (series, a, _) = series();
        let rows = series.rows();
        assert_eq!(rows.len(), 2);
        let row = &rows[0];
        assert_eq!((row.system.as_str(), row.concurrency, row.payload_bytes), ("baton-process", 64, 14));
        assert_eq!((row.figures["rps"], row.min["rps"], row.max["rps"]), (300.0, 100.0, 400.0));
        assert_eq!((row.errors, row.rounds), (3, 3));
        assert_eq!(series.median_of(&a, "rps"), Some(300.0));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn ratios_are_medians_of_the_rounds() {
        let (series, a, b) = series();
        let mut report = Report::new("boutique", true, 3);
        report.ratio("rps", &series, "rps", [&a, &b], Some(Promise::AtLeast(4.0)));
        report.difference("p50_minus", &series, "p50_us", [&a, &b], Some(Promise::AtMost(-10.0)));
        report.ratio("absent", &series, "rps", [&a, &a.of("nobody")], None);
        assert_eq!(report.ratios["rps"], 5.0);
        assert_eq!(report.ratio_ranges["rps"], [4.0, 10.0]);
        assert_eq!(report.ratios["p50_minus"], -10.0);
        assert!(!report.ratios.contains_key("absent"));
        assert!(report.promises.iter().all(|(name, promise)| promise.is_kept(report.ratios[name])));
        assert!(!Promise::AtLeast(5.1).is_kept(5.0));
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let (series, a, b) = series();
        let mut report = Report::new("boutique", false, 3);
        report.take_rows(&series);
        report.ratio("rps_at_64", &series, "rps", [&a, &b], None);
        let file = tempfile::NamedTempFile::new().unwrap();
        report.write_json(file.path()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(json["bench"], "boutique");
        assert!(json["machine"].is_object());
        let names =
            "system case payload_bytes concurrency rps p50_us p95_us p99_us cpu_us_per_req errors min max";
        for name in names.split(' ') {
            assert!(!json["rows"][0][name].is_null(), "{name} is missing");
        }
        assert_eq!(json["rows"][0]["min"]["rps"], 100.0);
        assert_eq!(json["ratios"]["rps_at_64"], 5.0);
        assert!(!report.table().is_empty());
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
