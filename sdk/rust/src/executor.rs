//! Tasks: one a request, all on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as PollContext, Poll, Wake, Waker};

use crate::error::Error;
use crate::hop::Hop;
use crate::response::Response;

/// What a handler gives in the end.
pub(crate) type Outcome = Result<Response, Error>;
/// A handler at work.
pub(crate) type Job = Pin<Box<dyn Future<Output = Outcome>>>;

/// Who waits for a task's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The node.
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

/// Tasks that one replica can have at most: its concurrency, of which the manifest allows as much.
pub(crate) const TASKS_MAX: u32 = 1024;
const WORD_BITS: usize = 64;

/// The tasks that can go on, a bit each. Wakers may be called from any thread that the handler starts.
#[derive(Default)]
struct ReadySet {
    words: [AtomicU64; TASKS_MAX as usize / WORD_BITS],
}

impl ReadySet {
    fn add(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / WORD_BITS) {
            word.fetch_or(1 << (slot % WORD_BITS), Ordering::Release);
        }
    }

    /// Takes all bits at once: a task that wakes itself again waits for the next round.
    fn take(&self, slots: usize, mut each: impl FnMut(usize)) {
        for (index, word) in self.words.iter().enumerate().take(slots.div_ceil(WORD_BITS)) {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                each(index * WORD_BITS + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    fn is_empty(&self, slots: usize) -> bool {
        self.words.iter().take(slots.div_ceil(WORD_BITS)).all(|word| word.load(Ordering::Acquire) == 0)
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

struct Slot {
    job: Option<Job>,
    ticket: Option<Ticket>,
    hop: Option<Hop>,
    /// Taken out while the task is polled.
    waker: Option<Waker>,
}

/// All tasks of this replica.
#[derive(Default)]
pub(crate) struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<ReadySet>,
    current: Cell<Option<usize>>,
    live: Cell<u32>,
}

/// A task that ended.
pub(crate) struct Finished {
    pub(crate) ticket: Ticket,
    pub(crate) outcome: Outcome,
    pub(crate) hop: Option<Hop>,
}

impl Executor {
    /// Tasks that have not ended.
    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.live.get()
    }

    /// The invocation that the running task serves; 0 outside of tasks.
    pub(crate) fn invocation(&self) -> u64 {
        self.ticket().map_or(0, |ticket| ticket.invocation)
    }

    /// The running task, and for whom it runs.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        let current = self.current.get()?;
        self.slots.borrow().get(current)?.ticket
    }

    /// Adds to what the running task's hop has cost.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Hop)) {
        let Some(current) = self.current.get() else { return };
        if let Some(hop) = self.slots.borrow_mut().get_mut(current).and_then(|slot| slot.hop.as_mut()) {
            add(hop);
        }
    }

    /// Runs `job` for the first time. Gives its end if that came at once.
    pub(crate) fn spawn(&self, job: Job, ticket: Ticket, hop: Option<Hop>) -> Option<Finished> {
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| self.add_slot());
        if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
            slot.job = Some(job);
            slot.ticket = Some(ticket);
            slot.hop = hop;
        }
        self.live.set(self.live.get() + 1);
        self.poll(index)
    }

    fn add_slot(&self) -> usize {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.len();
        let waker = Waker::from(Arc::new(SlotWaker { slot, ready: Arc::clone(&self.ready) }));
        slots.push(Slot { job: None, ticket: None, hop: None, waker: Some(waker) });
        slot
    }

    /// Polls one task; gives its end if it came to one.
    fn poll(&self, index: usize) -> Option<Finished> {
        let (mut job, waker, record) = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(index)?;
            (slot.job.take()?, slot.waker.take()?, slot.hop.is_some())
        };
        let before = self.current.replace(Some(index));
        let cpu_before = if record { crate::wire::cpu_ns() } else { 0 };
        let mut context = PollContext::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut context)));
        if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
            slot.waker = Some(waker);
        }
        if record {
            self.count(|hop| hop.add_cpu(crate::wire::cpu_ns().saturating_sub(cpu_before)));
        }
        let outcome = match polled {
            Ok(Poll::Pending) => {
                self.current.set(before);
                if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
                    slot.job = Some(job);
                }
                return None;
            }
            Ok(Poll::Ready(outcome)) => outcome,
            Err(panic) => Err(Error::new(500, format!("the handler panicked: {}", panic_text(&*panic)))),
        };
        // What the handler still held goes back before its answer goes out.
        drop(job);
        self.current.set(before);
        self.retire(index, outcome)
    }

    fn retire(&self, index: usize, outcome: Outcome) -> Option<Finished> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(index)?;
        let finished = Finished { ticket: slot.ticket.take()?, outcome, hop: slot.hop.take() };
        self.free.borrow_mut().push(index);
        self.live.set(self.live.get().saturating_sub(1));
        Some(finished)
    }

    /// Runs every task that can go on, once, as far as it gets.
    pub(crate) fn run_ready(&self, mut ended: impl FnMut(Finished)) {
        let slots = self.slots.borrow().len();
        self.ready.take(slots, |index| {
            if let Some(finished) = self.poll(index) {
                ended(finished);
            }
        });
    }

    /// Whether no task can go on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.ready.is_empty(self.slots.borrow().len())
    }

    /// Ends the tasks that `matches` picks: nobody waits for them any more.
    pub(crate) fn cancel(&self, matches: impl Fn(&Ticket) -> bool) -> Vec<Finished> {
        let picked: Vec<(usize, Option<Job>)> = {
            let mut slots = self.slots.borrow_mut();
            let live = slots.iter_mut().enumerate();
            live.filter(|(_, slot)| slot.ticket.as_ref().is_some_and(&matches))
                .map(|(index, slot)| (index, slot.job.take()))
                .collect()
        };
        let end = |(index, job): (usize, Option<Job>)| {
            drop(job);
            self.retire(index, Err(Error::new(504, "cancelled: the caller does not wait any more")))
        };
        picked.into_iter().filter_map(end).collect()
    }
}

fn panic_text(panic: &(dyn core::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
