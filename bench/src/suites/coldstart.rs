//! `coldstart`: what it costs until a handler runs that did not run before, and what is paid for it afterwards.
//!
//! | case | from | to |
//! |---|---|---|
//! | `cell` | right before the client writes its request; there is no cell | first instruction of the handler |
//! | `warm` | the same, the cell being there | the same: what of `cell` is HTTP, the node and the link |
//! | `replica` | right before a compartment calls another one that has not run in this cell | first instruction of its handler |
//! | `replica-warm` | the same, a second time | the same: what of `replica` is the call |
//! | `first-load` | the order to load an executable | its first receive, as the template says |
//! | `reset`, `reset-off` | a request that makes 25 pages dirty, with and without going back to the snapshot | its answer |
//! | `memory`, `memory-used` | | memory that a further cell of the boutique shares with nobody |
//!
//! With `wasm` all functions are Wasm modules: those of `reset` begin anew with each request, those of `reset-off` keep their memory.
//!
//! Clocks are `CLOCK_MONOTONIC`, which all processes of a machine share. The cell is that of the boutique and of the two
//! functions that say when they began, so it holds two functions more than the boutique does.

mod forkexec;
mod memory;
mod relate;
mod reset;
mod starts;
mod workerd;

use std::time::Duration;

use serde_json::Value;

use crate::app::{App, Isolation};
use crate::load::post;
use crate::proc;
use crate::report::{Key, Report, Sample, Series};
use crate::systems::{self, Fleet, SystemError};
use crate::yardstick::RoundTrips;

use super::boutique::APP as SHOP;
use super::sampling::{Timing, sample_of_trips};
use super::{Options, SuiteError, say};

const APP: &str = "bench/apps/coldstart";
/// The functions that say when they began.
const STAMPING: [&str; 2] = ["first", "second"];
/// Connections of the requests that make pages dirty.
const RESET_CONCURRENCY: [u32; 2] = [1, 16];
/// Time for the samples of `reset`, which last; all others are counted.
const QUICK_TOTAL: Duration = Duration::from_secs(8);
/// What a single request to the node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many samples a round takes of each case.
#[derive(Debug, Clone, Copy)]
struct Counts {
    starts: usize,
    processes: usize,
    deployments: usize,
    others: usize,
}

const FULL: Counts = Counts { starts: 200, processes: 100, deployments: 3, others: 5 };
const QUICK: Counts = Counts { starts: 40, processes: 30, deployments: 1, others: 2 };

/// The nodes of a run with one isolation setting.
struct Stage {
    isolation: Isolation,
    /// Cells that are evicted and come back, and what they hold.
    cells: Fleet,
    app: App,
    /// Functions with and without `reset`.
    resets: Fleet,
    /// Two cells of the boutique that stay.
    residents: Fleet,
    shop: String,
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    if options.has(Isolation::Process) {
        return Err(SuiteError::NoCells);
    }
    let mut report = Report::new("coldstart", options.quick, options.rounds);
    let own = crate::locate::app(APP).ok_or(SuiteError::NoApp(APP))?;
    let (own, shop) = (systems::build(&options.setup, &own)?, options.build(SHOP)?);
    let stages: Result<Vec<Stage>, SuiteError> =
        options.isolations.iter().map(|&isolation| raise(options, isolation, &own, &shop)).collect();
    let stages = stages?;
    let program = own.artifact(STAMPING[0]).unwrap_or_default();
    let run = Run { options, stages: &stages, program: &program };
    let series = proc::pinned(Some(options.setup.load_core), || run.measure(&mut report))??;
    report.take_rows(&series);
    for stage in &stages {
        super::note_losses(&mut report, [&stage.cells, &stage.resets, &stage.residents]);
        relate::all(stage.isolation, &series, &mut report);
    }
    report.notes.push("`cell` includes HTTP and the node, as `warm` does".into());
    Ok(report)
}

fn raise(options: &Options, isolation: Isolation, own: &App, shop: &App) -> Result<Stage, SuiteError> {
    let isolated = |app: &App| app.clone().isolated(isolation).map_err(SystemError::App);
    let (own, shop) = (&isolated(own)?, &isolated(shop)?);
    let app = shop.clone().with_functions(own, &STAMPING).with_call(STAMPING[0], "frontend").with_replicas(0);
    let start = |app: &App| systems::start_app(&options.setup, isolation.system(), app);
    Ok(Stage {
        isolation,
        cells: start(&app)?,
        app,
        resets: start(own)?,
        residents: start(&shop.clone().with_replicas(2))?,
        shop: shop.name().to_owned(),
    })
}

