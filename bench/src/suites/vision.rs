//! `vision`: what of the time of a pipeline over pictures is spent on moving them.
//!
//! `examples/vision` hands a frame of 64 MiB from one function to the next, four times, and says itself for how long its steps
//! computed and how long all of it took. Beside it the same four hand-overs go between five processes by a store: put, a word to
//! the next one, get. What their steps would compute is not done again: a pipeline by a store takes what the app's steps
//! computed in the same round, and what its hand-overs took.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::app::AppError;
use crate::load::{get, request};
use crate::report::{Key, Promise, Report, Series};
use crate::systems::{self, Fleet, SystemError};
use crate::yardstick::RoundTrips;

use super::python::rivals::{self, Rival};
use super::python::{environment, interpreter};
use super::sampling::sample_of_trips;
use super::{Options, SuiteError, say};

const APP: &str = "examples/vision";
const PYTHON_APP: &str = "bench/apps/python";
const BATON: &str = "baton-vision";
const CASE: &str = "pipeline";
/// A frame of 4096 x 4096 pixels of 4 bytes.
const FRAME_BYTES: u64 = 64 << 20;
const MANIFEST: &str = "baton.toml";
/// Pictures, or runs of the hand-overs, of a sample; and before the first.
const PICTURES: u64 = 5;
const QUICK_PICTURES: u64 = 2;
const WARM_UP: u64 = 1;
const WITHIN: Duration = Duration::from_secs(120);
/// The share of the whole that moving may take.
const MOVING_PERCENT_MAX: f64 = 1.0;

/// What the app says of a picture.
#[derive(Debug, Clone, Deserialize)]
struct Told {
    total_ms: f64,
    moving_ms: f64,
    steps_ms: BTreeMap<String, f64>,
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("vision", options.quick, options.rounds);
    let directory = options.directory(APP)?;
    let Some(python) = interpreter() else {
        return Err(SuiteError::System(SystemError::Missing("python3 with numpy".into())));
    };
    let artifacts = systems::artifacts(&options.setup, &directory)?;
    let app = laid_out(&directory, &artifacts, environment(&python)).map_err(SystemError::App)?;
    say("starting the node");
    let fleet = systems::start_directory(&options.setup, BATON, app.path())?;
    let scripts = crate::locate::app(PYTHON_APP).ok_or(SuiteError::NoApp(PYTHON_APP))?;
    let rivals = rivals::start(options, &python, &scripts.join("rival.py"), &mut report.notes)?;
    let rivals: Vec<Rival> = rivals.into_iter().filter(Rival::has_a_store).collect();
    let series = measure(options, &fleet, &rivals, &scripts.join("pipeline.py"))?;
    report.take_rows(&series);
    super::note_losses(&mut report, [&fleet]);
    relate(&series, &rivals, &mut report);
    report
        .notes
        .push("`redis` and `s3` (nginx' WebDAV over files in memory) compute what the app's steps computed in the same round".into());
    Ok(report)
}

/// The app with programs that are built, and with this interpreter.
fn laid_out(
    directory: &Path,
    artifacts: &BTreeMap<String, PathBuf>,
    python: &Path,
) -> Result<TempDir, AppError> {
    let path = directory.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|error| AppError::File { path: path.clone(), error })?;
    let manifest = with_programs(&text, artifacts, python)
        .map_err(|problem| AppError::Malformed { path: path.clone(), problem })?;
    let copied = || {
        let app = tempfile::tempdir()?;
        fs::write(app.path().join(MANIFEST), manifest)?;
        fs::create_dir(app.path().join("python"))?;
        for file in fs::read_dir(directory.join("python"))?.flatten().filter(|file| file.path().is_file()) {
            fs::copy(file.path(), app.path().join("python").join(file.file_name()))?;
        }
        Ok(app)
    };
    copied().map_err(|error| AppError::File { path, error })
}

