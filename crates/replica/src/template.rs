//! The template of a cell: a process that loads functions up to their first receive and is forked from then on.
//!
//! ```text
//!   start ─▶ set_up ─▶ load … load ─▶ hear: Loaded or Failed for each ─▶ fork ─▶ hear: Forked, later Ended
//!                                                                         └─▶ fork …
//! ```
//! It is the first process of its pid namespace: its cells end with it.

use std::cell::RefCell;
use std::env;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use baton_abi::cell::{Fork, Load, SEATS_MAX, Seat, Setup, ToTemplate};
use rustix::io::Errno;

use crate::cell::{Cell, Heard, hear};
use crate::line::{self, Line};
use crate::peer::{Body, LinkEnd, Peer};
use crate::process::{Mappings, Output, outputs};
use crate::sandbox::SpawnSpec;
use crate::spawn::{Child, ExitReason, spawn};
use crate::start_error::StartError;

/// The variable that names the program of cells, where it is not beside the running one.
pub const PROGRAM_ENV: &str = "BATON_CELL";

/// The program's name.
pub const PROGRAM: &str = "baton-cell";

/// The program of cells: what [`PROGRAM_ENV`] names, or [`PROGRAM`] beside the running executable.
///
/// # Errors
/// Where it was looked for in vain.
pub fn program() -> Result<PathBuf, PathBuf> {
    let named = env::var_os(PROGRAM_ENV).map(PathBuf::from);
    let beside = || Some(env::current_exe().ok()?.with_file_name(PROGRAM));
    let path = named.or_else(beside).unwrap_or_else(|| PathBuf::from(PROGRAM));
    if path.is_file() { Ok(path) } else { Err(path) }
}

/// The whole environment of a template. glibc would register a restartable sequence, which the kernel writes under
/// the running compartment's key.
#[must_use]
pub fn environment() -> Vec<CString> {
    vec![c"GLIBC_TUNABLES=glibc.pthread.rseq=0".to_owned()]
}

/// A template. Dropping it kills it, and all its cells with it.
#[derive(Debug)]
pub struct Template {
    child: Child,
    control: OwnedFd,
    /// What the next cell needs, made ahead.
    spare: RefCell<Option<Kit>>,
}

/// The node's ends of a cell, and the descriptors that the cell gets.
#[derive(Debug)]
struct Kit {
    line: Line,
    guest_control: OwnedFd,
    /// For each seat: the entries of its rings, its link, the descriptor of its rings.
    ends: Vec<(u32, LinkEnd, OwnedFd)>,
}

impl Kit {
    fn new(ring_entries: impl Iterator<Item = u32>) -> Result<Kit, StartError> {
        let (line, guest_control) = Line::new(None)?;
        let end = |entries| LinkEnd::new(entries).map(|(end, rings)| (entries, end, rings));
        Ok(Kit { line, guest_control, ends: ring_entries.map(end).collect::<Result<_, _>>()? })
    }

    fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        self.ends.iter().map(|(entries, ..)| *entries)
    }
}

/// Makes the sockets and pipes of a template and starts it by `spec`, whose control socket and output are filled in here.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub fn start(
    spec: impl FnOnce(OwnedFd, OwnedFd, OwnedFd) -> SpawnSpec,
) -> Result<(Template, Output), StartError> {
    let (control, guest_control) = line::control_sockets()?;
    let (output, guest_stdout, guest_stderr) = outputs()?;
    let child = spawn(spec(guest_control, guest_stdout, guest_stderr)).map_err(StartError::Spawn)?;
    Ok((Template { child, control, spare: RefCell::default() }, output))
}

impl Template {
    fn send(&self, message: &ToTemplate, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        line::send(self.control.as_fd(), &message.encode(), fds)
    }

