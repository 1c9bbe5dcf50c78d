//! One turn of the runtime, and the sleep between turns.

use std::process::ExitCode;
use std::rc::Rc;

use baton_abi::descriptor::HopCost;
use baton_abi::{Descriptor, Flags, Kind as Message64};

use super::{Arrived, Runtime};
use crate::edge::Road;
use crate::error::Error;
use crate::executor::{Finished, Job, Origin, Ticket};
use crate::hop::Hop;
use crate::message::{Sent, accept, send};
use crate::request::Request;
use crate::response::Response;

/// Requests that one turn starts before it looks at everything else again.
const STARTS_PER_TURN: u32 = 64;

impl Runtime {
    /// Works until the node says that it is enough.
    pub(crate) fn run(self: &Rc<Self>, handle: &dyn Fn(Request, &Ticket) -> Job) -> ExitCode {
        loop {
            self.turn(handle);
            if self.shutdown.get() && self.executor.live() == 0 {
                self.flush_bells();
                return ExitCode::SUCCESS;
            }
            self.sleep();
        }
    }

    /// Does what there is to do.
    fn turn(self: &Rc<Self>, handle: &dyn Fn(Request, &Ticket) -> Job) {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.bell.publish_turn(self.turns.get());
        self.poll_control();
        self.poll_link();
        for tag in self.cancelled.take() {
            self.cancel(Origin::Link, tag);
        }
        let outgoing = self.outgoing.borrow().len();
        for index in 0..outgoing {
            self.poll_replies(index);
        }
        let ticks = self.bell.ticks();
        let ticked = self.ticks_seen.replace(ticks) != ticks;
        self.expire_calls(ticked);
        self.start_requests(handle);
        self.executor.run_ready(|finished| self.finish(finished));
        self.bell.publish_in_flight(self.executor.live());
        self.flush_bells();
    }

    fn sleep(self: &Rc<Self>) {
        self.bell.announce_sleep();
        if self.is_quiet() {
            let deadline = self.calls.borrow().next_deadline();
            let timeout = deadline.map(|deadline| deadline.saturating_sub(crate::wire::now_ns()));
            self.bell.sleep(timeout);
        }
        self.bell.announce_awake();
    }

    fn is_quiet(&self) -> bool {
        let has_room = self.executor.live() < self.concurrency;
        self.link.borrow_mut().from_peer.is_empty().unwrap_or(false)
            && self.outgoing.borrow_mut().iter_mut().all(Road::is_quiet)
            && (!has_room || self.incoming.borrow_mut().iter_mut().all(Road::is_quiet))
            && (!has_room || self.arrived.borrow().is_empty())
            && self.bell.control_sent() == self.control_seen.get()
            && self.executor.is_quiet()
    }

    fn start_requests(self: &Rc<Self>, handle: &dyn Fn(Request, &Ticket) -> Job) {
        let mut left = STARTS_PER_TURN;
        while left > 0 && self.executor.live() < self.concurrency {
            let Some(arrived) = self.arrived.borrow_mut().pop_front() else { break };
            self.start(arrived, handle);
            left -= 1;
        }
        let roads = self.incoming.borrow().len();
        for index in 0..roads {
            while left > 0 && self.executor.live() < self.concurrency {
                let popped = self.pop_incoming(index);
                let Some(descriptor) = popped else { break };
                left -= 1;
                match Message64::from_u8(descriptor.kind) {
                    Some(Message64::Request) => {
                        self.start(Arrived { origin: Origin::Edge(index), descriptor }, handle);
                    }
                    Some(Message64::Cancel) => self.cancel(Origin::Edge(index), descriptor.tag),
                    _ => {}
                }
            }
        }
    }

    /// The oldest request of an edge. When its caller is gone: what is left is given up.
    fn pop_incoming(self: &Rc<Self>, index: usize) -> Option<Descriptor> {
        let mut roads = self.incoming.borrow_mut();
        let road = roads.get_mut(index).filter(|road| !road.dead)?;
        if !road.duplex.flags().is_closed() {
            let popped = road.pop();
            if road.dead {
                // It broke its ring: nobody is there to answer, and the road's place may soon be another's.
                drop(roads);
                self.executor.cancel(|ticket| ticket.origin == Origin::Edge(index));
            }
            return popped;
        }
        let mut left = Vec::new();
        while let Some(descriptor) = road.pop() {
            left.push(descriptor);
        }
        road.dead = true;
        drop(roads);
        let from = self.hold_from(Origin::Edge(index));
        for descriptor in left {
            self.discard(&descriptor, from);
        }
        self.executor.cancel(|ticket| ticket.origin == Origin::Edge(index));
        if let Some(road) = self.incoming.borrow().get(index) {
            road.duplex.flags().mark_drained();
        }
        None
    }

