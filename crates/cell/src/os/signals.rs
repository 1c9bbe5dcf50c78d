//! Signals: settings are remembered, and a guest can only signal itself.
//!
//! No handler is ever run: a frame to return from would be a way to set registers that no guest may set. A signal whose
//! handler the guest has set is dropped, and said to be; one that it has left alone does what it does on Linux, which
//! for most is to end the compartment. So `abort` ends it, with or without a handler.

use super::call::{Answer, Call, Step, int, low};
use super::saved::{In, Out};
use super::threads::PID;
use super::{Ending, Errno, Host, Os, Timeout};

const SIGNALS: usize = 64;
/// Those that nobody can block, ignore or handle.
const UNSTOPPABLE: u64 = bit(libc::SIGKILL) | bit(libc::SIGSTOP);
/// Those that do nothing unless they are handled.
const HARMLESS: u64 = bit(libc::SIGCHLD) | bit(libc::SIGCONT) | bit(libc::SIGURG) | bit(libc::SIGWINCH);
/// Bytes of a set of signals; every call says so again.
const SET_BYTES: u64 = 8;

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// What the guest wants done with each signal: handler, flags, restorer, mask, as the kernel has them.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    actions: [[u64; 4]; SIGNALS],
}

impl Signals {
    pub(super) const fn new() -> Signals {
        Signals { actions: [[0; 4]; SIGNALS] }
    }

    pub(super) fn save(&self, out: &mut Out) {
        out.words(self.actions.iter().flatten().copied());
    }

    pub(super) fn load(saved: &mut In<'_>) -> Option<Signals> {
        let mut signals = Signals::new();
        for action in &mut signals.actions {
            *action = saved.words()?;
        }
        Some(signals)
    }

    fn handler(&self, signal: i32) -> u64 {
        let action = usize::try_from(signal - 1).ok().and_then(|index| self.actions.get(index));
        action.map_or(0, |action| action[0])
    }
}

