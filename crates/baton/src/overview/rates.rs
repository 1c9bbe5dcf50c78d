//! Two moments make rates.

use std::collections::{BTreeMap, BTreeSet};

use baton_control::GATEWAY;
use serde::Serialize;

use super::{App, Edge, Function, Overview};
use crate::failure::Failure;

/// What went on between two moments. What cannot be told is `None`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rates {
    /// When, milliseconds since the node's start.
    pub(crate) at_ms: u64,
    /// Seconds that the rates are taken over.
    pub(crate) seconds: f64,
    /// Invocations each second.
    pub(crate) requests_per_s: f64,
    /// Of these, ones that failed.
    pub(crate) failures_per_s: f64,
    /// Invocations in flight.
    pub(crate) in_flight: u64,
    /// CPU time of the node's process and of all replicas, in cores.
    pub(crate) cpu_cores: f64,
    /// Of this, the node's process.
    pub(crate) node_cpu_cores: f64,
    /// By app and name.
    pub(crate) functions: Vec<FunctionRates>,
    /// By app, caller and callee.
    pub(crate) edges: Vec<EdgeRates>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FunctionRates {
    pub(crate) app: String,
    pub(crate) function: String,
    pub(crate) runs_as: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) calls_per_s: f64,
    pub(crate) errors_per_s: f64,
    /// Latencies of requests from outside.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    /// Mean time of all calls.
    pub(crate) mean_ns: Option<u64>,
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    pub(crate) replicas: u64,
    pub(crate) ready: u64,
    /// In cores; `None` where it shares a cell with others.
    pub(crate) cpu_cores: Option<f64>,
    /// Whether a replica of it waits to be started again after dying.
    pub(crate) ailing: bool,
}

/// Calls of one function by another, or by the gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EdgeRates {
    pub(crate) app: String,
    pub(crate) caller: String,
    pub(crate) callee: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) calls_per_s: f64,
    pub(crate) errors_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Mean time of a call.
    pub(crate) mean_ns: Option<u64>,
    /// Whether the kernel hands over, and counts.
    pub(crate) by_kernel: bool,
    /// What it refused.
    pub(crate) refusals: u64,
}

/// Two moments, and how long lies between them.
struct Between<'a> {
    now: &'a Overview,
    before: &'a Overview,
    seconds: f64,
    users: BTreeMap<u32, usize>,
}

impl Rates {
    /// What went on from `before` to `now`; of another start of the node, all of it.
    pub(crate) fn between(before: &Overview, now: &Overview) -> Self {
        let restarted = before.node.pid != now.node.pid || before.at_ms >= now.at_ms;
        let millis = if restarted { now.at_ms } else { now.at_ms - before.at_ms };
        let seconds = (millis.max(1) as f64) / 1000.0;
        let nothing = Overview { apps: Vec::new(), processes: Vec::new(), ..before.clone() };
        let before = if restarted { &nothing } else { before };
        let between = Between { now, before, seconds, users: now.users() };
        let pids: BTreeSet<u32> = between.users.keys().copied().collect();
        let node_cpu_cores = between.cpu(now.node.pid);
        let was = |of: fn(&super::Totals) -> u64| if restarted { 0 } else { of(&before.totals) };
        Self {
            at_ms: now.at_ms,
            seconds,
            requests_per_s: between.per_second(now.totals.invocations, was(|totals| totals.invocations)),
            failures_per_s: between.per_second(now.totals.failures, was(|totals| totals.failures)),
            in_flight: now.totals.in_flight,
            cpu_cores: node_cpu_cores + pids.iter().map(|&pid| between.cpu(pid)).sum::<f64>(),
            node_cpu_cores,
            functions: now.apps.iter().flat_map(|app| between.functions(app)).collect(),
            edges: now.apps.iter().flat_map(|app| between.edges(app)).collect(),
        }
    }

    /// Leaves only what is about one app; fails if there is no such app.
    pub(crate) fn only(&mut self, app: Option<&str>) -> Result<(), Failure> {
        let Some(app) = app else { return Ok(()) };
        self.functions.retain(|function| function.app == app);
        self.edges.retain(|edge| edge.app == app);
        if self.functions.is_empty() {
            return Err(Failure::failed(format_args!("no app {app} runs"), "`baton ps` lists what runs"));
        }
        Ok(())
    }
}

