//! The capability table: who may do what with which range of which buffer.
//!
//! One table per app. Entry `i < slots` is the *root* of buffer slot `i`; behind the roots each replica has a range
//! of entries for the capabilities that it *derives* (lends, shares, narrows). A handle is an index and a generation.
//!
//! ```text
//!            grant             take              depart              arrive
//!  Free ──────────▶ Stashed ──────────▶ Held ──────────▶ InFlight ──────────▶ Held (by the receiver) …
//!                      ▲                  │ release (root: back to the stash or the node; derived: Released)
//!                      └──────────────────┘
//!  Held/InFlight ── revoke ──▶ Revoked          Held by a dead replica, still lent out ──▶ Orphan
//! ```
//!
//! | field | who may write it |
//! |---|---|
//! | `word` | compare-and-swap only, by whoever the old word names (holder or edge end), or the node |
//! | range, slot, parent, expiry | the holder, while the word says Held by it, before it publishes |
//!
//! Under process isolation the table is writable for the app's own processes: what a lying function can harm is its
//! own app's payloads. The allocation itself is the ledger's, which only the node writes.

use baton_abi::Rights;

use crate::ledger::{LedgerError, LedgerView, Place};
use crate::placed::Placed;
use crate::sync::{Ordering, fence};

mod entry;
mod guarded;

pub use entry::{Entry, Handle, Hold, Range, State};
use entry::{NO_PARENT, Word};

/// The holder number of the node.
pub const NODE: u16 = 0;
/// Derivations of derivations that are followed; deeper ones are refused.
pub const DEPTH_MAX: u32 = 16;

/// A capability as `baton caps ls` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its handle.
    pub handle: Handle,
    /// State and holder.
    pub hold: Hold,
    /// What the holder may do.
    pub rights: Rights,
    /// The buffer.
    pub slot: u32,
    /// The buffer's generation.
    pub slot_generation: u32,
    /// The range.
    pub range: Range,
    /// What it was derived from.
    pub parent: Option<Handle>,
    /// `CLOCK_MONOTONIC` nanoseconds from which it is void; 0 for never.
    pub expiry_ns: u64,
    /// The invocation that it serves; 0 for none.
    pub invocation: u64,
    /// First byte behind everything that was ever written under it.
    pub high_water: u64,
}

/// Why an operation on a capability was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityError {
    /// There is no such entry.
    Index {
        /// The index that was named.
        index: u32,
    },
    /// The entry has another generation by now.
    Stale {
        /// The entry.
        index: u32,
        /// Its generation.
        has: u32,
    },
    /// Someone else has it, or it is in another state.
    NotHeld {
        /// The entry.
        index: u32,
        /// Who has it.
        by: Hold,
    },
    /// It was revoked, or what it was derived from was.
    Revoked {
        /// The entry.
        index: u32,
    },
    /// Its time is over.
    Expired {
        /// The entry.
        index: u32,
    },
    /// The right is not there.
    Denied {
        /// What was needed.
        need: Rights,
        /// What there is.
        has: Rights,
    },
    /// The range does not lie inside the capability's.
    OutOfBounds {
        /// The range that was named.
        named: Range,
        /// The capability's.
        has: Range,
    },
    /// Derived from a derivation of a derivation … more than [`DEPTH_MAX`] deep.
    TooDeep,
    /// The ledger says no.
    Ledger(LedgerError),
}

/// What to derive a capability with.
#[derive(Clone, Copy, Debug)]
pub struct Derivation {
    /// The part of the parent's range.
    pub range: Range,
    /// Rights; the parent's are not exceeded.
    pub rights: Rights,
    /// From when on it is void, `CLOCK_MONOTONIC` nanoseconds; 0 for as long as the parent.
    pub expiry_ns: u64,
    /// Where it goes at once.
    pub to: Hold,
}

/// A view of an app's capability table.
#[derive(Debug)]
pub struct CapabilityTable {
    entries: Placed<Entry>,
}

