//! The link back end: a function in a process of its own, with memory, link, edges and tasks on one thread.
//!
//! ```text
//!  turn:  control socket → link → replies on outgoing edges → new requests → tasks that can go on → bells
//!  no work left:  announce sleep, look once more, sleep until a peer rings
//! ```
//! Nothing here polls without work, and nothing waits without a bell.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::Waker;

use baton_abi::boot::Message;
use baton_abi::descriptor::unpack_pairs;
use baton_abi::{Descriptor, Flags, Kind as Message64};
use baton_pool::bell::Bell;
use baton_pool::capability::{Handle, Hold, State};
use baton_pool::ledger::class_of_capacity;
use baton_pool::link::Duplex;
use baton_pool::ring::PushError;
use baton_pool::stash::Stash;
use rustix::net::RecvFlags;

use crate::executor::{Current, Origin, TASKS_MAX};
use crate::shelf::Shelf;

mod arena;
mod boot;
mod calls;
mod edge;
mod guard;
mod memory;
mod outside;
mod receive;
mod roads;
mod send;
mod turn;

use arena::Arena;
use boot::Boot;
use calls::Calls;
use edge::{Road, Waits};
use guard::Guard;
use memory::Memory;
use send::To;

pub use guard::Alarm;
pub(crate) use roads::Wait;

/// Buffers that one refill asks for, at most.
const BATCH_MAX: u64 = 128;
/// How long a full link or a missing grant is waited for before the node counts as gone, nanoseconds.
const NODE_PATIENCE_NS: u64 = 5_000_000_000;
/// One wait within that.
const NODE_WAIT_NS: u64 = 2_000_000;

/// A request that waits to be started.
pub(crate) struct Arrived {
    pub(crate) origin: Origin,
    pub(crate) descriptor: Descriptor,
}

/// Everything that this replica's one thread works with.
pub(crate) struct Link {
    pub(crate) memory: Memory,
    pub(crate) current: Current,
    pub(crate) shelf: Shelf,
    pub(crate) arena: RefCell<Arena>,
    duplex: RefCell<Duplex>,
    dirty: Cell<bool>,
    eventfd: OwnedFd,
    bell: Bell,
    control: OwnedFd,
    control_seen: Cell<u32>,
    concurrency: u32,
    /// Edges on which this replica calls.
    outgoing: RefCell<Vec<Road>>,
    /// Edges on which it is called.
    incoming: RefCell<Vec<Road>>,
    arrived: RefCell<VecDeque<Arrived>>,
    /// Requests of the node that nobody waits for any more.
    cancelled: RefCell<Vec<u32>>,
    /// The clock when it was last read: it is later now.
    clock_seen_ns: Cell<u64>,
    stash: RefCell<Stash<Handle>>,
    /// Answer to the allocation that waits: a buffer, or that there is none.
    granted: Cell<Option<Option<Handle>>>,
    alloc_tag: Cell<u32>,
    calls: RefCell<Calls>,
    shutdown: Cell<bool>,
    /// Functions that the manifest's `calls` names.
    declared: Vec<String>,
    /// Tasks that wait for an edge to one of them.
    roadless: RefCell<Vec<Waker>>,
    turns: Cell<u32>,
    ticks_seen: Cell<u32>,
    /// Where the kernel hands over.
    guard: Option<Guard>,
}

