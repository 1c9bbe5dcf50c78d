//! The ledger: which buffers exist, where they lie, which generation they have. Only the node writes it.
//!
//! | part | who writes | who reads |
//! |---|---|---|
//! | [`LedgerSlot`]: offset, capacity, generation | node | node; replicas through a read-only mapping |
//! | free lists, size classes, dirt | node, in private memory | node |
//!
//! A generation is bumped when a buffer comes back, before its memory can be given out again: a stale handle
//! fails its check, it never reaches a recycled slot.

use baton_abi::limits::{HEADROOM_BYTES, SLAB_CLASSES, SLAB_MIN_BYTES};

use crate::placed::{Placed, SharedLayout};
use crate::spans::{LINE, Spans};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The public part of one buffer slot.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LedgerSlot {
    offset: AtomicU64,
    capacity: AtomicU64,
    generation: AtomicU32,
    // In slot 0: entries of the capability table's derived part that were ever given to a replica.
    derived_used: AtomicU32,
    _reserved_wide: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<LedgerSlot>() == 32);

// UNSAFETY: promises that a slot may lie in memory that other processes read while the node writes.
#[expect(unsafe_code, reason = "marks a structure as made of atomics only")]
// SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
unsafe impl SharedLayout for LedgerSlot {}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte, from the start of the pool.
    pub offset: u64,
    /// Bytes.
    pub capacity: u64,
}

/// Reads the public part of a ledger. Replicas have nothing else.
#[derive(Debug)]
pub struct LedgerView {
    slots: Placed<LedgerSlot>,
}

/// Why a handle was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// There is no such slot.
    Index {
        /// The slot that was named.
        slot: u32,
    },
    /// The slot holds another generation by now.
    Stale {
        /// The slot.
        slot: u32,
        /// The generation that was named.
        named: u32,
        /// The generation that it has.
        has: u32,
    },
    /// The range does not lie inside the buffer.
    OutOfBounds {
        /// The slot.
        slot: u32,
        /// First byte behind the range.
        end: u64,
        /// Bytes of the buffer.
        capacity: u64,
    },
    /// The buffer is not out: it was freed before.
    NotOut {
        /// The slot.
        slot: u32,
    },
}

impl LedgerView {
    /// A view of `slots`.
    #[must_use]
    pub fn new(slots: Placed<LedgerSlot>) -> LedgerView {
        LedgerView { slots }
    }

    /// Entries of the capability table's derived part that may hold something: what is worth scanning.
    #[must_use]
    pub fn derived_used(&self) -> u32 {
        self.slots.first().map_or(0, |slot| slot.derived_used.load(Ordering::Acquire))
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where buffer `slot` lies, if it still has `generation`.
    ///
    /// # Errors
    /// [`LedgerError::Index`] and [`LedgerError::Stale`].
    #[inline]
    pub fn place(&self, slot: u32, generation: u32) -> Result<Place, LedgerError> {
        let entry = self.slots.get(slot as usize).ok_or(LedgerError::Index { slot })?;
        let has = entry.generation.load(Ordering::Acquire);
        // A slot that never had a buffer is still the kernel's zeros.
        if has != generation || has == 0 {
            return Err(LedgerError::Stale { slot, named: generation, has });
        }
        Ok(Place {
            offset: entry.offset.load(Ordering::Relaxed),
            capacity: entry.capacity.load(Ordering::Relaxed),
        })
    }

    /// As [`LedgerView::place`], and `offset..offset + len` must lie inside the buffer. Returns the place of the range.
    ///
    /// # Errors
    /// As [`LedgerView::place`], and [`LedgerError::OutOfBounds`].
    #[inline]
    pub fn range(&self, slot: u32, generation: u32, offset: u64, len: u64) -> Result<Place, LedgerError> {
        let place = self.place(slot, generation)?;
        match offset.checked_add(len) {
            Some(end) if end <= place.capacity => Ok(Place { offset: place.offset + offset, capacity: len }),
            end => {
                Err(LedgerError::OutOfBounds { slot, end: end.unwrap_or(u64::MAX), capacity: place.capacity })
            }
        }
    }
}

/// The private part of one slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    out: bool,
    class: Option<u8>,
    span_offset: u64,
    span_len: u64,
    /// Whose bytes lie in the first `dirty_len` bytes.
    dirty_by: u16,
    dirty_len: u64,
}

