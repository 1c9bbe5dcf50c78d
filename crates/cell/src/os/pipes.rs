//! Pipes, and pairs of connected sockets, within one guest: how event loops wake themselves, and threads one another.
//!
//! A pipe holds few bytes. A write of no more than that is done as a whole or waits; a longer one is done in part.

use super::call::{Answer, Call, Step, int, low};
use super::descriptors::{Kind, OpenId};
use super::saved::{In, Out};
use super::{Errno, Host, Os};

/// Most pipes; a pair of sockets is two.
const PIPES_MAX: usize = 16;
/// Bytes that a pipe holds: what POSIX wants to be written as a whole.
const PIPE_BYTES: usize = 4096;
/// What else a message may be sent or received with: none of it changes anything here.
const SERVED: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;

/// The place of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PipeId(u8);

/// What an open file has of pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: Option<PipeId>,
    pub(super) to: Option<PipeId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pipe {
    bytes: Vec<u8>,
    has_reader: bool,
    has_writer: bool,
    /// Counts what happens to it, for those who want to hear of each change.
    changes: u64,
}

/// All pipes of a guest.
#[derive(Clone, Debug)]
pub(super) struct Pipes(Vec<Pipe>);

impl Pipes {
    pub(super) const fn new() -> Pipes {
        Pipes(Vec::new())
    }

    pub(super) fn restore(&mut self, from: &Pipes) {
        self.0.clone_from(&from.0);
    }

    fn get(&self, id: PipeId) -> &Pipe {
        &self.0[usize::from(id.0)]
    }

    fn get_mut(&mut self, id: PipeId) -> &mut Pipe {
        &mut self.0[usize::from(id.0)]
    }

    fn open(&mut self) -> Result<PipeId, Errno> {
        let is_free = |pipe: &Pipe| !pipe.has_reader && !pipe.has_writer;
        let free = self.0.iter().position(is_free).unwrap_or(self.0.len());
        let id = u8::try_from(free).map(PipeId).ok().filter(|_| free < PIPES_MAX).ok_or(Errno::NFILE)?;
        let pipe = Pipe { has_reader: true, has_writer: true, ..Pipe::default() };
        if free == self.0.len() {
            self.0.push(pipe);
        } else {
            self.0[free] = pipe;
        }
        Ok(id)
    }

    /// An open file with these ends is gone.
    pub(super) fn close(&mut self, ends: Ends) {
        if let Some(from) = ends.from {
            let pipe = self.get_mut(from);
            pipe.has_reader = false;
            pipe.bytes = Vec::new();
            pipe.changes += 1;
        }
        if let Some(to) = ends.to {
            let pipe = self.get_mut(to);
            pipe.has_writer = false;
            pipe.changes += 1;
        }
    }

    /// Whether these ends can be read, written, or have lost the other end.
    pub(super) fn readiness(&self, ends: Ends) -> (bool, bool, bool) {
        let from = ends.from.map(|from| self.get(from));
        let to = ends.to.map(|to| self.get(to));
        let is_cut = from.is_some_and(|pipe| !pipe.has_writer) || to.is_some_and(|pipe| !pipe.has_reader);
        let can_read = from.is_some_and(|pipe| !pipe.bytes.is_empty() || !pipe.has_writer);
        let can_write = to.is_some_and(|pipe| pipe.bytes.is_empty() || !pipe.has_reader);
        (can_read, can_write, is_cut)
    }

    /// A number that changes with what [`Pipes::readiness`] says, and when more of the same comes.
    pub(super) fn changes(&self, ends: Ends) -> u64 {
        [ends.from, ends.to].into_iter().flatten().fold(0, |sum, id| sum + self.get(id).changes)
    }

    pub(super) fn save(&self, out: &mut Out) {
        out.count(self.0.len());
        for pipe in &self.0 {
            out.flag(pipe.has_reader);
            out.flag(pipe.has_writer);
            out.word(pipe.changes);
            out.count(pipe.bytes.len());
            // Rarely any: who wakes an event loop sends one.
            out.words(pipe.bytes.iter().map(|byte| u64::from(*byte)));
        }
    }

    pub(super) fn load(saved: &mut In<'_>) -> Option<Pipes> {
        let mut pipes = Pipes::new();
        for _ in 0..saved.count(PIPES_MAX)? {
            let (has_reader, has_writer, changes) = (saved.flag()?, saved.flag()?, saved.word()?);
            let mut bytes = Vec::new();
            for _ in 0..saved.count(PIPE_BYTES)? {
                bytes.push(saved.small()?);
            }
            pipes.0.push(Pipe { bytes, has_reader, has_writer, changes });
        }
        Some(pipes)
    }
}

impl Ends {
    pub(super) fn to_words(self) -> [u64; 2] {
        [self.from, self.to].map(|id| id.map_or(u64::MAX, |id| u64::from(id.0)))
    }

    /// `None` if there are no such pipes.
    pub(super) fn from_words(words: [u64; 2], pipes: &Pipes) -> Option<Ends> {
        let id = |word: u64| match word {
            u64::MAX => Some(None),
            _ => u8::try_from(word)
                .ok()
                .filter(|&id| usize::from(id) < pipes.0.len())
                .map(|id| Some(PipeId(id))),
        };
        let [from, to] = words;
        Some(Ends { from: id(from)?, to: id(to)? })
    }
}

