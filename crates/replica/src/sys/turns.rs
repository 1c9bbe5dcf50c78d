//! How long a thread runs at a stretch.

// UNSAFETY: the call that sets it has no safe wrapper.
#![expect(unsafe_code, reason = "sched_setattr")]

use std::time::Duration;

use rustix::io::Errno;

use super::clone::last_errno;

/// Asks for turns of this length for the calling thread, which stays what else it is. Kernels before 6.12 take no notice.
pub(crate) fn set(length: Duration, nice: i32) -> Result<(), Errno> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        // A thread in real time stays there: the kernel refuses this for it.
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs().into(),
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the kernel reads as many bytes as `size` says, which are those of `attributes`, and keeps nothing of them.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}
