//! What the node tells about itself: plain values for the admin API, the CLI and the metrics.

use serde::Serialize;

use crate::coldstart::ColdStarts;

/// One deployed app.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppStatus {
    /// Its name.
    pub app: String,
    /// Counts deployments of this app, from 1.
    pub version: u64,
    /// Its functions, by name.
    pub functions: Vec<FunctionStatus>,
    /// What passed between the gateway and its functions, and among them.
    pub edges: Vec<EdgeStatus>,
    /// Its pool.
    pub pool: PoolStatus,
    /// What its functions have put up on this node.
    pub references: ReferencesStatus,
    /// How finely memory keys follow payloads, and buffers their holders: `buffer` or `app`.
    pub trust: String,
    /// Who hands payloads over between its processes: `ebpf` for the kernel, `ring` for themselves.
    pub wake: String,
    /// Why.
    pub wake_because: String,
    /// What the kernel refused of its processes, by the cause, those that there were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<(&'static str, u64)>,
}

/// One version of an app that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionStatus {
    /// The app.
    pub app: String,
    /// Its number.
    pub version: u64,
    /// `serving`, `canary`, `standby` (it would answer again at once), `ready` (it never answered), `draining`.
    pub state: String,
    /// Its part of the requests, in hundredths of a percent.
    pub share: u16,
    /// Requests of clients that it answered.
    pub requests: u64,
    /// Of these, those that failed: no answer, or one with a status of 500 or above.
    pub failures: u64,
    /// Calls that its replicas have.
    pub in_flight: u32,
    /// Replicas that are up.
    pub replicas: u32,
}

/// Payloads that were put up for others, and what their references came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReferencesStatus {
    /// Payloads that are up.
    pub held: u32,
    /// Their bytes.
    pub held_bytes: u64,
    /// Payloads that were put up so far.
    pub put: u64,
    /// Times that one was got.
    pub got: u64,
    /// References that this app never made.
    pub forged: u64,
    /// References behind which nothing was any more.
    pub over: u64,
}

/// One function.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FunctionStatus {
    /// Its name.
    pub function: String,
    /// The isolation that the manifest asks for.
    pub isolation: String,
    /// The isolation that it runs with; `process (no …)` where the machine lacks what it asks for.
    pub runs_as: String,
    /// The file of its executable.
    pub artifact: String,
    /// Calls that wait for a replica.
    pub queued: u32,
    /// Calls answered so far, failures included.
    pub calls: u64,
    /// Of these, failures.
    pub errors: u64,
    /// Of `calls`, by the hundreds of their status: `by_class[2]` counts those of 200 to 299, `by_class[0]` others.
    pub by_class: [u64; 6],
    /// Bytes of the bodies that these calls brought.
    pub bytes_in: u64,
    /// Bytes of the bodies that answered them.
    pub bytes_out: u64,
    /// How long these calls took.
    pub latency: LatencyStatus,
    /// Times that a compartment of it was reset after a fault, whoever had called it.
    pub faults: u64,
    /// What it asked of the network.
    pub network: NetworkStatus,
    /// How its executable was last loaded into a template; `None` for processes, and before it was.
    pub loaded: Option<LoadStatus>,
    /// How long those took for whom a replica had to be started first.
    pub cold_starts: ColdStarts,
    /// What the scaler holds it to.
    pub scale: ScaleStatus,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// Calls of one function by another, or by the gateway, since the app's version was deployed.
///
/// What functions call of each other never passes the node. Where the kernel hands over, `calls`, `bytes_handed` and `refusals` are
/// what it counted; all else is what the callers' sides say, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EdgeStatus {
    /// Who called: a function, or `gateway` for what came from outside.
    pub caller: String,
    /// Who was called.
    pub callee: String,
    /// Calls that were sent.
    pub calls: u64,
    /// Of these, ones that failed.
    pub errors: u64,
    /// Bytes of payloads that were handed over, with calls and answers.
    pub bytes_handed: u64,
    /// From call to answer, all calls together, nanoseconds. Among functions one call in 64 is timed, the rest is judged by them.
    pub busy_ns: u64,
    /// Whether the kernel counted it.
    pub by_kernel: bool,
    /// Calls, cancels and answers that the kernel did not hand over.
    pub refusals: u64,
}

