//! What the trap layer does after a system call.

/// A thread of the guest: a slot below [`super::THREADS_MAX`], so that the trap layer can keep registers in a table. The slot
/// of a thread that has ended is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub(super) u8);

impl ThreadId {
    /// The thread that a guest begins with.
    pub const FIRST: ThreadId = ThreadId(0);

    /// The slot.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A thread that runs from now on, in place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Whose registers to restore.
    pub thread: ThreadId,
    /// What to put into `rax` first: the result of the system call that it was in. `None`: leave it as it is (it was
    /// in a gate, or was preempted).
    pub result: Option<i64>,
    /// Its FS base.
    pub fs_base: u64,
}

/// A thread that has just been made. It is ready, and runs when a [`Resume`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewThread {
    /// Its registers are a copy of the current thread's, but for the stack pointer, and `rax`, which its first
    /// [`Resume`] gives.
    pub thread: ThreadId,
    /// Its stack pointer, as the guest gave it: anything at all.
    pub stack: u64,
}

/// How a compartment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a status.
    Exit(i32),
    /// By a signal that the guest raised against itself.
    Signal(i32),
    /// Every thread waits for another one, and nobody is left to wake them.
    Deadlock,
}

/// What the trap layer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The current thread goes on, with this in `rax`.
    Return(i64),
    /// The current thread goes on, with this in `rax`; another one has been made.
    Spawned(NewThread, i64),
    /// Save the current thread's registers (unless it has ended: nobody asks for them again), restore these. If it is
    /// the current thread itself (it yielded and nobody else is ready), nothing need be saved.
    Switch(Resume),
    /// Save the current thread's registers; nobody can run. Call [`super::Os::next`] after [`super::Os::unpark`], or when the
    /// monotonic clock says so.
    Idle {
        /// Nanoseconds of `CLOCK_MONOTONIC`; `None`: only a gate can wake a thread.
        until_ns: Option<u64>,
    },
    /// The compartment ends.
    End(Ending),
}
