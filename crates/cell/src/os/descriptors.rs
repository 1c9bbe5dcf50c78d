//! The descriptor table: descriptors, and the open files that they (and their duplicates) stand for.

use super::files::{Files, Node};
use super::pipes::{Ends, Pipes};
use super::saved::{In, Out};
use super::{Errno, Stream};

/// Most descriptors.
pub(super) const FDS_MAX: usize = 256;

/// What an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Standard input: at its end.
    Input,
    /// The function's log.
    Output(Stream),
    /// Something that has a path.
    Node(Node),
    /// A counter that threads signal one another with.
    Event(Event),
    /// A set of others to wait for.
    Epoll,
    /// An end of a pipe, or of two: a socket.
    Pipe(Ends),
}

/// An `eventfd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) count: u64,
    /// A read takes one, not all.
    pub(super) semaphore: bool,
    /// Counts the writes, for those who want to hear of each.
    pub(super) writes: u64,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) kind: Kind,
    /// Where the next read begins.
    pub(super) offset: u64,
    /// `O_NONBLOCK`, as `fcntl` shows and sets it.
    pub(super) nonblock: bool,
    /// Descriptors that stand for it; 0: nothing is here.
    references: u16,
}

/// The place of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenId(u8);

#[derive(Clone, Copy, Debug)]
struct Fd {
    open: OpenId,
    close_on_exec: bool,
}

/// All descriptors of a guest. There are never more open files than descriptors.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    fds: Vec<Option<Fd>>,
    opens: Vec<Open>,
}

impl Descriptors {
    /// Those that a guest begins with.
    pub(super) fn new() -> Descriptors {
        let mut descriptors = Descriptors { fds: Vec::new(), opens: Vec::new() };
        for kind in [Kind::Input, Kind::Output(Stream::Out), Kind::Output(Stream::Err)] {
            // Cannot fail: the table is empty.
            let _ = descriptors.open(kind, false, false);
        }
        descriptors
    }

    pub(super) fn restore(&mut self, from: &Descriptors) {
        self.fds.clone_from(&from.fds);
        self.opens.clone_from(&from.opens);
    }

    fn fd(&self, fd: u32) -> Result<Fd, Errno> {
        let fd = usize::try_from(fd).ok().and_then(|fd| self.fds.get(fd)?.as_ref());
        fd.copied().ok_or(Errno::BADF)
    }

    /// What `fd` stands for.
    pub(super) fn id(&self, fd: u32) -> Result<OpenId, Errno> {
        self.fd(fd).map(|fd| fd.open)
    }

    pub(super) fn get(&self, id: OpenId) -> &Open {
        &self.opens[usize::from(id.0)]
    }

    pub(super) fn get_mut(&mut self, id: OpenId) -> &mut Open {
        &mut self.opens[usize::from(id.0)]
    }

    pub(super) fn kind(&self, fd: u32) -> Result<Kind, Errno> {
        self.id(fd).map(|id| self.get(id).kind)
    }

    /// Opens a file at the lowest free descriptor.
    pub(super) fn open(&mut self, kind: Kind, nonblock: bool, close_on_exec: bool) -> Result<u32, Errno> {
        let fd = self.lowest(0)?;
        let free = self.opens.iter().position(|open| open.references == 0).unwrap_or(self.opens.len());
        let open = Open { kind, offset: 0, nonblock, references: 1 };
        let id = OpenId(u8::try_from(free).map_err(|_| Errno::MFILE)?);
        if free == self.opens.len() {
            self.opens.push(open);
        } else {
            self.opens[free] = open;
        }
        self.put(fd, Fd { open: id, close_on_exec });
        Ok(fd)
    }

    /// The lowest free descriptor from `least` up.
    fn lowest(&self, least: u32) -> Result<u32, Errno> {
        let taken = |fd: &u32| self.fd(*fd).is_ok();
        (least..)
            .take(FDS_MAX + 1)
            .find(|fd| !taken(fd))
            .filter(|&fd| (fd as usize) < FDS_MAX)
            .ok_or(Errno::MFILE)
    }

    /// `fd` is below [`FDS_MAX`].
    fn put(&mut self, fd: u32, entry: Fd) {
        let fd = fd as usize;
        if self.fds.len() <= fd {
            self.fds.resize(fd + 1, None);
        }
        self.fds[fd] = Some(entry);
    }

    /// Closes `fd`; gives what nobody stands for any more.
    pub(super) fn close(&mut self, fd: u32) -> Result<Option<OpenId>, Errno> {
        let Fd { open, .. } = self.fd(fd)?;
        self.fds[fd as usize] = None;
        let references = &mut self.get_mut(open).references;
        *references -= 1;
        Ok((*references == 0).then_some(open))
    }

    /// Duplicates `fd` at the lowest free descriptor from `least` up.
    pub(super) fn duplicate(&mut self, fd: u32, least: u32, close_on_exec: bool) -> Result<u32, Errno> {
        let open = self.id(fd)?;
        if least as usize >= FDS_MAX {
            return Err(Errno::INVAL);
        }
        let to = self.lowest(least)?;
        self.get_mut(open).references += 1;
        self.put(to, Fd { open, close_on_exec });
        Ok(to)
    }

