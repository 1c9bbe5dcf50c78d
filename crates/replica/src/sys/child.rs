//! What a new process does between its creation and its program: wall itself in, drop every right, execute.
//!
//! Everything here runs in the child of a possibly multi-threaded process. It makes system calls on data that the parent
//! prepared ([`Plan`]) and does nothing else: no allocation, no locks, no panics.
//!
//! ```text
//! parent                                child
//!   write uid and gid maps              join the control groups
//!   ── byte ──────────────────────────▶ become the unprivileged user, arm the death signal
//!   ◀────────────────── Report::Tied ──
//!                                       reset signals, place descriptors, empty root, host name, cores
//!   ◀───────────── a door at a time ──  listen in its own network
//!   ── byte ──────────────────────────▶ limits, capabilities, Landlock
//!   ◀───────────────── Report::Armed ──
//!                                       seccomp, execveat
//!   ◀── end of file (close-on-exec) ───  or Report::Failed at any step
//! ```

// UNSAFETY: descriptors are placed by number and raw system calls are made where no safe wrapper exists.
#![expect(unsafe_code, reason = "dup3, close_range, landlock, seccomp, execveat")]

use std::ffi::{CStr, c_char};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};

use baton_abi::boot::FILES_AT;
use rustix::io::Errno;
use rustix::mount as mnt;
use rustix::process::{self as proc, Resource, Rlimit, Signal};
use rustix::thread::{self, CpuSet};
use rustix::{fs, io, system};

use super::clone::last_errno;
use super::doors;
use super::report::Report;
use super::root::{self, Mounts, RootPlan};
use crate::root::SHOWN_MAX;
use crate::spawn::Step;

/// The status of a child that failed before its program ran. Nobody sees it: the parent gets the report.
const FAILED: i32 = 127;

/// A null-terminated array of C strings that outlives the exec call.
#[derive(Debug)]
pub(crate) struct StringArray<'a> {
    pointers: Vec<*const c_char>,
    strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> StringArray<'a> {
    pub(crate) fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let pointers = strings.map(CStr::as_ptr).chain(std::iter::once(std::ptr::null())).collect();
        Self { pointers, strings: std::marker::PhantomData }
    }
}

/// Everything that the child needs, prepared before it exists.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) control: BorrowedFd<'a>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    /// The child's end of the socket to the parent.
    pub(crate) sync: BorrowedFd<'a>,
    /// The control groups to join, each by the file to which a thread writes 0.
    pub(crate) groups: &'a [BorrowedFd<'a>],
    /// The number that the program's descriptor gets; not less than the process's limit on descriptors, so that the
    /// running program can never hold a descriptor of that number, and the filter's leave to execute it lapses.
    pub(crate) exec_number: RawFd,
    pub(crate) argv: StringArray<'a>,
    pub(crate) envp: StringArray<'a>,
    pub(crate) limits: &'a [(Resource, u64)],
    pub(crate) affinity: Option<CpuSet>,
    pub(crate) identity: Identity,
    /// Where to listen in the process's own network, for the parent.
    pub(crate) doors: &'a [SocketAddrV4],
    /// `None` starts the process without a sandbox.
    pub(crate) walls: Option<Walls<'a>>,
}

/// Whom the child becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The user and group to become; `None` stays who it is.
    pub(crate) id: Option<u32>,
    /// Whether supplementary groups can be dropped: only where the parent was privileged.
    pub(crate) drop_groups: bool,
}

/// The walls of a sandboxed process beside its namespaces.
#[derive(Debug)]
pub(crate) struct Walls<'a> {
    pub(crate) landlock: Option<BorrowedFd<'a>>,
    pub(crate) filter: &'a [libc::sock_filter],
    pub(crate) host_name: &'a [u8],
    /// The directory that the process sees as its files, by its absolute path.
    pub(crate) files: Option<&'a CStr>,
    /// What else it sees.
    pub(crate) root: Option<&'a RootPlan<'a>>,
    /// Whether it has a loopback device.
    pub(crate) loopback: bool,
}

/// A step that failed.
pub(super) struct Fault(Step, Errno);

/// Gives a bare error its step.
pub(super) trait At<T> {
    fn at(self, step: Step) -> Result<T, Fault>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Fault> {
        self.map_err(|errno| Fault(step, errno))
    }
}

/// Runs the child. Returns only if it failed, after it told the parent.
pub(crate) fn run(plan: &Plan<'_>) -> i32 {
    // Until the descriptors are placed, the socket is where the parent had it.
    let mut sync = plan.sync;
    if let Err(Fault(step, errno)) = go(plan, &mut sync) {
        let _ = report(sync, Report::Failed(step, errno));
    }
    FAILED
}

