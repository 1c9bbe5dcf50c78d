//! System calls of the runtime, each as a safe function where its arguments allow it.

// UNSAFETY: system calls that change the address space, signals and keys.
#![expect(unsafe_code, reason = "raw system calls")]

use rustix::io::Errno;

use crate::arch::{self, SHARE, ShareBlock, label};

/// Bytes of a page.
pub(crate) const PAGE: u64 = PAGE_BYTES as u64;
/// The same, as a length in memory.
pub(crate) const PAGE_BYTES: usize = 4096;

/// What may be done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    Write,
    Execute,
}

impl Access {
    const fn bits(self) -> i32 {
        match self {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
            Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

fn check(result: i64) -> Result<i64, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: gives the address of this thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: valid as long as the thread is.
    Err(Errno::from_raw_os_error(unsafe { *errno }))
}

/// What stands behind a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backing {
    /// Zeros.
    Anonymous,
    /// A private view of a file.
    Private { fd: i32, offset: u64 },
    /// The file itself.
    Shared { fd: i32, offset: u64 },
}

/// Maps a range at a fixed place, over whatever was there, and gives it its key (a fresh mapping has key 0).
///
/// # Safety
/// Nothing that lives may refer to what was mapped in the range before.
pub(crate) unsafe fn map(at: u64, len: u64, access: Access, backing: Backing, key: u32) -> Result<(), Errno> {
    let (flags, fd, offset) = match backing {
        Backing::Anonymous => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
        Backing::Private { fd, offset } => (libc::MAP_PRIVATE | libc::MAP_NORESERVE, fd, offset),
        Backing::Shared { fd, offset } => (libc::MAP_SHARED, fd, offset),
    };
    // Inaccessible at first: with key 0 it would be open to the runtime alone, but never to anyone by mistake.
    // SAFETY: the caller vouches for the range.
    let result = unsafe {
        libc::syscall(libc::SYS_mmap, at, len, libc::PROT_NONE, flags | libc::MAP_FIXED, fd, offset)
    };
    check(result)?;
    protect(at, len, access, key)
}

/// Sets access and key of a range.
pub(crate) fn protect(at: u64, len: u64, access: Access, key: u32) -> Result<(), Errno> {
    // SAFETY: changes what may be done with memory, not what it holds; a runtime that loses access to its own memory ends.
    check(unsafe { libc::syscall(libc::SYS_pkey_mprotect, at, len, access.bits(), key) }).map(drop)
}

/// Unmaps a range.
///
/// # Safety
/// As for [`map`].
pub(crate) unsafe fn unmap(at: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: the caller vouches for the range.
    check(unsafe { libc::syscall(libc::SYS_munmap, at, len) }).map(drop)
}

/// Moves a range to another place, key and access included.
///
/// # Safety
/// As for [`map`], for both ranges.
pub(crate) unsafe fn relocate(from: u64, to: u64, len: u64) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller vouches for both ranges.
    check(unsafe { libc::syscall(libc::SYS_mremap, from, len, len, flags, to) }).map(drop)
}

/// A new key, closed for nobody: rights are set at each entry.
pub(crate) fn key() -> Result<u32, Errno> {
    // SAFETY: takes two numbers.
    let key = check(unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) })?;
    u32::try_from(key).map_err(|_| Errno::INVAL)
}

/// Whether the C library registered a restartable sequence: the kernel would write it under a guest's rights.
pub(crate) fn has_rseq() -> bool {
    unsafe extern "C" {
        static __rseq_size: u32;
    }
    // SAFETY: a constant of the C library, set before `main`.
    unsafe { __rseq_size != 0 }
}

/// Directs system calls by the shared block's selector; every one, wherever it stands.
pub(crate) fn dispatch_calls() -> Result<(), Errno> {
    const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
    const ON: u64 = 1;
    const { assert!(core::mem::offset_of!(ShareBlock, selector) == 0) };
    let selector = SHARE.get().cast::<u8>();
    // SAFETY: the selector is a static; an empty range allows nothing.
    let result = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, 0u64, 0u64, selector) };
    check(result.into()).map(drop)
}

/// Signals that guests raise by what they do, and the tick.
const TRAPS: [i32; 6] =
    [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];
/// The signal of the tick.
pub(crate) const TICK: i32 = libc::SIGALRM;

