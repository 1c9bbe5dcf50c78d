//! System calls that wait for descriptors: `poll`, `epoll`, and the `eventfd` by which threads wake one another.
//!
//! Only an `eventfd` and pipes ever become ready. A call that waits is tried again when one of them changed.

use super::call::{Answer, Call, Step, int, low};
use super::descriptors::{Descriptors, Event, FDS_MAX, Kind, OpenId};
use super::files::Node;
use super::saved::{In, Out};
use super::{Errno, Host, Os, Timeout};

/// Most descriptors that are in epoll sets, counted once for each set.
pub(super) const WATCHES_MAX: usize = 256;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const ERR: u32 = libc::EPOLLERR as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;
/// A watch that was to be told once has been. No event has this bit.
const SPENT: u32 = 1 << 27;
/// Of `poll`: no such descriptor.
const NVAL: u32 = libc::POLLNVAL as u32;
/// Bytes of an `epoll_event`, which is packed.
const EVENT_BYTES: usize = 12;

/// A descriptor in an epoll set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    epoll: OpenId,
    target: OpenId,
    fd: u32,
    events: u32,
    token: u64,
    /// How many writes have been told, of those who want to hear of each.
    told: Option<u64>,
}

impl Watch {
    pub(super) fn save(&self, out: &mut Out) {
        self.epoll.save(out);
        self.target.save(out);
        out.words([u64::from(self.fd), u64::from(self.events), self.token]);
        out.maybe(self.told);
    }

    pub(super) fn load(saved: &mut In<'_>, descriptors: &Descriptors) -> Option<Watch> {
        let (epoll, target) = (descriptors.load_id(saved)?, descriptors.load_id(saved)?);
        let (fd, events, token) = (saved.small()?, saved.small()?, saved.word()?);
        Some(Watch { epoll, target, fd, events, token, told: saved.maybe()? })
    }
}