impl Os {
    pub(super) fn pipe_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, ..] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_pipe => self.pipe(call, a, 0),
            libc::SYS_pipe2 => self.pipe(call, a, int(b)),
            libc::SYS_socketpair => self.socketpair(call, (int(a), int(b)), d),
            libc::SYS_recvfrom | libc::SYS_sendto => self.message(call, low(a), (b, c), int(d)),
            _ => return None,
        })
    }

    fn pipe<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64, flags: i32) -> Answer {
        if flags & !(libc::O_CLOEXEC | libc::O_NONBLOCK) != 0 {
            return Err(call.refuse(Errno::INVAL));
        }
        let pipe = self.pipes.open()?;
        let ends = [Ends { from: Some(pipe), to: None }, Ends { from: None, to: Some(pipe) }];
        self.open_ends(call, ends, (flags & libc::O_NONBLOCK != 0, flags & libc::O_CLOEXEC != 0), at)
    }

    /// Streams within the guest. There is nobody else to be connected to.
    fn socketpair<H: Host>(&mut self, call: &mut Call<'_, H>, (family, kind): (i32, i32), at: u64) -> Answer {
        let flags = kind & (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        if (family, kind & !flags) != (libc::AF_UNIX, libc::SOCK_STREAM) {
            return Err(call.refuse(Errno::ACCESS));
        }
        let one = self.pipes.open()?;
        let other = match self.pipes.open() {
            Ok(other) => other,
            Err(error) => {
                self.pipes.close(Ends { from: Some(one), to: Some(one) });
                return Err(error);
            }
        };
        let ends = [Ends { from: Some(one), to: Some(other) }, Ends { from: Some(other), to: Some(one) }];
        self.open_ends(call, ends, (flags & libc::SOCK_NONBLOCK != 0, flags & libc::SOCK_CLOEXEC != 0), at)
    }

    /// Opens both ends and writes their descriptors; nothing stays if that cannot be done.
    fn open_ends<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        [one, other]: [Ends; 2],
        (nonblock, closes): (bool, bool),
        at: u64,
    ) -> Answer {
        let first = self.descriptors.open(Kind::Pipe(one), nonblock, closes);
        let second = self.descriptors.open(Kind::Pipe(other), nonblock, closes);
        let written = match (first, second) {
            (Ok(first), Ok(second)) => {
                let both = u64::from(first) | u64::from(second) << 32;
                call.write(&self.space, at, &both.to_le_bytes())
            }
            _ => Err(Errno::MFILE),
        };
        let Err(error) = written else { return Ok(Step::Done(0)) };
        for (fd, ends) in [(first, one), (second, other)] {
            match fd {
                // What it closes is known: it was opened just now.
                Ok(fd) => drop(self.close(fd)),
                Err(_) => self.pipes.close(ends),
            }
        }
        Err(error)
    }

    /// `recv` and `send`, without addresses.
    fn message<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, part: (u64, u64), flags: i32) -> Answer {
        let id = self.descriptors.id(fd)?;
        let Kind::Pipe(ends @ Ends { from: Some(_), to: Some(_) }) = self.descriptors.get(id).kind else {
            return Err(Errno::NOTSOCK);
        };
        if flags & !SERVED != 0 || call.number == libc::SYS_sendto.cast_unsigned() && call.args[4] != 0 {
            return Err(call.refuse(Errno::OPNOTSUPP));
        }
        if call.number == libc::SYS_recvfrom.cast_unsigned() {
            return self.read_pipe(call, (id, ends), part, flags & libc::MSG_DONTWAIT != 0);
        }
        self.write_pipe(call, (id, ends), part, flags)
    }

    pub(super) fn read_pipe<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        (id, ends): (OpenId, Ends),
        (to, len): (u64, u64),
        at_once: bool,
    ) -> Answer {
        let from = ends.from.ok_or(Errno::BADF)?;
        let pipe = self.pipes.get(from);
        if pipe.bytes.is_empty() && len > 0 {
            return match pipe.has_writer {
                false => Ok(Step::Done(0)),
                true => self.io_waits(call, id, at_once),
            };
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(pipe.bytes.len());
        call.write(&self.space, to, pipe.bytes.get(..len).unwrap_or_default())?;
        let pipe = self.pipes.get_mut(from);
        pipe.bytes.drain(..len);
        pipe.changes += 1;
        self.threads.stir();
        Ok(Step::Done(len as u64))
    }

    /// `flags` are those of a message; 0 for a plain write.
    pub(super) fn write_pipe<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        (id, ends): (OpenId, Ends),
        (from, len): (u64, u64),
        flags: i32,
    ) -> Answer {
        let to = ends.to.ok_or(Errno::BADF)?;
        if !self.pipes.get(to).has_reader {
            if flags & libc::MSG_NOSIGNAL == 0 {
                let tid = self.threads.running().tid;
                if let Ok(end @ Step::End(_)) = self.raise(call, tid, libc::SIGPIPE) {
                    return Ok(end);
                }
            }
            return Err(Errno::PIPE);
        }
        let room = PIPE_BYTES - self.pipes.get(to).bytes.len();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > room && (len <= PIPE_BYTES || room == 0) {
            return self.io_waits(call, id, flags & libc::MSG_DONTWAIT != 0);
        }
        let mut bytes = vec![0; len.min(room)];
        call.read(&self.space, from, &mut bytes)?;
        let pipe = self.pipes.get_mut(to);
        pipe.bytes.extend_from_slice(&bytes);
        pipe.changes += 1;
        self.threads.stir();
        Ok(Step::Done(bytes.len() as u64))
    }
}
