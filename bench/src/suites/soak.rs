//! `soak`: the boutique at a share of its capacity for minutes, then the books are checked.
//!
//! It holds if there was no error, if resident memory is flat (the median of the last third is at most 1.1 × that of
//! the first), and if every buffer that was in use is back once the load has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::app::Isolation;
use crate::boutique::{Case, Shop};
use crate::load::{Errors, Load, Outcome, Pace, Until, get};
use crate::proc;
use crate::report::median;
use crate::systems::{self, Admin, Fleet};

use super::boutique::{APP, open_shop};
use super::{Options, SuiteError, say};

const CONNECTIONS: u32 = 64;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const SAMPLES_MIN: u32 = 12;
/// The longest look for the capacity.
const CAPACITY_RUN_MAX: Duration = Duration::from_secs(5);
const GROWTH_MAX: f64 = 1.1;
/// How long buffers may take to come back after the last answer.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// What the soak shall do.
#[derive(Debug, Clone, Copy)]
pub struct SoakOptions {
    /// How long.
    pub duration: Duration,
    /// The share of the capacity, 0 to 1.
    pub load: f64,
}

/// One look at the node while it works.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Look {
    /// Seconds since the start.
    pub at_s: f64,
    /// Resident memory of the node alone.
    pub node_rss_kib: u64,
    /// Resident memory of the node and its replicas.
    pub tree_rss_kib: u64,
    /// Buffers in use, if the node said.
    pub buffers_in_use: Option<u64>,
}

impl Look {
    fn node_rss(&self) -> f64 {
        self.node_rss_kib as f64
    }

    fn tree_rss(&self) -> f64 {
        self.tree_rss_kib as f64
    }
}

/// How the soak ended.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The suite's name, as in every report.
    pub bench: &'static str,
    /// Requests per second at full load.
    pub capacity_rps: f64,
    /// Requests per second that were asked for.
    pub offered_rps: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// What went wrong.
    pub errors: Errors,
    /// Latencies in microseconds: p50, p99, p99.9.
    pub latency_us: [f64; 3],
    /// The last unexpected status.
    pub last_status: Option<u16>,
    /// Buffers in use after the load; the empty ones in replicas' stashes are not.
    pub buffers_left: Option<u64>,
    /// All looks, in order.
    pub looks: Vec<Look>,
    /// Why it does not hold; empty if it does.
    pub problems: Vec<String>,
}

/// Runs the soak.
pub fn run(options: &Options, soak: SoakOptions) -> Result<Verdict, SuiteError> {
    let isolation = options.isolations.first().copied().unwrap_or(Isolation::Process);
    let app = options.build(APP)?;
    let name = app.name().to_owned();
    let app = app.isolated(isolation).map_err(systems::SystemError::App)?;
    let node = systems::start_app(&options.setup, isolation.system(), &app)?;
    let shop = open_shop(&node.system, node.address)?;
    proc::pinned(Some(options.setup.load_core), || measure(&node, &name, &shop, soak))?
}

fn measure(node: &Fleet, app: &str, shop: &Shop, soak: SoakOptions) -> Result<Verdict, SuiteError> {
    let mut load = Load::open(node.address, shop.plans(Case::Mix, CONNECTIONS, 0))?;
    let full = load.run(Pace::Closed, Until::Elapsed(CAPACITY_RUN_MAX.min(soak.duration)));
    let rate = full.rate() * soak.load;
    say(format_args!("capacity {:.0}/s, soaking at {rate:.0}/s", full.rate()));
    let over = AtomicBool::new(false);
    let (outcome, looks) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(node, app, soak.duration, &over));
        let outcome = load.run(Pace::Open(rate), Until::Elapsed(soak.duration));
        over.store(true, Ordering::Relaxed);
        (outcome, watcher.join().unwrap_or_default())
    });
    drop(load);
    let buffers_left = settle(node, app);
    let mut errors = full.errors;
    errors.add(&outcome.errors);
    let problems = judge(&outcome, &errors, &looks, buffers_left, node.usage().is_ok());
    Ok(Verdict {
        bench: "soak",
        capacity_rps: full.rate(),
        offered_rps: rate,
        answered: outcome.answered,
        errors,
        latency_us: [0.5, 0.99, 0.999].map(|quantile| outcome.quantile_us(quantile)),
        last_status: outcome.last_status.or(full.last_status),
        buffers_left,
        looks,
        problems,
    })
}

