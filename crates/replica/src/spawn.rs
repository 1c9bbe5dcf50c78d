//! Starts a program as a sandboxed process.
//!
//! Everything that can be prepared is prepared here; `crate::sys` creates the process, which walls itself in and
//! executes the program. See there for the sequence.
//!
//! **The spawning thread matters.** The process is killed when the *thread* that spawned it ends, so that a node that is
//! killed leaves no orphan. Spawn from a thread that lives as long as the node: the data-plane thread, or its [`Launcher`].
//!
//! The process is the first one of its own pid namespace. So its descendants die with it, and signals that it sends
//! itself without a handler are ignored: `abort()` shows up as `SIGSEGV`, from the trap that libc falls back to.

mod cgroup;
mod error;
pub(crate) mod filter;
mod launcher;
mod start;
mod walls;

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use error::{SpawnError, Step};
pub use launcher::Launcher;
use rustix::io::Errno;
pub use rustix::process::Pid;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::sandbox::SpawnSpec;
pub(crate) use cgroup::{Hierarchies, Version};

/// Starts the program of `spec` and returns once it runs. Takes about a millisecond, during which the calling thread
/// blocks; see the module about which thread that should be.
///
/// # Errors
/// Says which step failed and why. Nothing is left behind.
pub fn spawn(spec: SpawnSpec) -> Result<Child, SpawnError> {
    start::start(&spec)
}

/// A running process. Dropping it kills the process, waits for its end (a few hundred microseconds) and removes its
/// control groups.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// Goes when the process has gone.
    group: Option<cgroup::Group>,
    ended: Option<ExitReason>,
    /// Listeners in its network, until they are taken.
    doors: RefCell<Vec<OwnedFd>>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It returned or called `exit` with this status.
    Exited {
        /// The exit status, 0 to 255.
        status: i32,
    },
    /// A signal ended it: `SIGSYS` if it made a forbidden system call, `SIGKILL` if somebody killed it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It needed more memory than its control group may have.
    OutOfMemory,
    /// Somebody else waited for it; how it ended is not known.
    Unknown,
}

impl Child {
    /// The process's number, as the node sees it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The listeners that [`SpawnSpec::doors`] asked for, in that order; none where there is no sandbox, and none a second time.
    #[must_use]
    pub fn take_doors(&self) -> Vec<OwnedFd> {
        self.doors.take()
    }

    /// Kills the process, and in a sandbox everything that it started. Harmless if it has ended.
    pub fn kill(&self) {
        if self.ended.is_none() {
            // Fails only if the process has ended meanwhile.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Processes of its control group that the kernel has killed for want of memory so far; 0 where there is none.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.group.as_ref().map_or(0, cgroup::Group::oom_kills)
    }

    /// How the process ended, if it has. Never blocks. The descriptor (see [`AsFd`]) is readable once this is `Some`.
    pub fn try_wait(&mut self) -> Option<ExitReason> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitReason {
        loop {
            if let Some(reason) = self.reap(WaitIdOptions::EXITED) {
                return reason;
            }
        }
    }

    fn reap(&mut self, options: WaitIdOptions) -> Option<ExitReason> {
        if self.ended.is_some() {
            return self.ended;
        }
        let reason = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => return None,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => ExitReason::Exited { status },
                (None, Some(signal)) => ExitReason::Signalled { signal },
                (None, None) => ExitReason::Unknown,
            },
            Err(_) => ExitReason::Unknown,
        };
        let killed = ExitReason::Signalled { signal: Signal::KILL.as_raw() };
        let group = self.group.take();
        let starved = reason == killed && group.as_ref().is_some_and(|group| group.oom_kills() > 0);
        self.ended = Some(if starved { ExitReason::OutOfMemory } else { reason });
        self.ended
    }
}

impl AsFd for Child {
    /// The process's pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}