impl Os {
    pub(super) fn event_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, e, _] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_eventfd => self.eventfd(low(a), 0),
            libc::SYS_eventfd2 => self.eventfd(low(a), int(b)),
            libc::SYS_epoll_create if int(a) <= 0 => Err(Errno::INVAL),
            libc::SYS_epoll_create => self.epoll_create(0),
            libc::SYS_epoll_create1 => self.epoll_create(int(a)),
            libc::SYS_epoll_ctl => self.epoll_ctl(call, low(a), int(b), low(c), d),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => {
                self.epoll_wait(call, low(a), (b, int(c)), Timeout::millis(d))
            }
            libc::SYS_epoll_pwait2 => {
                let timeout = self.read_timeout(call, d);
                timeout.and_then(|timeout| self.epoll_wait(call, low(a), (b, int(c)), timeout))
            }
            libc::SYS_poll => self.poll(call, a, b, Timeout::millis(c)),
            libc::SYS_ppoll => self.read_timeout(call, c).and_then(|timeout| self.poll(call, a, b, timeout)),
            libc::SYS_select => self.select(call, a, [b, c, d], (e, 1000)),
            libc::SYS_pselect6 => self.select(call, a, [b, c, d], (e, 1)),
            _ => return None,
        })
    }

    fn eventfd(&mut self, count: u32, flags: i32) -> Answer {
        if flags & !(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE) != 0 {
            return Err(Errno::INVAL);
        }
        let semaphore = flags & libc::EFD_SEMAPHORE != 0;
        let event = Kind::Event(Event { count: u64::from(count), semaphore, writes: 0 });
        let (nonblock, closes) = (flags & libc::EFD_NONBLOCK != 0, flags & libc::EFD_CLOEXEC != 0);
        self.descriptors.open(event, nonblock, closes).map(|fd| Step::Done(u64::from(fd)))
    }

    fn epoll_create(&mut self, flags: i32) -> Answer {
        if flags & !libc::EPOLL_CLOEXEC != 0 {
            return Err(Errno::INVAL);
        }
        let fd = self.descriptors.open(Kind::Epoll, false, flags != 0)?;
        Ok(Step::Done(u64::from(fd)))
    }

    /// What `id` is ready for.
    fn readiness(&self, id: OpenId) -> u32 {
        match self.descriptors.get(id).kind {
            // At its end: a read does not wait.
            Kind::Input => IN | HUP,
            Kind::Output(_) => OUT,
            Kind::Node(_) => IN | OUT,
            Kind::Event(event) => {
                (if event.count > 0 { IN } else { 0 }) | (if event.count < u64::MAX - 1 { OUT } else { 0 })
            }
            Kind::Pipe(ends) => {
                let (can_read, can_write, is_cut) = self.pipes.readiness(ends);
                [(can_read, IN), (can_write, OUT), (is_cut, HUP)]
                    .iter()
                    .fold(0, |all, (is, bit)| all | if *is { *bit } else { 0 })
            }
            Kind::Epoll => 0,
        }
    }

    /// An open file is gone, and with it what watched it or was watched by it.
    pub(super) fn forget(&mut self, closed: Option<OpenId>) {
        if let Some(closed) = closed {
            if let Kind::Pipe(ends) = self.descriptors.get(closed).kind {
                self.pipes.close(ends);
                self.threads.stir();
            }
            self.watches.retain(|watch| watch.epoll != closed && watch.target != closed);
        }
    }

    fn epoll_of(&self, fd: u32) -> Result<OpenId, Errno> {
        let id = self.descriptors.id(fd)?;
        if self.descriptors.get(id).kind == Kind::Epoll { Ok(id) } else { Err(Errno::INVAL) }
    }

    fn epoll_ctl<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        epoll: u32,
        operation: i32,
        fd: u32,
        at: u64,
    ) -> Answer {
        let (events, token) = if operation == libc::EPOLL_CTL_DEL {
            (0, 0)
        } else {
            let [a, b, c, d, token @ ..]: [u8; EVENT_BYTES] = call.read_array(&self.space, at)?;
            (u32::from_le_bytes([a, b, c, d]) & !SPENT, u64::from_le_bytes(token))
        };
        let target = self.descriptors.id(fd)?;
        let epoll = self.epoll_of(epoll)?;
        match self.descriptors.get(target).kind {
            // As on Linux: a file is always ready. A set in a set would be served, if anybody needed it.
            Kind::Node(Node::File(_) | Node::Text(_) | Node::Directory { .. }) => return Err(Errno::PERM),
            Kind::Epoll => return Err(Errno::INVAL),
            _ => {}
        }
        let found = self
            .watches
            .iter()
            .position(|watch| watch.epoll == epoll && watch.fd == fd && watch.target == target);
        let watch = Watch { epoll, target, fd, events, token, told: None };
        match (operation, found) {
            (libc::EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EXIST),
            (libc::EPOLL_CTL_ADD, None) if self.watches.len() >= WATCHES_MAX => {
                return Err(call.refuse(Errno::NOSPC));
            }
            (libc::EPOLL_CTL_ADD, None) => self.watches.push(watch),
            (libc::EPOLL_CTL_MOD, Some(found)) => self.watches[found] = watch,
            (libc::EPOLL_CTL_DEL, Some(found)) => {
                self.watches.remove(found);
            }
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None) => return Err(Errno::NOENT),
            _ => return Err(Errno::INVAL),
        }
        self.threads.stir();
        Ok(Step::Done(0))
    }

    fn epoll_wait<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        epoll: u32,
        (to, most): (u64, i32),
        timeout: Timeout,
    ) -> Answer {
        let most = usize::try_from(most).ok().filter(|&most| most > 0).ok_or(Errno::INVAL)?;
        let epoll = self.epoll_of(epoll)?;
        let mut out = Vec::new();
        let mut told = Vec::new();
        for (index, watch) in self.watches.iter().enumerate().filter(|(_, watch)| watch.epoll == epoll) {
            let writes = match self.descriptors.get(watch.target).kind {
                Kind::Event(event) => event.writes,
                Kind::Pipe(ends) => self.pipes.changes(ends),
                _ => 0,
            };
            let is_news = watch.events & EDGE == 0 || watch.told != Some(writes);
            let ready = self.readiness(watch.target) & (watch.events | HUP | ERR);
            if ready == 0 || !is_news || watch.events & SPENT != 0 {
                continue;
            }
            if told.len() == most {
                break;
            }
            out.extend(ready.to_le_bytes());
            out.extend(watch.token.to_le_bytes());
            told.push((index, writes));
        }
        if told.is_empty() {
            return call.wait_again(timeout, Ok(Step::Done(0)));
        }
        call.write(&self.space, to, &out)?;
        for (index, writes) in &told {
            let watch = &mut self.watches[*index];
            watch.told = Some(*writes);
            if watch.events & ONCE != 0 {
                watch.events |= SPENT;
            }
        }
        Ok(Step::Done(told.len() as u64))
    }

    fn poll<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64, count: u64, timeout: Timeout) -> Answer {
        let count = usize::try_from(count).ok().filter(|&count| count <= FDS_MAX).ok_or(Errno::INVAL)?;
        let mut list = vec![0; count * 8];
        call.read(&self.space, at, &mut list)?;
        let mut ready = 0;
        for entry in list.as_chunks_mut::<8>().0 {
            let [f0, f1, f2, f3, e0, e1, ..] = *entry;
            let fd = i32::from_le_bytes([f0, f1, f2, f3]);
            let asked = u32::from(u16::from_le_bytes([e0, e1]));
            let got = match self.descriptors.id(fd.cast_unsigned()) {
                // Those are left out.
                _ if fd < 0 => 0,
                Ok(id) => self.readiness(id) & (asked | HUP | ERR),
                Err(_) => NVAL,
            };
            // All of these bits are in the lower half.
            let [low, high, ..] = got.to_le_bytes();
            (entry[6], entry[7]) = (low, high);
            ready += u64::from(got != 0);
        }
        if ready == 0 {
            // Nothing was written: a list of which nothing is ready is so again next time.
            return match call.wait_again(timeout, Ok(Step::Done(0))) {
                Ok(Step::Done(0)) => call.write(&self.space, at, &list).map(|()| Step::Done(0)),
                answer => answer,
            };
        }
        call.write(&self.space, at, &list)?;
        Ok(Step::Done(ready))
    }

    /// Only as a way to sleep, without descriptors.
    fn select<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        count: u64,
        sets: [u64; 3],
        (timeout, scale): (u64, u64),
    ) -> Answer {
        if int(count) < 0 {
            return Err(Errno::INVAL);
        }
        if int(count) != 0 && sets != [0; 3] {
            return Err(call.refuse(Errno::NOSYS));
        }
        let timeout = match timeout {
            0 => Timeout::Never,
            at => {
                let [seconds, part] = call.read_words(&self.space, at)?;
                if seconds.cast_signed() < 0 || part.cast_signed() < 0 {
                    return Err(Errno::INVAL);
                }
                Timeout::After(
                    seconds.saturating_mul(1_000_000_000).saturating_add(part.saturating_mul(scale)),
                )
            }
        };
        call.wait_again(timeout, Ok(Step::Done(0)))
    }
}
