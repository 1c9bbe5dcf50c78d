//! Writing entries: by stores, or, where no process can write the table, by whoever can.

use super::entry::{Entry, Hold, NO_PARENT, Range, State, Word};
use super::{CapabilityError, CapabilityTable, Handle, NODE};
use crate::placed::Placed;
use crate::sync::Ordering;
use baton_abi::Rights;

/// Writes entries of a table that this process cannot write.
pub trait Scribe: Send + Sync + core::fmt::Debug {
    /// Brings the entry at `index` from the word `was` to `now`, of which the word is the first: all of it, or, unless `is_whole`, the
    /// word alone. `false` if the word was another, or nothing can be written; nothing changes then.
    fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool;

    /// The same with many whole entries, in their order: index, the word that must be there, the entry. Gives how many were written, up to
    /// the first that was not.
    fn write_all(&self, entries: &[(u32, u64, [u64; 8])]) -> usize;
}

/// All that an entry says.
pub(super) struct Content {
    pub(super) word: Word,
    pub(super) range: Range,
    pub(super) expiry_ns: u64,
    pub(super) parent: u64,
    pub(super) root: Handle,
    pub(super) invocation: u64,
    pub(super) high_water: u64,
}

impl Content {
    fn of(entry: &Entry, word: Word) -> Content {
        Content {
            word,
            range: entry.range(),
            expiry_ns: entry.expiry_ns.load(Ordering::Relaxed),
            parent: entry.parent.load(Ordering::Relaxed),
            root: entry.root(),
            invocation: entry.invocation.load(Ordering::Relaxed),
            high_water: entry.high_water.load(Ordering::Relaxed),
        }
    }

    /// A root that was just made.
    fn fresh(handle: Handle, range: Range, to: Hold) -> Content {
        Content {
            word: Word { generation: handle.generation, hold: to, rights: Rights::ALL },
            range,
            expiry_ns: 0,
            parent: NO_PARENT,
            root: handle,
            invocation: 0,
            high_water: 0,
        }
    }

    /// As the entry is laid out.
    fn to_words(&self) -> [u64; 8] {
        let root = u64::from(self.root.index) | u64::from(self.root.generation) << 32;
        let Range { offset, len } = self.range;
        [self.word.pack(), offset, len, self.expiry_ns, self.parent, root, self.invocation, self.high_water]
    }
}

impl CapabilityTable {
    /// A view of `entries` that this process cannot write; `scribe` does.
    #[must_use]
    pub fn written_by(entries: Placed<Entry>, scribe: Box<dyn Scribe>) -> CapabilityTable {
        CapabilityTable { entries, scribe: Some(scribe) }
    }

    /// A compare-exchange on an entry's word.
    #[inline]
    pub(super) fn exchange(&self, index: u32, entry: &Entry, was: u64, now: u64) -> Result<u64, u64> {
        let Some(scribe) = &self.scribe else {
            return entry.word.compare_exchange(was, now, Ordering::AcqRel, Ordering::Acquire);
        };
        match scribe.write(index, was, &[now, 0, 0, 0, 0, 0, 0, 0], false) {
            true => Ok(was),
            false => Err(entry.word.load(Ordering::Acquire)),
        }
    }

    /// Writes an entry that nobody else may write; its word last. `false` if its word was not `was` where that is looked at.
    #[inline]
    pub(super) fn put(&self, index: u32, entry: &Entry, was: u64, content: &Content) -> bool {
        if let Some(scribe) = &self.scribe {
            return scribe.write(index, was, &content.to_words(), true);
        }
        entry.offset.store(content.range.offset, Ordering::Relaxed);
        entry.len.store(content.range.len, Ordering::Relaxed);
        entry.expiry_ns.store(content.expiry_ns, Ordering::Relaxed);
        entry.parent.store(content.parent, Ordering::Relaxed);
        entry.slot.store(content.root.index, Ordering::Relaxed);
        entry.slot_generation.store(content.root.generation, Ordering::Relaxed);
        entry.invocation.store(content.invocation, Ordering::Relaxed);
        entry.high_water.store(content.high_water, Ordering::Relaxed);
        entry.word.store(content.word.pack(), Ordering::Release);
        true
    }

