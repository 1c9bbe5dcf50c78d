//! `boutique`: the Online Boutique on Baton against the same functions as ten gRPC services.
//!
//! Closed loop at 1, 16 and 64 connections for the mix, at 16 for each chain; open loop at shares of each system's own
//! capacity (its closed-loop rate at 64 connections in the first round), and once at the same rate for all: 70 % of
//! what the slowest can do. `idle` is a system that nobody asks for anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::app::{Isolation, Wake};
use crate::boutique::{Case, Chain, Shop};
use crate::load::{Pace, get};
use crate::proc;
use crate::report::{Figures, Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet};

use super::sampling::{Timing, take};
use super::{Options, SuiteError, or_note, say, start_all};

pub(super) const APP: &str = "examples/boutique";
const MIX_CONCURRENCY: [u32; 3] = [1, 16, 64];
const CHAIN_CONCURRENCY: u32 = 16;
const OPEN_CONCURRENCY: u32 = 64;
/// The case without requests, and how long it is looked at.
const IDLE: &str = "idle";
const IDLE_FOR: Duration = Duration::from_secs(2);
const QUICK_IDLE_FOR: Duration = Duration::from_millis(500);
/// Most of a core that a system at rest may take whose replicas the kernel wakes.
const IDLE_SHARE_MAX: f64 = 0.005;
/// … and its functions alone, which have nothing to look at: not one of them wakes.
const IDLE_FUNCTIONS_SHARE_MAX: f64 = 0.0;
const QUICK_TOTAL: Duration = Duration::from_secs(30);

/// At which rate an open-loop case runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    /// This share of the system's own capacity.
    Own(f64),
    /// This share of the slowest system's capacity.
    Slowest(f64),
}

const OPEN: [(&str, Rate); 3] =
    [("mix-open-30", Rate::Own(0.3)), ("mix-open-70", Rate::Own(0.7)), ("mix-open-same", Rate::Slowest(0.7))];

/// The state of a run.
struct Run<'a> {
    fleets: &'a [Fleet],
    shops: Vec<Shop>,
    timing: Timing,
    series: Series,
    capacity: BTreeMap<String, f64>,
    samples: u64,
    noisy: usize,
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("boutique", options.quick, options.rounds);
    let mut fleets = start_all(options, &options.build(APP)?, &mut report.notes)?;
    fleets.extend(or_note(systems::start_grpc_boutique(&options.setup), "grpc", &mut report.notes)?);
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &fleets, &mut report))??;
    report.take_rows(&series);
    super::note_losses(&mut report, &fleets);
    relate(options, &series, &mut report);
    report.notes.push("the processor time of checkout includes the addToCart before it".into());
    Ok(report)
}

/// Visits the start page until it shows products.
pub(super) fn open_shop(system: &str, address: SocketAddr) -> Result<Shop, SuiteError> {
    let answer = get(address, "/", None, Duration::from_secs(10))?;
    let html = String::from_utf8_lossy(&answer.body);
    Shop::from_index(&address.to_string(), &html).ok_or_else(|| SuiteError::Answer {
        system: system.into(),
        problem: format!("status {} and no product on the start page", answer.status),
    })
}

fn measure(options: &Options, fleets: &[Fleet], report: &mut Report) -> Result<Series, SuiteError> {
    let cases = MIX_CONCURRENCY.len() + Chain::WEIGHTS.len() + OPEN.len();
    let shops: Result<Vec<Shop>, SuiteError> =
        fleets.iter().map(|f| open_shop(&f.system, f.address)).collect();
    let mut run = Run {
        fleets,
        shops: shops?,
        timing: Timing::new(options, options.rounds * cases * fleets.len(), QUICK_TOTAL),
        series: Series::default(),
        capacity: BTreeMap::new(),
        samples: 0,
        noisy: 0,
    };
    for round in 1..=options.rounds {
        say(format_args!("round {round} of {}", options.rounds));
        for concurrency in MIX_CONCURRENCY {
            run.closed(Case::Mix, concurrency)?;
        }
        for (chain, _) in Chain::WEIGHTS {
            run.closed(Case::Only(chain), CHAIN_CONCURRENCY)?;
        }
        for (name, rate) in OPEN {
            run.open(name, rate)?;
        }
        run.idle(options.sample.unwrap_or(if options.quick { QUICK_IDLE_FOR } else { IDLE_FOR }))?;
    }
    super::note_noise(report, run.noisy);
    Ok(run.series)
}

