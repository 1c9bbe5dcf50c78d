//! The runtime of a cell: its seats, and the loop that feeds them.
//!
//! ```text
//!  turn:  control socket → links and roads → seats that have events → bells
//!  no work left:  publish, announce sleep, look once more, sleep until a peer rings
//! ```
//! Everything runs on one thread, and a gate runs on top of whatever was entered before it. So nothing here may hold a
//! borrow while a guest runs: what is needed is taken out of its cell first.

// UNSAFETY: one static pointer, through which gates and traps find the runtime.
#![expect(unsafe_code, reason = "gates and traps come without arguments of ours")]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use baton_abi::boot::{Message, PoolAccess};
use baton_abi::cell::{CELL_MESSAGE_BYTES, FROM_CELL_BYTES, FromCell, SEATS_MAX, TEXT_MAX_BYTES, Trust};
use baton_pool::bell::Bell;
use baton_pool::capability::{CapabilityTable, Handle};
use baton_pool::ledger::LedgerView;
use baton_pool::road::Road;
use baton_pool::stash::Stash;
use rustix::net::SendFlags;

use crate::arch::Place;
use crate::book::{Book, SeatId};
use crate::control;
use crate::outside::Lines;
use crate::seat::Seat;
use crate::sys;

/// Buffers that one refill asks for, at most.
const BATCH_MAX: u64 = 64;
/// Descriptors that one turn takes of a link or road before others get their turn.
pub(crate) const PER_TURN_MAX: u32 = 64;
/// No seat's number.
const NOBODY: SeatId = SeatId::MAX;
const _: () = assert!(SEATS_MAX <= NOBODY as usize);

/// What a cell has of its app.
pub(crate) struct Shared {
    pub(crate) table: CapabilityTable,
    pub(crate) ledger: LedgerView,
    pub(crate) slots: u32,
    pub(crate) pool_bytes: u64,
}

/// A cell, or a template on its way to be one.
pub(crate) struct Runtime {
    pub(crate) trust: Trust,
    pub(crate) trace: bool,
    pub(crate) seats: Vec<Seat>,
    pub(crate) shared: Shared,
    pub(crate) book: RefCell<Book>,
    pub(crate) stash: RefCell<Stash<u32>>,
    pub(crate) lines: RefCell<Lines>,
    pub(crate) control: RefCell<Option<OwnedFd>>,
    pub(crate) bell: OnceCell<Bell>,
    /// The seat that runs, or [`NOBODY`]; while one calls another, the callee.
    current: Cell<SeatId>,
    /// Seats with events that they could take.
    pub(crate) ready: RefCell<VecDeque<SeatId>>,
    /// The guest that runs got all its registers at least once since it was entered: the places that such a return goes
    /// through hold its registers and nobody else's.
    pub(crate) is_returned: Cell<bool>,
    /// The innermost call that waits in its gate has its answer.
    pub(crate) is_answered: Cell<bool>,
    /// The answer to the allocation that waits: a buffer, or that there is none.
    pub(crate) granted: Cell<Option<Option<Handle>>>,
    pub(crate) alloc_tag: Cell<u32>,
    /// Copies that the hand-over at work has made, and their bytes.
    pub(crate) copied: Cell<(u16, u64)>,
    /// Bytes that it handed over without a copy.
    pub(crate) handed: Cell<u64>,
    control_seen: Cell<u32>,
    ticks_seen: Cell<u32>,
    turns: Cell<u32>,
    stopping: Cell<bool>,
}

static RUNTIME: Place<*const Runtime> = Place::new(core::ptr::null());

/// The runtime of this process.
pub(crate) fn runtime() -> &'static Runtime {
    // SAFETY: written once, by `install`.
    let runtime = unsafe { *RUNTIME.get() };
    // SAFETY: `install` came before the first guest, and what it leaked is never freed.
    unsafe { &*runtime }
}

/// Makes `runtime` the one that gates and traps find. Once.
pub(crate) fn install(runtime: Runtime) -> &'static Runtime {
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    // SAFETY: no guest runs yet, so that nobody reads the pointer at the same time.
    unsafe { *RUNTIME.get() = runtime };
    runtime
}

