//! `observability`: what it costs to see: the boutique with everything on, against itself with everything off.
//!
//! | system | what is on |
//! |---|---|
//! | `baton-…` | nothing |
//! | `…-observed` | policies `log`, `span` and `metrics` for every function, traces of 1 % to a collector, receipts of 1 %, a scrape each second |
//! | `…-traced` | the same with traces of all |
//!
//! The collector takes spans and lines as OTLP over HTTP and throws them away, on the core of the load generator.

mod collector;

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::app::{App, Isolation};
use crate::boutique::{Case, Shop};
use crate::load::{Pace, get};
use crate::proc;
use crate::report::{Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet, Setup, SystemError};

use self::collector::Collector;
use super::boutique::{APP, open_shop};
use super::sampling::{Timing, take};
use super::{Options, SuiteError, say};

const CONCURRENCY: [u32; 2] = [16, 64];
/// Where the promise holds.
const BUSY: u32 = 64;
const QUICK_TOTAL: Duration = Duration::from_secs(22);
const SCRAPED_EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const POLICIES: &str = r#"
[[policy.handlers]]
use = "log"
[[policy.handlers]]
use = "span"
[[policy.handlers]]
use = "metrics"
"#;

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("observability", options.quick, options.rounds);
    let shop = options.build(APP)?;
    let mut series = Series::default();
    for &isolation in &options.isolations {
        let app = shop.clone().isolated(isolation).map_err(SystemError::App)?;
        let measure = || measure(options, (isolation, &app), &mut series, &mut report);
        proc::pinned(Some(options.setup.load_core), measure)??;
    }
    report.take_rows(&series);
    for isolation in &options.isolations {
        for concurrency in CONCURRENCY {
            for (suffix, promise) in [("observed", Some(Promise::AtLeast(0.95))), ("traced", None)] {
                let (plain, seen) = (isolation.system(), format!("{}-{suffix}", isolation.system()));
                let over = [&Key::new(&seen, "mix", concurrency), &Key::new(plain, "mix", concurrency)];
                let name = format!("rps_{}_{suffix}_over_plain_at_{concurrency}", isolation.short());
                report.ratio(&name, &series, "rps", over, promise.filter(|_| concurrency == BUSY));
            }
        }
    }
    Ok(report)
}

fn measure(
    options: &Options,
    (isolation, app): (Isolation, &App),
    series: &mut Series,
    report: &mut Report,
) -> Result<(), SuiteError> {
    let collector = Collector::start().map_err(SystemError::State)?;
    let seen = app.clone().with_policies(POLICIES).map_err(SystemError::App)?;
    let with = |share: &str| {
        let url = format!("http://{}", collector.address());
        let words = ["--otlp", &url, "--trace-sample", share, "--receipts=1/100"];
        Setup { more: words.map(OsString::from).to_vec(), ..options.setup.clone() }
    };
    let system = isolation.system();
    let fleets = [
        systems::start_app(&options.setup, system, app)?,
        systems::start_app(&with("1%"), &format!("{system}-observed"), &seen)?,
        systems::start_app(&with("100%"), &format!("{system}-traced"), &seen)?,
    ];
    let shops: Vec<Shop> =
        fleets.iter().map(|fleet| open_shop(&fleet.system, fleet.address)).collect::<Result<_, _>>()?;
    let samples = options.rounds * CONCURRENCY.len() * fleets.len() * options.isolations.len();
    let timing = Timing::new(options, samples, QUICK_TOTAL);
    let mut noisy = 0;
    for round in 1..=options.rounds {
        for concurrency in CONCURRENCY {
            for (fleet, shop) in fleets.iter().zip(&shops) {
                say(format_args!("round {round}: {} at {concurrency}", fleet.system));
                noisy += usize::from(!timing.settle());
                let plans = shop.plans(Case::Mix, concurrency, round as u64);
                let is_scraped = fleet.system != system;
                let sample = scraped(fleet, is_scraped, || take(fleet, plans, Pace::Closed, timing))?;
                series.add(Key::new(&fleet.system, "mix", concurrency), sample);
            }
        }
    }
    super::note_noise(report, noisy);
    super::note_losses(report, &fleets);
    let (spans, lines) = collector.taken();
    report.notes.push(format!("{system}: the collector took {spans} batches of spans and {lines} of lines"));
    if spans == 0 || lines == 0 {
        let problem = "its collector was sent nothing: what is compared is not what it should be".to_owned();
        return Err(SuiteError::Answer { system: system.to_owned(), problem });
    }
    Ok(())
}

/// Takes a sample while the page of metrics is read each second, as Prometheus would.
fn scraped(
    fleet: &Fleet,
    is_scraped: bool,
    sample: impl FnOnce() -> Result<Sample, SuiteError>,
) -> Result<Sample, SuiteError> {
    let Some(admin) = fleet.admin.as_ref().filter(|_| is_scraped) else { return sample() };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = Instant::now();
            while !over.load(Ordering::Relaxed) {
                if Instant::now() >= next {
                    next += SCRAPED_EVERY;
                    // That it answers is what other tests are for.
                    let _ = get(admin.address, "/metrics", Some(&admin.token), ANSWERS_WITHIN);
                }
                thread::sleep(LOOK);
            }
        });
        let sample = sample();
        over.store(true, Ordering::Relaxed);
        sample
    })
}