/// How long calls took, from the parsed head to the answer in the node's hands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyStatus {
    /// Calls.
    pub count: u64,
    /// All of them together, nanoseconds.
    pub sum_ns: u64,
    /// Half of them took no longer, nanoseconds; to within a quarter above.
    pub p50_ns: u64,
    /// 95 of 100 took no longer.
    pub p95_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// Buckets that are not empty: their upper bound in nanoseconds (the last one has none: the largest number) and how many
    /// calls took that long, and longer than the bound before.
    pub buckets: Vec<(u64, u64)>,
}

/// Within what replicas of a function come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScaleStatus {
    /// Replicas that are always there.
    pub min: u32,
    /// Replicas that there may be.
    pub max: u32,
    /// Replicas that there shall be now.
    pub wanted: u32,
}

/// What a function's requests to the network came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkStatus {
    /// Answered by the host, whatever the status.
    pub answered: u64,
    /// Refused, since the manifest does not name the host.
    pub denied: u64,
    /// Without an answer for another reason.
    pub failed: u64,
}

/// How a template loaded an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LoadStatus {
    /// From the order to load it until it waited for its first request, nanoseconds.
    pub load_ns: u64,
    /// Whether a stored snapshot spared it its start.
    pub from_snapshot: bool,
}

/// One replica.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaStatus {
    /// Its number as a holder of capabilities.
    pub holder: u16,
    /// The process.
    pub pid: u32,
    /// The number of its cell, counted for each group of functions that share cells; `None` for a process of its own.
    pub cell: Option<u32>,
    /// `starting`, `ready`, `draining` or `backoff`.
    pub state: String,
    /// Requests in its hands.
    pub in_flight: u32,
    /// Times that it was replaced after dying.
    pub restarts: u32,
    /// Seconds since it was started.
    pub up_s: u64,
}

/// How much of a pool is in whose hands.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// Bytes that no buffer has.
    pub free_bytes: u64,
    /// Buffers that are out, the empty ones in stashes included.
    pub buffers_out: u32,
    /// Empty ones in the stashes of replicas.
    pub buffers_stashed: u32,
    /// Ones that carry something.
    pub buffers_in_use: u32,
    /// Ones without an owner that someone still reads.
    pub orphans: u32,
}

/// One capability that gives someone access now.
#[derive(Clone, Debug, Serialize)]
pub struct CapabilityRow {
    /// The app.
    pub app: String,
    /// Index and generation, as `slot.generation`.
    pub capability: String,
    /// The buffer.
    pub buffer: u32,
    /// Who holds it: `node`, `FUNCTION#HOLDER`, or `FUNCTION#HOLDER -> FUNCTION#HOLDER` in flight.
    pub holder: String,
    /// `held`, `in flight`, `to node`, `from node`.
    pub state: String,
    /// `rwp` with dashes for what is missing: read, write, pass on.
    pub rights: String,
    /// First byte of the range in the buffer.
    pub offset: u64,
    /// Bytes of the range.
    pub len: u64,
    /// The capability that it was derived from.
    pub parent: Option<String>,
    /// The invocation that it serves.
    pub invocation: Option<String>,
}

/// What one invocation cost.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The invocation, as 16 hexadecimal digits.
    pub invocation: String,
    /// The app.
    pub app: String,
    /// The function that the gateway called.
    pub function: String,
    /// Status that was answered.
    pub status: u16,
    /// From the parsed head to the reply in the node's hands, nanoseconds.
    pub wall_ns: u64,
    /// Payload copies between functions, all hops together.
    pub copies: u64,
    /// Bytes that those copies moved.
    pub bytes_copied: u64,
    /// Bytes handed over by capability, all hops together.
    pub bytes_handed: u64,
    /// Descriptors that crossed a ring.
    pub crossings: u64,
    /// Context switches of the replicas while they had the calls.
    pub switches: u64,
    /// CPU time of the replicas, nanoseconds.
    pub cpu_ns: u64,
    /// Times that the node processed a protocol for it: HTTP with the client, or a host; frames with another node.
    pub protocol_passes: u64,
    /// Times that the node encoded or decoded something for it. What functions encode for themselves is not known.
    pub serialisations: u64,
    /// Resident memory of the replicas over the time of their hops, MiB-milliseconds; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib_ms: Option<f64>,
    /// Time that policies took, nanoseconds, all hops together; absent where none ran or none was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_ns: Option<u64>,
    /// One row a call, in order of completion.
    pub hops: Vec<HopReceipt>,
}

