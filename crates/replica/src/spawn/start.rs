//! The parent's side of starting a process: prepare, create, map users, listen.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, getegid, geteuid};
use rustix::thread::CpuSet;

use super::cgroup::Group;
use super::{Child, SpawnError, Step, filter, walls};
use crate::sandbox::{Limits, NetworkAccess, Role, SpawnSpec};
use crate::sys::child::{self, Identity, Plan, StringArray, Walls};
use crate::sys::clone::{NAMESPACES, clone_child};
use crate::sys::doors::{self, NoDoor};
use crate::sys::report::Report;
use crate::sys::root::RootPlan;
use crate::turns;

/// The user and group that the process believes to be.
const INSIDE_ID: u32 = 1000;

/// The user and group that the process is outside, where the node may choose: `nobody`.
const OUTSIDE_ID: u32 = 65534;

/// Address space beyond what is counted: program text, stack, vDSO.
const ADDRESS_SPACE_SLACK: u64 = 64 << 20;

/// Private memory beyond what is counted, for the stacks of an interpreter's threads: reserved, and hardly ever touched.
const STACKS_SLACK: u64 = 256 << 20;

/// Bytes of `/tmp` for each file there may be in it.
const BYTES_PER_INODE: u64 = 4096;

/// The least number of descriptors: the four that a process starts with and some to receive its mappings.
const FILES_MIN: u32 = 16;

/// How long the child may take for any one step. All of them are quick system calls.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest host name that the kernel takes.
const HOST_NAME_MAX: usize = 64;

pub(super) fn start(spec: &SpawnSpec) -> Result<Child, SpawnError> {
    let sandboxed = !spec.insecure_no_sandbox;
    let (ours, theirs) = sync_sockets().map_err(|errno| SpawnError::at(Step::Prepare, errno))?;
    let stdin = openat(CWD, c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SpawnError::at(Step::Prepare, errno))?;
    let exec_number = RawFd::try_from(spec.limits.files.max(FILES_MIN))
        .map_err(|_| SpawnError::at(Step::Descriptors, Errno::INVAL))?;
    let privileged = geteuid().is_root();
    let filter = match spec.role {
        Role::Replica => filter::replica(exec_number, spec.files.is_some()),
        Role::Template => filter::template(exec_number),
        Role::Program { .. } => filter::program(exec_number),
    };
    let (landlock, access) = match (&spec.root, sandboxed) {
        (_, false) => (None, None),
        (None, true) => (walls::landlock(spec.program.as_fd(), spec.files.as_deref())?, None),
        (Some(root), true) => walls::program(root.program.is_none().then_some(spec.program.as_fd()))?,
    };
    let root = spec.root.as_ref().map(|root| RootPlan { root, tmp: tmp_options(root.tmp_bytes), access });
    let host_name = host_name(&spec.name);
    let limits = resource_limits(spec);
    let mut group = Group::create(&spec.name, &group_limits(spec));
    let tasks = group.tasks();
    let plan = Plan {
        program: spec.program.as_fd(),
        control: spec.control.as_fd(),
        stdin: stdin.as_fd(),
        stdout: spec.stdout.as_fd(),
        stderr: spec.stderr.as_fd(),
        sync: theirs.as_fd(),
        groups: &tasks,
        exec_number,
        argv: StringArray::new(spec.args.iter().map(AsRef::as_ref)),
        envp: StringArray::new(spec.env.iter().map(AsRef::as_ref)),
        limits: &limits,
        affinity: affinity(&spec.cores),
        identity: identity(sandboxed, privileged),
        doors: &spec.doors,
        walls: sandboxed.then(|| Walls {
            landlock: landlock.as_ref().map(AsFd::as_fd),
            filter: &filter,
            files: spec.files.as_deref(),
            root: root.as_ref(),
            loopback: spec.network == NetworkAccess::Loopback,
            host_name: host_name.as_bytes(),
        }),
    };
    let namespaces = if sandboxed { NAMESPACES } else { 0 };
    let begin = || {
        turns::shorten_for_replicas();
        child::run(&plan)
    };
    let (pid, pidfd) = clone_child(namespaces, group.birthplace(), &begin)
        .map_err(|errno| creation_error(sandboxed, errno))?;
    drop(plan);
    drop(tasks);
    drop(theirs);
    group.close_entrances();
    // From here on, leaving this function early kills the child and waits for it.
    let child = Child { pid, pidfd, group: Some(group), ended: None, doors: RefCell::default() };
    accompany(&child, spec, ours.as_fd(), privileged)?;
    Ok(child)
}

/// A size and a number of files, as a tmpfs takes them.
fn tmp_options(bytes: u64) -> [CString; 2] {
    let text = |number: u64| CString::new(number.to_string()).unwrap_or_default();
    [text(bytes), text((bytes / BYTES_PER_INODE).max(64))]
}

/// Without a sandbox, a refusal has nothing to do with namespaces.
fn creation_error(sandboxed: bool, errno: Errno) -> SpawnError {
    if sandboxed {
        SpawnError::at(Step::Clone, errno)
    } else {
        SpawnError::Resources { step: Step::Clone, errno }
    }
}

/// Leads the child through its steps until it has executed its program.
fn accompany(
    child: &Child,
    spec: &SpawnSpec,
    sync: BorrowedFd<'_>,
    privileged: bool,
) -> Result<(), SpawnError> {
    if !spec.insecure_no_sandbox {
        map_identity(child.pid, privileged)?;
    }
    go_on(sync)?;
    expect(sync, Report::Tied)?;
    go_on(sync)?;
    // Without a sandbox the process is in the node's own network, where nothing is opened for it.
    if !spec.insecure_no_sandbox {
        let doors: Result<Vec<_>, _> = spec.doors.iter().map(|_| door(sync)).collect();
        child.doors.replace(doors?);
    }
    expect(sync, Report::Armed)?;
    match next_report(sync)? {
        None => Ok(()),
        Some(Report::Failed(step, errno)) => Err(SpawnError::at(step, errno)),
        Some(_) => Err(SpawnError::Died),
    }
}

