//! `hop`: the round trip from one function to another, request of N bytes, reply of 64.
//!
//! Both sides of every system are on the same core: a chain of calls has one runner at a time, and a wake across cores
//! costs more than everything that is measured here. Every system times its own round trips, one after the other, and
//! says what it saw; the payload of Baton is lent and never touched, that of sockets and gRPC is sent whole.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::load::{Errors, get};
use crate::proc;
use crate::report::{Figures, Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet};
use crate::units::floor;
use crate::yardstick::{ITERATIONS_MAX, RoundTrips};

use super::sampling::Timing;
use super::{Options, SuiteError, or_note, say};

const APP: &str = "bench/apps/hop";
const PAYLOADS: [u64; 6] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
const QUICK_PAYLOADS: [u64; 3] = [64, 64 << 10, 1 << 20];
const QUICK_TOTAL: Duration = Duration::from_secs(18);
/// Round trips that find out how many fit into a sample.
const PROBES: u64 = 5;
/// What a single request to the caller may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One way of measuring round trips.
struct System<'a> {
    name: String,
    case: &'static str,
    kind: Kind<'a>,
    /// Whether the payload makes a difference; the futex carries none.
    carries_payload: bool,
}

enum Kind<'a> {
    /// Asked over HTTP.
    Baton { fleet: &'a Fleet, mode: &'static str },
    /// A client program that prints its result.
    Grpc { options: &'a Options, server: &'a Fleet },
    /// This program again.
    Yardstick { options: &'a Options, kind: &'static str },
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("hop", options.quick, options.rounds);
    let app = options.app.clone().or_else(|| crate::locate::app(APP)).ok_or(SuiteError::NoApp(APP))?;
    let baton = systems::start_baton(&options.setup, &options.baton_system(), &app);
    let baton = or_note(baton, &options.baton_system(), &mut report.notes)?;
    let grpc =
        or_note(systems::start_single(&options.setup, "grpc", "hop-server"), "grpc", &mut report.notes)?;
    let systems = line_up(options, baton.as_ref(), grpc.as_ref());
    // This process only waits for others here; it stays off their core.
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &systems, &mut report))??;
    report.take_rows(&series);
    relate(options, &series, &mut report);
    Ok(report)
}

fn line_up<'a>(options: &'a Options, baton: Option<&'a Fleet>, grpc: Option<&'a Fleet>) -> Vec<System<'a>> {
    let system =
        |name: &str, case, kind, carries_payload| System { name: name.into(), case, kind, carries_payload };
    let mut systems = Vec::new();
    if let Some(fleet) = baton {
        systems.push(system(&options.baton_system(), "hop", Kind::Baton { fleet, mode: "lend" }, true));
        if !options.quick {
            systems.push(system(
                &options.baton_system(),
                "hop-move",
                Kind::Baton { fleet, mode: "move" },
                true,
            ));
        }
    }
    systems.push(system("futex", "hop", Kind::Yardstick { options, kind: "futex" }, false));
    systems.push(system("uds", "hop", Kind::Yardstick { options, kind: "uds" }, true));
    if let Some(server) = grpc {
        systems.push(system("grpc", "hop", Kind::Grpc { options, server }, true));
    }
    systems
}

