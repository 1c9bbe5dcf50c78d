//! A replica as the node talks to it, whatever holds it: the node's end of its link, and the process that it is or is in.
//!
//! Plain calls, no runtime: whoever drives it waits on the descriptors that it and its process give out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use baton_abi::boot::{Edge, Message};
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::{Descriptor, Kind};
use baton_pool::bell::Bell;
use baton_pool::figures::Figures;
use baton_pool::link::{self, Duplex, Side};
use baton_pool::ring::{Overrun, PushError};
use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::cell::Cell;
use crate::line::{Line, gone_is_fine};
use crate::process::ProcessReplica;
use crate::spawn::ExitReason;
use crate::start_error::StartError;

/// What holds a replica.
#[derive(Debug)]
pub enum Body {
    /// A process of its own. Dropping it kills the process.
    Process(ProcessReplica),
    /// A compartment of a cell.
    Compartment(Rc<Cell>),
}

impl Body {
    fn line(&self) -> &Line {
        match self {
            Body::Process(process) => process.line(),
            Body::Compartment(cell) => cell.line(),
        }
    }
}

/// The node's end of a link.
#[derive(Debug)]
pub(crate) struct LinkEnd {
    link: Duplex,
    eventfd: OwnedFd,
}

impl LinkEnd {
    /// Makes a link; gives the descriptor of its rings, too.
    pub(crate) fn new(ring_entries: u32) -> Result<(LinkEnd, OwnedFd), StartError> {
        let rings = link::create("baton-link", ring_entries).map_err(StartError::Region)?;
        let link = Duplex::map(&rings, ring_entries, Side::Near).map_err(StartError::Region)?;
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(StartError::Descriptors)?;
        Ok((LinkEnd { link, eventfd }, rings))
    }

    /// What the replica writes to when the node sleeps.
    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// One replica.
#[derive(Debug)]
pub struct Peer {
    end: LinkEnd,
    body: Body,
    rung: bool,
}

impl Peer {
    pub(crate) fn new(end: LinkEnd, body: Body) -> Peer {
        Peer { end, body, rung: false }
    }

    /// What holds it.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The cell that it is in, if it is in one.
    #[must_use]
    pub fn cell(&self) -> Option<&Rc<Cell>> {
        match &self.body {
            Body::Process(_) => None,
            Body::Compartment(cell) => Some(cell),
        }
    }

    /// Whether the kernel hands over what it sends to other replicas: it sleeps on a socket, and has no use for their bells.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.body.line().is_guarded()
    }

    /// Gives the replica one more edge.
    ///
    /// # Errors
    /// What the kernel said: the replica does not read its control socket. One that is gone is no error: its end is
    /// told by its process, and must not be taken for a fault of the peer's.
    pub fn add_edge(&self, edge: Edge, rings: BorrowedFd<'_>, other: &Peer) -> Result<(), Errno> {
        let bell = if self.is_guarded() { self } else { other };
        let fds = [rings, bell.body.line().bell_fd()];
        gone_is_fine(self.body.line().say(&Message::Edge(edge), &fds))
    }

    /// Puts a descriptor on the link. The bell is rung by [`Peer::flush`].
    ///
    /// # Errors
    /// [`PushError::Full`] when the replica does not keep up, [`PushError::Overrun`] when it lies.
    #[inline]
    pub fn push(&mut self, descriptor: &Descriptor) -> Result<(), PushError> {
        self.push_words(descriptor.to_words())
    }

    /// As [`Peer::push`], for descriptors that are packed otherwise.
    ///
    /// # Errors
    /// As [`Peer::push`].
    #[inline]
    pub fn push_words(&mut self, words: [u64; DESCRIPTOR_WORDS]) -> Result<(), PushError> {
        self.rung = true;
        self.end.link.to_peer.push_words(words)
    }

    /// Gives the replica an edge whose other end is the node. There is no other bell then: its own comes with it, and it rings
    /// the node as for its link.
    ///
    /// # Errors
    /// As [`Peer::add_edge`].
    pub fn add_node_edge(&self, edge: Edge, rings: BorrowedFd<'_>) -> Result<(), Errno> {
        self.add_edge(edge, rings, self)
    }

    /// Something for the replica lies elsewhere than on the link: [`Peer::flush`] rings it as if it were there.
    pub fn note_sent(&mut self) {
        self.rung = true;
    }

    /// Asks the replica to finish what runs and exit.
    ///
    /// # Errors
    /// As [`Peer::push`].
    pub fn ask_to_stop(&mut self) -> Result<(), PushError> {
        self.push(&Descriptor::new(Kind::Shutdown))
    }

    /// Rings the replica if it sleeps and something was pushed.
    #[inline]
    pub fn flush(&mut self) {
        if self.rung {
            self.rung = false;
            self.body.line().ring();
        }
    }

    /// The oldest descriptor from the replica, as a private copy: an allegation.
    ///
    /// # Errors
    /// [`Overrun`] when the replica lies about its position.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Descriptor>, Overrun> {
        self.end.link.from_peer.pop()
    }

    /// Says that the node waits for the eventfd now. `false`: something came meanwhile, look again first.
    pub fn announce_sleep(&mut self) -> bool {
        self.end.link.node_bell.announce_sleep();
        let quiet = self.end.link.from_peer.is_empty().unwrap_or(false);
        if !quiet {
            self.end.link.node_bell.announce_awake();
        }
        quiet
    }

    /// Says that the node is awake. The eventfd is never read: the replica has the same open file and could make that
    /// block. So whoever waits for it waits for edges, as epoll tells them: every write is one.
    pub fn announce_awake(&self) {
        self.end.link.node_bell.announce_awake();
    }

    /// The bell on which the replica sleeps, for the statements of its process: how far its loop is, how many requests it
    /// has. Replicas of one cell have it together.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        self.body.line().bell()
    }

    /// What it says of its calls inside its cell, a row for each seat.
    #[must_use]
    pub fn rows(&self) -> &[Figures] {
        self.end.link.rows()
    }

    /// Wakes the replica whatever it says: it should look at its edges.
    pub fn nudge(&self) {
        self.body.line().ring();
    }

    /// Kills the process, and with a cell all replicas in it.
    pub fn kill(&self) {
        match &self.body {
            Body::Process(process) => process.kill(),
            Body::Compartment(cell) => cell.kill(),
        }
    }

    /// How the process ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitReason> {
        match &mut self.body {
            Body::Process(process) => process.try_wait(),
            Body::Compartment(cell) => cell.exit_reason(),
        }
    }

    /// The process's number; 0 while it is not known.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.body {
            Body::Process(process) => process.pid(),
            Body::Compartment(cell) => cell.pid(),
        }
    }

    /// Readable when the replica put something on the link while the node slept.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.end.eventfd()
    }
}