fn go(plan: &Plan<'_>, sync: &mut BorrowedFd<'_>) -> Result<(), Fault> {
    for group in plan.groups {
        // Bounds that the machine does not grant are not missed: resource limits come in any case.
        let _ = io::write(group, b"0");
    }
    wait_for_parent(*sync)?;
    // The node's directories are closed to whom this process becomes.
    let walls = plan.walls.as_ref();
    let detach =
        |walls: &Walls<'_>| walls.files.map(|files| detached(files, walls.root.is_some())).transpose();
    let files = walls.map(detach).transpose()?.flatten();
    let shown = plan.walls.as_ref().and_then(|walls| walls.root);
    let mounts = shown.map_or(Ok(Mounts::NONE), |plan| root::open_mounts(plan.root))?;
    become_nobody(plan.identity)?;
    // The parent's death is signalled by its *thread's* end. Should it be dead already, its word never comes below.
    proc::set_parent_process_death_signal(Some(Signal::KILL)).at(Step::DeathSignal)?;
    report(*sync, Report::Tied)?;
    reset_signals()?;
    proc::setsid().at(Step::Session)?;
    let placed = place_descriptors(plan, files, &mounts)?;
    *sync = placed.sync;
    if let Some(walls) = &plan.walls {
        match walls.root {
            None => empty_root(placed.files)?,
            Some(root) => enter_root(plan, root, &placed)?,
        }
        if walls.loopback {
            root::loopback_up().at(Step::Loopback)?;
        }
        system::sethostname(walls.host_name).at(Step::HostName)?;
        doors::open(*sync, plan.doors).at(Step::Doors)?;
    }
    if let Some(cores) = &plan.affinity {
        thread::sched_setaffinity(None, cores).at(Step::Affinity)?;
    }
    wait_for_parent(*sync)?;
    for &(resource, bound) in plan.limits {
        let limit = Rlimit { current: Some(bound), maximum: Some(bound) };
        proc::setrlimit(resource, limit).at(Step::ResourceLimits)?;
    }
    thread::set_no_new_privs(true).at(Step::NoNewPrivileges)?;
    drop_capabilities(plan.walls.is_some())?;
    if let Some(ruleset) = placed.landlock {
        if let Some(access) = shown.and_then(|plan| plan.access) {
            root::allow(ruleset, access).at(Step::Landlock)?;
        }
        enter_landlock(ruleset).at(Step::Landlock)?;
    }
    report(*sync, Report::Armed)?;
    if let Some(walls) = &plan.walls {
        enter_filter(walls.filter).at(Step::Seccomp)?;
    }
    Err(Fault(Step::Exec, execute(plan)))
}

/// Enters the root, and finds the program there if it has a path.
fn enter_root(plan: &Plan<'_>, root: &RootPlan<'_>, placed: &Placed<'_>) -> Result<(), Fault> {
    let mut mounts = [placed.sync; SHOWN_MAX];
    for (number, slot) in mounts.iter_mut().take(placed.mounts).enumerate() {
        *slot = borrow(placed.first_mount + RawFd::try_from(number).unwrap_or_default());
    }
    root::enter(root, mounts.get(..placed.mounts).unwrap_or_default(), placed.files)?;
    let Some(program) = &root.root.program else { return Ok(()) };
    let found = root::open_program(program).at(Step::OpenProgram)?;
    duplicate_to(found, plan.exec_number, libc::O_CLOEXEC).at(Step::OpenProgram)
}

/// Blocks until the parent says go on; a dead parent never does.
fn wait_for_parent(sync: BorrowedFd<'_>) -> Result<(), Fault> {
    let mut word = [0u8; 1];
    loop {
        match io::read(sync, &mut word) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Fault(Step::Handshake, Errno::PIPE)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fault(Step::Handshake, errno)),
        }
    }
}

fn report(sync: BorrowedFd<'_>, report: Report) -> Result<(), Fault> {
    io::write(sync, &report.encode()).map(drop).at(Step::Handshake)
}

fn become_nobody(identity: Identity) -> Result<(), Fault> {
    if identity.drop_groups {
        thread::set_thread_groups(&[]).at(Step::Groups)?;
    }
    if let Some(id) = identity.id {
        let (user, group) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
        thread::set_thread_res_gid(group, group, group).at(Step::Identity)?;
        thread::set_thread_res_uid(user, user, user).at(Step::Identity)?;
    }
    // Until exec this process holds a copy of the node's memory: no process of the same user may look into it.
    proc::set_dumpable_behavior(proc::DumpableBehavior::NotDumpable).at(Step::Identity)
}