/// The manifest with an executable in the place of each build, and an interpreter for each function in Python.
fn with_programs(text: &str, artifacts: &BTreeMap<String, PathBuf>, python: &Path) -> Result<String, String> {
    let mut manifest: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let functions =
        manifest.get_mut("functions").and_then(Value::as_table_mut).ok_or("it has no functions")?;
    for (name, function) in functions {
        let function = function.as_table_mut().ok_or_else(|| format!("{name} is no table"))?;
        if function.remove("build").is_some() {
            let program = artifacts.get(name).ok_or_else(|| format!("nothing was built for {name}"))?;
            function.insert("artifact".into(), Value::String(program.display().to_string()));
        } else {
            function.insert("python".into(), Value::String(python.display().to_string()));
        }
    }
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

fn measure(options: &Options, fleet: &Fleet, rivals: &[Rival], script: &Path) -> Result<Series, SuiteError> {
    let count = if options.quick { QUICK_PICTURES } else { PICTURES };
    let picture = get(fleet.address, "/scene?seed=1", None, WITHIN)?;
    if picture.status != 200 {
        return Err(failed(fleet, format!("status {} of the picture", picture.status)));
    }
    let mut series = Series::default();
    for _ in 0..WARM_UP {
        look_at(fleet, &picture.body)?;
    }
    for round in 1..=options.rounds {
        say(format_args!("round {round}: {BATON}"));
        let told: Result<Vec<Told>, SuiteError> = (0..count).map(|_| look_at(fleet, &picture.body)).collect();
        let told = told?;
        let mean = |of: fn(&Told) -> f64| told.iter().map(of).sum::<f64>() / told.len().max(1) as f64;
        let computing_ms = mean(|told| told.steps_ms.values().sum());
        let totals = told.iter().map(|told| nanoseconds(told.total_ms)).collect();
        add(&mut series, BATON, totals, [computing_ms, mean(|told| told.moving_ms)]);
        for rival in rivals {
            say(format_args!("round {round}: {}", rival.system));
            let moving = rival.run(script, FRAME_BYTES, count)?;
            let totals = vec![nanoseconds(computing_ms + moving.mean_ns / 1e6)];
            add(&mut series, rival.system, totals, [computing_ms, moving.mean_ns / 1e6]);
        }
    }
    Ok(series)
}

fn failed(fleet: &Fleet, problem: String) -> SuiteError {
    SuiteError::Answer { system: fleet.system.clone(), problem }
}

fn nanoseconds(milliseconds: f64) -> u64 {
    crate::units::floor(milliseconds * 1e6)
}

/// Sends a picture through the app.
fn look_at(fleet: &Fleet, picture: &[u8]) -> Result<Told, SuiteError> {
    let (host, length) = (fleet.address, picture.len());
    let head =
        format!("POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let answer = request(host, &[head.as_bytes(), picture].concat(), WITHIN)?;
    let told = serde_json::from_slice(&answer.body).ok();
    told.ok_or_else(|| {
        failed(fleet, format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
    })
}

fn add(series: &mut Series, system: &str, totals_ns: Vec<u64>, [computing_ms, moving_ms]: [f64; 2]) {
    let mut sample = RoundTrips::of(totals_ns).map(sample_of_trips).unwrap_or_default();
    let whole = (computing_ms + moving_ms).max(f64::MIN_POSITIVE);
    for (name, value) in [
        ("computing_ms", computing_ms),
        ("moving_ms", moving_ms),
        ("moving_percent", moving_ms / whole * 100.0),
    ] {
        sample.figures.insert(name.into(), value);
    }
    series.add(Key::new(system, CASE, 1).payload(FRAME_BYTES), sample);
}

fn relate(series: &Series, rivals: &[Rival], report: &mut Report) {
    let own = Key::new(BATON, CASE, 1).payload(FRAME_BYTES);
    let promise = Some(Promise::AtMost(MOVING_PERCENT_MAX));
    report.figure("moving_percent", series, "moving_percent", &own, promise);
    for rival in rivals {
        let key = own.of(rival.system);
        report.figure(&format!("moving_percent_{}", rival.system), series, "moving_percent", &key, None);
        report.ratio(
            &format!("moving_ms_{}_over_baton", rival.system),
            series,
            "moving_ms",
            [&key, &own],
            None,
        );
        report.ratio(&format!("total_{}_over_baton", rival.system), series, "mean_us", [&key, &own], None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_interpreters_take_their_places() {
        let text = "[app]\nname = \"vision\"\n[functions.decode]\nbuild = { cargo = \"x\" }\n[functions.filter]\nruntime = \"python\"\n";
        let artifacts = BTreeMap::from([("decode".to_owned(), PathBuf::from("/built/decode"))]);
        let with = with_programs(text, &artifacts, Path::new("/venv")).unwrap();
        let with: Table = with.parse().unwrap();
        assert_eq!(with["functions"]["decode"]["artifact"].as_str(), Some("/built/decode"));
        assert!(with["functions"]["decode"].get("build").is_none());
        assert_eq!(with["functions"]["filter"]["python"].as_str(), Some("/venv"));
        let error = with_programs(text, &BTreeMap::new(), Path::new("/venv")).unwrap_err();
        assert_eq!(error, "nothing was built for decode");
    }

    #[test]
    fn moving_is_told_as_a_share_of_the_whole() {
        let mut series = Series::default();
        add(&mut series, BATON, vec![100_000_000], [99.0, 1.0]);
        let rows = series.rows();
        assert_eq!((rows[0].figures["moving_percent"], rows[0].figures["p50_us"]), (1.0, 100_000.0));
    }

    #[test]
    fn what_the_app_says_is_read() {
        let text =
            r#"{"report":{"x":1},"total_ms":120.5,"moving_ms":0.5,"steps_ms":{"decode":70.0,"resize":50.0}}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!((told.total_ms, told.moving_ms, told.steps_ms.values().sum::<f64>()), (120.5, 0.5, 120.0));
    }
}