impl Between<'_> {
    /// Counters that fell began anew.
    fn per_second(&self, now: u64, before: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.seconds
    }

    fn cpu(&self, pid: u32) -> f64 {
        let of = |overview: &Overview| overview.processes.iter().find(|p| p.pid == pid).map(|p| p.cpu_ms);
        match (of(self.now), of(self.before)) {
            (Some(now), Some(before)) => self.per_second(now, before) / 1000.0,
            _ => 0.0,
        }
    }

    /// The same app before, if it was the same version.
    fn app_before(&self, app: &App) -> Option<&App> {
        self.before.apps.iter().find(|old| old.app == app.app && old.version == app.version)
    }

    fn edges(&self, app: &App) -> Vec<EdgeRates> {
        let old = self.app_before(app);
        let find =
            |edge: &Edge| old?.edges.iter().find(|e| e.caller == edge.caller && e.callee == edge.callee);
        let rates = |edge: &Edge| {
            let was = find(edge);
            let grown = |of: fn(&Edge) -> u64| of(edge).saturating_sub(was.map_or(0, of));
            EdgeRates {
                app: app.app.clone(),
                caller: edge.caller.clone(),
                callee: edge.callee.clone(),
                calls: edge.calls,
                errors: edge.errors,
                calls_per_s: grown(|e| e.calls) as f64 / self.seconds,
                errors_per_s: grown(|e| e.errors) as f64 / self.seconds,
                bytes_per_s: grown(|e| e.bytes_handed) as f64 / self.seconds,
                mean_ns: mean(edge, grown(|e| e.calls), grown(|e| e.busy_ns)),
                by_kernel: edge.by_kernel,
                refusals: edge.refusals,
            }
        };
        app.edges.iter().map(rates).collect()
    }

    fn functions(&self, app: &App) -> Vec<FunctionRates> {
        let old = self.app_before(app);
        let edges = self.edges(app);
        let rates = |function: &Function| {
            let was = old.and_then(|old| old.functions.iter().find(|f| f.function == function.function));
            let into: Vec<&EdgeRates> = edges.iter().filter(|e| e.callee == function.function).collect();
            let sum = |of: fn(&EdgeRates) -> f64| into.iter().map(|edge| of(edge)).sum::<f64>();
            // What the node passed on, and what functions called of each other without it: the larger has the other in it.
            let calls = self.per_second(function.calls, was.map_or(0, |f| f.calls));
            let errors = self.per_second(function.errors, was.map_or(0, |f| f.errors));
            let calls_per_s = calls.max(sum(|e| e.calls_per_s));
            let timed = sum(|e| e.mean_ns.map_or(0.0, |ns| ns as f64 * e.calls_per_s));
            let weight = sum(|e| e.mean_ns.map_or(0.0, |_| e.calls_per_s));
            let buckets = grown(&function.latency.buckets, was.map(|f| f.latency.buckets.as_slice()));
            FunctionRates {
                app: app.app.clone(),
                function: function.function.clone(),
                runs_as: function.runs_as.clone(),
                calls: function.calls.max(into.iter().map(|edge| edge.calls).sum()),
                errors: function.errors.max(into.iter().map(|edge| edge.errors).sum()),
                calls_per_s,
                errors_per_s: errors.max(sum(|e| e.errors_per_s)),
                p50_ns: quantile(&buckets, 50),
                p99_ns: quantile(&buckets, 99),
                mean_ns: (weight > 0.0).then(|| whole(timed / weight)),
                in_flight: function.replicas.iter().map(|replica| u64::from(replica.in_flight)).sum(),
                queued: u64::from(function.queued),
                replicas: function.replicas.len() as u64,
                ready: function.replicas.iter().filter(|replica| replica.state == "ready").count() as u64,
                cpu_cores: self.own_cpu(function),
                ailing: function.replicas.iter().any(|replica| replica.state == "backoff"),
            }
        };
        app.functions.iter().map(rates).collect()
    }

    fn own_cpu(&self, function: &Function) -> Option<f64> {
        let pids: BTreeSet<u32> = function.replicas.iter().map(|replica| replica.pid).collect();
        let own = !pids.is_empty() && pids.iter().all(|pid| self.users.get(pid) == Some(&1));
        own.then(|| pids.iter().map(|&pid| self.cpu(pid)).sum())
    }
}

/// Calls among functions that make a mean: of them, one in 64 is timed.
const TIMED_FROM: u64 = 512;

/// How long a call took lately; where that were a guess, how long one took since the version was deployed.
fn mean(edge: &Edge, calls: u64, busy_ns: u64) -> Option<u64> {
    let lately = calls >= TIMED_FROM || edge.caller == GATEWAY;
    let (busy_ns, calls) = if lately { (busy_ns, calls) } else { (edge.busy_ns, edge.calls) };
    busy_ns.checked_div(calls).filter(|&ns| ns > 0)
}

/// A number that is not negative, without what follows the point.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time in nanoseconds; casts saturate"
    )]
    let whole = value.max(0.0) as u64;
    whole
}

/// What came into each bucket.
fn grown(now: &[(u64, u64)], before: Option<&[(u64, u64)]>) -> Vec<(u64, u64)> {
    let before: BTreeMap<u64, u64> = before.unwrap_or_default().iter().copied().collect();
    let new = |&(bound, n): &(u64, u64)| (bound, n.saturating_sub(before.get(&bound).copied().unwrap_or(0)));
    now.iter().map(new).filter(|&(_, n)| n > 0).collect()
}

