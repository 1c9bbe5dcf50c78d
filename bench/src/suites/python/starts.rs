//! `start-numpy`: from a request to the first line of the handler of a replica that was not there, its module with NumPy in it.
//!
//! So that one does not wait for the end of a single replica before each start, there are some functions of the same module. Each
//! answers with the clock that it began at, and how many requests it had had: one that was there already is an error. Beside it
//! an interpreter starts, imports NumPy and says when it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tempfile::TempDir;

use crate::load::get;
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::suites::sampling::sample_of_trips;
use crate::suites::{Options, SuiteError, say};
use crate::systems::{self, Fleet, SystemError};
use crate::yardstick::RoundTrips;

use super::{BATON, environment};

const CASE: &str = "start-numpy";
const PYTHON: &str = "python3";
/// Functions of the same module: starts between two waits.
const FUNCTIONS: usize = 8;
/// How often all of them are started for a sample.
const TIMES: usize = 5;
const QUICK_TIMES: usize = 1;
/// Interpreters for a sample.
const INTERPRETERS: usize = 10;
const QUICK_INTERPRETERS: usize = 3;
/// How long replicas may take to be gone, `idle` included.
const GONE_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(30);
/// Most milliseconds of a start.
const START_MS_MAX: f64 = 10.0;
const SCRIPT: &str = "import numpy, time; print(time.monotonic_ns())";

/// The functions, none of them with a replica.
pub(super) struct Starts {
    fleet: Fleet,
    python: PathBuf,
    core: usize,
    is_quick: bool,
    _app: TempDir,
}

/// What a handler says.
#[derive(Deserialize)]
struct Began {
    began_ns: u64,
    calls: u64,
}

impl Starts {
    /// Deploys the functions, and has each start once, so that all that is made once is there.
    pub(super) fn start(options: &Options, directory: &Path, python: &Path) -> Result<Self, SuiteError> {
        let app = laid_out(directory, python).map_err(SystemError::State)?;
        let fleet = systems::start_directory(&options.setup, BATON, app.path())?;
        let starts = Self {
            fleet,
            python: python.to_owned(),
            core: options.setup.server_core,
            is_quick: options.quick,
            _app: app,
        };
        (0..FUNCTIONS).try_for_each(|number| starts.began(number).map(drop))?;
        Ok(starts)
    }

    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A sample of both.
    pub(super) fn measure(&self, round: usize, series: &mut Series) -> Result<(), SuiteError> {
        say(format_args!("round {round}: starts of replicas and of interpreters"));
        let (times, interpreters) =
            if self.is_quick { (QUICK_TIMES, QUICK_INTERPRETERS) } else { (TIMES, INTERPRETERS) };
        let mut took = Vec::new();
        for _ in 0..times {
            self.all_gone()?;
            for number in 0..FUNCTIONS {
                took.push(self.start_of(number)?);
            }
        }
        self.add(BATON, took, series)?;
        let took: Result<Vec<u64>, SuiteError> = (0..interpreters).map(|_| self.interpreter()).collect();
        self.add(PYTHON, took?, series)
    }

    fn add(&self, system: &str, took: Vec<u64>, series: &mut Series) -> Result<(), SuiteError> {
        let trips = RoundTrips::of(took).ok_or_else(|| self.failed("nothing was started".into()))?;
        series.add(Key::new(system, CASE, 1), sample_of_trips(trips));
        Ok(())
    }

    fn failed(&self, problem: String) -> SuiteError {
        SuiteError::Answer { system: self.fleet.system.clone(), problem }
    }

