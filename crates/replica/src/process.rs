//! A process replica as the node sees it: the sandboxed child, its control socket, and the node's end of its link.
//!
//! Plain calls, no runtime: whoever drives it waits on the three descriptors that [`ProcessReplica`] gives out (end of
//! process, control socket, eventfd).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_abi::boot::{Edge, Hello, MESSAGE_FDS_MAX, Message, READY};
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::{Descriptor, Kind};
use baton_pool::bell::Bell;
use baton_pool::link::{self, Duplex, Side};
use baton_pool::region::RegionError;
use baton_pool::ring::{Overrun, PushError};
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::sandbox::SpawnSpec;
use crate::spawn::{Child, ExitReason, SpawnError, spawn};

/// Why a replica could not be started.
#[derive(Debug)]
pub enum StartError {
    /// Shared memory for its link.
    Region(RegionError),
    /// Its sockets and pipes.
    Descriptors(Errno),
    /// The process itself.
    Spawn(SpawnError),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Region(error) => write!(f, "{error}"),
            StartError::Descriptors(errno) => write!(f, "sockets and pipes of a replica: {errno}"),
            StartError::Spawn(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What a replica maps of its app's pool. The pool's descriptor is missing where the manifest says so.
#[derive(Debug)]
pub struct Mappings<'a> {
    /// The pool, read-write or read-only.
    pub pool: Option<BorrowedFd<'a>>,
    /// The ledger, read-only.
    pub ledger: BorrowedFd<'a>,
    /// The capability table.
    pub table: BorrowedFd<'a>,
}

/// The node's ends of a new replica's output.
#[derive(Debug)]
pub struct Output {
    /// What it writes to its standard output.
    pub stdout: OwnedFd,
    /// What it writes to its standard error.
    pub stderr: OwnedFd,
}

/// A replica's process and the node's end of its link. Dropping it kills the process.
#[derive(Debug)]
pub struct ProcessReplica {
    child: Child,
    control: OwnedFd,
    link: Duplex,
    bell: Bell,
    bell_fd: OwnedFd,
    eventfd: OwnedFd,
    rung: bool,
}

/// Makes the socket pair, pipes and rings of a replica, starts its process by `spec` (whose control socket and output
/// are filled in here), and sends it its mappings.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub fn start(
    spec: impl FnOnce(OwnedFd, OwnedFd, OwnedFd) -> SpawnSpec,
    hello: &Hello,
    mappings: &Mappings<'_>,
) -> Result<(ProcessReplica, Output), StartError> {
    let link_fd = link::create("baton-link", hello.ring_entries).map_err(StartError::Region)?;
    let bell_fd = link::create_bell("baton-bell").map_err(StartError::Region)?;
    let duplex = Duplex::map(&link_fd, hello.ring_entries, Side::Near).map_err(StartError::Region)?;
    let bell = link::map_bell(&bell_fd).map_err(StartError::Region)?;
    let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(StartError::Descriptors)?;
    let (control, guest_control) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(StartError::Descriptors)?;
    let (stdout, guest_stdout) = pipe()?;
    let (stderr, guest_stderr) = pipe()?;
    let child = spawn(spec(guest_control, guest_stdout, guest_stderr)).map_err(StartError::Spawn)?;
    rustix::io::ioctl_fionbio(&control, true).map_err(StartError::Descriptors)?;
    let replica = ProcessReplica { child, control, link: duplex, bell, bell_fd, eventfd, rung: false };
    let mut fds: Vec<BorrowedFd<'_>> = mappings.pool.into_iter().collect();
    fds.extend([mappings.ledger, mappings.table, link_fd.as_fd(), replica.bell_fd.as_fd()]);
    fds.push(replica.eventfd.as_fd());
    // Counted first: a replica that has read its hello takes for granted that it was counted, and would otherwise wait
    // for a second message that nobody sent.
    replica.bell.count_control();
    gone_is_fine(replica.send(&Message::Hello(*hello), &fds)).map_err(StartError::Descriptors)?;
    Ok((replica, Output { stdout, stderr }))
}

/// A replica that ended before it heard of something has its end told by its process, with its status and last words.
fn gone_is_fine(said: Result<(), Errno>) -> Result<(), Errno> {
    match said {
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        said => said,
    }
}

/// A pipe whose reading end does not block.
fn pipe() -> Result<(OwnedFd, OwnedFd), StartError> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(StartError::Descriptors)?;
    rustix::io::ioctl_fionbio(&reader, true).map_err(StartError::Descriptors)?;
    Ok((reader, writer))
}

