//! Where the threads of a guest are while another one runs. Which of them runs is the library OS's to say.

use crate::arch::{Context, FLAGS_FIXED, FLAGS_MASK, Full, XsaveArea};
use crate::os::ThreadId;

/// A thread that was left by a trap.
#[derive(Clone)]
pub(crate) struct Trapped {
    pub(crate) full: Full,
    pub(crate) xsave: XsaveArea,
}

/// A thread that does not run.
#[derive(Clone)]
pub(crate) enum Saved {
    /// It is in a gate.
    Gate(Context),
    /// It was interrupted, made a system call, or has not begun.
    Trap(Box<Trapped>),
}

/// A thread in the wait gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) thread: ThreadId,
    /// The call whose answer it waits for.
    pub(crate) tag: u32,
    /// Where it wants the answer.
    pub(crate) at: u64,
    /// When it gives up, `CLOCK_MONOTONIC` nanoseconds; 0 for never.
    pub(crate) deadline_ns: u64,
}

/// The threads of one guest.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    saved: Vec<Option<Saved>>,
    /// Who is in the receive gate.
    pub(crate) receiver: Option<ThreadId>,
    /// Who is in the wait gate: threads of a guest that has several.
    pub(crate) waiters: Vec<Waiter>,
}

impl Threads {
    pub(crate) fn save(&mut self, thread: ThreadId, saved: Saved) {
        let index = thread.index();
        if self.saved.len() <= index {
            self.saved.resize_with(index + 1, || None);
        }
        if let Some(place) = self.saved.get_mut(index) {
            *place = Some(saved);
        }
    }

    pub(crate) fn take(&mut self, thread: ThreadId) -> Option<Saved> {
        self.saved.get_mut(thread.index())?.take()
    }

    /// Sets what the gate gives that a thread is in.
    pub(crate) fn answer(&mut self, thread: ThreadId, value: i64) {
        if let Some(Some(Saved::Gate(context))) = self.saved.get_mut(thread.index()) {
            context.rax = value.cast_unsigned();
        }
    }

    /// Takes the thread that waits for the answer to a call.
    pub(crate) fn take_waiter(&mut self, tag: u32) -> Option<Waiter> {
        let at = self.waiters.iter().position(|waiter| waiter.tag == tag)?;
        Some(self.waiters.swap_remove(at))
    }

    /// When the first of those in the wait gate gives up.
    pub(crate) fn first_deadline(&self) -> Option<u64> {
        self.waiters.iter().map(|waiter| waiter.deadline_ns).filter(|at| *at != 0).min()
    }

    pub(crate) fn clear(&mut self) {
        self.saved.clear();
        self.receiver = None;
        self.waiters.clear();
    }
}

impl core::fmt::Debug for Threads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Threads").field("saved", &self.saved.iter().flatten().count()).finish()
    }
}

impl Full {
    /// The same thread with flags that a guest may have.
    pub(crate) fn tamed(mut self) -> Full {
        self.rflags = (self.rflags & FLAGS_MASK) | FLAGS_FIXED;
        self
    }
}
