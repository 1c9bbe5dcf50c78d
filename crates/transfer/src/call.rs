//! Call lanes without sockets and clocks: frames and time in, frames and events out.
//!
//! ```text
//!  caller  begin ─▶ queued ─▶ sent ─────────────▶ answered          every call that was sent gets exactly one answer,
//!                     │         │ cancel, deadline    ▲             so both ends agree on how many are out
//!                     ▼         ▼                     │
//!                   gone      abandoned ──────────────┘             its answer is dropped, what it refers to is released
//! ```
//! A lane that breaks ends all of its calls: those that were sent may have begun, those that were queued have not.

use std::fmt;

use crate::wire::WireError;

mod callee;
mod caller;

pub use callee::{Callee, CalleeEvent};
pub use caller::{Caller, CallerEvent};

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// There is no lane to the node.
    NotConnected,
    /// The lane broke.
    Lost {
        /// Whether the call may have begun.
        sent: bool,
    },
    /// No answer in time. The call may have begun.
    Late,
    /// A head, a name or an inline body is longer than a frame carries, or the name is empty.
    TooLarge,
    /// As many calls as there may be are out, or the app has as many bytes held as it may.
    Crowded,
    /// The node takes no more calls.
    Draining,
}

impl CallError {
    /// Whether the call has surely not begun, so that another node can be asked.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            CallError::NotConnected | CallError::Crowded | CallError::Draining => true,
            CallError::Lost { sent } => !sent,
            CallError::Late | CallError::TooLarge => false,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::NotConnected => "there is no connection to the node",
            CallError::Lost { sent: false } => "the connection to the node broke before the call was sent",
            CallError::Lost { sent: true } => "the connection to the node broke; the call may have begun",
            CallError::Late => "the node did not answer in time; the call may have begun",
            CallError::TooLarge => "the call's names, head or inline body are not what a frame carries",
            CallError::Crowded => "too many calls to the node are out",
            CallError::Draining => "the node takes no more calls",
        })
    }
}

impl std::error::Error for CallError {}

/// What a peer did that ends its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It sent what is no frame.
    Wire(WireError),
    /// It answered a call that is not out.
    NotOut,
    /// It used a number that is not above those before.
    Number,
    /// It has more out than it was told.
    Flood,
    /// It acknowledged, or sent, what was not asked for.
    NotAsked,
    /// It acknowledged bytes that were not sent yet.
    Early,
}

impl From<WireError> for Violation {
    fn from(error: WireError) -> Violation {
        Violation::Wire(error)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Wire(error) => error.fmt(f),
            Violation::NotOut => f.write_str("an answer to a call that is not out"),
            Violation::Number => f.write_str("a number that is not above those before"),
            Violation::Flood => f.write_str("more calls or pulls than were granted"),
            Violation::NotAsked => f.write_str("bytes that were not asked for"),
            Violation::Early => f.write_str("an acknowledgement of bytes that were not sent"),
        }
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests;
