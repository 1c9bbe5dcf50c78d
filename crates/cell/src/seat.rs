//! Seats: one function of a cell each, with its guest, its memory, and what it owes and is owed.

// UNSAFETY: the registers of guests lie in statics that the assembly shares.
#![expect(unsafe_code, reason = "the context of a guest")]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use baton_abi::boot::PoolAccess;
use baton_abi::descriptor::HopCost;
use baton_abi::gate::{Pair, Parcel};
use baton_abi::limits::DERIVED_MAX;
use baton_pool::figures::Rows;
use baton_pool::link::Duplex;
use baton_pool::road::Road;

use crate::arch::{Context, Place};
use crate::book::SeatId;
use crate::executable::Executable;
use crate::links::tag_of;
use crate::mail::Mail;
use crate::os::{Os, ThreadId};
use crate::reach::Reach;
use crate::slab::Slab;
use crate::snapshot::Snapshot;
use crate::space::Space;
use crate::sys;
use crate::threads::Threads;

/// Requests that one seat may have in its hands, waiting ones included.
pub(crate) const REQUESTS_MAX: usize = 2048;
/// Calls that one seat may have out.
pub(crate) const CALLS_MAX: usize = 2048;

/// Where a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is mapped that a request needs: its snapshot comes first.
    Cold,
    /// In the receive gate: it takes an event.
    Waiting,
    /// It runs, or is in a gate while another seat runs.
    Busy,
    /// Every thread of it waits, and none for an event.
    Asleep,
    /// Being loaded: its first receive ends that.
    Loading,
}

/// Who waits for the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The node, by the tag that it chose.
    Node { tag: u32 },
    /// A replica in another process, over that road, by the tag that it chose.
    Road { road: u32, tag: u32 },
    /// Another seat, by the tag of its call.
    Seat { seat: SeatId, call: u32 },
}

/// A request in a seat's hands.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) origin: Origin,
    pub(crate) invocation: u64,
    /// When whoever made it stops waiting, nanoseconds; 0 for never.
    pub(crate) deadline_ns: u64,
    /// When the guest is stopped that works on it: by its function's own time and that of the invocation. 0 until it begins.
    pub(crate) limit_ns: u64,
    pub(crate) depth: u16,
    /// The running account, while receipts are on.
    pub(crate) hop: Option<Box<Account>>,
}

/// What a hop has cost so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) cost: HopCost,
    pub(crate) began_ns: u64,
    /// Processor time of the cell at its beginning.
    pub(crate) cpu_ns: u64,
    /// What its callees used of it.
    pub(crate) inner_ns: u64,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The caller is in the call gate, and wants the answer at that address.
    InGate { at: u64 },
    /// The caller is in the call gate, which gives that result: 0, or that the address is none.
    Answered(i64),
    /// The answer comes as an event.
    Pending,
}

/// A call that a seat made and that is not answered yet, or whose answer it has not taken.
#[derive(Debug)]
pub(crate) struct Call {
    /// What ends with it.
    pub(crate) lent: Option<Lent>,
    pub(crate) deadline_ns: u64,
    pub(crate) to: Target,
    pub(crate) stage: Stage,
    /// The request that it became in the callee's seat.
    pub(crate) request: u32,
    /// The caller's request that it serves.
    pub(crate) on_behalf_of: u32,
}

/// A payload that was lent as a copy.
#[derive(Debug)]
pub(crate) struct LentCopy {
    pub(crate) seat: SeatId,
    /// The owner's chunk and the borrower's.
    pub(crate) source: Pair,
    pub(crate) chunk: Pair,
    /// Where it came from, and where it is.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) len: u64,
    /// The borrower may write it: then it is copied back.
    pub(crate) write_back: bool,
}

/// What was lent for a call. Small, because every call has one on its way.
#[derive(Debug)]
pub(crate) enum Lent {
    /// A derived capability.
    Capability(Pair),
    /// A copy in the callee's mail.
    Copy(Box<LentCopy>),
    /// A derived entry of the shared table, for someone outside.
    Outside(baton_pool::capability::Handle),
}

/// Where a callee is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Seat(SeatId),
    /// In another process, over that road.
    Outside(u32),
}

/// A function that a seat may call.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    pub(crate) name: String,
    pub(crate) timeout_ns: u64,
    /// In this cell, if it is.
    pub(crate) seat: Option<SeatId>,
    /// What is known of calls that are made with others at once.
    pub(crate) parallel: Parallel,
}

/// What is known of the calls of a function of the own cell that are made with others at once: whether it is worth to send
/// them to another cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parallel {
    /// How long one keeps its caller, nanoseconds, a running mean.
    pub(crate) mean_ns: Cell<u64>,
    /// Calls so far.
    pub(crate) calls: Cell<u32>,
    /// The node knows that roads are wanted.
    pub(crate) asked: Cell<bool>,
}

/// Something for a guest to take from the receive gate.
#[derive(Debug)]
pub(crate) enum Event {
    /// The parcel's tag is that of the seat's request.
    Request(Parcel),
    Reply(Parcel),
    Cancel(u32),
}