    /// Node: makes the root of `slot` with the generation that the ledger gave it, in the hands of `to`.
    pub fn grant(&self, handle: Handle, range: Range, to: Hold) {
        let Ok(entry) = self.entry(handle.index) else { return };
        self.put(handle.index, entry, entry.word.load(Ordering::Acquire), &Content::fresh(handle, range, to));
    }

    /// Node: [`CapabilityTable::grant`] of many, unused all.
    pub fn grant_all(&self, handles: &[Handle], to: Hold) {
        let range = Range { offset: 0, len: 0 };
        let Some(scribe) = &self.scribe else {
            handles.iter().for_each(|handle| self.grant(*handle, range, to));
            return;
        };
        let entry = |handle: &Handle| {
            let was = self.entry(handle.index).ok()?.word.load(Ordering::Acquire);
            Some((handle.index, was, Content::fresh(*handle, range, to).to_words()))
        };
        let entries: Vec<_> = handles.iter().filter_map(entry).collect();
        // What is in nobody's hands is written by nobody else.
        let _ = scribe.write_all(&entries);
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
        if self.scribe.is_some() {
            if let Ok((_, word)) = self.word(handle) {
                self.rewrite(handle.index, entry, word, word.hold, (range, written, invocation));
            }
            return;
        }
        entry.offset.store(range.offset, Ordering::Relaxed);
        entry.len.store(range.len, Ordering::Relaxed);
        entry.invocation.store(invocation, Ordering::Relaxed);
        if written > entry.high_water.load(Ordering::Relaxed) {
            entry.high_water.store(written, Ordering::Relaxed);
        }
    }

    fn rewrite(
        &self,
        index: u32,
        entry: &Entry,
        word: Word,
        to: Hold,
        (range, written, invocation): (Range, u64, u64),
    ) -> bool {
        let was = Content::of(entry, word);
        let high_water = was.high_water.max(written);
        let word = Word { hold: to, ..word };
        let now = Content { word, range, invocation, high_water, ..was };
        self.put(index, entry, was.word.pack(), &now)
    }

    /// [`CapabilityTable::describe_written`] and [`CapabilityTable::transfer`] in one.
    ///
    /// # Errors
    /// As [`CapabilityTable::transfer`].
    pub fn transfer_described(
        &self,
        handle: Handle,
        (from, to): (Hold, Hold),
        (range, written, invocation): (Range, u64, u64),
    ) -> Result<Rights, CapabilityError> {
        if self.scribe.is_none() {
            self.describe_written(handle, range, written, invocation);
            return self.transfer(handle, from, to);
        }
        let (entry, word) = self.word(handle)?;
        let not_held = |by: Hold| CapabilityError::NotHeld { index: handle.index, by };
        if word.hold != from {
            return Err(not_held(word.hold));
        }
        match self.rewrite(handle.index, entry, word, to, (range, written, invocation)) {
            true => Ok(word.rights),
            false => Err(not_held(self.hold(handle).unwrap_or(Hold::new(State::Free, NODE)))),
        }
    }

    /// Node: whatever the word says, the capability ends here.
    pub fn clear(&self, index: u32) {
        let Ok(entry) = self.entry(index) else { return };
        let was = entry.word.load(Ordering::Acquire);
        let generation = Word::unpack(was).map_or(0, |word| word.generation);
        let word = Word { generation, hold: Hold::new(State::Free, NODE), rights: Rights::NONE };
        match &self.scribe {
            None => entry.word.store(word.pack(), Ordering::Release),
            // Nobody but the node writes the word of what is in nobody's hands.
            Some(_) => drop(self.exchange(index, entry, was, word.pack())),
        }
    }
}
