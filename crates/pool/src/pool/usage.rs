//! How much of a pool is in whose hands.

use super::Pool;
use crate::capability::State;

/// How much of a pool is in whose hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// Bytes that no buffer has.
    pub free_bytes: u64,
    /// Buffers that the ledger has given out.
    pub buffers_out: u32,
    /// Of these, empty ones in the stashes of replicas.
    pub buffers_stashed: u32,
    /// Of these, ones that carry something.
    pub buffers_in_use: u32,
    /// Buffers without an owner that someone still reads.
    pub orphans: u32,
}

impl Pool {
    /// How much of the pool is in whose hands.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let stashed = self
            .ledger
            .out()
            .filter_map(|(slot, _)| self.table.look(slot))
            .filter(|found| found.hold.state == State::Stashed)
            .count();
        let out = self.ledger.buffers_out();
        let stashed = u32::try_from(stashed).unwrap_or(u32::MAX);
        Usage {
            pool_bytes: self.bytes,
            free_bytes: self.ledger.bytes_free(),
            buffers_out: out,
            buffers_stashed: stashed,
            buffers_in_use: out.saturating_sub(stashed),
            orphans: u32::try_from(self.orphans.len()).unwrap_or(u32::MAX),
        }
    }
}