/// Installs the handler and its stack.
pub(crate) fn catch_signals() -> Result<(), Errno> {
    #[repr(C)]
    struct Action {
        handler: u64,
        flags: u64,
        restorer: u64,
        mask: u64,
    }
    const SA_RESTORER: u64 = 0x0400_0000;
    arch::arm_signal_stack()?;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as u64 | SA_RESTORER;
    // Nothing returns through the restorer: it is where a handler that did would end.
    let action = Action { handler: label::trap(), flags, restorer: label::violation(), mask: 0 };
    for signal in TRAPS.into_iter().chain([TICK]) {
        let old: *mut Action = core::ptr::null_mut();
        // SAFETY: the structure is the kernel's; the handler is made for every signal at every moment.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, old, 8) })?;
    }
    // The first one shows where frames go.
    // SAFETY: the handler is in place.
    check(unsafe { libc::raise(TICK) }.into()).map(drop)
}

/// Has [`TICK`] raised every `interval_ms` of processor time of this thread.
pub(crate) fn start_ticking(interval_ms: i64) -> Result<(), Errno> {
    let mut event: libc::sigevent = zeroed();
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = TICK;
    let mut timer: i32 = 0;
    // SAFETY: both structures outlive the call.
    check(unsafe {
        libc::syscall(libc::SYS_timer_create, libc::CLOCK_THREAD_CPUTIME_ID, &raw const event, &raw mut timer)
    })?;
    let tick = libc::timespec { tv_sec: interval_ms / 1000, tv_nsec: interval_ms % 1000 * 1_000_000 };
    let every = libc::itimerspec { it_interval: tick, it_value: tick };
    let old: *mut libc::itimerspec = core::ptr::null_mut();
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_timer_settime, timer, 0, &raw const every, old) }).map(drop)
}

fn zeroed() -> libc::sigevent {
    // SAFETY: plain numbers and pointers, for which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// `CLOCK_MONOTONIC` or another clock; `None` if there is no such clock.
pub(crate) fn clock(id: i32) -> Option<(i64, i64)> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing one `timespec`.
    let done = unsafe { libc::clock_gettime(id, &raw mut now) };
    (done == 0).then_some((now.tv_sec, now.tv_nsec))
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock(libc::CLOCK_MONOTONIC))
}

/// Processor time of this thread, nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    nanoseconds(clock(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// `CLOCK_MONOTONIC` to the precision of a scheduler tick, nanoseconds.
pub(crate) fn coarse_now_ns() -> u64 {
    nanoseconds(clock(libc::CLOCK_MONOTONIC_COARSE))
}

fn nanoseconds(now: Option<(i64, i64)>) -> u64 {
    let (seconds, nanoseconds) = now.unwrap_or_default();
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)
        + u64::try_from(nanoseconds).unwrap_or(0)
}

/// Sleeps for so many nanoseconds, or less if a signal comes.
pub(crate) fn sleep(ns: u64) {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let time =
        rustix::time::Timespec { tv_sec: seconds, tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0) };
    let _ = rustix::event::poll(&mut [], Some(&time));
}

/// Fills `out` from the kernel's generator.
pub(crate) fn random(out: &mut [u8]) {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is valid for writing its length.
        match check(unsafe { libc::syscall(libc::SYS_getrandom, rest.as_mut_ptr(), rest.len(), 0) }) {
            Ok(got) => filled += usize::try_from(got).unwrap_or(0),
            Err(Errno::INTR) => {}
            // There is no such machine; zeros must not pass for random.
            Err(_) => std::process::abort(),
        }
    }
}

/// A copy of this process, with a descriptor of it for the original: `None` in the copy.
pub(crate) fn fork() -> Result<Option<(i32, i32)>, Errno> {
    let mut pidfd: i32 = -1;
    let arguments = libc::clone_args {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: like fork: the copy goes on here, on its own copy of memory. The process has one thread, so that no lock of
    // another one is copied in a taken state.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    })?;
    Ok(i32::try_from(pid).ok().filter(|&pid| pid != 0).map(|pid| (pid, pidfd)))
}

/// Has the kernel kill this process when its parent ends.
pub(crate) fn die_with_parent() -> Result<(), Errno> {
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()).map(drop)
}

/// This thread's FS base, as the C library set it.
pub(crate) fn fs_base() -> u64 {
    let mut base: u64;
    // SAFETY: reads a register; the processor and kernel allow it, which `probe` found before.
    unsafe { core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// Whether this process may use FSGSBASE: the kernel says so in the auxiliary vector.
pub(crate) fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: takes a number.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}
