//! Which buffers are kept for later: for those who look at a cell from outside.

use core::sync::atomic::{AtomicU64, Ordering};

use baton_abi::gate::KeptMap;
use baton_abi::limits::SLOTS_MAX;

use crate::capability::Handle;

/// Which pool buffers are in the stash: for those who look from outside.
static KEPT: KeptMap = [const { AtomicU64::new(0) }; SLOTS_MAX as usize / 64];

/// Where that lies.
pub(super) fn at() -> u64 {
    KEPT.as_ptr().expose_provenance() as u64
}

/// Notes that a buffer is kept, or is not any more. There is one thread that does; handles beyond the pool's slots are not
/// shown to anyone.
#[inline]
pub(super) fn note(handle: Handle, is_kept: bool) {
    let Some(word) = KEPT.get(handle.index as usize / 64) else { return };
    let bit = 1 << (handle.index % 64);
    let before = word.load(Ordering::Relaxed);
    word.store(if is_kept { before | bit } else { before & !bit }, Ordering::Relaxed);
}
