//! Copies that may meet a page that is not there, and words read as they were copied.

// UNSAFETY: copies memory of guests.
#![expect(unsafe_code, reason = "calls the copies of the assembly, and reads volatile")]

use super::{baton_copy, baton_copy_lines, baton_copy_word};

/// A value that was just written by itself, read by itself: the processor waits where it is read together with its neighbours.
#[inline(always)]
pub(crate) fn alone<T: Copy>(value: &T) -> T {
    // SAFETY: reads what the reference is to.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}

/// Words that were just copied, read as they were written.
#[inline(always)]
pub(crate) fn each<const N: usize>(words: &[u64; N]) -> [u64; N] {
    core::array::from_fn(|nth| words.get(nth).map_or(0, alone))
}

/// Copies `len` bytes; `false` if a page of either side is not accessible, after which a part may have been copied.
///
/// # Safety
/// `to` must be memory that may be overwritten: of a guest's seat, or exclusive memory of the runtime.
pub(crate) unsafe fn copy(to: u64, from: u64, len: usize) -> bool {
    // SAFETY: the caller vouches for `to`; a fault on either side ends in the failure label.
    unsafe { baton_copy(to as *mut u8, from as *const u8, len) == 0 }
}

/// As [`copy`], so many lines of 64 bytes, one at least.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub(crate) unsafe fn copy_lines(to: u64, from: u64, lines: usize) -> bool {
    // SAFETY: as in `copy`.
    unsafe { baton_copy_lines(to as *mut u8, from as *const u8, lines) == 0 }
}

/// As [`copy`], a word of eight bytes.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub(crate) unsafe fn copy_word(to: u64, from: u64) -> bool {
    // SAFETY: as in `copy`.
    unsafe { baton_copy_word(to as *mut u8, from as *const u8) == 0 }
}
