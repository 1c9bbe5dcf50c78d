//! `hop`: the round trip from one function to another, request of N bytes, reply of 64.
//!
//! Both sides of every system are on the same core: a chain of calls has one runner at a time, and a wake across cores
//! costs more than everything that is measured here. Every system times its own round trips, one after the other, and
//! says what it saw; the payload of Baton is lent and never touched, that of sockets and gRPC is sent whole. Process replicas
//! hand over by rings and by the kernel, a system each; `broker` is a third process that passes descriptors on.
//!
//! A call between compartments costs little more than reading the clock twice. There, and for `memcpy`, a time is that of
//! a batch of calls, divided by their number: see [`batch_for`].

mod relate;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::app::{App, Isolation, Wake};
use crate::load::get;
use crate::proc::{self, Usage};
use crate::report::{Key, Report, Series};
use crate::systems::{self, Fleet, SystemError};
use crate::units::floor;
use crate::yardstick::{ITERATIONS_MAX, RoundTrips};

use super::sampling::{Timing, sample_of_trips};
use super::{Options, SuiteError, or_note, say};

const APP: &str = "bench/apps/hop";
const PAYLOADS: [u64; 6] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// The cases of Baton's rows, the payload lent.
const PROCESS: &str = "hop";
const TRUST_APP: &str = "hop-trust-app";
const TRUST_BUFFER: &str = "hop-trust-buffer";
/// … of modules that begin anew with each request.
const TRUST_APP_FRESH: &str = "hop-trust-app-fresh";
const QUICK_PAYLOADS: [u64; 4] = [64, 64 << 10, 1 << 20, 64 << 20];
const QUICK_TOTAL: Duration = Duration::from_secs(18);
/// Round trips that find out how many fit into a sample.
const PROBES: u64 = 5;
/// The gRPC client has one uncounted round trip for so many that it counts, ten at least.
const GRPC_WARM_UP_SHARE: u64 = 10;
/// Calls of a batch.
const BATCH: u64 = 64;
/// Longer round trips are timed one by one: there the clock's own time is nothing.
const BATCHED_BELOW_NS: f64 = 20_000.0;
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
    Baton { fleet: &'a Fleet, mode: &'static str, batches: bool },
    /// A client program that prints its result.
    Grpc { options: &'a Options, server: &'a Fleet },
    /// This program again.
    Yardstick { options: &'a Options, kind: &'static str },
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("hop", options.quick, options.rounds);
    let fleets = start(options, &mut report.notes)?;
    let grpc =
        or_note(systems::start_single(&options.setup, "grpc", "hop-server"), "grpc", &mut report.notes)?;
    let systems = line_up(options, &fleets, grpc.as_ref());
    // This process only waits for others here; it stays off their core.
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &systems, &mut report))??;
    report.take_rows(&series);
    super::note_losses(&mut report, fleets.iter().map(|deployment| &deployment.fleet));
    relate::all(options, &series, &mut report);
    if in_cells(options) {
        report.notes.push(format!(
            "times of compartments, modules and memcpy below {} µs are means of {BATCH} calls each",
            BATCHED_BELOW_NS / 1e3
        ));
    }
    Ok(report)
}

/// Whether something runs in cells, where hops are short.
fn in_cells(options: &Options) -> bool {
    options.has(Isolation::Compartment) || options.has(Isolation::Wasm)
}

/// A node for each of Baton's deployments: the cases of its rows, lent and moved, and where it answers.
struct Deployment {
    fleet: Fleet,
    lent: &'static str,
    moved: &'static str,
    batches: bool,
}