impl ProcessReplica {
    /// Sends one control message, then says so: whoever sees the count finds the message.
    fn say(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        self.send(message, fds)?;
        self.bell.count_control();
        self.bell.ring();
        Ok(())
    }

    /// Puts a message on the control socket. Its buffer holds hundreds; a replica that lets it fill up is stuck.
    fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::MSGSIZE);
        }
        let bytes = message.encode();
        rustix::net::sendmsg(
            &self.control,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
        .map(drop)
    }

    /// Gives the replica one more edge.
    ///
    /// # Errors
    /// What the kernel said: the replica does not read its control socket. One that is gone is no error: its end is
    /// told by its process, and must not be taken for a fault of the peer's.
    pub fn add_edge(&self, edge: Edge, rings: BorrowedFd<'_>, peer: &ProcessReplica) -> Result<(), Errno> {
        gone_is_fine(self.say(&Message::Edge(edge), &[rings, peer.bell_fd.as_fd()]))
    }

    /// Whether the replica said that its handler can take requests. Call when [`ProcessReplica::control_fd`] is readable.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when nothing is there yet, [`Errno::PIPE`] when the replica closed the socket, [`Errno::PROTO`]
    /// when it said something else.
    pub fn read_ready(&self) -> Result<(), Errno> {
        let mut byte = [0u8; 1];
        let (read, _) = rustix::net::recv(&self.control, &mut byte, RecvFlags::DONTWAIT)?;
        match (read, byte) {
            (1, [READY]) => Ok(()),
            (0, _) => Err(Errno::PIPE),
            _ => Err(Errno::PROTO),
        }
    }

    /// Puts a descriptor on the link. The bell is rung by [`ProcessReplica::flush`].
    ///
    /// # Errors
    /// [`PushError::Full`] when the replica does not keep up, [`PushError::Overrun`] when it lies.
    #[inline]
    pub fn push(&mut self, descriptor: &Descriptor) -> Result<(), PushError> {
        self.push_words(descriptor.to_words())
    }

    /// As [`ProcessReplica::push`], for descriptors that are packed otherwise.
    ///
    /// # Errors
    /// As [`ProcessReplica::push`].
    #[inline]
    pub fn push_words(&mut self, words: [u64; DESCRIPTOR_WORDS]) -> Result<(), PushError> {
        self.rung = true;
        self.link.to_peer.push_words(words)
    }

    /// Asks the replica to finish what runs and exit.
    ///
    /// # Errors
    /// As [`ProcessReplica::push`].
    pub fn ask_to_stop(&mut self) -> Result<(), PushError> {
        self.push(&Descriptor::new(Kind::Shutdown))
    }

    /// Rings the replica if it sleeps and something was pushed.
    #[inline]
    pub fn flush(&mut self) {
        if self.rung {
            self.rung = false;
            self.bell.ring();
        }
    }

    /// The oldest descriptor from the replica, as a private copy: an allegation.
    ///
    /// # Errors
    /// [`Overrun`] when the replica lies about its position.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Descriptor>, Overrun> {
        self.link.from_peer.pop()
    }

    /// Says that the node waits for the eventfd now. `false`: something came meanwhile, look again first.
    pub fn announce_sleep(&mut self) -> bool {
        self.link.node_bell.announce_sleep();
        let quiet = self.link.from_peer.is_empty().unwrap_or(false);
        if !quiet {
            self.link.node_bell.announce_awake();
        }
        quiet
    }

    /// Says that the node is awake. The eventfd is never read: the replica has the same open file and could make that
    /// block. So whoever waits for it waits for edges, as epoll tells them: every write is one.
    pub fn announce_awake(&self) {
        self.link.node_bell.announce_awake();
    }

    /// The replica's bell, for its own statements: how far its loop is, how many requests it has.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Wakes the replica whatever it says: it should look at its edges.
    pub fn nudge(&self) {
        self.bell.ring();
    }

    /// Kills the process.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// How the process ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitReason> {
        self.child.try_wait()
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        u32::try_from(self.child.pid().as_raw_pid()).unwrap_or(0)
    }

    /// Readable when the process has ended.
    #[must_use]
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Readable when the replica speaks on its control socket, or closed it.
    #[must_use]
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Readable when the replica put something on the link while the node slept.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
