//! `/metrics`: what the data plane counts, in the text format that Prometheus reads.
//!
//! The data plane counts in plain integers on its own thread. A page takes one copy of them and encodes it: nothing
//! here costs a request anything.

mod apps;
mod format;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use baton_flow::PolicyStatus;
use baton_flow::status::{AppStatus, Observed, Totals, VersionStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use self::format::{OPEN, PLAIN, plain, wants_open};
use super::fault::Fault;
use super::writes::finished;
use super::{Api, Figure};
use crate::events::QueueReport;
use crate::procs;

/// Apps whose buffers are looked through for their holders.
const HOLDERS_MAX: usize = 64;

type Labels = Vec<(&'static str, String)>;

pub(super) async fn page(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Fault> {
    let apps = api.plane.load().await?;
    let totals = api.plane.totals().await?;
    let figures = match &api.gateway {
        Some(ask) => ask().await?,
        None => Vec::new(),
    };
    let seen = Seen {
        holders: holders(&api, &apps).await?,
        versions: api.plane.versions().await?,
        policies: policies(&api, &apps).await?,
        queues: api.events.queues(),
        observed: api.plane.observed().await?,
        cluster: api.cluster.as_ref().map(|cluster| (cluster.rows().len(), cluster.is_connected())),
        uptime_s: api.node.started.elapsed().as_secs(),
        version: api.node.version,
        apps,
        totals,
        figures,
    };
    let is_open = wants_open(&headers);
    // Megabytes where there are a thousand functions: not on the thread that others ask, and behind requests.
    let text = finished(tokio::task::spawn_blocking(move || seen.text(is_open)).await)?;
    let text = text.map_err(|_| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written as text",
            "report this as a bug",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, if is_open { OPEN } else { PLAIN })], text))
}

/// What a page is made of.
struct Seen {
    apps: Vec<AppStatus>,
    totals: Totals,
    figures: Vec<Figure>,
    holders: Vec<(String, Vec<(String, u64)>)>,
    versions: Vec<VersionStatus>,
    policies: Vec<PolicyStatus>,
    queues: Vec<QueueReport>,
    observed: Observed,
    /// Nodes of the cluster, and whether its store is connected.
    cluster: Option<(usize, bool)>,
    uptime_s: u64,
    version: &'static str,
}

impl Seen {
    fn text(self, is_open: bool) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("baton");
        node(&mut registry, &self.totals);
        node_process(&mut registry, self.uptime_s);
        let build = [(vec![("version", self.version.to_owned())], 1)].into_iter();
        gauges(&mut registry, "build_info", "Which version this is", build);
        apps::functions(&mut registry, &self.apps);
        apps::edges(&mut registry, &self.apps);
        apps::pools(&mut registry, &self.apps);
        apps::holders(&mut registry, &self.holders);
        apps::processes(&mut registry, &self.apps);
        ways::cold_starts(&mut registry, &self.apps);
        ways::versions(&mut registry, &self.versions);
        ways::policies(&mut registry, &self.policies);
        ways::events(&mut registry, &self.queues);
        observed(&mut registry, &self.observed);
        gateway(&mut registry, self.figures);
        if let Some((members, is_connected)) = self.cluster {
            let members = u64::try_from(members).unwrap_or(u64::MAX);
            gauge(&mut registry, "cluster_members", "Nodes of the cluster that live", members);
            let help = "Whether a server of the cluster's store is connected";
            gauge(&mut registry, "cluster_store_connected", help, u64::from(is_connected));
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(if is_open { text } else { plain(&text) })
    }
}

/// Who holds how many buffers, of the apps whose functions hold any: one app at a time, so that the data plane goes on between.
async fn holders(api: &Api, apps: &[AppStatus]) -> Result<Vec<(String, Vec<(String, u64)>)>, Fault> {
    let mut all = Vec::new();
    for app in apps.iter().filter(|app| app.pool.buffers_in_use > 0).take(HOLDERS_MAX) {
        all.push((app.app.clone(), api.plane.holders(app.app.clone()).await?));
    }
    Ok(all)
}

/// What policies of each app have done, those of its leading version: one app at a time, like the above.
async fn policies(api: &Api, apps: &[AppStatus]) -> Result<Vec<PolicyStatus>, Fault> {
    let names: BTreeSet<&String> = apps.iter().map(|app| &app.app).collect();
    let mut all = Vec::new();
    for app in names {
        let status = api.plane.policies(app.clone()).await?;
        all.extend(status.filter(|status| !status.functions.is_empty()));
    }
    Ok(all)
}

