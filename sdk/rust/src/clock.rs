//! The clock.

// UNSAFETY: reads clocks by libc.
#![expect(unsafe_code, reason = "libc's clock_gettime, the one that reaches the vDSO in a static binary")]

/// `CLOCK_MONOTONIC`, nanoseconds: one clock for all functions and processes of a machine, so that times of several compare.
#[must_use]
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_MONOTONIC` to the precision of a scheduler tick, at a fraction of its price, nanoseconds.
pub(crate) fn coarse_now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE)
}

/// Whether `timeout` has passed since `since_ns`.
pub(crate) fn is_over(since_ns: u64, timeout: core::time::Duration) -> bool {
    u128::from(now_ns().saturating_sub(since_ns)) >= timeout.as_nanos()
}

/// CPU time of this thread, nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// By libc, which asks the vDSO: inside the sandbox nothing else finds it, and a system call costs twenty times as much.
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing one `timespec`. A clock that does not exist leaves the zeros in it.
    let _ = unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
