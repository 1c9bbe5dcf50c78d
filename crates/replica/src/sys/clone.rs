//! Creating a child process that shares nothing with the node but a copy of its memory.
//!
//! The node may have other threads: the child has a copy of whatever they held at that moment (an allocator's lock, say)
//! and none of the threads that would let go of it. So the child's body runs system calls on prepared data and
//! nothing else, and never returns into the code around it.

// UNSAFETY: a process is created below the standard library, whose own way runs in the parent's namespaces.
#![expect(unsafe_code, reason = "clone3 has no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// The namespaces of a sandboxed process.
pub(crate) const NAMESPACES: u64 = USER_NAMESPACE
    | (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
        as u64;

/// The namespace that makes all others possible without privileges.
pub(crate) const USER_NAMESPACE: u64 = libc::CLONE_NEWUSER as u64;

/// `CLONE_CLEAR_SIGHAND`: no handler of the node ever runs in the child. Only clone3 knows it.
const CLEAR_HANDLERS: u64 = 1 << 32;

/// `CLONE_INTO_CGROUP`: the child starts in another control group (version 2) than its parent's.
const INTO_GROUP: u64 = 1 << 33;

/// Creates a child with the given namespaces, in the given control group if the kernel permits, runs `body` in it and ends it with the status that `body` returns.
///
/// `body` must only make system calls on data that exists already: no allocation, no locks, no panics.
pub(crate) fn clone_child(
    namespaces: u64,
    group: Option<BorrowedFd<'_>>,
    body: &dyn Fn() -> i32,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    let created = match clone3(namespaces, group, &mut pidfd) {
        Err(_) if group.is_some() => clone3(namespaces, None, &mut pidfd),
        other => other,
    };
    let pid = match created {
        // Container profiles answer so, to make callers use the older call, whose flags they can see.
        Err(Errno::NOSYS) => clone_before_3(namespaces, &mut pidfd)?,
        other => other?,
    };
    let Some(pid) = Pid::from_raw(pid) else { leave(body()) };
    // SAFETY: the kernel succeeded, so it wrote a fresh descriptor that nobody else knows of.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid, pidfd))
}

/// clone3 without a new stack: returns twice, like fork; 0 in the child.
fn clone3(namespaces: u64, group: Option<BorrowedFd<'_>>, pidfd: &mut RawFd) -> Result<i32, Errno> {
    let into_group = if group.is_some() { INTO_GROUP } else { 0 };
    let arguments = libc::clone_args {
        flags: namespaces | libc::CLONE_PIDFD as u64 | CLEAR_HANDLERS | into_group,
        pidfd: std::ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: group.map_or(0, |group| group.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child gets its own copy of memory and goes on at this very place on the copied stack;
    // `arguments` and `pidfd` outlive the call, and `clone_child` lets the child run nothing but its body.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    outcome(result)
}

/// The same by the older call, for machines whose container profile hides clone3.
fn clone_before_3(namespaces: u64, pidfd: &mut RawFd) -> Result<i32, Errno> {
    let flags = namespaces | (libc::CLONE_PIDFD | libc::SIGCHLD) as u64;
    let (null_stack, null_tid, null_tls) = (0usize, 0usize, 0usize);
    // SAFETY: as for clone3; with CLONE_PIDFD the third argument is where the descriptor goes.
    let result = unsafe {
        libc::syscall(libc::SYS_clone, flags, null_stack, std::ptr::from_mut(pidfd), null_tid, null_tls)
    };
    outcome(result)
}

/// The result of a clone call as a process number.
fn outcome(result: libc::c_long) -> Result<i32, Errno> {
    if result < 0 { Err(last_errno()) } else { i32::try_from(result).map_err(|_| Errno::OVERFLOW) }
}

/// Ends the process at once: no destructors, no flushing of buffers that are the parent's.
fn leave(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// The errno of the last libc call that failed.
pub(super) fn last_errno() -> Errno {
    // SAFETY: takes nothing and returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid and aligned for as long as this thread lives, and only this thread uses it.
    Errno::from_raw_os_error(unsafe { *errno })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn a_child_is_born_in_its_group() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let Some(mount) = mount.and_then(|line| line.split(' ').nth(1)) else {
            println!("SKIP: control groups of version 2 are not mounted");
            return;
        };
        let directory = std::path::Path::new(mount).join(format!("baton-test-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&directory) {
            println!("SKIP: control groups of version 2 cannot be written: {error}");
            return;
        }
        let group = std::fs::File::open(&directory).unwrap();
        let (pid, pidfd) = clone_child(0, Some(group.as_fd()), &|| 3).unwrap();
        // A dead child that nobody has waited for still says where it lived.
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap();
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        std::fs::remove_dir(&directory).unwrap();
        assert_eq!(status.exit_status(), Some(3));
        assert!(groups.contains("/baton-test-"), "{groups}");
    }
}
