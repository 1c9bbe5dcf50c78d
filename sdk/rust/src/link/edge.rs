//! Edges: direct roads to and from other replicas of the app.

use std::collections::VecDeque;
use std::task::Waker;

use baton_abi::Descriptor;
use baton_abi::boot::{Edge, NODE_PEER};
use baton_abi::packet::CREDITS;

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
    /// What the kernel brought over this edge, where it is the kernel that hands over: nothing is in the rings then.
    pub(crate) inbox: Option<VecDeque<Descriptor>>,
}

/// A call that waits for credit, so that it waits only once however often it is polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) road: usize,
    pub(crate) number: u64,
}

impl Waits {
    pub(crate) fn new(edge: &Edge, is_guarded: bool) -> Waits {
        Waits {
            queue_max: edge.queue_max,
            timeout_ns: u64::from(edge.timeout_ms) * 1_000_000,
            waiting: VecDeque::new(),
            last_parked: 0,
            inbox: (is_guarded && edge.peer != NODE_PEER).then(VecDeque::new),
        }
    }
}

/// The oldest descriptor from the peer.
#[inline]
pub(crate) fn pop(road: &mut Road) -> Option<Descriptor> {
    match &mut road.own.inbox {
        None => road.pop(),
        Some(inbox) => inbox.pop_front(),
    }
}

/// Whether there is nothing to take now.
#[inline]
pub(crate) fn is_quiet(road: &mut Road) -> bool {
    match &road.own.inbox {
        None => road.is_quiet(),
        Some(inbox) => road.dead || (inbox.is_empty() && !road.duplex.flags().is_closed()),
    }
}

/// Load for the choice among several replicas of one function: where the kernel hands over, the peer's bell is not to be seen.
#[inline]
pub(crate) fn load(road: &Road) -> u32 {
    if road.own.inbox.is_some() { road.outstanding } else { road.load() }
}

/// Calls that may be out over a road at a time.
#[inline]
pub(crate) fn credits(road: &Road) -> u32 {
    if road.own.inbox.is_some() { road.credits.min(CREDITS) } else { road.credits }
}
