//! `http`: what the gateway, a link and a second process cost on top of a bare HTTP server.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{Pace, Plan, Step};
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::systems::{self, Fleet};

use super::sampling::{Timing, take};
use super::{Options, SuiteError, or_note, say};

const APP: &str = "bench/apps/hello";
const CONCURRENCY: [u32; 3] = [1, 16, 64];
const QUICK_TOTAL: Duration = Duration::from_secs(25);

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("http", options.quick, options.rounds);
    let app = options.app.clone().or_else(|| crate::locate::app(APP)).ok_or(SuiteError::NoApp(APP))?;
    let baton = systems::start_baton(&options.setup, &options.baton_system(), &app);
    let hyper = systems::start_single(&options.setup, "hyper", "hyper");
    let mut fleets: Vec<Fleet> = Vec::new();
    fleets.extend(or_note(baton, &options.baton_system(), &mut report.notes)?);
    fleets.extend(or_note(hyper, "hyper", &mut report.notes)?);
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &fleets, &mut report))??;
    report.take_rows(&series);
    relate(options, &series, &mut report);
    Ok(report)
}

fn measure(options: &Options, fleets: &[Fleet], report: &mut Report) -> Result<Series, SuiteError> {
    let timing = Timing::new(options, options.rounds * CONCURRENCY.len() * fleets.len(), QUICK_TOTAL);
    let mut series = Series::default();
    let mut noisy = 0;
    for round in 1..=options.rounds {
        for concurrency in CONCURRENCY {
            for fleet in fleets {
                say(format_args!("round {round}: {} at {concurrency}", fleet.system));
                noisy += usize::from(!timing.settle());
                let sample = take(fleet, plans(fleet, concurrency), Pace::Closed, timing)?;
                series.add(Key::new(&fleet.system, "hello", concurrency), sample);
            }
        }
    }
    super::note_noise(report, noisy);
    Ok(series)
}

fn plans(fleet: &Fleet, connections: u32) -> Vec<Plan> {
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", fleet.address).into_bytes();
    let step = Arc::new(Step { request, expect: &[200], counted: true });
    (0..connections).map(|_| Plan { setup: Vec::new(), cycle: vec![Arc::clone(&step)] }).collect()
}

fn relate(options: &Options, series: &Series, report: &mut Report) {
    for concurrency in CONCURRENCY {
        let baton = Key::new(&options.baton_system(), "hello", concurrency);
        let over = [&baton, &baton.of("hyper")];
        let promise = (concurrency == 64).then_some(Promise::AtLeast(0.5));
        report.ratio(&format!("rps_baton_over_hyper_at_{concurrency}"), series, "rps", over, promise);
        if concurrency == 1 {
            let promise = Some(Promise::AtMost(10.0));
            report.difference("p50_us_baton_minus_hyper_at_1", series, "p50_us", over, promise);
        }
    }
}
