//! Which system calls a sandboxed process may make.

use std::os::fd::RawFd;

use libc::c_long;

use super::Rules;
use super::assembler::{Condition, Verdict};

/// The rules of a replica.
pub(super) const RULES: Rules =
    Rules { lists: LISTS, conditional: &[CONDITIONAL], among: AMONG, executes: false, otherwise: REFUSED };

const REFUSED: Verdict = Verdict::Errno(libc::EPERM);

/// Unconditional verdicts, the busiest calls first.
const LISTS: &[(&[c_long], Verdict)] = &[
    (ALWAYS, Verdict::Allow),
    (ABSENT_FILES, Verdict::Errno(libc::ENOENT)),
    (DENIED_FILES, Verdict::Errno(libc::EACCES)),
    (NO_SOCKETS, Verdict::Errno(libc::EACCES)),
    (NOT_A_TERMINAL, Verdict::Errno(libc::ENOTTY)),
    // clone3 passes its flags in memory, where a filter cannot see them. libc falls back to clone.
    (UNKNOWN, Verdict::Errno(libc::ENOSYS)),
    (HOSTILE, Verdict::Kill),
    (&[libc::SYS_seccomp], Verdict::Kill),
];

pub(super) const ALWAYS: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_pipe2,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mincore,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    // Only its own threads are visible in its pid namespace.
    libc::SYS_tkill,
    libc::SYS_restart_syscall,
    libc::SYS_pause,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getpgrp,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_arch_prctl,
    libc::SYS_uname,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Questions about files whose usual answer, on a machine without files, is that there is none.
pub(super) const ABSENT_FILES: &[c_long] = &[
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_getcwd,
];

pub(super) const DENIED_FILES: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat2,
    libc::SYS_chdir,
];

pub(super) const NO_SOCKETS: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

pub(super) const NOT_A_TERMINAL: &[c_long] = &[libc::SYS_ioctl];

pub(super) const UNKNOWN: &[c_long] = &[libc::SYS_clone3];

/// No honest program without privileges makes these calls.
pub(super) const HOSTILE: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_personality,
    libc::SYS_modify_ldt,
];

/// What has to hold of the arguments; the verdict is for when it does not.
pub(super) const CONDITIONAL: &[(c_long, &[Condition], Verdict)] = &[
    (libc::SYS_clone, THREAD, REFUSED),
    (libc::SYS_prlimit64, NO_NEW_LIMIT, REFUSED),
    (libc::SYS_newfstatat, DESCRIPTOR_ITSELF, Verdict::Errno(libc::ENOENT)),
    (libc::SYS_tgkill, TO_ITSELF, REFUSED),
    (libc::SYS_kill, TO_ITSELF, REFUSED),
    (
        libc::SYS_socketpair,
        &[Condition::equal(0, libc::AF_UNIX.unsigned_abs())],
        Verdict::Errno(libc::EACCES),
    ),
];

/// Calls that are allowed for some values of one argument and `EPERM` for all others.
pub(super) const AMONG: &[(c_long, u32, &[u32], Verdict)] =
    &[(libc::SYS_fcntl, 1, DESCRIPTOR_COMMANDS, REFUSED), (libc::SYS_prctl, 0, NAMING, REFUSED)];

/// The program's start: this descriptor and no path. The number lies beyond the process's limit on descriptors, so that
/// nothing can be executed once the program runs.
pub(super) fn own_program(exec_number: RawFd) -> [Condition; 2] {
    [Condition::equal(0, exec_number.unsigned_abs()), Condition::equal(4, libc::AT_EMPTY_PATH.unsigned_abs())]
}

const THREAD_FLAGS: u32 = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND).unsigned_abs();

const NEW_NAMESPACE: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP)
    .unsigned_abs();

/// What a clone may not ask for, whoever makes it.
pub(super) const NO_NEW_NAMESPACE: &[Condition] = &[Condition {
    half: Condition::low(0),
    mask: NEW_NAMESPACE | libc::CLONE_PTRACE.unsigned_abs(),
    value: 0,
}];

/// A thread of this process, in no new namespace.
const THREAD: &[Condition] = &[
    Condition { half: Condition::low(0), mask: THREAD_FLAGS, value: THREAD_FLAGS },
    Condition { half: Condition::low(0), mask: NEW_NAMESPACE | libc::CLONE_PTRACE.unsigned_abs(), value: 0 },
];

/// Reading limits, not setting them: the new limit is a null pointer.
const NO_NEW_LIMIT: &[Condition] =
    &[Condition::equal(2, 0), Condition { half: Condition::low(2) + 1, mask: u32::MAX, value: 0 }];

/// What libc makes of `fstat`: a descriptor without a path.
pub(super) const DESCRIPTOR_ITSELF: &[Condition] = &[Condition {
    half: Condition::low(3),
    mask: libc::AT_EMPTY_PATH.unsigned_abs(),
    value: libc::AT_EMPTY_PATH.unsigned_abs(),
}];

/// The process is the first one of its own pid namespace.
const TO_ITSELF: &[Condition] = &[Condition::equal(0, 1)];

/// No locks, leases, owners or signals.
const DESCRIPTOR_COMMANDS: &[u32] = &[
    libc::F_DUPFD.unsigned_abs(),
    libc::F_DUPFD_CLOEXEC.unsigned_abs(),
    libc::F_GETFD.unsigned_abs(),
    libc::F_SETFD.unsigned_abs(),
    libc::F_GETFL.unsigned_abs(),
    libc::F_SETFL.unsigned_abs(),
    libc::F_GET_SEALS.unsigned_abs(),
];

/// Names of threads and of memory. Above all not the death signal.
const NAMING: &[u32] =
    &[libc::PR_SET_NAME.unsigned_abs(), libc::PR_GET_NAME.unsigned_abs(), libc::PR_SET_VMA.unsigned_abs()];
