//! `python`: a NumPy array from one function in Python to another and back, against what two Python processes do without Baton.
//!
//! All of a system's processes are on one core. Baton's time is that of the round trip, there and back; the yardsticks' is one way and a
//! word back, which favours them. Nobody touches more than the first byte. `start-numpy` is a replica's start, beside that of an
//! interpreter.

pub(super) mod rivals;
mod starts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::load::get;
use crate::report::{Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet, SystemError};
use crate::units::floor;
use crate::yardstick::RoundTrips;

use super::sampling::{Timing, sample_of_trips};
use super::{Options, SuiteError, say};
use rivals::Rival;

const APP: &str = "bench/apps/python";
const BATON: &str = "baton-python";
const CASE: &str = "handover";
const MIB: u64 = 1 << 20;
/// What Baton hands over.
const PAYLOADS: [u64; 3] = [MIB, 64 * MIB, 1024 * MIB];
/// What is copied takes so long that the largest is left out.
const COPIED_MAX: u64 = 64 * MIB;
const QUICK_TOTAL: Duration = Duration::from_secs(8);
const PROBES: u64 = 3;
const ITERATIONS_MAX: u64 = 20_000;
/// How long one request of the measurement may take.
const WITHIN: Duration = Duration::from_secs(60);
/// The line of the manifest that says with which Python.
const PYTHON_LINE: &str = "python = \"python3\"";

/// Most microseconds that a round trip may take, at any size.
const ROUND_TRIP_US_MAX: f64 = 100.0;
/// How much longer it may take at a gibibyte than at a mebibyte.
const GROWTH_MAX: f64 = 1.5;
/// How much faster it has to be than any yardstick at 64 MiB.
const FASTER_MIN: f64 = 100.0;

enum Way<'a> {
    Baton(&'a Fleet),
    Rival(&'a Rival),
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("python", options.quick, options.rounds);
    let directory = options.directory(APP)?;
    let Some(python) = interpreter() else {
        return Err(SuiteError::System(SystemError::Missing("python3 with numpy".into())));
    };
    let app = laid_out(&directory, &python).map_err(SystemError::State)?;
    say("starting the node");
    let fleet = systems::start_directory(&options.setup, BATON, app.path())?;
    let rivals = rivals::start(options, &python, &directory.join("rival.py"), &mut report.notes)?;
    let starts = starts::Starts::start(options, &directory, &python)?;
    let series = measure(options, &fleet, &rivals, &starts)?;
    report.take_rows(&series);
    relate(&series, &rivals, &mut report);
    starts::relate(&series, &mut report);
    copies(options, &fleet, &mut report)?;
    let rivals =
        "`uds` is a pickle (protocol 5) over a Unix socket; `s3` is nginx' WebDAV over files in memory";
    report.notes.push(rivals.into());
    super::note_losses(&mut report, [&fleet, starts.fleet()]);
    Ok(report)
}

/// The interpreter that has NumPy: the one that `cargo xtask` installed, or the first of `PATH`.
pub(super) fn interpreter() -> Option<PathBuf> {
    let installed = crate::locate::tool("python3");
    let has_numpy = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import numpy"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let named = std::env::var_os("BATON_TEST_PYTHON").map(PathBuf::from);
    named.into_iter().chain([installed, "python3".into()]).find(has_numpy)
}

/// The app, with this interpreter in its manifest.
fn laid_out(directory: &Path, python: &Path) -> std::io::Result<TempDir> {
    let app = tempfile::tempdir()?;
    let text = fs::read_to_string(directory.join("baton.toml"))?;
    let line = format!("python = \"{}\"", environment(python).display());
    fs::write(app.path().join("baton.toml"), text.replace(PYTHON_LINE, &line))?;
    fs::create_dir(app.path().join("functions"))?;
    let module = "functions/handover.py";
    fs::copy(directory.join(module), app.path().join(module))?;
    Ok(app)
}

/// What a manifest names for an interpreter: its virtual environment, if it is in one.
pub(super) fn environment(python: &Path) -> &Path {
    let venv = python.parent().and_then(Path::parent).filter(|place| place.join("pyvenv.cfg").is_file());
    venv.unwrap_or(python)
}

fn measure(
    options: &Options,
    fleet: &Fleet,
    rivals: &[Rival],
    starts: &starts::Starts,
) -> Result<Series, SuiteError> {
    let samples = options.rounds * (PAYLOADS.len() + 2 * rivals.len());
    let timing = Timing::new(options, samples, QUICK_TOTAL);
    let mut series = Series::default();
    let mut expected: BTreeMap<Key, f64> = BTreeMap::new();
    for round in 1..=options.rounds {
        for payload in PAYLOADS {
            let copied = rivals.iter().filter(|_| payload <= COPIED_MAX);
            let ways = copied.map(|rival| (rival.system, Way::Rival(rival)));
            for (system, way) in [(BATON, Way::Baton(fleet))].into_iter().chain(ways) {
                say(format_args!("round {round}: {system} at {payload} bytes"));
                let key = Key::new(system, CASE, 1).payload(payload);
                let expected = expected.entry(key.clone()).or_default();
                series.add(key, way.sample(payload, timing, expected)?);
            }
        }
        starts.measure(round, &mut series)?;
    }
    Ok(series)
}

impl Way<'_> {
    /// One sample; `expected` is how long one took in the last, 0 before the first.
    fn sample(&self, payload: u64, timing: Timing, expected: &mut f64) -> Result<Sample, SuiteError> {
        if *expected == 0.0 {
            *expected = self.trips(payload, PROBES)?.p50_ns;
        }
        timing.settle();
        let budget = timing.measured.min(Duration::from_secs(1)).as_secs_f64() * 1e9;
        let iterations = floor(budget / expected.max(1.0)).clamp(PROBES, ITERATIONS_MAX);
        let trips = self.trips(payload, iterations)?;
        *expected = trips.p50_ns;
        Ok(sample_of_trips(trips))
    }

    fn trips(&self, payload: u64, iterations: u64) -> Result<RoundTrips, SuiteError> {
        match self {
            Way::Rival(rival) => rival.trips(payload, iterations),
            Way::Baton(fleet) => {
                let path = format!("/?payload={payload}&iterations={iterations}");
                let answer = get(fleet.address, &path, None, WITHIN)?;
                serde_json::from_slice(&answer.body).map_err(|error| SuiteError::Answer {
                    system: BATON.to_owned(),
                    problem: format!("{error}: {}", String::from_utf8_lossy(&answer.body)),
                })
            }
        }
    }
}