impl Run<'_> {
    fn closed(&mut self, case: Case, concurrency: u32) -> Result<(), SuiteError> {
        self.samples += 1;
        for (fleet, shop) in self.fleets.iter().zip(&self.shops) {
            self.noisy += usize::from(!self.timing.settle());
            let sample = take(fleet, shop.plans(case, concurrency, self.samples), Pace::Closed, self.timing)?;
            if case == Case::Mix && concurrency == OPEN_CONCURRENCY {
                let rate = sample.figures.get("rps").copied().unwrap_or(1.0);
                self.capacity.entry(fleet.system.clone()).or_insert(rate);
            }
            self.series.add(Key::new(&fleet.system, case.name(), concurrency), sample);
        }
        Ok(())
    }

    /// What processor time all of them take that have nothing to do, in the same span of time.
    fn idle(&mut self, span: Duration) -> Result<(), SuiteError> {
        self.noisy += usize::from(!self.timing.settle());
        // Of all, and of the functions alone.
        let used = |fleet: &Fleet| fleet.usage().map(|usage| [usage.cpu, usage.cpu - usage.root_cpu]);
        let before: Result<Vec<[Duration; 2]>, _> = self.fleets.iter().map(used).collect();
        std::thread::sleep(span);
        for (fleet, [all, functions]) in self.fleets.iter().zip(before?) {
            let now = used(fleet)?;
            let share = |now: Duration, then| now.saturating_sub(then).as_secs_f64() / span.as_secs_f64();
            let mut figures = Figures::from([("idle_share".to_owned(), share(now[0], all))]);
            // Elsewhere each function is a server of its own.
            if fleet.admin.is_some() {
                figures.insert("idle_functions_share".to_owned(), share(now[1], functions));
            }
            self.series.add(Key::new(&fleet.system, IDLE, 0), Sample { figures, ..Sample::default() });
        }
        Ok(())
    }

    fn open(&mut self, name: &str, rate: Rate) -> Result<(), SuiteError> {
        self.samples += 1;
        for (fleet, shop) in self.fleets.iter().zip(&self.shops) {
            let own = self.capacity.get(&fleet.system).copied().unwrap_or(1.0);
            let pace = Pace::Open(match rate {
                Rate::Own(share) => own * share,
                Rate::Slowest(share) => self.capacity.values().copied().fold(own, f64::min) * share,
            });
            self.noisy += usize::from(!self.timing.settle());
            let sample =
                take(fleet, shop.plans(Case::Mix, OPEN_CONCURRENCY, self.samples), pace, self.timing)?;
            self.series.add(Key::new(&fleet.system, name, OPEN_CONCURRENCY), sample);
        }
        Ok(())
    }
}

fn relate(options: &Options, series: &Series, report: &mut Report) {
    for &isolation in &options.isolations {
        let has_wakes = isolation == Isolation::Process && !options.wakes.is_empty();
        let system = if has_wakes { Wake::Ring.system() } else { isolation.system() };
        let name = format!("{}_over_grpc", isolation.short());
        relate_to(&name, [system, "grpc"], series, report, over_grpc(isolation));
    }
    if options.wakes.contains(&Wake::Ebpf) {
        let [ring, ebpf] = [Wake::Ring, Wake::Ebpf].map(Wake::system);
        relate_to("ebpf_over_ring", [ebpf, ring], series, report, OVER_RINGS);
        relate_to("ebpf_over_grpc", [ebpf, "grpc"], series, report, [None; 3]);
        for (name, system) in [("ebpf", ebpf), ("ring", ring)] {
            let key = Key::new(system, IDLE, 0);
            let promise = |most| (name == "ebpf").then_some(Promise::AtMost(most));
            let all = promise(IDLE_SHARE_MAX);
            report.figure(&format!("idle_share_{name}"), series, "idle_share", &key, all);
            let functions = promise(IDLE_FUNCTIONS_SHARE_MAX);
            let figure = "idle_functions_share";
            report.figure(&format!("{figure}_{name}"), series, figure, &key, functions);
        }
    }
    if options.has(Isolation::Compartment) {
        let systems = [Isolation::Compartment.system(), Isolation::Process.system()];
        relate_to("compartment_over_baton", systems, series, report, OVER_PROCESSES);
    }
    if options.has(Isolation::Wasm) {
        let systems = [Isolation::Wasm.system(), Isolation::Compartment.system()];
        relate_to("wasm_over_compartment", systems, series, report, OVER_COMPARTMENTS);
    }
}

/// What is promised of the mix at 64 connections: requests/s, processor time, 99th percentile.
type Promises = [Option<Promise>; 3];

/// What the kernel hands over, over what rings do.
const OVER_RINGS: Promises = [Some(Promise::AtLeast(0.7)), None, None];

/// The compartments' over the processes'.
const OVER_PROCESSES: Promises = [Some(Promise::AtLeast(1.5)), Some(Promise::AtMost(1.0)), None];

/// The modules' over the native compartments'.
const OVER_COMPARTMENTS: Promises = [Some(Promise::AtLeast(0.6)), None, None];

fn over_grpc(isolation: Isolation) -> Promises {
    let (rps, cpu) = match isolation {
        Isolation::Process => (4.0, 0.25),
        Isolation::Compartment => (8.0, 1.0),
        Isolation::Wasm => return [None; 3],
    };
    [Some(Promise::AtLeast(rps)), Some(Promise::AtMost(cpu)), Some(Promise::AtMost(1.0))]
}

fn relate_to(name: &str, [a, b]: [&str; 2], series: &Series, report: &mut Report, promises: Promises) {
    for concurrency in MIX_CONCURRENCY {
        let key = Key::new(a, "mix", concurrency);
        for (figure, promise) in ["rps", "cpu_us_per_req", "p99_us"].into_iter().zip(promises) {
            let promise = promise.filter(|_| concurrency == 64);
            let name = format!("{figure}_{name}_at_{concurrency}");
            report.ratio(&name, series, figure, [&key, &key.of(b)], promise);
        }
    }
    for (chain, _) in Chain::WEIGHTS {
        let key = Key::new(a, chain.name(), CHAIN_CONCURRENCY);
        report.ratio(&format!("rps_{name}_{}", chain.name()), series, "rps", [&key, &key.of(b)], None);
    }
    for (case, _) in OPEN {
        let key = Key::new(a, case, OPEN_CONCURRENCY);
        report.ratio(&format!("p99_us_{name}_{case}"), series, "p99_us", [&key, &key.of(b)], None);
    }
}
