//! What the admin API and its clients say to each other, as JSON.

use std::collections::BTreeMap;

use baton_catalog::{FunctionName, Manifest, Percent, Sticky};
use baton_flow::status::{AppStatus, CapabilityRow, LogLine, Receipt, Totals, VersionStatus};
use serde::{Deserialize, Serialize};

use crate::artifacts::ArtifactHash;
use crate::cluster::Row;
use crate::deploy::Wish;
use crate::events::{DeadReport, QueueReport};

/// The header that names the invocation a reply belongs to.
pub const INVOCATION_HEADER: &str = "x-baton-invocation";
/// The header by which a client of the invocation endpoint sets the path that the function sees.
pub const PATH_HEADER: &str = "x-baton-path";

/// `POST /v1/apps/{app}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// What the app declares.
    pub manifest: Manifest,
    /// The uploaded artifact of each function.
    pub artifacts: BTreeMap<FunctionName, ArtifactHash>,
    /// The uploaded bundle of files of each function that has any.
    #[serde(default)]
    pub files: BTreeMap<FunctionName, ArtifactHash>,
    /// How it is to take over, beyond what the manifest says.
    #[serde(default)]
    pub rollout: Wish,
    /// Who deploys, as it says of itself; at most 128 characters are kept.
    #[serde(default)]
    pub by: String,
}

/// The answer to a [`DeployRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployReply {
    /// The app.
    pub app: String,
    /// Its version.
    pub version: u64,
    /// Replicas that are ready; absent where nothing had to change.
    pub replicas: Option<u32>,
    /// Whether anything had to change.
    pub changed: bool,
    /// Its part of the requests, where the version before has the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// The version that has the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// `DELETE /v1/apps/{app}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoveReply {
    /// The app that is gone.
    pub removed: String,
}

/// `POST /v1/apps/{app}/evict`: to measure a cold start, cells have to be gone and their templates not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictReply {
    /// Idle cells that have ended.
    pub evicted: u32,
}

/// `PUT /v1/apps/{app}/functions/{function}/scale`: what is not given stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleWish {
    /// Replicas that are always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Replicas that there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// The answer to a [`ScaleWish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleReply {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// Replicas that are always there.
    pub min: u32,
    /// Replicas that there may be.
    pub max: u32,
    /// Replicas that there shall be now.
    pub wanted: u32,
}

/// `GET /v1/apps`.
#[derive(Clone, Debug, Serialize)]
pub struct Apps {
    /// What runs.
    pub apps: Vec<AppStatus>,
    /// What is stored and could not be started.
    pub failed: Vec<FailedApp>,
    /// What runs beside the versions in `apps`, and has a part of their requests.
    pub beside: Vec<AppStatus>,
    /// Each version that runs, those included that finish what they have.
    pub versions: Vec<VersionStatus>,
    /// Versions that were not deployed while the one before serves on.
    pub refused: Vec<Refusal>,
    /// Versions that were rolled back since the one that serves was deployed.
    pub undone: Vec<UndoneRow>,
}

/// A version that was not deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The app.
    pub app: String,
    /// The number that it would have had.
    pub version: u64,
    /// Why.
    pub error: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A version that was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoneRow {
    /// The app.
    pub app: String,
    /// The version.
    pub version: u64,
    /// Why.
    pub why: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A stored app that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedApp {
    /// The app.
    pub app: String,
    /// Why.
    pub error: String,
}

/// `GET /v1/logs`.
#[derive(Clone, Debug, Serialize)]
pub struct LogPage {
    /// Lines, oldest first.
    pub lines: Vec<LogLine>,
    /// What to ask for next as `after`.
    pub next: u64,
}

/// `GET /v1/caps`.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    /// Who may access what now.
    pub capabilities: Vec<CapabilityRow>,
}

/// `GET /v1/receipts`.
#[derive(Clone, Debug, Serialize)]
pub struct Receipts {
    /// Newest first.
    pub receipts: Vec<Receipt>,
}

/// `PUT /v1/recording`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Whether receipts are written.
    pub on: bool,
}

/// `GET /v1/node`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Where requests go.
    pub gateway: String,
    /// Where the admin API listens on TCP.
    pub admin: String,
    /// The state directory.
    pub home: String,
}