/// What one call cost.
#[derive(Clone, Debug, Serialize)]
pub struct HopReceipt {
    /// Who called: `gateway` or a function.
    pub caller: String,
    /// Who was called.
    pub function: String,
    /// The operation number.
    pub operation: u16,
    /// The status.
    pub status: u16,
    /// Payload copies.
    pub copies: u16,
    /// Bytes that those copies moved.
    pub bytes_copied: u64,
    /// Bytes handed over by capability.
    pub bytes_handed: u64,
    /// Descriptors that crossed a ring.
    pub crossings: u32,
    /// Context switches of the replica in that time, other calls' included.
    pub switches: u32,
    /// CPU time spent on this call, nanoseconds.
    pub cpu_ns: u64,
    /// From arrival to reply, nanoseconds.
    pub wall_ns: u64,
    /// Times that the node processed a protocol for this call.
    pub protocol_passes: u32,
    /// Times that the node encoded or decoded something for it.
    pub serialisations: u32,
    /// Resident memory of the replica, or of its cell, over that time, MiB-milliseconds; absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib_ms: Option<f64>,
    /// Time that policies took, nanoseconds; absent where none ran or none was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_ns: Option<u64>,
    /// The node of the cluster that served it, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `kernel` where a program in the kernel handed it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'static str>,
    /// How its payloads got there and back.
    #[serde(skip_serializing_if = "Carried::is_nothing")]
    pub carried: Carried,
}

/// Bytes of payloads that crossed from node to node, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Within the call or its answer.
    pub inline_bytes: u64,
    /// Pulled out of the other node's memory.
    pub referenced_bytes: u64,
}

impl Carried {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What is recorded of invocations, and what came of it since the node started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observed {
    /// Traces, and lines for a collector.
    pub traces: TracesStatus,
    /// Receipts that were begun.
    pub receipts: u64,
    /// What passed between this node and others, by what it was; empty without a cluster.
    pub transfers: Vec<(&'static str, u64)>,
}

/// What became of traces since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TracesStatus {
    /// Invocations that were traced.
    pub sampled: u64,
    /// Spans that wait to be exported.
    pub waiting: u64,
    /// Spans that a collector took.
    pub exported: u64,
    /// Spans, and whole invocations, for which there was no room, or that the collector would not have.
    pub dropped: u64,
    /// Lines of functions that a collector took.
    pub lines_exported: u64,
    /// Lines of functions that were gone before a collector took them.
    pub lines_dropped: u64,
    /// Times that the collector did not take what it was sent.
    pub failures: u64,
}

/// One line that a function wrote.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// Counts lines of this node, from 1.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// The app.
    pub app: String,
    /// The function, or `node` for what the node says about the app.
    pub function: String,
    /// The replica's holder number; 0 for the node.
    pub holder: u16,
    /// `error`, `warn`, `info`, `debug`, or `out` for plain output.
    pub level: String,
    /// The invocation, where the line names one.
    pub invocation: Option<String>,
    /// The trace that the invocation is part of, as 32 hexadecimal digits, if it is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The invocation's span, as 16 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
    /// The text, at most 8 KiB.
    pub message: String,
}

/// Counters of the data plane since the node started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Invocations that the gateway or the admin API began.
    pub invocations: u64,
    /// Of these, ones that failed.
    pub failures: u64,
    /// Replicas that died.
    pub replica_deaths: u64,
    /// Descriptors that the node refused.
    pub bad_descriptors: u64,
    /// Requests in flight now.
    pub in_flight: u64,
}
