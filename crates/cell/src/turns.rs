//! Threads of guests in their seats: who of them waits in which gate, and who runs next.
//!
//! ```text
//!            recv, wait                    event, answer
//!  running ─────────────▶ in a gate ─────────────────────▶ ready ──▶ running
//!     │    a call waits                    time, wake        ▲
//!     ├──────────────────▶ in the library OS ────────────────┤
//!     └───────────────────────── tick ───────────────────────┘
//! ```
//! The library OS chooses; here is what the runtime makes of it. A guest that has one thread meets none of this: it waits in
//! its gate, and its registers stay where they are.

// UNSAFETY: sets the registers of the next thread.
#![expect(unsafe_code, reason = "the registers of guests lie in statics that the assembly shares")]

use crate::arch::{self, GUEST_FULL, Verdict};
use crate::effects::Effects;
use crate::gates::{ETIMEDOUT, leave};
use crate::guest::LEFT_IDLE;
use crate::os::{Outcome, Resume, ThreadId};
use crate::runtime::Runtime;
use crate::seat::{End, Seat, State};
use crate::sys;
use crate::threads::{Saved, Threads, Waiter};

/// How long a request may stay in the hands of a guest that sleeps or waits once its time is over. A guest that was told
/// so answers within that.
const OVERDUE_NS: u64 = 500_000_000;

impl Runtime {
    // ---- in a gate ---------------------------------------------------------------------------------------------------

    /// The current thread waits in the receive gate. Others of its guest that could run do so in their turn: whoever waits
    /// for an answer of this seat, and the other seats, go first.
    pub(crate) fn park(&self, seat: &Seat) -> Verdict {
        park_as(seat, |threads, thread| threads.receiver = Some(thread));
        leave(LEFT_IDLE)
    }

    /// The current thread waits in the wait gate, and the others of its guest run. `false` if there are none.
    pub(crate) fn park_for(&self, seat: &Seat, (tag, at): (u32, u64), deadline_ns: u64) -> bool {
        park_as(seat, |threads, thread| threads.waiters.push(Waiter { thread, tag, at, deadline_ns }))
    }

    /// The thread in the wait gate goes on, with `value` for a result.
    pub(crate) fn wake_waiter(&self, seat: &Seat, thread: ThreadId, value: i64) {
        seat.threads.borrow_mut().answer(thread, value);
        if let Some(os) = seat.os.borrow_mut().as_mut() {
            os.unpark(thread);
        }
        seat.sleeps_until.set(Some(0));
    }

    /// Threads that have waited for an answer long enough go on without one.
    pub(crate) fn expire_waits(&self, seat: &Seat, now: u64) {
        let late = |waiter: &&Waiter| waiter.deadline_ns != 0 && waiter.deadline_ns <= now;
        let found = seat.threads.borrow().waiters.iter().find(late).copied();
        let Some(Waiter { thread, tag, .. }) = found else { return };
        seat.threads.borrow_mut().take_waiter(tag);
        self.abandon(seat, tag);
        self.wake_waiter(seat, thread, ETIMEDOUT);
    }

    /// The thread in the receive gate has its event, and is the next to run.
    #[inline(always)]
    pub(crate) fn wake_receiver(&self, seat: &Seat) {
        let receiver = seat.threads.borrow_mut().receiver.take();
        match receiver {
            None => seat.leave_receive(),
            Some(thread) => self.wake_thread(seat, thread),
        }
    }

    #[inline(never)]
    fn wake_thread(&self, seat: &Seat, thread: ThreadId) {
        seat.threads.borrow_mut().answer(thread, 1);
        let mut os = seat.os.borrow_mut();
        let Some(os) = os.as_mut() else { return };
        os.unpark(thread);
        if let Outcome::Switch(resume) = os.next(&mut Effects::new(self, seat)) {
            self.resume(seat, resume);
        }
    }

    // ---- who runs ----------------------------------------------------------------------------------------------------

    /// Has the guest of a fresh or restored seat begin with all of `GUEST_FULL`, or where a gate left it.
    pub(crate) fn resume(&self, seat: &Seat, resume: Resume) {
        let saved = seat.threads.borrow_mut().take(resume.thread);
        seat.running.set(Some(resume.thread));
        let context = seat.context.get();
        match saved {
            Some(Saved::Gate(gate)) => {
                // SAFETY: the guest does not run.
                unsafe { *context = gate.with_fs(resume.fs_base) };
            }
            Some(Saved::Trap(trapped)) => {
                let mut full = trapped.full;
                full.fs = resume.fs_base;
                full.pkru = seat.facts.pkru;
                full.xsave = arch::park_xsave(&trapped.xsave);
                if let Some(result) = resume.result {
                    full.rax = result.cast_unsigned();
                }
                // SAFETY: the guest does not run, and no return is on its way.
                unsafe { *GUEST_FULL.get() = full.tamed() };
                // SAFETY: as above.
                unsafe { (*context).full = 1 };
                seat.set_fs(resume.fs_base);
            }
            // The current thread itself goes on: its registers are where they were.
            None => {}
        }
    }

