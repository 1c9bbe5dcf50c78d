//! Why an invocation failed, split by what its caller does about it.

use core::fmt;
use std::time::Duration;

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
        /// How, for a person to read.
        how: String,
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
    /// The node is going down and takes no new work.
    Draining,
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
            InvokeError::ReplicaDied { how } => write!(f, "the function's replica died: {how}"),
            InvokeError::BadReply { what } => write!(f, "the function broke the protocol: {what}"),
            InvokeError::Function { message, .. } => f.write_str(message),
            InvokeError::HeadTooLarge => f.write_str("the request's head is too large"),
            InvokeError::Draining => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for InvokeError {}
