//! What dead replicas leave behind.

use super::Pool;
use crate::capability::{Handle, Hold, NODE, State};
use crate::ledger::NOBODY;

/// What a dead replica left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Buffers that are back.
    pub buffers: u32,
    /// Buffers that others still read; they come back when those are done.
    pub orphaned: u32,
}

impl Pool {
    /// Takes back everything that replica `dead` held or had on its way. `keeps` says of every other hold whether
    /// someone who lives stands behind it.
    pub fn reclaim(&mut self, dead: u16, keeps: impl Fn(Hold) -> bool) -> Reclaimed {
        let lost = |hold: Hold| match hold.state {
            State::InFlight => !keeps(hold),
            // Of the node's own only the node's own book tells; it was asked before.
            State::Orphan | State::Free | State::Released | State::Revoked => true,
            _ => hold.holder == NODE || hold.holder == dead || !keeps(hold),
        };
        for found in self.scan_derived().filter(|found| found.hold.state.is_live()) {
            if !self.own.has(found.handle) && lost(found.hold) {
                // Someone else may have moved it on meanwhile: then it is not the dead replica's any more.
                let _ = self.table.transfer(found.handle, found.hold, Hold::new(State::Released, NODE));
            }
        }
        let out: Vec<(u32, u32)> = self.ledger.out().collect();
        let (mut buried, before) = (0, self.orphans.len());
        for (slot, generation) in out {
            let handle = Handle { index: slot, generation };
            if self.refuse_own(handle).is_err() {
                continue;
            }
            let claimed = self.table.look(slot).filter(|found| found.handle == handle);
            let taken = claimed.is_none_or(|found| {
                lost(found.hold) && self.soil(handle, found.hold, Hold::new(State::Orphan, NODE)).is_ok()
            });
            if taken {
                self.bury(handle, NOBODY);
                buried += 1;
            }
        }
        let gone = |holder| holder == dead || !keeps(Hold::held(holder));
        self.ledger.disown(gone);
        self.own.disown(gone);
        let left = self.sweep();
        let orphaned = u32::try_from(left.saturating_sub(before)).unwrap_or(u32::MAX);
        Reclaimed { buffers: buried - orphaned.min(buried), orphaned }
    }
}
