//! Why an invocation failed, or an app was not started, split by what the caller does about it.

use core::fmt;
use std::time::Duration;

use baton_catalog::Isolation;

/// Why an invocation failed. The gateway's status table and the CLI's messages are made from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvokeError {
    /// No such app or function is deployed.
    Unknown,
    /// The payload is larger than the app's pool can ever hold.
    TooLarge {
        /// Bytes that it holds at most.
        limit: u64,
    },
    /// The pool has no room now; it has as soon as running calls end.
    PoolFull,
    /// As many calls wait for the function as may.
    QueueFull,
    /// The function did not answer in its time.
    DeadlineExceeded {
        /// The time that it had.
        after: Duration,
    },
    /// No replica is there: it is being started, or keeps dying.
    NoReplica {
        /// Whether the function dies again and again.
        crash_looping: bool,
    },
    /// The replica died while it had the call.
    ReplicaDied {
        /// Whose it was.
        function: String,
        /// How, for a person to read.
        how: String,
    },
    /// It runs on other nodes, and none of them can be reached.
    NoNode {
        /// The function.
        function: String,
    },
    /// The node that had the call is lost. The function may have done its work, or not.
    NodeLost {
        /// The function.
        function: String,
        /// The node.
        node: String,
    },
    /// The edge is durable, and the payload could not be put on the disk. The call was not made.
    NotKept {
        /// Why.
        why: &'static str,
    },
    /// The function answered with something that the node cannot believe.
    BadReply {
        /// What was wrong with it.
        what: &'static str,
    },
    /// The function answered with a failure of its own: status and message are its words.
    Function {
        /// The status that it wants its caller to see.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The head (method, path, headers) is larger than a link carries.
    HeadTooLarge,
    /// A policy does not let the request pass.
    Refused(Box<baton_policy::Refusal>),
    /// The node is going down and takes no new work.
    Draining,
}

impl InvokeError {
    /// The table: the HTTP status that whoever asked sees.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            InvokeError::Refused(refusal) => refusal.status,
            InvokeError::Unknown => 404,
            InvokeError::TooLarge { .. } => 413,
            InvokeError::QueueFull => 429,
            InvokeError::HeadTooLarge => 431,
            // A failure that calls itself a success, or no status at all, is the function's mistake.
            InvokeError::Function { status, .. } if !(400..=599).contains(status) => 500,
            InvokeError::Function { status, .. } => *status,
            InvokeError::ReplicaDied { .. } | InvokeError::BadReply { .. } | InvokeError::NodeLost { .. } => {
                502
            }
            InvokeError::PoolFull
            | InvokeError::NoReplica { .. }
            | InvokeError::NoNode { .. }
            | InvokeError::Draining => 503,
            InvokeError::DeadlineExceeded { .. } => 504,
            InvokeError::NotKept { .. } => 507,
        }
    }

    /// Whether the version that answered is at fault, rather than who asked or how many did.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            InvokeError::Unknown
            | InvokeError::TooLarge { .. }
            | InvokeError::QueueFull
            | InvokeError::HeadTooLarge
            | InvokeError::Refused(_)
            | InvokeError::Draining => false,
            InvokeError::Function { status, .. } => *status >= 500,
            InvokeError::PoolFull
            | InvokeError::DeadlineExceeded { .. }
            | InvokeError::NoReplica { .. }
            | InvokeError::ReplicaDied { .. }
            | InvokeError::NoNode { .. }
            | InvokeError::NodeLost { .. }
            | InvokeError::NotKept { .. }
            | InvokeError::BadReply { .. } => true,
        }
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvokeError::Unknown => f.write_str("no such function is deployed; `baton ps` lists what is"),
            InvokeError::TooLarge { limit } => {
                write!(f, "the payload is larger than the app's pool ({limit} bytes); raise `pool.size`")
            }
            InvokeError::PoolFull => f.write_str("the app's pool is full; retry, or raise `pool.size`"),
            InvokeError::QueueFull => {
                f.write_str("too many calls wait for the function; retry, or raise `scale.queue`")
            }
            InvokeError::DeadlineExceeded { after } => {
                write!(f, "the function did not answer within {after:?}")
            }
            InvokeError::NoReplica { crash_looping: true } => {
                f.write_str("the function dies again and again; `baton logs` says why")
            }
            InvokeError::NoReplica { crash_looping: false } => {
                f.write_str("no replica of the function is up")
            }
            InvokeError::ReplicaDied { function, how } => {
                write!(f, "the replica of function {function} died: {how}")
            }
            InvokeError::NoNode { function } => {
                write!(f, "no node that runs function {function} can be reached; `baton nodes` lists them")
            }
            InvokeError::NodeLost { function, node } => write!(
                f,
                "node {node} was lost while it had a call of function {function}; retry if doing its work twice does no \
                 harm (`idempotent = true` in baton.toml has the node do that)"
            ),
            InvokeError::NotKept { why } => {
                write!(
                    f,
                    "the payload of a durable call cannot be put on the disk: {why}; the call was not made"
                )
            }
            InvokeError::BadReply { what } => write!(f, "the function broke the protocol: {what}"),
            InvokeError::Function { message, .. } => f.write_str(message),
            InvokeError::HeadTooLarge => f.write_str("the request's head is too large"),
            InvokeError::Refused(refusal) => f.write_str(&refusal.message),
            InvokeError::Draining => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for InvokeError {}

