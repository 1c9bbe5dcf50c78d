//! How much of a pool is in whose hands.

use std::collections::BTreeMap;

use super::Pool;
use crate::capability::{Hold, State};

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
    /// Buffers that each holder has, empty ones in its stash included.
    #[must_use]
    pub fn roots_by_holder(&self) -> BTreeMap<u16, u32> {
        let mut roots = BTreeMap::new();
        for (slot, _) in self.ledger.out() {
            let hold = self.table.look(slot).map(|found| found.hold);
            if let Some(Hold { state: State::Held | State::Stashed, holder }) = hold {
                *roots.entry(holder).or_default() += 1;
            }
        }
        roots
    }

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
