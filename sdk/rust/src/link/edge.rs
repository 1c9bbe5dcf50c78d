//! Edges: direct roads to and from other replicas of the app.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

use baton_abi::Descriptor;
use baton_abi::boot::Edge;
use baton_pool::bell::Bell;
use baton_pool::link::{Duplex, Side, map_bell};
use baton_pool::ring::PushError;

/// One edge, seen from this replica.
pub(crate) struct Road {
    pub(crate) id: u16,
    pub(crate) peer: u16,
    pub(crate) name: Rc<str>,
    pub(crate) duplex: Duplex,
    pub(crate) bell: Bell,
    /// Something was sent since the peer's bell was last looked at.
    pub(crate) dirty: bool,
    pub(crate) dead: bool,
    /// Calls that were sent and not answered (caller's side).
    pub(crate) outstanding: u32,
    /// Most of them at a time: half the ring, so that cancellations always fit.
    pub(crate) credits: u32,
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

impl Road {
    pub(crate) fn new(edge: &Edge, fds: Vec<OwnedFd>) -> Option<Road> {
        let mut fds = fds.into_iter();
        let side = if edge.is_caller { Side::Near } else { Side::Far };
        let duplex = Duplex::map(fds.next()?, edge.ring_entries, side).ok()?;
        let bell = map_bell(fds.next()?).ok()?;
        Some(Road {
            id: edge.id,
            peer: edge.peer,
            name: Rc::from(edge.name.as_str()),
            duplex,
            bell,
            dirty: false,
            dead: false,
            outstanding: 0,
            credits: edge.ring_entries / 2,
            queue_max: edge.queue_max,
            timeout_ns: u64::from(edge.timeout_ms) * 1_000_000,
            waiting: VecDeque::new(),
            last_parked: 0,
        })
    }

    /// Sends one descriptor; the peer's bell is rung at the end of the turn.
    #[inline]
    pub(crate) fn push(&mut self, descriptor: &Descriptor) -> Result<(), PushError> {
        self.duplex.to_peer.push(descriptor)?;
        self.dirty = true;
        Ok(())
    }

    #[inline]
    pub(crate) fn flush(&mut self) {
        if self.dirty {
            self.dirty = false;
            self.bell.ring();
        }
    }

    /// Load for the choice among several replicas of one function.
    pub(crate) fn load(&self) -> u32 {
        self.outstanding.max(self.bell.in_flight())
    }

    /// The oldest descriptor from the peer. A peer that breaks the ring counts as dead.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Descriptor> {
        match self.duplex.from_peer.pop() {
            Ok(found) => found,
            Err(_) => {
                self.dead = true;
                None
            }
        }
    }

    /// Whether there is nothing to take now.
    #[inline]
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.dead || (self.duplex.from_peer.is_empty().unwrap_or(false) && !self.duplex.flags().is_closed())
    }
}
