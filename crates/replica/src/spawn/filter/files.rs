//! What a replica that has files to read may do beside what all may: open, look and list, and nothing that would change
//! anything. Which files there are is for the mounts and Landlock to say; that they cannot be changed is said by these too.

use libc::c_long;

use super::Rules;
use super::assembler::{Condition, Verdict};
use super::calls::{ALWAYS, AMONG, CONDITIONAL, HOSTILE, NO_SOCKETS, NOT_A_TERMINAL, UNKNOWN};

/// The rules of a replica with files.
pub(super) const RULES: Rules = Rules {
    lists: LISTS,
    conditional: &[OPENING, CONDITIONAL],
    among: AMONG,
    executes: false,
    otherwise: Verdict::Errno(libc::EPERM),
};

const READ_ONLY: Verdict = Verdict::Errno(libc::EROFS);

const LISTS: &[(&[c_long], Verdict)] = &[
    (ALWAYS, Verdict::Allow),
    (READING, Verdict::Allow),
    (CHANGING, READ_ONLY),
    // Everything is relative to the root, as in a compartment.
    (&[libc::SYS_chdir, libc::SYS_openat2], Verdict::Errno(libc::EACCES)),
    (&[libc::SYS_statfs], Verdict::Errno(libc::ENOENT)),
    (NO_SOCKETS, Verdict::Errno(libc::EACCES)),
    (NOT_A_TERMINAL, Verdict::Errno(libc::ENOTTY)),
    (UNKNOWN, Verdict::Errno(libc::ENOSYS)),
    (HOSTILE, Verdict::Kill),
    (&[libc::SYS_seccomp], Verdict::Kill),
];

const READING: &[c_long] = &[
    libc::SYS_newfstatat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_fadvise64,
];

const CHANGING: &[c_long] = &[
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_utimensat,
];

/// To read, and to make nothing.
const fn to_read(argument: u32) -> Condition {
    let changing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    Condition { half: Condition::low(argument), mask: changing.unsigned_abs(), value: 0 }
}

const OPENING: &[(c_long, &[Condition], Verdict)] =
    &[(libc::SYS_open, &[to_read(1)], READ_ONLY), (libc::SYS_openat, &[to_read(2)], READ_ONLY)];
