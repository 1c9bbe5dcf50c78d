//! Copies that may meet a page that is not there, and words read as they were copied.

// UNSAFETY: copies memory of guests.
#![expect(unsafe_code, reason = "calls the copies of the assembly, and reads volatile")]

use core::arch::asm;
use core::mem::offset_of;

use baton_abi::gate::{Parcel, SMALL_BYTES};

use super::{baton_copy, baton_copy_line, baton_copy_lines, baton_copy_word, baton_write_plain};

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

/// As [`copy`], a line of 64 bytes that a guest wrote before it passed its gate.
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
pub(crate) unsafe fn copy_line(to: u64, from: u64) -> bool {
    let failed: u64;
    // SAFETY: as in `copy`; whatever else the assembly changes is named.
    unsafe {
        asm!(
            "call {copy}",
            copy = sym baton_copy_line,
            in("rdi") to,
            in("rsi") from,
            out("rax") failed,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
        );
    };
    failed == 0
}

/// What a parcel says that carries a few bytes at most.
pub(crate) struct Plain {
    /// Kind, flags, code and tag.
    pub(crate) first: u64,
    pub(crate) invocation: u64,
    pub(crate) deadline_ns: u64,
    /// A payload of no more than eight bytes.
    pub(crate) word: u64,
    pub(crate) bytes: u64,
    pub(crate) from: u16,
}

// What the assembly writes.
const _: () = {
    assert!(offset_of!(Parcel, words) == 0 && offset_of!(Parcel, body_base) == 64);
    assert!(offset_of!(Parcel, rights) == 96 && offset_of!(Parcel, from) == 100);
    assert!(offset_of!(Parcel, small) == 128 && size_of::<Parcel>() == 128 + SMALL_BYTES);
};

/// Writes a parcel with so many bytes at `small` as it says, [`SMALL_BYTES`] at most, or without any if that is 0; `false` if a page
/// of either side is not accessible, after which a part may have been written.
///
/// # Safety
/// `to` must be memory of a guest's seat, for a whole parcel. `plain.bytes` are no more than a parcel holds unless `small` is 0.
#[inline(always)]
pub(crate) unsafe fn write_plain(to: u64, small: u64, plain: Plain) -> bool {
    let Plain { first, invocation, deadline_ns, word, bytes, from } = plain;
    let failed: u64;
    // SAFETY: as in `copy`; whatever else the assembly changes is named.
    unsafe {
        asm!(
            "call {write}",
            write = sym baton_write_plain,
            in("rdi") to,
            in("rsi") small,
            inlateout("rax") first => failed,
            in("rcx") invocation,
            in("rdx") deadline_ns,
            in("r8") word,
            in("r9") bytes,
            in("r10") u64::from(from) << 32,
            out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
        );
    };
    failed == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_parcel_has_what_it_says_of_the_line_and_zeros_behind() {
        let line: [u8; SMALL_BYTES] = core::array::from_fn(|at| u8::try_from(at + 1).unwrap());
        for bytes in (0..9).chain(9..=SMALL_BYTES) {
            let mut parcel = Parcel { words: [u64::MAX; 8], small: [u64::MAX; 8], ..Parcel::EMPTY };
            (parcel.body_base, parcel.head_capacity, parcel.rights, parcel.kept_at) = (1, 2, 3, 4);
            let small = if bytes > 8 { line.as_ptr() as u64 } else { 0 };
            let plain = Plain {
                first: 1 << 40 | 1,
                invocation: 2,
                deadline_ns: 3,
                word: 4,
                bytes: bytes as u64,
                from: 0xfffe,
            };
            // SAFETY: a parcel of this test's own.
            assert!(unsafe { write_plain(&raw mut parcel as u64, small, plain) });
            let none = u64::from(baton_abi::NONE);
            assert_eq!(parcel.words, [1 << 40 | 1, 2, 3, none, 4, bytes as u64, none, 0]);
            assert_eq!((parcel.rights, parcel.from, parcel.kept_at), (0, 0xfffe, 0));
            let rest = [parcel.body_base, parcel.body_capacity, parcel.head_base, parcel.head_capacity];
            assert_eq!((rest, parcel.reserved), ([0; 4], [0; 2]));
            let small = parcel.small.map(u64::to_le_bytes);
            if bytes <= 8 {
                assert_eq!(parcel.small, [u64::MAX; 8], "what is not used stays as it was");
            } else {
                let (payload, behind) = small.as_flattened().split_at(bytes);
                assert!(payload == &line[..bytes] && behind.iter().all(|&byte| byte == 0), "{bytes} bytes");
            }
        }
    }
}
