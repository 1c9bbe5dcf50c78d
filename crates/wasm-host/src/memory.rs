//! The module's memory: at a fixed place of the seat, so that the pool's window lies within its reach.

// UNSAFETY: maps the module's memory.
#![expect(unsafe_code, reason = "the module's memory is this program's own")]

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use baton_abi::cell::{LINEAR_OFFSET, SEAT_BYTES};
use baton_abi::wasm::WINDOW_AT;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Address of byte 0 of the module's memory.
pub(crate) fn base() -> u64 {
    // Whatever lies in this program's image tells where its seat begins.
    let here = core::ptr::from_ref(&MARK).expose_provenance() as u64;
    (here & !(SEAT_BYTES - 1)) + LINEAR_OFFSET
}

static MARK: u8 = 0;

/// Has the engine make its one memory here.
pub(crate) fn bring(config: &mut wasmtime::Config) {
    config.with_host_memory(std::sync::Arc::new(Here));
    baton_wasm_host::image::settings(config);
}

struct Here;

/// The memory of the one module. It says that it is as large as it can be; see [`baton_abi::wasm::OPEN`].
struct Linear;

/// What it says: all pages of 64 KiB but the last.
const SIZE: usize = (4 << 30) - (64 << 10);
/// Bytes that are accessible from the start of the memory.
static OPENED: AtomicUsize = AtomicUsize::new(0);

/// Whether the memory grew by [`grow`]: what is opened next would be somebody else's.
static GROWN: AtomicBool = AtomicBool::new(false);

/// Makes the first `end` bytes accessible.
pub(crate) fn open_up_to(end: u64) -> i64 {
    let is_more = end > OPENED.load(Ordering::Relaxed) as u64;
    if is_more && (GROWN.load(Ordering::Relaxed) || !opened_up_to(end)) {
        return -i64::from(libc::ENOMEM);
    }
    0
}

/// What `memory.grow` asks for: so many pages more, zeros, behind all that is accessible, and no more than `most` of them. How
/// many there were, or -1.
pub(crate) fn grow(pages: u64, most: u64) -> i64 {
    const PAGE: u64 = 64 << 10;
    let before = (OPENED.load(Ordering::Relaxed) as u64).div_ceil(PAGE);
    let wanted = before.saturating_add(pages);
    if pages > 0 {
        if wanted > most || !opened_up_to(wanted.saturating_mul(PAGE)) {
            return -1;
        }
        GROWN.store(true, Ordering::Relaxed);
    }
    before.cast_signed()
}

/// Makes the first `end` bytes accessible, more than there are; whether that went well.
fn opened_up_to(end: u64) -> bool {
    const PAGE: usize = 4096;
    let before = OPENED.load(Ordering::Relaxed);
    let wanted = usize::try_from(end.min(WINDOW_AT)).unwrap_or(usize::MAX).next_multiple_of(PAGE);
    let is_open = end <= WINDOW_AT && (wanted <= before || open(before, wanted).is_ok());
    if is_open {
        OPENED.store(before.max(wanted), Ordering::Relaxed);
    }
    is_open
}

/// Makes the bytes from `from` to `to` accessible, zeros.
fn open(from: usize, to: usize) -> Result<(), String> {
    let at = base() + from as u64;
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    // SAFETY: below the window, in the part of the seat where nothing but this memory lies.
    let mapped = unsafe { libc::mmap(at as *mut libc::c_void, to - from, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(format!("no memory for {to} bytes")) } else { Ok(()) }
}

// SAFETY: zeros, never moved; what lies behind it is the window, whose rights are the seat's, and unmapped after that.
unsafe impl MemoryCreator for Here {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if !opened_up_to(minimum as u64) {
            return Err(format!("no memory for {minimum} bytes: raise `memory` in the manifest"));
        }
        Ok(Box::new(Linear))
    }
}

// SAFETY: as above.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        SIZE
    }

    fn byte_capacity(&self) -> usize {
        SIZE
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        wasmtime::bail!("a memory of {new_size} bytes: it is as large as it can be")
    }

    fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(usize::try_from(base()).unwrap_or(0))
    }
}
