//! Words shared by two processes.
// UNSAFETY: mapping memory is unsafe by nature, and no safe wrapper hands out atomics over a shared mapping.
#![expect(unsafe_code, reason = "maps a sealed memfd and looks at it through atomics")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// How many words there are: one page of them.
pub(super) const WORDS: usize = 1024;
const BYTES: usize = WORDS * size_of::<AtomicU32>();

/// Fresh zero words that can be passed to another process.
pub(super) fn create() -> io::Result<OwnedFd> {
    let file = memfd_create("yardstick", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, BYTES as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Maps the words for the rest of the process's life.
pub(super) fn map(file: impl AsFd) -> io::Result<&'static [AtomicU32; WORDS]> {
    let long_enough = u64::try_from(fstat(&file)?.st_size).is_ok_and(|size| size >= BYTES as u64);
    if !long_enough || !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: with a null hint and no MAP_FIXED the kernel picks a free range, so no memory of Rust's is replaced.
    let address = unsafe { mmap(std::ptr::null_mut(), BYTES, protection, MapFlags::SHARED, file, 0) }?;
    // SAFETY: the range is page-aligned, BYTES long and never unmapped; the file is at least as long and sealed
    // against shrinking (checked above), so no access faults; memory that others write is only seen as atomics.
    Ok(unsafe { &*address.cast::<[AtomicU32; WORDS]>() })
}
