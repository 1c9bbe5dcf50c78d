//! Where a seat lies: what is its guest's own memory, whatever is mapped there.

// UNSAFETY: copies memory of guests.
#![expect(unsafe_code, reason = "the memory of guests")]

use core::mem::MaybeUninit;

use baton_abi::cell::{POOL_AT, SEAT_BYTES, WINDOW_OFFSET};

use crate::arch;

/// A seat's place. It never changes, so that whoever asks needs to borrow nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    base: u64,
    /// Bytes from there on that have nothing of the pool: all of the seat, or what lies below its window.
    below: u64,
    /// Bytes of the pool that appear in the seat, if any do: they are not the seat's memory.
    window: u64,
}

// What lies below the window is less than all of a seat.
const _: () = assert!(WINDOW_OFFSET <= SEAT_BYTES);

impl Reach {
    pub(crate) const fn new(base: u64, window: u64) -> Reach {
        Reach { base, below: if window == 0 { SEAT_BYTES } else { WINDOW_OFFSET }, window }
    }

    pub(crate) const fn base(self) -> u64 {
        self.base
    }

    /// Whether a range lies in this seat, whatever is mapped there. The window does not: it is the pool.
    #[inline]
    pub(crate) fn contains(self, at: u64, len: u64) -> bool {
        // What lies in front of the seat wraps, and is too far.
        let offset = at.wrapping_sub(self.base);
        len <= self.below && offset <= self.below - len
            || self.window != 0 && self.is_above_window(offset, len)
    }

    /// As [`Reach::contains`], for a range of a length that is known: less than any seat has.
    #[inline(always)]
    pub(crate) fn holds<const LEN: u64>(self, at: u64) -> bool {
        const { assert!(LEN <= WINDOW_OFFSET) };
        let offset = at.wrapping_sub(self.base);
        offset <= self.below - LEN || self.window != 0 && self.is_above_window(offset, LEN)
    }

    #[cold]
    fn is_above_window(self, offset: u64, len: u64) -> bool {
        len <= SEAT_BYTES && offset <= SEAT_BYTES - len && offset >= WINDOW_OFFSET + self.window
    }

    /// The address in the pool's own place of something in the window, of anything else the same.
    pub(crate) fn pool_address(self, at: u64) -> u64 {
        let from = self.base + WINDOW_OFFSET;
        if at >= from && at - from < self.window { POOL_AT + (at - from) } else { at }
    }

    /// Where a range of the pool appears in the window, if the seat has one.
    pub(crate) fn in_window(self, pool_at: u64, len: u64) -> Option<u64> {
        let offset = pool_at.checked_sub(POOL_AT)?;
        let fits = self.window != 0 && offset.checked_add(len)? <= self.window;
        fits.then(|| self.base + WINDOW_OFFSET + offset)
    }

    /// Copies guest memory out; `false` if a page is not readable.
    #[inline]
    pub(crate) fn read(self, at: u64, out: &mut [u8]) -> bool {
        // SAFETY: `out` is exclusive memory of the runtime.
        self.contains(at, out.len() as u64) && unsafe { arch::copy(out.as_mut_ptr() as u64, at, out.len()) }
    }

    /// As [`Reach::read`], a word.
    #[inline]
    pub(crate) fn read_word(self, at: u64) -> Option<u64> {
        let mut word = 0;
        // SAFETY: `word` is exclusive memory of the runtime.
        let copied = self.holds::<8>(at) && unsafe { arch::copy_word(&raw mut word as u64, at) };
        copied.then_some(word)
    }

    /// As [`Reach::read`], a line of eight words that the guest wrote before it passed its gate.
    #[inline(always)]
    pub(crate) fn read_line(self, at: u64, out: &mut MaybeUninit<[u64; 8]>) -> Option<&[u64; 8]> {
        // SAFETY: `out` is exclusive memory of the runtime.
        let copied = self.holds::<64>(at) && unsafe { arch::copy_line(out.as_mut_ptr() as u64, at) };
        // SAFETY: the copy did not fail: all of it is written.
        copied.then(|| unsafe { out.assume_init_ref() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_length_is_held_where_any_is_contained() {
        const BASE: u64 = 1 << 45;
        for window in [0, 1 << 20] {
            let reach = Reach::new(BASE, window);
            let edges =
                [0, BASE, BASE + WINDOW_OFFSET, BASE + WINDOW_OFFSET + window, BASE + SEAT_BYTES, u64::MAX];
            for at in
                edges.into_iter().flat_map(|edge| (-200i64..=200).map(move |by| edge.wrapping_add_signed(by)))
            {
                let held = (reach.holds::<8>(at), reach.holds::<64>(at), reach.holds::<192>(at));
                let contained = (reach.contains(at, 8), reach.contains(at, 64), reach.contains(at, 192));
                assert_eq!(held, contained, "{at:#x}, window {window}");
            }
        }
        let plain = Reach::new(BASE, 0);
        assert!(plain.holds::<64>(BASE) && plain.holds::<64>(BASE + SEAT_BYTES - 64));
        assert!(!plain.holds::<64>(BASE - 1) && !plain.holds::<64>(BASE + SEAT_BYTES - 63));
    }
}
