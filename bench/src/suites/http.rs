//! `http`: what the gateway, a link and a second process cost on top of a bare HTTP server.

use std::time::Duration;

use crate::app::Isolation;
use crate::load::Plan;
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::systems;

use super::sampling::{Lanes, at_each};
use super::{Options, SuiteError, or_note, start_all};

const APP: &str = "bench/apps/hello";
const CONCURRENCY: [u32; 3] = [1, 16, 64];
const QUICK_TOTAL: Duration = Duration::from_secs(25);

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("http", options.quick, options.rounds);
    let mut fleets = start_all(options, &options.build(APP)?, &mut report.notes)?;
    let hyper = systems::start_single(&options.setup, "hyper", "hyper");
    fleets.extend(or_note(hyper, "hyper", &mut report.notes)?);
    let series = proc::pinned(Some(options.setup.load_core), || {
        let entries = fleets.iter().map(|fleet| ("hello", fleet)).collect();
        let lanes = Lanes { entries, concurrencies: &CONCURRENCY, total: QUICK_TOTAL };
        at_each(options, &lanes, &mut report, |fleet| Plan::get(fleet.address, "/"))
    })??;
    report.take_rows(&series);
    super::note_losses(&mut report, &fleets);
    relate(options, &series, &mut report);
    Ok(report)
}

/// What is promised of requests/s over those of bare hyper at 64 connections.
fn promised(isolation: Isolation) -> Option<Promise> {
    match isolation {
        Isolation::Process => Some(Promise::AtLeast(0.5)),
        Isolation::Compartment => Some(Promise::AtLeast(0.65)),
        Isolation::Wasm => None,
    }
}

fn relate(options: &Options, series: &Series, report: &mut Report) {
    for (&isolation, concurrency) in options.isolations.iter().flat_map(|i| CONCURRENCY.map(|c| (i, c))) {
        let (name, baton) = (isolation.short(), Key::new(isolation.system(), "hello", concurrency));
        let over = [&baton, &baton.of("hyper")];
        let promise = promised(isolation).filter(|_| concurrency == 64);
        report.ratio(&format!("rps_{name}_over_hyper_at_{concurrency}"), series, "rps", over, promise);
        if concurrency == 1 {
            let promise = (isolation == Isolation::Process).then_some(Promise::AtMost(10.0));
            report.difference(&format!("p50_us_{name}_minus_hyper_at_1"), series, "p50_us", over, promise);
        }
        for (other, name) in match isolation {
            Isolation::Process => &[][..],
            Isolation::Compartment => &[(Isolation::Process, "compartment_over_baton")],
            Isolation::Wasm => &[(Isolation::Compartment, "wasm_over_compartment")],
        } {
            let over = [&baton, &baton.of(other.system())];
            report.ratio(&format!("rps_{name}_at_{concurrency}"), series, "rps", over, None);
        }
    }
}