impl Link {
    fn new(boot: Boot, declared: Vec<String>) -> &'static Link {
        let Boot { control, hello, memory, link, bell, eventfd, socket } = boot;
        Box::leak(Box::new(Link {
            current: Current::new(),
            shelf: Shelf::default(),
            arena: RefCell::new(Arena::new(hello.derived_base)),
            duplex: RefCell::new(link),
            dirty: Cell::new(false),
            eventfd,
            bell,
            control,
            control_seen: Cell::new(1),
            concurrency: hello.concurrency.clamp(1, TASKS_MAX),
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            arrived: RefCell::default(),
            cancelled: RefCell::default(),
            clock_seen_ns: Cell::new(0),
            stash: RefCell::new(Stash::new(hello.pool_bytes, BATCH_MAX)),
            granted: Cell::new(None),
            alloc_tag: Cell::new(1),
            calls: RefCell::default(),
            shutdown: Cell::new(false),
            declared,
            roadless: RefCell::default(),
            turns: Cell::new(0),
            ticks_seen: Cell::new(0),
            guard: socket.map(Guard::new),
            memory,
        }))
    }

    /// Takes what the node sends first. What stands in `main` before the function serves has run by now.
    ///
    /// # Errors
    /// Why there is nothing to serve, for people.
    pub(crate) fn start(declared: Vec<String>) -> Result<&'static Link, String> {
        let boot = boot::boot().map_err(|error| error.to_string())?;
        let link = Link::new(boot, declared);
        boot::announce_ready(&link.control).map_err(|error| error.to_string())?;
        Ok(link)
    }

    /// See [`crate::keep_control`].
    pub(crate) fn keep_control() {
        boot::keep_control();
    }

    // ---- rings ----------------------------------------------------------------------------------------------

    fn push_link(&self, descriptor: &Descriptor) {
        self.dirty.set(true);
        let mut started = None;
        loop {
            match self.duplex.borrow_mut().to_peer.push(descriptor) {
                Ok(()) => return,
                Err(PushError::Full) => {}
                Err(PushError::Overrun(_)) => std::process::exit(1),
            }
            let started = *started.get_or_insert_with(crate::clock::now_ns);
            // The node drains the link whenever it is rung; it cannot be slow for long and live.
            if crate::clock::now_ns().saturating_sub(started) > NODE_PATIENCE_NS {
                std::process::exit(1);
            }
            self.flush_bells();
            self.bell.announce_sleep();
            self.nap(Some(NODE_WAIT_NS));
            self.bell.announce_awake();
        }
    }

    /// Sleeps until someone wakes this replica, at most so many nanoseconds. Sleep was announced, and there was nothing at the last
    /// look.
    fn nap(&self, timeout_ns: Option<u64>) {
        match &self.guard {
            None => self.bell.sleep(timeout_ns),
            Some(guard) => guard.wait(timeout_ns),
        }
    }

    fn poll_link(&self) {
        loop {
            let popped = self.duplex.borrow_mut().from_peer.pop();
            let Ok(popped) = popped else { std::process::exit(1) };
            let Some(descriptor) = popped else { return };
            match Message64::from_u8(descriptor.kind) {
                Some(Message64::Request) => {
                    self.arrived.borrow_mut().push_back(Arrived { origin: Origin::Link, descriptor });
                }
                Some(Message64::Grant) => self.take_grant(&descriptor),
                // Not carried out here: the link is also read while a task waits for an allocation.
                Some(Message64::Cancel) => self.cancelled.borrow_mut().push(descriptor.tag),
                Some(Message64::Shutdown) => self.shutdown.set(true),
                _ => {}
            }
        }
    }

    fn take_grant(&self, descriptor: &Descriptor) {
        if descriptor.flags.has(Flags::REFUSED) {
            if descriptor.tag == 0 {
                // A refused refill names its class in the code.
                self.stash.borrow_mut().answered(u8::try_from(descriptor.code).unwrap_or(0));
            } else {
                self.granted.set(Some(None));
            }
            return;
        }
        let mut pairs = unpack_pairs(descriptor);
        if descriptor.tag != 0 {
            let first = pairs.next().map(|(index, generation)| Handle { index, generation });
            self.granted.set(Some(first));
            return;
        }
        let mut stash = self.stash.borrow_mut();
        for (index, generation) in pairs {
            let place = self.memory.ledger.place(index, generation);
            let class = place.ok().and_then(|place| class_of_capacity(place.capacity));
            if let Some(class) = class {
                stash.put(class, Handle { index, generation });
                stash.answered(class);
            }
        }
    }

    pub(crate) fn flush_bells(&self) {
        if self.dirty.take() {
            self.ring_node();
        }
        let mut is_for_node = false;
        for road in self.outgoing.borrow_mut().iter_mut() {
            is_for_node |= road.flush();
        }
        for road in self.incoming.borrow_mut().iter_mut() {
            is_for_node |= road.flush();
        }
        if is_for_node {
            self.ring_node();
        }
        self.flush_packets();
    }

    /// Wakes the node if it does not look at the link.
    fn ring_node(&self) {
        if self.duplex.borrow().node_bell.must_wake() {
            // The counter cannot overflow and a failed write has nobody to wake.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    // ---- control --------------------------------------------------------------------------------------------

    fn poll_control(&self) {
        let sent = self.bell.control_sent();
        if sent == self.control_seen.replace(sent) {
            return;
        }
        // Peers can write the count too: it only says that it is worth a look, and the look never waits.
        self.take_control();
    }

    fn take_control(&self) {
        while let Ok((Message::Edge(edge), fds)) = boot::receive(&self.control, RecvFlags::DONTWAIT) {
            let waits = Waits::new(&edge, self.guard.is_some());
            let Some(road) = Road::new(&edge, fds, waits) else { continue };
            let mut roads =
                if edge.is_caller { self.outgoing.borrow_mut() } else { self.incoming.borrow_mut() };
            road.join(&mut roads);
            if edge.is_caller {
                self.roadless.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// How what an honest peer sends over `origin` comes.
    fn hold_from(&self, origin: Origin) -> To {
        let hold = match (origin, &self.guard) {
            (_, Some(_)) => return self.guarded(origin),
            (Origin::Link, None) => Hold::new(State::FromNode, self.memory.holder),
            (Origin::Edge(index), None) => {
                let id = self.incoming.borrow().get(index).map_or(0, |road| road.id);
                Hold::new(State::InFlight, id)
            }
        };
        To::Hold(hold)
    }

    /// How this replica leaves what it sends over `origin`.
    fn hold_to(&self, origin: Origin) -> To {
        match origin {
            Origin::Link if self.guard.is_some() => To::Node,
            Origin::Link => To::Hold(Hold::new(State::ToNode, self.memory.holder)),
            Origin::Edge(_) => self.hold_from(origin),
        }
    }

    fn guarded(&self, origin: Origin) -> To {
        if self.guarded_edge(origin).is_some() { To::Kernel } else { To::Node }
    }

    /// How what goes over an outgoing road, or comes over it, does that.
    #[inline]
    fn way_over(&self, road: &Road) -> To {
        match (&self.guard, &road.own.inbox) {
            (None, _) => To::Hold(Hold::new(State::InFlight, road.id)),
            (Some(_), Some(_)) => To::Kernel,
            (Some(_), None) => To::Node,
        }
    }

    /// A payload that will never be looked at, on its way from `from`: taken and given up.
    fn discard(&'static self, descriptor: &Descriptor, from: To) {
        let accepted = receive::accept(self, descriptor.body, descriptor.head, descriptor.flags, from);
        drop(accepted);
    }
}

#[cfg(test)]
mod tests;
