//! One turn of the runtime, and the sleep between turns.

use std::future::Future;
use std::process::ExitCode;

use baton_abi::descriptor::HopCost;
use baton_abi::{Descriptor, Flags, Kind as Message64};

use super::Link;
use super::edge;
use super::receive::accept;
use super::send::{Sent, Way, send};
use crate::context::Context;
use crate::error::Error;
use crate::executor::{Finished, Origin, Outcome, Tasks, Ticket};
use crate::hop::Hop;
use crate::request::Request;
use crate::response::Response;
use crate::runtime::Runtime;

/// Requests that one turn starts before it looks at everything else again.
const STARTS_PER_TURN: u32 = 64;

/// The loop of a replica: it starts a task for each request, and polls tasks that can go on.
struct Loop<M, F> {
    link: &'static Link,
    /// Makes a task of a request.
    make: M,
    tasks: Tasks<F>,
}

impl Link {
    /// Works until the node says that it is enough.
    pub(crate) fn run<M, F>(&'static self, make: M) -> ExitCode
    where
        M: Fn(Context, Request) -> F,
        F: Future<Output = Outcome>,
    {
        // Tasks are woken by other threads as the replica is by its peers.
        let alarm = self.alarm();
        let tasks = Tasks::new(&self.current, Some(Box::new(move || alarm.ring())));
        let mut work = Loop { link: self, make, tasks };
        loop {
            work.turn();
            if self.shutdown.get() && work.tasks.live() == 0 {
                self.flush_bells();
                return ExitCode::SUCCESS;
            }
            work.sleep();
        }
    }
}

impl<M, F> Loop<M, F>
where
    M: Fn(Context, Request) -> F,
    F: Future<Output = Outcome>,
{
    /// Does what there is to do.
    fn turn(&mut self) {
        let link = self.link;
        link.look_at_node();
        if !link.cancelled.borrow().is_empty() {
            for tag in link.cancelled.take() {
                self.cancel(Origin::Link, tag);
            }
        }
        link.look_at_answers();
        self.start_requests();
        self.tasks.run_ready(|finished| link.finish(finished));
        link.bell.publish_in_flight(self.tasks.live());
        link.flush_bells();
    }

    fn sleep(&mut self) {
        let bell = &self.link.bell;
        self.link.publish_stashed();
        bell.announce_sleep();
        if self.is_quiet() {
            let deadline = self.link.calls.borrow().next_deadline();
            let timeout = deadline.map(|deadline| deadline.saturating_sub(crate::clock::now_ns()));
            self.link.nap(timeout);
        }
        bell.announce_awake();
    }

    fn is_quiet(&self) -> bool {
        let link = self.link;
        link.duplex.borrow_mut().from_peer.is_empty().unwrap_or(false)
            && link.guard.as_ref().is_none_or(|guard| guard.is_quiet())
            && link.outgoing.borrow_mut().iter_mut().all(edge::is_quiet)
            && (!self.has_room()
                || (link.incoming.borrow_mut().iter_mut().all(edge::is_quiet)
                    && link.arrived.borrow().is_empty()))
            && link.bell.control_sent() == link.control_seen.get()
            && self.tasks.is_quiet()
    }

    fn has_room(&self) -> bool {
        self.tasks.live() < self.link.concurrency
    }

    fn start_requests(&mut self) {
        let mut left = STARTS_PER_TURN;
        while left > 0 && self.has_room() {
            let Some(arrived) = self.link.arrived.borrow_mut().pop_front() else { break };
            self.start(arrived.origin, &arrived.descriptor);
            left -= 1;
        }
        let roads = self.link.incoming.borrow().len();
        for index in 0..roads {
            while left > 0 && self.has_room() {
                let Some(descriptor) = self.pop_incoming(index) else { break };
                left -= 1;
                match Message64::from_u8(descriptor.kind) {
                    Some(Message64::Request) => self.start(Origin::Edge(index), &descriptor),
                    Some(Message64::Cancel) => self.cancel(Origin::Edge(index), descriptor.tag),
                    _ => {}
                }
            }
        }
    }

    /// The oldest request of an edge. When its caller is gone: what is left is given up.
    #[inline]
    fn pop_incoming(&mut self, index: usize) -> Option<Descriptor> {
        let (popped, dead) = {
            let mut roads = self.link.incoming.borrow_mut();
            let road = roads.get_mut(index).filter(|road| !road.dead)?;
            if road.duplex.flags().is_closed() {
                drop(roads);
                self.bury_caller(index);
                return None;
            }
            (edge::pop(road), road.dead)
        };
        if dead {
            // It broke its ring: nobody is there to answer, and the road's place may soon be another's.
            self.tasks.cancel(|ticket| ticket.origin == Origin::Edge(index));
        }
        popped
    }

    /// The caller at the other end of an edge is gone.
    #[cold]
    fn bury_caller(&mut self, index: usize) {
        self.link.clear_edge(index);
        self.tasks.cancel(|ticket| ticket.origin == Origin::Edge(index));
        self.link.mark_drained(index);
    }

    #[inline]
    fn start(&mut self, origin: Origin, descriptor: &Descriptor) {
        let link = self.link;
        let record = descriptor.flags.has(Flags::RECORD);
        let ticket = Ticket {
            origin,
            tag: descriptor.tag,
            invocation: descriptor.invocation,
            deadline_ns: descriptor.deadline_ns,
            record,
        };
        let hop =
            record.then(|| Box::new(Hop::start(descriptor.invocation, link.caller(origin), descriptor.code)));
        let from = link.hold_from(origin);
        match accept(link, descriptor.body, descriptor.head, descriptor.flags, from) {
            Ok(accepted) => {
                // A handler may compute for long before its first await: callers should know before it begins.
                link.bell.publish_in_flight(self.tasks.live() + 1);
                let make = || {
                    let request = Request::new(u32::from(descriptor.code), accepted);
                    let context = Context::new(Runtime::Link(link), &ticket, request.traceparent());
                    (self.make)(context, request)
                };
                if let Some(finished) = self.tasks.spawn(make, ticket, hop) {
                    link.finish(finished);
                }
            }
            Err(error) => link.finish(&mut Finished::failed(ticket, error, hop)),
        }
    }

    fn cancel(&mut self, origin: Origin, tag: u32) {
        let link = self.link;
        link.drop_arrived(origin, tag);
        for mut finished in self.tasks.cancel(|ticket| ticket.origin == origin && ticket.tag == tag) {
            link.finish(&mut finished);
        }
    }
}

impl Link {
    /// Says how many empty buffers this replica keeps, where the table does not.
    #[inline]
    pub(crate) fn publish_stashed(&self) {
        if self.guard.is_some() {
            let stashed = self.stash.borrow().len();
            self.bell.publish_stashed(u32::try_from(stashed).unwrap_or(u32::MAX));
        }
    }

