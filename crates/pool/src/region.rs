//! Regions: sealed memory files and their mappings.
//!
//! A region is a memfd whose size is sealed before anyone else gets it, so that no peer can shrink it under a
//! mapping (SIGBUS). Replicas that may only read get a descriptor that was opened read-only: `mprotect` cannot
//! turn its mappings writable.

// UNSAFETY: maps memory files and reads and writes the mappings through raw pointers.
#![expect(unsafe_code, reason = "memory mappings and copies to and from memory that other processes share")]

use core::ptr::NonNull;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

mod socket;

pub use socket::{Room, low_water, unacknowledged};

/// Why a region could not be made or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionError {
    /// The step that failed.
    pub step: &'static str,
    /// What the kernel said.
    pub errno: Errno,
}

impl core::fmt::Display for RegionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "shared memory: {} failed: {}", self.step, self.errno)
    }
}

impl std::error::Error for RegionError {}

fn at(step: &'static str) -> impl FnOnce(Errno) -> RegionError {
    move |errno| RegionError { step, errno }
}

/// How a region is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only; stores fault.
    Read,
    /// Loads and stores.
    ReadWrite,
}

/// Makes a memory file of `bytes` zero bytes whose size can never change. `huge_pages` asks for 2 MiB pages.
///
/// # Errors
/// [`RegionError`] naming the step: no memory, no huge pages reserved, or memfd not permitted.
pub fn create(name: &str, bytes: u64, huge_pages: bool) -> Result<OwnedFd, RegionError> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge_pages {
        flags |= MemfdFlags::HUGETLB;
    }
    let fd = rustix::fs::memfd_create(name, flags).map_err(at("memfd_create"))?;
    rustix::fs::ftruncate(&fd, bytes).map_err(at("ftruncate"))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals).map_err(at("F_ADD_SEALS"))?;
    Ok(fd)
}

/// A second descriptor of the same file that can only be read and only be mapped read-only.
///
/// # Errors
/// [`RegionError`] when `/proc` is not there to reopen the file through.
pub fn read_only(fd: BorrowedFd<'_>) -> Result<OwnedFd, RegionError> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(at("reopen read-only"))
}

/// A mapping of a region into this process. Unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    access: Access,
}

// SAFETY: the mapping is owned memory; all access through it is by atomics or by raw copies whose callers
// hold the right to the range.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` has no interior state of its own.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of `fd`.
    ///
    /// # Errors
    /// [`RegionError`] as the kernel says it.
    pub fn new(fd: impl AsFd, bytes: usize, access: Access) -> Result<Mapping, RegionError> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            rustix::mm::mmap(core::ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd.as_fd(), 0)
        }
        .map_err(at("mmap"))?;
        let base = NonNull::new(base.cast()).ok_or(RegionError { step: "mmap", errno: Errno::NOMEM })?;
        Ok(Mapping { base, bytes, access })
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Never: a mapping has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether stores are possible.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Address of byte `offset`, if `offset..offset + len` lies inside the mapping.
    #[must_use]
    pub fn address(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        if end > self.bytes as u64 {
            return None;
        }
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: `offset <= bytes`, so the result stays inside the mapping or one past its end.
        Some(unsafe { self.base.add(offset) })
    }

    /// Copies `bytes` to `offset`; `false` if the range does not lie inside a writable mapping.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let (Access::ReadWrite, Some(to)) = (self.access, self.address(offset, bytes.len() as u64)) else {
            return false;
        };
        // SAFETY: `to` is valid for `bytes.len()` bytes of writable mapping; `bytes` is private memory, so they
        // do not overlap. Concurrent access by another process can only garble payload bytes of the same app.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    /// Copies `out.len()` bytes at `offset` into private memory; `false` if the range is outside.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        let Some(from) = self.address(offset, out.len() as u64) else { return false };
        // SAFETY: `from` is valid for `out.len()` bytes; `out` is private memory, so they do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), out.as_mut_ptr(), out.len()) };
        true
    }

    /// Copies `len` bytes from one place to another that it does not overlap; `false` if either lies outside.
    pub fn copy_within(&self, from: u64, to: u64, len: u64) -> bool {
        let apart = from.saturating_add(len) <= to || to.saturating_add(len) <= from;
        let (Access::ReadWrite, true) = (self.access, apart) else { return false };
        let (Some(source), Some(target)) = (self.address(from, len), self.address(to, len)) else {
            return false;
        };
        let Ok(len) = usize::try_from(len) else { return false };
        // SAFETY: both ranges lie inside the writable mapping and were just found not to overlap.
        unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), target.as_ptr(), len) };
        true
    }

    /// Writes zeros over a range; `false` if it does not lie inside a writable mapping.
    pub fn zero(&self, offset: u64, len: u64) -> bool {
        let (Access::ReadWrite, Some(to)) = (self.access, self.address(offset, len)) else { return false };
        let Ok(len) = usize::try_from(len) else { return false };
        // SAFETY: `to` is valid for `len` bytes of writable mapping.
        unsafe { core::ptr::write_bytes(to.as_ptr(), 0, len) };
        true
    }

    /// The bytes of a range, in place.
    ///
    /// # Safety
    /// Until the slice is gone, whoever else maps the region must not write the range, or the caller must only
    /// pass the bytes on (to the kernel, to a copy) and decide nothing by them: then a write from another
    /// process can garble what is passed on and nothing else.
    #[must_use]
    pub unsafe fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let from = self.address(offset, len)?;
        let len = usize::try_from(len).ok()?;
        // SAFETY: valid for `len` bytes inside the mapping, which outlives `&self`; the caller vouches for writers.
        Some(unsafe { core::slice::from_raw_parts(from.as_ptr(), len) })
    }
}

