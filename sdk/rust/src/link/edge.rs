//! Edges: direct roads to and from other replicas of the app.

use std::collections::VecDeque;
use std::task::Waker;

use baton_abi::boot::Edge;

/// One edge, seen from this replica.
pub(crate) type Road = baton_pool::road::Road<Waits>;

/// What a replica keeps beside an edge: how long calls over it may take, and which wait for it.
pub(crate) struct Waits {
    /// Calls that may wait for credit.
    pub(crate) queue_max: u32,
    /// How long a call may take.
    pub(crate) timeout_ns: u64,
    /// Calls that wait for credit.
    pub(crate) waiting: VecDeque<(u64, Waker)>,
    /// Numbers those calls.
    pub(crate) last_parked: u64,
}

/// A call that waits for credit, so that it waits only once however often it is polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) road: usize,
    pub(crate) number: u64,
}

impl Waits {
    pub(crate) fn new(edge: &Edge) -> Waits {
        Waits {
            queue_max: edge.queue_max,
            timeout_ns: u64::from(edge.timeout_ms) * 1_000_000,
            waiting: VecDeque::new(),
            last_parked: 0,
        }
    }
}
