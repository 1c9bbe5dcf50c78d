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
//! | either of these, and others than this guest come first | [`Os::park_aside`], [`Os::preempt_aside`] | [`Os::next`] when [`Os::due`] says so |
//!
//! Invariants: no range outside of the seat's own image, heap and mappings is ever passed to [`Host::map`],
//! [`Host::protect`], [`Host::unmap`], [`Host::discard`] or [`Host::relocate`]; nothing that can be executed is among
//! them, nor is anything made executable; the bytes that have pages behind them never exceed the memory limit; every
//! call is bounded in time and memory.
#![forbid(unsafe_code)]

mod call;
mod clock;
mod config;
mod descriptors;
mod events;
mod files;
mod host;
mod identity;
mod io;
mod memory;
mod outcome;
mod paths;
mod pipes;
mod refusal;
mod saved;
mod signals;
mod space;
mod tasks;
mod threads;

#[cfg(test)]
mod tests;

pub use config::{Access, Config, ConfigError, Segment};
pub use host::{Errno, Fault, Host, Prot, Stream};
pub use outcome::{Ending, NewThread, Outcome, Resume, ThreadId};
pub use refusal::name as call_name;

use core::ops::Range;

use call::{Answer, Call, Step};
use clock::Timeout;
use descriptors::Descriptors;
use events::{WATCHES_MAX, Watch};
use files::Files;
use pipes::Pipes;
use saved::{In, Out};
use signals::Signals;
use space::{Backing, Region, Space, Span};
use threads::{Retry, Threads};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Most threads of a guest.
pub const THREADS_MAX: usize = 64;
/// Most bytes that one call reads, writes or copies, where a program must expect fewer than it asked for.
pub const IO_BYTES_MAX: usize = 64 * 1024;

/// The system calls of one seat. It is part of the seat's snapshot.
#[derive(Clone, Debug)]
pub struct Os {
    space: Space,
    files: Files,
    descriptors: Descriptors,
    watches: Vec<Watch>,
    pipes: Pipes,
    signals: Signals,
    threads: Threads,
    /// Whether the guest was told that nothing can be made executable.
    told_jit: bool,
}

impl Os {
    /// A guest that is about to begin, with one thread.
    ///
    /// # Errors
    /// If `config` contradicts itself.
    pub fn new(config: Config) -> Result<Os, ConfigError> {
        Ok(Os {
            space: Space::new(&config)?,
            files: Files::new(config.files),
            descriptors: Descriptors::new(),
            watches: Vec::new(),
            pipes: Pipes::new(),
            signals: Signals::new(),
            threads: Threads::new(),
            told_jit: false,
        })
    }

    /// Goes back to what `snapshot` was: a clone of this `Os`, taken earlier. The guest's memory is the caller's to
    /// restore ([`Os::pages`] of both say what differs).
    pub fn restore(&mut self, snapshot: &Os) {
        self.space.restore(&snapshot.space);
        self.descriptors.restore(&snapshot.descriptors);
        self.watches.clone_from(&snapshot.watches);
        self.pipes.restore(&snapshot.pipes);
        self.signals.clone_from(&snapshot.signals);
        self.threads.restore(&snapshot.threads);
        self.told_jit = snapshot.told_jit;
    }

