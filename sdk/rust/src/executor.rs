//! Tasks: one a request, all on one thread.
//!
//! The loop of a back end owns the tasks; handlers see only [`Current`], the task that runs. All tasks of a function have
//! one type, so a task that ended leaves its memory to the next.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as PollContext, Poll, RawWakerVTable, Wake, Waker};

use crate::error::Error;
use crate::hop::Hop;
use crate::response::Response;

/// What a handler gives in the end.
pub(crate) type Outcome = Result<Response, Error>;

/// Who waits for a task's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The node; in a cell, whoever its runtime knows.
    Link,
    /// The caller at the other end of this edge (index).
    Edge(usize),
}

/// A task and whom to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) origin: Origin,
    pub(crate) tag: u32,
    pub(crate) invocation: u64,
    /// `CLOCK_MONOTONIC` nanoseconds after which nobody waits for it; 0 for never.
    pub(crate) deadline_ns: u64,
    pub(crate) record: bool,
}

impl Ticket {
    /// Outside of tasks.
    const NONE: Ticket =
        Ticket { origin: Origin::Link, tag: 0, invocation: 0, deadline_ns: 0, record: false };
}

/// How to go on with a task that waits.
pub(crate) enum Wakeup {
    /// The task in this slot, by this thread.
    Task(usize),
    /// Something else that polls: a combinator with wakers of its own.
    Other(Waker),
}

/// The task that runs, as what it calls sees it.
pub(crate) struct Current {
    ticket: Cell<Ticket>,
    /// Its account, while receipts are on.
    hop: RefCell<Option<Box<Hop>>>,
    slot: Cell<usize>,
    /// Tells the running task's own waker.
    waker: Cell<(*const (), *const RawWakerVTable)>,
    /// Tasks that this thread woke.
    woken: [Cell<u64>; WORDS],
}

impl Current {
    pub(crate) const fn new() -> Current {
        Current {
            ticket: Cell::new(Ticket::NONE),
            hop: RefCell::new(None),
            slot: Cell::new(usize::MAX),
            waker: Cell::new((core::ptr::null(), core::ptr::null())),
            woken: [const { Cell::new(0) }; WORDS],
        }
    }

    /// The running task, and for whom it runs; empty outside of tasks.
    #[inline]
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket.get()
    }

    /// The invocation that the running task serves; 0 outside of tasks.
    #[inline]
    pub(crate) fn invocation(&self) -> u64 {
        self.ticket.get().invocation
    }

    /// Adds to what the running task's hop has cost.
    #[inline]
    pub(crate) fn count(&self, add: impl FnOnce(&mut Hop)) {
        if !self.ticket.get().record {
            return;
        }
        if let Some(hop) = self.hop.borrow_mut().as_deref_mut() {
            add(hop);
        }
    }

    /// How to wake what `waker` wakes. Where that is the running task, no count and no atomic word is touched.
    #[inline]
    pub(crate) fn wakeup(&self, waker: &Waker) -> Wakeup {
        if self.waker.get() == identity(waker) {
            Wakeup::Task(self.slot.get())
        } else {
            Wakeup::Other(waker.clone())
        }
    }

    /// Wakes, from this thread.
    #[inline]
    pub(crate) fn wake(&self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Task(slot) => {
                if let Some(word) = self.woken.get(slot / WORD_BITS) {
                    word.set(word.get() | 1 << (slot % WORD_BITS));
                }
            }
            Wakeup::Other(waker) => waker.wake(),
        }
    }

    fn enter(&self, ticket: Ticket, slot: usize, waker: &Waker) {
        self.ticket.set(ticket);
        self.slot.set(slot);
        self.waker.set(identity(waker));
    }

    fn leave(&self) {
        self.ticket.set(Ticket::NONE);
        self.waker.set((core::ptr::null(), core::ptr::null()));
    }
}

fn identity(waker: &Waker) -> (*const (), *const RawWakerVTable) {
    (waker.data(), waker.vtable())
}

/// Tasks that one replica can have at most: its concurrency, of which the manifest allows as much.
pub(crate) const TASKS_MAX: u32 = 1024;
const WORD_BITS: usize = 64;
const WORDS: usize = TASKS_MAX as usize / WORD_BITS;

/// The tasks that can go on, a bit each. Wakers may be called from any thread that the handler starts.
#[derive(Default)]
struct ReadySet {
    words: [AtomicU64; WORDS],
}

impl ReadySet {
    fn add(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / WORD_BITS) {
            word.fetch_or(1 << (slot % WORD_BITS), Ordering::Release);
        }
    }

    /// Takes all bits of a word at once: a task that wakes itself again waits for the next round.
    #[inline]
    fn take(&self, index: usize) -> u64 {
        match self.words.get(index) {
            Some(word) if word.load(Ordering::Relaxed) != 0 => word.swap(0, Ordering::Acquire),
            _ => 0,
        }
    }

    #[inline]
    fn is_empty(&self, words: usize) -> bool {
        self.words.iter().take(words).all(|word| word.load(Ordering::Acquire) == 0)
    }
}

