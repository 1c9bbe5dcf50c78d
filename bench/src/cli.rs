//! The command line of `baton-bench`.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::app::{Isolation, Wake};
use crate::courier::{self, Road};
use crate::load::{Load, Pace, Plan, Until};
use crate::proc;
use crate::report::Report;
use crate::suites::{self, FunctionsOptions, Options, SoakOptions, SuiteError};
use crate::systems::Setup;
use crate::yardstick;

/// Calls of `functions`, at most.
const CALLS_MAX: u64 = 10_000_000;

/// What measures.
type Suite = fn(&Options) -> Result<Report, SuiteError>;

/// Measure Baton against its yardsticks.
#[derive(Debug, Parser)]
#[command(name = "baton-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A hello function behind the gateway against a bare hyper server
    Http(SuiteArgs),
    /// One function calling another, 64 B to 64 MiB, against futex, Unix socket and gRPC
    Hop(WakeArgs),
    /// What a chain of two functions costs in copies, context switches, interrupts, passes through the network and system
    /// calls, counted, against gRPC with and without nginx sidecars
    Audit(WakeArgs),
    /// The Online Boutique against the same functions as ten gRPC services
    Boutique(WakeArgs),
    /// New replicas, new cells and first loads against starting a process; what a reset and a further cell cost
    Coldstart(ColdstartArgs),
    /// Replicas that come and go by load: a step from none, functions at rest, a trace
    Scale(SuiteArgs),
    /// Payloads between functions of two nodes, against stores, HTTP, a bare connection and `iperf3`; the boutique over two
    Transfer(RunArgs),
    /// A component that says hello, against `wasmtime serve` and workerd
    Components(RunArgs),
    /// An unmodified Python function for AWS Lambda, against a bare `awslambdaric` loop
    Lambda(RunArgs),
    /// A NumPy array between functions in Python, against a pickle over a socket, Redis and files behind nginx
    Python(RunArgs),
    /// A frame of 64 MiB through five functions in Rust and Python, against hand-overs by Redis and files behind nginx
    Vision(RunArgs),
    /// Policies in the path of requests, against nginx as a sidecar
    Sidecar(RunArgs),
    /// Versions that change while requests come, at 70 % of what the node can do
    Deploy(SuiteArgs),
    /// The boutique with request log, metrics and traces, against itself without
    Observability(SuiteArgs),
    /// A thousand functions at rest on one node, and a page of their metrics
    Rest(SuiteArgs),
    /// The boutique under load for minutes; fails unless memory and buffers come back
    Soak(SoakArgs),
    /// Thousands of distinct Wasm functions on one node, called at random; fails unless every answer is right
    Functions(FunctionsArgs),
    /// Load any URL and print what came of it
    Load(LoadArgs),
    /// One side of a ping-pong between two processes
    #[command(hide = true)]
    Yardstick(YardstickArgs),
    /// One side of a payload's way through a store
    #[command(hide = true)]
    Courier(CourierArgs),
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The app to deploy, if not the suite's own
    #[arg(long, value_name = "DIR")]
    app: Option<PathBuf>,
    /// The `baton` program, if not the one beside this
    #[arg(long, value_name = "FILE")]
    baton: Option<PathBuf>,
    /// The gRPC yardstick, if not the one beside this
    #[arg(long, value_name = "FILE")]
    grpc: Option<PathBuf>,
    /// Let Baton record receipts
    #[arg(long)]
    receipts: bool,
}

#[derive(Debug, Args)]
struct SuiteArgs {
    /// The isolation settings of Baton's functions; of several, all are measured in one run
    #[arg(long, value_enum, value_name = "LIST", default_value = "process", value_delimiter = ',')]
    isolation: Vec<Isolation>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct WakeArgs {
    /// How process replicas hand over; of several, all are measured in one run [default: `boutique` ring, others both]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    wake: Vec<Wake>,
    #[command(flatten)]
    suite: SuiteArgs,
}

#[derive(Debug, Args)]
struct ColdstartArgs {
    /// The isolation settings whose cells start: `compartment`, `wasm` or both
    #[arg(long, value_enum, value_name = "LIST", default_value = "compartment", value_delimiter = ',')]
    isolation: Vec<Isolation>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Be done in 40 seconds
    #[arg(long)]
    quick: bool,
    /// Interleaved rounds, at least three [default: 5, quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=99))]
    rounds: Option<u32>,
    /// How long each sample is measured; without it the suite decides
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(5..=600_000))]
    sample_ms: Option<u64>,
}

