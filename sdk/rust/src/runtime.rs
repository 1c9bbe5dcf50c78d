//! The runtime of a replica: memory, link, edges and tasks on one thread.
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

use baton_abi::boot::{CALLS_ENV, Message, PoolAccess};
use baton_abi::descriptor::{PAIRS_PER_DESCRIPTOR, pack_pairs, unpack_pairs};
use baton_abi::{Descriptor, Extent, Flags, Kind as Message64, NONE, Rights};
use baton_pool::bell::Bell;
use baton_pool::capability::{Handle, Hold, State};
use baton_pool::ledger::{class_bytes, class_of, class_of_capacity};
use baton_pool::link::Duplex;
use baton_pool::ring::PushError;
use rustix::net::RecvFlags;

use crate::boot::Boot;
use crate::buffer::Buffer;
use crate::capability::{Capability, Kind};
use crate::edge::Road;
use crate::error::Error;
use crate::executor::{Current, Origin, TASKS_MAX};
use crate::stash::{Arena, Stash};
use crate::wire::Memory;

mod calls;
mod turn;

pub(crate) use calls::Calls;

/// How long a full link or a missing grant is waited for before the node counts as gone, nanoseconds.
const NODE_PATIENCE_NS: u64 = 5_000_000_000;
/// One wait within that.
const NODE_WAIT_NS: u64 = 2_000_000;

