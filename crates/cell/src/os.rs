//! The library OS: what a guest gets in answer to its trapped system calls.
//!
//! [`Os`] is a deterministic state machine, one for each seat. It holds what a kernel would hold for a process: which
//! pages the guest has, its descriptors, its signal settings, its threads. Everything that reaches beyond that goes
//! through the [`Host`]. A guest's numbers and addresses are hostile until they are checked here; what they point to is
//! read once.
//!
//! ```text
//!   guest ── syscall ──▶ trap layer ── Os::call ──▶ Outcome ──▶ trap layer goes on with a thread, leaves, or ends it
//!                            │                                        ▲
//!                            └─ Os::park, unpark, next, preempt ──────┘   gates, events, time
//! ```
//!
//! Threads are green: at most one runs, and the `Os` decides which. The trap layer keeps the registers of each by
//! [`ThreadId`] and restores them when it is told to. A call that has to wait gives [`Outcome::Switch`] if another
//! thread can run, else [`Outcome::Idle`]. What the trap layer owes the `Os`:
//!
//! | when | it calls | and then |
//! |---|---|---|
//! | the current thread made a system call | [`Os::call`] | does what the outcome says |
//! | the current thread waits in a gate (`recv`, `wait`) | [`Os::park`] | the same |
//! | what it waited for is there | [`Os::unpark`], [`Os::next`] | the same; the gate's result is the trap layer's to set |
//! | it enters a seat whose outcome was `Idle`, or time is up | [`Os::next`] | the same |
//! | a timer says that the current thread ran long enough | [`Os::preempt`] | the same |
//!
//! Invariants: no range outside of the seat's own image, heap and mappings is ever passed to [`Host::map`],
//! [`Host::protect`], [`Host::unmap`], [`Host::discard`] or [`Host::relocate`]; nothing that can be executed is among
//! them, nor is anything made executable; the bytes that have pages behind them never exceed the memory limit; every
//! call is bounded in time and memory.
#![forbid(unsafe_code)]

mod config;
mod host;
mod outcome;

pub use config::{Access, Config, ConfigError, File, Segment};
pub use host::{Errno, Fault, Host, Prot, Stream};
pub use outcome::{Ending, NewThread, Outcome, Resume, ThreadId};

use core::ops::Range;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Most threads of a guest.
pub const THREADS_MAX: usize = 64;
/// Most bytes that one call reads, writes or copies, where a program must expect fewer than it asked for.
pub const IO_BYTES_MAX: usize = 64 * 1024;

/// The system calls of one seat. It is part of the seat's snapshot.
#[derive(Clone, Debug)]
pub struct Os {
    config: Config,
}

impl Os {
    /// A guest that is about to begin, with one thread.
    ///
    /// # Errors
    /// If `config` contradicts itself.
    pub fn new(config: Config) -> Result<Os, ConfigError> {
        Ok(Os { config })
    }

    /// Goes back to what `snapshot` was: a clone of this `Os`, taken earlier. The guest's memory is the caller's to
    /// restore ([`Os::pages`] of both say what differs).
    pub fn restore(&mut self, snapshot: &Os) {
        self.clone_from(snapshot);
    }

    /// Serves a system call of the current thread.
    pub fn call<H: Host>(&mut self, host: &mut H, number: u64, args: [u64; 6]) -> Outcome {
        let _ = (host, number, args, &self.config);
        Outcome::Return(-38)
    }

    /// The current thread waits in a gate, until [`Os::unpark`].
    pub fn park<H: Host>(&mut self, host: &mut H) -> Outcome {
        self.next(host)
    }

    /// What `thread` waited for in a gate is there: it runs before all others that are ready, when [`Os::next`] is
    /// asked. `false` if it was not parked.
    pub fn unpark(&mut self, thread: ThreadId) -> bool {
        let _ = thread;
        false
    }

    /// Who runs, when the seat is entered from outside. Wakes those whose time is up.
    pub fn next<H: Host>(&mut self, host: &mut H) -> Outcome {
        let _ = host;
        Outcome::Idle { until_ns: None }
    }

    /// The current thread was interrupted outside of any call: the next one that is ready runs.
    pub fn preempt<H: Host>(&mut self, host: &mut H) -> Outcome {
        self.next(host)
    }

    /// The thread that runs; `None` while all wait.
    #[must_use]
    pub fn current(&self) -> Option<ThreadId> {
        None
    }

    /// Whether all of a range is in pages of the guest's own (image, heap, mappings, stack) that it may read, or write:
    /// the check of a gate's arguments.
    #[must_use]
    pub fn owns(&self, at: u64, len: u64, write: bool) -> bool {
        let _ = (at, len, write);
        false
    }

    /// The pages that the guest has, in ascending order: what `map`, `protect` and the like have led to. `None` for
    /// parts of the image that can be executed.
    pub fn pages(&self) -> impl Iterator<Item = (Range<u64>, Option<Prot>)> {
        core::iter::empty()
    }

    /// Changes whenever [`Os::pages`] does: equal numbers in an `Os` and its snapshot mean equal pages.
    #[must_use]
    pub fn layout(&self) -> u64 {
        0
    }
}
