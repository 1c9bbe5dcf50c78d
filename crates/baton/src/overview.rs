//! What the node says of the moment, and what two such moments make: rates instead of counters.
//!
//! Fields that a node does not tell (another version of it) are taken as absent, and what would follow from them stays
//! unknown rather than zero.

mod rates;

use std::collections::BTreeMap;

use serde::Deserialize;

pub(crate) use self::rates::{EdgeRates, FunctionRates, Rates};

/// `GET /v1/overview`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Overview {
    pub(crate) node: Node,
    pub(crate) at_ms: u64,
    pub(crate) totals: Totals,
    pub(crate) apps: Vec<App>,
    #[serde(default)]
    pub(crate) failed: Vec<Failed>,
    #[serde(default)]
    pub(crate) cluster: Option<Cluster>,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_s: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Totals {
    pub(crate) invocations: u64,
    pub(crate) failures: u64,
    pub(crate) in_flight: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Failed {
    pub(crate) app: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) node: String,
    pub(crate) nodes: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) cpu_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct App {
    pub(crate) app: String,
    pub(crate) version: u64,
    pub(crate) functions: Vec<Function>,
    pub(crate) pool: Pool,
    #[serde(default)]
    pub(crate) edges: Vec<Edge>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Pool {
    pub(crate) pool_bytes: u64,
    pub(crate) free_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Function {
    pub(crate) function: String,
    pub(crate) runs_as: String,
    pub(crate) queued: u32,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) replicas: Vec<Replica>,
    #[serde(default)]
    pub(crate) latency: Latency,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Replica {
    pub(crate) pid: u32,
    pub(crate) state: String,
    pub(crate) in_flight: u32,
}

/// Latencies by their upper bounds, nanoseconds.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Latency {
    #[serde(default)]
    pub(crate) buckets: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Edge {
    pub(crate) caller: String,
    pub(crate) callee: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_handed: u64,
    pub(crate) busy_ns: u64,
    #[serde(default)]
    pub(crate) by_kernel: bool,
    #[serde(default)]
    pub(crate) refusals: u64,
}

impl Overview {
    /// Functions by process: who alone has one can be charged with its CPU time.
    fn users(&self) -> BTreeMap<u32, usize> {
        let mut users = BTreeMap::new();
        for function in self.apps.iter().flat_map(|app| &app.functions) {
            let mut pids: Vec<u32> = function.replicas.iter().map(|replica| replica.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            for pid in pids {
                *users.entry(pid).or_default() += 1;
            }
        }
        users
    }
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::rates::tests::overview;
}
