//! A replica that is a process of its own: the sandboxed child and the way to it.
//!
//! Whoever drives it waits on the descriptors that [`ProcessReplica`] gives out (end of process, control socket).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use baton_abi::boot::{Hello, Message, READY};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::cell::Cell;
use crate::line::{self, Line, Waker, gone_is_fine};
use crate::peer::{Body, LinkEnd, Peer};
use crate::sandbox::SpawnSpec;
use crate::spawn::{Child, ExitReason};
use crate::start_error::StartError;

/// What a replica maps of its app's pool. The pool's descriptor is missing where the manifest says so.
#[derive(Debug)]
pub struct Mappings<'a> {
    /// The pool, read-write or read-only.
    pub pool: Option<BorrowedFd<'a>>,
    /// The ledger, read-only.
    pub ledger: BorrowedFd<'a>,
    /// The capability table; read-only where the kernel hands over.
    pub table: BorrowedFd<'a>,
    /// What it has beside those, where the kernel hands over.
    pub guarded: Option<Guarded<'a>>,
}

/// What a replica has where the kernel hands over.
#[derive(Debug)]
pub struct Guarded<'a> {
    /// Its end of its socket, which the kernel knows by now.
    pub socket: BorrowedFd<'a>,
    /// How the node wakes it.
    pub waker: Waker,
}

impl Mappings<'_> {
    pub(crate) fn waker(&self) -> Option<Waker> {
        self.guarded.as_ref().map(|guarded| guarded.waker.clone())
    }

    /// Everything that comes with a replica's hello, in that order.
    pub(crate) fn with_hello<'f>(
        &'f self,
        rings: &'f OwnedFd,
        line: &'f Line,
        end: &'f LinkEnd,
    ) -> Vec<BorrowedFd<'f>> {
        let mut fds: Vec<BorrowedFd<'f>> = self.pool.into_iter().collect();
        fds.extend([self.ledger, self.table, rings.as_fd(), line.bell_fd(), end.eventfd()]);
        fds.extend(self.guarded.as_ref().map(|guarded| guarded.socket));
        fds
    }
}

/// The node's ends of a new process's output.
#[derive(Debug)]
pub struct Output {
    /// What it writes to its standard output.
    pub stdout: OwnedFd,
    /// What it writes to its standard error.
    pub stderr: OwnedFd,
}

/// A replica's own process. Dropping it kills the process.
#[derive(Debug)]
pub struct ProcessReplica(Held);

#[derive(Debug)]
enum Held {
    /// A child of the node's.
    Own { child: Child, line: Line },
    /// Forked from a zygote, which says how it ended.
    Forked(Rc<Cell>),
}

/// What a replica has before its process is there.
#[derive(Debug)]
pub struct Unborn {
    end: LinkEnd,
    rings: OwnedFd,
    line: Line,
    output: Output,
}

impl Unborn {
    /// Makes the socket pair, pipes and rings of a replica, and completes `spec` with them: control socket and output. `waker`:
    /// that of its mappings.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn new(
        spec: impl FnOnce(OwnedFd, OwnedFd, OwnedFd) -> SpawnSpec,
        ring_entries: u32,
        waker: Option<Waker>,
    ) -> Result<(Unborn, SpawnSpec), StartError> {
        let (end, rings) = LinkEnd::new(ring_entries)?;
        let (line, guest_control) = Line::new(waker)?;
        let (output, guest_stdout, guest_stderr) = outputs()?;
        let spec = spec(guest_control, guest_stdout, guest_stderr);
        Ok((Unborn { end, rings, line, output }, spec))
    }

    /// Its process runs: sends it its mappings.
    ///
    /// # Errors
    /// [`StartError`]; the process is killed.
    pub fn born(
        self,
        child: Child,
        hello: &Hello,
        mappings: &Mappings<'_>,
    ) -> Result<(Peer, Output), StartError> {
        let Unborn { end, rings, line, output } = self;
        let fds = mappings.with_hello(&rings, &line, &end);
        // Counted first: a replica that has read its hello takes for granted that it was counted, and would otherwise wait
        // for a second message that nobody sent.
        line.bell().count_control();
        let hello = Message::Hello(*hello).encode();
        gone_is_fine(line::send(line.control(), &hello, &fds)).map_err(StartError::Descriptors)?;
        Ok((Peer::new(end, Body::Process(ProcessReplica(Held::Own { child, line }))), output))
    }
}

/// Pipes for a process's output: the node's ends, then the process's for standard output and standard error.
pub(crate) fn outputs() -> Result<(Output, OwnedFd, OwnedFd), StartError> {
    let (stdout, guest_stdout) = pipe()?;
    let (stderr, guest_stderr) = pipe()?;
    Ok((Output { stdout, stderr }, guest_stdout, guest_stderr))
}

/// A pipe whose reading end does not block.
fn pipe() -> Result<(OwnedFd, OwnedFd), StartError> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(StartError::Descriptors)?;
    rustix::io::ioctl_fionbio(&reader, true).map_err(StartError::Descriptors)?;
    Ok((reader, writer))
}

impl ProcessReplica {
    pub(crate) fn forked(process: Rc<Cell>) -> ProcessReplica {
        ProcessReplica(Held::Forked(process))
    }

    pub(crate) fn line(&self) -> &Line {
        match &self.0 {
            Held::Own { line, .. } => line,
            Held::Forked(process) => process.line(),
        }
    }

    /// The process, if it was forked from a zygote.
    #[must_use]
    pub fn from_zygote(&self) -> Option<&Rc<Cell>> {
        match &self.0 {
            Held::Own { .. } => None,
            Held::Forked(process) => Some(process),
        }
    }

    /// Whether the replica said that its handler can take requests. Call when [`ProcessReplica::control_fd`] is readable.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when nothing is there yet, [`Errno::PIPE`] when the replica closed the socket, [`Errno::PROTO`]
    /// when it said something else.
    pub fn read_ready(&self) -> Result<(), Errno> {
        let mut byte = [0u8; 1];
        let (read, _) = rustix::net::recv(self.line().control(), &mut byte, RecvFlags::DONTWAIT)?;
        match (read, byte) {
            (1, [READY]) => Ok(()),
            (0, _) => Err(Errno::PIPE),
            _ => Err(Errno::PROTO),
        }
    }

    /// See [`Child::take_doors`].
    #[must_use]
    pub fn take_doors(&self) -> Vec<OwnedFd> {
        match &self.0 {
            Held::Own { child, .. } => child.take_doors(),
            Held::Forked(_) => Vec::new(),
        }
    }

    pub(crate) fn kill(&self) {
        match &self.0 {
            Held::Own { child, .. } => child.kill(),
            Held::Forked(process) => process.kill(),
        }
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitReason> {
        match &mut self.0 {
            Held::Own { child, .. } => child.try_wait(),
            Held::Forked(process) => process.exit_reason(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.0 {
            Held::Own { child, .. } => u32::try_from(child.pid().as_raw_pid()).unwrap_or(0),
            Held::Forked(process) => process.pid(),
        }
    }

    /// Readable when the process has ended; `None` before it is born.
    #[must_use]
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Held::Own { child, .. } => Some(child.as_fd()),
            Held::Forked(process) => process.end_fd(),
        }
    }

    /// Readable when the replica speaks on its control socket, or closed it.
    #[must_use]
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.line().control()
    }
}
