//! A zygote: a process that has imported a function's module, and that replicas are forked from.
//!
//! ```text
//!   start ─▶ hear: Loaded, or Failed ─▶ fork ─▶ hear: Forked with a pidfd, later Ended
//!                                        └─▶ fork …
//! ```
//! As a template is for cells, it is the first process of its pid namespace: what is forked from it ends with it. Other than a
//! template's, its code is the function's: what it says is an allegation, and harms nobody but the function.
//!
//! Messages are packets on its control socket: one letter, then numbers of 32 bits (little-endian), then text. From the node:
//! `F` number, core, with the control socket, standard output and standard error of the new process. From the zygote: `L`;
//! `X` and why it cannot go on; `B` number, with a pidfd; `E` number, code and status as `waitid` says them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use baton_abi::boot::{Hello, Message};
use rustix::io::Errno;

use crate::cell::Cell;
use crate::line::{self, Line, gone_is_fine};
use crate::peer::{Body, LinkEnd, Peer};
use crate::process::{Mappings, Output, ProcessReplica, outputs};
use crate::sandbox::SpawnSpec;
use crate::spawn::{Child, ExitReason, spawn};
use crate::start_error::StartError;

/// Longest message from a zygote, bytes.
const MESSAGE_BYTES: usize = 8192;

/// What a zygote says.
#[derive(Debug)]
pub enum Said {
    /// The module is imported: forks may be asked for.
    Loaded,
    /// It cannot go on, and why.
    Failed(String),
    /// A process was forked; its pidfd.
    Forked {
        /// The node's number for it.
        number: u32,
        /// Readable once the process has ended, if the zygote is honest.
        pidfd: OwnedFd,
    },
    /// A process has ended.
    Ended {
        /// The node's number for it.
        number: u32,
        /// As `si_code` of `waitid` says it.
        code: i32,
        /// The exit status, or the signal.
        status: i32,
    },
}

/// A zygote. Dropping it kills it, and all that was forked from it.
#[derive(Debug)]
pub struct Zygote {
    child: Child,
    control: OwnedFd,
}

/// Makes the sockets and pipes of a zygote and starts it by `spec`, whose control socket and output are filled in here.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub fn start(
    spec: impl FnOnce(OwnedFd, OwnedFd, OwnedFd) -> SpawnSpec,
) -> Result<(Zygote, Output), StartError> {
    let (control, guest_control) = line::control_sockets()?;
    let (output, guest_stdout, guest_stderr) = outputs()?;
    let child = spawn(spec(guest_control, guest_stdout, guest_stderr)).map_err(StartError::Spawn)?;
    Ok((Zygote { child, control }, output))
}

impl Zygote {
    /// Has it fork a replica, `number`, that runs on `core`. It is born when the zygote says [`Said::Forked`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn fork(
        &self,
        (number, core): (u32, u32),
        hello: &Hello,
        mappings: &Mappings<'_>,
    ) -> Result<(Rc<Cell>, Peer, Output), StartError> {
        let (end, rings) = LinkEnd::new(hello.ring_entries)?;
        let (line, guest_control) = Line::new(mappings.waker())?;
        let (output, guest_stdout, guest_stderr) = outputs()?;
        let fds = mappings.with_hello(&rings, &line, &end);
        // It lies in the socket when the new process looks there; counted first, as for others.
        line.bell().count_control();
        let hello = Message::Hello(*hello).encode();
        gone_is_fine(line::send(line.control(), &hello, &fds)).map_err(StartError::Descriptors)?;
        let mut order = vec![b'F'];
        order.extend(number.to_le_bytes());
        order.extend(core.to_le_bytes());
        let fds = [guest_control.as_fd(), guest_stdout.as_fd(), guest_stderr.as_fd()];
        line::send(self.control.as_fd(), &order, &fds).map_err(StartError::Descriptors)?;
        let process = Rc::new(Cell::new(number, line));
        let body = Body::Process(ProcessReplica::forked(Rc::clone(&process)));
        Ok((process, Peer::new(end, body), output))
    }

    /// What it says next.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when nothing is there yet, [`Errno::PIPE`] when it closed the socket, [`Errno::PROTO`] when it said
    /// something that is no message.
    pub fn hear(&self) -> Result<Said, Errno> {
        let mut packet = [0u8; MESSAGE_BYTES];
        let (bytes, fd) = line::receive(self.control.as_fd(), &mut packet)?;
        let packet = packet.get(..bytes).filter(|packet| !packet.is_empty()).ok_or(Errno::PIPE)?;
        decode(packet, fd).ok_or(Errno::PROTO)
    }

    /// Readable when it speaks.
    #[must_use]
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Readable when it has ended.
    #[must_use]
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Processes, itself or forked from it, that the kernel has killed for want of memory so far.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.child.oom_kills()
    }

    /// The listeners in its network, which all that is forked from it shares.
    #[must_use]
    pub fn take_doors(&self) -> Vec<OwnedFd> {
        self.child.take_doors()
    }

    /// Kills it, and all that was forked from it.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitReason> {
        self.child.try_wait()
    }
}

fn decode(packet: &[u8], fd: Option<OwnedFd>) -> Option<Said> {
    let (kind, rest) = packet.split_first()?;
    let word = |index: usize| -> Option<[u8; 4]> { rest.get(index * 4..index * 4 + 4)?.try_into().ok() };
    let number = || word(0).map(u32::from_le_bytes);
    let exactly = |words: usize| (rest.len() == words * 4).then_some(());
    match kind {
        b'L' => exactly(0).map(|()| Said::Loaded),
        b'X' => Some(Said::Failed(String::from_utf8_lossy(rest).into_owned())),
        b'B' => {
            exactly(1)?;
            Some(Said::Forked { number: number()?, pidfd: fd? })
        }
        b'E' => {
            exactly(3)?;
            let signed = |index| word(index).map(i32::from_le_bytes);
            Some(Said::Ended { number: number()?, code: signed(1)?, status: signed(2)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_none() {
        let fd = || Some(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        assert!(matches!(decode(b"L", None), Some(Said::Loaded)));
        assert!(matches!(decode(b"Xwhy \xff", None), Some(Said::Failed(why)) if why == "why \u{fffd}"));
        assert!(matches!(decode(b"B\x07\0\0\0", fd()), Some(Said::Forked { number: 7, .. })));
        let ended = decode(b"E\x07\0\0\0\x02\0\0\0\x09\0\0\0", None);
        assert!(matches!(ended, Some(Said::Ended { number: 7, code: 2, status: 9 })));
        for bad in [&b""[..], b"L ", b"B\x07\0\0\0", b"B\x07\0\0", b"E\x07\0\0\0", b"Q", b"\0"] {
            assert!(decode(bad, None).is_none(), "{bad:?}");
        }
        assert!(decode(b"B\x07\0\0\0\0", fd()).is_none());
    }
}