    /// Runs threads whose time has come, of seats that wait.
    pub(crate) fn wake_sleepers(&self) {
        if self.next_time().is_none() {
            return;
        }
        let now = sys::now_ns();
        for seat in self.seats.iter().filter(|seat| due(seat).is_some_and(|at| at <= now)) {
            self.end_overdue(seat, now);
            if sleeper(seat).is_some_and(|at| at <= now) {
                self.expire_waits(seat, now);
                self.run_next(seat);
            }
        }
    }

    /// A request begins that must be answered by `deadline_ns`, if that is not 0.
    #[inline]
    pub(crate) fn note_overdue(&self, seat: &Seat, deadline_ns: u64) {
        let look_at = deadline_ns.saturating_add(OVERDUE_NS);
        let before = seat.look_at_ns.get();
        if deadline_ns != 0 && (before == 0 || look_at < before) {
            seat.look_at_ns.set(look_at);
        }
    }

    /// Ends a guest that sleeps or waits, and has a request in its hands for whose answer nobody waits any more: one that
    /// is stuck, or has forgotten it, would otherwise keep its function from all others.
    fn end_overdue(&self, seat: &Seat, now: u64) {
        if overdue(seat).is_none_or(|at| at > now) {
            return;
        }
        let waiting = crate::guest::waiting_tags(seat);
        let tags = seat.requests.borrow().tags();
        let deadlines: Vec<u64> = tags
            .into_iter()
            .filter(|tag| !waiting.contains(tag))
            .filter_map(|tag| seat.requests.borrow().get(tag).map(|request| request.limit_ns))
            .filter(|&at| at != 0)
            .map(|at| at.saturating_add(OVERDUE_NS))
            .collect();
        seat.look_at_ns.set(deadlines.iter().copied().filter(|&at| at > now).min().unwrap_or(0));
        if deadlines.iter().any(|&at| at <= now) {
            seat.end.set(Some(End::TimedOut));
            self.bury(seat);
        }
    }

    /// Runs the thread of a waiting guest that is the next to run, if there is one.
    fn run_next(&self, seat: &Seat) {
        seat.sleeps_until.set(None);
        let outcome = {
            let mut os = seat.os.borrow_mut();
            os.as_mut().map(|os| os.next(&mut Effects::new(self, seat)))
        };
        match outcome {
            Some(Outcome::Switch(resume)) => {
                self.resume(seat, resume);
                self.enter(seat);
                self.settle(seat);
                if !seat.inbox.borrow().is_empty() {
                    self.mark_ready(seat);
                }
            }
            Some(Outcome::Idle { until_ns }) => seat.rest(until_ns),
            Some(Outcome::End(ending)) => {
                seat.end.set(Some(End::from(ending)));
                self.bury(seat);
            }
            Some(Outcome::Return(_) | Outcome::Spawned(..)) | None => {}
        }
    }

    /// In a template, until `last` at most: a guest whose threads all sleep on the way to the first receive is woken when it
    /// is time, and threads of one that has several take turns.
    pub(crate) fn wait_for_first_receive(&self, seat: &Seat, last: u64) {
        while seat.state.get() == State::Asleep {
            let now = sys::now_ns();
            let Some(at) = seat.sleeps_until.get().filter(|&at| at.max(now) < last) else { return };
            sys::sleep(at.saturating_sub(now));
            seat.state.set(State::Loading);
            self.run_next(seat);
        }
    }

    /// When the next thread is due, nanoseconds.
    pub(crate) fn next_time(&self) -> Option<u64> {
        self.seats.iter().filter_map(due).min()
    }
}

/// The current thread waits in a gate, and `note` says for what. `false` if its guest has no other.
fn park_as(seat: &Seat, note: impl FnOnce(&mut Threads, ThreadId)) -> bool {
    let mut os = seat.os.borrow_mut();
    let Some(os) = os.as_mut().filter(|os| !os.is_single()) else { return false };
    let Some(thread) = os.current() else { return false };
    {
        let mut threads = seat.threads.borrow_mut();
        threads.save(thread, Saved::Gate(seat.registers()));
        note(&mut threads, thread);
    }
    os.park_aside();
    seat.rest(os.due());
    true
}

/// Whether a guest has all its threads in gates or asleep.
fn waits(seat: &Seat) -> bool {
    matches!(seat.state.get(), State::Waiting | State::Asleep)
}

/// When a thread of a seat that waits is to run. What one does between requests is undone where each begins anew, so that
/// there it does nothing.
fn sleeper(seat: &Seat) -> Option<u64> {
    let is_at_work = !seat.facts.reset || seat.active.get() > 0;
    seat.sleeps_until.get().filter(|_| waits(seat) && is_at_work)
}

/// When the requests in the hands of a guest that waits are to be looked at.
fn overdue(seat: &Seat) -> Option<u64> {
    Some(seat.look_at_ns.get()).filter(|&at| at != 0 && seat.active.get() > 0 && waits(seat))
}

/// When a seat that waits needs a look.
fn due(seat: &Seat) -> Option<u64> {
    [sleeper(seat), overdue(seat)].into_iter().flatten().min()
}