    fn began(&self, number: usize) -> Result<Began, SuiteError> {
        let answer = get(self.fleet.address, &format!("/{number}"), None, WITHIN)?;
        let began = serde_json::from_slice(&answer.body).ok();
        began.ok_or_else(|| {
            self.failed(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
        })
    }

    /// From before the request to the handler, in nanoseconds.
    fn start_of(&self, number: usize) -> Result<u64, SuiteError> {
        let before = now_ns();
        let began = self.began(number)?;
        if began.calls != 1 {
            return Err(self.failed(format!("function {number} had a replica already")));
        }
        Ok(began.began_ns.saturating_sub(before))
    }

    fn all_gone(&self) -> Result<(), SuiteError> {
        let until = Instant::now() + GONE_WITHIN;
        while replicas_in(&self.fleet.apps()) != Some(0) {
            if Instant::now() > until {
                return Err(self.failed("replicas that nobody needs do not go".into()));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// From before an interpreter starts until it has NumPy.
    fn interpreter(&self) -> Result<u64, SuiteError> {
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT]).stdin(Stdio::null()).stderr(Stdio::inherit());
        let (before, output) = proc::pinned(Some(self.core), || (now_ns(), command.output()))?;
        let output = output.map_err(|error| SuiteError::Program { system: PYTHON.into(), error })?;
        let has_it: Option<u64> = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
        let has_it = has_it.ok_or_else(|| SuiteError::Answer {
            system: PYTHON.into(),
            problem: String::from_utf8_lossy(&output.stdout).into_owned(),
        })?;
        Ok(has_it.saturating_sub(before))
    }
}

/// Replicas of all functions, whatever they are doing; `None` if the node does not say.
fn replicas_in(apps: &[serde_json::Value]) -> Option<usize> {
    let functions = apps.first()?["functions"].as_array()?;
    functions.iter().map(|function| function["replicas"].as_array().map(Vec::len)).sum()
}

/// The app, with this interpreter in its manifest.
fn laid_out(directory: &Path, python: &Path) -> std::io::Result<TempDir> {
    let app = tempfile::tempdir()?;
    fs::write(app.path().join("baton.toml"), manifest(environment(python)))?;
    fs::create_dir(app.path().join("functions"))?;
    let module = "functions/starting.py";
    fs::copy(directory.join(module), app.path().join(module))?;
    Ok(app)
}

fn manifest(python: &Path) -> String {
    let python = python.display();
    let mut text = "[app]\nname = \"starts\"\n\n[pool]\nsize = \"64MiB\"\n".to_owned();
    for number in 0..FUNCTIONS {
        text.push_str(&format!(
            "\n[functions.start{number}]\nruntime = \"python\"\nfiles = \"functions\"\nhandler = \"starting:handler\"\n\
             python = \"{python}\"\ntimeout = \"30s\"\n\
             scale = {{ min = 0, max = 1, concurrency = 1, idle = \"1s\" }}\n\
             \n[[routes]]\npath = \"/{number}\"\nmethods = [\"GET\"]\nfunction = \"start{number}\"\n"
        ));
    }
    text
}

/// The clock that handlers answer with.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What is promised of starts.
pub(super) fn relate(series: &Series, report: &mut Report) {
    let own = Key::new(BATON, CASE, 1);
    let milliseconds =
        |figure| series.figure(&own, figure).map(|all| all.iter().map(|us| us / 1e3).collect());
    for (name, figure, promise) in [
        ("start_numpy_p50_ms", "p50_us", Some(Promise::AtMost(START_MS_MAX))),
        ("start_numpy_p99_ms", "p99_us", None),
    ] {
        let rounds: Vec<f64> = milliseconds(figure).unwrap_or_default();
        report.of_rounds(name, &rounds, promise);
    }
    report.ratio("python3_over_start_numpy", series, "p50_us", [&own.of(PYTHON), &own], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_what_a_node_accepts() {
        let file = tempfile::tempdir().unwrap();
        fs::create_dir(file.path().join("functions")).unwrap();
        let text = manifest(Path::new("/usr/bin/python3"));
        let manifest = baton_catalog::Manifest::parse(&text, &file.path().join("baton.toml"));
        let manifest = manifest.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!((manifest.functions.len(), manifest.routes.len()), (FUNCTIONS, FUNCTIONS));
        assert!(
            manifest.functions.values().all(|function| function.scale.min == 0 && function.scale.max == 1)
        );
    }

    #[test]
    fn replicas_are_counted_over_functions() {
        let app = serde_json::json!({ "functions": [{ "replicas": [1, 2] }, { "replicas": [] }, { "replicas": [3] }] });
        assert_eq!(replicas_in(&[app]), Some(3));
        assert_eq!(replicas_in(&[]), None, "a node that does not answer is no node without replicas");
    }
}