    /// Whether the guest has one thread: then whoever enters and leaves need not ask who runs.
    #[inline]
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.threads.is_single()
    }

    /// All of it as bytes, to be kept beside the pages of a snapshot. `now_ns` is the time of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn save(&self, now_ns: u64) -> Vec<u8> {
        let mut out = Out::new();
        self.space.save(&mut out);
        self.pipes.save(&mut out);
        self.descriptors.save(&mut out);
        out.count(self.watches.len());
        self.watches.iter().for_each(|watch| watch.save(&mut out));
        self.signals.save(&mut out);
        self.threads.save(&mut out, now_ns);
        out.flag(self.told_jit);
        out.0
    }

    /// What [`Os::save`] wrote, for a seat made after the same `config`; `None` if these bytes are not that.
    #[must_use]
    pub fn load(config: &Config, bytes: &[u8], now_ns: u64) -> Option<Os> {
        let mut saved = In::new(bytes)?;
        let space = Space::load(&mut saved, config)?;
        let files = Files::new(config.files);
        let pipes = Pipes::load(&mut saved)?;
        let descriptors = Descriptors::load(&mut saved, &files, &pipes)?;
        let mut watches = Vec::new();
        for _ in 0..saved.count(WATCHES_MAX)? {
            watches.push(Watch::load(&mut saved, &descriptors)?);
        }
        let signals = Signals::load(&mut saved)?;
        let threads = Threads::load(&mut saved, now_ns)?;
        let told_jit = saved.flag()?;
        saved.is_empty().then_some(Os {
            space,
            files,
            descriptors,
            watches,
            pipes,
            signals,
            threads,
            told_jit,
        })
    }

    /// Serves a system call of the current thread.
    pub fn call<H: Host>(&mut self, host: &mut H, number: u64, args: [u64; 6]) -> Outcome {
        if self.threads.current().is_none() {
            // Nobody runs who could make a call: whoever is next is what the caller wants to know.
            return self.next(host);
        }
        let mut call = Call { host, number, args, again: None };
        let answer = self.serve(&mut call);
        self.conclude(&mut call, answer)
    }

    fn serve<H: Host>(&mut self, call: &mut Call<'_, H>) -> Answer {
        let served = (self.memory_call(call))
            .or_else(|| self.io_call(call))
            .or_else(|| self.task_call(call))
            .or_else(|| self.clock_call(call))
            .or_else(|| self.identity_call(call))
            .or_else(|| self.signal_call(call))
            .or_else(|| self.path_call(call))
            .or_else(|| self.event_call(call))
            .or_else(|| self.pipe_call(call));
        served.unwrap_or_else(|| Err(call.refuse(refusal::errno(call.number))))
    }

    /// What an answer means for the current thread.
    fn conclude<H: Host>(&mut self, call: &mut Call<'_, H>, answer: Answer) -> Outcome {
        match answer {
            Ok(Step::Done(value)) => return Outcome::Return(value.cast_signed()),
            Err(error) => return Outcome::Return(-i64::from(error.raw_os_error())),
            Ok(Step::Spawned(thread, tid)) => return Outcome::Spawned(thread, tid.cast_signed()),
            Ok(Step::End(ending)) => return Outcome::End(ending),
            Ok(Step::Yield) => {
                self.wake_late(call);
                if !self.threads.any_ready() {
                    return Outcome::Return(0);
                }
                self.threads.suspend(Some(0), true);
            }
            Ok(Step::Wait(wait, until)) => self.threads.wait(wait, until),
            Ok(Step::ThreadEnd(status)) => {
                if self.is_single() {
                    return Outcome::End(Ending::Exit(status & 0xff));
                }
                self.farewell(call);
                self.threads.end();
            }
        }
        self.schedule(call.host)
    }

    /// Wakes those whose time is up.
    fn wake_late<H: Host>(&mut self, call: &mut Call<'_, H>) {
        if self.threads.first_deadline().is_some() {
            let now = call.monotonic();
            self.threads.expire(now);
        }
    }

    /// Chooses who runs; nobody does at the moment.
    fn schedule<H: Host>(&mut self, host: &mut H) -> Outcome {
        let mut call = Call { host, number: 0, args: [0; 6], again: None };
        self.wake_late(&mut call);
        // Each round without an outcome leaves one more thread waiting.
        while let Some((thread, retry)) = self.threads.pick() {
            let Some(Retry { number, args, until }) = retry else {
                return Outcome::Switch(self.threads.resume(thread, None));
            };
            (call.number, call.args, call.again) = (number, args, Some(until));
            let result = match self.serve(&mut call) {
                Ok(Step::Wait(wait, until)) => {
                    self.threads.wait(wait, until);
                    continue;
                }
                Ok(Step::End(ending)) => return Outcome::End(ending),
                // No call that waits to be tried again ends in another way.
                Ok(Step::Yield | Step::ThreadEnd(_) | Step::Spawned(..)) => 0,
                Ok(Step::Done(value)) => value.cast_signed(),
                Err(error) => -i64::from(error.raw_os_error()),
            };
            return Outcome::Switch(self.threads.resume(thread, Some(result)));
        }
        let until_ns = self.threads.first_deadline();
        if until_ns.is_none() && !self.threads.any_parked() {
            return Outcome::End(Ending::Deadlock);
        }
        Outcome::Idle { until_ns }
    }

    /// The current thread waits in a gate, until [`Os::unpark`].
    pub fn park<H: Host>(&mut self, host: &mut H) -> Outcome {
        self.park_aside();
        self.schedule(host)
    }

    /// What `thread` waited for in a gate is there: it runs before all others that are ready, when [`Os::next`] is
    /// asked. `false` if it was not parked.
    pub fn unpark(&mut self, thread: ThreadId) -> bool {
        self.threads.unpark(thread)
    }

    /// Who runs, when the seat is entered from outside. Wakes those whose time is up. A thread that was chosen before,
    /// and whose registers were saved again, is chosen before others that are ready, but after those of [`Os::unpark`].
    pub fn next<H: Host>(&mut self, host: &mut H) -> Outcome {
        if self.threads.current().is_some() {
            self.threads.suspend(None, false);
        }
        self.schedule(host)
    }

    /// The current thread was interrupted outside of any call: the next one that is ready runs.
    pub fn preempt<H: Host>(&mut self, host: &mut H) -> Outcome {
        self.preempt_aside();
        self.schedule(host)
    }

    /// The current thread waits in a gate, as after [`Os::park`], and nobody is chosen: whoever serves several seats has
    /// others to look after first, and asks [`Os::next`] when [`Os::due`] says so.
    pub fn park_aside(&mut self) {
        if self.threads.current().is_some() {
            self.threads.park();
        }
    }

    /// The current thread was interrupted, as for [`Os::preempt`], and nobody is chosen, as by [`Os::park_aside`].
    pub fn preempt_aside(&mut self) {
        if self.threads.current().is_some() {
            self.threads.suspend(None, true);
        }
    }

    /// When to ask [`Os::next`], in nanoseconds of `CLOCK_MONOTONIC`: 0 is at once, `None` only after [`Os::unpark`].
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        if self.threads.any_ready() { Some(0) } else { self.threads.first_deadline() }
    }

    /// The thread that runs; `None` while all wait.
    #[must_use]
    pub fn current(&self) -> Option<ThreadId> {
        self.threads.current()
    }

    /// Whether all of a range is in pages of the guest's own (image, heap, mappings, stack) that it may read, or write:
    /// what calls read and write without [`Host::read_outside`] and [`Host::write_outside`].
    #[must_use]
    pub fn owns(&self, at: u64, len: u64, write: bool) -> bool {
        Span::new(at, len).is_some_and(|span| self.space.owns(span, write))
    }

    /// The pages that the guest has, in ascending order: what `map`, `protect` and the like have led to. `None` for
    /// parts of the image that can be executed.
    pub fn pages(&self) -> impl Iterator<Item = (Range<u64>, Option<Prot>)> {
        self.space.regions().iter().filter_map(|Region { span, backing }| match backing {
            Backing::Reserved => None,
            Backing::Code => Some((span.start..span.end, None)),
            Backing::Pages(prot) => Some((span.start..span.end, Some(*prot))),
        })
    }

    /// Changes whenever [`Os::pages`] does: equal numbers in an `Os` and its snapshot mean equal pages.
    #[must_use]
    pub fn layout(&self) -> u64 {
        self.space.version()
    }

    /// Bytes with pages behind them, which are what the memory limit counts.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.space.used()
    }
}
