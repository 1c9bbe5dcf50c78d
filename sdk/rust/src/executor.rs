//! Tasks: one a request, all on one thread.
//!
//! The loop of a back end owns the tasks; handlers see only [`Current`], the task that runs. All tasks of a function have
//! one type, so a task that ended leaves its memory to the next.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    #[cfg(not(target_arch = "wasm32"))]
    Edge(usize),
}

/// A task and whom to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "there is one origin"))]
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
    tag: Cell<u32>,
    invocation: Cell<u64>,
    deadline_ns: Cell<u64>,
    record: Cell<bool>,
    /// Its account, while receipts are on.
    hop: RefCell<Option<Box<Hop>>>,
    slot: Cell<usize>,
    /// Tells the running task's own waker.
    waker: Cell<(*const (), *const RawWakerVTable)>,
    /// Tasks that this thread woke, and whether there are any.
    woken: [Cell<u64>; WORDS],
    any_woken: Cell<bool>,
}

impl Current {
    pub(crate) const fn new() -> Current {
        Current {
            tag: Cell::new(0),
            invocation: Cell::new(0),
            deadline_ns: Cell::new(0),
            record: Cell::new(false),
            hop: RefCell::new(None),
            slot: Cell::new(usize::MAX),
            waker: Cell::new((core::ptr::null(), core::ptr::null())),
            woken: [const { Cell::new(0) }; WORDS],
            any_woken: Cell::new(false),
        }
    }

    /// The tag of the running task's request; 0 outside of tasks, as all of these.
    #[inline]
    pub(crate) fn tag(&self) -> u32 {
        self.tag.get()
    }