struct SlotWaker {
    slot: usize,
    ready: Arc<ReadySet>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.ready.add(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.add(self.slot);
    }
}

struct Slot<F> {
    /// The handler at work. The memory stays when it ends.
    future: Pin<Box<Option<F>>>,
    ticket: Option<Ticket>,
    hop: Option<Box<Hop>>,
    waker: Waker,
}

/// All tasks of this replica.
pub(crate) struct Tasks<F> {
    current: &'static Current,
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    ready: Arc<ReadySet>,
    live: u32,
}

/// A task that ended.
pub(crate) struct Finished {
    pub(crate) ticket: Ticket,
    pub(crate) outcome: Outcome,
    pub(crate) hop: Option<Box<Hop>>,
}

impl<F: Future<Output = Outcome>> Tasks<F> {
    pub(crate) fn new(current: &'static Current) -> Tasks<F> {
        Tasks { current, slots: Vec::new(), free: Vec::new(), ready: Arc::default(), live: 0 }
    }

    /// Tasks that have not ended.
    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Runs `future` for the first time. Gives its end if that came at once.
    #[inline]
    pub(crate) fn spawn(&mut self, future: F, ticket: Ticket, hop: Option<Box<Hop>>) -> Option<Finished> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.add_slot(),
        };
        let slot = self.slots.get_mut(index)?;
        slot.future.as_mut().set(Some(future));
        slot.ticket = Some(ticket);
        slot.hop = hop;
        self.live += 1;
        self.poll(index)
    }

    #[cold]
    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        let waker = Waker::from(Arc::new(SlotWaker { slot, ready: Arc::clone(&self.ready) }));
        self.slots.push(Slot { future: Box::pin(None), ticket: None, hop: None, waker });
        slot
    }

    /// Polls one task; gives its end if it came to one.
    fn poll(&mut self, index: usize) -> Option<Finished> {
        let slot = self.slots.get_mut(index)?;
        let ticket = slot.ticket?;
        let future = slot.future.as_mut().as_pin_mut()?;
        self.current.enter(ticket, index, &slot.waker);
        let cpu_before = if ticket.record {
            self.current.hop.replace(slot.hop.take());
            crate::clock::cpu_ns()
        } else {
            0
        };
        let mut context = PollContext::from_waker(&slot.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut context)));
        if ticket.record {
            self.current.count(|hop| hop.add_cpu(crate::clock::cpu_ns().saturating_sub(cpu_before)));
            slot.hop = self.current.hop.take();
        }
        let outcome = match polled {
            Ok(Poll::Pending) => {
                self.current.leave();
                return None;
            }
            Ok(Poll::Ready(outcome)) => outcome,
            Err(panic) => Err(Error::new(500, format!("the handler panicked: {}", panic_text(&*panic)))),
        };
        // What the handler still held goes back before its answer goes out.
        slot.future.as_mut().set(None);
        self.current.leave();
        slot.ticket = None;
        let hop = slot.hop.take();
        self.free.push(index);
        self.live -= 1;
        Some(Finished { ticket, outcome, hop })
    }

    /// Runs every task that can go on, once, as far as it gets.
    #[inline]
    pub(crate) fn run_ready(&mut self, mut ended: impl FnMut(Finished)) {
        for word in 0..self.slots.len().div_ceil(WORD_BITS) {
            let woken = self.current.woken.get(word).map_or(0, Cell::take);
            let mut bits = woken | self.ready.take(word);
            while bits != 0 {
                if let Some(finished) = self.poll(word * WORD_BITS + bits.trailing_zeros() as usize) {
                    ended(finished);
                }
                bits &= bits - 1;
            }
        }
    }

    /// Whether no task can go on.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let words = self.slots.len().div_ceil(WORD_BITS);
        self.current.woken.iter().take(words).all(|word| word.get() == 0) && self.ready.is_empty(words)
    }

    /// Ends the tasks that `matches` picks: nobody waits for them any more.
    pub(crate) fn cancel(&mut self, matches: impl Fn(&Ticket) -> bool) -> Vec<Finished> {
        let mut ended = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(ticket) = slot.ticket.take_if(|ticket| matches(ticket)) else { continue };
            slot.future.as_mut().set(None);
            let outcome = Err(Error::new(504, "cancelled: the caller does not wait any more"));
            ended.push(Finished { ticket, outcome, hop: slot.hop.take() });
            self.free.push(index);
            self.live -= 1;
        }
        ended
    }
}

fn panic_text(panic: &(dyn core::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