/// Looks at the node at regular times until the load is over.
fn watch(node: &Fleet, app: &str, duration: Duration, over: &AtomicBool) -> Vec<Look> {
    let begun = Instant::now();
    let every = SAMPLE_EVERY.min(duration / SAMPLES_MIN);
    let mut looks = Vec::new();
    let mut next = begun + every;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        if Instant::now() < next {
            continue;
        }
        next += every;
        let Ok(usage) = node.usage() else { break };
        looks.push(Look {
            at_s: begun.elapsed().as_secs_f64(),
            node_rss_kib: usage.root_rss_kib,
            tree_rss_kib: usage.rss_kib,
            buffers_in_use: node.admin.as_ref().and_then(|admin| buffers_held(admin, app)),
        });
    }
    looks
}

/// Waits for the last buffers to come back; returns how many did not.
fn settle(node: &Fleet, app: &str) -> Option<u64> {
    let admin = node.admin.as_ref()?;
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let left = buffers_held(admin, app);
        if left == Some(0) || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn buffers_held(admin: &Admin, app: &str) -> Option<u64> {
    let ask = |path: &str| -> Option<Value> {
        let answer = get(admin.address, path, Some(&admin.token), Duration::from_secs(5)).ok()?;
        serde_json::from_slice(&answer.body).ok()
    };
    let direct = ask(&format!("/v1/apps/{app}/pool")).and_then(|pool| held_in(&pool));
    direct.or_else(|| held_in(pool_in(&ask("/v1/apps")?, app)?))
}

/// An app's pool in the list of apps.
fn pool_in<'a>(list: &'a Value, app: &str) -> Option<&'a Value> {
    list.get("apps")?.as_array()?.iter().find(|entry| entry["app"] == app)?.get("pool")
}

/// Buffers that carry something, and those without an owner; the empty ones in replicas' stashes are neither.
fn held_in(pool: &Value) -> Option<u64> {
    let number = |name: &str| pool.get(name).and_then(Value::as_u64);
    Some(number("buffers_in_use")? + number("orphans").unwrap_or(0))
}

fn judge(
    outcome: &Outcome,
    errors: &Errors,
    looks: &[Look],
    buffers: Option<u64>,
    alive: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    if !alive {
        problems.push("the node has ended".into());
    }
    if outcome.answered == 0 {
        problems.push("no request was answered".into());
    }
    if errors.total() > 0 {
        problems.push(format!("{} errors: {errors:?}", errors.total()));
    }
    match buffers {
        Some(0) => {}
        Some(left) => problems.push(format!("{left} buffers did not come back")),
        None => problems.push("the node does not say how many buffers are in use".into()),
    }
    for (whose, memory) in
        [("the node", Look::node_rss as fn(&Look) -> f64), ("node and replicas", Look::tree_rss)]
    {
        match growth(&looks.iter().map(memory).collect::<Vec<_>>()) {
            Some(growth) if growth <= GROWTH_MAX => {}
            Some(growth) => {
                problems.push(format!("resident memory of {whose} grew to {growth:.2} × its first third"))
            }
            None => problems.push("too few looks at resident memory".into()),
        }
    }
    problems
}

/// The median of the last third over that of the first.
fn growth(values: &[f64]) -> Option<f64> {
    let third = values.len() / 3;
    let first = median(values.get(..third)?.to_vec())?;
    let last = median(values.get(values.len() - third..)?.to_vec())?;
    Some(last / first.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_compares_the_thirds() {
        assert_eq!(growth(&[100.0, 100.0, 300.0, 300.0, 110.0, 110.0]), Some(1.1));
        assert_eq!(growth(&[1.0]), None);
    }

    #[test]
    fn stashed_buffers_are_not_in_use_and_orphans_are() {
        let pool =
            serde_json::json!({"buffers_out": 9, "buffers_stashed": 3, "buffers_in_use": 5, "orphans": 1});
        assert_eq!(held_in(&pool), Some(6));
        assert_eq!(held_in(&serde_json::json!({"buffers_in_use": 0})), Some(0));
        assert_eq!(held_in(&serde_json::json!({})), None);
        let list = serde_json::json!({"apps": [{"app": "other", "pool": {}}, {"app": "shop", "pool": pool}], "failed": []});
        assert_eq!(pool_in(&list, "shop").and_then(held_in), Some(6));
        assert_eq!(pool_in(&list, "nobody"), None);
    }
}
