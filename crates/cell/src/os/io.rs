//! System calls that read and write descriptors.

use super::call::{Answer, Call, Step, int, low, piecewise};
use super::descriptors::{Event, Kind, OpenId};
use super::files::{Node, part};
use super::pipes::Ends;
use super::{Errno, Host, IO_BYTES_MAX, Os, Stream, Timeout};

impl Os {
    pub(super) fn io_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, ..] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_read => self.read(call, low(a), (b, c), None),
            libc::SYS_pread64 => position(d).and_then(|at| self.read(call, low(a), (b, c), Some(at))),
            libc::SYS_readv => self.vectored(call, |os, call, part| os.read(call, low(a), part, None)),
            libc::SYS_write => self.write(call, low(a), (b, c)),
            libc::SYS_writev => self.vectored(call, |os, call, part| os.write(call, low(a), part)),
            libc::SYS_pwrite64
            | libc::SYS_pwritev
            | libc::SYS_pwritev2
            | libc::SYS_preadv
            | libc::SYS_preadv2 => {
                // What can be written has no positions; the rest is rare.
                self.descriptors.id(low(a)).and_then(|_| Err(call.refuse(Errno::SPIPE)))
            }
            libc::SYS_lseek => self.lseek(low(a), b.cast_signed(), int(c)),
            libc::SYS_close => self.close(low(a)),
            libc::SYS_close_range => self.close_range(low(a), low(b), low(c)),
            libc::SYS_dup => self.descriptors.duplicate(low(a), 0, false).map(|fd| Step::Done(u64::from(fd))),
            libc::SYS_dup2 if low(a) == low(b) => {
                self.descriptors.id(low(a)).map(|_| Step::Done(u64::from(low(a))))
            }
            libc::SYS_dup2 => self.duplicate_to(low(a), low(b), false),
            libc::SYS_dup3 if low(a) == low(b) || int(c) & !libc::O_CLOEXEC != 0 => Err(Errno::INVAL),
            libc::SYS_dup3 => self.duplicate_to(low(a), low(b), int(c) & libc::O_CLOEXEC != 0),
            libc::SYS_fcntl => self.fcntl(call, low(a), int(b), c),
            libc::SYS_ioctl => self.ioctl(call, low(a), u64::from(low(b)), c),
            libc::SYS_fsync | libc::SYS_fdatasync => self.descriptors.id(low(a)).and(Err(Errno::INVAL)),
            libc::SYS_ftruncate | libc::SYS_fallocate => self.descriptors.id(low(a)).and(Err(Errno::INVAL)),
            libc::SYS_fchmod | libc::SYS_fchown => self.descriptors.id(low(a)).and(Err(Errno::ROFS)),
            libc::SYS_flock | libc::SYS_fadvise64 | libc::SYS_readahead => {
                self.descriptors.id(low(a)).map(|_| Step::Done(0))
            }
            _ => return None,
        })
    }

    fn read<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        fd: u32,
        (to, len): (u64, u64),
        position: Option<u64>,
    ) -> Answer {
        let id = self.descriptors.id(fd)?;
        let open = *self.descriptors.get(id);
        match open.kind {
            Kind::Input | Kind::Event(_) | Kind::Epoll | Kind::Pipe(_) if position.is_some() => {
                Err(Errno::SPIPE)
            }
            Kind::Pipe(ends) => self.read_pipe(call, (id, ends), (to, len), false),
            Kind::Input | Kind::Node(Node::Null) => Ok(Step::Done(0)),
            Kind::Output(_) => Err(Errno::BADF),
            Kind::Epoll => Err(Errno::INVAL),
            Kind::Event(event) => self.read_event(call, id, event, (to, len)),
            Kind::Node(Node::Directory { .. }) => Err(Errno::ISDIR),
            Kind::Node(Node::Zero) => self.fill(call, to, len, |_, bytes| bytes.fill(0)),
            Kind::Node(Node::Random) => self.fill(call, to, len, |host, bytes| host.random(bytes)),
            Kind::Node(node) => {
                let bytes = self.files.bytes(node).ok_or(Errno::BADF)?;
                let from = position.unwrap_or(open.offset);
                let part = part(bytes, from, len);
                call.write(&self.space, to, part)?;
                if position.is_none() {
                    self.descriptors.get_mut(id).offset = from + part.len() as u64;
                }
                Ok(Step::Done(part.len() as u64))
            }
        }
    }

    fn write<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, (from, len): (u64, u64)) -> Answer {
        let id = self.descriptors.id(fd)?;
        match self.descriptors.get(id).kind {
            Kind::Output(stream) => self.log(call, stream, (from, len)),
            Kind::Event(event) => self.write_event(call, id, event, (from, len)),
            Kind::Pipe(ends) => self.write_pipe(call, (id, ends), (from, len), 0),
            Kind::Node(Node::Null | Node::Zero | Node::Random) => Ok(Step::Done(len.min(i32::MAX as u64))),
            Kind::Input | Kind::Node(_) => Err(Errno::BADF),
            Kind::Epoll => Err(Errno::INVAL),
        }
    }

    /// Gives output to the host, piece by piece; fewer bytes than asked for, if it is very many.
    fn log<H: Host>(&mut self, call: &mut Call<'_, H>, stream: Stream, (from, len): (u64, u64)) -> Answer {
        piecewise::<2048>(from, len.min(IO_BYTES_MAX as u64), |at, piece| {
            call.read(&self.space, at, piece)?;
            call.host.log(stream, piece);
            Ok(())
        })
    }

    /// Does the same with every part of a scattered buffer, until one is not done in full.
    fn vectored<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        each: impl Fn(&mut Os, &mut Call<'_, H>, (u64, u64)) -> Answer,
    ) -> Answer {
        let [fd, at, count, ..] = call.args;
        self.descriptors.id(low(fd))?;
        let parts = call.read_iovecs(&self.space, at, count)?;
        let mut total = 0;
        for (base, len) in parts.into_iter().filter(|(_, len)| *len > 0) {
            match each(self, call, (base, len)) {
                Ok(Step::Done(done)) => {
                    total += done;
                    if done < len || total >= IO_BYTES_MAX as u64 {
                        break;
                    }
                }
                // What would wait, or fails, does not undo what is done.
                _ if total > 0 => break,
                answer => return answer,
            }
        }
        Ok(Step::Done(total))
    }

    fn read_event<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        id: OpenId,
        event: Event,
        (to, len): (u64, u64),
    ) -> Answer {
        if len < 8 {
            return Err(Errno::INVAL);
        }
        if event.count == 0 {
            return self.io_waits(call, id, false);
        }
        let taken = if event.semaphore { 1 } else { event.count };
        call.write(&self.space, to, &taken.to_le_bytes())?;
        self.descriptors.get_mut(id).kind = Kind::Event(Event { count: event.count - taken, ..event });
        self.threads.stir();
        Ok(Step::Done(8))
    }

    fn write_event<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        id: OpenId,
        event: Event,
        (from, len): (u64, u64),
    ) -> Answer {
        if len < 8 {
            return Err(Errno::INVAL);
        }
        let added = call.read_u64(&self.space, from)?;
        if added == u64::MAX {
            return Err(Errno::INVAL);
        }
        let Some(count) = event.count.checked_add(added).filter(|&count| count < u64::MAX) else {
            return self.io_waits(call, id, false);
        };
        let writes = event.writes.wrapping_add(1);
        self.descriptors.get_mut(id).kind = Kind::Event(Event { count, writes, ..event });
        self.threads.stir();
        Ok(Step::Done(8))
    }

    /// What was to be read is not there yet, or there is no room for what was to be written.
    pub(super) fn io_waits<H: Host>(&self, call: &mut Call<'_, H>, id: OpenId, at_once: bool) -> Answer {
        if at_once || self.descriptors.get(id).nonblock {
            return Err(Errno::AGAIN);
        }
        call.wait_again(Timeout::Never, Err(Errno::AGAIN))
    }

    fn lseek(&mut self, fd: u32, by: i64, whence: i32) -> Answer {
        let id = self.descriptors.id(fd)?;
        let open = *self.descriptors.get(id);
        let Kind::Node(node) = open.kind else { return Err(Errno::SPIPE) };
        let size = self.files.bytes(node).map_or(0, |bytes| bytes.len() as u64);
        let base = match whence {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => open.offset,
            libc::SEEK_END => size,
            // No file has holes.
            libc::SEEK_DATA | libc::SEEK_HOLE => match u64::try_from(by) {
                Ok(at) if at < size => {
                    return Ok(Step::Done(if whence == libc::SEEK_DATA { at } else { size }));
                }
                _ => return Err(Errno::NXIO),
            },
            _ => return Err(Errno::INVAL),
        };
        let to = base.checked_add_signed(by).filter(|&to| i64::try_from(to).is_ok()).ok_or(Errno::INVAL)?;
        self.descriptors.get_mut(id).offset = to;
        Ok(Step::Done(to))
    }

    pub(super) fn close(&mut self, fd: u32) -> Answer {
        let closed = self.descriptors.close(fd)?;
        self.forget(closed);
        Ok(Step::Done(0))
    }

    fn close_range(&mut self, first: u32, last: u32, flags: u32) -> Answer {
        if first > last || flags & !libc::CLOSE_RANGE_CLOEXEC != 0 {
            return Err(Errno::INVAL);
        }
        for fd in (first..=last).take_while(|&fd| (fd as usize) < super::descriptors::FDS_MAX) {
            // Most of them are not open.
            if flags == 0 {
                let _ = self.close(fd);
            } else {
                let _ = self.descriptors.close_on_exec(fd, true);
            }
        }
        Ok(Step::Done(0))
    }

    fn duplicate_to(&mut self, fd: u32, to: u32, close_on_exec: bool) -> Answer {
        let closed = self.descriptors.duplicate_to(fd, to, close_on_exec)?;
        self.forget(closed);
        Ok(Step::Done(u64::from(to)))
    }

    /// Only what any file does: nothing here is a terminal, or another device that takes orders.
    fn ioctl<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, request: u64, at: u64) -> Answer {
        let id = self.descriptors.id(fd)?;
        match request {
            libc::FIONBIO => self.descriptors.get_mut(id).nonblock = call.read_u32(&self.space, at)? != 0,
            libc::FIOCLEX | libc::FIONCLEX => {
                self.descriptors.close_on_exec(fd, request == libc::FIOCLEX)?;
            }
            _ => return Err(Errno::NOTTY),
        }
        Ok(Step::Done(0))
    }

    fn fcntl<H: Host>(&mut self, call: &mut Call<'_, H>, fd: u32, command: i32, arg: u64) -> Answer {
        let id = self.descriptors.id(fd)?;
        let closes = command == libc::F_DUPFD_CLOEXEC;
        let done = |value: i32| Ok(Step::Done(u64::from(value.cast_unsigned())));
        match command {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                self.descriptors.duplicate(fd, low(arg), closes).map(|fd| Step::Done(u64::from(fd)))
            }
            libc::F_GETFD => done(if self.descriptors.closes_on_exec(fd)? { libc::FD_CLOEXEC } else { 0 }),
            libc::F_SETFD => {
                self.descriptors.close_on_exec(fd, int(arg) & libc::FD_CLOEXEC != 0)?;
                done(0)
            }
            libc::F_GETFL => {
                let open = self.descriptors.get(id);
                let mode = match open.kind {
                    Kind::Input | Kind::Node(_) => libc::O_RDONLY,
                    Kind::Output(_) => libc::O_WRONLY,
                    Kind::Pipe(Ends { to: None, .. }) => libc::O_RDONLY,
                    Kind::Pipe(Ends { from: None, .. }) => libc::O_WRONLY,
                    Kind::Event(_) | Kind::Epoll | Kind::Pipe(_) => libc::O_RDWR,
                };
                done(mode | if open.nonblock { libc::O_NONBLOCK } else { 0 })
            }
            libc::F_SETFL => {
                self.descriptors.get_mut(id).nonblock = int(arg) & libc::O_NONBLOCK != 0;
                done(0)
            }
            _ => Err(call.refuse(Errno::INVAL)),
        }
    }
}

/// A position in a file: not a negative one.
fn position(arg: u64) -> Result<u64, Errno> {
    if i64::try_from(arg).is_ok() { Ok(arg) } else { Err(Errno::INVAL) }
}