/// The holder that no replica is: bytes of `NOBODY` are zeroed before anyone sees them.
pub const NOBODY: u16 = u16::MAX;

const NO_SLOT: Slot =
    Slot { out: false, class: None, span_offset: 0, span_len: 0, dirty_by: 0, dirty_len: 0 };

/// What the node knows of a pool's buffers.
#[derive(Debug)]
pub struct Ledger {
    view: LedgerView,
    // Those that ever had memory: the tables of an app that does little stay small.
    slots: Vec<Slot>,
    // Slots with memory, by class, and slots that gave theirs back: both last in, first out, so that hot memory is used first.
    by_class: [Vec<u32>; SLAB_CLASSES as usize],
    bare: Vec<u32>,
    // Larger buffers with memory, so that a repeated large payload meets warm pages; the newest last.
    large: Vec<u32>,
    spans: Spans,
    bytes: u64,
    // No byte from here on was ever part of a buffer: they are still the zeros that the kernel gave.
    pristine_from: u64,
    out: u32,
    out_bytes: u64,
    /// Whether large buffers have pages of their own.
    apart: bool,
}

/// A buffer that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// Where it lies.
    pub place: Place,
    /// Whose bytes still lie at its start …
    pub dirty_by: u16,
    /// … and how many.
    pub dirty_len: u64,
}

/// The pool has no room for a buffer of this size now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes that were asked for.
    pub wanted: u64,
    /// Bytes that are free, in one piece or not.
    pub free: u64,
}

/// The size class that holds payloads of `len` bytes; `None` above the largest class.
#[must_use]
pub fn class_of(len: u64) -> Option<u8> {
    (0..SLAB_CLASSES).find(|class| len <= SLAB_MIN_BYTES << class).and_then(|class| u8::try_from(class).ok())
}

/// Payload bytes of a size class.
#[must_use]
pub fn class_bytes(class: u8) -> u64 {
    SLAB_MIN_BYTES << class
}

// From this size on, neighbours would start at the same offset modulo 4 KiB and fight for the same cache sets:
// one extra line per buffer shifts each of them against the one before.
const COLOURED_FROM: u64 = 2048;
/// Large buffers that keep their memory while they are free.
const LARGE_KEPT_MAX: usize = 16;
/// Bytes of a page.
const PAGE: u64 = 4096;

fn span_for(payload: u64) -> u64 {
    let colour = if payload >= COLOURED_FROM { LINE } else { 0 };
    payload.div_ceil(LINE) * LINE + HEADROOM_BYTES + colour
}

/// The size class whose buffers have exactly `capacity` bytes, headroom included.
#[must_use]
pub fn class_of_capacity(capacity: u64) -> Option<u8> {
    let payload = capacity.checked_sub(HEADROOM_BYTES)?;
    class_of(payload)
        .into_iter()
        .chain(class_of(payload.saturating_sub(LINE)))
        .find(|&class| span_for(class_bytes(class)) == capacity)
}

impl Ledger {
    /// A ledger over a pool of `pool_bytes`; its public part goes to `slots`.
    #[must_use]
    pub fn new(slots: Placed<LedgerSlot>, pool_bytes: u64) -> Ledger {
        Ledger {
            view: LedgerView::new(slots),
            slots: Vec::new(),
            by_class: Default::default(),
            bare: Vec::new(),
            large: Vec::with_capacity(LARGE_KEPT_MAX),
            spans: Spans::new(pool_bytes),
            bytes: pool_bytes,
            pristine_from: 0,
            out: 0,
            out_bytes: 0,
            apart: false,
        }
    }

    /// From now on large buffers have pages of their own, so that a memory key can follow each.
    pub fn keep_pages_apart(&mut self) {
        self.apart = true;
    }

    /// Bytes of a span for `payload` bytes, and of one without headroom.
    fn span_bytes(&self, payload: u64, class: Option<u8>) -> (u64, u64) {
        let exact = payload.max(1).div_ceil(LINE).saturating_mul(LINE);
        if self.apart && class.is_none() {
            return ((payload + HEADROOM_BYTES).next_multiple_of(PAGE), exact.next_multiple_of(PAGE));
        }
        (span_for(payload), exact)
    }