/// Every signal back to its default, none blocked: a program must not inherit what the node ignores.
fn reset_signals() -> Result<(), Fault> {
    /// The kernel's `sigaction`: handler, flags, restorer, mask; all zero is the default action.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let old: *mut u64 = std::ptr::null_mut();
        // SAFETY: `DEFAULT` has the size of the kernel's structure, and a default action runs no code of ours.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), old, MASK_BYTES) };
        check(result).at(Step::Signals)?;
    }
    let (none, old) = ([0u8; MASK_BYTES], std::ptr::null_mut::<u8>());
    // SAFETY: the mask is eight bytes long, as stated, and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, none.as_ptr(), old, MASK_BYTES) };
    check(result).at(Step::Signals)
}

/// The descriptors that the child keeps until exec, at their final numbers.
struct Placed<'a> {
    sync: BorrowedFd<'a>,
    landlock: Option<BorrowedFd<'a>>,
    files: Option<BorrowedFd<'a>>,
    /// The mounts of the root, at numbers one behind the other.
    first_mount: RawFd,
    mounts: usize,
}

/// Puts every descriptor where it belongs and closes all others. The sources may have any numbers, even each other's
/// targets, so all of them move out of the way first.
fn place_descriptors<'a>(
    plan: &Plan<'_>,
    files: Option<BorrowedFd<'_>>,
    mounts: &Mounts,
) -> Result<Placed<'a>, Fault> {
    let high = plan.exec_number;
    let transit = high + 8 + RawFd::try_from(SHOWN_MAX).unwrap_or_default();
    let aside = |fd: BorrowedFd<'_>| duplicate_above(fd.as_raw_fd(), transit).at(Step::Descriptors);
    let stdin = aside(plan.stdin)?;
    let stdout = aside(plan.stdout)?;
    let stderr = aside(plan.stderr)?;
    let control = aside(plan.control)?;
    let program = aside(plan.program)?;
    let sync = aside(plan.sync)?;
    let landlock = plan.walls.as_ref().and_then(|walls| walls.landlock).map(aside).transpose()?;
    let files = files.map(aside).transpose()?;
    let mut shown = *mounts;
    for fd in shown.fds.iter_mut().take(mounts.count) {
        *fd = duplicate_above(*fd, transit).at(Step::Descriptors)?;
    }

    for (from, to) in [(stdin, 0), (stdout, 1), (stderr, 2), (control, 3)] {
        duplicate_to(from, to, 0).at(Step::Descriptors)?;
    }
    duplicate_to(program, high, libc::O_CLOEXEC).at(Step::Descriptors)?;
    duplicate_to(sync, high + 1, libc::O_CLOEXEC).at(Step::Descriptors)?;
    let mut last = high + 1;
    let mut keep = |fd: RawFd| {
        last += 1;
        duplicate_to(fd, last, libc::O_CLOEXEC).at(Step::Descriptors)?;
        Ok(borrow(last))
    };
    let landlock = landlock.map(&mut keep).transpose()?;
    let files = files.map(&mut keep).transpose()?;
    let first_mount = last + 1;
    for fd in shown.fds.iter().take(mounts.count) {
        last += 1;
        duplicate_to(*fd, last, libc::O_CLOEXEC).at(Step::Descriptors)?;
    }
    close_range(4, high.unsigned_abs() - 1).at(Step::CloseOthers)?;
    close_range(last.unsigned_abs() + 1, u32::MAX).at(Step::CloseOthers)?;
    Ok(Placed { sync: borrow(high + 1), landlock, files, first_mount, mounts: mounts.count })
}

/// A descriptor that this process keeps open until it execs or exits.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the callers have just placed this number, it is not -1, and nothing closes it before exec.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn duplicate_above(fd: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: duplicating to a free number takes no memory and closes nothing.
    let result = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn duplicate_to(from: RawFd, to: RawFd, flags: i32) -> Result<(), Errno> {
    // SAFETY: the target is a number of this single-threaded process in which no owned descriptor is used any more.
    let result = unsafe { libc::dup3(from, to, flags) };
    check(result.into())
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the parent's descriptors in this copy of its table are not used any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(result)
}

/// Replaces the file system by an empty read-only one, and lets go of the old one.
pub(crate) fn empty_root_alone() -> Result<(), Errno> {
    empty_root(None).map_err(|Fault(_, errno)| errno)
}

/// A mount of a directory that hangs nowhere yet, hears of no other mounts, and shows its files to be read only, or executed too.
fn detached<'a>(path: &CStr, has_programs: bool) -> Result<BorrowedFd<'a>, Fault> {
    let flags = mnt::OpenTreeFlags::OPEN_TREE_CLONE | mnt::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = mnt::open_tree(fs::CWD, path, flags).at(Step::OpenFiles)?;
    let runs = mnt::MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let attributes = if has_programs { CLOSED.difference(runs) } else { CLOSED };
    restrict_to(tree.as_fd(), attributes).at(Step::ShowFiles)?;
    // Its number is given to another when descriptors are placed: nobody may close it as if it were still this.
    Ok(borrow(tree.into_raw_fd()))
}