/// Why an app was not started. What ran before goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployError {
    /// The machine or this build lacks what a function's isolation needs, and its `fallback` does not allow another.
    Isolation {
        /// The function.
        function: String,
        /// What it asks for.
        wanted: &'static str,
        /// What is missing for that.
        why: String,
    },
    /// A route leads to a function that cannot read requests.
    Unreachable {
        /// The function.
        function: String,
    },
    /// A function has no executable.
    NoArtifact {
        /// The function.
        function: String,
    },
    /// More functions share one memory key than a cell holds.
    KeyTooCrowded {
        /// The key.
        key: String,
        /// How many share it.
        functions: usize,
        /// How many may.
        max: usize,
    },
    /// Routes of this app and of another clash.
    Routes {
        /// The other app.
        other: String,
        /// How.
        clash: String,
    },
    /// Routes of two versions that are to answer side by side clash.
    SplitRoutes {
        /// How.
        clash: String,
    },
    /// A version is not ready on this node.
    NotHere {
        /// The app.
        app: String,
        /// The version.
        version: u64,
    },
    /// The pool could not be made.
    Pool {
        /// Why.
        why: String,
    },
    /// A function did not become ready.
    NotReady {
        /// The function.
        function: String,
        /// Its last words, or what the node knows.
        why: String,
    },
    /// Its policies cannot be made ready.
    Policy(baton_policy::CompileError),
    /// The node is going down.
    Draining,
}

impl core::fmt::Display for DeployError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeployError::Isolation { function, wanted, why } if *wanted == Isolation::Wasm.as_str() => {
                write!(
                    f,
                    "{function}: this node cannot run `isolation = \"wasm\"`: {why} (`baton doctor` says what else is missing)"
                )
            }
            DeployError::Isolation { function, wanted, why } => write!(
                f,
                "{function}: this node cannot run `isolation = \"{wanted}\"`: {why}; or set `isolation = \"process\"` or \
                 `fallback = \"process\"` (`baton doctor` says what else is missing)"
            ),
            DeployError::Unreachable { function } => write!(
                f,
                "{function}: a route leads to it, but with `pool = \"none\"` it cannot read a request; say \
                 `pool = \"read\"` or \"write\", or take the route away"
            ),
            DeployError::NoArtifact { function } => write!(f, "{function}: no executable was given for it"),
            DeployError::KeyTooCrowded { key, functions, max } => write!(
                f,
                "{functions} functions have `share_key = \"{key}\"`, and a cell holds {max}: give some of them another key"
            ),
            DeployError::Routes { other, clash } => write!(
                f,
                "a route clashes with one of app `{other}`: {clash}; change the path, or `baton rm {other}` first"
            ),
            DeployError::SplitRoutes { clash } => write!(
                f,
                "the two versions cannot answer side by side, since their routes clash: {clash}; name parameters alike in both, \
                 or deploy the new version for all requests"
            ),
            DeployError::NotHere { app, version } => {
                write!(f, "version {version} of {app} does not run here")
            }
            DeployError::Pool { why } => write!(f, "the app's pool: {why}; lower `pool.size`"),
            DeployError::NotReady { function, why } => write!(f, "{function} did not become ready: {why}"),
            DeployError::Policy(error) => write!(f, "{error}; docs/policy.md has an example of each handler"),
            DeployError::Draining => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for DeployError {}