    /// Looks at what the node sent. Requests and cancellations are carried out by whoever calls this.
    #[inline]
    pub(super) fn look_at_node(&'static self) {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.bell.publish_turn(self.turns.get());
        self.poll_control();
        self.poll_link();
        self.sort_packets();
    }

    /// Takes the answers of calls, and ends those whose time is over.
    #[inline]
    pub(super) fn look_at_answers(&'static self) {
        let outgoing = self.outgoing.borrow().len();
        for index in 0..outgoing {
            self.poll_replies(index);
        }
        let ticks = self.bell.ticks();
        let ticked = self.ticks_seen.replace(ticks) != ticks;
        self.expire_calls(ticked);
    }

    /// The caller at the other end of an edge is gone: what it sent last is given up.
    #[cold]
    pub(super) fn clear_edge(&'static self, index: usize) {
        let from = self.hold_from(Origin::Edge(index));
        let mut left = Vec::new();
        if let Some(road) = self.incoming.borrow_mut().get_mut(index) {
            while let Some(descriptor) = edge::pop(road) {
                left.push(descriptor);
            }
            road.dead = true;
        }
        for descriptor in left {
            self.discard(&descriptor, from);
        }
    }

    /// Nothing of a dead caller is looked at any more.
    #[cold]
    pub(super) fn mark_drained(&self, index: usize) {
        if let Some(road) = self.incoming.borrow().get(index) {
            road.duplex.flags().mark_drained();
        }
    }

