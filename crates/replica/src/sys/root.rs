//! Building the root of a program in a language of its own, from inside the new process: see [`crate::root`].
//!
//! System calls on prepared data and nothing else, as in [`super::child`].

// UNSAFETY: mounts, a socket's flags and Landlock rules are made by system calls that have no safe wrapper.
#![expect(unsafe_code, reason = "mount_setattr, landlock_add_rule, SIOCSIFFLAGS")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::mount as mnt;
use rustix::process as proc;

use super::child::{At, Fault, check, relative};
use crate::root::{Root, SHOWN_MAX, Shown};
use crate::spawn::Step;

/// A root, and what was worked out before the process was there.
#[derive(Debug)]
pub(crate) struct RootPlan<'a> {
    pub(crate) root: &'a Root,
    /// Options of the mount at `/tmp`: its size in bytes, its files.
    pub(crate) tmp: [std::ffi::CString; 2],
    /// What Landlock lets it do below `/`, `/tmp` and `/dev`; none where the kernel has no Landlock.
    pub(crate) access: Option<Access>,
}

/// Rights of Landlock, as the kernel's bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) root: u64,
    pub(crate) tmp: u64,
    pub(crate) devices: u64,
}

/// Mounts that hang nowhere yet, in the order of what is shown. They are closed by whoever closes all others.
#[derive(Clone, Copy)]
pub(super) struct Mounts {
    pub(super) fds: [RawFd; SHOWN_MAX],
    pub(super) count: usize,
}

impl Mounts {
    pub(super) const NONE: Mounts = Mounts { fds: [-1; SHOWN_MAX], count: 0 };
}

const READ_ONLY: mnt::MountAttrFlags =
    mnt::MountAttrFlags::MOUNT_ATTR_RDONLY.union(mnt::MountAttrFlags::MOUNT_ATTR_NOSUID);

/// Opens everything that is shown, with the rights of the node.
pub(super) fn open_mounts(root: &Root) -> Result<Mounts, Fault> {
    let mut mounts = Mounts::NONE;
    for (slot, shown) in mounts.fds.iter_mut().zip(&root.shown) {
        let mount = open_one(shown).at(Step::OpenRoot)?;
        *slot = mount.into_raw_fd();
        mounts.count += 1;
    }
    Ok(mounts)
}

fn open_one(shown: &Shown) -> Result<OwnedFd, Errno> {
    let flags = mnt::OpenTreeFlags::OPEN_TREE_CLONE
        | mnt::OpenTreeFlags::OPEN_TREE_CLOEXEC
        | mnt::OpenTreeFlags::AT_RECURSIVE;
    let mount = mnt::open_tree(fs::CWD, shown.from.as_c_str(), flags)?;
    let more = if shown.is_device {
        mnt::MountAttrFlags::MOUNT_ATTR_NOEXEC
    } else {
        mnt::MountAttrFlags::MOUNT_ATTR_NODEV
    };
    restrict(mount.as_fd(), READ_ONLY.union(more))?;
    Ok(mount)
}

fn restrict(mount: BorrowedFd<'_>, set: mnt::MountAttrFlags) -> Result<(), Errno> {
    // The kernel's `mount_attr`: what to set, what to clear, propagation, user namespace.
    let attributes: [u64; 4] = [u64::from(set.bits()), 0, libc::MS_PRIVATE, 0];
    // SAFETY: the call reads a path that ends with a zero, and as many bytes of attributes as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result)
}

/// Replaces the file system by the planned root, and lets go of the old one. `mounts` are those of [`open_mounts`], at their
/// final numbers; `files` is the mount of the function's files.
pub(super) fn enter(
    plan: &RootPlan<'_>,
    mounts: &[BorrowedFd<'_>],
    files: Option<BorrowedFd<'_>>,
) -> Result<(), Fault> {
    let private = mnt::MountPropagationFlags::PRIVATE | mnt::MountPropagationFlags::REC;
    mnt::mount_change(c"/", private).at(Step::MountPrivate)?;
    let options = [(c"size", c"1m"), (c"nr_inodes", c"1k"), (c"mode", c"0555")];
    let hard = READ_ONLY.union(mnt::MountAttrFlags::MOUNT_ATTR_NODEV);
    let root = tmpfs(&options, hard.difference(mnt::MountAttrFlags::MOUNT_ATTR_RDONLY))?;
    let [bytes, inodes] = &plan.tmp;
    let options = [(c"size", bytes.as_c_str()), (c"nr_inodes", inodes.as_c_str()), (c"mode", c"1777")];
    let tmp = tmpfs(&options, hard.difference(mnt::MountAttrFlags::MOUNT_ATTR_RDONLY))?;
    // Only a process that still sees a whole one may make one: so now, and not below.
    let proc_files = process_files().ok();
    furnish(plan.root, root.as_fd(), tmp.as_fd())?;
    let by_descriptor = mnt::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mnt::move_mount(&root, c"", fs::CWD, c"/", by_descriptor).at(Step::MountAttach)?;
    proc::fchdir(&root).at(Step::PivotRoot)?;
    // The old root ends up stacked on the new one, where the next call detaches it with all that hangs on it.
    proc::pivot_root(c".", c".").at(Step::PivotRoot)?;
    mnt::unmount(c".", mnt::UnmountFlags::DETACH).at(Step::UnmountOld)?;
    proc::chdir(c"/").at(Step::UnmountOld)?;
    let hang = |mount: BorrowedFd<'_>, at: &CStr| {
        mnt::move_mount(mount, c"", fs::CWD, at, by_descriptor).at(Step::ShowRoot)
    };
    // Before what is shown: that may lie below it.
    hang(tmp.as_fd(), c"/tmp")?;
    for (mount, shown) in mounts.iter().zip(&plan.root.shown) {
        hang(*mount, &shown.at)?;
    }
    if let Some(proc_files) = &proc_files {
        hang(proc_files.as_fd(), c"/proc")?;
    }
    if let Some(files) = files {
        hang(files, baton_abi::boot::FILES_AT)?;
    }
    // Not what hangs below it, which has its own attributes.
    let attributes: [u64; 4] = [u64::from(hard.bits()), 0, libc::MS_PRIVATE, 0];
    // SAFETY: the call reads a path that ends with a zero, and as many bytes of attributes as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            root.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result).at(Step::ShowRoot)?;
    proc::chdir(plan.root.start_in.as_c_str()).at(Step::ShowRoot)
}