/// `GET /v1/overview`: all that changes from moment to moment, in one answer.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// The node.
    pub node: NodeInfo,
    /// When this was so, milliseconds since the node's start: what rates are reckoned by.
    pub at_ms: u64,
    /// Counters since the start.
    pub totals: Totals,
    /// Whether receipts are written.
    pub recording: bool,
    /// What runs; of an app with several versions, the one that leads.
    pub apps: Vec<AppStatus>,
    /// What runs beside those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<AppStatus>,
    /// What is stored and could not be started.
    pub failed: Vec<FailedApp>,
    /// The cluster, if the node is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Nodes>,
    /// The node's process, then those of replicas and cells.
    pub processes: Vec<ProcessFigures>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// The process.
    pub pid: u32,
    /// CPU time of all its threads since it started, milliseconds.
    pub cpu_ms: u64,
    /// Memory that it has resident, the app's pool included where it touched that.
    pub resident_bytes: u64,
}

/// Any answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub error: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Whether the cluster's store does not answer: nothing is wrong with what was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreachable: bool,
}

/// `GET /v1/nodes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nodes {
    /// The node that tells.
    pub node: String,
    /// Those that live, as far as is known there, by name.
    pub nodes: Vec<NodeRow>,
}

/// A node of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// What it says of itself.
    #[serde(flatten)]
    pub row: Row,
    /// Requests that replicas have, all functions together.
    pub in_flight: u64,
    /// Requests that wait for one.
    pub queued: u64,
}

impl NodeRow {
    pub(crate) fn of(row: &Row) -> Self {
        let loads = || row.apps.values().flat_map(|app| app.functions.values());
        let in_flight = loads().map(|load| u64::from(load.in_flight)).sum();
        let queued = loads().map(|load| u64::from(load.queued)).sum();
        Self { row: row.clone(), in_flight, queued }
    }
}

/// `POST` and `DELETE` of `/v1/nodes/{node}/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReply {
    /// The node.
    pub node: String,
    /// Whether it is to give its work to others from now on.
    pub draining: bool,
}

/// `GET /v1/apps/{app}/versions`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// The app.
    pub app: String,
    /// The versions that are kept, oldest first.
    pub versions: Vec<VersionRow>,
}

/// A version that was deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its number.
    pub version: u64,
    /// The artifact of each function.
    pub functions: BTreeMap<FunctionName, String>,
    /// `serving`, `canary`, `standby`, `draining`; `stored` for what does not run, `undone` if that is why.
    #[serde(default)]
    pub state: String,
    /// Its part of the requests.
    #[serde(default)]
    pub share: Percent,
    /// When it was deployed, in milliseconds since 1970; 0 where it is not known.
    #[serde(default)]
    pub deployed_ms: u64,
    /// Who deployed it, as it said of itself.
    #[serde(default)]
    pub deployed_by: String,
    /// Why it was undone, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
    /// Requests of clients that it answered since this node started it.
    #[serde(default)]
    pub requests: u64,
    /// Of these, failures.
    #[serde(default)]
    pub failures: u64,
    /// Replicas that are up on this node.
    #[serde(default)]
    pub replicas: u32,
}

/// `POST /v1/apps/{app}/rollback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// To which version; to the one before if absent.
    pub version: Option<u64>,
}

/// `PUT /v1/apps/{app}/traffic`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficRequest {
    /// The part of the requests of one or two versions.
    pub shares: BTreeMap<u64, Percent>,
    /// By what one who asks again is known; as it was if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// The answer to a change of which versions answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReply {
    /// The app.
    pub app: String,
    /// The part of the requests of each version that answers.
    pub shares: BTreeMap<u64, Percent>,
}

/// An event that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReply {
    /// Its name.
    pub event: String,
}

/// Calls that nobody waits for.
#[derive(Clone, Debug, Serialize)]
pub struct EventsReply {
    /// What waits, by function.
    pub queues: Vec<QueueReport>,
    /// What came to nothing, newest first.
    pub dead: Vec<DeadReport>,
}

/// The answer to `PUT /v1/secrets/{app}/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReply {
    /// The app.
    pub app: String,
    /// The secret's name.
    pub name: String,
    /// Counts the values that it has had.
    pub revision: u64,
    /// Whether it is another value than before.
    pub changed: bool,
    /// Whether functions that run were started anew with it.
    pub started: bool,
    /// Whether all nodes of the cluster have it, or will in a moment.
    #[serde(default)]
    pub shared: bool,
}