/// Why a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Raised(i32),
    Deadlock,
    TimedOut,
    /// A signal at an instruction, and the address that it was about.
    Fault {
        signal: i32,
        code: i32,
        rip: u64,
        address: u64,
        rsp: u64,
        rbp: u64,
    },
    /// It went past the check of a gate.
    Violation,
    /// It took its event to memory that is not its own.
    BadReceive,
}

/// What the plan says of a function, and what follows for its seat.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) timeout_ns: u64,
    pub(crate) concurrency: usize,
    pub(crate) access: PoolAccess,
    pub(crate) reset: bool,
    pub(crate) key: u32,
    pub(crate) pkru: u32,
    pub(crate) callees: Vec<Callee>,
}

/// What a fork gives a seat.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) holder: u16,
    pub(crate) derived_base: u32,
    pub(crate) link: Duplex,
    pub(crate) eventfd: OwnedFd,
}

/// One seat.
pub(crate) struct Seat {
    pub(crate) id: SeatId,
    pub(crate) facts: Facts,
    pub(crate) context: Place<Context>,
    pub(crate) reach: Reach,
    pub(crate) space: RefCell<Space>,
    pub(crate) mail: RefCell<Mail>,
    pub(crate) os: RefCell<Option<Os>>,
    pub(crate) threads: RefCell<Threads>,
    pub(crate) snapshot: RefCell<Option<Rc<Snapshot>>>,
    pub(crate) state: Cell<State>,
    /// Where the guest wants its next event.
    pub(crate) recv_at: Cell<u64>,
    pub(crate) requests: RefCell<Slab<Request>>,
    pub(crate) calls: RefCell<Slab<Call>>,
    pub(crate) inbox: RefCell<VecDeque<Event>>,
    /// Requests in the guest's hands: delivered and not answered.
    pub(crate) active: Cell<usize>,
    /// When the guest must have come back, `CLOCK_MONOTONIC` nanoseconds; 0 for never.
    pub(crate) deadline_ns: Cell<u64>,
    /// When the requests in the guest's hands are to be looked at, `CLOCK_MONOTONIC` nanoseconds; 0 for never.
    pub(crate) look_at_ns: Cell<u64>,
    pub(crate) end: Cell<Option<End>>,
    pub(crate) outside: RefCell<Option<Attachment>>,
    /// The figures of its link.
    pub(crate) rows: OnceCell<Rows>,
    /// What the seat is called as a holder of capabilities; 0 before the fork.
    pub(crate) holder: Cell<u16>,
    /// Something was put on the link since the node's bell was looked at.
    pub(crate) link_dirty: Cell<bool>,
    /// Roads to callees outside, and from callers outside.
    pub(crate) outgoing: RefCell<Vec<Road>>,
    pub(crate) incoming: RefCell<Vec<Road>>,
    /// Table entries for what is lent and shared to the outside.
    pub(crate) arena: RefCell<Vec<u32>>,
    /// When a thread that sleeps has to be woken, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) sleeps_until: Cell<Option<u64>>,
    /// The thread whose registers the processor has, as the trap layer knows it.
    pub(crate) running: Cell<Option<ThreadId>>,
    /// The ELF file.
    pub(crate) executable: RefCell<Option<Rc<Executable>>>,
    /// How the guest ended, for whoever waits for it to begin.
    pub(crate) last_words: RefCell<Option<String>>,
    /// The last line that it wrote while it was loaded.
    pub(crate) last_line: RefCell<String>,
    /// The last place that was opened on demand, and whether for writing: a second fault there is one.
    pub(crate) opened: Cell<u64>,
    /// Derived entries that were ever used.
    pub(crate) arena_used: Cell<u32>,
    /// Where the guest says which buffers it only keeps for later; 0 if it does not.
    pub(crate) kept_at: Cell<u64>,
    /// The request that was begun last.
    pub(crate) latest: Cell<u32>,
    /// The call that is timed, and when it began; 0 for none.
    pub(crate) timed: Cell<(u32, u64)>,
}

impl Seat {
    pub(crate) fn new(id: SeatId, facts: Facts, reach: Reach, mail: Mail) -> Seat {
        let context = Place::new(Context::new(facts.pkru));
        Seat {
            id,
            context,
            reach,
            space: RefCell::new(Space::new(reach, facts.key)),
            facts,
            mail: RefCell::new(mail),
            os: RefCell::new(None),
            threads: RefCell::new(Threads::default()),
            snapshot: RefCell::new(None),
            state: Cell::new(State::Loading),
            recv_at: Cell::new(0),
            requests: RefCell::new(Slab::new(REQUESTS_MAX)),
            calls: RefCell::new(Slab::new(CALLS_MAX)),
            inbox: RefCell::default(),
            active: Cell::new(0),
            deadline_ns: Cell::new(0),
            look_at_ns: Cell::new(0),
            end: Cell::new(None),
            outside: RefCell::new(None),
            rows: OnceCell::new(),
            holder: Cell::new(0),
            link_dirty: Cell::new(false),
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            arena: RefCell::default(),
            sleeps_until: Cell::new(None),
            running: Cell::new(Some(ThreadId::FIRST)),
            executable: RefCell::new(None),
            last_words: RefCell::new(None),
            last_line: RefCell::default(),
            opened: Cell::new(0),
            arena_used: Cell::new(0),
            kept_at: Cell::new(0),
            latest: Cell::new(0),
            timed: Cell::new((0, 0)),
        }
    }