/// What the manifest's `calls` names, as the node says it in the environment.
fn declared_calls() -> Vec<String> {
    let names = std::env::var(CALLS_ENV).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A request that waits to be started.
pub(crate) struct Arrived {
    pub(crate) origin: Origin,
    pub(crate) descriptor: Descriptor,
}

/// Everything that this replica's one thread works with.
pub(crate) struct Runtime {
    pub(crate) memory: Memory,
    pub(crate) current: Current,
    pub(crate) arena: RefCell<Arena>,
    link: RefCell<Duplex>,
    link_dirty: Cell<bool>,
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
    stash: RefCell<Stash>,
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
}

impl Runtime {
    /// The runtime lives as long as the process: whatever points to it needs no count.
    pub(crate) fn new(boot: Boot) -> &'static Runtime {
        let Boot { control, hello, memory, link, bell, eventfd } = boot;
        Box::leak(Box::new(Runtime {
            current: Current::new(),
            arena: RefCell::new(Arena::new(memory.derived_base)),
            link: RefCell::new(link),
            link_dirty: Cell::new(false),
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
            stash: RefCell::new(Stash::new(memory.pool_bytes)),
            granted: Cell::new(None),
            alloc_tag: Cell::new(1),
            calls: RefCell::default(),
            shutdown: Cell::new(false),
            declared: declared_calls(),
            roadless: RefCell::default(),
            turns: Cell::new(0),
            ticks_seen: Cell::new(0),
            memory,
        }))
    }

    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    /// The invocation that is being served; 0 for none.
    pub(crate) fn invocation(&self) -> u64 {
        self.current.invocation()
    }

    // ---- allocation -----------------------------------------------------------------------------------------

    /// An empty buffer for at least `len` payload bytes.
    pub(crate) fn alloc(&'static self, len: usize) -> Result<Buffer, Error> {
        if self.memory.access != PoolAccess::Write {
            return Err(Error::Denied { what: "allocating without `pool = \"write\"` in the manifest" });
        }
        let handle = match class_of(len as u64) {
            Some(class) => self.alloc_small(class, len)?,
            None => self.ask_node(len as u64, len)?,
        };
        let holder = self.memory.holder;
        let table = &self.memory.table;
        table
            .pass(handle, Hold::new(State::Stashed, holder), Hold::held(holder))
            .map_err(|_| Error::Protocol { what: "a granted buffer that is someone else's" })?;
        let place = self
            .memory
            .ledger
            .place(handle.index, handle.generation)
            .map_err(|_| Error::Protocol { what: "a granted buffer that does not exist" })?;
        let base = self.memory.pool.as_ref().and_then(|pool| pool.address(place.offset, place.capacity));
        let base = base.ok_or(Error::Protocol { what: "a buffer outside of the pool" })?;
        let capability = Capability {
            runtime: self,
            handle,
            kind: Kind::Owned,
            rights: Rights::ALL,
            capacity: place.capacity,
            armed: true,
        };
        Ok(Buffer::new(capability, base, len))
    }

    #[inline]
    fn alloc_small(&self, class: u8, len: usize) -> Result<Handle, Error> {
        let (taken, refill) = {
            let mut stash = self.stash.borrow_mut();
            let taken = stash.take(class);
            (taken, stash.should_ask(class).then(|| stash.batch(class)))
        };
        if let Some(batch) = refill {
            // Ahead of need, answered whenever the node comes to it: the tag 0 belongs to no one.
            self.ask(Message64::Refill, 0, u16::try_from(batch).unwrap_or(1), class_bytes(class));
        }
        match taken {
            Some(handle) => Ok(handle),
            None => self.ask_node(class_bytes(class), len),
        }
    }

    fn ask(&self, kind: Message64, tag: u32, count: u16, bytes: u64) {
        let body = Extent { len: bytes, ..Extent::EMPTY };
        let descriptor = Descriptor { tag, code: count, body, ..Descriptor::new(kind) };
        self.push_link(&descriptor);
    }

    /// Asks the node for one buffer and waits for the answer. The node always answers at once.
    fn ask_node(&self, bytes: u64, wanted: usize) -> Result<Handle, Error> {
        let tag = self.alloc_tag.get();
        self.alloc_tag.set(tag.checked_add(1).unwrap_or(1));
        self.granted.set(None);
        self.ask(Message64::Alloc, tag, 0, bytes);
        let started = crate::wire::now_ns();
        loop {
            self.poll_link();
            match self.granted.take() {
                Some(Some(handle)) => return Ok(handle),
                Some(None) => return Err(Error::PoolFull { wanted }),
                None => {}
            }
            if crate::wire::now_ns().saturating_sub(started) > NODE_PATIENCE_NS {
                return Err(Error::Protocol { what: "the node does not answer" });
            }
            self.flush_bells();
            self.bell.announce_sleep();
            if self.link.borrow_mut().from_peer.is_empty().unwrap_or(false) {
                self.bell.sleep(Some(NODE_WAIT_NS));
            }
            self.bell.announce_awake();
        }
    }

    /// Takes back a buffer that nobody needs any more: into the stash, or to the node.
    pub(crate) fn give_back(&self, handle: Handle, rights: Rights, capacity: u64) {
        let holder = self.memory.holder;
        // Frozen buffers may have readers, and large ones are the node's to recycle.
        let class = class_of_capacity(capacity).filter(|_| rights == Rights::ALL);
        let Some(class) = class else {
            self.free_at_node(&[handle]);
            return;
        };
        let moved = self.memory.table.transfer(handle, Hold::held(holder), Hold::new(State::Stashed, holder));
        if moved.is_err() {
            return;
        }
        let surplus = self.stash.borrow_mut().put(class, handle);
        if !surplus.is_empty() {
            self.free_at_node(&surplus);
        }
    }

    fn free_at_node(&self, handles: &[Handle]) {
        for some in handles.chunks(PAIRS_PER_DESCRIPTOR) {
            let mut pairs = [(NONE, 0); PAIRS_PER_DESCRIPTOR];
            for (pair, handle) in pairs.iter_mut().zip(some) {
                *pair = (handle.index, handle.generation);
            }
            self.push_link(&Descriptor::from_words(pack_pairs(Message64::Free, 0, &pairs)));
        }
    }

    /// Gives up a capability that was shared with this replica.
    pub(crate) fn give_up_shared(&self, handle: Handle) {
        let holder = self.memory.holder;
        let table = &self.memory.table;
        let released = Hold::new(State::Released, holder);
        let slot = table.look(handle.index).map(|found| found.slot);
        if table.transfer(handle, Hold::held(holder), released).is_err() {
            return;
        }
        // Whoever owns the buffer sees that on its own, unless it has no owner any more.
        let root = slot.and_then(|slot| table.look(slot));
        if root.is_some_and(|root| root.hold.state == State::Orphan) {
            self.free_at_node(&[handle]);
        }
    }

    /// A free entry of this replica's own range.
    pub(crate) fn take_arena_entry(&self) -> Result<u32, Error> {
        let mut arena = self.arena.borrow_mut();
        if let Some(index) = arena.take() {
            return Ok(index);
        }
        let table = &self.memory.table;
        arena.collect(|handle| {
            table.look(handle.index).is_none_or(|found| {
                found.handle != handle || matches!(found.hold.state, State::Released | State::Revoked)
            })
        });
        arena
            .take()
            .ok_or(Error::Denied { what: "more payloads lent and shared at a time than a replica can" })
    }

    // ---- link -----------------------------------------------------------------------------------------------

    fn push_link(&self, descriptor: &Descriptor) {
        self.link_dirty.set(true);
        let mut started = None;
        loop {
            match self.link.borrow_mut().to_peer.push(descriptor) {
                Ok(()) => return,
                Err(PushError::Full) => {}
                Err(PushError::Overrun(_)) => std::process::exit(1),
            }
            let started = *started.get_or_insert_with(crate::wire::now_ns);
            // The node drains the link whenever it is rung; it cannot be slow for long and live.
            if crate::wire::now_ns().saturating_sub(started) > NODE_PATIENCE_NS {
                std::process::exit(1);
            }
            self.flush_bells();
            self.bell.announce_sleep();
            self.bell.sleep(Some(NODE_WAIT_NS));
            self.bell.announce_awake();
        }
    }

    fn poll_link(&self) {
        loop {
            let popped = self.link.borrow_mut().from_peer.pop();
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

    fn flush_bells(&self) {
        if self.link_dirty.take() && self.link.borrow().node_bell.must_wake() {
            // The counter cannot overflow and a failed write has nobody to wake.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
        for road in self.outgoing.borrow_mut().iter_mut() {
            road.flush();
        }
        for road in self.incoming.borrow_mut().iter_mut() {
            road.flush();
        }
    }

    // ---- control --------------------------------------------------------------------------------------------

    fn poll_control(&self) {
        let sent = self.bell.control_sent();
        if sent == self.control_seen.replace(sent) {
            return;
        }
        // Peers can write the count too: it only says that it is worth a look, and the look never waits.
        while let Ok((Message::Edge(edge), fds)) = crate::boot::receive(&self.control, RecvFlags::DONTWAIT) {
            let Some(road) = Road::new(&edge, fds) else { continue };
            let mut roads =
                if edge.is_caller { self.outgoing.borrow_mut() } else { self.incoming.borrow_mut() };
            // Take the place of a road whose peer is gone: others keep their index.
            match roads.iter_mut().find(|old| old.dead && old.outstanding == 0) {
                Some(old) => *old = road,
                None => roads.push(road),
            }
            if edge.is_caller {
                self.roadless.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// The hold in which an honest peer leaves what it sends over `origin`.
    fn hold_from(&self, origin: Origin) -> Hold {
        match origin {
            Origin::Link => Hold::new(State::FromNode, self.memory.holder),
            Origin::Edge(index) => {
                let id = self.incoming.borrow().get(index).map_or(0, |road| road.id);
                Hold::new(State::InFlight, id)
            }
        }
    }

    /// The hold in which this replica leaves what it sends over `origin`.
    fn hold_to(&self, origin: Origin) -> Hold {
        match origin {
            Origin::Link => Hold::new(State::ToNode, self.memory.holder),
            Origin::Edge(_) => self.hold_from(origin),
        }
    }

    /// A payload that will never be looked at, on its way from `from`: taken and given up.
    fn discard(&'static self, descriptor: &Descriptor, from: Hold) {
        let accepted = crate::message::accept(self, descriptor.body, descriptor.head, descriptor.flags, from);
        drop(accepted);
    }
}
