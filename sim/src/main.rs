//! `cargo xtask simulate`: clusters of a thousand and ten thousand nodes, in simulated time.
//!
//! The planner (`assign`), the router (`route`), admission (`admit`) and the choice of a replica (`choose`) are those of
//! the product, unchanged, and on one node the scaler (`Scaler`). Around them, as events: clients, a network, load reports that are up to a second old, nodes that die
//! and nodes that drain. Calls follow what Azure Functions published ([`azure`]).

#![forbid(unsafe_code)]

mod azure;
mod board;
mod dice;
mod measure;
mod planner;
mod report;
mod routers;
mod run;
mod scaling;
mod time;
mod traffic;
mod workload;
mod world;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use baton_placement::Policy;
use clap::Parser;

use report::Report;
use routers::Router;
use run::Settings;
use time::SECOND;

/// Simulates clusters and says how well calls are placed, and at what price.
#[derive(Debug, Parser)]
#[command(name = "baton-sim")]
struct Options {
    /// Seed of everything that is drawn: the same seed gives the same figures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of all cores that handlers ask for
    #[arg(long, default_value_t = 0.6, value_name = "SHARE", value_parser = share)]
    load: f64,
    /// Only clusters of so many nodes: 1000 or 10000
    #[arg(long, value_name = "N", conflicts_with = "quick")]
    nodes: Option<u32>,
    /// A small cluster, done in seconds
    #[arg(long)]
    quick: bool,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number: give one such as 0.6"))?;
    if (0.01..=1.5).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{share} is not between 0.01 and 1.5"))
    }
}

fn main() -> ExitCode {
    match simulate(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("baton-sim: rules were broken, see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("baton-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all cases; whether every rule held.
fn simulate(options: &Options) -> Result<bool, Box<dyn Error>> {
    let mut report = Report::new(options.seed, options.load);
    let wanted = |settings: &Settings| options.nodes.is_none_or(|nodes| settings.nodes == nodes);
    for settings in cases(options).into_iter().filter(wanted) {
        let summary = run::run(&settings);
        report.add(summary);
    }
    let (nodes, apps): (&[u32], &[u32]) =
        if options.quick { (&[1_000], &[1_000]) } else { (&[1_000, 10_000], &[1_000, 10_000]) };
    report.planner = planner::measure(nodes, apps, options.seed);
    report.traffic = traffic::rows(&[10, 100, 1_000, 10_000], report.loads_per_row());
    let minutes = if options.quick { (5, 15) } else { (30, 120) };
    report.scaling = scaling::rows(&scaling::Settings {
        functions: if options.quick { 200 } else { 1_000 },
        warm_up: minutes.0 * 60 * SECOND,
        window: minutes.1 * 60 * SECOND,
        seed: options.seed,
    });
    report.print();
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report.holds())
}

fn cases(options: &Options) -> Vec<Settings> {
    let base = |nodes: u32, apps: u32| Settings {
        nodes,
        apps,
        policy: Policy::Spread,
        router: Router::Baton,
        minds_cores: true,
        bounces: 0,
        load: options.load,
        warm_up: 20 * SECOND,
        window: 60 * SECOND,
        deaths: nodes / 200,
        drains: nodes / 200,
        report_every: SECOND,
        late_one_of: 1_000,
        seed: options.seed,
    };
    let with = |base: &Settings, router, minds_cores| Settings { router, minds_cores, ..base.clone() };
    let mut cases = Vec::new();
    let small = if options.quick {
        Settings { warm_up: 10 * SECOND, window: 20 * SECOND, deaths: 4, drains: 4, ..base(200, 300) }
    } else {
        base(1_000, 1_000)
    };
    for router in [
        Router::Omniscient,
        Router::Baton,
        Router::BatonAllHosts,
        Router::Two,
        Router::Least,
        Router::Random,
        Router::Stay,
    ] {
        cases.push(with(&small, router, true));
    }
    cases.push(with(&small, Router::Baton, false));
    for report_every in [SECOND / 5, 5 * SECOND] {
        cases.push(Settings { report_every, ..small.clone() });
    }
    let packed = Settings { policy: Policy::Pack, ..small.clone() };
    cases.push(with(&packed, Router::Omniscient, true));
    cases.push(with(&packed, Router::Baton, true));
    for bounces in [1, 3] {
        cases.push(Settings { bounces, ..small.clone() });
    }
    cases.push(with(&packed, Router::Random, true));
    if !options.quick {
        let large = base(10_000, 10_000);
        for router in [Router::Baton, Router::Least] {
            cases.push(with(&large, router, true));
        }
        cases.push(Settings { bounces: 1, ..large.clone() });
        cases.push(Settings { policy: Policy::Pack, ..large });
    }
    cases
}

#[cfg(test)]
mod tests;
