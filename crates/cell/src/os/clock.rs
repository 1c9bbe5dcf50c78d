//! System calls about time. A thread that sleeps lets the others run.

use super::call::{Answer, Call, Step, int};
use super::threads::Wait;
use super::{Errno, Host, Os};

const NANOS: u64 = 1_000_000_000;
/// Of `times`: a hundred ticks a second, as everywhere.
const TICK_NANOS: u64 = NANOS / 100;

/// A time as the kernel writes it: seconds and nanoseconds, or microseconds.
fn pair(seconds: i64, part: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&seconds.to_le_bytes());
    second.copy_from_slice(&part.to_le_bytes());
    bytes
}

/// Nanoseconds of a time; what is before zero is zero, what is too late is the end of time.
fn nanos((seconds, part): (i64, i64)) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds.saturating_mul(NANOS).saturating_add(u64::try_from(part).unwrap_or(0))
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    Never,
    After(u64),
}

impl Timeout {
    /// Of `poll` and `epoll_wait`: milliseconds, or a negative number.
    pub(super) fn millis(arg: u64) -> Timeout {
        u64::try_from(int(arg)).map_or(Timeout::Never, |millis| Timeout::After(millis * 1_000_000))
    }
}

impl<H: Host> Call<'_, H> {
    /// The monotonic clock, nanoseconds.
    pub(super) fn monotonic(&mut self) -> u64 {
        self.host.now(libc::CLOCK_MONOTONIC).map_or(0, nanos)
    }

    /// When `timeout` is over.
    pub(super) fn deadline(&mut self, timeout: Timeout) -> Option<u64> {
        match timeout {
            Timeout::Never => None,
            Timeout::After(nanos) => Some(self.monotonic().saturating_add(nanos)),
        }
    }

    /// When the clock `id` shows `at`, on the monotonic clock.
    pub(super) fn deadline_at(&mut self, id: i32, at: u64) -> Result<u64, Errno> {
        let shows = nanos(self.host.now(id).ok_or(Errno::INVAL)?);
        Ok(self.monotonic().saturating_add(at.saturating_sub(shows)))
    }

    /// Waits until its call may succeed, and tries it again then; gives `late` when it has waited for `timeout`.
    pub(super) fn wait_again(&mut self, timeout: Timeout, late: Answer) -> Answer {
        let until = match self.again {
            Some(until) => until,
            None => self.deadline(timeout),
        };
        if until.is_some_and(|until| self.monotonic() >= until) {
            return late;
        }
        Ok(Step::Wait(Wait::Again { number: self.number, args: self.args }, until))
    }
}

impl Os {
    pub(super) fn clock_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, ..] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_clock_gettime => self.clock_gettime(call, int(a), b),
            libc::SYS_clock_getres => match call.host.now(int(a)) {
                Some(_) => call.write_if(&self.space, b, &pair(0, 1)).map(|()| Step::Done(0)),
                None => Err(Errno::INVAL),
            },
            libc::SYS_gettimeofday => self.gettimeofday(call, a, b),
            libc::SYS_time => {
                let (seconds, _) = call.host.now(libc::CLOCK_REALTIME).unwrap_or_default();
                let written = call.write_if(&self.space, a, &seconds.to_le_bytes());
                written.map(|()| Step::Done(seconds.cast_unsigned()))
            }
            libc::SYS_times => self.times(call, a),
            libc::SYS_getrusage => self.getrusage(call, b),
            libc::SYS_nanosleep => self.sleep(call, libc::CLOCK_MONOTONIC, false, a),
            libc::SYS_clock_nanosleep => match int(b) {
                0 => self.sleep(call, int(a), false, c),
                libc::TIMER_ABSTIME => self.sleep(call, int(a), true, c),
                _ => Err(Errno::INVAL),
            },
            _ => return None,
        })
    }

    fn clock_gettime<H: Host>(&mut self, call: &mut Call<'_, H>, id: i32, at: u64) -> Answer {
        let (seconds, part) = call.host.now(id).ok_or(Errno::INVAL)?;
        call.write(&self.space, at, &pair(seconds, part))?;
        Ok(Step::Done(0))
    }

    fn gettimeofday<H: Host>(&mut self, call: &mut Call<'_, H>, time: u64, zone: u64) -> Answer {
        let (seconds, part) = call.host.now(libc::CLOCK_REALTIME).unwrap_or_default();
        call.write_if(&self.space, time, &pair(seconds, part / 1000))?;
        call.write_if(&self.space, zone, &[0; 8])?;
        Ok(Step::Done(0))
    }

    /// Processor time is the cell's; nobody waits for children.
    fn times<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64) -> Answer {
        let used = call.host.now(libc::CLOCK_PROCESS_CPUTIME_ID).map_or(0, nanos) / TICK_NANOS;
        let mut times = [0; 32];
        times[..8].copy_from_slice(&used.to_le_bytes());
        call.write_if(&self.space, at, &times)?;
        Ok(Step::Done(call.monotonic() / TICK_NANOS))
    }

    fn getrusage<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64) -> Answer {
        let (seconds, part) = call.host.now(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default();
        let mut usage = [0; 144];
        usage[..16].copy_from_slice(&pair(seconds, part / 1000));
        call.write(&self.space, at, &usage)?;
        Ok(Step::Done(0))
    }

    /// A time that the guest gave.
    pub(super) fn read_time<H: Host>(&self, call: &mut Call<'_, H>, at: u64) -> Result<u64, Errno> {
        let [seconds, part] = call.read_words(&self.space, at)?;
        if seconds.cast_signed() < 0 || part >= NANOS {
            return Err(Errno::INVAL);
        }
        Ok(nanos((seconds.cast_signed(), part.cast_signed())))
    }

    /// How long a call may wait, by a time that the guest gave; no address is no limit.
    pub(super) fn read_timeout<H: Host>(&self, call: &mut Call<'_, H>, at: u64) -> Result<Timeout, Errno> {
        if at == 0 { Ok(Timeout::Never) } else { self.read_time(call, at).map(Timeout::After) }
    }

    fn sleep<H: Host>(&mut self, call: &mut Call<'_, H>, id: i32, absolute: bool, at: u64) -> Answer {
        let time = self.read_time(call, at)?;
        let known = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI];
        if !known.contains(&id) {
            return Err(Errno::INVAL);
        }
        let until =
            if absolute { call.deadline_at(id, time)? } else { call.monotonic().saturating_add(time) };
        Ok(Step::Wait(Wait::Time(0), Some(until)))
    }
}
