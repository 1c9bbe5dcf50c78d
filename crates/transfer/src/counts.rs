//! What an endpoint counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::vault::Refusal;

/// What is counted besides refusals of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Calls that were sent.
    CallsOut,
    /// Calls that came.
    CallsIn,
    /// Calls that ended without an answer.
    CallsFailed,
    /// Pulls that were asked for here.
    Pulls,
    /// … and did not end well.
    PullsFailed,
    /// … and went on over another connection.
    PullsResumed,
    /// Pulls that peers asked for.
    PullsServed,
    /// Bytes of bodies that travelled inside frames, both ways.
    BytesInline,
    /// Bytes that peers pulled.
    BytesSent,
    /// Bytes that were pulled.
    BytesPulled,
    /// Connections that were established, both ways.
    Connections,
    /// Connections that were reset because memory under them had to go.
    Resets,
    /// Peers whose frames broke the protocol.
    Violations,
    /// Connections turned away: too many, or too slow to say hello.
    TurnedAway,
    /// Connections refused: protocol version, cluster, unknown or other node, stale incarnation.
    Strangers,
    /// TLS handshakes that failed: not signed by the cluster, expired, other node's name.
    Untrusted,
}

const COUNTED: usize = Counted::Untrusted as usize + 1;

/// The live counters, for any thread.
#[derive(Debug)]
pub(crate) struct Counters {
    counted: [AtomicU64; COUNTED],
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            counted: std::array::from_fn(|_| AtomicU64::new(0)),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Counters {
    pub(crate) fn add(&self, counted: Counted, by: u64) {
        if let Some(counter) = self.counted.get(counted as usize) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(crate) fn one(&self, counted: Counted) {
        self.add(counted, 1);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            counted: self.counted.iter().map(read).collect(),
            refused: self.refused.iter().map(read).collect(),
        }
    }
}

/// What was counted up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    counted: Vec<u64>,
    refused: Vec<u64>,
}

impl Counts {
    /// How much there was of one thing.
    #[must_use]
    pub fn of(&self, counted: Counted) -> u64 {
        self.counted.get(counted as usize).copied().unwrap_or(0)
    }

    /// How often references were refused for one reason.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).copied().unwrap_or(0)
    }

    /// How often references were refused.
    #[must_use]
    pub fn refused_altogether(&self) -> u64 {
        self.refused.iter().sum()
    }
}