impl Runtime {
    pub(crate) fn new(trust: Trust, trace: bool, seats: Vec<Seat>, shared: Shared) -> Runtime {
        Runtime {
            trust,
            trace,
            seats,
            book: RefCell::new(Book::new(shared.slots)),
            stash: RefCell::new(Stash::new(shared.pool_bytes, BATCH_MAX)),
            shared,
            lines: RefCell::default(),
            control: RefCell::new(None),
            bell: OnceCell::new(),
            current: Cell::new(NOBODY),
            ready: RefCell::default(),
            is_returned: Cell::new(false),
            is_answered: Cell::new(false),
            granted: Cell::new(None),
            alloc_tag: Cell::new(1),
            copied: Cell::new((0, 0)),
            handed: Cell::new(0),
            control_seen: Cell::new(0),
            ticks_seen: Cell::new(0),
            turns: Cell::new(0),
            stopping: Cell::new(false),
        }
    }

    #[inline]
    pub(crate) fn seat(&self, id: SeatId) -> Option<&Seat> {
        self.seats.get(usize::from(id))
    }

    /// The seat that runs.
    #[inline]
    pub(crate) fn current(&self) -> Option<&Seat> {
        self.seat(self.current.get())
    }

    /// Another seat runs from now on, or none.
    #[inline]
    pub(crate) fn set_current(&self, seat: Option<&Seat>) {
        self.current.set(seat.map_or(NOBODY, |seat| seat.id));
    }

