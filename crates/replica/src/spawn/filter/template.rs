//! Which system calls a template and its cells may make until they wall themselves in further.
//!
//! More than a replica: a template forks cells, makes snapshots, and tags memory with keys; its code is ours, and guests
//! in it cannot make system calls at all. So this list holds what setting a cell up takes. A cell's own filter, installed
//! before it serves its first request, leaves a small part of it.

use libc::c_long;

use super::Rules;
use super::assembler::{Condition, Verdict};
use super::calls::{
    ABSENT_FILES, ALWAYS, DENIED_FILES, DESCRIPTOR_ITSELF, HOSTILE, NO_NEW_NAMESPACE, NO_SOCKETS,
};

/// The rules of a template.
pub(super) const RULES: Rules =
    Rules { lists: LISTS, conditional: &[CONDITIONAL], among: AMONG, executes: false, otherwise: REFUSED };

const REFUSED: Verdict = Verdict::Errno(libc::EPERM);

const LISTS: &[(&[c_long], Verdict)] = &[
    (ALWAYS, Verdict::Allow),
    (SET_UP, Verdict::Allow),
    (ABSENT_FILES, Verdict::Errno(libc::ENOENT)),
    (DENIED_FILES, Verdict::Errno(libc::EACCES)),
    (NO_SOCKETS, Verdict::Errno(libc::EACCES)),
    (HOSTILE, Verdict::Kill),
];

const SET_UP: &[c_long] = &[
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_mprotect,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mseal,
    libc::SYS_seccomp,
    libc::SYS_fork,
    // Its flags are in memory, where a filter cannot see them. A template has no rights that a namespace would widen beyond
    // the sandbox that it is in, and cells lose this call before they serve.
    libc::SYS_clone3,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pidfd_open,
    // Only its own cells are visible in its pid namespace.
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_delete,
    libc::SYS_setitimer,
    libc::SYS_sched_setaffinity,
    libc::SYS_close_range,
    // A limit can be lowered; nobody here may raise one.
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
];

const CONDITIONAL: &[(c_long, &[Condition], Verdict)] = &[
    (libc::SYS_clone, NO_NEW_NAMESPACE, REFUSED),
    (libc::SYS_newfstatat, DESCRIPTOR_ITSELF, Verdict::Errno(libc::ENOENT)),
];

const AMONG: &[(c_long, u32, &[u32], Verdict)] = &[
    (libc::SYS_fcntl, 1, COMMANDS, REFUSED),
    (libc::SYS_prctl, 0, CONTROLS, REFUSED),
    (libc::SYS_ioctl, 1, &[FIONBIO, PAGEMAP_SCAN], Verdict::Errno(libc::ENOTTY)),
];

/// What a replica may ask of its descriptors, and to seal a memory file.
const COMMANDS: &[u32] = &[
    libc::F_DUPFD.unsigned_abs(),
    libc::F_DUPFD_CLOEXEC.unsigned_abs(),
    libc::F_GETFD.unsigned_abs(),
    libc::F_SETFD.unsigned_abs(),
    libc::F_GETFL.unsigned_abs(),
    libc::F_SETFL.unsigned_abs(),
    libc::F_GET_SEALS.unsigned_abs(),
    libc::F_ADD_SEALS.unsigned_abs(),
];

const PR_SET_SYSCALL_USER_DISPATCH: u32 = 59;

const CONTROLS: &[u32] = &[
    libc::PR_SET_NAME.unsigned_abs(),
    libc::PR_GET_NAME.unsigned_abs(),
    libc::PR_SET_VMA.unsigned_abs(),
    libc::PR_SET_PDEATHSIG.unsigned_abs(),
    libc::PR_SET_NO_NEW_PRIVS.unsigned_abs(),
    libc::PR_SET_SECCOMP.unsigned_abs(),
    libc::PR_SET_DUMPABLE.unsigned_abs(),
    libc::PR_SET_THP_DISABLE.unsigned_abs(),
    libc::PR_SET_TIMERSLACK.unsigned_abs(),
    PR_SET_SYSCALL_USER_DISPATCH,
];

const FIONBIO: u32 = 0x5421;

/// `_IOWR('f', 16, struct pm_scan_arg)`: which pages of a process were written.
const PAGEMAP_SCAN: u32 = 0xc060_6610;
