//! The suites: what is measured against what, in which order.
//!
//! Every suite goes through its rounds, in each round through its cases, in each case through its systems: A B A B.
//! All systems stand ready all the time; those that are not measured sleep.

mod audit;
mod boutique;
mod coldstart;
mod components;
mod deploy;
mod functions;
mod hop;
mod http;
mod lambda;
mod observability;
mod python;
mod rest;
mod sampling;
mod scale;
mod sidecar;
mod soak;
mod transfer;
mod vision;
mod wakes;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::{App, Isolation, Wake};
use crate::load::{ClientError, LoadError};
use crate::proc::ProcError;
use crate::systems::{self, Fleet, Setup, SystemError};

pub use audit::run as audit;
pub use boutique::run as boutique;
pub use coldstart::run as coldstart;
pub use components::run as components;
pub use deploy::run as deploy;
pub use functions::{Books, Disk, FunctionsOptions, Latency, Look, Memory, run as functions};
pub use hop::run as hop;
pub use http::run as http;
pub use lambda::run as lambda;
pub use observability::run as observability;
pub use python::run as python;
pub use rest::run as rest;
pub use scale::run as scale;
pub use sidecar::run as sidecar;
pub use soak::{SoakOptions, Verdict, run as soak};
pub use transfer::run as transfer;
pub use vision::run as vision;

/// What the command line says about a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Programs and placement.
    pub setup: Setup,
    /// The isolation settings of Baton's functions, one or several; a system each.
    pub isolations: Vec<Isolation>,
    /// How process replicas hand over, a system each; nothing where the suite shall decide.
    pub wakes: Vec<Wake>,
    /// Whether the whole run shall take no more than 40 seconds.
    pub quick: bool,
    /// Interleaved rounds.
    pub rounds: usize,
    /// How long a sample is measured, where the suite shall not decide.
    pub sample: Option<Duration>,
    /// The app, where it is not the suite's own.
    pub app: Option<PathBuf>,
}

impl Options {
    /// Whether an isolation setting is measured.
    #[must_use]
    pub fn has(&self, isolation: Isolation) -> bool {
        self.isolations.contains(&isolation)
    }

    /// The suite's app, built.
    fn build(&self, app: &'static str) -> Result<App, SuiteError> {
        Ok(systems::build(&self.setup, &self.directory(app)?)?)
    }

    /// The app's directory: the one that was asked for, or the suite's own.
    fn directory(&self, app: &'static str) -> Result<PathBuf, SuiteError> {
        self.app.clone().or_else(|| crate::locate::app(app)).ok_or(SuiteError::NoApp(app))
    }
}

/// Why a suite ended without a report.
#[derive(Debug)]
pub enum SuiteError {
    /// A system is not there.
    System(SystemError),
    /// The load could not be set up.
    Load(LoadError),
    /// A single request failed.
    Client(ClientError),
    /// A server vanished, or a core is not allowed.
    Proc(ProcError),
    /// The suite's app is not in the source tree.
    NoApp(&'static str),
    /// Cells are to be started of functions that run in none.
    NoCells,
    /// An answer is not what the suite needs.
    Answer {
        /// Who answered.
        system: String,
        /// What was wrong with it.
        problem: String,
    },
    /// A client program failed.
    Program {
        /// Which one.
        system: String,
        /// The reason.
        error: io::Error,
    },
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Client(error) => error.fmt(f),
            Self::Proc(error) => error.fmt(f),
            Self::NoApp(path) => {
                write!(f, "no {path}/baton.toml from here upwards; run in the source tree or give --app")
            }
            Self::NoCells => write!(f, "coldstart starts cells: --isolation takes compartment, wasm or both"),
            Self::Answer { system, problem } => write!(f, "{system} answered wrongly: {problem}"),
            Self::Program { system, error } => write!(f, "the client of {system} failed: {error}"),
        }
    }
}

impl std::error::Error for SuiteError {}

impl From<SystemError> for SuiteError {
    fn from(error: SystemError) -> Self {
        Self::System(error)
    }
}

impl From<LoadError> for SuiteError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<ClientError> for SuiteError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<ProcError> for SuiteError {
    fn from(error: ProcError) -> Self {
        Self::Proc(error)
    }
}

/// Keeps a system, or leaves it out with a note if its program is not installed.
fn or_note<T>(
    system: Result<T, SystemError>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Option<T>, SuiteError> {
    match system {
        Ok(system) => Ok(Some(system)),
        Err(SystemError::Missing(program)) => {
            notes.push(format!("{name} is left out: {} is not installed", program.display()));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts an app once for each isolation setting of the run, and of processes once for each way of handing over that was asked for.
fn start_all(options: &Options, app: &App, notes: &mut Vec<String>) -> Result<Vec<Fleet>, SuiteError> {
    let mut fleets = Vec::new();
    for &isolation in &options.isolations {
        if isolation == Isolation::Process && !options.wakes.is_empty() {
            for &wake in &options.wakes {
                fleets.extend(wakes::start(options, app, wake, notes)?);
            }
            continue;
        }
        let app = app.clone().isolated(isolation).map_err(SystemError::App)?;
        fleets.push(systems::start_app(&options.setup, isolation.system(), &app)?);
    }
    Ok(fleets)
}

/// Says what is measured now, where somebody watches.
fn say(text: impl fmt::Display) {
    if io::IsTerminal::is_terminal(&io::stderr()) {
        eprintln!("{text}");
    }
}

/// Notes systems that did not get through the run unharmed.
fn note_losses<'a>(report: &mut crate::report::Report, fleets: impl IntoIterator<Item = &'a Fleet>) {
    for fleet in fleets {
        let losses = fleet.losses();
        if losses > 0 {
            let note = format!("{}: {losses} times a replica died or a compartment was reset", fleet.system);
            report.notes.push(note);
        }
    }
}

/// Notes samples that began while something else kept the machine busy.
fn note_noise(report: &mut crate::report::Report, noisy: usize) {
    if noisy > 0 {
        report.notes.push(format!("{noisy} samples began on a machine that did not become quiet"));
    }
}