/// The bound below which that many of a hundred lie.
fn quantile(buckets: &[(u64, u64)], percent: u64) -> Option<u64> {
    let all: u64 = buckets.iter().map(|&(_, n)| n).sum();
    let wanted = (all * percent).div_ceil(100);
    let mut seen = 0;
    let mut sorted = buckets.to_vec();
    sorted.sort_unstable();
    sorted
        .into_iter()
        .find(|&(_, n)| {
            seen += n;
            seen >= wanted
        })
        .map(|(bound, _)| bound)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A shop whose front end calls the cart, in a cell, after so many requests.
    pub(crate) fn overview(at_ms: u64, calls: u64) -> Overview {
        let json = serde_json::json!({
            "node": { "version": "1.2.3", "pid": 10, "uptime_s": at_ms / 1000 },
            "at_ms": at_ms,
            "totals": { "invocations": calls, "failures": calls / 10, "in_flight": 3 },
            "apps": [{
                "app": "shop", "version": 2,
                "pool": { "pool_bytes": 1 << 20, "free_bytes": 1 << 19 },
                "functions": [
                    { "function": "front", "runs_as": "compartment", "queued": 1, "calls": calls, "errors": calls / 10,
                      "replicas": [{ "pid": 20, "state": "ready", "in_flight": 2 }],
                      "latency": { "buckets": [[1000, calls * 9 / 10], [50_000, calls / 10]] } },
                    { "function": "cart", "runs_as": "compartment", "queued": 0, "calls": 0, "errors": 0,
                      "replicas": [{ "pid": 20, "state": "backoff", "in_flight": 0 }] },
                    { "function": "ad", "runs_as": "process", "queued": 0, "calls": 0, "errors": 0,
                      "replicas": [{ "pid": 30, "state": "ready", "in_flight": 0 }] }
                ],
                "edges": [
                    { "caller": "gateway", "callee": "front", "calls": calls, "errors": 0, "bytes_handed": 0, "busy_ns": calls * 5000 },
                    { "caller": "front", "callee": "cart", "calls": calls * 2, "errors": 0, "bytes_handed": calls * 100, "busy_ns": calls * 2 * 700 }
                ]
            }],
            "processes": [{ "pid": 10, "cpu_ms": at_ms / 10 }, { "pid": 20, "cpu_ms": at_ms / 2 }, { "pid": 30, "cpu_ms": at_ms / 4 }]
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn counters_become_rates() {
        let rates = Rates::between(&overview(10_000, 100), &overview(12_000, 300));
        assert_eq!((rates.requests_per_s, rates.failures_per_s), (100.0, 10.0));
        assert!(
            (rates.cpu_cores - 0.85).abs() < 1e-9 && (rates.node_cpu_cores - 0.1).abs() < 1e-9,
            "{rates:?}"
        );
        let [front, cart, ad] = rates.functions.as_slice() else { panic!("{rates:?}") };
        assert_eq!(
            (front.calls_per_s, front.errors_per_s, front.in_flight, front.queued),
            (100.0, 10.0, 2, 1)
        );
        assert_eq!((front.p50_ns, front.p99_ns, front.mean_ns), (Some(1000), Some(50_000), Some(5000)));
        assert_eq!((cart.calls_per_s, cart.mean_ns, cart.ailing, cart.ready), (200.0, Some(700), true, 0));
        assert_eq!((front.cpu_cores, cart.cpu_cores), (None, None), "they share a cell");
        assert!(ad.cpu_cores.is_some_and(|cores| (cores - 0.25).abs() < 1e-9));
        assert_eq!(rates.edges[1].bytes_per_s, 10_000.0);
    }

    #[test]
    fn another_start_and_another_version_begin_anew() {
        let mut restarted = overview(1_000, 50);
        restarted.node.pid = 11;
        let rates = Rates::between(&overview(90_000, 900), &restarted);
        assert_eq!((rates.requests_per_s, rates.seconds), (50.0, 1.0));
        let mut deployed = overview(2_000, 60);
        deployed.apps[0].version = 3;
        let rates = Rates::between(&overview(1_000, 50), &deployed);
        assert_eq!(rates.functions[0].calls_per_s, 60.0);
    }

    #[test]
    fn what_a_node_does_not_tell_stays_unknown() {
        let mut old = overview(1_000, 10);
        old.apps[0].edges.clear();
        old.apps[0].functions[0].latency.buckets.clear();
        let mut new = overview(2_000, 20);
        new.apps[0].edges.clear();
        new.apps[0].functions[0].latency.buckets.clear();
        let rates = Rates::between(&old, &new);
        let front = &rates.functions[0];
        assert_eq!((front.p50_ns, front.mean_ns, front.calls_per_s), (None, None, 10.0));
        assert!(rates.edges.is_empty());
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        assert_eq!(quantile(&[], 50), None);
        assert_eq!(quantile(&[(10, 1)], 99), Some(10));
        assert_eq!(quantile(&[(40, 1), (10, 98), (20, 1)], 99), Some(20));
    }
}
