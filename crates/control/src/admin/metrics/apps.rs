//! What the metrics say of apps: functions, edges, pools, references, processes.

use std::collections::BTreeMap;

use baton_flow::status::{AppStatus, FunctionStatus, LatencyStatus};
use prometheus_client::registry::Registry;

use super::{Filled, Histograms, Labels, counters, gauges, seconds};
use crate::procs;

/// Upper bounds of the histograms of durations: powers of four nanoseconds, 16 µs to 69 s. Each is one of the data plane's own.
const BOUNDS: [u64; 12] = [
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 32,
    1 << 34,
    1 << 36,
];
/// Names of the classes of answers, by the hundreds of their status.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The histogram of how long calls of each function took.
fn durations(functions: impl Iterator<Item = (Labels, LatencyStatus)>) -> Histograms {
    let row = |(labels, latency): (Labels, LatencyStatus)| {
        let mut buckets: Vec<(f64, u64)> = BOUNDS.iter().map(|&ns| (seconds(ns), 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for &(bound, count) in &latency.buckets {
            let at = BOUNDS.partition_point(|&ns| ns < bound);
            if let Some((_, sum)) = buckets.get_mut(at) {
                *sum += count;
            }
        }
        (labels, Filled { sum: seconds(latency.sum_ns), count: latency.count, buckets })
    };
    Histograms {
        name: "function_duration_seconds",
        help: "From a request's head to its answer",
        rows: functions.map(row).collect(),
    }
}

pub(super) fn of(app: &AppStatus, function: &FunctionStatus) -> Labels {
    vec![("app", app.app.clone()), ("function", function.function.clone())]
}

pub(super) fn with(labels: &Labels, key: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((key, value.to_owned()));
    labels
}

pub(super) fn functions(registry: &mut Registry, apps: &[AppStatus]) {
    let rows =
        || apps.iter().flat_map(|app| app.functions.iter().map(|function| (of(app, function), function)));
    let count = |registry: &mut Registry, name, help, value: fn(&FunctionStatus) -> u64| {
        counters(registry, name, help, rows().map(|(labels, f)| (labels, value(f))));
    };
    count(registry, "function_calls", "Calls answered", |f| f.calls);
    count(registry, "function_errors", "Calls that failed", |f| f.errors);
    count(registry, "function_faults", "Resets of compartments after a fault", |f| f.faults);
    count(registry, "function_request_bytes", "Bytes of bodies that calls brought", |f| f.bytes_in);
    count(registry, "function_response_bytes", "Bytes of bodies that answered them", |f| f.bytes_out);
    count(registry, "function_restarts", "Replicas that were started again after they died", |f| {
        f.replicas.first().map_or(0, |replica| u64::from(replica.restarts))
    });
    let classes = rows().flat_map(|(labels, f)| {
        let classes = CLASSES.iter().zip(f.by_class).filter(|(_, count)| *count > 0);
        classes.map(|(class, count)| (with(&labels, "class", class), count)).collect::<Vec<_>>()
    });
    counters(registry, "function_responses", "Answers by the class of their status", classes);
    let network = rows().filter(|(_, f)| f.network.answered + f.network.denied + f.network.failed > 0);
    let network = network.flat_map(|(labels, f)| {
        let network = f.network;
        let outcomes =
            [("answered", network.answered), ("denied", network.denied), ("failed", network.failed)];
        outcomes.map(|(outcome, count)| (with(&labels, "outcome", outcome), count))
    });
    counters(registry, "function_network_requests", "Requests that functions sent to the network", network);
    let queued = rows().map(|(labels, f)| (labels, u64::from(f.queued)));
    gauges(registry, "function_queued", "Calls that wait", queued);
    let in_flight =
        rows().map(|(labels, f)| (labels, f.replicas.iter().map(|r| u64::from(r.in_flight)).sum::<u64>()));
    gauges(registry, "function_in_flight", "Calls in the hands of replicas", in_flight);
    let states = rows().flat_map(|(labels, function)| {
        let state =
            move |replica: &baton_flow::status::ReplicaStatus| (with(&labels, "state", &replica.state), 1);
        function.replicas.iter().map(state)
    });
    gauges(registry, "function_replicas", "Replicas by state", states);
    let durations = rows().filter(|(_, f)| f.latency.count > 0);
    let found = self::durations(durations.map(|(labels, f)| (labels, f.latency.clone())));
    registry.register_collector(Box::new(found));
}

pub(super) fn edges(registry: &mut Registry, apps: &[AppStatus]) {
    let rows = || {
        apps.iter().flat_map(|app| {
            app.edges.iter().map(|edge| {
                let ends = [("caller", edge.caller.clone()), ("callee", edge.callee.clone())];
                ([("app", app.app.clone())].into_iter().chain(ends).collect::<Labels>(), edge)
            })
        })
    };
    let calls = rows().map(|(labels, edge)| (labels, edge.calls));
    counters(registry, "edge_calls", "Calls of one function by another, or by the gateway", calls);
    let errors = rows().map(|(labels, edge)| (labels, edge.errors));
    counters(registry, "edge_errors", "Such calls that failed", errors);
    let bytes = rows().map(|(labels, edge)| (labels, edge.bytes_handed));
    counters(registry, "edge_bytes", "Bytes of payloads that were handed over, both ways", bytes);
    let refused = rows().filter(|(_, edge)| edge.by_kernel).map(|(labels, edge)| (labels, edge.refusals));
    counters(registry, "edge_refusals", "Calls and answers that the kernel did not hand over", refused);
    let causes = apps.iter().flat_map(|app| {
        let labels = vec![("app", app.app.clone())];
        app.refusals.iter().map(move |(cause, count)| (with(&labels, "cause", cause), *count))
    });
    counters(
        registry,
        "kernel_refusals",
        "What the kernel refused of an app's processes, by the cause",
        causes,
    );
    let guarded = apps.iter().map(|app| (vec![("app", app.app.clone()), ("wake", app.wake.clone())], 1u64));
    gauges(registry, "app_wake", "1 for who hands over between the processes of an app", guarded);
    let busy = rows().map(|(labels, edge)| (labels, seconds(edge.busy_ns)));
    counters(registry, "edge_busy_seconds", "From call to answer, all calls together; judged by some", busy);
}

pub(super) fn pools(registry: &mut Registry, apps: &[AppStatus]) {
    let rows = || apps.iter().map(|app| (vec![("app", app.app.clone())], app));
    let pool_bytes = rows().map(|(labels, app)| (labels, app.pool.pool_bytes));
    gauges(registry, "pool_bytes", "Bytes of the pool", pool_bytes);
    let free = rows().map(|(labels, app)| (labels, app.pool.free_bytes));
    gauges(registry, "pool_free_bytes", "Bytes that no buffer has", free);
    let kinds = rows().flat_map(|(labels, app)| {
        let pool = app.pool;
        let kinds =
            [("in_use", pool.buffers_in_use), ("stashed", pool.buffers_stashed), ("orphaned", pool.orphans)];
        kinds.map(|(kind, count)| (with(&labels, "kind", kind), u64::from(count)))
    });
    gauges(registry, "pool_buffers", "Buffers that are out", kinds);
    let up = rows().map(|(labels, app)| (labels, u64::from(app.references.held)));
    gauges(registry, "references_held", "Payloads that are put up", up);
    let held = rows().map(|(labels, app)| (labels, app.references.held_bytes));
    gauges(registry, "references_held_bytes", "Bytes of these", held);
    let events = rows().flat_map(|(labels, app)| {
        let of = app.references;
        let events = [("put", of.put), ("got", of.got), ("forged", of.forged), ("over", of.over)];
        events.map(|(event, count)| (with(&labels, "event", event), count))
    });
    counters(
        registry,
        "references",
        "Payloads that were put up, and what references to them came to",
        events,
    );
}

/// Buffers in the hands of functions, or on their way to them.
pub(super) fn holders(registry: &mut Registry, holders: &[(String, Vec<(String, u64)>)]) {
    let rows = holders.iter().flat_map(|(app, held)| {
        let of = |(holder, count): &(String, u64)| {
            (vec![("app", app.clone()), ("holder", holder.clone())], *count)
        };
        held.iter().map(of)
    });
    gauges(registry, "pool_held_buffers", "Buffers by who holds them", rows);
}

/// What replicas' processes use: those of their own by function, cells by their number.
pub(super) fn processes(registry: &mut Registry, apps: &[AppStatus]) {
    let mut found: BTreeMap<u32, Labels> = BTreeMap::new();
    for (app, function) in apps.iter().flat_map(|app| app.functions.iter().map(move |f| (app, f))) {
        for replica in function.replicas.iter().filter(|replica| replica.pid != 0) {
            let labels = || match replica.cell {
                None => with(&of(app, function), "replica", &replica.holder.to_string()),
                Some(cell) => vec![("app", app.app.clone()), ("cell", cell.to_string())],
            };
            found.entry(replica.pid).or_insert_with(labels);
        }
    }
    let used: Vec<_> =
        found.into_iter().filter_map(|(pid, labels)| Some((labels, procs::used(pid)?))).collect();
    let cpu = used.iter().map(|(labels, used)| (labels.clone(), seconds(used.cpu_ns)));
    counters(registry, "replica_cpu_seconds", "Processor time of a replica's process", cpu);
    let resident = used.iter().map(|(labels, used)| (labels.clone(), used.resident_bytes));
    gauges(
        registry,
        "replica_resident_bytes",
        "Memory of a replica's process, pool pages included",
        resident,
    );
}