#[derive(Debug, Args)]
struct SoakArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The isolation setting of Baton's functions
    #[arg(long, value_enum, default_value = "process")]
    isolation: Isolation,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The share of the capacity
    #[arg(long, default_value_t = 0.7)]
    load: f64,
}

#[derive(Debug, Args)]
struct FunctionsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Be done in 40 seconds: with 256 functions, unless told otherwise
    #[arg(long)]
    quick: bool,
    /// How many functions [default: 10000, quick 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    functions: Option<u32>,
    /// How long they are called at most, seconds [default: 120, quick 5]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Callers at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    callers: u32,
    /// Draws the functions that are called
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// For example `127.0.0.1:8080/cart`
    target: String,
    /// Connections
    #[arg(short, long, default_value_t = 16)]
    connections: u32,
    /// How long
    #[arg(short, long, default_value_t = 3.0)]
    seconds: f64,
    /// Requests per second (open loop); closed loop without
    #[arg(short, long)]
    rate: Option<f64>,
    /// The core to stay on
    #[arg(long)]
    core: Option<usize>,
}

#[derive(Debug, Args)]
struct YardstickArgs {
    /// `futex`, `uds`, `broker`, `memcpy` or `peer`
    kind: String,
    /// What a peer answers
    of: Option<String>,
    #[arg(long, default_value_t = 64)]
    payload: usize,
    #[arg(long, default_value_t = 1000)]
    iterations: u64,
    #[arg(long, default_value_t = 1)]
    batch: u64,
}

#[derive(Debug, Args)]
struct CourierArgs {
    /// `produce` or `consume`
    side: String,
    /// `tcp`, or `redis`, `s3`, `dav` or `function` with `=ADDRESS:PORT`
    #[arg(long)]
    road: Road,
    /// Where producers tell the consumer
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The consumer that the producer tells
    #[arg(long)]
    consumer: Option<SocketAddr>,
    #[arg(long, default_value_t = 4096)]
    payload: usize,
    #[arg(long, default_value_t = 100)]
    iterations: u64,
}

/// Runs the program; the exit code is 0 done, 1 failed, 2 bad usage.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Verb::Http(args) => run_suite(&args.run, &args.isolation, suites::http),
        Verb::Hop(args) => run_of(&args, suites::hop),
        Verb::Audit(args) => run_of(&args, suites::audit),
        Verb::Boutique(args) => run_of(&args, suites::boutique),
        Verb::Coldstart(args) => run_suite(&args.run, &args.isolation, suites::coldstart),
        Verb::Scale(args) => run_suite(&args.run, &args.isolation, suites::scale),
        Verb::Components(args) => run_suite(&args, &[Isolation::Wasm], suites::components),
        Verb::Transfer(args) => run_suite(&args, &[Isolation::Process], suites::transfer),
        Verb::Lambda(args) => run_suite(&args, &[Isolation::Process], suites::lambda),
        Verb::Python(args) => run_suite(&args, &[Isolation::Process], suites::python),
        Verb::Vision(args) => run_suite(&args, &[Isolation::Process], suites::vision),
        Verb::Sidecar(args) => run_suite(&args, &[Isolation::Process], suites::sidecar),
        Verb::Deploy(args) => run_suite(&args.run, &args.isolation, suites::deploy),
        Verb::Observability(args) => run_suite(&args.run, &args.isolation, suites::observability),
        Verb::Rest(args) => run_suite(&args.run, &args.isolation, suites::rest),
        Verb::Soak(args) => run_soak(&args),
        Verb::Functions(args) => run_functions(&args),
        Verb::Load(args) => run_load(&args),
        Verb::Yardstick(args) => run_yardstick(&args),
        Verb::Courier(args) => run_courier(&args),
    };
    result.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}