struct Run<'a> {
    options: &'a Options,
    stages: &'a [Stage],
    /// The executable of the function that says when it began.
    program: &'a std::path::Path,
}

impl Run<'_> {
    fn measure(&self, report: &mut Report) -> Result<Series, SuiteError> {
        let options = self.options;
        let counts = if options.quick { QUICK } else { FULL };
        let samples = options.rounds * RESET_CONCURRENCY.len() * 2 * self.stages.len();
        let timing = Timing::new(options, samples, QUICK_TOTAL);
        let mut series = Series::default();
        let mut workerd = workerd::find(&mut report.notes);
        let mut noisy = 0;
        for stage in self.stages {
            reset::check(&stage.resets)?;
        }
        for round in 1..=options.rounds {
            say(format_args!("round {round} of {}", options.rounds));
            for stage in self.stages {
                noisy += usize::from(!timing.settle());
                starts::measure(stage, counts.starts, &mut series)?;
            }
            let times = forkexec::times(self.program, options.setup.server_core, counts.processes)?;
            series.add(Key::new("forkexec", "replica", 1), timed("forkexec", times)?);
            if let Some(program) = &workerd {
                match workerd::times(program, options.setup.server_core, counts.others) {
                    Ok(times) => series.add(Key::new("workerd", "cell", 1), timed("workerd", times)?),
                    Err(error) => {
                        report.notes.push(format!("workerd is left out: {error}"));
                        workerd = None;
                    }
                }
            }
            for stage in self.stages {
                let times = self.first_loads(stage, round, counts.deployments)?;
                series.add(stage.key("first-load"), timed("first-load", times)?);
                noisy += usize::from(!timing.settle());
                reset::measure(stage, timing, &mut series)?;
                memory::measure(stage, "memory", &mut series, &mut report.notes)?;
            }
        }
        for stage in self.stages {
            memory::use_it(&stage.residents)?;
            memory::measure(stage, "memory-used", &mut series, &mut report.notes)?;
        }
        super::note_noise(report, noisy);
        Ok(series)
    }

    /// Deploys the app anew, each time as another one, for which there is no snapshot.
    fn first_loads(&self, stage: &Stage, round: usize, deployments: usize) -> Result<Vec<u64>, SuiteError> {
        let Stage { cells, app, .. } = stage;
        let mut times = Vec::new();
        for nth in 0..deployments {
            let other = app.clone().marked(&format!("{round}.{nth}"));
            systems::deploy(&self.options.setup, cells, &other)?;
            let status = status(cells, app.name())?;
            let functions = status["functions"].as_array().map_or(&[][..], Vec::as_slice);
            let loads = functions.iter().map(|function| &function["loaded"]);
            let first = loads.filter(|loaded| loaded["from_snapshot"] == false);
            times.extend(first.filter_map(|loaded| loaded["load_ns"].as_u64()));
        }
        Ok(times)
    }
}

fn key(isolation: Isolation, case: &str) -> Key {
    Key::new(isolation.system(), case, 1)
}

impl Stage {
    fn key(&self, case: &str) -> Key {
        key(self.isolation, case)
    }
}

/// A sample of times in nanoseconds.
fn timed(what: &str, times: Vec<u64>) -> Result<Sample, SuiteError> {
    RoundTrips::of(times).map(sample_of_trips).ok_or_else(|| wrong(what, "there is nothing to time"))
}

fn wrong(system: &str, problem: impl Into<String>) -> SuiteError {
    SuiteError::Answer { system: system.into(), problem: problem.into() }
}

/// What the node says about an app.
fn status(fleet: &Fleet, app: &str) -> Result<Value, SuiteError> {
    let found = fleet.apps().into_iter().find(|status| status["app"] == app);
    found.ok_or_else(|| wrong(&fleet.system, format!("it runs no app {app}")))
}

/// Ends the cells of an app; its templates stay.
fn evict(fleet: &Fleet, app: &str) -> Result<(), SuiteError> {
    let admin = fleet.admin.as_ref().ok_or_else(|| wrong(&fleet.system, "it has no admin API"))?;
    let path = format!("/v1/apps/{app}/evict");
    let answer = post(admin.address, &path, Some(&admin.token), PATIENCE)?;
    match answer.status {
        200 => Ok(()),
        status => Err(wrong(&fleet.system, format!("status {status} to {path}"))),
    }
}