impl Os {
    pub(super) fn signal_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, ..] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_rt_sigaction => self.sigaction(call, int(a), (b, c), d),
            libc::SYS_rt_sigprocmask => self.sigprocmask(call, int(a), (b, c), d),
            libc::SYS_rt_sigpending => {
                let pending = self.threads.running().pending;
                set_size(b)
                    .and_then(|()| call.write(&self.space, a, &pending.to_le_bytes()))
                    .map(|()| Step::Done(0))
            }
            libc::SYS_rt_sigtimedwait => self.sigtimedwait(call, a, (b, c), d),
            libc::SYS_rt_sigsuspend => set_size(b).and_then(|()| self.suspend_for(call, Some(a))),
            libc::SYS_pause => self.suspend_for(call, None),
            libc::SYS_sigaltstack => self.sigaltstack(call, a, b),
            libc::SYS_kill => match int(a) {
                // The process, its group, everybody.
                -1..=1 => {
                    let tid = self.threads.running().tid;
                    self.raise(call, tid, int(b))
                }
                _ => Err(Errno::SRCH),
            },
            libc::SYS_tkill => self.raise(call, low(a), int(b)),
            libc::SYS_tgkill if low(a) == PID => self.raise(call, low(b), int(c)),
            libc::SYS_tgkill => Err(Errno::SRCH),
            // No frame was ever given to it: this one is forged.
            libc::SYS_rt_sigreturn => {
                call.refuse(Errno::PERM);
                Ok(Step::End(Ending::Signal(libc::SIGSEGV)))
            }
            _ => return None,
        })
    }

    fn sigaction<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        signal: i32,
        (new, old): (u64, u64),
        size: u64,
    ) -> Answer {
        set_size(size)?;
        let index = usize::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
        let index = index.filter(|&index| index < SIGNALS).ok_or(Errno::INVAL)?;
        let before = self.signals.actions[index];
        if new != 0 {
            if UNSTOPPABLE & bit(signal) != 0 {
                return Err(Errno::INVAL);
            }
            self.signals.actions[index] = call.read_words(&self.space, new)?;
        }
        call.write_if(&self.space, old, before.map(u64::to_le_bytes).as_flattened())?;
        Ok(Step::Done(0))
    }

    fn sigprocmask<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        how: i32,
        (new, old): (u64, u64),
        size: u64,
    ) -> Answer {
        set_size(size)?;
        let before = self.threads.running().mask;
        if new != 0 {
            let set = call.read_u64(&self.space, new)?;
            let mask = match how {
                libc::SIG_BLOCK => before | set,
                libc::SIG_UNBLOCK => before & !set,
                libc::SIG_SETMASK => set,
                _ => return Err(Errno::INVAL),
            };
            self.threads.running().mask = mask & !UNSTOPPABLE;
        }
        call.write_if(&self.space, old, &before.to_le_bytes())?;
        self.deliver(call)
    }

    /// Does what is to be done about the signals that came while they were blocked.
    fn deliver<H: Host>(&mut self, call: &mut Call<'_, H>) -> Answer {
        let thread = self.threads.running();
        let due = thread.pending & !thread.mask;
        thread.pending &= thread.mask;
        Ok(self.act_on(call, due))
    }

    /// Acts on each of a set of signals, until one ends the guest.
    fn act_on<H: Host>(&mut self, call: &mut Call<'_, H>, mut due: u64) -> Step {
        while due != 0 {
            let signal = due.trailing_zeros().cast_signed() + 1;
            due &= due - 1;
            let step = self.act(call, signal);
            if step != Step::Done(0) {
                return step;
            }
        }
        Step::Done(0)
    }

    pub(super) fn raise<H: Host>(&mut self, call: &mut Call<'_, H>, tid: u32, signal: i32) -> Answer {
        let thread = self.threads.by_tid(tid).ok_or(Errno::SRCH)?;
        match usize::try_from(signal) {
            Ok(0) => return Ok(Step::Done(0)),
            Ok(1..=SIGNALS) => {}
            _ => return Err(Errno::INVAL),
        }
        if thread.mask & bit(signal) != 0 {
            thread.pending |= bit(signal);
            self.threads.stir();
            return Ok(Step::Done(0));
        }
        Ok(self.act(call, signal))
    }

    fn act<H: Host>(&mut self, call: &mut Call<'_, H>, signal: i32) -> Step {
        match self.signals.handler(signal) {
            _ if UNSTOPPABLE & bit(signal) != 0 => Step::End(Ending::Signal(signal)),
            IGNORE => Step::Done(0),
            DEFAULT if HARMLESS & bit(signal) != 0 => Step::Done(0),
            DEFAULT => Step::End(Ending::Signal(signal)),
            _ => {
                call.refuse(Errno::NOSYS);
                Step::Done(0)
            }
        }
    }

    /// Waits for a blocked signal. Only the guest's own threads could send one.
    fn sigtimedwait<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        set: u64,
        (info, timeout): (u64, u64),
        size: u64,
    ) -> Answer {
        set_size(size)?;
        let set = call.read_u64(&self.space, set)?;
        let due = self.threads.running().pending & set;
        if due == 0 {
            let timeout = self.read_timeout(call, timeout)?;
            return call.wait_again(timeout, Err(Errno::AGAIN));
        }
        let signal = due.trailing_zeros() + 1;
        let mut bytes = [0; 128];
        bytes[..4].copy_from_slice(&signal.to_le_bytes());
        call.write_if(&self.space, info, &bytes)?;
        self.threads.running().pending &= !bit(signal.cast_signed());
        Ok(Step::Done(u64::from(signal)))
    }

    /// Waits for a signal that ends the compartment: handlers, for which it would return, do not run.
    fn suspend_for<H: Host>(&mut self, call: &mut Call<'_, H>, set: Option<u64>) -> Answer {
        let thread = self.threads.running();
        let (before, pending) = (thread.mask, thread.pending);
        let mask = match set {
            Some(at) => call.read_u64(&self.space, at)? & !UNSTOPPABLE,
            None => before,
        };
        match self.act_on(call, pending & !mask) {
            Step::Done(0) => call.wait_again(Timeout::Never, Err(Errno::INTR)),
            step => Ok(step),
        }
    }

    /// Remembered, and never used.
    fn sigaltstack<H: Host>(&mut self, call: &mut Call<'_, H>, new: u64, old: u64) -> Answer {
        let before = self.threads.running().altstack;
        if new != 0 {
            let stack: [u64; 3] = call.read_words(&self.space, new)?;
            if int(stack[1]) & !libc::SS_DISABLE & !SS_AUTODISARM != 0 {
                return Err(Errno::INVAL);
            }
            self.threads.running().altstack = stack;
        }
        call.write_if(&self.space, old, before.map(u64::to_le_bytes).as_flattened())?;
        Ok(Step::Done(0))
    }
}

const DEFAULT: u64 = libc::SIG_DFL as u64;
const IGNORE: u64 = libc::SIG_IGN as u64;
const SS_AUTODISARM: i32 = i32::MIN;

fn set_size(size: u64) -> Result<(), Errno> {
    if size == SET_BYTES { Ok(()) } else { Err(Errno::INVAL) }
}
