//! System calls by which a guest asks who and where it is. It is process 1 of a machine with one processor, of nobody.

use super::call::{Answer, Call, Step, int, low, piecewise};
use super::threads::PID;
use super::{Errno, Host, Os};

/// Nobody.
pub(super) const UID: u32 = 65_534;
/// Largest processor mask that is looked at, bytes.
const MASK_BYTES_MAX: u64 = 1 << 16;

impl Os {
    pub(super) fn identity_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, d, ..] = call.args;
        let done = |value: u32| Ok(Step::Done(u64::from(value)));
        Some(match call.number.cast_signed() {
            libc::SYS_getpid | libc::SYS_getpgrp => done(PID),
            libc::SYS_getpgid | libc::SYS_getsid if low(a) <= PID => done(PID),
            libc::SYS_getpgid | libc::SYS_getsid => Err(Errno::SRCH),
            libc::SYS_gettid => done(self.threads.running().tid),
            libc::SYS_getppid | libc::SYS_getgroups | libc::SYS_personality => done(0),
            libc::SYS_getuid | libc::SYS_geteuid | libc::SYS_getgid | libc::SYS_getegid => done(UID),
            libc::SYS_getresuid | libc::SYS_getresgid => [a, b, c]
                .into_iter()
                .try_for_each(|at| call.write(&self.space, at, &UID.to_le_bytes()))
                .map(|()| Step::Done(0)),
            libc::SYS_umask => done(0o022),
            libc::SYS_uname => self.uname(call, a),
            libc::SYS_sysinfo => self.sysinfo(call, a),
            libc::SYS_getrlimit => self.limits(call, int(a), 0, b),
            libc::SYS_setrlimit => self.limits(call, int(a), b, 0),
            libc::SYS_prlimit64 if low(a) <= PID => self.limits(call, int(b), c, d),
            libc::SYS_prlimit64 => Err(Errno::SRCH),
            libc::SYS_sched_getaffinity => self.affinity(call, b, c),
            libc::SYS_sched_setaffinity => self.set_affinity(call, b, c),
            libc::SYS_sched_getscheduler => done(0),
            libc::SYS_sched_getparam => call.write(&self.space, b, &[0; 4]).map(|()| Step::Done(0)),
            libc::SYS_sched_get_priority_max | libc::SYS_sched_get_priority_min => done(0),
            // As the kernel has it: 20 less the niceness.
            libc::SYS_getpriority => done(20),
            libc::SYS_getcpu => [a, b]
                .into_iter()
                .try_for_each(|at| call.write_if(&self.space, at, &[0; 4]))
                .map(|()| Step::Done(0)),
            libc::SYS_arch_prctl => self.arch_prctl(call, int(a), b),
            libc::SYS_prctl => self.prctl(call, int(a), b),
            libc::SYS_getrandom => self.getrandom(call, a, b, low(c)),
            // One thread runs at a time, and a switch is a barrier.
            libc::SYS_membarrier => match (int(a), low(b)) {
                (MEMBARRIER_QUERY, 0) => {
                    done(MEMBARRIER_PRIVATE.cast_unsigned() | MEMBARRIER_REGISTER.cast_unsigned())
                }
                (MEMBARRIER_PRIVATE | MEMBARRIER_REGISTER, 0) => done(0),
                _ => Err(Errno::INVAL),
            },
            _ => return None,
        })
    }

    fn uname<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64) -> Answer {
        const FIELD: usize = 65;
        let fields = ["Linux", "baton", "6.1.0-baton", "#1 SMP", "x86_64", "(none)"];
        let mut name = [0; FIELD * 6];
        for (place, text) in name.chunks_exact_mut(FIELD).zip(fields) {
            place.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        }
        call.write(&self.space, at, &name)?;
        Ok(Step::Done(0))
    }

    fn sysinfo<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64) -> Answer {
        let mut info = [0; 112];
        let uptime = call.monotonic() / 1_000_000_000;
        let free = self.space.limit() - self.space.used();
        // Places of uptime, totalram and freeram; the rest (loads, swap, high memory) is zero.
        for (at, value) in [(0, uptime), (32, self.space.limit()), (40, free)] {
            info[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        info[80..82].copy_from_slice(&1u16.to_le_bytes());
        info[104..108].copy_from_slice(&1u32.to_le_bytes());
        call.write(&self.space, at, &info)?;
        Ok(Step::Done(0))
    }

    /// A limit is what it is: to set it to that is allowed.
    fn limits<H: Host>(&mut self, call: &mut Call<'_, H>, which: i32, new: u64, old: u64) -> Answer {
        const RESOURCES: i32 = 16;
        let value = match u32::try_from(which) {
            Ok(libc::RLIMIT_NOFILE) => super::descriptors::FDS_MAX as u64,
            Ok(libc::RLIMIT_STACK) => self.space.stack_bytes(),
            Ok(libc::RLIMIT_NPROC) => super::THREADS_MAX as u64,
            Ok(libc::RLIMIT_CORE | libc::RLIMIT_MEMLOCK) => 0,
            _ if (0..RESOURCES).contains(&which) => libc::RLIM_INFINITY,
            _ => return Err(Errno::INVAL),
        };
        if new != 0 {
            let [soft, hard] = call.read_words(&self.space, new)?;
            if soft > hard {
                return Err(Errno::INVAL);
            }
            if (soft, hard) != (value, value) {
                return Err(call.refuse(Errno::PERM));
            }
        }
        let words = u128::from(value) << 64 | u128::from(value);
        call.write_if(&self.space, old, &words.to_le_bytes())?;
        Ok(Step::Done(0))
    }

    fn affinity<H: Host>(&mut self, call: &mut Call<'_, H>, len: u64, at: u64) -> Answer {
        if u64::from(low(len)) < 8 || !len.is_multiple_of(8) {
            return Err(Errno::INVAL);
        }
        call.write(&self.space, at, &1u64.to_le_bytes())?;
        Ok(Step::Done(8))
    }

    fn set_affinity<H: Host>(&mut self, call: &mut Call<'_, H>, len: u64, at: u64) -> Answer {
        if len == 0 || len > MASK_BYTES_MAX {
            return Err(Errno::INVAL);
        }
        let [first] = call.read_array(&self.space, at)?;
        if first & 1 == 1 { Ok(Step::Done(0)) } else { Err(Errno::INVAL) }
    }

    fn arch_prctl<H: Host>(&mut self, call: &mut Call<'_, H>, code: i32, at: u64) -> Answer {
        match code {
            ARCH_SET_FS => {
                if !self.space.in_seat(at) {
                    return Err(call.refuse(Errno::PERM));
                }
                self.threads.running().fs_base = at;
                call.host.set_fs_base(at);
            }
            ARCH_GET_FS => call.write(&self.space, at, &self.threads.running().fs_base.to_le_bytes())?,
            _ => return Err(call.refuse(Errno::INVAL)),
        }
        Ok(Step::Done(0))
    }

    fn prctl<H: Host>(&mut self, call: &mut Call<'_, H>, option: i32, at: u64) -> Answer {
        const NAME_BYTES: usize = 16;
        match option {
            libc::PR_SET_NAME => {
                // Only that it can be read is looked at: nobody asks for names.
                let _: [u8; 1] = call.read_array(&self.space, at)?;
            }
            libc::PR_GET_NAME => {
                let mut name = [0; NAME_BYTES];
                name[..8].copy_from_slice(b"function");
                call.write(&self.space, at, &name)?;
            }
            libc::PR_SET_NO_NEW_PRIVS if at == 1 => {}
            libc::PR_GET_NO_NEW_PRIVS => return Ok(Step::Done(1)),
            libc::PR_GET_DUMPABLE => {}
            _ => return Err(call.refuse(Errno::INVAL)),
        }
        Ok(Step::Done(0))
    }

    fn getrandom<H: Host>(&mut self, call: &mut Call<'_, H>, at: u64, len: u64, flags: u32) -> Answer {
        const FLAGS: u32 = libc::GRND_NONBLOCK | libc::GRND_RANDOM | libc::GRND_INSECURE;
        if flags & !FLAGS != 0 {
            return Err(Errno::INVAL);
        }
        self.fill(call, at, len, |host, bytes| host.random(bytes))
    }

    /// Fills the guest's memory piece by piece, with fewer bytes than asked for if it asks for very many.
    pub(super) fn fill<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        at: u64,
        len: u64,
        source: impl Fn(&mut H, &mut [u8]),
    ) -> Answer {
        const FILL_BYTES_MAX: u64 = 1 << 20;
        piecewise::<1024>(at, len.min(FILL_BYTES_MAX), |at, piece| {
            source(call.host, piece);
            call.write(&self.space, at, piece)
        })
    }
}

const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const MEMBARRIER_QUERY: i32 = 0;
const MEMBARRIER_PRIVATE: i32 = 1 << 3;
const MEMBARRIER_REGISTER: i32 = 1 << 4;
