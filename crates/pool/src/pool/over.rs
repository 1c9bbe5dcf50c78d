//! The node as one end of an edge: payloads come and go in flight over it, as between two replicas.

use core::sync::atomic::{Ordering, fence};

use baton_abi::Extent;

use super::{NodeBuffer, Pool, Received, Refusal};
use crate::capability::{CapabilityError, Handle, Hold, NODE, Range};

impl Pool {
    pub(super) fn send_into(
        &mut self,
        buffer: &NodeBuffer,
        range: Range,
        (to, holder): (Hold, u16),
        invocation: u64,
    ) -> Result<(), CapabilityError> {
        let (dirty_by, dirty_len) = self.ledger.dirt(buffer.handle.index);
        let end = range.offset.saturating_add(range.len);
        if dirty_by != holder && dirty_len > end {
            self.zero(buffer.place.offset + end, dirty_len - end);
            self.ledger.mark_clean(buffer.handle.index);
        }
        self.table.transfer_described(buffer.handle, (Hold::held(NODE), to), (range, end, invocation)).map(
            |_rights| {
                self.own.put(buffer.handle);
            },
        )
    }

    /// As [`Pool::receive`], of what came over the edge `edge` from `holder`.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then.
    pub fn receive_over(&mut self, extent: Extent, (edge, holder): (u16, u16)) -> Result<Received, Refusal> {
        self.receive_from(extent, (Some(edge), holder))
    }

    /// As [`Pool::send`], over the edge `edge` whose other end is `holder`.
    ///
    /// # Errors
    /// [`CapabilityError`] when the table was tampered with.
    pub fn send_over(
        &mut self,
        buffer: &NodeBuffer,
        range: Range,
        (edge, holder): (u16, u16),
        invocation: u64,
    ) -> Result<(), CapabilityError> {
        self.send_into(buffer, range, (self.hold_to(Some(edge), holder), holder), invocation)
    }

    /// What the node received from `holder` goes back to it as it is, if it is the next to get that buffer and so large that its pages would be
    /// given back to the kernel otherwise: what is less is as quickly zeroed as met again. Not for who counts on zeros, as a cell does, which
    /// divides what it is granted among its seats: and the node must not write into it.
    pub fn goes_back(&mut self, received: &Received, holder: u16) {
        if received.place.capacity >= self.punch_from {
            self.own.mark(received.handle, holder);
        }
    }

    /// Whether the node has its whole buffer, which nobody can take away or use again before the node gives it back. What was
    /// lent or shared to it can be revoked: see [`Pool::still_has`].
    #[must_use]
    pub fn owns(&self, handle: Handle) -> bool {
        handle.index < self.slots && self.own.has(handle)
    }

    /// Who has a capability, and in what state, if it still has this generation.
    #[must_use]
    pub fn hold_of(&self, handle: Handle) -> Option<Hold> {
        self.table.hold(handle)
    }

    /// Whether what is named lies in its buffer, or in the range of a derived capability.
    #[must_use]
    pub fn fits(&self, named: Extent) -> bool {
        let Extent { handle, generation, offset, len } = named;
        if handle < self.slots {
            return self.ledger.check(handle, generation, offset, len).is_ok();
        }
        let found =
            self.table.look(handle).filter(|found| found.handle == Handle { index: handle, generation });
        found.is_some_and(|found| found.range.contains(Range { offset, len }))
    }

    /// Whether what the node received has not been revoked since. Bytes that were copied out before this says yes are those
    /// that were lent: honest owners use a buffer for something else only once they have revoked what they lent of it.
    #[must_use]
    pub fn still_has(&self, handle: Handle) -> bool {
        // The copy comes first.
        fence(Ordering::SeqCst);
        self.own.has(handle) && self.table.hold(handle) == Some(Hold::held(NODE))
    }
}