fn measure(options: &Options, systems: &[System<'_>], report: &mut Report) -> Result<Series, SuiteError> {
    let payloads: &[u64] = if options.quick { &QUICK_PAYLOADS } else { &PAYLOADS };
    let timing = Timing::new(options, options.rounds * payloads.len() * systems.len(), QUICK_TOTAL);
    let budget = timing.measured.min(Duration::from_secs(1));
    let mut series = Series::default();
    let mut iterations = BTreeMap::new();
    let mut noisy = 0;
    for round in 1..=options.rounds {
        for &payload in payloads {
            for system in systems.iter().filter(|s| s.carries_payload || payload == PAYLOADS[0]) {
                let key = Key::new(&system.name, system.case, 1).payload(payload);
                say(format_args!("round {round}: {} {} at {payload} bytes", system.name, system.case));
                if !iterations.contains_key(&key) {
                    let probe = system.round_trips(payload, PROBES)?.0;
                    iterations.insert(key.clone(), fitting(budget, probe.p50_ns));
                }
                noisy += usize::from(!timing.settle());
                let (trips, cpu_ns) =
                    system.round_trips(payload, iterations.get(&key).copied().unwrap_or(PROBES))?;
                iterations.insert(key.clone(), fitting(budget, trips.p50_ns));
                series.add(key, sample(trips, cpu_ns));
            }
        }
    }
    super::note_noise(report, noisy);
    Ok(series)
}

/// How many round trips fill the budget.
fn fitting(budget: Duration, trip_ns: f64) -> u64 {
    floor(budget.as_secs_f64() * 1e9 / trip_ns.max(1.0)).clamp(PROBES, ITERATIONS_MAX / 4)
}

fn sample(trips: RoundTrips, cpu_ns: Option<f64>) -> Sample {
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
    if let Some(cpu_ns) = cpu_ns {
        figures.insert("cpu_us_per_req".into(), cpu_ns / 1e3);
    }
    Sample { figures, errors: Errors::default(), payload_bytes: 0 }
}

impl System<'_> {
    /// Runs round trips; also their processor time each, where it is known.
    fn round_trips(&self, payload: u64, iterations: u64) -> Result<(RoundTrips, Option<f64>), SuiteError> {
        match &self.kind {
            Kind::Baton { fleet, mode } => {
                let path = format!("/?payload={payload}&iterations={iterations}&mode={mode}");
                let before = fleet.usage()?.cpu;
                let answer = get(fleet.address, &path, None, PATIENCE)?;
                let used = fleet.usage()?.cpu.saturating_sub(before);
                let trips = self.parse(answer.status == 200, &answer.body)?;
                Ok((trips, Some(used.as_secs_f64() * 1e9 / iterations as f64)))
            }
            Kind::Grpc { options, server } => {
                let mut command = Command::new(&options.setup.grpc);
                command.args(["hop-client", "--peer"]).arg(server.address.to_string());
                self.run_client(options, command, payload, iterations)
            }
            Kind::Yardstick { options, kind } => {
                let program = std::env::current_exe().map_err(|error| self.failed(error))?;
                let mut command = Command::new(program);
                command.args(["yardstick", kind]);
                self.run_client(options, command, payload, iterations)
            }
        }
    }

    fn run_client(
        &self,
        options: &Options,
        mut command: Command,
        payload: u64,
        iterations: u64,
    ) -> Result<(RoundTrips, Option<f64>), SuiteError> {
        command.args(["--payload", &payload.to_string(), "--iterations", &iterations.to_string()]);
        command.stdin(Stdio::piped()).stderr(Stdio::inherit()).stdout(Stdio::piped());
        let child = proc::pinned(Some(options.setup.server_core), || command.spawn())?;
        // Its standard input stays open until it has ended: programs of this kind end when it closes.
        let mut child = child.map_err(|error| self.failed(error))?;
        let input = child.stdin.take();
        let output = child.wait_with_output().map_err(|error| self.failed(error))?;
        drop(input);
        let trips = self.parse(output.status.success(), &output.stdout)?;
        Ok((trips, trips.cpu_ns))
    }

    fn parse(&self, fine: bool, text: &[u8]) -> Result<RoundTrips, SuiteError> {
        let parsed = serde_json::from_slice(text).ok().filter(|_| fine);
        parsed.ok_or_else(|| SuiteError::Answer {
            system: self.name.clone(),
            problem: String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned(),
        })
    }

    fn failed(&self, error: std::io::Error) -> SuiteError {
        SuiteError::Program { system: self.name.clone(), error }
    }
}

fn relate(options: &Options, series: &Series, report: &mut Report) {
    let baton = |payload| Key::new(&options.baton_system(), "hop", 1).payload(payload);
    let (small, large) = (baton(64), baton(1 << 20));
    report.ratio(
        "p50_us_baton_1MiB_over_64B",
        series,
        "p50_us",
        [&large, &small],
        Some(Promise::AtMost(1.2)),
    );
    let over = [&small, &small.of("futex")];
    report.ratio("p50_us_baton_over_futex_64B", series, "p50_us", over, Some(Promise::AtMost(1.3)));
    for (name, key, bound) in [("64B", &small, 5.0), ("1MiB", &large, 100.0)] {
        let promise = Some(Promise::AtLeast(bound));
        report.ratio(
            &format!("p50_us_grpc_over_baton_{name}"),
            series,
            "p50_us",
            [&key.of("grpc"), key],
            promise,
        );
        report.ratio(&format!("p50_us_uds_over_baton_{name}"), series, "p50_us", [&key.of("uds"), key], None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_fill_the_budget_within_bounds() {
        assert_eq!(fitting(Duration::from_secs(1), 1e6), 1000);
        assert_eq!(fitting(Duration::from_secs(1), 1e12), PROBES);
        assert_eq!(fitting(Duration::from_secs(10), 1.0), ITERATIONS_MAX / 4);
    }

    #[test]
    fn round_trips_become_figures_in_microseconds() {
        let line = br#"{"p50_ns":2000,"p95_ns":3000,"p99_ns":4000,"mean_ns":2500,"min_ns":1000}"#;
        let trips: RoundTrips = serde_json::from_slice(line).unwrap();
        let figures = sample(trips, Some(1500.0)).figures;
        assert_eq!((figures["p50_us"], figures["rps"], figures["cpu_us_per_req"]), (2.0, 400_000.0, 1.5));
    }
}
