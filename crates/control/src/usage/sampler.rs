//! From counters that grow to what was used since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use baton_flow::status::{AppStatus, FunctionStatus};

use super::Used;
use crate::procs;

type Name = (String, String);

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Counters of each function by the version of its app, of which several may answer: each counts from 0.
    counters: BTreeMap<(Name, u64), Used>,
    /// Processor time of each process.
    cpu_ns: BTreeMap<u32, u64>,
    at: Option<Instant>,
}

/// What the data plane counts of a function.
fn counted(app: &AppStatus, function: &FunctionStatus) -> Used {
    let callers =
        || app.edges.iter().filter(|edge| edge.callee == function.function && edge.caller != "gateway");
    Used {
        invocations: callers().fold(function.calls, |sum, edge| sum.saturating_add(edge.calls)),
        errors: callers().fold(function.errors, |sum, edge| sum.saturating_add(edge.errors)),
        bytes_in: function.bytes_in,
        bytes_out: function.bytes_out,
        bytes_handed: callers().fold(0, |sum, edge| sum.saturating_add(edge.bytes_handed)),
        egress: function.network.answered + function.network.failed,
        cold_starts: Some(function.cold_starts.handler.count),
        ..Used::default()
    }
}

/// How much the counters have grown. One that has shrunk tells nothing: some are what functions say.
fn growth(now: &Used, before: &Used) -> Used {
    Used {
        invocations: now.invocations.saturating_sub(before.invocations),
        errors: now.errors.saturating_sub(before.errors),
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        bytes_handed: now.bytes_handed.saturating_sub(before.bytes_handed),
        egress: now.egress.saturating_sub(before.egress),
        cold_starts: now
            .cold_starts
            .map(|now| now.saturating_sub(before.cold_starts.unwrap_or(0)))
            .filter(|more| *more > 0),
        ..Used::default()
    }
}

impl Sampler {
    /// What was used since the last look, of each function that used anything.
    pub(super) fn look(&mut self, apps: &[AppStatus], now: Instant) -> BTreeMap<Name, Used> {
        let mut used: BTreeMap<Name, Used> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for (app, function) in apps.iter().flat_map(|app| app.functions.iter().map(move |f| (app, f))) {
            let name = (app.app.clone(), function.function.clone());
            let counters = counted(app, function);
            let key = (name.clone(), app.version);
            let before = self.counters.get(&key).copied().unwrap_or_default();
            used.entry(name).or_default().add(&growth(&counters, &before));
            seen.insert(key, counters);
        }
        self.counters = seen;
        let elapsed = self.at.map_or(0, |at| now.duration_since(at).as_millis());
        self.at = Some(now);
        self.charge(apps, u64::try_from(elapsed).unwrap_or(0), &mut used);
        used.retain(|_, used| !used.is_nothing());
        used
    }

    /// Divides what processes used among the functions whose replicas they hold.
    fn charge(&mut self, apps: &[AppStatus], elapsed_ms: u64, used: &mut BTreeMap<Name, Used>) {
        let mut held: BTreeMap<u32, BTreeSet<Name>> = BTreeMap::new();
        for (app, function) in apps.iter().flat_map(|app| app.functions.iter().map(move |f| (app, f))) {
            for replica in function.replicas.iter().filter(|replica| replica.pid != 0) {
                held.entry(replica.pid).or_default().insert((app.app.clone(), function.function.clone()));
            }
        }
        let before = std::mem::take(&mut self.cpu_ns);
        for (pid, names) in held {
            let Some(process) = procs::used(pid) else { continue };
            let cpu_ns = process.cpu_ns.saturating_sub(before.get(&pid).copied().unwrap_or(0));
            self.cpu_ns.insert(pid, process.cpu_ns);
            let calls: u64 =
                names.iter().filter_map(|name| used.get(name)).map(|used| used.invocations).sum();
            let count = names.len().max(1) as u64;
            let memory = (process.resident_bytes >> 20).saturating_mul(elapsed_ms) / count;
            for name in names {
                let Some(used) = used.get_mut(&name) else { continue };
                used.cpu_ns += match calls {
                    0 => cpu_ns / count,
                    calls => share(cpu_ns, used.invocations, calls),
                };
                used.memory_mib_ms += memory;
            }
        }
    }
}

fn share(of: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(of) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_flow::status::EdgeStatus;

    fn app(version: u64, calls: u64, inner: u64) -> AppStatus {
        let edge = EdgeStatus {
            caller: "front".to_owned(),
            callee: "cart".to_owned(),
            calls: inner,
            errors: 1,
            bytes_handed: inner * 10,
            busy_ns: 0,
            by_kernel: false,
            refusals: 0,
        };
        let function = |name: &str, calls| FunctionStatus {
            function: name.to_owned(),
            calls,
            bytes_in: calls * 2,
            ..FunctionStatus::default()
        };
        AppStatus {
            app: "shop".to_owned(),
            version,
            functions: vec![function("front", calls), function("cart", 0)],
            edges: vec![edge],
            ..AppStatus::default()
        }
    }

    #[test]
    fn counters_become_differences_and_a_new_version_begins_at_nothing() {
        let mut sampler = Sampler::default();
        let now = Instant::now();
        let of = |used: &BTreeMap<Name, Used>, name: &str| {
            used.get(&("shop".to_owned(), name.to_owned())).copied().unwrap_or_default()
        };
        let first = sampler.look(&[app(1, 5, 7)], now);
        assert_eq!((of(&first, "front").invocations, of(&first, "front").bytes_in), (5, 10));
        assert_eq!((of(&first, "cart").invocations, of(&first, "cart").bytes_handed), (7, 70));
        let second = sampler.look(&[app(1, 6, 7)], now);
        assert_eq!(of(&second, "front").invocations, 1);
        assert!(!second.contains_key(&("shop".to_owned(), "cart".to_owned())));
        assert!(sampler.look(&[app(1, 2, 0)], now).is_empty(), "a counter that shrinks tells nothing");
        assert_eq!(of(&sampler.look(&[app(2, 3, 0)], now), "front").invocations, 3);
        // Two that answer side by side are one function.
        let both = sampler.look(&[app(2, 5, 0), app(3, 4, 0)], now);
        assert_eq!(of(&both, "front").invocations, 6);
    }

    #[test]
    fn processor_time_goes_by_calls() {
        assert_eq!((share(100, 1, 4), share(u64::MAX, u64::MAX, 1), share(1, 0, 0)), (25, u64::MAX, 0));
    }
}