    fn take_span(&mut self, bytes: u64, class: Option<u8>) -> Option<u64> {
        if self.apart && class.is_none() {
            self.spans.take_aligned(bytes, PAGE)
        } else {
            self.spans.take(bytes)
        }
    }

    /// Says that derived entries up to `entries` may hold something from now on.
    pub fn publish_derived_used(&self, entries: u32) {
        if let Some(slot) = self.view.slots.first() {
            slot.derived_used.store(entries, Ordering::Release);
        }
    }

    /// The public part.
    #[must_use]
    pub fn view(&self) -> &LedgerView {
        &self.view
    }

    /// Buffers that are out.
    #[must_use]
    pub fn buffers_out(&self) -> u32 {
        self.out
    }

    /// Bytes of the buffers that are out.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.out_bytes
    }

    /// Bytes that no buffer has, recycled ones counted as free.
    #[must_use]
    pub fn bytes_free(&self) -> u64 {
        let kept = self.by_class.iter().flatten().chain(&self.large);
        let cached = kept.filter_map(|&slot| self.slots.get(slot as usize));
        self.spans.free_bytes() + cached.map(|slot| slot.span_len).sum::<u64>()
    }

    /// Gives out a buffer for `len` payload bytes.
    ///
    /// # Errors
    /// [`Full`] when neither a recycled buffer nor free space is left.
    pub fn alloc(&mut self, len: u64) -> Result<Allocation, Full> {
        // Lengths are allegations too: none near the end of numbers may reach the arithmetic below.
        if len > self.bytes {
            return Err(Full { wanted: len, free: self.bytes_free() });
        }
        let class = class_of(len);
        let recycled = match class {
            Some(class) => self.by_class.get_mut(usize::from(class)).and_then(Vec::pop),
            None => self.take_large(self.span_bytes(len, None).0),
        };
        let slot = match recycled {
            Some(slot) => slot,
            None => self.carve(len, class)?,
        };
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return Err(Full { wanted: len, free: 0 });
        };
        entry.out = true;
        self.out += 1;
        self.out_bytes += entry.span_len;
        let Some(shared) = self.view.slots.get(slot as usize) else {
            return Err(Full { wanted: len, free: 0 });
        };
        Ok(Allocation {
            slot,
            generation: shared.generation.load(Ordering::Relaxed),
            place: Place { offset: entry.span_offset, capacity: entry.span_len },
            dirty_by: entry.dirty_by,
            dirty_len: entry.dirty_len,
        })
    }

    /// The newest kept large buffer that has `wanted` bytes and wastes no more than a quarter.
    fn take_large(&mut self, wanted: u64) -> Option<u32> {
        let fits = |slot: &u32| {
            let has = self.slots.get(*slot as usize).map_or(0, |entry| entry.span_len);
            has >= wanted && has - wanted <= wanted / 4
        };
        let at = self.large.iter().rposition(fits)?;
        Some(self.large.remove(at))
    }

    fn carve(&mut self, len: u64, class: Option<u8>) -> Result<u32, Full> {
        let (wanted, exact) =
            (self.span_bytes(class.map_or(len, class_bytes), class).0, self.span_bytes(len, class).1);
        let mut found = self.take_span(wanted, class).map(|offset| (offset, wanted));
        if found.is_none() {
            self.release_recycled();
            found = self.take_span(wanted, class).map(|offset| (offset, wanted));
        }
        // The last resort is a buffer without headroom: a payload may be as large as the pool.
        let found = found.or_else(|| self.take_span(exact, class).map(|offset| (offset, exact)));
        let full = Full { wanted: len, free: self.spans.free_bytes() };
        let (offset, span_len) = found.ok_or(full)?;
        let Some(slot) = self.bare.pop().or_else(|| self.fresh_slot()) else {
            self.spans.give(offset, span_len);
            return Err(full);
        };
        let class = class.filter(|_| span_len == wanted);
        if let (Some(entry), Some(shared)) =
            (self.slots.get_mut(slot as usize), self.view.slots.get(slot as usize))
        {
            // What was part of a buffer before may hold anyone's bytes.
            let dirty_len = self.pristine_from.saturating_sub(offset).min(span_len);
            *entry = Slot { out: false, class, span_offset: offset, span_len, dirty_by: NOBODY, dirty_len };
            self.pristine_from = self.pristine_from.max(offset + span_len);
            shared.offset.store(offset, Ordering::Relaxed);
            shared.capacity.store(span_len, Ordering::Relaxed);
        }
        Ok(slot)
    }

    /// A slot that never had memory.
    fn fresh_slot(&mut self) -> Option<u32> {
        let slot = u32::try_from(self.slots.len()).ok()?;
        // Generation 0 is never given out: a zeroed handle is stale.
        self.view.slots.get(slot as usize)?.generation.store(1, Ordering::Release);
        self.slots.push(NO_SLOT);
        Some(slot)
    }

    /// Gives the memory of all recycled buffers back to the free spans.
    fn release_recycled(&mut self) {
        let kept: Vec<u32> = self.by_class.iter_mut().flat_map(|list| list.drain(..)).collect();
        let large = core::mem::take(&mut self.large);
        for slot in kept.into_iter().chain(large) {
            self.release(slot);
        }
    }

    fn release(&mut self, slot: u32) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            self.spans.give(entry.span_offset, entry.span_len);
            *entry = NO_SLOT;
            self.bare.push(slot);
        }
    }

    /// Checks that buffer `slot` is out with `generation`, and that the range lies inside it.
    ///
    /// # Errors
    /// All of [`LedgerError`].
    pub fn check(&self, slot: u32, generation: u32, offset: u64, len: u64) -> Result<Place, LedgerError> {
        let range = self.view.range(slot, generation, offset, len)?;
        match self.slots.get(slot as usize) {
            Some(entry) if entry.out => Ok(range),
            _ => Err(LedgerError::NotOut { slot }),
        }
    }

    /// Takes a buffer back. Bytes of `dirty_by` lie in its first `dirty_len` bytes.
    ///
    /// # Errors
    /// [`LedgerError`] when it is not out with that generation; nothing changes then.
    pub fn free(
        &mut self,
        slot: u32,
        generation: u32,
        dirty_by: u16,
        dirty_len: u64,
    ) -> Result<(), LedgerError> {
        let place = self.view.place(slot, generation)?;
        let entry = self.slots.get_mut(slot as usize).ok_or(LedgerError::Index { slot })?;
        if !entry.out {
            return Err(LedgerError::NotOut { slot });
        }
        if let Some(shared) = self.view.slots.get(slot as usize) {
            // Skip 0 on wrap-around: it is never given out.
            let next = generation.checked_add(1).unwrap_or(1);
            shared.generation.store(next, Ordering::Release);
        }
        entry.out = false;
        let dirty_len = dirty_len.min(place.capacity);
        // Two owners' bytes in one buffer are nobody's.
        let mixed = entry.dirty_len > 0 && entry.dirty_by != dirty_by;
        entry.dirty_by = if mixed { NOBODY } else { dirty_by };
        entry.dirty_len = entry.dirty_len.max(dirty_len);
        self.out -= 1;
        self.out_bytes -= entry.span_len;
        if let Some(list) = entry.class.and_then(|class| self.by_class.get_mut(usize::from(class))) {
            list.push(slot);
        } else {
            if self.large.len() == LARGE_KEPT_MAX {
                let oldest = self.large.remove(0);
                self.release(oldest);
            }
            self.large.push(slot);
        }
        Ok(())
    }

    /// Whose bytes lie in buffer `slot`, and how many from its start.
    #[must_use]
    pub fn dirt(&self, slot: u32) -> (u16, u64) {
        self.slots.get(slot as usize).map_or((NOBODY, 0), |entry| (entry.dirty_by, entry.dirty_len))
    }

    /// The buffer holds no byte of an owner before.
    pub fn mark_clean(&mut self, slot: u32) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            entry.dirty_len = 0;
        }
    }

    /// Bytes of holders that are `gone` are nobody's from now on: their numbers may become others'.
    pub fn disown(&mut self, gone: impl Fn(u16) -> bool) {
        self.slots.iter_mut().filter(|slot| gone(slot.dirty_by)).for_each(|slot| slot.dirty_by = NOBODY);
    }

    /// Slots and generations of all buffers that are out.
    pub fn out(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let slots = self.slots.iter().zip(&*self.view.slots).enumerate();
        slots.filter(|(_, (slot, _))| slot.out).filter_map(|(index, (_, shared))| {
            Some((u32::try_from(index).ok()?, shared.generation.load(Ordering::Relaxed)))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