    fn start(self: &Rc<Self>, arrived: Arrived, handle: &dyn Fn(Request, &Ticket) -> Job) {
        let Arrived { origin, descriptor } = arrived;
        let record = descriptor.flags.has(Flags::RECORD);
        let ticket = Ticket {
            origin,
            tag: descriptor.tag,
            invocation: descriptor.invocation,
            deadline_ns: descriptor.deadline_ns,
            record,
        };
        let hop = record.then(|| Hop::start(descriptor.invocation, self.caller(origin), descriptor.code));
        let accepted =
            accept(self, descriptor.body, descriptor.head, descriptor.flags, self.hold_from(origin));
        let finished = match accepted {
            Ok(accepted) => {
                let request = Request::new(descriptor.code, accepted);
                // A handler may compute for long before its first await: callers should know before it begins.
                self.bell.publish_in_flight(self.executor.live() + 1);
                self.executor.spawn(handle(request, &ticket), ticket, hop)
            }
            Err(error) => Some(Finished { ticket, outcome: Err(error), hop }),
        };
        if let Some(finished) = finished {
            self.finish(finished);
        }
    }

    fn caller(&self, origin: Origin) -> u16 {
        match origin {
            Origin::Link => 0,
            Origin::Edge(index) => self.incoming.borrow().get(index).map_or(0, |road| road.peer),
        }
    }

    fn cancel(self: &Rc<Self>, origin: Origin, tag: u32) {
        let waits = |arrived: &Arrived| arrived.origin == origin && arrived.descriptor.tag == tag;
        let position = self.arrived.borrow().iter().position(waits);
        let waiting = position.and_then(|position| self.arrived.borrow_mut().remove(position));
        if let Some(Arrived { descriptor, .. }) = waiting {
            self.discard(&descriptor, self.hold_from(origin));
            let invocation = descriptor.invocation;
            let ticket = Ticket { origin, tag, invocation, deadline_ns: 0, record: false };
            let outcome = Err(Error::new(504, "cancelled before it was started"));
            self.finish(Finished { ticket, outcome, hop: None });
        }
        for finished in self.executor.cancel(|ticket| ticket.origin == origin && ticket.tag == tag) {
            self.finish(finished);
        }
    }

    /// Sends a task's end to whoever waits for it.
    fn finish(self: &Rc<Self>, finished: Finished) {
        let Finished { ticket, outcome, mut hop } = finished;
        if let Origin::Edge(index) = ticket.origin {
            let roads = self.incoming.borrow();
            let gone = roads.get(index).is_none_or(|road| road.dead || road.duplex.flags().is_closed());
            if gone {
                // The caller is dead: what the answer carries stays here and goes back.
                drop(roads);
                drop(outcome);
                return;
            }
        }
        let (code, flags, sent) = match outcome.and_then(|response| self.prepare(response, &ticket, &mut hop))
        {
            Ok((status, sent)) => (status, sent.flags, Some(sent)),
            Err(error) => {
                let text = Response::ok(error.to_string());
                let sent = self.prepare(text, &ticket, &mut None).ok().map(|(_, sent)| sent);
                let flags = sent.as_ref().map_or(Flags::MOVE, |sent| sent.flags);
                (error.status(), flags.with(Flags::ERROR), sent)
            }
        };
        if let Some(hop) = hop {
            self.report(hop.finish(code));
        }
        let empty = Descriptor::new(Message64::Reply);
        let descriptor = Descriptor {
            flags,
            code,
            tag: ticket.tag,
            invocation: ticket.invocation,
            body: sent.as_ref().map_or(empty.body, |sent| sent.body),
            head: sent.as_ref().map_or(empty.head, |sent| sent.head),
            ..empty
        };
        match ticket.origin {
            Origin::Link => self.push_link(&descriptor),
            Origin::Edge(index) => {
                if let Some(road) = self.incoming.borrow_mut().get_mut(index).filter(|road| !road.dead) {
                    // A caller never has more calls out than its ring has entries; one that lies loses its answer.
                    let _ = road.push(&descriptor);
                }
            }
        }
    }

    fn prepare(
        self: &Rc<Self>,
        response: Response,
        ticket: &Ticket,
        hop: &mut Option<Hop>,
    ) -> Result<(u16, Sent), Error> {
        if response.head_overflow {
            return Err(Error::new(500, "a response header is longer than 65,535 bytes"));
        }
        let copied = response.payload.copied_bytes();
        let sent = send(self, response.payload, &response.head, self.hold_to(ticket.origin), false)?;
        if let Some(hop) = hop {
            hop.add_handed(sent.body.len);
            if let Some(bytes) = copied {
                hop.add_copy(bytes);
            }
        }
        Ok((response.status, sent))
    }

    fn report(&self, cost: HopCost) {
        self.push_link(&Descriptor::from_words(cost.to_words()));
    }
}