    /// Sends a message to the node. One that does not fit into the socket is lost: the node is behind, and a cell does not
    /// wait for a log.
    pub(crate) fn tell(&self, message: FromCell, text: &[u8]) {
        let control = self.control.borrow();
        let Some(control) = control.as_ref() else { return };
        let text = text.get(..text.len().min(TEXT_MAX_BYTES)).unwrap_or_default();
        let mut packet = [0u8; CELL_MESSAGE_BYTES];
        if let Some(head) = packet.get_mut(..FROM_CELL_BYTES) {
            head.copy_from_slice(&message.encode());
        }
        let end = FROM_CELL_BYTES + text.len();
        if let Some(rest) = packet.get_mut(FROM_CELL_BYTES..end) {
            rest.copy_from_slice(text);
        }
        let bytes = packet.get(..end).unwrap_or_default();
        let _ = rustix::net::send(control, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Output of a seat, as it comes.
    pub(crate) fn log(&self, seat: SeatId, stream: u32, bytes: &[u8]) {
        let lines = self.lines.borrow_mut().add(seat, stream, bytes, TEXT_MAX_BYTES);
        for line in lines {
            if let Some(of) = self.seat(seat).filter(|of| of.snapshot.borrow().is_none()) {
                // Should it end before its first receive, this says more than its status.
                of.last_line.replace(String::from_utf8_lossy(&line).into_owned());
            }
            self.tell(FromCell::Log { seat: u32::from(seat), stream }, &line);
        }
    }

    /// Serves until the node says that it is enough.
    pub(crate) fn run(&self) {
        self.tell(FromCell::Ready, &[]);
        while !self.is_done() {
            self.turn();
            self.sleep(None);
        }
        self.flush();
    }

    fn is_done(&self) -> bool {
        self.stopping.get() && self.seats.iter().all(|seat| seat.requests.borrow().len() == 0)
    }

    fn turn(&self) {
        self.note_turn();
        self.poll_control();
        for seat in &self.seats {
            self.poll_link(seat);
            self.poll_roads(seat);
        }
        let ticks = self.bell.get().map_or(0, Bell::ticks);
        if self.ticks_seen.replace(ticks) != ticks {
            self.expire_calls();
        }
        self.show_if_asked();
        self.wake_sleepers();
        self.run_ready();
        if let Some(bell) = self.bell.get() {
            bell.publish_in_flight(self.in_flight());
        }
        self.flush();
    }

    /// The node's watch over cells that stand still looks at this.
    #[inline(always)]
    pub(crate) fn note_turn(&self) {
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        if let Some(bell) = self.bell.get() {
            bell.publish_turn(turns);
        }
    }

    fn in_flight(&self) -> u32 {
        let requests: usize = self.seats.iter().map(|seat| seat.requests.borrow().len()).sum();
        u32::try_from(requests).unwrap_or(u32::MAX)
    }

    /// Runs the seats that have something to do, once.
    fn run_ready(&self) {
        let rounds = self.ready.borrow().len();
        for _ in 0..rounds {
            let Some(id) = self.ready.borrow_mut().pop_front() else { return };
            if let Some(seat) = self.seat(id) {
                self.feed(seat);
            }
        }
    }

    /// Works while a guest waits in a gate for an answer from elsewhere, until `deadline_ns` at most.
    pub(crate) fn wait_turn(&self, deadline_ns: u64) {
        /// Longest sleep at a time, nanoseconds.
        const NAP_NS: u64 = 10_000_000;
        self.turn();
        self.sleep(Some(match deadline_ns {
            0 => NAP_NS,
            at => at.saturating_sub(sys::now_ns()).min(NAP_NS),
        }));
    }

    /// Has `seat` looked at in this turn or the next.
    pub(crate) fn mark_ready(&self, seat: &Seat) {
        let mut ready = self.ready.borrow_mut();
        if !ready.contains(&seat.id) {
            ready.push_back(seat.id);
        }
    }

    /// Sleeps until there is something to do, or `most_ns` have passed.
    fn sleep(&self, most_ns: Option<u64>) {
        if !self.ready.borrow().is_empty() {
            return;
        }
        let Some(bell) = self.bell.get() else { return };
        bell.announce_sleep();
        if self.is_quiet(bell) {
            let due = self.next_time().map(|at| at.saturating_sub(sys::now_ns()));
            bell.sleep(due.into_iter().chain(most_ns).min());
        }
        bell.announce_awake();
    }

    fn is_quiet(&self, bell: &Bell) -> bool {
        let is_seat_quiet = |seat: &Seat| {
            let mut outside = seat.outside.borrow_mut();
            outside.as_mut().is_none_or(|outside| outside.link.from_peer.is_empty().unwrap_or(true))
                && seat.outgoing.borrow_mut().iter_mut().all(Road::is_quiet)
                && seat.incoming.borrow_mut().iter_mut().all(Road::is_quiet)
        };
        bell.control_sent() == self.control_seen.get()
            && bell.asked_to_show().is_none()
            && self.seats.iter().all(is_seat_quiet)
    }

    /// Rings whoever has something from this cell.
    pub(crate) fn flush(&self) {
        for seat in &self.seats {
            if seat.link_dirty.take() {
                ring_node(seat);
            }
            let mut is_for_node = false;
            for road in seat.outgoing.borrow_mut().iter_mut().chain(seat.incoming.borrow_mut().iter_mut()) {
                is_for_node |= road.flush();
            }
            if is_for_node {
                ring_node(seat);
            }
        }
    }

    fn poll_control(&self) {
        let sent = self.bell.get().map_or(0, Bell::control_sent);
        if sent == self.control_seen.replace(sent) {
            return;
        }
        // The count only says that it is worth a look; the look never waits.
        while let Some((message, fds)) = control::receive_message(&self.control) {
            let Message::Edge(edge) = message else { continue };
            let Some(seat) = self.seats.iter().find(|seat| seat.holder() == edge.own) else { continue };
            let Some(road) = Road::new(&edge, fds, ()) else { continue };
            let mut roads =
                if edge.is_caller { seat.outgoing.borrow_mut() } else { seat.incoming.borrow_mut() };
            road.join(&mut roads);
        }
    }

    /// The node wants this cell to end once its requests are answered.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// Whether a seat may use the pool at all.
    pub(crate) fn may_use_pool(seat: &Seat) -> bool {
        seat.facts.access != PoolAccess::Absent
    }
}

/// Wakes the node if it does not look at the link and the road of a seat.
fn ring_node(seat: &Seat) {
    if let Some(outside) = seat.outside.borrow().as_ref()
        && outside.link.node_bell.must_wake()
    {
        // The counter cannot overflow, and a failed write has nobody to wake.
        let _ = rustix::io::write(&outside.eventfd, &1u64.to_ne_bytes());
    }
}
