//! `scale`: replicas that come and go by load.
//!
//! | case | what | figures |
//! |---|---|---|
//! | `step` | nothing runs; then 5,000 requests a second at once, open loop; then nothing | errors, latencies of the first second; `zero_s` until no replica is left, less `idle`; `grown_mib` of all processes then |
//! | `idle` | many functions that are deployed and at rest | `rss_mib` of all processes, `node_mib` of the node's own, `cpu_share` of a core |
//! | `trace` | functions that are called from twenty times a second to every twenty seconds, by chance | `warm_percent`, latencies, `replica_s` per second |
//!
//! All on one core, the load generator on the other.

mod trace;

use std::thread;
use std::time::{Duration, Instant};

use crate::app::{App, Isolation};
use crate::load::{Load, Pace, Plan, Until};
use crate::proc;
use crate::report::{Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet, SystemError};

use super::sampling::sample_of;
use super::{Options, SuiteError, say};

const APP: &str = "bench/apps/hello";
/// Requests a second of the step.
const STEP_RATE: f64 = 5_000.0;
/// Connections that carry them.
const STEP_CONNECTIONS: u32 = 64;
/// How long the step is measured.
const FIRST: Duration = Duration::from_secs(1);
/// How long replicas stay that nobody needs, in the manifest's words and as a time.
const IDLE: (&str, Duration) = ("1s", Duration::from_secs(1));
/// After `idle`, nothing may be left after so long; with `--quick` it is looked sooner.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const GONE_WITHIN_QUICK: Duration = Duration::from_millis(1_500);
/// What waiting for replicas to go may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Functions of one app at rest.
const FUNCTIONS_AN_APP: usize = 10;
/// How long functions at rest are watched: the templates of cells go ten seconds after the last cell.
const WATCHED: Duration = Duration::from_secs(5);
const SETTLES: Duration = Duration::from_secs(15);
const WATCHED_QUICK: Duration = Duration::from_secs(2);
/// Functions at rest.
const AT_REST: usize = 1_000;
const AT_REST_QUICK: usize = 50;

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("scale", options.quick, options.rounds);
    let hello = options.build(APP)?;
    let apps: Vec<(Isolation, App)> = (options.isolations.iter())
        .map(|&isolation| {
            let app = hello.clone().isolated(isolation).map_err(SystemError::App)?;
            Ok((isolation, app.scaled(0, 4, IDLE.0)))
        })
        .collect::<Result<_, SystemError>>()?;
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &apps, &mut report))??;
    report.take_rows(&series);
    relate(options, &series, &mut report);
    Ok(report)
}

fn measure(options: &Options, apps: &[(Isolation, App)], report: &mut Report) -> Result<Series, SuiteError> {
    let mut series = Series::default();
    let start =
        |(isolation, app): &(Isolation, App)| systems::start_app(&options.setup, isolation.system(), app);
    let fleets: Vec<Fleet> = apps.iter().map(start).collect::<Result<_, _>>()?;
    for round in 1..=options.rounds {
        for ((isolation, _), fleet) in apps.iter().zip(&fleets) {
            say(format_args!("round {round}: step, {}", isolation.system()));
            series.add(Key::new(isolation.system(), "step", STEP_CONNECTIONS), step(options, fleet)?);
        }
    }
    super::note_losses(report, &fleets);
    drop(fleets);
    for (isolation, app) in apps {
        say(format_args!("at rest, {}", isolation.system()));
        let count = if options.quick { AT_REST_QUICK } else { AT_REST };
        series.add(Key::new(isolation.system(), "idle", 1), idle(options, *isolation, app, count)?);
        report.notes.push(format!("{}: `idle` has {count} functions, 10 an app", isolation.system()));
        say(format_args!("trace, {}", isolation.system()));
        series.add(Key::new(isolation.system(), "trace", 1), trace::run(options, *isolation, app)?);
    }
    Ok(series)
}

