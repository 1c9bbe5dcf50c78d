//! System calls about threads: making and ending them, and waiting for one another.

use super::call::{Answer, Call, Step, int, low};
use super::threads::Wait;
use super::{Errno, Host, NewThread, Os};

/// What a thread shares with its parent: all that there is.
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
/// What else may be asked of one.
const SERVED: u64 = THREAD
    | (libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::CLONE_DETACHED
        | libc::CLONE_IO) as u64;
/// The signal that a child process would send at its end.
const EXIT_SIGNAL: u64 = 0xff;
/// Every waiter.
const ALL: u32 = u32::MAX;
/// Sizes of the argument of `clone3`, in its first version and in the newest one that is known here.
const CLONE_ARGS: core::ops::RangeInclusive<u64> = 64..=88;

/// What `clone` and `clone3` say.
struct Clone3 {
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

impl Os {
    pub(super) fn task_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, e, _] = call.args;
        Some(match call.number.cast_signed() {
            libc::SYS_futex => self.futex(call),
            libc::SYS_sched_yield => Ok(Step::Yield),
            libc::SYS_exit => Ok(Step::ThreadEnd(int(a))),
            libc::SYS_exit_group => Ok(Step::End(super::Ending::Exit(int(a) & 0xff))),
            libc::SYS_clone => {
                let flags = a & !EXIT_SIGNAL;
                self.spawn(call, &Clone3 { flags, stack: b, parent_tid: c, child_tid: d, tls: e })
            }
            libc::SYS_clone3 => self.clone3(call, a, b),
            libc::SYS_set_tid_address => {
                let thread = self.threads.running();
                thread.clear_tid = a;
                Ok(Step::Done(u64::from(thread.tid)))
            }
            // A thread that ends while it holds a robust mutex leaves it locked: no list is walked.
            libc::SYS_set_robust_list if b == 24 => Ok(Step::Done(0)),
            libc::SYS_set_robust_list => Err(Errno::INVAL),
            _ => return None,
        })
    }

    fn clone3<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64, size: u64) -> Answer {
        if !CLONE_ARGS.contains(&size) {
            return Err(if size < *CLONE_ARGS.start() { Errno::INVAL } else { Errno::TOOBIG });
        }
        let [flags, _, child_tid, parent_tid, exit_signal, stack, stack_size, tls] =
            call.read_words(&self.space, at)?;
        let more = (64..size).step_by(8).any(|place| {
            // Other process numbers and control groups are not to be had.
            call.read_u64(&self.space, at.saturating_add(place)) != Ok(0)
        });
        if more || exit_signal != 0 && flags & THREAD == THREAD {
            return Err(call.refuse(Errno::INVAL));
        }
        let stack = stack.checked_add(stack_size).filter(|_| stack != 0).ok_or(Errno::INVAL)?;
        self.spawn(call, &Clone3 { flags, stack, parent_tid, child_tid, tls })
    }

    fn spawn<H: Host>(&mut self, call: &mut Call<'_, H>, new: &Clone3) -> Answer {
        let has = |flag: i32| new.flags & flag as u64 != 0;
        if new.flags & THREAD != THREAD {
            return Err(call.refuse(Errno::PERM));
        }
        if new.flags & !SERVED != 0 || new.stack == 0 {
            return Err(call.refuse(Errno::INVAL));
        }
        let fs_base = has(libc::CLONE_SETTLS).then_some(new.tls);
        if fs_base.is_some_and(|at| !self.space.in_seat(at)) {
            return Err(call.refuse(Errno::PERM));
        }
        let Some((id, thread)) = self.threads.spawn(fs_base) else { return Err(call.refuse(Errno::AGAIN)) };
        if has(libc::CLONE_CHILD_CLEARTID) {
            thread.clear_tid = new.child_tid;
        }
        let tid = thread.tid;
        // As in the kernel: the thread is there, whether its number can be written or not.
        for (flag, at) in
            [(libc::CLONE_PARENT_SETTID, new.parent_tid), (libc::CLONE_CHILD_SETTID, new.child_tid)]
        {
            if has(flag) {
                let _ = call.write(&self.space, at, &tid.to_le_bytes());
            }
        }
        Ok(Step::Spawned(NewThread { thread: id, stack: new.stack }, u64::from(tid)))
    }

    /// The current thread is about to end: those who wait for that can go on.
    pub(super) fn farewell<H: Host>(&mut self, call: &mut Call<'_, H>) {
        let at = self.threads.running().clear_tid;
        if at != 0 && call.write(&self.space, at, &[0; 4]).is_ok() {
            self.threads.wake_futex(at, ALL, 1);
        }
    }

    fn futex<H: Host>(&mut self, call: &mut Call<'_, H>) -> Answer {
        let [at, op, value, fourth, other, last] = call.args;
        let (op, value) = (int(op), low(value));
        let command = op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        let realtime = op & libc::FUTEX_CLOCK_REALTIME != 0;
        if !at.is_multiple_of(4) {
            return Err(Errno::INVAL);
        }
        let count = |woken: usize| Ok(Step::Done(woken as u64));
        match command {
            libc::FUTEX_WAIT if !realtime => {
                let timeout = self.read_timeout(call, fourth)?;
                let until = call.deadline(timeout);
                self.futex_wait(call, at, value, (ALL, until))
            }
            libc::FUTEX_WAIT_BITSET => {
                let clock = if realtime { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
                let until = match self.read_timeout(call, fourth)? {
                    super::Timeout::Never => None,
                    super::Timeout::After(time) => Some(call.deadline_at(clock, time)?),
                };
                self.futex_wait(call, at, value, (low(last), until))
            }
            libc::FUTEX_WAKE => count(self.threads.wake_futex(at, ALL, amount(value.max(1)))),
            libc::FUTEX_WAKE_BITSET => match low(last) {
                0 => Err(Errno::INVAL),
                bits => count(self.threads.wake_futex(at, bits, amount(value.max(1)))),
            },
            libc::FUTEX_REQUEUE => self.requeue(at, other, (value, low(fourth))),
            libc::FUTEX_CMP_REQUEUE => {
                if call.read_u32(&self.space, at)? != low(last) {
                    return Err(Errno::AGAIN);
                }
                self.requeue(at, other, (value, low(fourth)))
            }
            // Priority inheritance, and what nothing uses any more.
            _ => Err(call.refuse(Errno::NOSYS)),
        }
    }

    fn futex_wait<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        at: u64,
        value: u32,
        (bits, until): (u32, Option<u64>),
    ) -> Answer {
        if bits == 0 {
            return Err(Errno::INVAL);
        }
        // Nobody can change it between this look and the wait: no other thread runs.
        if call.read_u32(&self.space, at)? != value {
            return Err(Errno::AGAIN);
        }
        Ok(Step::Wait(Wait::Futex { at, bits }, until))
    }

    fn requeue(&mut self, at: u64, to: u64, (wake, moved): (u32, u32)) -> Answer {
        if !to.is_multiple_of(4) || wake.cast_signed() < 0 || moved.cast_signed() < 0 {
            return Err(Errno::INVAL);
        }
        let woken = self.threads.wake_futex(at, ALL, amount(wake));
        let moved = self.threads.requeue_futex(at, to, amount(moved));
        Ok(Step::Done((woken + moved) as u64))
    }
}

/// How many threads a number of the guest's means.
fn amount(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
