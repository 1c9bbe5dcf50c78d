//! What one call costs, while receipts are on.

// UNSAFETY: reads the context-switch counters of this process.
#![expect(unsafe_code, reason = "getrusage has no safe wrapper among the dependencies")]

use baton_abi::descriptor::HopCost;

/// The running account of one call.
pub(crate) struct Hop {
    cost: HopCost,
    started_ns: u64,
    switches_before: u32,
}

impl Hop {
    pub(crate) fn start(invocation: u64, caller: u16, operation: u16) -> Hop {
        let began_ns = crate::clock::now_ns();
        let cost = HopCost { invocation, caller, operation, crossings: 1, began_ns, ..HopCost::default() };
        Hop { cost, started_ns: began_ns, switches_before: switches() }
    }

    pub(crate) fn add_cpu(&mut self, ns: u64) {
        self.cost.cpu_ns = self.cost.cpu_ns.saturating_add(ns);
    }

    pub(crate) fn add_copy(&mut self, bytes: usize) {
        self.cost.copies = self.cost.copies.saturating_add(1);
        self.cost.bytes_copied = self.cost.bytes_copied.saturating_add(bytes as u64);
    }

    pub(crate) fn add_handed(&mut self, bytes: u64) {
        self.cost.bytes_handed = self.cost.bytes_handed.saturating_add(bytes);
    }

    pub(crate) fn finish(mut self, status: u16) -> HopCost {
        self.cost.crossings += 1;
        self.cost.status = status;
        self.cost.wall_ns = crate::clock::now_ns().saturating_sub(self.started_ns);
        self.cost.switches = switches().saturating_sub(self.switches_before);
        self.cost
    }
}

/// CPU time of this thread, nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    crate::clock::cpu_ns()
}

fn switches() -> u32 {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writing one `rusage`.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if done != 0 {
        return 0;
    }
    // SAFETY: zeroed at first and filled by the kernel: every bit pattern is a valid `rusage`.
    let usage = unsafe { usage.assume_init() };
    u32::try_from(usage.ru_nvcsw.saturating_add(usage.ru_nivcsw)).unwrap_or(u32::MAX)
}
