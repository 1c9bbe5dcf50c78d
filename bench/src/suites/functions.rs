//! `functions`: very many distinct Wasm functions on one node, called at random.
//!
//! ```text
//!   make N modules, each with a number and code of its own ─▶ deploy them, 64 an app ─▶ calls of functions drawn at random,
//!   each answer compared with its function's number ─▶ rest until the cells are gone ─▶ the books
//! ```
//! The node has the machine to itself but for the callers, who wait for each answer. It holds if every answer is right.

mod calls;
mod memory;
mod modules;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::systems::{self, Fleet, Setup, SystemError};

use self::calls::Called;
pub use self::memory::{Disk, Look, Memory};
use super::{SuiteError, say};

/// Functions of one app, as many as an app may have.
const APP_FUNCTIONS_MAX: u32 = 64;
/// How often the node is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a cell without work stays, in the manifests.
const IDLE_SECONDS: u64 = 10;
/// A cell that is idle is found so late, and its end takes so long.
const IDLE_SLACK: Duration = Duration::from_secs(6);

/// What the suite shall do.
#[derive(Debug, Clone, Copy)]
pub struct FunctionsOptions {
    /// How many functions.
    pub functions: u32,
    /// How long they are called at most.
    pub calls_for: Duration,
    /// How many calls there are at most.
    pub calls_max: u64,
    /// Callers at once.
    pub callers: u32,
    /// Draws the functions that are called.
    pub seed: u64,
}

/// Latencies of a kind of call, microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// How many.
    pub calls: u64,
    /// The median.
    pub p50_us: f64,
    /// One in a hundred is slower.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Latency {
    fn of(times_us: &Histogram<u64>) -> Self {
        let at = |quantile| times_us.value_at_quantile(quantile) as f64;
        Self { calls: times_us.len(), p50_us: at(0.5), p99_us: at(0.99), max_us: times_us.max() as f64 }
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Books {
    /// The suite's name, as in every report.
    pub bench: &'static str,
    /// Functions, in so many apps.
    pub functions: u32,
    /// Apps.
    pub apps: u32,
    /// Seconds until all were deployed.
    pub deploy_s: f64,
    /// Functions deployed a second.
    pub deploys_per_s: f64,
    /// The slowest deployment of an app, seconds.
    pub deploy_max_s: f64,
    /// Seconds of calls.
    pub calls_s: f64,
    /// Functions that were called at all.
    pub functions_called: u64,
    /// First calls of a function.
    pub first: Latency,
    /// All further calls.
    pub further: Latency,
    /// Calls without the right answer.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Memory before the first deployment, after the last, after the calls, and when the cells are gone.
    pub memory: [Memory; 4],
    /// The state directory after all of it.
    pub disk: Disk,
    /// All looks, in order.
    pub looks: Vec<Look>,
}

/// Runs the suite.
pub fn run(setup: &Setup, options: FunctionsOptions) -> Result<Books, SuiteError> {
    let apps = options.functions.div_ceil(APP_FUNCTIONS_MAX);
    let directory = tempfile::tempdir().map_err(SystemError::State)?;
    for app in 0..apps {
        modules::write(&directory.path().join(app.to_string()), app, options.functions)
            .map_err(SystemError::State)?;
    }
    say(format_args!("{} modules are made", options.functions));
    let node = systems::start_node(setup, "functions")?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&node, &over));
        let books = measure(setup, &node, directory.path(), (options, apps));
        over.store(true, Ordering::Relaxed);
        let looks = watcher.join().unwrap_or_default();
        books.map(|books| Books { looks, ..books })
    })
}

fn measure(
    setup: &Setup,
    node: &Fleet,
    directory: &Path,
    (options, apps): (FunctionsOptions, u32),
) -> Result<Books, SuiteError> {
    let empty = memory::of(node)?;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for app in 0..apps {
        let ordered = Instant::now();
        systems::deploy_directory(setup, node, &directory.join(app.to_string()))?;
        slowest = slowest.max(ordered.elapsed());
        if (app + 1).is_multiple_of(10) {
            say(format_args!("{} of {apps} apps after {:.0} s", app + 1, begun.elapsed().as_secs_f64()));
        }
    }
    let deploy_s = begun.elapsed().as_secs_f64();
    let deployed = memory::of(node)?;
    say(format_args!("deployed in {deploy_s:.0} s; calling"));
    let begun = Instant::now();
    let Called { first, further, errors, first_error, functions } = calls::run(node.address, options)?;
    let calls_s = begun.elapsed().as_secs_f64();
    let called = memory::of(node)?;
    say(format_args!("called for {calls_s:.0} s; waiting for the cells to end"));
    thread::sleep(Duration::from_secs(IDLE_SECONDS) + IDLE_SLACK);
    Ok(Books {
        bench: "functions",
        functions: options.functions,
        apps,
        deploy_s,
        deploys_per_s: f64::from(options.functions) / deploy_s,
        deploy_max_s: slowest.as_secs_f64(),
        calls_s,
        functions_called: functions,
        first: Latency::of(&first),
        further: Latency::of(&further),
        errors,
        first_error,
        memory: [empty, deployed, called, memory::of(node)?],
        disk: memory::disk(node),
        looks: Vec::new(),
    })
}

/// Looks at the node at regular times until all is over.
fn watch(node: &Fleet, over: &AtomicBool) -> Vec<Look> {
    let begun = Instant::now();
    let mut looks = Vec::new();
    let mut next = begun;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        if Instant::now() < next {
            continue;
        }
        next += LOOK_EVERY;
        let Ok(usage) = node.usage() else { break };
        looks.push(Look {
            at_s: begun.elapsed().as_secs_f64(),
            node_rss_kib: usage.root_rss_kib,
            tree_rss_kib: usage.rss_kib,
            processes: usage.processes,
        });
    }
    looks
}

impl Books {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let latency = |what: &str, of: &Latency| {
            format!(
                "  {what:<14}{:>9} calls, p50 {:.0} µs, p99 {:.0} µs, slowest {:.0} µs\n",
                of.calls, of.p50_us, of.p99_us, of.max_us
            )
        };
        let mib = |kib: u64| kib as f64 / 1024.0;
        let memory = |what: &str, of: &Memory| {
            format!(
                "  {what:<14}node {:.0} MiB, cells {:.0} MiB ({} processes), {} descriptors of the node\n",
                mib(of.node_kib),
                mib(of.cells_kib),
                of.processes,
                of.descriptors
            )
        };
        let [empty, deployed, called, rested] = &self.memory;
        let mut text = format!(
            "functions: {} in {} apps, deployed in {:.1} s ({:.0}/s, slowest app {:.2} s)\n",
            self.functions, self.apps, self.deploy_s, self.deploys_per_s, self.deploy_max_s
        );
        text += &format!(
            "calls, drawn at random, for {:.1} s: {} functions called, {} errors\n",
            self.calls_s, self.functions_called, self.errors
        );
        text += &(latency("first of a function", &self.first) + &latency("further", &self.further));
        text += "memory, pages that several processes have counted once:\n";
        text += &(memory("empty", empty) + &memory("deployed", deployed));
        text += &(memory("called", called) + &memory("at rest", rested));
        text += &self.disk.text();
        text
    }
}