    /// Duplicates `fd` at `to`, in place of what was there; gives what nobody stands for any more.
    pub(super) fn duplicate_to(
        &mut self,
        fd: u32,
        to: u32,
        close_on_exec: bool,
    ) -> Result<Option<OpenId>, Errno> {
        let open = self.id(fd)?;
        if to as usize >= FDS_MAX {
            return Err(Errno::BADF);
        }
        self.get_mut(open).references += 1;
        let closed = self.close(to).unwrap_or(None);
        self.put(to, Fd { open, close_on_exec });
        Ok(closed)
    }

    pub(super) fn closes_on_exec(&self, fd: u32) -> Result<bool, Errno> {
        self.fd(fd).map(|fd| fd.close_on_exec)
    }

    pub(super) fn close_on_exec(&mut self, fd: u32, close_on_exec: bool) -> Result<(), Errno> {
        let entry = Fd { close_on_exec, ..self.fd(fd)? };
        self.put(fd, entry);
        Ok(())
    }
}

/// How descriptors are saved.
impl Descriptors {
    pub(super) fn save(&self, out: &mut Out) {
        out.count(self.opens.len());
        for open in &self.opens {
            let words = match open.kind {
                Kind::Input => [0, 0, 0, 0],
                Kind::Output(Stream::Out) => [1, 0, 0, 0],
                Kind::Output(Stream::Err) => [2, 0, 0, 0],
                Kind::Event(Event { count, semaphore, writes }) => [3, count, u64::from(semaphore), writes],
                Kind::Epoll => [4, 0, 0, 0],
                Kind::Pipe(ends) => {
                    let [from, to] = ends.to_words();
                    [11, from, to, 0]
                }
                Kind::Node(Node::Null) => [5, 0, 0, 0],
                Kind::Node(Node::Zero) => [6, 0, 0, 0],
                Kind::Node(Node::Random) => [7, 0, 0, 0],
                Kind::Node(Node::Text(index)) => [8, u64::from(index), 0, 0],
                Kind::Node(Node::File(index)) => [9, u64::from(index), 0, 0],
                Kind::Node(Node::Directory { sample, len }) => [10, u64::from(sample), u64::from(len), 0],
            };
            out.words(words);
            out.words([open.offset, u64::from(open.nonblock)]);
        }
        out.count(self.fds.len());
        for fd in &self.fds {
            out.maybe(fd.map(|fd| u64::from(fd.open.0) << 1 | u64::from(fd.close_on_exec)));
        }
    }

    pub(super) fn load(saved: &mut In<'_>, files: &Files, pipes: &Pipes) -> Option<Descriptors> {
        let mut descriptors = Descriptors { fds: Vec::new(), opens: Vec::new() };
        for _ in 0..saved.count(FDS_MAX)? {
            let kind = Kind::load(saved.words()?, pipes)?;
            if let Kind::Node(node) = kind
                && !files.has(node)
            {
                return None;
            }
            let (offset, nonblock) = (saved.word()?, saved.flag()?);
            descriptors.opens.push(Open { kind, offset, nonblock, references: 0 });
        }
        for _ in 0..saved.count(FDS_MAX)? {
            let fd = match saved.maybe()? {
                None => None,
                Some(word) => {
                    let open = OpenId(u8::try_from(word >> 1).ok()?);
                    descriptors.opens.get_mut(usize::from(open.0))?.references += 1;
                    Some(Fd { open, close_on_exec: word & 1 == 1 })
                }
            };
            descriptors.fds.push(fd);
        }
        Some(descriptors)
    }

    /// The open file at a saved place, if there is one.
    pub(super) fn load_id(&self, saved: &mut In<'_>) -> Option<OpenId> {
        let id = OpenId(saved.small()?);
        self.opens.get(usize::from(id.0)).filter(|open| open.references > 0).map(|_| id)
    }
}

impl OpenId {
    pub(super) fn save(self, out: &mut Out) {
        out.word(u64::from(self.0));
    }
}

impl Kind {
    fn load(words: [u64; 4], pipes: &Pipes) -> Option<Kind> {
        let small = |word: u64| u32::try_from(word).ok();
        Some(match words {
            [0, ..] => Kind::Input,
            [1, ..] => Kind::Output(Stream::Out),
            [2, ..] => Kind::Output(Stream::Err),
            [3, count, semaphore, writes] => Kind::Event(Event { count, semaphore: semaphore == 1, writes }),
            [4, ..] => Kind::Epoll,
            [5, ..] => Kind::Node(Node::Null),
            [6, ..] => Kind::Node(Node::Zero),
            [7, ..] => Kind::Node(Node::Random),
            [8, index, ..] => Kind::Node(Node::Text(u8::try_from(index).ok()?)),
            [9, index, ..] => Kind::Node(Node::File(small(index)?)),
            [10, sample, len, _] => Kind::Node(Node::Directory { sample: small(sample)?, len: small(len)? }),
            [11, from, to, _] => Kind::Pipe(Ends::from_words([from, to], pipes)?),
            _ => return None,
        })
    }
}