/// Takes every right from a mount but that to read.
fn restrict(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    restrict_to(mount, CLOSED)
}

fn restrict_to(mount: BorrowedFd<'_>, set: mnt::MountAttrFlags) -> Result<(), Errno> {
    let set = u64::from(set.bits());
    // The kernel's `mount_attr`: what to set, what to clear, propagation, user namespace.
    let attributes: [u64; 4] = [set, 0, libc::MS_PRIVATE, 0];
    // SAFETY: the call reads a path that ends with a zero, and as many bytes of attributes as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result)
}

/// What may be done below a mount: nothing but reading.
const CLOSED: mnt::MountAttrFlags = mnt::MountAttrFlags::MOUNT_ATTR_RDONLY
    .union(mnt::MountAttrFlags::MOUNT_ATTR_NOSUID)
    .union(mnt::MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(mnt::MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// The root has at most one thing in it: the directory on which `files` is mounted.
fn empty_root(files: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
    let private = mnt::MountPropagationFlags::PRIVATE | mnt::MountPropagationFlags::REC;
    mnt::mount_change(c"/", private).at(Step::MountPrivate)?;
    let context = mnt::fsopen(c"tmpfs", mnt::FsOpenFlags::FSOPEN_CLOEXEC).at(Step::MountRoot)?;
    let inodes = if files.is_some() { c"3" } else { c"2" };
    for (key, value) in [(c"size", c"4k"), (c"nr_inodes", inodes), (c"mode", c"0555")] {
        mnt::fsconfig_set_string(&context, key, value).at(Step::MountRoot)?;
    }
    mnt::fsconfig_create(&context).at(Step::MountRoot)?;
    // Closed to writing once the directory is there.
    let writable = mnt::MountAttrFlags::MOUNT_ATTR_RDONLY;
    let attributes = if files.is_some() { CLOSED.difference(writable) } else { CLOSED };
    let root = mnt::fsmount(&context, mnt::FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(Step::MountRoot)?;
    if files.is_some() {
        let name = relative(FILES_AT);
        fs::mkdirat(&root, name, fs::Mode::from_raw_mode(0o555)).at(Step::ShowFiles)?;
        restrict(root.as_fd()).at(Step::ShowFiles)?;
    }
    let by_descriptor = mnt::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mnt::move_mount(&root, c"", fs::CWD, c"/", by_descriptor).at(Step::MountAttach)?;
    proc::fchdir(&root).at(Step::PivotRoot)?;
    // The old root ends up stacked on the new one, where the next call detaches it with all that hangs on it.
    proc::pivot_root(c".", c".").at(Step::PivotRoot)?;
    mnt::unmount(c".", mnt::UnmountFlags::DETACH).at(Step::UnmountOld)?;
    proc::chdir(c"/").at(Step::UnmountOld)?;
    match files {
        Some(files) => mnt::move_mount(files, c"", fs::CWD, FILES_AT, by_descriptor).at(Step::ShowFiles),
        None => Ok(()),
    }
}

/// An absolute path, seen from the root.
pub(super) fn relative(path: &CStr) -> &CStr {
    // What is behind the first byte ends with the same zero.
    CStr::from_bytes_with_nul(path.to_bytes_with_nul().get(1..).unwrap_or_default()).unwrap_or(path)
}

fn drop_capabilities(privileged: bool) -> Result<(), Fault> {
    /// No kernel has more; the first one that it does not know ends the loop.
    const CAPABILITIES_MAX: u64 = 64;
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: this control takes one number and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0u64, 0u64, 0u64) };
        match check(result.into()) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            // Without a sandbox and without privileges there is nothing to drop.
            Err(Errno::PERM) if !privileged => break,
            Err(errno) => return Err(Fault(Step::Capabilities, errno)),
        }
    }
    thread::clear_ambient_capability_set().at(Step::Capabilities)?;
    let none = thread::CapabilitySets {
        effective: thread::CapabilitySet::empty(),
        permitted: thread::CapabilitySet::empty(),
        inheritable: thread::CapabilitySet::empty(),
    };
    thread::set_capabilities(None, none).at(Step::Capabilities)
}

fn enter_landlock(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and flags, and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(result)
}

fn enter_filter(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::TOOBIG)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel reads a copy and checks it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result)
}

/// Executes the program; returns only if that failed.
fn execute(plan: &Plan<'_>) -> Errno {
    // SAFETY: both arrays end with a null pointer and their strings are borrowed by the plan; on success all of it is
    // replaced, on failure nothing has changed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            plan.exec_number,
            c"".as_ptr(),
            plan.argv.pointers.as_ptr(),
            plan.envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::NOEXEC)
}

pub(super) fn check(result: libc::c_long) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}