    pub(crate) fn caller(&self, origin: Origin) -> u16 {
        match origin {
            Origin::Link => 0,
            Origin::Edge(index) => self.incoming.borrow().get(index).map_or(0, |road| road.peer),
        }
    }

    /// Sends a task's end to whoever waits for it.
    pub(crate) fn finish(&'static self, finished: &mut Finished) {
        let Finished { ticket, outcome, hop } = finished;
        if let Origin::Edge(index) = ticket.origin {
            let roads = self.incoming.borrow();
            let gone = roads.get(index).is_none_or(|road| road.dead || road.duplex.flags().is_closed());
            if gone {
                // The caller is dead: what the answer carries stays here and goes back.
                drop(roads);
                *outcome = None;
                return;
            }
        }
        let empty = Descriptor::new(Message64::Reply);
        let mut descriptor = Descriptor { tag: ticket.tag, invocation: ticket.invocation, ..empty };
        let mut sent = match outcome {
            Some(Ok(response)) => {
                let prepared = self.prepare(response, ticket, hop.as_deref_mut(), &mut descriptor);
                prepared.unwrap_or_else(|error| self.describe_failure(&error, ticket, &mut descriptor))
            }
            Some(Err(error)) => self.describe_failure(error, ticket, &mut descriptor),
            None => return,
        };
        let edge = self.guarded_edge(ticket.origin);
        if let Some(edge) = edge {
            // Before what the response came from is dropped: what is shared on is still held then.
            self.hand_over(edge, &descriptor, &mut sent);
        }
        *outcome = None;
        if let Some(hop) = hop.take() {
            self.report(hop.finish(descriptor.code));
        }
        match ticket.origin {
            Origin::Edge(_) if edge.is_some() => {}
            Origin::Link => self.push_link(&descriptor),
            Origin::Edge(index) => {
                if let Some(road) = self.incoming.borrow_mut().get_mut(index).filter(|road| !road.dead) {
                    // A caller never has more calls out than its ring has entries; one that lies loses its answer.
                    let _ = road.push(&descriptor);
                }
            }
        }
    }

    #[cold]
    fn describe_failure(&'static self, error: &Error, ticket: &Ticket, descriptor: &mut Descriptor) -> Sent {
        let mut text = Response::ok(error.to_string());
        // A pool without room for the text: the status alone has to do.
        let prepared = self.prepare(&mut text, ticket, None, descriptor);
        descriptor.code = error.status();
        descriptor.flags = descriptor.flags.with(Flags::ERROR);
        prepared.unwrap_or(Sent::nothing())
    }

    #[inline]
    fn prepare(
        &'static self,
        response: &mut Response,
        ticket: &Ticket,
        hop: Option<&mut Hop>,
        descriptor: &mut Descriptor,
    ) -> Result<Sent, Error> {
        response.head.check()?;
        let copied = if hop.is_some() { response.payload.copied_bytes() } else { None };
        let to = self.hold_to(ticket.origin);
        let way = Way { to, invocation: ticket.invocation, can_lend: false };
        let sent = send(self, &mut response.payload, response.head.bytes(), way)?;
        if let Some(hop) = hop {
            hop.add_handed(sent.body.len);
            if let Some(bytes) = copied {
                hop.add_copy(bytes);
            }
        }
        descriptor.flags = sent.flags;
        descriptor.code = u16::try_from(response.status).unwrap_or(u16::MAX);
        descriptor.body = sent.body;
        descriptor.head = sent.head;
        Ok(sent)
    }

    fn report(&self, cost: HopCost) {
        self.push_link(&Descriptor::from_words(cost.to_words()));
    }
}
