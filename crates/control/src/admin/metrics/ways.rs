//! What the metrics say of the ways that requests take: replicas that come up for them, versions, policies, events.

use baton_flow::PolicyStatus;
use baton_flow::coldstart::{BOUNDS_US, Histogram};
use baton_flow::status::{AppStatus, VersionStatus};
use prometheus_client::registry::Registry;

use super::apps::{of, with};
use super::{Filled, Histograms, Labels, counters, gauges, seconds};
use crate::events::QueueReport;

/// Upper bounds of the histogram of cold starts, microseconds. Each is one of the data plane's own; between them is more than one of
/// those, so that a thousand functions remain a page.
const COLD_US: [u64; 8] = [100, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 10_000_000];

/// Histograms of all functions that had a cold start, by phase.
pub(super) fn cold_starts(registry: &mut Registry, apps: &[AppStatus]) {
    let mut rows = Vec::new();
    for (app, function) in apps.iter().flat_map(|app| app.functions.iter().map(move |f| (app, f))) {
        let cold = &function.cold_starts;
        let phases = [
            ("queue", &cold.queue),
            ("spawn", &cold.spawn),
            ("load", &cold.load),
            ("init", &cold.init),
            ("handler", &cold.handler),
        ];
        let labels = of(app, function);
        let filled = phases.into_iter().filter(|(_, phase)| phase.count > 0);
        for (phase, histogram) in filled {
            add(&mut rows, with(&labels, "phase", phase), histogram);
        }
    }
    registry.register_collector(Box::new(Histograms {
        name: "cold_start_seconds",
        help: "How long requests waited for a replica to come up, and what that consisted of",
        rows,
    }));
}

/// A row of its own, or more in that of the version that leads.
fn add(rows: &mut Vec<(Labels, Filled)>, labels: Labels, histogram: &Histogram) {
    let at = rows.iter().rposition(|(known, _)| *known == labels).unwrap_or_else(|| {
        let bounds = COLD_US.iter().map(|&us| (seconds(us * 1000), 0));
        let buckets = bounds.chain([(f64::INFINITY, 0)]).collect();
        rows.push((labels, Filled { sum: 0.0, count: 0, buckets }));
        rows.len() - 1
    });
    let Some((_, filled)) = rows.get_mut(at) else { return };
    filled.sum += seconds(histogram.sum_us.saturating_mul(1000));
    filled.count += histogram.count;
    for (class, count) in histogram.classes.iter().enumerate() {
        let at = BOUNDS_US.get(class).map_or(COLD_US.len(), |us| COLD_US.partition_point(|bound| bound < us));
        if let Some((_, sum)) = filled.buckets.get_mut(at) {
            *sum += count;
        }
    }
}

/// Versions that answer, by what they are to the app: their numbers are values, since labels would never end.
pub(super) fn versions(registry: &mut Registry, versions: &[VersionStatus]) {
    let rows = || {
        let answering =
            versions.iter().filter(|version| matches!(version.state.as_str(), "serving" | "canary"));
        answering
            .map(|version| (vec![("app", version.app.clone()), ("state", version.state.clone())], version))
    };
    gauges(registry, "version", "The number of the version", rows().map(|(labels, v)| (labels, v.version)));
    let share = rows().map(|(labels, version)| (labels, f64::from(version.share) / 10_000.0));
    gauges(registry, "version_share", "Its part of the requests, from 0 to 1", share);
    let requests = rows().map(|(labels, version)| (labels, version.requests));
    gauges(registry, "version_requests", "Requests of clients that it answered", requests);
    let failures = rows().map(|(labels, version)| (labels, version.failures));
    gauges(registry, "version_failures", "Of these, those that failed", failures);
}