/// A range of a mapping that is passed on as it is: to a socket, to a copy.
#[derive(Clone, Debug)]
pub struct View {
    mapping: std::sync::Arc<Mapping>,
    offset: u64,
    len: u64,
}

impl View {
    /// The range `offset..offset + len` of `mapping`; `None` if it does not lie inside.
    #[must_use]
    pub fn new(mapping: &std::sync::Arc<Mapping>, offset: u64, len: u64) -> Option<View> {
        mapping.address(offset, len)?;
        Some(View { mapping: std::sync::Arc::clone(mapping), offset, len })
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where in the region it begins, bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops the first `bytes` (at most all of them) from the view.
    pub fn advance(&mut self, bytes: u64) {
        let bytes = bytes.min(self.len);
        self.offset += bytes;
        self.len -= bytes;
    }

    /// At most the first `bytes` of it.
    #[must_use]
    pub fn first(&self, bytes: u64) -> View {
        View { len: self.len.min(bytes), ..self.clone() }
    }

    /// The bytes, to be passed on and nothing else: a process of the app can still change them, so nothing may be
    /// decided by what they say.
    #[must_use]
    pub fn pass_on(&self) -> &[u8] {
        // SAFETY: the range was checked when the view was made and only shrinks since. The node has taken the
        // capability over, so no honest process writes any more; what a lying one writes garbles its own app's
        // answer, because the bytes are only copied or written to a socket.
        unsafe { self.mapping.slice(self.offset, self.len) }.unwrap_or_default()
    }

    /// A private copy of the bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.to_vec_with_room(0)
    }

    /// The same, with room for some more bytes behind them.
    #[must_use]
    pub fn to_vec_with_room(&self, room: usize) -> Vec<u8> {
        let len = usize::try_from(self.len).unwrap_or(0);
        let mut out = Vec::with_capacity(len.saturating_add(room));
        out.resize(len, 0);
        self.mapping.read(self.offset, &mut out);
        out
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mmap; nothing borrowed from `self` lives any more.
        // A failure leaves the range mapped, which is all that can be done about it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Gives the pages that lie wholly inside a range back to the kernel; they read as zeros afterwards.
/// The file keeps its size. Returns whether the kernel did it.
#[must_use]
pub fn punch(fd: BorrowedFd<'_>, offset: u64, len: u64) -> bool {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let is_done = rustix::fs::fallocate(fd, flags, offset, len).is_ok();
    // To the compiler this call writes no memory: without the fence a later read may be given what was written before.
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    is_done
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_region_can_neither_grow_nor_shrink() {
        let fd = create("test", 8192, false).unwrap();
        assert!(rustix::fs::ftruncate(&fd, 4096).is_err());
        assert!(rustix::fs::ftruncate(&fd, 16384).is_err());
        assert!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_for_writing() {
        let fd = create("test", 4096, false).unwrap();
        let reader = read_only(fd.as_fd()).unwrap();
        assert!(Mapping::new(&reader, 4096, Access::ReadWrite).is_err());
        let writer = Mapping::new(&fd, 4096, Access::ReadWrite).unwrap();
        let reader = Mapping::new(&reader, 4096, Access::Read).unwrap();
        assert!(writer.write(100, b"seen"));
        let mut seen = [0; 4];
        assert!(reader.read(100, &mut seen));
        assert_eq!(&seen, b"seen");
        assert!(!reader.write(100, b"no"));
        assert!(!reader.zero(100, 1));
    }

    #[test]
    fn ranges_outside_are_refused() {
        let fd = create("test", 4096, false).unwrap();
        let map = Mapping::new(&fd, 4096, Access::ReadWrite).unwrap();
        assert!(map.address(4096, 0).is_some());
        assert!(map.address(4096, 1).is_none());
        assert!(map.address(u64::MAX, 2).is_none());
        assert!(!map.write(4090, b"1234567"));
        assert!(!map.read(4090, &mut [0; 7]));
    }

    #[test]
    fn punched_pages_read_as_zeros() {
        let fd = create("test", 8192, false).unwrap();
        let map = Mapping::new(&fd, 8192, Access::ReadWrite).unwrap();
        assert!(map.write(4096, b"secret"));
        assert!(punch(fd.as_fd(), 4096, 4096));
        let mut seen = [1; 6];
        assert!(map.read(4096, &mut seen));
        assert_eq!(seen, [0; 6]);
    }
}