/// From nothing to many requests, and back.
fn step(options: &Options, fleet: &Fleet) -> Result<Sample, SuiteError> {
    wait_for_rest(fleet)?;
    let before = fleet.usage()?;
    let plan = Plan::get(fleet.address, "/");
    let mut load = Load::open(fleet.address, (0..STEP_CONNECTIONS).map(|_| plan.clone()).collect())?;
    let outcome = load.run(Pace::Open(STEP_RATE), Until::Elapsed(FIRST));
    drop(load);
    let mut sample = sample_of(&outcome);
    let most = replicas(fleet);
    let gone = wait_for_rest(fleet)?;
    let within = if options.quick { GONE_WITHIN_QUICK } else { GONE_WITHIN };
    thread::sleep((IDLE.1 + within).saturating_sub(gone));
    let after = fleet.usage()?;
    let figures = &mut sample.figures;
    figures.insert("replicas".into(), most as f64);
    figures.insert("zero_s".into(), gone.saturating_sub(IDLE.1).as_secs_f64());
    figures.insert("rss_mib".into(), after.rss_kib as f64 / 1024.0);
    figures.insert("grown_mib".into(), (after.rss_kib as f64 - before.rss_kib as f64) / 1024.0);
    Ok(sample)
}

/// Many functions that nobody calls.
fn idle(options: &Options, isolation: Isolation, app: &App, count: usize) -> Result<Sample, SuiteError> {
    let first = app.clone().multiplied("rest-0", FUNCTIONS_AN_APP);
    let fleet = systems::start_app(&options.setup, isolation.system(), &first)?;
    for number in 1..count / FUNCTIONS_AN_APP {
        let next = app.clone().multiplied(&format!("rest-{number}"), FUNCTIONS_AN_APP);
        systems::deploy(&options.setup, &fleet, &next)?;
    }
    wait_for_rest(&fleet)?;
    let (settles, watched) =
        if options.quick { (GONE_WITHIN_QUICK, WATCHED_QUICK) } else { (SETTLES, WATCHED) };
    at_rest(&fleet, settles, watched)
}

/// What a fleet takes that nobody asks anything: it settles, then it is watched.
pub(super) fn at_rest(fleet: &Fleet, settles: Duration, watched: Duration) -> Result<Sample, SuiteError> {
    thread::sleep(settles);
    let before = fleet.usage()?;
    thread::sleep(watched);
    let after = fleet.usage()?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / watched.as_secs_f64();
    let mut sample = Sample::default();
    sample.figures.insert("rss_mib".into(), after.rss_kib as f64 / 1024.0);
    sample.figures.insert("node_mib".into(), after.root_rss_kib as f64 / 1024.0);
    sample.figures.insert("processes".into(), after.processes as f64);
    sample.figures.insert("cpu_share".into(), cpu);
    Ok(sample)
}

/// Replicas that there are.
fn replicas(fleet: &Fleet) -> usize {
    let apps = fleet.apps();
    let functions = apps.iter().filter_map(|app| app["functions"].as_array()).flatten();
    functions.filter_map(|function| function["replicas"].as_array()).map(Vec::len).sum()
}

/// Waits until no replica is left. How long that took.
pub(super) fn wait_for_rest(fleet: &Fleet) -> Result<Duration, SuiteError> {
    let began = Instant::now();
    while fleet.apps().is_empty() || replicas(fleet) > 0 {
        if began.elapsed() > PATIENCE {
            let problem = format!("{} replicas are left without any request", replicas(fleet));
            return Err(SuiteError::Answer { system: fleet.system.clone(), problem });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(began.elapsed())
}

fn relate(options: &Options, series: &Series, report: &mut Report) {
    for isolation in &options.isolations {
        let (name, system) = (isolation.short(), isolation.system());
        let step = Key::new(system, "step", STEP_CONNECTIONS);
        let native = *isolation != Isolation::Wasm;
        let most = |bound| native.then_some(Promise::AtMost(bound));
        report.figure(&format!("{name}_step_p99_us"), series, "p99_us", &step, most(20_000.0));
        report.figure(&format!("{name}_zero_s"), series, "zero_s", &step, most(5.0));
        report.figure(&format!("{name}_step_grown_mib"), series, "grown_mib", &step, None);
        let idle = Key::new(system, "idle", 1);
        let whole = most(64.0).filter(|_| *isolation == Isolation::Process && !options.quick);
        report.figure(&format!("{name}_idle_node_mib"), series, "node_mib", &idle, whole);
        let share = most(0.005).filter(|_| !options.quick);
        report.figure(&format!("{name}_idle_cpu_share"), series, "cpu_share", &idle, share);
        let trace = Key::new(system, "trace", 1);
        report.figure(&format!("{name}_warm_percent"), series, "warm_percent", &trace, None);
    }
}