/// Reads reports until the wanted one. An early end means that the child died without a word.
fn expect(sync: BorrowedFd<'_>, wanted: Report) -> Result<(), SpawnError> {
    match next_report(sync)? {
        Some(report) if report == wanted => Ok(()),
        Some(Report::Failed(step, errno)) => Err(SpawnError::at(step, errno)),
        Some(_) | None => Err(SpawnError::Died),
    }
}

/// The child's next door.
fn door(sync: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    doors::receive(sync).map_err(|none| match none {
        NoDoor::Report(Report::Failed(step, errno)) => SpawnError::at(step, errno),
        NoDoor::Report(_) => SpawnError::Died,
        NoDoor::Broken(errno) => SpawnError::at(Step::Handshake, errno),
    })
}

/// The child's next word; `None` once it has closed its end.
fn next_report(sync: BorrowedFd<'_>) -> Result<Option<Report>, SpawnError> {
    let mut bytes = [0u8; Report::BYTES];
    loop {
        match io::read(sync, &mut bytes) {
            Ok(0) | Err(Errno::CONNRESET) => return Ok(None),
            Ok(_) => return Report::decode(bytes).map(Some).ok_or(SpawnError::Died),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SpawnError::at(Step::Handshake, errno)),
        }
    }
}

/// Tells the child to go on. If it has died meanwhile, its report says why, so that is not an error here.
fn go_on(sync: BorrowedFd<'_>) -> Result<(), SpawnError> {
    match rustix::net::send(sync, &[1], rustix::net::SendFlags::NOSIGNAL) {
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(SpawnError::at(Step::Handshake, errno)),
    }
}

fn sync_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&ours, Timeout::Recv, Some(STEP_TIMEOUT))?;
    Ok((ours, theirs))
}

/// Maps one user and one group: `nobody` outside if the node may say so, else the node's own.
fn map_identity(pid: Pid, privileged: bool) -> Result<(), SpawnError> {
    let (user, group) =
        if privileged { (OUTSIDE_ID, OUTSIDE_ID) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let file = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
    if !privileged {
        // The kernel demands this of an unprivileged writer. A privileged one leaves it out, since the child then can
        // and does drop its supplementary groups.
        write(&file("setgroups"), "deny", Step::GroupMap)?;
    }
    write(&file("gid_map"), &format!("{INSIDE_ID} {group} 1\n"), Step::GroupMap)?;
    write(&file("uid_map"), &format!("{INSIDE_ID} {user} 1\n"), Step::UserMap)
}

fn write(path: &str, text: &str, step: Step) -> Result<(), SpawnError> {
    fs::write(path, text)
        .map_err(|error| SpawnError::at(step, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// Whom the child becomes. A privileged node never runs a function as itself, sandbox or not.
fn identity(sandboxed: bool, privileged: bool) -> Identity {
    let id = match (sandboxed, privileged) {
        (true, _) => Some(INSIDE_ID),
        (false, true) => Some(OUTSIDE_ID),
        (false, false) => None,
    };
    Identity { id, drop_groups: privileged }
}

/// The bounds of the control group: a template and its cells live in one.
fn group_limits(spec: &SpawnSpec) -> Limits {
    let limits = spec.limits;
    let processes = match spec.role {
        Role::Replica => 1,
        Role::Template => u64::from(limits.processes.max(1)),
        Role::Program { copies } => {
            let copies = copies.max(1);
            let memory_bytes = limits.memory_bytes.saturating_mul(u64::from(copies));
            return Limits { memory_bytes, processes: limits.processes.saturating_mul(copies), ..limits };
        }
    };
    Limits { memory_bytes: limits.memory_bytes.saturating_mul(processes), ..limits }
}

fn resource_limits(spec: &SpawnSpec) -> Vec<(Resource, u64)> {
    let limits = &spec.limits;
    let address_space =
        limits.memory_bytes.saturating_add(limits.mapped_bytes).saturating_add(ADDRESS_SPACE_SLACK);
    let mut bounds = match spec.role {
        Role::Replica => vec![(Resource::As, address_space), (Resource::Fsize, 0)],
        // Its only files are memory files, for snapshots.
        Role::Template => vec![(Resource::Fsize, limits.memory_bytes)],
        // Address space is reserved by the gigabyte. Files are in memory: those below `/tmp`.
        Role::Program { .. } => vec![(Resource::Fsize, limits.memory_bytes)],
    };
    let (data, processes) = match spec.role {
        Role::Program { copies } => {
            (limits.memory_bytes.saturating_add(STACKS_SLACK), limits.processes.saturating_mul(copies.max(1)))
        }
        _ => (limits.memory_bytes, limits.processes),
    };
    bounds.extend([
        (Resource::Data, data),
        (Resource::Nofile, u64::from(limits.files.max(FILES_MIN))),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ]);
    // Counted per user: inside a user namespace that is this process alone, outside it is everybody's business.
    if !spec.insecure_no_sandbox {
        bounds.push((Resource::Nproc, u64::from(processes.max(1))));
    }
    bounds
}

/// The set of cores; cores beyond what a set can hold are left out. `None` means all.
fn affinity(cores: &[usize]) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    (set.count() > 0).then_some(set)
}

/// The name as a host name: letters, digits, dots and dashes.
fn host_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    name.chars().take(HOST_NAME_MAX).map(plain).collect()
}
