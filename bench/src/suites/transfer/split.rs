//! The boutique over two nodes: front end, recommendation and checkout on one, what they call on the other; beside it the same
//! on one node, and the gRPC version over the same two machines.
//!
//! Nobody has a core to himself here, the load generator, which asks from the first machine, included: two nodes, one node and
//! ten services have the same two cores.

use std::ffi::OsString;
use std::time::Duration;

use super::cluster::{Cluster, Terms};
use super::place::{Place, Site};
use super::terms;
use crate::app::{App, Isolation};
use crate::boutique::{Case, Shop};
use crate::load::Pace;
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::suites::sampling::{Timing, take};
use crate::suites::{Options, SuiteError, boutique, or_note, say};
use crate::systems::{self, Fleet, SystemError};

/// What runs on the first node; everything else is on the second.
const FRONT: [&str; 3] = ["frontend", "recommendation", "checkout"];
const ONE: &str = "mix";
const TWO: &str = "mix-split";
const CONCURRENCY: [u32; 2] = [1, 64];
const QUICK_TOTAL: Duration = Duration::from_secs(10);
const BUSY_WINDOW: Duration = Duration::from_millis(300);
/// What the first node answers when the app is everywhere it has to be.
const PROBE: &str = "/";
/// How the boutique's cells are named among the clusters, and which isolation that is.
const SETTINGS: [(Isolation, &str, &str); 2] = [
    (Isolation::Process, "process-split", "process-one"),
    (Isolation::Compartment, "compartment-split", "compartment-one"),
];

/// The boutique, built.
pub(super) fn build(options: &Options) -> Result<App, SuiteError> {
    let directory = crate::locate::app(boutique::APP).ok_or(SuiteError::NoApp(boutique::APP))?;
    Ok(systems::build(&options.setup, &directory)?)
}

/// A system in one arrangement.
struct Arranged {
    fleet: Fleet,
    system: &'static str,
    case: &'static str,
}

pub(super) fn measure(
    options: &Options,
    place: &Place,
    app: &App,
    (series, busy): (&mut Series, &mut Vec<f64>),
    report: &mut Report,
) -> Result<(), SuiteError> {
    let mut all = Vec::new();
    for (isolation, two, one) in SETTINGS {
        match arrange(options, place, app, (isolation, two, one)) {
            Ok(both) => all.extend(both),
            // The machine may have no memory keys.
            Err(error) if isolation == Isolation::Compartment => {
                report.notes.push(format!("the boutique in compartments is left out: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    for (case, sites) in [(ONE, [Site::A; 2]), (TWO, [Site::A, Site::B])] {
        let fleet = or_note(grpc(options, place, sites), "grpc", &mut report.notes)?;
        all.extend(fleet.map(|fleet| Arranged { fleet, system: "grpc", case }));
    }
    let open =
        |arranged: &Arranged| place.on_a(|| boutique::open_shop(arranged.system, arranged.fleet.address))?;
    let shops: Vec<Shop> = all.iter().map(open).collect::<Result<_, SuiteError>>()?;
    let timing = Timing::new(options, options.rounds * CONCURRENCY.len() * all.len(), QUICK_TOTAL);
    let mut number = 0;
    for round in 1..=options.rounds {
        busy.push(proc::busy_share(BUSY_WINDOW));
        for concurrency in CONCURRENCY {
            number += 1;
            for (arranged, shop) in all.iter().zip(&shops) {
                let Arranged { fleet, system, case } = arranged;
                say(format_args!("round {round}: {system} {case} at {concurrency}"));
                timing.settle();
                let plans = shop.plans(Case::Mix, concurrency, number);
                let sample = place.on_a(|| take(fleet, plans, Pace::Closed, timing))??;
                series.add(Key::new(system, case, concurrency), sample);
            }
        }
    }
    crate::suites::note_losses(report, all.iter().map(|arranged| &arranged.fleet));
    Ok(())
}

/// The boutique on two nodes, and on one.
fn arrange(
    options: &Options,
    place: &Place,
    app: &App,
    (isolation, two, one): (Isolation, &'static str, &'static str),
) -> Result<[Arranged; 2], SuiteError> {
    let app = app.clone().isolated(isolation).map_err(SystemError::App)?;
    let start = |name, app: &App| {
        say(format_args!("starting the boutique: {name}"));
        let terms = Terms { pinned: false, ..terms(name) };
        Cluster::start(&options.setup, place, terms, app, PROBE).map(|cluster| cluster.fleet)
    };
    let system = isolation.system();
    let split = app.clone().placed(|function| if FRONT.contains(&function) { "a" } else { "b" });
    let one = start(one, &app.placed(|_| "a"))?;
    let two = start(two, &split)?;
    Ok([Arranged { fleet: one, system, case: ONE }, Arranged { fleet: two, system, case: TWO }])
}

/// The gRPC version: the front on the first of these machines, everything else on the second.
fn grpc(options: &Options, place: &Place, sites: [Site; 2]) -> Result<Fleet, SystemError> {
    let mut servers = Vec::new();
    let mut peers: Vec<String> = Vec::new();
    let mut entry = None;
    for service in systems::BOUTIQUE_SERVICES {
        let [front, back] = sites;
        let site = if FRONT.contains(&service) { front } else { back };
        let listen = place.socket(site, 0).to_string();
        let mut args: Vec<OsString> = [service, "--listen", &listen].map(OsString::from).to_vec();
        if !peers.is_empty() {
            args.extend(["--peers".into(), peers.join(",").into()]);
        }
        let program = options.setup.grpc.as_path();
        let (server, address) = place.start((site, false), service, (program, args), systems::listening)?;
        servers.push(server);
        peers.push(format!("{service}={address}"));
        entry = Some(address);
    }
    let address = entry.ok_or_else(|| SystemError::Missing(options.setup.grpc.clone()))?;
    Ok(Fleet::of("grpc", address, None, servers))
}

pub(super) fn relate(series: &Series, report: &mut Report) {
    for concurrency in CONCURRENCY {
        let key = |system, case| Key::new(system, case, concurrency);
        for isolation in [Isolation::Process, Isolation::Compartment] {
            let (system, short) = (isolation.system(), isolation.short());
            for figure in ["rps", "p99_us"] {
                let name = format!("{figure}_{short}_split_over_one_node_at_{concurrency}");
                let over = [&key(system, TWO), &key(system, ONE)];
                report.ratio(&name, series, figure, over, None::<Promise>);
                let name = format!("{figure}_{short}_over_grpc_split_at_{concurrency}");
                let over = [&key(system, TWO), &key("grpc", TWO)];
                report.ratio(&name, series, figure, over, None);
            }
        }
        for figure in ["rps", "p99_us"] {
            let name = format!("{figure}_grpc_split_over_one_node_at_{concurrency}");
            report.ratio(&name, series, figure, [&key("grpc", TWO), &key("grpc", ONE)], None);
        }
    }
}