fn options(common: &CommonArgs, isolations: &[Isolation], quick: bool) -> Options {
    let mut setup = Setup::default_here();
    setup.baton = common.baton.clone().unwrap_or(setup.baton);
    setup.grpc = common.grpc.clone().unwrap_or(setup.grpc);
    setup.receipts = common.receipts;
    let mut isolations = isolations.to_vec();
    isolations.sort_unstable();
    isolations.dedup();
    Options {
        setup,
        isolations,
        wakes: Vec::new(),
        quick,
        rounds: if quick { 3 } else { 5 },
        sample: None,
        app: common.app.clone(),
    }
}

fn run_of(args: &WakeArgs, suite: Suite) -> Result<ExitCode, String> {
    let mut options = run_options(&args.suite.run, &args.suite.isolation);
    options.wakes = args.wake.clone();
    options.wakes.sort_unstable();
    options.wakes.dedup();
    run_with(&args.suite.run, &options, suite)
}

fn run_suite(args: &RunArgs, isolations: &[Isolation], suite: Suite) -> Result<ExitCode, String> {
    run_with(args, &run_options(args, isolations), suite)
}

fn run_options(args: &RunArgs, isolations: &[Isolation]) -> Options {
    let mut options = options(&args.common, isolations, args.quick);
    options.rounds = args.rounds.and_then(|rounds| usize::try_from(rounds).ok()).unwrap_or(options.rounds);
    options.sample = args.sample_ms.map(Duration::from_millis);
    options
}

