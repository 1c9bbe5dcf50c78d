//! What [`crate::outside`] asks of the link: the parts of a turn, one by one.

use baton_abi::boot::PoolAccess;
use baton_abi::{Descriptor, Kind as Message64};
use baton_pool::bell::Bell;

use super::edge;
use super::guard::{self, Alarm};
use super::receive::accept;
use super::{Arrived, Link};
use crate::error::Error;
use crate::executor::{Finished, Origin, Ticket};
use crate::message::Message;

/// Who does not wait any more: for the request with a tag, or for any.
pub(crate) type Gone = (Origin, Option<u32>);

impl Link {
    pub(crate) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    pub(crate) fn bell(&'static self) -> &'static Bell {
        &self.bell
    }

    /// What ends this function's sleep, from any thread.
    pub(crate) fn alarm(&'static self) -> Alarm {
        Alarm::new(&self.bell, self.guard.as_ref().map(guard::Guard::socket))
    }

    /// Whether the node said that it is enough, and nothing waits.
    pub(crate) fn is_over(&self) -> bool {
        self.shutdown.get() && self.arrived.borrow().is_empty()
    }

    /// Whether this function may write the pool.
    pub(crate) fn can_write(&self) -> bool {
        self.memory.access == PoolAccess::Write
    }

    /// The function at a position of the manifest's `calls`.
    pub(crate) fn callee(&'static self, index: usize) -> Option<&'static str> {
        self.declared.get(index).map(String::as_str)
    }

    /// Looks at everything that came, but for requests over edges. Gives the node's requests that nobody waits for.
    pub(crate) fn outside_turn(&'static self, live: u32) -> Vec<u32> {
        self.look_at_node();
        let cancelled = self.cancelled.take();
        self.look_at_answers();
        self.bell.publish_in_flight(live);
        self.flush_bells();
        cancelled
    }

    /// Nothing is there to be looked at.
    pub(crate) fn outside_is_quiet(&self, takes_requests: bool) -> bool {
        self.duplex.borrow_mut().from_peer.is_empty().unwrap_or(false)
            && self.guard.as_ref().is_none_or(|guard| guard.is_quiet())
            && self.outgoing.borrow_mut().iter_mut().all(edge::is_quiet)
            && (!takes_requests
                || (self.incoming.borrow_mut().iter_mut().all(edge::is_quiet)
                    && self.arrived.borrow().is_empty()))
            && self.bell.control_sent() == self.control_seen.get()
    }

    /// Nanoseconds until a call's own time is over.
    pub(crate) fn outside_deadline(&self) -> Option<u64> {
        let deadline = self.calls.borrow().next_deadline();
        deadline.map(|deadline| deadline.saturating_sub(crate::clock::now_ns()))
    }

    /// Sleeps. Sleep was announced, and there was nothing at the last look.
    pub(crate) fn outside_sleep(&self, timeout_ns: Option<u64>) {
        let own = self.outside_deadline();
        let timeout = match (timeout_ns, own) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.nap(timeout);
    }

    /// Awake, after a sleep by other means than [`Link::outside_sleep`].
    pub(crate) fn outside_awake(&self) {
        self.bell.announce_awake();
        if let Some(guard) = &self.guard {
            guard.note_readable();
        }
    }

    /// The next request that waits to be begun. `gone` hears of those that are not waited for, also where there is none.
    pub(crate) fn next_arrived(&'static self, gone: &mut dyn FnMut(Gone)) -> Option<(Origin, Descriptor)> {
        if let Some(Arrived { origin, descriptor }) = self.arrived.borrow_mut().pop_front() {
            return Some((origin, descriptor));
        }
        let roads = self.incoming.borrow().len();
        for index in 0..roads {
            let origin = Origin::Edge(index);
            while let Some(descriptor) = self.pop_edge(index, gone) {
                match Message64::from_u8(descriptor.kind) {
                    Some(Message64::Request) => return Some((origin, descriptor)),
                    Some(Message64::Cancel) => gone((origin, Some(descriptor.tag))),
                    _ => {}
                }
            }
        }
        None
    }

    fn pop_edge(&'static self, index: usize, gone: &mut dyn FnMut(Gone)) -> Option<Descriptor> {
        let (popped, dead) = {
            let mut roads = self.incoming.borrow_mut();
            let road = roads.get_mut(index).filter(|road| !road.dead)?;
            if road.duplex.flags().is_closed() {
                drop(roads);
                self.clear_edge(index);
                gone((Origin::Edge(index), None));
                self.mark_drained(index);
                return None;
            }
            (edge::pop(road), road.dead)
        };
        if dead {
            gone((Origin::Edge(index), None));
        }
        popped
    }

    /// A request that was not begun is not waited for any more; `false` if there is none.
    pub(crate) fn drop_arrived(&'static self, origin: Origin, tag: u32) -> bool {
        let waits = |arrived: &Arrived| arrived.origin == origin && arrived.descriptor.tag == tag;
        let position = self.arrived.borrow().iter().position(waits);
        let waiting = position.and_then(|position| self.arrived.borrow_mut().remove(position));
        let Some(Arrived { descriptor, .. }) = waiting else { return false };
        self.discard(&descriptor, self.hold_from(origin));
        let invocation = descriptor.invocation;
        let ticket = Ticket { origin, tag, invocation, deadline_ns: 0, record: false };
        let error = Error::new(504, "cancelled before it was started");
        self.finish(&mut Finished::failed(ticket, error, None));
        true
    }

    /// Takes over what a request alleges to bring.
    pub(crate) fn accept_from(
        &'static self,
        origin: Origin,
        descriptor: &Descriptor,
    ) -> Result<Message, Error> {
        accept(self, descriptor.body, descriptor.head, descriptor.flags, self.hold_from(origin))
    }
}
