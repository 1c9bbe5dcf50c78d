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

/// The threads of one guest.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    saved: Vec<Option<Saved>>,
    /// Who is in the receive gate.
    pub(crate) receiver: Option<ThreadId>,
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

    pub(crate) fn clear(&mut self) {
        self.saved.clear();
        self.receiver = None;
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
