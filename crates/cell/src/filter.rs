//! The cell's own filter of system calls, entered after its set-up: what the runtime still needs, and nothing else.
//!
//! Guests never come this far, because their calls are dispatched to the runtime before. The filter is for the day when one
//! does: no call below opens a file, makes a process, maps anything executable, reads or writes another way around the keys,
//! changes signal handlers or the dispatch itself.

// UNSAFETY: installs a filter.
#![expect(unsafe_code, reason = "seccomp has no safe wrapper")]

use rustix::io::Errno;

/// `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENT_2_AT: u32 = 32;
const ARCHITECTURE_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const NO_SUCH_CALL: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();
const KILL: u32 = 0x8000_0000;

/// Calls that are allowed whatever their arguments.
const PLAIN: &[i64] = &[
    // On every way out of a handler: the signal stack is there again.
    libc::SYS_sigaltstack,
    libc::SYS_futex,
    // What the standard library says of a panic begins with the thread's number.
    libc::SYS_gettid,
    libc::SYS_write,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_rt_sigreturn,
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that do nothing. The kernel's vsyscall page makes them without a `syscall` instruction, and so without the dispatch:
/// a guest that calls it must not end the cell.
const DEAF: &[i64] = &[libc::SYS_gettimeofday, libc::SYS_time, libc::SYS_getcpu];

/// Calls that are allowed unless their third argument has the bit of executable memory.
const MAPPING: &[i64] = &[libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect];

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// The program.
fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE_AT),
        jump(JUMP_EQUAL, ARCHITECTURE_X86_64, 1, 0),
        statement(RETURN, KILL),
        statement(LOAD, NUMBER_AT),
        jump(JUMP_ANY_BIT, X32_BIT, 0, 1),
        statement(RETURN, KILL),
    ];
    for &call in PLAIN {
        program.extend([jump(JUMP_EQUAL, number(call), 0, 1), statement(RETURN, ALLOW)]);
    }
    for &call in DEAF {
        program.extend([jump(JUMP_EQUAL, number(call), 0, 1), statement(RETURN, NO_SUCH_CALL)]);
    }
    for &call in MAPPING {
        program.extend([
            jump(JUMP_EQUAL, number(call), 0, 4),
            statement(LOAD, ARGUMENT_2_AT),
            jump(JUMP_ANY_BIT, libc::PROT_EXEC.cast_unsigned(), 0, 1),
            statement(RETURN, KILL),
            statement(RETURN, ALLOW),
        ]);
    }
    program.push(statement(RETURN, KILL));
    program
}

/// Enters the filter, for good.
pub(crate) fn enter() -> Result<(), Errno> {
    let program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: takes numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel copies and checks it.
    let entered =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if done == 0 && entered == 0 { Ok(()) } else { Err(Errno::PERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(call: u32, architecture: u32, third: u32) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => {
                    value = match step.k {
                        NUMBER_AT => call,
                        ARCHITECTURE_AT => architecture,
                        _ => third,
                    }
                }
                JUMP_EQUAL => at += usize::from(if value == step.k { step.jt } else { step.jf }),
                JUMP_ANY_BIT => at += usize::from(if value & step.k != 0 { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn what_the_runtime_needs_is_allowed() {
        for &call in PLAIN {
            assert_eq!(verdict(number(call), ARCHITECTURE_X86_64, 7), ALLOW, "call {call}");
        }
        for &call in MAPPING {
            assert_eq!(verdict(number(call), ARCHITECTURE_X86_64, 3), ALLOW);
            assert_eq!(verdict(number(call), ARCHITECTURE_X86_64, 5), KILL, "executable memory");
        }
    }

    #[test]
    fn what_the_vsyscall_page_calls_does_nothing() {
        for &call in DEAF {
            assert_eq!(verdict(number(call), ARCHITECTURE_X86_64, 0), NO_SUCH_CALL);
        }
    }

    #[test]
    fn ways_around_keys_and_dispatch_kill() {
        let gone = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_ptrace,
            libc::SYS_pidfd_getfd,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_pread64,
            libc::SYS_read,
            libc::SYS_pwrite64,
            libc::SYS_vmsplice,
            libc::SYS_prctl,
            libc::SYS_arch_prctl,
            libc::SYS_seccomp,
            libc::SYS_rt_sigaction,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_pkey_alloc,
            libc::SYS_pkey_free,
            libc::SYS_memfd_create,
            libc::SYS_socket,
            libc::SYS_io_submit,
        ];
        for call in gone {
            assert_eq!(verdict(number(call), ARCHITECTURE_X86_64, 0), KILL, "call {call}");
        }
        assert_eq!(verdict(number(libc::SYS_write), 0x4000_0003, 0), KILL, "32-bit entry");
        assert_eq!(verdict(number(libc::SYS_write) | X32_BIT, ARCHITECTURE_X86_64, 0), KILL, "x32");
    }
}
