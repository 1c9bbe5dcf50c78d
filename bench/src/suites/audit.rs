//! `audit`: what a request costs that goes through two functions, counted by the kernel and not timed.
//!
//! ```text
//!   client ── N bytes ──▶ (gateway or sidecar) ──▶ first function ── N bytes ──▶ (sidecar) ──▶ second function
//!      ◀───────────────────────────── 64 bytes, all the way back ─────────────────────────────────┘
//! ```
//! The table is that of SPRIGHT's audit: copies, context switches, interrupts, passes through the network stack, serialisations;
//! and system calls beside them. Counted are all processes of a system, and of the client what it sends them. What the kernel
//! cannot see, who does it counts: gRPC's codec its messages, nginx its requests, Baton's receipts what was copied between functions.

mod chain;
mod grpc;

use std::time::Duration;

use crate::app::{Isolation, Wake};
use crate::proc::{self, Ending};
use crate::report::{Figures, Key, Report, Sample, Series};
use crate::systems::{self, Setup, SystemError};
use crate::trace::{Roles, Tally, TraceError, Tracer};

use super::{Options, SuiteError, say, wakes};
use chain::{Baton, Beside, Chain};

const APP: &str = "bench/apps/hop";
const CASE: &str = "chain";
/// Payloads, and how many requests are counted of each.
const PAYLOADS: [(u64, u64); 2] = [(4 << 10, 500), (1 << 20, 100)];
const QUICK_PAYLOADS: [(u64, u64); 1] = [(4 << 10, 200)];
/// How long the whole run may take.
const TIME_MAX: Duration = Duration::from_secs(1800);
/// Requests before those that are counted.
const WARM_UP: u64 = 50;

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("audit", options.quick, options.rounds);
    let tracer = match Tracer::new() {
        Ok(tracer) => tracer,
        Err(error) => {
            report.notes.push(format!("SKIPPED, nothing is counted here: {error}"));
            return Ok(report);
        }
    };
    let _ending = Ending::watch(TIME_MAX, tracer.clean_up())
        .map_err(|error| SuiteError::Program { system: "audit".into(), error })?;
    if !tracer.sees_interrupts() {
        report
            .notes
            .push("this kernel does not say when one core interrupts another: those are not counted".into());
    }
    let chains = start(options, &mut report.notes)?;
    let series = proc::pinned(Some(options.setup.load_core), || measure(options, &tracer, &chains))??;
    report.take_rows(&series);
    for row in &mut report.rows {
        row.how =
            chains.iter().find(|chain| chain.system() == row.system).map(|chain| chain.how().to_owned());
    }
    for chain in &chains {
        report.notes.push(format!("{}: {}", chain.system(), chain.how()));
    }
    report.notes.push(HOW.into());
    relate(&series, &mut report);
    Ok(report)
}

/// How the columns were counted that are the same for all.
const HOW: &str = "by tracepoints, of every thread of the system: copies are bytes that system calls carried between a process and \
    the kernel (and what receipts say of payloads between functions), over the payload; interrupts are those of packets that \
    arrive and those that one core sends to another; passes are packets with something in them that went through the network \
    stack; encodes, decodes and heads as each row's `how` says";

fn start(options: &Options, notes: &mut Vec<String>) -> Result<Vec<Box<dyn Chain>>, SuiteError> {
    let app = options.build(APP)?;
    // Receipts of the requests that ask for one; others cost what they always do.
    let mut more = options.setup.more.clone();
    more.extend((!options.setup.receipts).then(|| "--receipts=on-demand".into()));
    let options = Options { setup: Setup { more, ..options.setup.clone() }, ..options.clone() };
    let mut chains: Vec<Box<dyn Chain>> = Vec::new();
    for &isolation in &options.isolations {
        if isolation == Isolation::Process {
            let asked = if options.wakes.is_empty() { &[Wake::Ring, Wake::Ebpf][..] } else { &options.wakes };
            for &wake in asked {
                let fleet = wakes::start(&options, &app, wake, notes)?;
                chains.extend(fleet.map(|fleet| Box::new(Baton::new(fleet)) as Box<dyn Chain>));
            }
            continue;
        }
        let app = app.clone().isolated(isolation).map_err(SystemError::App)?;
        let fleet = systems::start_app(&options.setup, isolation.system(), &app)?;
        chains.push(Box::new(Baton::new(fleet)));
    }
    for is_behind_nginx in [false, true] {
        let chain = super::or_note(
            grpc::start(&options.setup, is_behind_nginx),
            if is_behind_nginx { grpc::NGINX } else { grpc::BARE },
            notes,
        )?;
        chains.extend(chain.map(|chain| Box::new(chain) as Box<dyn Chain>));
    }
    Ok(chains)
}

