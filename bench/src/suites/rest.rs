//! `rest`: a thousand functions that are deployed and not called, and a page of a node's metrics with all of them on it.
//!
//! | case | figures |
//! |---|---|
//! | `idle` | `node_mib` of the node's process, `rss_mib` of all, `processes`, `cpu_share` of a core |
//! | `scrape` | latencies of `GET /metrics`, `page_kib`, `lines`, processor time; every function has had one request |
//!
//! Rows are of one node each: there is nothing that they could be interleaved with.

use std::time::{Duration, Instant};

use crate::app::{App, Isolation};
use crate::load::get;
use crate::proc;
use crate::report::{Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet, SystemError};

use super::scale::{at_rest, wait_for_rest};
use super::{Options, SuiteError, say};

const APP: &str = "bench/apps/hello";
/// Functions of an app: as many as may be, and of a cell as many as it has seats.
const FUNCTIONS_AN_APP: usize = 50;
const FUNCTIONS_A_CELL: usize = 10;
const FUNCTIONS: usize = 1_000;
const FUNCTIONS_QUICK: usize = 200;
/// How long replicas stay that nobody needs.
const IDLE: &str = "1s";
/// How long the node is left alone before it is watched, and how long it is watched.
const SETTLES: Duration = Duration::from_secs(15);
const SETTLES_QUICK: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(10);
const WATCHED_QUICK: Duration = Duration::from_secs(3);
const SCRAPES: usize = 20;
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("rest", options.quick, 1);
    let hello = options.build(APP)?;
    let count = if options.quick { FUNCTIONS_QUICK } else { FUNCTIONS };
    let mut series = Series::default();
    for &isolation in &options.isolations {
        let app = hello.clone().isolated(isolation).map_err(SystemError::App)?.scaled(0, 1, IDLE);
        let measure = || measure(options, (isolation, &app), count, &mut series);
        proc::pinned(Some(options.setup.load_core), measure)??;
    }
    report.take_rows(&series);
    report.notes.push(format!("{count} functions"));
    for isolation in &options.isolations {
        let (name, key) = (isolation.short(), |case: &str| Key::new(isolation.system(), case, 1));
        let most = |bound| (!options.quick).then_some(Promise::AtMost(bound));
        report.figure(&format!("{name}_node_mib"), &series, "node_mib", &key("idle"), most(64.0));
        report.figure(&format!("{name}_cpu_share"), &series, "cpu_share", &key("idle"), most(0.005));
        report.figure(&format!("{name}_scrape_p50_us"), &series, "p50_us", &key("scrape"), None);
    }
    Ok(report)
}

fn measure(
    options: &Options,
    (isolation, app): (Isolation, &App),
    count: usize,
    series: &mut Series,
) -> Result<(), SuiteError> {
    let an_app = if isolation == Isolation::Process { FUNCTIONS_AN_APP } else { FUNCTIONS_A_CELL };
    let named = |number: usize| format!("rest-{number}");
    say(format_args!("{count} functions, {}", isolation.system()));
    let fleet =
        systems::start_app(&options.setup, isolation.system(), &app.clone().multiplied(&named(0), an_app))?;
    for number in 1..count / an_app {
        systems::deploy(&options.setup, &fleet, &app.clone().multiplied(&named(number), an_app))?;
    }
    series.add(Key::new(isolation.system(), "idle", 1), idle(options, &fleet)?);
    // Each is called once, so that it has figures.
    for (number, function) in (0..count).map(|at| (at / an_app, at % an_app)) {
        let answer = get(fleet.address, &format!("/{}/{function}", named(number)), None, ANSWERS_WITHIN)?;
        if answer.status != 200 {
            let problem = format!("{} for function {function} of {}", answer.status, named(number));
            return Err(SuiteError::Answer { system: fleet.system.clone(), problem });
        }
    }
    wait_for_rest(&fleet)?;
    series.add(Key::new(isolation.system(), "scrape", 1), scrape(&fleet)?);
    Ok(())
}

fn idle(options: &Options, fleet: &Fleet) -> Result<Sample, SuiteError> {
    wait_for_rest(fleet)?;
    let (settles, watched) = if options.quick { (SETTLES_QUICK, WATCHED_QUICK) } else { (SETTLES, WATCHED) };
    at_rest(fleet, settles, watched)
}

/// Reads the page several times.
fn scrape(fleet: &Fleet) -> Result<Sample, SuiteError> {
    let wrong = |problem: String| SuiteError::Answer { system: fleet.system.clone(), problem };
    let admin = fleet.admin.as_ref().ok_or_else(|| wrong("it has no admin API".to_owned()))?;
    let mut took = Vec::new();
    let mut page = Vec::new();
    let before = fleet.usage()?.cpu;
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let answer = get(admin.address, "/metrics", Some(&admin.token), ANSWERS_WITHIN)?;
        took.push(began.elapsed());
        if answer.status != 200 {
            return Err(wrong(format!("{} for its metrics", answer.status)));
        }
        page = answer.body;
    }
    let cpu = fleet.usage()?.cpu.saturating_sub(before);
    took.sort_unstable();
    let at =
        |percent: usize| took.get((took.len() - 1) * percent / 100).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    let mut sample = Sample { payload_bytes: page.len() as u64, ..Sample::default() };
    let figures = &mut sample.figures;
    figures.insert("p50_us".into(), at(50));
    figures.insert("p95_us".into(), at(95));
    figures.insert("p99_us".into(), at(99));
    figures.insert("cpu_us_per_req".into(), cpu.as_secs_f64() * 1e6 / SCRAPES as f64);
    figures.insert("page_kib".into(), page.len() as f64 / 1024.0);
    figures.insert("lines".into(), page.iter().filter(|byte| **byte == b'\n').count() as f64);
    Ok(sample)
}
