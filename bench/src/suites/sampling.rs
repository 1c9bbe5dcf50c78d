//! One sample: a quiet machine, a warm-up, a measured run, the processor time that it took.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::load::{Errors, Load, Outcome, Pace, Plan, Until};
use crate::proc::busy_share;
use crate::report::{Figures, Key, Report, Sample, Series};
use crate::systems::Fleet;
use crate::yardstick::RoundTrips;

use super::{Options, SuiteError, say};

/// A machine that is busier than this before a sample is waited for.
const QUIET_BELOW: f64 = 0.12;
const QUIET_WINDOW: Duration = Duration::from_millis(100);
const QUIET_TRIES: usize = 20;

/// How long samples take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    wait_for_quiet: bool,
}

impl Timing {
    /// Full samples take two seconds and a half; quick ones share `quick_total` among `samples`.
    pub(super) fn new(options: &Options, samples: usize, quick_total: Duration) -> Self {
        if let Some(measured) = options.sample {
            return Self { warm_up: measured / 4, measured, wait_for_quiet: false };
        }
        if !options.quick {
            let measured = Duration::from_secs(2);
            return Self { warm_up: Duration::from_millis(500), measured, wait_for_quiet: true };
        }
        let each = quick_total / u32::try_from(samples.max(1)).unwrap_or(u32::MAX);
        Self { warm_up: each / 4, measured: each * 3 / 4, wait_for_quiet: false }
    }

    /// Waits until the machine is quiet; says whether it became so.
    pub(super) fn settle(&self) -> bool {
        !self.wait_for_quiet || (0..QUIET_TRIES).any(|_| busy_share(QUIET_WINDOW) < QUIET_BELOW)
    }
}

/// What a suite measures.
#[derive(Debug, Clone)]
pub(super) struct Lanes<'a> {
    /// Fleets, each with the name of its case.
    pub(super) entries: Vec<(&'a str, &'a Fleet)>,
    /// Connections at once, one sample each.
    pub(super) concurrencies: &'a [u32],
    /// What all samples of a quick run take together.
    pub(super) total: Duration,
}

/// Measures fleets one after the other at each concurrency, round for round, with connections that all follow one plan.
pub(super) fn at_each(
    options: &Options,
    lanes: &Lanes<'_>,
    report: &mut Report,
    plan: impl Fn(&Fleet) -> Plan,
) -> Result<Series, SuiteError> {
    let samples = options.rounds * lanes.concurrencies.len() * lanes.entries.len();
    let timing = Timing::new(options, samples, lanes.total);
    let mut series = Series::default();
    let mut noisy = 0;
    for round in 1..=options.rounds {
        for &concurrency in lanes.concurrencies {
            for &(case, fleet) in &lanes.entries {
                say(format_args!("round {round}: {} {case} at {concurrency}", fleet.system));
                noisy += usize::from(!timing.settle());
                let plan = plan(fleet);
                let plans = (0..concurrency).map(|_| plan.clone()).collect();
                let sample = take(fleet, plans, Pace::Closed, timing)?;
                series.add(Key::new(&fleet.system, case, concurrency), sample);
            }
        }
    }
    super::note_noise(report, noisy);
    Ok(series)
}

/// Measures one fleet under one load.
pub(super) fn take(
    fleet: &Fleet,
    plans: Vec<Plan>,
    pace: Pace,
    timing: Timing,
) -> Result<Sample, SuiteError> {
    let mut load = Load::open(fleet.address, plans)?;
    let warm = load.run(pace, Until::Elapsed(timing.warm_up));
    let before = fleet.usage()?;
    let own_before = own_cpu_s();
    let outcome = load.run(pace, Until::Elapsed(timing.measured));
    let own = own_cpu_s() - own_before;
    let after = fleet.usage()?;
    if outcome.answered == 0 {
        let problem =
            format!("no request succeeded: {:?}, last status {:?}", outcome.errors, outcome.last_status);
        return Err(SuiteError::Answer { system: fleet.system.clone(), problem });
    }
    let mut sample = sample_of(&outcome);
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    let figures = &mut sample.figures;
    figures.insert("cpu_us_per_req".into(), cpu * 1e6 / outcome.answered as f64);
    figures.insert("cpu_share".into(), cpu / outcome.elapsed.as_secs_f64().max(1e-9));
    figures.insert("load_share".into(), own / outcome.elapsed.as_secs_f64().max(1e-9));
    figures.insert("rss_mib".into(), after.rss_kib as f64 / 1024.0);
    if let Pace::Open(rate) = pace {
        figures.insert("offered_rps".into(), rate);
    }
    sample.errors.add(&warm.errors);
    Ok(sample)
}

/// Processor time of this thread, which is the load generator's.
fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The figures that the load generator itself knows.
pub(super) fn sample_of(outcome: &Outcome) -> Sample {
    let figures: Figures = [
        ("rps", outcome.rate()),
        ("p50_us", outcome.quantile_us(0.50)),
        ("p95_us", outcome.quantile_us(0.95)),
        ("p99_us", outcome.quantile_us(0.99)),
        ("p999_us", outcome.quantile_us(0.999)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let payload_bytes = outcome.body_bytes / outcome.answered.max(1);
    Sample { figures, errors: outcome.errors, payload_bytes }
}

/// The figures of things that were timed one after the other, and their processor time each, where it is known.
pub(super) fn sample_of_trips(trips: RoundTrips) -> Sample {
    let mut figures: Figures = [
        ("rps", 1e9 / trips.mean_ns.max(1.0)),
        ("p50_us", trips.p50_ns / 1e3),
        ("p95_us", trips.p95_ns / 1e3),
        ("p99_us", trips.p99_ns / 1e3),
        ("mean_us", trips.mean_ns / 1e3),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(least) = trips.min_ns {
        figures.insert("least_us".into(), least / 1e3);
    }
    if let Some(touch_ns) = trips.touch_ns {
        figures.insert("touch_us".into(), touch_ns / 1e3);
    }
    if let Some(cpu_ns) = trips.cpu_ns {
        figures.insert("cpu_us_per_req".into(), cpu_ns / 1e3);
    }
    if let Some(switches) = trips.switches {
        figures.insert("switches_per_req".into(), switches);
    }
    Sample { figures, errors: Errors::default(), payload_bytes: 0 }
}