fn measure(options: &Options, tracer: &Tracer, chains: &[Box<dyn Chain>]) -> Result<Series, SuiteError> {
    let payloads: &[(u64, u64)] = if options.quick { &QUICK_PAYLOADS } else { &PAYLOADS };
    let mut series = Series::default();
    for round in 1..=options.rounds {
        for &(payload, count) in payloads {
            for chain in chains {
                say(format_args!("round {round}: {} at {payload} bytes", chain.system()));
                let key = Key::new(chain.system(), CASE, 1).payload(payload);
                series.add(key, sample(tracer, chain.as_ref(), payload, count)?);
            }
        }
    }
    Ok(series)
}

/// One run of a chain, counted.
fn sample(tracer: &Tracer, chain: &dyn Chain, payload: u64, count: u64) -> Result<Sample, SuiteError> {
    let mut client = chain.client(payload)?;
    client.send(WARM_UP)?;
    let roles = Roles { system: chain.threads().into_iter().collect(), client: Some(client.thread()) };
    let before = chain.beside(payload)?;
    let mut tally = Tally::default();
    let sent = tracer.record(&roles.threads(), || client.send(count), |line| tally.add(&line, &roles));
    sent.map_err(|error| unread(chain.system(), &error))??;
    if tally.syscalls == 0 {
        let problem =
            "the kernel counted no system call of any of its threads; is this a namespace of processes?";
        return Err(SuiteError::Answer { system: chain.system().into(), problem: problem.into() });
    }
    let beside = chain.beside(payload)?.since(before);
    Ok(Sample { figures: figures(&tally, beside, payload, count), ..Sample::default() })
}

fn unread(system: &str, error: &TraceError) -> SuiteError {
    SuiteError::Answer { system: system.into(), problem: error.to_string() }
}

/// What was counted, for each request.
fn figures(tally: &Tally, beside: Beside, payload: u64, count: u64) -> Figures {
    let each = |total: u64| total as f64 / count.max(1) as f64;
    let carried = each(tally.bytes_in + tally.bytes_out);
    [
        ("syscalls_per_req", each(tally.syscalls)),
        ("switches_per_req", each(tally.switches)),
        ("wakeups_per_req", each(tally.wakeups)),
        ("receives_per_req", each(tally.receives)),
        ("cross_core_interrupts_per_req", each(tally.interrupts)),
        ("interrupts_per_req", each(tally.receives + tally.interrupts)),
        ("passes_per_req", each(tally.passes)),
        ("acknowledgements_per_req", each(tally.acknowledgements)),
        ("carried_bytes_per_req", carried),
        ("copies_per_req", carried / payload.max(1) as f64 + beside.copies_of_payload),
        ("encodes_per_req", each(beside.encoded)),
        ("decodes_per_req", each(beside.decoded)),
        ("heads_per_req", each(beside.heads) + beside.heads_of_each),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn relate(series: &Series, report: &mut Report) {
    let systems =
        [Wake::Ring.system(), Wake::Ebpf.system(), Isolation::Compartment.system(), Isolation::Wasm.system()];
    for figure in ["copies_per_req", "switches_per_req", "passes_per_req"] {
        for system in systems {
            let key = Key::new(system, CASE, 1).payload(PAYLOADS[0].0);
            for yardstick in [grpc::BARE, grpc::NGINX] {
                let name = format!("{figure}_{yardstick}_over_{system}");
                report.ratio(&name, series, figure, [&key.of(yardstick), &key], None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_become_figures_of_one_request() {
        let tally = Tally {
            syscalls: 500,
            bytes_in: 8192,
            bytes_out: 4096,
            receives: 30,
            interrupts: 10,
            ..Tally::default()
        };
        let beside =
            Beside { encoded: 30, decoded: 20, heads: 60, copies_of_payload: 1.0, heads_of_each: 2.0 };
        let figures = figures(&tally, beside, 4096, 10);
        let shown =
            ["syscalls_per_req", "interrupts_per_req", "copies_per_req", "encodes_per_req", "heads_per_req"];
        assert_eq!(shown.map(|name| figures[name]), [50.0, 4.0, 1.3, 3.0, 8.0]);
    }
}