fn run_with(args: &RunArgs, options: &Options, suite: Suite) -> Result<ExitCode, String> {
    let mut report = suite(options).map_err(|error| error.to_string())?;
    if options.setup.server_core == options.setup.load_core {
        report.notes.push("there is one core only: the load generator shares it with the servers".into());
    }
    print(&report.table())?;
    if let Some(path) = &args.common.json {
        report.write_json(path).map_err(|error| unwritten(path, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_soak(args: &SoakArgs) -> Result<ExitCode, String> {
    let fine = args.minutes > 0.0 && args.minutes <= 1440.0 && args.load > 0.0 && args.load <= 1.0;
    if !fine {
        eprintln!(
            "error: --minutes has to be more than 0 and at most 1440, --load more than 0 and at most 1"
        );
        return Ok(ExitCode::from(2));
    }
    let soak = SoakOptions { duration: Duration::from_secs_f64(args.minutes * 60.0), load: args.load };
    let options = options(&args.common, &[args.isolation], false);
    let verdict = suites::soak(&options, soak).map_err(|error| error.to_string())?;
    if let Some(path) = &args.common.json {
        let text = serde_json::to_string_pretty(&verdict).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| unwritten(path, &error))?;
    }
    let [p50, p99, p999] = verdict.latency_us;
    print(&format!(
        "soak: {} requests at {:.0}/s of {:.0}/s; p50 {p50:.0} µs, p99 {p99:.0} µs, p99.9 {p999:.0} µs; {} errors; \
         {} looks; buffers left: {}\n",
        verdict.answered,
        verdict.offered_rps,
        verdict.capacity_rps,
        verdict.errors.total(),
        verdict.looks.len(),
        verdict.buffers_left.map_or_else(|| "unknown".into(), |left| left.to_string()),
    ))?;
    for problem in &verdict.problems {
        eprintln!("failed: {problem}");
    }
    Ok(if verdict.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_functions(args: &FunctionsArgs) -> Result<ExitCode, String> {
    let (functions, seconds) = if args.quick { (256, 5) } else { (10_000, 120) };
    let functions = FunctionsOptions {
        functions: args.functions.unwrap_or(functions),
        calls_for: Duration::from_secs(args.seconds.unwrap_or(seconds)),
        calls_max: CALLS_MAX,
        callers: args.callers,
        seed: args.seed,
    };
    let options = options(&args.common, &[Isolation::Compartment], args.quick);
    let books = suites::functions(&options.setup, functions).map_err(|error| error.to_string())?;
    if let Some(path) = &args.common.json {
        let text = serde_json::to_string_pretty(&books).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| unwritten(path, &error))?;
    }
    print(&books.text())?;
    if let Some(error) = &books.first_error {
        eprintln!("failed: {error}");
    }
    Ok(if books.errors == 0 && books.functions_called > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_load(args: &LoadArgs) -> Result<ExitCode, String> {
    let (address, path) = target(&args.target).ok_or("the target has to look like 127.0.0.1:8080/path")?;
    if let Some(core) = args.core {
        proc::pin(core).map_err(|error| error.to_string())?;
    }
    let plans = vec![Plan::get(address, &path); usize::try_from(args.connections).unwrap_or(1)];
    let mut load = Load::open(address, plans).map_err(|error| error.to_string())?;
    let pace = args.rate.map_or(Pace::Closed, Pace::Open);
    let outcome = load.run(pace, Until::Elapsed(Duration::from_secs_f64(args.seconds.clamp(0.01, 86_400.0))));
    print(&format!(
        "{:.0} requests/s, p50 {:.1} µs, p99 {:.1} µs, {} bytes each; {:?}\n",
        outcome.rate(),
        outcome.quantile_us(0.5),
        outcome.quantile_us(0.99),
        outcome.body_bytes / outcome.answered.max(1),
        outcome.errors
    ))?;
    Ok(if outcome.errors.total() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(text: &str) -> Option<(SocketAddr, String)> {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    Some((host.to_socket_addrs().ok()?.next()?, format!("/{path}")))
}

fn run_yardstick(args: &YardstickArgs) -> Result<ExitCode, String> {
    let trips = match (args.kind.as_str(), args.of.as_deref()) {
        ("futex", None) => yardstick::futex(args.iterations),
        ("uds", None) => yardstick::uds(args.payload, args.iterations),
        ("broker", None) => yardstick::broker(args.payload, args.iterations),
        ("memcpy", None) => yardstick::memcpy(args.payload, args.iterations, args.batch),
        ("peer", Some(of @ ("futex" | "uds" | "broker" | "broker-callee"))) => {
            let done = yardstick::peer(of, args.payload).map(|()| ExitCode::SUCCESS);
            return done.map_err(|error| error.to_string());
        }
        _ => return Ok(ExitCode::from(2)),
    };
    let trips = trips.map_err(|error| error.to_string())?;
    print(&format!("{}\n", serde_json::to_string(&trips).map_err(|error| error.to_string())?))?;
    Ok(ExitCode::SUCCESS)
}

fn run_courier(args: &CourierArgs) -> Result<ExitCode, String> {
    let failed = |error: std::io::Error| format!("{} by {}: {error}", args.side, args.road);
    match args.side.as_str() {
        "consume" => courier::consume(args.listen, args.road).map_err(failed)?,
        "produce" => {
            let trips = courier::produce(args.consumer, args.road, args.payload, args.iterations);
            let trips = trips.map_err(failed)?;
            print(&format!("{}\n", serde_json::to_string(&trips).map_err(|error| error.to_string())?))?;
        }
        _ => return Ok(ExitCode::from(2)),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}

fn unwritten(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["baton-bench", "http", "--rounds", "2"]).is_err());
        assert!(
            Cli::try_parse_from(["baton-bench", "boutique", "--isolation", "process", "--quick"]).is_ok()
        );
        assert!(Cli::try_parse_from(["baton-bench", "soak", "--isolation", "process,compartment"]).is_err());
    }

    #[test]
    fn isolations_are_listed_or_repeated() {
        for words in [
            "--isolation compartment,process",
            "--isolation process --isolation compartment --isolation process",
        ] {
            let line = ["baton-bench", "hop"].into_iter().chain(words.split(' '));
            let Verb::Hop(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            let options = options(&args.suite.run.common, &args.suite.isolation, true);
            assert_eq!(options.isolations, [Isolation::Process, Isolation::Compartment]);
        }
    }

    #[test]
    fn targets_are_addresses_with_paths() {
        assert_eq!(target("http://127.0.0.1:80/a/b").unwrap().1, "/a/b");
        assert_eq!(target("127.0.0.1:80").unwrap().1, "/");
        assert!(target("nowhere").is_none());
    }
}