impl CapabilityTable {
    /// A view of `entries`.
    #[must_use]
    pub fn new(entries: Placed<Entry>) -> CapabilityTable {
        CapabilityTable { entries }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn entry(&self, index: u32) -> Result<&Entry, CapabilityError> {
        self.entries.get(index as usize).ok_or(CapabilityError::Index { index })
    }

    #[inline]
    fn word(&self, handle: Handle) -> Result<(&Entry, Word), CapabilityError> {
        let entry = self.entry(handle.index)?;
        let raw = entry.word.load(Ordering::Acquire);
        match Word::unpack(raw) {
            Some(word) if word.generation == handle.generation => Ok((entry, word)),
            Some(word) => Err(CapabilityError::Stale { index: handle.index, has: word.generation }),
            None => Err(CapabilityError::Stale { index: handle.index, has: 0 }),
        }
    }

    /// Node: makes the root of `slot` with the generation that the ledger gave it, in the hands of `to`.
    pub fn grant(&self, handle: Handle, range: Range, to: Hold) {
        let Ok(entry) = self.entry(handle.index) else { return };
        entry.offset.store(range.offset, Ordering::Relaxed);
        entry.len.store(range.len, Ordering::Relaxed);
        entry.expiry_ns.store(0, Ordering::Relaxed);
        entry.parent.store(NO_PARENT, Ordering::Relaxed);
        entry.slot.store(handle.index, Ordering::Relaxed);
        entry.slot_generation.store(handle.generation, Ordering::Relaxed);
        entry.invocation.store(0, Ordering::Relaxed);
        entry.high_water.store(0, Ordering::Relaxed);
        let word = Word { generation: handle.generation, hold: to, rights: Rights::ALL };
        entry.word.store(word.pack(), Ordering::Release);
    }

    /// The holder: says which range it used, for whom, and how far bytes were ever written.
    #[inline]
    pub fn describe(&self, handle: Handle, range: Range, invocation: u64) {
        self.describe_written(handle, range, range.offset.saturating_add(range.len), invocation);
    }

    /// As [`CapabilityTable::describe`], by a holder that knows how far it wrote.
    #[inline]
    pub fn describe_written(&self, handle: Handle, range: Range, written: u64, invocation: u64) {
        let Ok(entry) = self.entry(handle.index) else { return };
        entry.offset.store(range.offset, Ordering::Relaxed);
        entry.len.store(range.len, Ordering::Relaxed);
        entry.invocation.store(invocation, Ordering::Relaxed);
        if written > entry.high_water.load(Ordering::Relaxed) {
            entry.high_water.store(written, Ordering::Relaxed);
        }
    }

    /// Who has the capability, and in what state, if it still has this generation.
    #[inline]
    #[must_use]
    pub fn hold(&self, handle: Handle) -> Option<Hold> {
        self.word(handle).ok().map(|(_, word)| word.hold)
    }

    /// Moves a capability from one hold to another, once: of two that try, one is refused.
    ///
    /// # Errors
    /// [`CapabilityError::Stale`], [`CapabilityError::NotHeld`], [`CapabilityError::Revoked`].
    #[inline]
    pub fn transfer(&self, handle: Handle, from: Hold, to: Hold) -> Result<Rights, CapabilityError> {
        let (entry, word) = self.word(handle)?;
        if word.hold != from {
            return Err(match word.hold.state {
                State::Revoked => CapabilityError::Revoked { index: handle.index },
                _ => CapabilityError::NotHeld { index: handle.index, by: word.hold },
            });
        }
        let next = Word { hold: to, ..word };
        match entry.word.compare_exchange(word.pack(), next.pack(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(word.rights),
            Err(raw) => Err(match Word::unpack(raw) {
                Some(now) if now.generation == handle.generation && now.hold.state != State::Revoked => {
                    CapabilityError::NotHeld { index: handle.index, by: now.hold }
                }
                _ => CapabilityError::Revoked { index: handle.index },
            }),
        }
    }

    /// As [`CapabilityTable::transfer`], for a root in the caller's own hands (held or stashed by it): nobody else may
    /// move that, so a look and a plain store do.
    ///
    /// # Errors
    /// As [`CapabilityTable::transfer`].
    #[inline]
    pub fn pass(&self, handle: Handle, from: Hold, to: Hold) -> Result<(), CapabilityError> {
        let (entry, word) = self.word(handle)?;
        if word.hold != from {
            return Err(CapabilityError::NotHeld { index: handle.index, by: word.hold });
        }
        entry.word.store(Word { hold: to, ..word }.pack(), Ordering::Release);
        Ok(())
    }

    /// Gives rights up, for good: `rights` and nothing else stays.
    ///
    /// # Errors
    /// As [`CapabilityTable::transfer`].
    pub fn restrict(&self, handle: Handle, by: u16, rights: Rights) -> Result<Rights, CapabilityError> {
        let (entry, word) = self.word(handle)?;
        if word.hold != Hold::held(by) {
            return Err(CapabilityError::NotHeld { index: handle.index, by: word.hold });
        }
        let next = Word { rights: word.rights.intersect(rights), ..word };
        entry
            .word
            .compare_exchange(word.pack(), next.pack(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| next.rights)
            .map_err(|_| CapabilityError::Revoked { index: handle.index })
    }

    /// A cell, of a root in its hands: a new owner within the cell has all rights again.
    pub fn renew(&self, handle: Handle) {
        if let Ok((entry, word)) = self.word(handle) {
            entry.word.store(Word { rights: Rights::ALL, ..word }.pack(), Ordering::Release);
        }
    }

    /// Checks that `by` may do `need` with `named`, now. The place is where those bytes lie in the pool.
    ///
    /// # Errors
    /// Every [`CapabilityError`] but `TooDeep`.
    #[inline]
    pub fn resolve(
        &self,
        handle: Handle,
        by: u16,
        need: Rights,
        named: Range,
        clock: (&LedgerView, u64),
    ) -> Result<Place, CapabilityError> {
        let (ledger, now_ns) = clock;
        let (entry, word) = self.word(handle)?;
        if word.hold != Hold::held(by) {
            return Err(match word.hold.state {
                State::Revoked => CapabilityError::Revoked { index: handle.index },
                _ => CapabilityError::NotHeld { index: handle.index, by: word.hold },
            });
        }
        if !word.rights.allows(need) {
            return Err(CapabilityError::Denied { need, has: word.rights });
        }
        let expiry_ns = entry.expiry_ns.load(Ordering::Relaxed);
        if expiry_ns != 0 && now_ns >= expiry_ns {
            return Err(CapabilityError::Expired { index: handle.index });
        }
        let has = entry.range();
        if !has.contains(named) {
            return Err(CapabilityError::OutOfBounds { named, has });
        }
        let slot = entry.slot.load(Ordering::Relaxed);
        let generation = entry.slot_generation.load(Ordering::Relaxed);
        ledger.range(slot, generation, named.offset, named.len).map_err(CapabilityError::Ledger)
    }

    /// Derives a capability from `parent`, which `by` holds, into the free entry `into` of `by`'s own range.
    ///
    /// # Errors
    /// The parent's errors as in [`CapabilityTable::resolve`]; a parent without [`Rights::PASS`] derives nothing.
    pub fn derive(
        &self,
        parent: Handle,
        by: u16,
        into: u32,
        what: Derivation,
    ) -> Result<Handle, CapabilityError> {
        let (parent_entry, parent_word) = self.word(parent)?;
        if parent_word.hold != Hold::held(by) {
            return Err(CapabilityError::NotHeld { index: parent.index, by: parent_word.hold });
        }
        if !parent_word.rights.allows(Rights::PASS) {
            return Err(CapabilityError::Denied { need: Rights::PASS, has: parent_word.rights });
        }
        let has = parent_entry.range();
        if !has.contains(what.range) {
            return Err(CapabilityError::OutOfBounds { named: what.range, has });
        }
        if self.depth(parent) >= DEPTH_MAX {
            return Err(CapabilityError::TooDeep);
        }
        let entry = self.entry(into)?;
        let old = Word::unpack(entry.word.load(Ordering::Acquire)).map_or(0, |word| word.generation);
        let handle = Handle { index: into, generation: old.checked_add(1).unwrap_or(1) };
        let parent_expiry = parent_entry.expiry_ns.load(Ordering::Relaxed);
        let expiry_ns = match (parent_expiry, what.expiry_ns) {
            (0, own) => own,
            (inherited, 0) => inherited,
            (inherited, own) => inherited.min(own),
        };
        entry.offset.store(what.range.offset, Ordering::Relaxed);
        entry.len.store(what.range.len, Ordering::Relaxed);
        entry.expiry_ns.store(expiry_ns, Ordering::Relaxed);
        entry.parent.store(parent.pack(), Ordering::Relaxed);
        entry.slot.store(parent_entry.slot.load(Ordering::Relaxed), Ordering::Relaxed);
        entry.slot_generation.store(parent_entry.slot_generation.load(Ordering::Relaxed), Ordering::Relaxed);
        entry.invocation.store(parent_entry.invocation.load(Ordering::Relaxed), Ordering::Relaxed);
        entry.high_water.store(0, Ordering::Relaxed);
        let rights = parent_word.rights.intersect(what.rights);
        let word = Word { generation: handle.generation, hold: what.to, rights };
        entry.word.store(word.pack(), Ordering::Release);
        // A revocation marks the parent and then scans for children; this publishes the child and then looks at the
        // parent. With a full fence on both sides, one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.is_revoked(parent) {
            let _ = self.mark_revoked(handle);
            return Err(CapabilityError::Revoked { index: parent.index });
        }
        Ok(handle)
    }

    fn is_revoked(&self, handle: Handle) -> bool {
        !matches!(self.word(handle), Ok((_, word)) if word.hold.state != State::Revoked)
    }

    fn depth(&self, handle: Handle) -> u32 {
        let mut depth = 0;
        let mut at = Some(handle);
        while let Some(handle) = at {
            depth += 1;
            if depth > DEPTH_MAX {
                break;
            }
            // A recycled entry has parents of its own: the way ends there.
            at = self.word(handle).ok().and_then(|(entry, _)| entry.parent());
        }
        depth
    }

    fn mark_revoked(&self, handle: Handle) -> bool {
        loop {
            let Ok((entry, word)) = self.word(handle) else { return false };
            if matches!(word.hold.state, State::Revoked | State::Free | State::Released) {
                return false;
            }
            let next = Word { hold: Hold::new(State::Revoked, word.hold.holder), ..word };
            let swapped =
                entry.word.compare_exchange(word.pack(), next.pack(), Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                return true;
            }
        }
    }

    /// Takes `handle` and everything derived from it away. When this returns, no check of any of them passes.
    /// Returns how many were taken. `derived` is the index range to look for derived capabilities in.
    pub fn revoke(&self, handle: Handle, derived: core::ops::Range<u32>) -> u32 {
        let taken = u32::from(self.mark_revoked(handle));
        taken + self.revoke_derived(handle, derived)
    }

    /// As [`CapabilityTable::revoke`], but `handle` itself stays.
    pub fn revoke_derived(&self, handle: Handle, derived: core::ops::Range<u32>) -> u32 {
        let mut taken = 0;
        loop {
            fence(Ordering::SeqCst);
            let mut found = 0;
            for index in derived.clone() {
                let Ok(entry) = self.entry(index) else { break };
                let Some(word) = Word::unpack(entry.word.load(Ordering::Acquire)) else { continue };
                let child = Handle { index, generation: word.generation };
                if word.hold.state.is_live() && child != handle && self.descends(child, handle) {
                    found += u32::from(self.mark_revoked(child));
                }
            }
            taken += found;
            // A round that finds nothing saw every child: later ones see their revoked parent.
            if found == 0 {
                return taken;
            }
        }
    }

    fn descends(&self, child: Handle, ancestor: Handle) -> bool {
        // Every capability names its root, however many between the two were given up and recycled since.
        let root = self.entry(child.index).ok().map(Entry::root);
        if root == Some(ancestor) {
            return true;
        }
        let mut at = child;
        for _ in 0..=DEPTH_MAX {
            // A recycled entry has parents of its own: the way ends there.
            let Ok((entry, _)) = self.word(at) else { return false };
            match entry.parent() {
                Some(parent) if parent == ancestor => return true,
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// Whether any live capability in `derived` descends from `handle`.
    #[must_use]
    pub fn has_derived(&self, handle: Handle, derived: core::ops::Range<u32>) -> bool {
        self.scan(derived).any(|found| found.hold.state.is_live() && self.descends(found.handle, handle))
    }

    /// Node: whatever the word says, the capability ends here.
    pub fn clear(&self, index: u32) {
        let Ok(entry) = self.entry(index) else { return };
        let generation = Word::unpack(entry.word.load(Ordering::Acquire)).map_or(0, |word| word.generation);
        let word = Word { generation, hold: Hold::new(State::Free, NODE), rights: Rights::NONE };
        entry.word.store(word.pack(), Ordering::Release);
    }

    /// The capability at `index`, as its fields say at this moment.
    #[must_use]
    pub fn look(&self, index: u32) -> Option<Capability> {
        let entry = self.entries.get(index as usize)?;
        let word = Word::unpack(entry.word.load(Ordering::Acquire))?;
        Some(Capability {
            handle: Handle { index, generation: word.generation },
            hold: word.hold,
            rights: word.rights,
            slot: entry.slot.load(Ordering::Relaxed),
            slot_generation: entry.slot_generation.load(Ordering::Relaxed),
            range: entry.range(),
            parent: entry.parent(),
            expiry_ns: entry.expiry_ns.load(Ordering::Relaxed),
            invocation: entry.invocation.load(Ordering::Relaxed),
            high_water: entry.high_water.load(Ordering::Relaxed),
        })
    }

    /// All capabilities in an index range that are not free.
    pub fn scan(&self, range: core::ops::Range<u32>) -> impl Iterator<Item = Capability> + '_ {
        range.filter_map(|index| self.look(index)).filter(|found| found.hold.state != State::Free)
    }
}

#[cfg(test)]
mod tests;