fn relate(series: &Series, rivals: &[Rival], report: &mut Report) {
    let own = |payload| Key::new(BATON, CASE, 1).payload(payload);
    for (payload, size) in PAYLOADS.into_iter().zip(["1MiB", "64MiB", "1GiB"]) {
        let promise = Some(Promise::AtMost(ROUND_TRIP_US_MAX));
        report.figure(&format!("handover_{size}_p50_us"), series, "p50_us", &own(payload), promise);
    }
    let [least, _, most] = PAYLOADS.map(own);
    let promise = Some(Promise::AtMost(GROWTH_MAX));
    report.ratio("handover_1GiB_over_1MiB", series, "p50_us", [&most, &least], promise);
    for rival in rivals {
        let key = Key::new(rival.system, CASE, 1).payload(COPIED_MAX);
        let name = format!("{}_over_handover_64MiB", rival.system);
        let promise = Some(Promise::AtLeast(FASTER_MIN));
        report.ratio(&name, series, "p50_us", [&key, &own(COPIED_MAX)], promise);
    }
}

/// What the receipt of a request says about copies between the two functions.
fn copies(options: &Options, fleet: &Fleet, report: &mut Report) -> Result<(), SuiteError> {
    let path = format!("/?payload={COPIED_MAX}&iterations=1");
    let mut command = Command::new(&options.setup.baton);
    command.args(["invoke", "python/first", "--method", "GET", "--path", &path, "--receipt", "--json"]);
    command.env("BATON_HOME", fleet.home().unwrap_or_default()).stdin(Stdio::null());
    let failed = |problem: String| SuiteError::Answer { system: BATON.to_owned(), problem };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    // The answer, and the receipt on a line of its own.
    let told = String::from_utf8_lossy(&output.stdout);
    let mut lines = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let receipt = lines.find(|line| line["hops"].is_array());
    let receipt = receipt.ok_or_else(|| failed(format!("no receipt: {told}")))?;
    let hops = receipt["hops"].as_array().into_iter().flatten();
    let of_second: Vec<u64> =
        hops.filter(|hop| hop["function"] == "second").filter_map(|hop| hop["copies"].as_u64()).collect();
    if of_second.is_empty() {
        return Err(failed(format!("the receipt has no hop of the second function: {receipt}")));
    }
    let copies = of_second.iter().sum::<u64>() as f64;
    report.of_rounds("handover_copies", &[copies], Some(Promise::AtMost(0.0)));
    Ok(())
}