    /// The seat as a holder of capabilities.
    #[inline]
    pub(crate) fn holder(&self) -> u16 {
        self.holder.get()
    }

    /// A fork gave the seat what it has to do with others.
    pub(crate) fn attach(&self, given: Attachment) {
        self.holder.set(given.holder);
        // A seat is attached once: a fork is of a template, and no template is attached.
        let _ = self.rows.set(given.link.share_rows());
        self.outside.replace(Some(given));
    }

    /// Whether the guest has one thread, so that nobody asks who runs.
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        self.os.borrow().as_ref().is_none_or(Os::is_single)
    }

    /// A free entry of the seat's own range of the shared table.
    pub(crate) fn take_entry(&self) -> Option<u32> {
        if let Some(index) = self.arena.borrow_mut().pop() {
            return Some(index);
        }
        let used = self.arena_used.get();
        let base = self.outside.borrow().as_ref()?.derived_base;
        (used < DERIVED_MAX).then(|| {
            self.arena_used.set(used + 1);
            base + used
        })
    }

    /// Whether the guest says that it uses a buffer for nothing.
    pub(crate) fn keeps(&self, slot: u32) -> bool {
        let map = self.kept_at.get();
        let word = || self.reach.read_word(map.wrapping_add(u64::from(slot / 64) * 8));
        map != 0 && word().is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// The guest's registers, as a gate left them.
    pub(crate) fn registers(&self) -> Context {
        // SAFETY: the guest does not run while the runtime does.
        unsafe { *self.context.get() }
    }

    /// The receive gate that the guest's only thread is in gives an event.
    #[inline(always)]
    pub(crate) fn leave_receive(&self) {
        // SAFETY: as in `registers`.
        unsafe { (*self.context.get()).rax = 1 };
    }

    /// Sets the FS base that the guest gets.
    pub(crate) fn set_fs(&self, at: u64) {
        // SAFETY: as in `registers`.
        unsafe { (*self.context.get()).fs = at };
    }

    /// The guest left the processor. Somebody of it can run at `due`; whoever waits for an answer gives up in time.
    pub(crate) fn rest(&self, due: Option<u64>) {
        let threads = self.threads.borrow();
        self.sleeps_until.set([due, threads.first_deadline()].into_iter().flatten().min());
        self.state.set(if threads.receiver.is_some() { State::Waiting } else { State::Asleep });
    }

    /// Whether the guest should have come back by now.
    pub(crate) fn is_over(&self) -> bool {
        let deadline = self.deadline_ns.get();
        let is_over = deadline != 0 && sys::now_ns() >= deadline;
        // Between two requests other threads may work on: they keep nobody waiting.
        let is_at_leisure = || self.active.get() == 0 && self.threads.borrow().receiver.is_some();
        is_over && !is_at_leisure()
    }

    /// A request that waits and was not begun, no longer in the inbox then.
    pub(crate) fn take_unbegun(&self, tag: u32) -> Option<Parcel> {
        self.take_event(|event| matches!(event, Event::Request(parcel) if tag_of(parcel) == tag))
    }

    /// An answer that waits, no longer in the inbox then.
    pub(crate) fn take_answer(&self, tag: u32) -> Option<Parcel> {
        self.take_event(|event| matches!(event, Event::Reply(parcel) if tag_of(parcel) == tag))
    }

    fn take_event(&self, is_it: impl Fn(&Event) -> bool) -> Option<Parcel> {
        let mut inbox = self.inbox.borrow_mut();
        let at = inbox.iter().position(is_it)?;
        match inbox.remove(at)? {
            Event::Request(parcel) | Event::Reply(parcel) => Some(parcel),
            Event::Cancel(_) => None,
        }
    }

    /// A function that it may call, by the number that its guest knows it by.
    #[inline(always)]
    pub(crate) fn callee(&self, index: u64) -> Option<&Callee> {
        usize::try_from(index).ok().and_then(|index| self.facts.callees.get(index))
    }

    /// Whether a request can be put where the guest waits for it, and the guest run, with nothing else to be done before or after.
    #[inline(always)]
    pub(crate) fn takes_at_once(&self) -> bool {
        self.state.get() == State::Waiting
            && self.has_room()
            && !self.facts.reset
            && self.inbox.borrow().is_empty()
            && self.threads.borrow().receiver.is_none()
    }

    /// Whether the guest takes one more request now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.active.get() < self.facts.concurrency
    }
}
