//! Where a Wasm module's heap grows: up to the window of the pool, and never into it.
//!
//! ```text
//! 0 ─ stack ─ data ─┬─ what libc has from the start ─┬─ what it takes here … ─┬─ window ─ 4 GiB
//!                   └ __heap_base                    └ __heap_end             └ WINDOW_AT
//! ```
//! The engine lets `memory.copy` and `memory.fill` reach only so far as the memory's size says, so the host says a size that covers
//! the window from the start, and opens what is asked for. Libc's own `sbrk` would have nothing left to grow by.

// UNSAFETY: takes the place of libc's `sbrk`, and names a symbol of the linker's.
#![expect(unsafe_code, reason = "memory is given out here")]

use core::sync::atomic::{AtomicUsize, Ordering};

use baton_abi::wasm::WINDOW_AT;

use super::import::open;

/// The host is asked for so much at a time.
const STEP_BYTES: usize = 256 << 10;
/// Where the heap ends.
#[expect(clippy::cast_possible_truncation, reason = "2 GiB")]
const LAST: usize = WINDOW_AT as usize;
/// What `sbrk` says where there is no more memory.
const NONE: usize = usize::MAX;

unsafe extern "C" {
    /// Its address is the end of what the linker laid out.
    static __heap_end: u8;
}

/// First byte behind what was given out; 0 before the first time.
static END: AtomicUsize = AtomicUsize::new(0);
/// One behind the last byte that the host was asked for.
static OPENED: AtomicUsize = AtomicUsize::new(0);

/// Gives the allocator of libc `more` bytes more, and says where they begin.
#[unsafe(no_mangle)]
extern "C" fn sbrk(more: isize) -> *mut u8 {
    let begin = match END.load(Ordering::Relaxed) {
        0 => (&raw const __heap_end).expose_provenance(),
        end => end,
    };
    match begin.checked_add_signed(more).filter(|&end| end as u64 <= WINDOW_AT && has(end)) {
        Some(end) => {
            END.store(end, Ordering::Relaxed);
            core::ptr::with_exposed_provenance_mut(begin)
        }
        None => core::ptr::with_exposed_provenance_mut(NONE),
    }
}

/// Whether the memory is accessible up to `end`, after the host was asked if that is needed.
fn has(end: usize) -> bool {
    if end <= OPENED.load(Ordering::Relaxed) {
        return true;
    }
    let wanted = end.next_multiple_of(STEP_BYTES).min(LAST);
    let is_open = open(wanted);
    if is_open {
        OPENED.store(wanted, Ordering::Relaxed);
    }
    is_open
}
