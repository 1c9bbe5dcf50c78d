//! What the runtime has mapped, and the clock: the ground that everything else of the SDK stands on.

use std::sync::Arc;

use baton_abi::boot::PoolAccess;
use baton_pool::capability::CapabilityTable;
use baton_pool::ledger::LedgerView;
use baton_pool::region::Mapping;

/// The shared memory of this replica's app.
pub(crate) struct Memory {
    /// This replica as a holder.
    pub(crate) holder: u16,
    pub(crate) access: PoolAccess,
    pub(crate) pool: Option<Arc<Mapping>>,
    pub(crate) pool_bytes: u64,
    pub(crate) ledger: LedgerView,
    pub(crate) table: CapabilityTable,
    /// Roots are the entries below this index.
    pub(crate) slots: u32,
    pub(crate) derived_base: u32,
}

impl Memory {
    /// The table entries that may hold derived capabilities.
    pub(crate) fn derived(&self) -> core::ops::Range<u32> {
        self.slots..self.slots.saturating_add(self.ledger.derived_used())
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub(crate) fn now_ns() -> u64 {
    clock_ns(rustix::time::ClockId::Monotonic)
}

/// `CLOCK_MONOTONIC` to the precision of a scheduler tick, at a fraction of its price, nanoseconds.
pub(crate) fn coarse_now_ns() -> u64 {
    clock_ns(rustix::time::ClockId::MonotonicCoarse)
}

/// Whether `timeout` has passed since `since_ns`.
pub(crate) fn is_over(since_ns: u64, timeout: core::time::Duration) -> bool {
    u128::from(now_ns().saturating_sub(since_ns)) >= timeout.as_nanos()
}

/// CPU time of this thread, nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    clock_ns(rustix::time::ClockId::ThreadCPUTime)
}

fn clock_ns(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