fn start(options: &Options, notes: &mut Vec<String>) -> Result<Vec<Deployment>, SuiteError> {
    let app = options.build(APP)?;
    let mut deployments = Vec::new();
    for &isolation in &options.isolations {
        if isolation == Isolation::Process {
            deployments.extend(start_processes(options, &app, notes)?);
            continue;
        }
        let app = app.clone().isolated(isolation).map_err(SystemError::App)?;
        let variants = match isolation {
            Isolation::Process => Vec::new(),
            Isolation::Compartment => vec![
                (app.clone().trusting("app"), TRUST_APP, "hop-trust-app-move"),
                (app.trusting("buffer"), TRUST_BUFFER, "hop-trust-buffer-move"),
            ],
            Isolation::Wasm => vec![
                (app.clone().trusting("app"), TRUST_APP, "hop-trust-app-move"),
                (app.clone().trusting("buffer"), TRUST_BUFFER, "hop-trust-buffer-move"),
                (app.beginning_anew().trusting("app"), TRUST_APP_FRESH, "hop-trust-app-fresh-move"),
            ],
        };
        for (app, lent, moved) in variants {
            let fleet = systems::start_app(&options.setup, isolation.system(), &app)?;
            deployments.push(Deployment { fleet, lent, moved, batches: true });
        }
    }
    Ok(deployments)
}

/// Processes, in each way of handing over that there is.
fn start_processes(
    options: &Options,
    app: &App,
    notes: &mut Vec<String>,
) -> Result<Vec<Deployment>, SuiteError> {
    let wakes = if options.wakes.is_empty() { &[Wake::Ring, Wake::Ebpf][..] } else { &options.wakes };
    let mut deployments = Vec::new();
    for &wake in wakes {
        let fleet = super::wakes::start(options, app, wake, notes)?;
        let deployed = |fleet| Deployment { fleet, lent: PROCESS, moved: "hop-move", batches: false };
        deployments.extend(fleet.map(deployed));
    }
    Ok(deployments)
}

fn line_up<'a>(
    options: &'a Options,
    deployments: &'a [Deployment],
    grpc: Option<&'a Fleet>,
) -> Vec<System<'a>> {
    let system = |name: &str, case, kind| System { name: name.into(), case, kind, carries_payload: true };
    let mut systems = Vec::new();
    for Deployment { fleet, lent, moved, batches } in deployments {
        let kind = |mode| Kind::Baton { fleet, mode, batches: *batches };
        systems.push(system(&fleet.system, *lent, kind("lend")));
        if !options.quick {
            systems.push(system(&fleet.system, *moved, kind("move")));
        }
    }
    let yardstick = |name| system(name, "hop", Kind::Yardstick { options, kind: name });
    systems.push(System { carries_payload: false, ..yardstick("futex") });
    systems.push(yardstick("uds"));
    systems.push(yardstick("broker"));
    if in_cells(options) {
        systems.push(yardstick("memcpy"));
    }
    if let Some(server) = grpc {
        systems.push(system("grpc", "hop", Kind::Grpc { options, server }));
    }
    systems
}

