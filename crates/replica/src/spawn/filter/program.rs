//! Which system calls a program in a language of its own may make: those of ordinary programs that start others, open files and
//! sockets. Where they lead is for the mounts, Landlock and the namespaces to say.
//!
//! What only an attacker or a debugger wants is refused, not killed for: interpreters try much, and go on without. What is not
//! listed is answered as by an older kernel.

use libc::c_long;

use super::Rules;
use super::assembler::{Condition, Verdict};
use super::calls::{ALWAYS, HOSTILE, NO_NEW_NAMESPACE};

/// The rules of a program.
pub(super) const RULES: Rules =
    Rules { lists: LISTS, conditional: &[CONDITIONAL], among: AMONG, executes: true, otherwise: UNKNOWN };

const UNKNOWN: Verdict = Verdict::Errno(libc::ENOSYS);
const REFUSED: Verdict = Verdict::Errno(libc::EPERM);

const LISTS: &[(&[c_long], Verdict)] = &[
    (ALWAYS, Verdict::Allow),
    (FILES, Verdict::Allow),
    (PROCESSES, Verdict::Allow),
    (SOCKETS, Verdict::Allow),
    // Its flags are in memory, where a filter cannot see them. libc falls back to clone.
    (&[libc::SYS_clone3], UNKNOWN),
    // Asked for by libraries that go on without.
    (PROBED, UNKNOWN),
    (HOSTILE, REFUSED),
    (&[libc::SYS_seccomp], REFUSED),
    (ATTRIBUTES, Verdict::Errno(libc::EOPNOTSUPP)),
    (PRIVILEGED, REFUSED),
];

const FILES: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_newfstatat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_utimensat,
    libc::SYS_utimes,
    libc::SYS_utime,
    libc::SYS_umask,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_memfd_create,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_pipe,
    libc::SYS_close_range,
];

const PROCESSES: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Only its own processes are visible in its pid namespace.
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getattr,
    // A limit can be lowered; nobody here may raise one.
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
    libc::SYS_capget,
    libc::SYS_signalfd,
    libc::SYS_signalfd4,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_alarm,
    libc::SYS_eventfd,
    libc::SYS_epoll_create,
    // Only takes rights away; a process forked from a zygote walls itself in against its siblings with them.
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

/// Within its own network namespace.
const SOCKETS: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_setsockopt,
];

const PROBED: &[c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
];

const ATTRIBUTES: &[c_long] = &[
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

const PRIVILEGED: &[c_long] = &[
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_name_to_handle_at,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_vhangup,
];

const CONDITIONAL: &[(c_long, &[Condition], Verdict)] = &[
    (libc::SYS_clone, NO_NEW_NAMESPACE, REFUSED),
    (
        libc::SYS_socketpair,
        &[Condition::equal(0, libc::AF_UNIX.unsigned_abs())],
        Verdict::Errno(libc::EAFNOSUPPORT),
    ),
];

const AMONG: &[(c_long, u32, &[u32], Verdict)] = &[
    (libc::SYS_socket, 0, FAMILIES, Verdict::Errno(libc::EAFNOSUPPORT)),
    (libc::SYS_fcntl, 1, COMMANDS, Verdict::Errno(libc::EINVAL)),
    (libc::SYS_prctl, 0, CONTROLS, REFUSED),
    (libc::SYS_ioctl, 1, REQUESTS, Verdict::Errno(libc::ENOTTY)),
];

const FAMILIES: &[u32] =
    &[libc::AF_UNIX.unsigned_abs(), libc::AF_INET.unsigned_abs(), libc::AF_INET6.unsigned_abs()];

/// No leases and no signals to others.
const COMMANDS: &[u32] = &[
    libc::F_DUPFD.unsigned_abs(),
    libc::F_DUPFD_CLOEXEC.unsigned_abs(),
    libc::F_GETFD.unsigned_abs(),
    libc::F_SETFD.unsigned_abs(),
    libc::F_GETFL.unsigned_abs(),
    libc::F_SETFL.unsigned_abs(),
    libc::F_GETLK.unsigned_abs(),
    libc::F_SETLK.unsigned_abs(),
    libc::F_SETLKW.unsigned_abs(),
    libc::F_OFD_GETLK.unsigned_abs(),
    libc::F_OFD_SETLK.unsigned_abs(),
    libc::F_OFD_SETLKW.unsigned_abs(),
    libc::F_GET_SEALS.unsigned_abs(),
    libc::F_ADD_SEALS.unsigned_abs(),
    libc::F_GETPIPE_SZ.unsigned_abs(),
    libc::F_SETPIPE_SZ.unsigned_abs(),
];

/// Above all not the death signal, which ties the first process to its node.
const CONTROLS: &[u32] = &[
    libc::PR_SET_NAME.unsigned_abs(),
    libc::PR_GET_NAME.unsigned_abs(),
    libc::PR_SET_VMA.unsigned_abs(),
    libc::PR_GET_DUMPABLE.unsigned_abs(),
    libc::PR_SET_DUMPABLE.unsigned_abs(),
    libc::PR_SET_NO_NEW_PRIVS.unsigned_abs(),
    libc::PR_GET_NO_NEW_PRIVS.unsigned_abs(),
    libc::PR_SET_CHILD_SUBREAPER.unsigned_abs(),
    libc::PR_GET_PDEATHSIG.unsigned_abs(),
    libc::PR_CAPBSET_READ.unsigned_abs(),
    libc::PR_SET_TIMERSLACK.unsigned_abs(),
    libc::PR_GET_TIMERSLACK.unsigned_abs(),
    libc::PR_SET_THP_DISABLE.unsigned_abs(),
];

/// On pipes and sockets. A terminal there is none of.
const REQUESTS: &[u32] = &[FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, FIOASYNC];
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
