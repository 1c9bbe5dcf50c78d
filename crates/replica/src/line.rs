//! The node's end of the way to a process: its control socket, and the bell on which it sleeps.
//!
//! A process replica has one for itself, the replicas in a cell have one together.

use std::fmt;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use baton_abi::boot::Message;
use baton_abi::cell::CELL_FDS_MAX;
use baton_pool::bell::Bell;
use baton_pool::link;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::start_error::StartError;

/// Wakes a replica that sleeps on a socket of its own, where the kernel hands over.
#[derive(Clone)]
pub struct Waker(Rc<dyn Fn()>);

impl Waker {
    /// By calling `wake`. Whoever it cannot wake is gone, or awake with much to read.
    pub fn new(wake: impl Fn() + 'static) -> Waker {
        Waker(Rc::new(wake))
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Control socket and bell of a process.
#[derive(Debug)]
pub(crate) struct Line {
    control: OwnedFd,
    bell: Bell,
    bell_fd: OwnedFd,
    waker: Option<Waker>,
}

impl Line {
    /// Makes both; gives the process's end of the socket, too. Without a `waker` the process sleeps on the bell itself.
    pub(crate) fn new(waker: Option<Waker>) -> Result<(Line, OwnedFd), StartError> {
        let bell_fd = link::create_bell("baton-bell").map_err(StartError::Region)?;
        let bell = link::map_bell(&bell_fd).map_err(StartError::Region)?;
        let (control, theirs) = control_sockets()?;
        Ok((Line { control, bell, bell_fd, waker }, theirs))
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(crate) fn bell_fd(&self) -> BorrowedFd<'_> {
        self.bell_fd.as_fd()
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.waker.is_some()
    }

    /// Wakes the process if it sleeps. Call after publishing.
    pub(crate) fn ring(&self) {
        match &self.waker {
            None => self.bell.ring(),
            Some(Waker(wake)) => {
                if self.bell.must_wake() {
                    wake();
                }
            }
        }
    }

    /// Sends one control message, then says so: whoever sees the count finds the message.
    pub(crate) fn say(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send(self.control.as_fd(), &message.encode(), fds)?;
        self.bell.count_control();
        self.ring();
        Ok(())
    }
}

/// A pair of control sockets, the node's end first; that one does not block.
pub(crate) fn control_sockets() -> Result<(OwnedFd, OwnedFd), StartError> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(StartError::Descriptors)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(StartError::Descriptors)?;
    Ok((ours, theirs))
}

/// A process that ended before it heard of something has its end told otherwise, with its status and last words.
pub(crate) fn gone_is_fine(said: Result<(), Errno>) -> Result<(), Errno> {
    match said {
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        said => said,
    }
}

/// Puts a packet on a control socket. Its buffer holds hundreds; a process that lets it fill up is stuck.
pub(crate) fn send(control: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CELL_FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(control, &[IoSlice::new(bytes)], &mut ancillary, flags).map(drop)
}

/// Takes a packet from a control socket: its bytes in `into`, and its first descriptor.
pub(crate) fn receive(control: BorrowedFd<'_>, into: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    // Room for more than the one that may come: those beyond are closed here, not lost in the kernel.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let (bytes, fds) = baton_pool::control::receive(control, into, &mut space, RecvFlags::DONTWAIT)?;
    Ok((bytes, fds.into_iter().next()))
}
