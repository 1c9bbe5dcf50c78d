//! A cell as the node sees it: a process that a template forked, with several replicas in it.
//!
//! ```text
//!   Template::fork ─▶ no pidfd yet ── born(pidfd) ─▶ alive ── its pidfd is readable ─▶ ended(reason)
//!                        └─ the template dies: ended(reason) without ever being born
//! ```
//! It is no child of the node's: how it ended is what its template says.

use std::cell::{Cell as Slot, OnceCell};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use baton_abi::boot::Message;
use baton_abi::cell::{CELL_MESSAGE_BYTES, FromCell};
use baton_pool::bell::Bell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::line::{self, Line};
use crate::spawn::ExitReason;

/// A message from a template or a cell.
#[derive(Debug)]
pub struct Heard {
    /// What it says.
    pub message: FromCell,
    /// The text that follows it.
    pub text: Vec<u8>,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
}

/// Takes the next message from a control socket.
pub(crate) fn hear(control: BorrowedFd<'_>) -> Result<Heard, Errno> {
    let mut packet = [0u8; CELL_MESSAGE_BYTES];
    let (bytes, fd) = line::receive(control, &mut packet)?;
    let packet = packet.get(..bytes).filter(|packet| !packet.is_empty()).ok_or(Errno::PIPE)?;
    let (message, text) = FromCell::decode(packet).ok_or(Errno::PROTO)?;
    Ok(Heard { message, text: text.to_vec(), fd })
}

/// A cell. Dropping it kills the process.
#[derive(Debug)]
pub struct Cell {
    number: u32,
    line: Line,
    pidfd: OnceCell<OwnedFd>,
    pid: Slot<u32>,
    doomed: Slot<bool>,
    ended: Slot<Option<ExitReason>>,
}

impl Cell {
    pub(crate) fn new(number: u32, line: Line) -> Cell {
        let (pidfd, pid) = (OnceCell::new(), Slot::new(0));
        Cell { number, line, pidfd, pid, doomed: Slot::new(false), ended: Slot::new(None) }
    }

    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// The bell on which it sleeps.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        self.line.bell()
    }

    /// The node's number for it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The process runs.
    pub fn born(&self, pidfd: OwnedFd) {
        if self.pidfd.set(pidfd).is_ok() && self.doomed.get() {
            self.kill();
        }
    }

    /// Gives it its page map, which it cannot open itself since it sees no file system. Nothing waits for that: to be called
    /// once the cell takes requests.
    pub fn give_page_map(&self) {
        let Ok(page_map) = File::open(format!("/proc/{}/pagemap", self.pid())) else { return };
        // Still alive after the file was opened: so the number was not another process's meanwhile.
        if self.end_fd().is_some() && !self.is_over() {
            // A cell that is gone needs none, one that does not listen is found out otherwise.
            let _ = self.line.say(&Message::PageMap, &[page_map.as_fd()]);
        }
    }

    /// Readable when the process has ended; `None` before it is born.
    #[must_use]
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.get().map(AsFd::as_fd)
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let Some(pidfd) = self.pidfd.get() else { return self.ended.get().is_some() };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now));
        ready == Ok(1)
    }

    /// It has ended; `reason` is what is known about that. The first word counts.
    pub fn ended(&self, reason: ExitReason) {
        if self.ended.get().is_none() {
            self.ended.set(Some(reason));
        }
    }

    /// How it ended, once [`Cell::ended`] was told.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.ended.get()
    }

    /// Kills the process, as soon as there is one.
    pub fn kill(&self) {
        self.doomed.set(true);
        if let Some(pidfd) = self.pidfd.get() {
            // Fails only if the process has ended meanwhile.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// The process's number; 0 before it is born.
    #[must_use]
    pub fn pid(&self) -> u32 {
        // Asked for seldom, and never on the way of a request: so it is found out when it is asked for.
        if self.pid.get() == 0 {
            self.pid.set(self.pidfd.get().and_then(pid_of).unwrap_or(0));
        }
        self.pid.get()
    }

    /// Readable when the cell speaks.
    #[must_use]
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.line.control()
    }

    /// What the cell says next.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when nothing is there yet, [`Errno::PIPE`] when the cell closed the socket, [`Errno::PROTO`] when
    /// it said something that is no message.
    pub fn hear(&self) -> Result<Heard, Errno> {
        hear(self.line.control())
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The number, in the node's eyes, of the process behind a pidfd.
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}
