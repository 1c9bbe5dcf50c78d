//! One end of an edge, as whoever runs functions there keeps it: the SDK in a process, the runtime in a cell.

use std::os::fd::OwnedFd;

use baton_abi::boot::{Edge, NODE_PEER};
use baton_abi::{Descriptor, Flags};

use crate::bell::Bell;
use crate::link::{Duplex, Side, map_bell};
use crate::ring::PushError;

/// One end of an edge. `W` is what its owner keeps beside it.
#[derive(Debug)]
pub struct Road<W = ()> {
    /// The edge's number.
    pub id: u16,
    /// The peer as a holder.
    pub peer: u16,
    /// The callee's function for the caller, the caller's for the callee.
    pub name: Box<str>,
    /// The rings.
    pub duplex: Duplex,
    /// The peer's.
    pub bell: Bell,
    /// Something was sent since the peer's bell was last looked at.
    dirty: bool,
    /// The peer is gone, or broke the ring.
    pub dead: bool,
    /// Calls that were sent and not answered (caller's side).
    pub outstanding: u32,
    /// Most of them at a time: half the ring, so that cancellations always fit.
    pub credits: u32,
    /// The owner's own.
    pub own: W,
}

impl<W> Road<W> {
    /// The end that a message of the node tells of, with the descriptors of its rings and of the peer's bell. `None` if they
    /// are not what they should be.
    pub fn new(edge: &Edge, fds: Vec<OwnedFd>, own: W) -> Option<Road<W>> {
        let mut fds = fds.into_iter();
        let side = if edge.is_caller { Side::Near } else { Side::Far };
        let duplex = Duplex::map(fds.next()?, edge.ring_entries, side).ok()?;
        let bell = map_bell(fds.next()?).ok()?;
        Some(Road {
            id: edge.id,
            peer: edge.peer,
            name: edge.name.as_str().into(),
            duplex,
            bell,
            dirty: false,
            dead: false,
            outstanding: 0,
            credits: edge.ring_entries / 2,
            own,
        })
    }

    /// Takes a new road in: in the place of one whose peer is gone, so that others keep their index, or behind all.
    pub fn join(self, roads: &mut Vec<Road<W>>) {
        match roads.iter_mut().find(|old| old.dead && old.outstanding == 0) {
            Some(old) => *old = self,
            None => roads.push(self),
        }
    }

    /// Sends one descriptor; the peer's bell is rung by [`Road::flush`].
    ///
    /// # Errors
    /// [`PushError`]: the ring is full or broken.
    #[inline]
    pub fn push(&mut self, descriptor: &Descriptor) -> Result<(), PushError> {
        self.duplex.to_peer.push(descriptor)?;
        self.dirty = true;
        Ok(())
    }

    /// Counts a call that was sent. `true` if it is one to be timed.
    #[inline]
    pub fn note_call(&self, call: &Descriptor) -> bool {
        self.duplex.figures().is_some_and(|row| row.note_call(call.body.len))
    }

    /// Counts an answer that came, and how long it took if its call was timed.
    #[inline]
    pub fn note_answer(&self, answer: &Descriptor, took_ns: Option<u64>) {
        let Some(row) = self.duplex.figures() else { return };
        row.note_answer(answer.body.len, answer.flags.has(Flags::ERROR));
        if let Some(ns) = took_ns {
            row.note_time(ns);
        }
    }

    /// Counts a call that failed without an answer.
    #[cold]
    pub fn note_failure(&self) {
        if let Some(row) = self.duplex.figures() {
            row.note_answer(0, true);
        }
    }

    /// Rings the peer's bell if something was sent. `true` if the peer is the node, which has no bell here: it is rung as for the
    /// link.
    #[inline]
    #[must_use]
    pub fn flush(&mut self) -> bool {
        if core::mem::take(&mut self.dirty) {
            if self.peer == NODE_PEER {
                return true;
            }
            self.bell.ring();
        }
        false
    }

    /// Whether calls may be sent to the peer: it is there, and the node is not about to take it away. Who asks sends in the
    /// same turn of its loop: the node waits for that turn's end.
    #[must_use]
    #[inline]
    pub fn takes_calls(&self) -> bool {
        !self.dead && !self.duplex.flags().is_retiring()
    }

    /// Load for the choice among several replicas of one function.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.outstanding.max(self.bell.in_flight())
    }

    /// The oldest descriptor from the peer. A peer that breaks the ring counts as dead.
    #[inline]
    pub fn pop(&mut self) -> Option<Descriptor> {
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
    pub fn is_quiet(&mut self) -> bool {
        self.dead || (self.duplex.from_peer.is_empty().unwrap_or(false) && !self.duplex.flags().is_closed())
    }
}