    /// Gives it its mappings and its plan.
    ///
    /// # Errors
    /// What the kernel says; [`Errno::PIPE`] if it has ended.
    pub fn set_up(&self, setup: &Setup, plan: BorrowedFd<'_>, mappings: &Mappings<'_>) -> Result<(), Errno> {
        let mut fds = vec![plan];
        fds.extend(mappings.pool);
        fds.extend([mappings.ledger, mappings.table]);
        self.send(&ToTemplate::Setup(*setup), &fds)
    }

    /// Has it load a function, from its snapshot if there is one. Its executable, the program that goes on in and the bundle of
    /// its files come with their lengths in bytes.
    ///
    /// # Errors
    /// As for [`Template::set_up`].
    pub fn load(
        &self,
        index: u32,
        (elf, elf_bytes): (BorrowedFd<'_>, u64),
        [host, files]: [Option<(BorrowedFd<'_>, u64)>; 2],
        snapshot: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let ((host, host_bytes), (files, files_bytes)) = (host.unzip(), files.unzip());
        let (host_bytes, files_bytes) = (host_bytes.unwrap_or_default(), files_bytes.unwrap_or_default());
        let load = Load { index, elf_bytes, host_bytes, files_bytes, has_snapshot: snapshot.is_some() };
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(elf).chain(host).chain(files).chain(snapshot).collect();
        self.send(&ToTemplate::Load(load), &fds)
    }

    /// Makes what the next cell needs from the node, ahead of need: links with so many entries a ring, one a seat.
    ///
    /// # Errors
    /// [`StartError`]; the next fork tries again.
    pub fn prepare(&self, ring_entries: impl Iterator<Item = u32>) -> Result<(), StartError> {
        self.spare.replace(Some(Kit::new(ring_entries)?));
        Ok(())
    }

    /// Lets go of what [`Template::prepare`] made. The next fork makes it itself.
    pub fn unprepare(&self) {
        drop(self.spare.take());
    }

    /// Has it make cell `number`, on `core` (see [`baton_abi::cell::ANY_CORE`]), with these seats. The cell's replicas
    /// come in the order of the seats; it is born when the template says [`baton_abi::cell::FromCell::Forked`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn fork(&self, number: u32, core: u32, seats: &[Seat]) -> Result<(Rc<Cell>, Vec<Peer>), StartError> {
        let too_many = StartError::Descriptors(Errno::MSGSIZE);
        let mut fork = Fork { cell: number, core, seats: [Seat::default(); SEATS_MAX], count: 0 };
        fork.seats.get_mut(..seats.len()).ok_or(too_many)?.copy_from_slice(seats);
        fork.count = u32::try_from(seats.len()).unwrap_or(0);
        let wanted = seats.iter().map(|seat| seat.ring_entries);
        let spare = self.spare.take().filter(|kit| kit.entries().eq(wanted.clone()));
        let Kit { line, guest_control, ends } = spare.map_or_else(|| Kit::new(wanted), Ok)?;
        let mut fds = vec![guest_control.as_fd(), line.bell_fd()];
        for (_, end, rings) in &ends {
            fds.extend([rings.as_fd(), end.eventfd()]);
        }
        self.send(&ToTemplate::Fork(fork), &fds).map_err(StartError::Descriptors)?;
        let cell = Rc::new(Cell::new(number, line));
        let peer = |(_, end, _)| Peer::new(end, Body::Compartment(Rc::clone(&cell)));
        let peers = ends.into_iter().map(peer).collect();
        Ok((cell, peers))
    }

    /// What it says next.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when nothing is there yet, [`Errno::PIPE`] when it closed the socket, [`Errno::PROTO`] when it said
    /// something that is no message.
    pub fn hear(&self) -> Result<Heard, Errno> {
        hear(self.control.as_fd())
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

    /// Cells that the kernel has killed for want of memory so far.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.child.oom_kills()
    }

    /// Kills it, and all its cells with it.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitReason> {
        self.child.try_wait()
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        u32::try_from(self.child.pid().as_raw_pid()).unwrap_or(0)
    }
}