fn tmpfs(options: &[(&CStr, &CStr)], attributes: mnt::MountAttrFlags) -> Result<OwnedFd, Fault> {
    let context = mnt::fsopen(c"tmpfs", mnt::FsOpenFlags::FSOPEN_CLOEXEC).at(Step::MountRoot)?;
    for (key, value) in options {
        mnt::fsconfig_set_string(&context, *key, *value).at(Step::MountRoot)?;
    }
    mnt::fsconfig_create(&context).at(Step::MountRoot)?;
    mnt::fsmount(&context, mnt::FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(Step::MountRoot)
}

/// The process's own processes, those that it may look into, and nothing of the machine. Some containers do not let one make it.
fn process_files() -> Result<OwnedFd, Errno> {
    let context = mnt::fsopen(c"proc", mnt::FsOpenFlags::FSOPEN_CLOEXEC)?;
    mnt::fsconfig_set_string(&context, c"subset", c"pid")?;
    mnt::fsconfig_set_string(&context, c"hidepid", c"ptraceable")?;
    mnt::fsconfig_create(&context)?;
    let attributes = mnt::MountAttrFlags::MOUNT_ATTR_NOSUID
        .union(mnt::MountAttrFlags::MOUNT_ATTR_NODEV)
        .union(mnt::MountAttrFlags::MOUNT_ATTR_NOEXEC);
    mnt::fsmount(&context, mnt::FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Directories, files and links of the root's own.
fn furnish(root: &Root, at: BorrowedFd<'_>, tmp: BorrowedFd<'_>) -> Result<(), Fault> {
    let place = |path| below_tmp(path).map_or((at, relative(path)), |path| (tmp, path));
    for directory in &root.directories {
        let (at, path) = place(directory);
        fs::mkdirat(at, path, Mode::from_raw_mode(0o555)).at(Step::FurnishRoot)?;
    }
    for (path, content) in &root.files {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let (at, path) = place(path);
        let file = fs::openat(at, path, flags, Mode::from_raw_mode(0o444)).at(Step::FurnishRoot)?;
        if !content.is_empty() {
            io::write(&file, content).at(Step::FurnishRoot)?;
        }
    }
    for (path, target) in &root.links {
        fs::symlinkat(target.as_c_str(), at, relative(path)).at(Step::FurnishRoot)?;
    }
    Ok(())
}

/// The rest of a path behind `/tmp/`, which is a mount of its own.
fn below_tmp(path: &CStr) -> Option<&CStr> {
    let rest = path.to_bytes_with_nul().strip_prefix(b"/tmp/")?;
    CStr::from_bytes_with_nul(rest).ok()
}

/// Lets Landlock's rules say the same as the mounts.
pub(super) fn allow(ruleset: BorrowedFd<'_>, access: Access) -> Result<(), Errno> {
    for (path, rights) in [(c"/", access.root), (c"/tmp", access.tmp), (c"/dev", access.devices)] {
        let directory =
            fs::openat(fs::CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        add_rule(ruleset, directory.as_fd(), rights)?;
    }
    Ok(())
}

fn add_rule(ruleset: BorrowedFd<'_>, directory: BorrowedFd<'_>, rights: u64) -> Result<(), Errno> {
    /// The kernel's `landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        directory: i32,
    }
    /// `LANDLOCK_RULE_PATH_BENEATH`.
    const PATH_BENEATH: i32 = 1;
    let rule = PathBeneath { rights, directory: directory.as_raw_fd() };
    // SAFETY: the rule has the kernel's layout and outlives the call, which only reads it.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0)
    };
    check(result)
}

/// Switches the loopback device of the process's own network namespace on.
pub(super) fn loopback_up() -> Result<(), Errno> {
    // SAFETY: takes numbers and makes a descriptor.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket.into())?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: a structure of numbers and an array; all zero is a value of it.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (slot, letter) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *slot = letter.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the request has the kernel's layout and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into())
}

/// Opens the program inside, to be executed by descriptor as others are.
pub(super) fn open_program(path: &CStr) -> Result<RawFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(fs::openat(fs::CWD, path, flags, Mode::empty())?.into_raw_fd())
}
