//! What passed over an edge: a row of counters that the caller's side adds to, and the node reads.
//!
//! | field | the caller's side | the node |
//! |---|---|---|
//! | all | the only one that writes: a load and a store each, no read-modify-write | reads, at any time |
//!
//! Rows lie in the first page of a link or edge, at byte 1024, 64 bytes each: one for the edge itself, and in the link of a
//! seat of a cell one for each seat that it may call. Nobody but the caller touches the line, so that counting costs no
//! cache miss. They are for people to look at: the node believes nothing of them, and decides nothing by them.

use crate::placed::{Placed, SharedLayout};
use crate::sync::{AtomicU64, Ordering};

/// Rows that one link or edge has.
pub const ROWS: usize = 32;
/// One call in so many is timed: reading the clock costs more than all other counting.
pub const TIMED_EVERY: u64 = 64;

/// The counters of one edge.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Figures {
    calls: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    timed: AtomicU64,
    timed_ns: AtomicU64,
    _rest: [AtomicU64; 3],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Figures>() == 64);
    assert!(core::mem::offset_of!(Figures, errors) == 8);
    assert!(core::mem::offset_of!(Figures, bytes) == 16);
    assert!(core::mem::offset_of!(Figures, timed) == 24);
    assert!(core::mem::offset_of!(Figures, timed_ns) == 32);
};

// UNSAFETY: promises that a row may lie in memory that other processes write.
#[expect(unsafe_code, reason = "marks a structure as made of atomics only")]
// SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
unsafe impl SharedLayout for Figures {}

/// The rows of a link, apart from the link itself.
#[derive(Debug)]
pub struct Rows(pub(crate) Placed<Figures>);

impl Rows {
    /// One of them.
    #[must_use]
    #[inline]
    pub fn get(&self, nth: usize) -> Option<&Figures> {
        self.0.get(nth)
    }
}

/// What a row says: an allegation of the caller's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Calls that were sent.
    pub calls: u64,
    /// Answers that were failures.
    pub errors: u64,
    /// Bytes of payloads, of calls and answers.
    pub bytes: u64,
    /// Calls that were timed.
    pub timed: u64,
    /// From call to answer, nanoseconds, of those that were timed.
    pub timed_ns: u64,
}

#[inline]
fn add(counter: &AtomicU64, more: u64) {
    // There is one writer: the sum needs no atomic step.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Figures {
    /// A call with a payload of so many bytes was sent. `true` if it is one to be timed.
    #[inline]
    pub fn note_call(&self, bytes: u64) -> bool {
        let before = self.calls.load(Ordering::Relaxed);
        self.calls.store(before.wrapping_add(1), Ordering::Relaxed);
        add(&self.bytes, bytes);
        before.is_multiple_of(TIMED_EVERY)
    }

    /// A call was answered, with a payload of so many bytes.
    #[inline]
    pub fn note_answer(&self, bytes: u64, is_error: bool) {
        add(&self.bytes, bytes);
        if is_error {
            add(&self.errors, 1);
        }
    }

    /// A call that is timed took so long.
    #[inline]
    pub fn note_time(&self, ns: u64) {
        add(&self.timed, 1);
        add(&self.timed_ns, ns);
    }

    /// What the row says now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            timed: self.timed.load(Ordering::Relaxed),
            timed_ns: self.timed_ns.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    /// How long all calls took, judged by those that were timed.
    #[must_use]
    pub fn busy_ns(&self) -> u64 {
        if self.timed == 0 {
            return 0;
        }
        let all = u128::from(self.timed_ns) * u128::from(self.calls) / u128::from(self.timed);
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Counted) -> Counted {
        Counted {
            calls: self.calls.saturating_add(other.calls),
            errors: self.errors.saturating_add(other.errors),
            bytes: self.bytes.saturating_add(other.bytes),
            timed: self.timed.saturating_add(other.timed),
            timed_ns: self.timed_ns.saturating_add(other.timed_ns),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_is_timed_and_then_one_in_so_many() {
        let row = Figures::default();
        let timed = (0..2 * TIMED_EVERY).filter(|_| row.note_call(3)).count();
        assert_eq!(timed, 2);
        row.note_time(100);
        row.note_answer(4, true);
        let counted = row.counted();
        assert_eq!((counted.calls, counted.errors, counted.bytes), (128, 1, 128 * 3 + 4));
        assert_eq!(counted.busy_ns(), 12_800);
    }

    #[test]
    fn any_row_can_be_read() {
        let wild = Counted { calls: u64::MAX, errors: 0, bytes: u64::MAX, timed: 1, timed_ns: u64::MAX };
        assert_eq!(wild.busy_ns(), u64::MAX);
        assert_eq!(wild.plus(wild), wild.plus(Counted { timed: 1, timed_ns: 0, ..wild }));
        assert_eq!(Counted::default().busy_ns(), 0);
    }
}