fn measure(options: &Options, systems: &[System<'_>], report: &mut Report) -> Result<Series, SuiteError> {
    let payloads: &[u64] = if options.quick { &QUICK_PAYLOADS } else { &PAYLOADS };
    let timing = Timing::new(options, options.rounds * payloads.len() * systems.len(), QUICK_TOTAL);
    let budget = timing.measured.min(Duration::from_secs(1));
    let mut series = Series::default();
    let mut expected: BTreeMap<Key, f64> = BTreeMap::new();
    let mut noisy = 0;
    for round in 1..=options.rounds {
        for &payload in payloads {
            for system in systems.iter().filter(|s| s.carries_payload || payload == PAYLOADS[0]) {
                let key = Key::new(&system.name, system.case, 1).payload(payload);
                say(format_args!("round {round}: {} {} at {payload} bytes", system.name, system.case));
                let expected_ns = match expected.get(&key) {
                    Some(known) => *known,
                    None => system.round_trips(payload, PROBES, 1)?.p50_ns,
                };
                noisy += usize::from(!timing.settle());
                let count = fitting(budget, expected_ns);
                let trips = system.round_trips(payload, count, batch_for(expected_ns))?;
                expected.insert(key.clone(), trips.p50_ns);
                series.add(key, sample_of_trips(trips));
            }
        }
    }
    super::note_noise(report, noisy);
    Ok(series)
}

/// How many calls share a pair of clock readings, where they do at all.
fn batch_for(trip_ns: f64) -> u64 {
    if trip_ns < BATCHED_BELOW_NS { BATCH } else { 1 }
}

/// How many round trips fill the budget.
fn fitting(budget: Duration, trip_ns: f64) -> u64 {
    floor(budget.as_secs_f64() * 1e9 / trip_ns.max(1.0)).clamp(PROBES, ITERATIONS_MAX / 4)
}

impl System<'_> {
    /// Runs round trips; also their processor time each, where it is known.
    fn round_trips(&self, payload: u64, iterations: u64, batch: u64) -> Result<RoundTrips, SuiteError> {
        match &self.kind {
            Kind::Baton { fleet, mode, batches } => {
                let batch = if *batches { batch } else { 1 };
                let path = format!("/?payload={payload}&iterations={iterations}&mode={mode}&batch={batch}");
                let before = fleet.usage()?;
                let answer = get(fleet.address, &path, None, PATIENCE)?;
                let after = fleet.usage()?;
                let trips = self.parse(answer.status == 200, &answer.body)?;
                Ok(with_costs(trips, [before, after], iterations))
            }
            Kind::Grpc { options, server } => {
                let mut command = Command::new(&options.setup.grpc);
                command.args(["hop-client", "--peer"]).arg(server.address.to_string());
                let before = server.usage()?;
                let own = self.run_client(options, command, payload, iterations)?;
                let warm_up = (iterations / GRPC_WARM_UP_SHARE).max(10);
                let theirs = with_costs(own, [before, server.usage()?], iterations + warm_up);
                let both = |own: Option<f64>, theirs: Option<f64>| Some(own? + theirs?);
                Ok(RoundTrips {
                    cpu_ns: both(own.cpu_ns, theirs.cpu_ns),
                    switches: both(own.switches, theirs.switches),
                    ..own
                })
            }
            Kind::Yardstick { options, kind } => {
                let program = std::env::current_exe().map_err(|error| self.failed(error))?;
                let mut command = Command::new(program);
                command.args(["yardstick", kind, "--batch", &batch.to_string()]);
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
    ) -> Result<RoundTrips, SuiteError> {
        command.args(["--payload", &payload.to_string(), "--iterations", &iterations.to_string()]);
        command.stdin(Stdio::piped()).stderr(Stdio::inherit()).stdout(Stdio::piped());
        let child = proc::pinned(Some(options.setup.server_core), || command.spawn())?;
        // Its standard input stays open until it has ended: programs of this kind end when it closes.
        let mut child = child.map_err(|error| self.failed(error))?;
        let input = child.stdin.take();
        let output = child.wait_with_output().map_err(|error| self.failed(error))?;
        drop(input);
        self.parse(output.status.success(), &output.stdout)
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

/// The same with what servers have used between two looks, for each of so many round trips.
fn with_costs(trips: RoundTrips, [before, after]: [Usage; 2], count: u64) -> RoundTrips {
    let each = |total: f64| Some(total / count.max(1) as f64);
    let cpu = after.cpu.saturating_sub(before.cpu);
    let switches = after.switches.saturating_sub(before.switches);
    RoundTrips { cpu_ns: each(cpu.as_secs_f64() * 1e9), switches: each(switches as f64), ..trips }
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
    fn only_short_round_trips_are_timed_in_batches() {
        assert_eq!((batch_for(250.0), batch_for(25_000.0)), (BATCH, 1));
    }

    #[test]
    fn round_trips_become_figures_in_microseconds() {
        let line =
            br#"{"p50_ns":2000,"p95_ns":3000,"p99_ns":4000,"mean_ns":2500,"min_ns":1000,"cpu_ns":1500}"#;
        let trips: RoundTrips = serde_json::from_slice(line).unwrap();
        let figures = sample_of_trips(trips).figures;
        assert_eq!((figures["p50_us"], figures["rps"], figures["cpu_us_per_req"]), (2.0, 400_000.0, 1.5));
    }
}