/// Nanoseconds in the unit that Prometheus wants.
#[expect(clippy::cast_precision_loss, reason = "nobody reads 50 digits of a sum")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    counters(registry, name, help, [(Labels::new(), value)].into_iter());
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    gauges(registry, name, help, [(Labels::new(), value)].into_iter());
}

/// One row for each set of labels; a family without rows is left out.
#[derive(Debug)]
struct Rows<V> {
    name: String,
    help: String,
    kind: MetricType,
    rows: BTreeMap<Labels, V>,
}

/// A number as a metric has it.
trait Amount: Copy + Default + AddAssign + fmt::Debug + Send + Sync + 'static {
    fn encode(self, metric: MetricEncoder<'_>, kind: MetricType) -> fmt::Result;
}

impl Amount for u64 {
    fn encode(self, mut metric: MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        match kind {
            MetricType::Counter => metric.encode_counter::<NoLabelSet, u64, u64>(&self, None),
            _ => metric.encode_gauge(&self),
        }
    }
}

impl Amount for f64 {
    fn encode(self, mut metric: MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        match kind {
            MetricType::Counter => metric.encode_counter::<NoLabelSet, f64, u64>(&self, None),
            _ => metric.encode_gauge(&self),
        }
    }
}

impl<V: Amount> Collector for Rows<V> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = || match self.kind {
            MetricType::Counter => MetricType::Counter,
            _ => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(&self.name, &self.help, None, kind())?;
        // Without labels the row is the metric itself.
        if let (1, Some(value)) = (self.rows.len(), self.rows.get(&Labels::new())) {
            return value.encode(metric, kind());
        }
        self.rows.iter().try_for_each(|(labels, value)| value.encode(metric.encode_family(labels)?, kind()))
    }
}

fn rows<V: Amount>(
    registry: &mut Registry,
    (name, help): (&str, &str),
    kind: MetricType,
    found: impl Iterator<Item = (Labels, V)>,
) {
    let mut rows: BTreeMap<Labels, V> = BTreeMap::new();
    for (labels, value) in found {
        *rows.entry(labels).or_default() += value;
    }
    if !rows.is_empty() {
        let (name, help) = (name.to_owned(), format!("{help}."));
        registry.register_collector(Box::new(Rows { name, help, kind, rows }));
    }
}

/// Histograms of one name. A family without rows is left out.
#[derive(Debug)]
struct Histograms {
    name: &'static str,
    help: &'static str,
    rows: Vec<(Labels, Filled)>,
}

/// One histogram: its buckets have their upper bounds in seconds, and count what no smaller one has.
#[derive(Debug)]
struct Filled {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Collector for Histograms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        for (labels, Filled { sum, count, buckets }) in &self.rows {
            metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
        }
        Ok(())
    }
}

fn counters<V: Amount>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    found: impl Iterator<Item = (Labels, V)>,
) {
    rows(registry, (name, help), MetricType::Counter, found);
}

fn gauges<V: Amount>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    found: impl Iterator<Item = (Labels, V)>,
) {
    rows(registry, (name, help), MetricType::Gauge, found);
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
    if let Some(used) = procs::used(std::process::id()) {
        gauge(registry, "resident_bytes", "Memory of the node's process", used.resident_bytes);
        let cpu = [(Labels::new(), seconds(used.cpu_ns))].into_iter();
        counters(registry, "cpu_seconds", "Processor time of the node's process", cpu);
    }
}

/// What becomes of traces, lines and receipts.
fn observed(registry: &mut Registry, observed: &Observed) {
    let traces = observed.traces;
    counter(registry, "traces_sampled", "Invocations that are traced", traces.sampled);
    let outcomes = |exported, dropped| [("exported", exported), ("dropped", dropped)];
    let rows = |pairs: [(&'static str, u64); 2]| {
        pairs.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)).into_iter()
    };
    let spans = outcomes(traces.exported, traces.dropped);
    counters(registry, "traces_spans", "Spans that a collector took, or that were lost", rows(spans));
    gauge(registry, "traces_spans_waiting", "Spans that wait for a collector", traces.waiting);
    let lines = outcomes(traces.lines_exported, traces.lines_dropped);
    counters(
        registry,
        "log_lines",
        "Lines of functions that a collector took, or that were lost",
        rows(lines),
    );
    counter(
        registry,
        "otlp_failures",
        "Times that the collector did not take what it was sent",
        traces.failures,
    );
    counter(registry, "receipts", "Invocations whose costs were recorded", observed.receipts);
    let transfers =
        observed.transfers.iter().map(|(event, count)| (vec![("event", (*event).to_owned())], *count));
    counters(registry, "transfers", "Calls, pulls and bytes between nodes", transfers);
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