/// What handlers of policies did. Those that all functions of an app share are told of once, without a function.
pub(super) fn policies(registry: &mut Registry, policies: &[PolicyStatus]) {
    let mut handlers = Vec::new();
    for status in policies {
        let app = ("app", status.app.clone());
        let mut is_told = false;
        for (function, list) in &status.functions {
            let labels = vec![app.clone(), ("function", function.clone())];
            handlers.extend(
                list.iter().filter(|handler| !handler.is_shared).map(|handler| (labels.clone(), handler)),
            );
            if !is_told {
                let shared = list.iter().filter(|handler| handler.is_shared);
                let before = handlers.len();
                handlers.extend(shared.map(|handler| (vec![app.clone()], handler)));
                is_told = handlers.len() > before;
            }
        }
    }
    let requests = handlers.iter().flat_map(|(labels, handler)| {
        let labels = with(labels, "handler", handler.kind);
        let outcomes = [("passed", handler.passed), ("refused", handler.refused), ("failed", handler.failed)];
        outcomes.map(|(outcome, count)| (with(&labels, "outcome", outcome), count))
    });
    counters(registry, "policy_requests", "Requests that came to a handler of policies", requests);
    let breakers = || handlers.iter().filter_map(|(labels, handler)| Some((labels, handler.breaker?)));
    let states = breakers().flat_map(|(labels, (is, _))| {
        let states = ["closed", "open", "half-open"];
        states.map(|state| (with(labels, "state", state), u64::from(state == is)))
    });
    gauges(registry, "policy_breaker_state", "Breakers by the state that they are in", states);
    let opened = breakers().map(|(labels, (_, opened))| (labels.clone(), opened));
    counters(registry, "policy_breaker_opened", "Times that a breaker opened", opened);
    let retries = handlers.iter().filter_map(|(labels, handler)| Some((labels, handler.retries?)));
    let retries = retries.flat_map(|(labels, (made, spared))| {
        let outcomes = [("made", made), ("over_budget", spared)];
        outcomes.map(|(outcome, count)| (with(labels, "outcome", outcome), count))
    });
    counters(
        registry,
        "policy_retries",
        "Calls that were made again, or were not for want of budget",
        retries,
    );
}

/// Events by function: of those that have some, or had some since the node started.
pub(super) fn events(registry: &mut Registry, queues: &[QueueReport]) {
    let rows = || {
        let labels =
            |queue: &QueueReport| vec![("app", queue.app.clone()), ("function", queue.function.clone())];
        queues.iter().map(move |queue| (labels(queue), queue))
    };
    let waiting = rows().map(|(labels, queue)| (labels, u64::from(queue.waiting)));
    gauges(registry, "events_waiting", "Events that are not done", waiting);
    let running = rows().map(|(labels, queue)| (labels, u64::from(queue.running)));
    gauges(registry, "events_running", "Of these, those that are being tried", running);
    let oldest = rows().map(|(labels, queue)| (labels, queue.oldest_s));
    gauges(registry, "events_oldest_seconds", "How long the oldest has waited", oldest);
    let outcomes = rows().flat_map(|(labels, queue)| {
        let outcomes = [("done", queue.done), ("failed", queue.retried), ("dead", queue.dead)];
        outcomes.map(|(outcome, count)| (with(&labels, "outcome", outcome), count))
    });
    counters(
        registry,
        "events",
        "What tries of events came to: done, failed and tried again, or given up",
        outcomes,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_bound_is_one_of_the_data_planes_and_versions_add_up() {
        assert!(COLD_US.iter().all(|us| BOUNDS_US.contains(us)));
        let mut histogram = Histogram::default();
        for us in [50, 100, 101, 10_000_000, 10_000_001, 100_000_001] {
            histogram.add(Duration::from_micros(us));
        }
        let mut rows = Vec::new();
        let labels = || vec![("app", "a".to_owned())];
        add(&mut rows, labels(), &histogram);
        add(&mut rows, labels(), &histogram);
        let [(_, filled)] = rows.as_slice() else { panic!("one row") };
        let counts: Vec<u64> = filled.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((filled.count, counts), (12, vec![4, 2, 0, 0, 0, 0, 0, 2, 4]));
    }
}
