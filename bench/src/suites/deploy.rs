//! `deploy`: versions that change under load, open loop at 70 % of what the node can do.
//!
//! | case | what happens a quarter into the sample |
//! |---|---|
//! | `steady` | nothing |
//! | `deploy` | a new version takes all requests |
//! | `rollback` | the version before takes them back |
//! | `promote` | a version that has a tenth of the requests takes all of them |
//!
//! Figures beside those of every row: `dropped`, requests without a good answer; `duplicated`, invocations that the node counts
//! beyond those; `switch_ms`, from the order to its end. What gives the orders runs on the core of the system, as an operator's shell would.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::app::App;
use crate::load::{Load, Pace, Plan, Until, get, request};
use crate::proc;
use crate::report::{Key, Promise, Report, Sample, Series};
use crate::systems::{self, Admin, Fleet, SystemError};

use super::sampling::{Timing, sample_of};
use super::{Options, SuiteError, say};

const APP: &str = "bench/apps/hello";
const CONNECTIONS: u32 = 32;
/// The share of the capacity that is asked for.
const SHARE: f64 = 0.7;
const QUICK_TOTAL: Duration = Duration::from_secs(20);
const CASES: [&str; 4] = ["steady", "deploy", "rollback", "promote"];
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// What the canary of `promote` has.
const CANARY: &str = "10%";

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("deploy", options.quick, options.rounds);
    let hello = options.build(APP)?;
    let mut series = Series::default();
    for &isolation in &options.isolations {
        let app = hello.clone().isolated(isolation).map_err(SystemError::App)?;
        let fleet = systems::start_app(&options.setup, isolation.system(), &app.clone().marked("0"))?;
        proc::pinned(Some(options.setup.load_core), || measure(options, &fleet, &app, &mut series))??;
        super::note_losses(&mut report, [&fleet]);
    }
    report.take_rows(&series);
    for isolation in &options.isolations {
        let (name, key) = (isolation.short(), |case: &str| Key::new(isolation.system(), case, CONNECTIONS));
        for case in &CASES[1..] {
            let none = Some(Promise::AtMost(0.0));
            report.figure(&format!("{name}_{case}_dropped"), &series, "dropped", &key(case), none);
            report.figure(&format!("{name}_{case}_duplicated"), &series, "duplicated", &key(case), none);
            let over = [&key(case), &key("steady")];
            let promise = Some(Promise::AtMost(2.0));
            report.ratio(&format!("p99_us_{name}_{case}_over_steady"), &series, "p99_us", over, promise);
        }
    }
    Ok(report)
}

fn measure(options: &Options, fleet: &Fleet, app: &App, series: &mut Series) -> Result<(), SuiteError> {
    let samples = options.rounds * CASES.len() * options.isolations.len();
    let timing = Timing::new(options, samples, QUICK_TOTAL);
    let mut load = open(fleet)?;
    load.run(Pace::Closed, Until::Elapsed(timing.warm_up));
    let rate = load.run(Pace::Closed, Until::Elapsed(timing.measured)).rate() * SHARE;
    drop(load);
    for round in 1..=options.rounds {
        for case in CASES {
            say(format_args!("round {round}: {case}, {} at {rate:.0}/s", fleet.system));
            timing.settle();
            let next = app.clone().marked(&format!("{round}-{case}"));
            if case == "promote" {
                systems::deploy_beside(&options.setup, fleet, &next, CANARY)?;
            }
            let sample = one(options, fleet, (case, &next), (rate, timing))?;
            series.add(Key::new(&fleet.system, case, CONNECTIONS), sample);
        }
    }
    Ok(())
}

fn open(fleet: &Fleet) -> Result<Load, SuiteError> {
    let plan = Plan::get(fleet.address, "/");
    Ok(Load::open(fleet.address, (0..CONNECTIONS).map(|_| plan.clone()).collect())?)
}

/// One sample, with what happens in it.
fn one(
    options: &Options,
    fleet: &Fleet,
    (case, next): (&str, &App),
    (rate, timing): (f64, Timing),
) -> Result<Sample, SuiteError> {
    let mut load = open(fleet)?;
    load.run(Pace::Open(rate), Until::Elapsed(timing.warm_up));
    let before = invocations(fleet)?;
    let cpu = fleet.usage()?.cpu;
    let (outcome, switched) = thread::scope(|scope| {
        let order = scope.spawn(|| {
            thread::sleep(timing.measured / 4);
            proc::pinned(Some(options.setup.server_core), || {
                let began = Instant::now();
                switch(options, fleet, case, next)?;
                Ok::<_, SuiteError>(began.elapsed())
            })
        });
        let outcome = load.run(Pace::Open(rate), Until::Elapsed(timing.measured));
        (outcome, order.join())
    });
    let switched =
        switched.map_err(|_| wrong(fleet, "the one who gives orders has ended".to_owned()))???;
    let seen = invocations(fleet)?.saturating_sub(before);
    let dropped = outcome.errors.total();
    let mut sample = sample_of(&outcome);
    let used = fleet.usage()?.cpu.saturating_sub(cpu).as_secs_f64();
    let figures = &mut sample.figures;
    figures.insert("offered_rps".into(), rate);
    figures.insert("cpu_us_per_req".into(), used * 1e6 / outcome.answered.max(1) as f64);
    figures.insert("dropped".into(), dropped as f64);
    figures.insert("duplicated".into(), seen.saturating_sub(outcome.answered + dropped) as f64);
    if case != "steady" {
        figures.insert("switch_ms".into(), switched.as_secs_f64() * 1e3);
    }
    Ok(sample)
}

fn switch(options: &Options, fleet: &Fleet, case: &str, next: &App) -> Result<(), SuiteError> {
    match case {
        "deploy" => Ok(systems::deploy(&options.setup, fleet, next)?),
        "rollback" => order(fleet, &format!("/v1/apps/{}/rollback", next.name())),
        "promote" => order(fleet, &format!("/v1/apps/{}/promote", next.name())),
        _ => Ok(()),
    }
}

fn admin(fleet: &Fleet) -> Result<&Admin, SuiteError> {
    fleet.admin.as_ref().ok_or_else(|| wrong(fleet, "it has no admin API".to_owned()))
}

fn order(fleet: &Fleet, path: &str) -> Result<(), SuiteError> {
    let Admin { address, token } = admin(fleet)?;
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    let answer = request(*address, text.as_bytes(), ANSWERS_WITHIN)?;
    match answer.status {
        200..300 => Ok(()),
        status => Err(wrong(fleet, format!("{path}: {status} {}", String::from_utf8_lossy(&answer.body)))),
    }
}

/// What the node has begun since it started.
fn invocations(fleet: &Fleet) -> Result<u64, SuiteError> {
    let Admin { address, token } = admin(fleet)?;
    let answer = get(*address, "/v1/overview", Some(token), ANSWERS_WITHIN)?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    told["totals"]["invocations"].as_u64().ok_or_else(|| wrong(fleet, "it does not count".to_owned()))
}

fn wrong(fleet: &Fleet, problem: String) -> SuiteError {
    SuiteError::Answer { system: fleet.system.clone(), problem }
}
