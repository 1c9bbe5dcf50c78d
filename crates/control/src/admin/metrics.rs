//! `/metrics`: what the data plane counts, in the text format that Prometheus reads.
//!
//! The data plane counts in plain integers on its own thread. A page takes one copy of them and encodes it: nothing
//! here costs a request anything.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use baton_flow::status::{AppStatus, Totals};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::fault::Fault;
use super::{Api, Figure};

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Level = Gauge<u64, AtomicU64>;

pub(super) async fn page(State(api): State<Arc<Api>>) -> Result<impl IntoResponse, Fault> {
    let apps = api.plane.status().await?;
    let totals = api.plane.totals().await?;
    let figures = match &api.gateway {
        Some(ask) => ask().await?,
        None => Vec::new(),
    };
    let mut registry = Registry::with_prefix("baton");
    node(&mut registry, &totals);
    node_process(&mut registry, api.node.started.elapsed().as_secs());
    functions(&mut registry, &apps);
    pools(&mut registry, &apps);
    gateway(&mut registry, figures);
    if let Some(cluster) = &api.cluster {
        let members = u64::try_from(cluster.rows().len()).unwrap_or(u64::MAX);
        gauge(&mut registry, "cluster_members", "Nodes of the cluster that live", members);
        let connected = u64::from(cluster.is_connected());
        gauge(
            &mut registry,
            "cluster_store_connected",
            "Whether a server of the cluster's store is connected",
            connected,
        );
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written as text",
            "report this as a bug",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text))
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Level::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counters(registry: &mut Registry, name: &str, help: &str, rows: impl Iterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn gauges(registry: &mut Registry, name: &str, help: &str, rows: impl Iterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Level>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn node(registry: &mut Registry, totals: &Totals) {
    counter(registry, "invocations", "Invocations begun", totals.invocations);
    counter(registry, "failures", "Invocations that failed", totals.failures);
    counter(registry, "replica_deaths", "Replicas that died", totals.replica_deaths);
    counter(registry, "bad_descriptors", "Descriptors that the node refused", totals.bad_descriptors);
    gauge(registry, "in_flight", "Invocations in flight", totals.in_flight);
}

fn node_process(registry: &mut Registry, uptime_s: u64) {
    gauge(registry, "uptime_seconds", "Time since the node started", uptime_s);
    if let Some(bytes) = resident_bytes() {
        gauge(registry, "resident_bytes", "Memory of the node's process", bytes);
    }
}

/// Memory of this process, replicas not included.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn functions(registry: &mut Registry, apps: &[AppStatus]) {
    let rows = || {
        apps.iter().flat_map(|app| {
            app.functions.iter().map(|function| {
                (vec![("app", app.app.clone()), ("function", function.function.clone())], function)
            })
        })
    };
    counters(registry, "function_calls", "Calls answered", rows().map(|(labels, f)| (labels, f.calls)));
    counters(registry, "function_errors", "Calls that failed", rows().map(|(labels, f)| (labels, f.errors)));
    let faults = rows().map(|(labels, f)| (labels, f.faults));
    counters(registry, "function_faults", "Resets of compartments after a fault", faults);
    let network = rows().flat_map(|(labels, f)| {
        let network = f.network;
        let outcomes =
            [("answered", network.answered), ("denied", network.denied), ("failed", network.failed)];
        outcomes.map(|(outcome, count)| {
            let mut labels = labels.clone();
            labels.push(("outcome", outcome.to_owned()));
            (labels, count)
        })
    });
    counters(registry, "function_network_requests", "Requests that functions sent to the network", network);
    gauges(
        registry,
        "function_queued",
        "Calls that wait",
        rows().map(|(labels, f)| (labels, u64::from(f.queued))),
    );
    gauges(
        registry,
        "function_in_flight",
        "Calls in the hands of replicas",
        rows().map(|(labels, f)| (labels, f.replicas.iter().map(|r| u64::from(r.in_flight)).sum())),
    );
    let states = rows().flat_map(|(labels, function)| {
        function.replicas.iter().map(move |replica| {
            let mut labels = labels.clone();
            labels.push(("state", replica.state.clone()));
            (labels, 1)
        })
    });
    gauges(registry, "function_replicas", "Replicas by state", states);
}

fn pools(registry: &mut Registry, apps: &[AppStatus]) {
    let rows = || apps.iter().map(|app| (vec![("app", app.app.clone())], app.pool));
    gauges(registry, "pool_bytes", "Bytes of the pool", rows().map(|(l, pool)| (l, pool.pool_bytes)));
    gauges(
        registry,
        "pool_free_bytes",
        "Bytes that no buffer has",
        rows().map(|(l, pool)| (l, pool.free_bytes)),
    );
    let kinds = rows().flat_map(|(labels, pool)| {
        let kinds =
            [("in_use", pool.buffers_in_use), ("stashed", pool.buffers_stashed), ("orphaned", pool.orphans)];
        kinds.map(|(kind, count)| {
            let mut labels = labels.clone();
            labels.push(("kind", kind.to_owned()));
            (labels, u64::from(count))
        })
    });
    gauges(registry, "pool_buffers", "Buffers that are out", kinds);
}

fn gateway(registry: &mut Registry, figures: Vec<Figure>) {
    for Figure { name, help, counts, values } in figures {
        let name = format!("gateway_{name}");
        if let [(None, value)] = values.as_slice() {
            let register = if counts { counter } else { gauge };
            register(registry, &name, help, *value);
            continue;
        }
        let rows = values.into_iter().map(|(class, value)| {
            let labels = class.map(|class| ("class", class.to_owned()));
            (labels.into_iter().collect(), value)
        });
        match counts {
            true => counters(registry, &name, help, rows),
            false => gauges(registry, &name, help, rows),
        }
    }
}