    /// The invocation that the running task serves.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn invocation(&self) -> u64 {
        self.invocation.get()
    }

    /// `CLOCK_MONOTONIC` nanoseconds after which nobody waits for the running task.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn deadline_ns(&self) -> u64 {
        self.deadline_ns.get()
    }

    /// Whether the running task reports what it costs.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn is_recording(&self) -> bool {
        self.record.get()
    }

    /// Adds to what the running task's hop has cost.
    #[inline]
    pub(crate) fn count(&self, add: impl FnOnce(&mut Hop)) {
        if !self.record.get() {
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
                    self.any_woken.set(true);
                }
            }
            Wakeup::Other(waker) => waker.wake(),
        }
    }

    /// The running task's account is this one's from here on; the processor time so far.
    #[cold]
    fn begin_account(&self, hop: &mut Option<Box<Hop>>) -> u64 {
        self.hop.replace(hop.take());
        crate::hop::cpu_ns()
    }

    #[cold]
    fn end_account(&self, hop: &mut Option<Box<Hop>>, cpu_before: u64) {
        self.count(|hop| hop.add_cpu(crate::hop::cpu_ns().saturating_sub(cpu_before)));
        *hop = self.hop.take();
    }

    /// Does something for a request that is no task here, as if its own task did it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn on_behalf<T>(
        &self,
        ticket: Ticket,
        hop: &mut Option<Box<Hop>>,
        work: impl FnOnce() -> T,
    ) -> T {
        self.enter(ticket, usize::MAX, Waker::noop());
        self.hop.replace(hop.take());
        let done = work();
        *hop = self.hop.take();
        self.leave();
        done
    }

    #[inline]
    fn enter(&self, ticket: Ticket, slot: usize, waker: &Waker) {
        self.tag.set(ticket.tag);
        self.invocation.set(ticket.invocation);
        self.deadline_ns.set(ticket.deadline_ns);
        self.record.set(ticket.record);
        self.slot.set(slot);
        self.waker.set(identity(waker));
    }

    #[inline]
    fn leave(&self) {
        self.tag.set(0);
        self.invocation.set(0);
        self.deadline_ns.set(0);
        self.record.set(false);
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

/// What wakes the thread that runs the tasks, if it sleeps; to be called once there is something to see.
pub(crate) type Alarm = Box<dyn Fn() + Send + Sync>;

/// The tasks that can go on, a bit each. Wakers may be called from any thread that the handler starts.
#[derive(Default)]
struct ReadySet {
    words: [AtomicU64; WORDS],
    /// Set behind the words, cleared in front of them.
    any: AtomicBool,
    /// Not there where there are no other threads.
    alarm: Option<Alarm>,
}

impl ReadySet {
    fn add(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / WORD_BITS) {
            word.fetch_or(1 << (slot % WORD_BITS), Ordering::Release);
            self.any.store(true, Ordering::Release);
            if let Some(alarm) = &self.alarm {
                alarm();
            }
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
    /// The end of the task that ended last, until whoever was told of it has dealt with it.
    ended: Finished,
}

/// A task that ended. Outcomes are large: they are handed around by reference.
pub(crate) struct Finished {
    pub(crate) ticket: Ticket,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) hop: Option<Box<Hop>>,
}

impl Finished {
    /// A request that came to no good.
    pub(crate) fn failed(ticket: Ticket, error: Error, hop: Option<Box<Hop>>) -> Finished {
        Finished { ticket, outcome: Some(Err(error)), hop }
    }
}

impl<F: Future<Output = Outcome>> Tasks<F> {
    pub(crate) fn new(current: &'static Current, alarm: Option<Alarm>) -> Tasks<F> {
        let ended = Finished { ticket: Ticket::NONE, outcome: None, hop: None };
        let ready = Arc::new(ReadySet { alarm, ..ReadySet::default() });
        Tasks { current, slots: Vec::new(), free: Vec::new(), ready, live: 0, ended }
    }

    /// Tasks that have not ended.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Runs what `make` makes for the first time. Gives its end if that came at once.
    #[inline]
    pub(crate) fn spawn(
        &mut self,
        make: impl FnOnce() -> F,
        ticket: Ticket,
        hop: Option<Box<Hop>>,
    ) -> Option<&mut Finished> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.add_slot(),
        };
        let slot = self.slots.get_mut(index)?;
        slot.future.as_mut().set(Some(make()));
        if hop.is_some() {
            slot.hop = hop;
        }
        self.live += 1;
        Self::step(&mut self.ended, (self.current, &mut self.free, &mut self.live), (index, slot), ticket)
    }

    #[cold]
    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        let waker = Waker::from(Arc::new(SlotWaker { slot, ready: Arc::clone(&self.ready) }));
        self.slots.push(Slot { future: Box::pin(None), ticket: None, hop: None, waker });
        slot
    }

    /// As [`Tasks::step`], for a task that was polled before.
    #[inline(never)]
    fn step_again(&mut self, index: usize, ticket: Ticket) -> Option<&mut Finished> {
        let slot = self.slots.get_mut(index)?;
        Self::step(&mut self.ended, (self.current, &mut self.free, &mut self.live), (index, slot), ticket)
    }

    /// Polls one task; gives its end if it came to one. In line, so that a ticket that was just made is not read back.
    #[inline(always)]
    fn step<'e>(
        ended: &'e mut Finished,
        (current, free, live): (&Current, &mut Vec<usize>, &mut u32),
        (index, slot): (usize, &mut Slot<F>),
        ticket: Ticket,
    ) -> Option<&'e mut Finished> {
        let future = slot.future.as_mut().as_pin_mut()?;
        current.enter(ticket, index, &slot.waker);
        let cpu_before = if ticket.record { current.begin_account(&mut slot.hop) } else { 0 };
        let has_ended = poll(future, &slot.waker, &mut ended.outcome);
        if ticket.record {
            current.end_account(&mut slot.hop, cpu_before);
        }
        if !has_ended {
            slot.ticket = Some(ticket);
            current.leave();
            return None;
        }
        // What the handler still held goes back before its answer goes out.
        slot.future.as_mut().set(None);
        current.leave();
        slot.ticket = None;
        ended.ticket = ticket;
        ended.hop = slot.hop.take();
        free.push(index);
        *live -= 1;
        Some(ended)
    }

    /// Runs every task that can go on, once, as far as it gets.
    #[inline]
    pub(crate) fn run_ready(&mut self, mut ended: impl FnMut(&mut Finished)) {
        if self.is_quiet() {
            return;
        }
        self.current.any_woken.set(false);
        let by_others =
            self.ready.any.load(Ordering::Relaxed) && self.ready.any.swap(false, Ordering::AcqRel);
        for word in 0..self.slots.len().div_ceil(WORD_BITS) {
            let woken = self.current.woken.get(word).map_or(0, Cell::take);
            let mut bits = if by_others { woken | self.ready.take(word) } else { woken };
            while bits != 0 {
                let index = word * WORD_BITS + bits.trailing_zeros() as usize;
                let ticket = self.slots.get(index).and_then(|slot| slot.ticket);
                if let Some(ticket) = ticket
                    && let Some(finished) = self.step_again(index, ticket)
                {
                    ended(finished);
                }
                bits &= bits - 1;
            }
        }
    }

    /// Whether no task can go on.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        !self.current.any_woken.get() && !self.ready.any.load(Ordering::Acquire)
    }

    /// Ends the tasks that `matches` picks: nobody waits for them any more.
    pub(crate) fn cancel(&mut self, matches: impl Fn(&Ticket) -> bool) -> Vec<Finished> {
        let mut ended = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(ticket) = slot.ticket.take_if(|ticket| matches(ticket)) else { continue };
            slot.future.as_mut().set(None);
            let error = Error::new(504, "cancelled: the caller does not wait any more");
            ended.push(Finished::failed(ticket, error, slot.hop.take()));
            self.free.push(index);
            self.live -= 1;
        }
        ended
    }
}

/// Polls a handler; whether it came to its end, which is in `outcome` then.
#[inline(never)]
fn poll<F>(future: Pin<&mut F>, waker: &Waker, outcome: &mut Option<Outcome>) -> bool
where
    F: Future<Output = Outcome>,
{
    let mut context = PollContext::from_waker(waker);
    let polled = catch_unwind(AssertUnwindSafe(|| match future.poll(&mut context) {
        Poll::Ready(value) => {
            *outcome = Some(value);
            true
        }
        Poll::Pending => false,
    }));
    polled.unwrap_or_else(|panic| {
        *outcome = Some(Err(panicked(&*panic)));
        true
    })
}

#[cold]
fn panicked(panic: &(dyn core::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::new(500, format!("the handler panicked: {text}"))
}
