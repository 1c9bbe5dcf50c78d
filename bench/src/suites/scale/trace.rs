//! Functions that are called now and then, by chance, for a while.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::app::{App, Isolation};
use crate::load::Caller;
use crate::report::Sample;
use crate::systems::{self, Fleet};

use super::{IDLE, Options, PATIENCE, SuiteError, replicas, wait_for_rest};

/// Functions, from the most to the least called.
const FUNCTIONS: usize = 16;
/// Calls a second of the first and the last one, with equal factors between.
const RATES: (f64, f64) = (20.0, 0.05);
const QUICK: Duration = Duration::from_secs(8);
const FULL: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What one function's caller saw.
struct Seen {
    latencies_us: Vec<u64>,
    errors: u64,
}

pub(super) fn run(options: &Options, isolation: Isolation, app: &App) -> Result<Sample, SuiteError> {
    let app = app.clone().multiplied("trace", FUNCTIONS);
    let fleet = systems::start_app(&options.setup, isolation.system(), &app)?;
    wait_for_rest(&fleet)?;
    let span = if options.quick { QUICK } else { FULL };
    let until = Instant::now() + span;
    let (seen, held) = thread::scope(|scope| {
        let fleet = &fleet;
        let callers: Vec<_> =
            (0..FUNCTIONS).map(|number| scope.spawn(move || call(fleet, number, until))).collect();
        let mut looks = Vec::new();
        while Instant::now() < until {
            looks.push(replicas(fleet) as f64);
            thread::sleep(LOOK_EVERY);
        }
        let seen: Vec<Seen> = callers.into_iter().filter_map(|caller| caller.join().ok()).collect();
        (seen, looks.iter().sum::<f64>() / looks.len().max(1) as f64)
    });
    let mut latencies = Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("three digits are fine"));
    for us in seen.iter().flat_map(|seen| &seen.latencies_us) {
        latencies.saturating_record(*us);
    }
    let calls = latencies.len();
    let cold = cold(&fleet).min(calls);
    let mut sample = Sample::default();
    sample.errors.status = seen.iter().map(|seen| seen.errors).sum();
    let figures = &mut sample.figures;
    figures.insert("rps".into(), calls as f64 / span.as_secs_f64());
    figures.insert("warm_percent".into(), 100.0 * (calls - cold) as f64 / calls.max(1) as f64);
    figures.insert("replica_s".into(), held);
    for (name, quantile) in [("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99), ("p999_us", 0.999)] {
        figures.insert(name.into(), latencies.value_at_quantile(quantile) as f64);
    }
    figures.insert("idle_s".into(), IDLE.1.as_secs_f64());
    Ok(sample)
}

/// Requests that had to wait for a replica to be started.
fn cold(fleet: &Fleet) -> u64 {
    let apps = fleet.apps();
    let functions = apps.iter().filter_map(|app| app["functions"].as_array()).flatten();
    functions.filter_map(|function| function["cold_starts"]["queue"]["count"].as_u64()).sum()
}

/// Calls one function until the time is over, with gaps as if by chance.
fn call(fleet: &Fleet, number: usize, until: Instant) -> Seen {
    let (most, least) = RATES;
    let step = number as f64 / (FUNCTIONS - 1) as f64;
    let rate = most * (least / most).powf(step);
    let request = format!("GET /trace/{number} HTTP/1.1\r\nhost: {}\r\n\r\n", fleet.address);
    let mut seen = Seen { latencies_us: Vec::new(), errors: 0 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
    let Ok(mut caller) = Caller::connect(fleet.address, PATIENCE) else {
        seen.errors += 1;
        return seen;
    };
    loop {
        // Marsaglia's xorshift: the same gaps in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let chance = ((state >> 11) as f64 / (1u64 << 53) as f64).max(1e-9);
        let due = Instant::now() + Duration::from_secs_f64((-chance.ln() / rate).min(3600.0));
        if due >= until {
            return seen;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        match caller.request(request.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                seen.latencies_us.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            _ => {
                seen.errors += 1;
                match Caller::connect(fleet.address, PATIENCE) {
                    Ok(again) => caller = again,
                    Err(_) => return seen,
                }
            }
        }
    }
}
