//! Snapshots: the memory of a guest as it first asked for a request, in a sealed memory file.
//!
//! ```text
//!  file   ┌ header ┬ pieces ┬ … META_BYTES ┬ pages of piece 0 ┬ pages of piece 1 ┬ …
//! ```
//! A *piece* is a range of the seat with one access and one source: pages of this file, pages of the ELF file that were
//! never written, or zeros. Code is no piece: it is mapped once, by the loader, and never touched again.

// UNSAFETY: reads the memory of a guest that does not run, and maps the file.
#![expect(unsafe_code, reason = "captures and restores the memory of guests")]

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

mod header;

use crate::arch::{self, Context};
use crate::executable::Executable;
use crate::os::Os;
use crate::space::{Region, Space};
use crate::sys::{Access, Backing, PAGE, PAGE_BYTES};
use crate::threads::Threads;

/// Bytes in front of the pages.
pub(crate) const META_BYTES: u64 = 64 * 1024;
/// Largest file of a snapshot.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// Bytes that are read of a kept snapshot at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Why a kept snapshot cannot be used.
#[derive(Debug)]
pub(crate) enum ReopenError {
    /// It is not one, or not one of this function in this seat.
    Malformed,
    Kernel(Errno),
}

impl core::fmt::Display for ReopenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ReopenError::Malformed => f.write_str("its snapshot is none of this function"),
            ReopenError::Kernel(errno) => write!(f, "its snapshot cannot be read: {errno}"),
        }
    }
}

/// Where a piece's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This file, from that byte on.
    File(u64),
    /// The executable, from that byte on.
    Elf(u64),
    Zeros,
}

/// A range of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) access: Access,
    pub(crate) source: Source,
}

/// A guest at its first receive.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) fd: OwnedFd,
    pub(crate) bytes: u64,
    /// The runtime's own view of the file.
    view: u64,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) context: Context,
    /// Where the guest wants its first event.
    pub(crate) recv_at: u64,
    /// See [`crate::seat::Seat::kept_at`].
    pub(crate) kept_at: u64,
    pub(crate) os: Os,
    pub(crate) threads: Threads,
    /// Whether the file says everything: a guest with several threads cannot be brought back from it.
    pub(crate) can_be_kept: bool,
}

/// Registers and promises of a guest at its first receive.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(crate) context: Context,
    pub(crate) recv_at: u64,
    /// See [`crate::seat::Seat::kept_at`].
    pub(crate) kept_at: u64,
    pub(crate) threads: Threads,
}

/// Bytes to be written, from an offset of the file on.
struct Copy {
    from: u64,
    len: u64,
    offset: u64,
}

/// Writes what `space` holds into a new file. `from_file` says where the ELF file is mapped unchanged.
pub(crate) fn capture(
    space: &Space,
    from_file: &[(u64, u64, u64)],
    stand: Stand,
    os: &Os,
) -> Result<Snapshot, Errno> {
    let mut pieces = Vec::new();
    let mut copies = Vec::new();
    let mut end = META_BYTES;
    for (at, region) in space.regions() {
        match region.access {
            Access::Execute => {}
            Access::None => {
                pieces.push(Piece { at, len: region.end - at, access: Access::None, source: Source::Zeros });
            }
            Access::Read | Access::Write => {
                cut((at, region), from_file, &mut |piece, has_bytes| {
                    let source = if has_bytes {
                        copies.push(Copy { from: piece.at, len: piece.len, offset: end });
                        end += piece.len;
                        Source::File(end - piece.len)
                    } else {
                        piece.source
                    };
                    pieces.push(Piece { source, ..piece });
                });
            }
        }
    }
    let head = header::encode(space.base(), &stand, &pieces, os);
    let fd = rustix::fs::memfd_create("baton-snapshot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, end)?;
    let is_complete = head.is_some();
    if let Some(head) = head {
        write_all(&fd, &head, 0)?;
    }
    for copy in copies {
        let len = usize::try_from(copy.len).map_err(|_| Errno::NOMEM)?;
        // SAFETY: the range is mapped readable in the seat, whose guest does not run.
        let bytes = unsafe { core::slice::from_raw_parts(copy.from as *const u8, len) };
        write_all(&fd, bytes, copy.offset)?;
    }
    let mut snapshot = finish(fd, end, pieces, stand, os.clone())?;
    snapshot.can_be_kept = is_complete;
    Ok(snapshot)
}

/// Seals and maps a complete file.
fn finish(fd: OwnedFd, bytes: u64, pieces: Vec<Piece>, stand: Stand, os: Os) -> Result<Snapshot, Errno> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    let len = usize::try_from(bytes).map_err(|_| Errno::NOMEM)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
    let view = unsafe {
        let flags = rustix::mm::MapFlags::SHARED;
        rustix::mm::mmap(core::ptr::null_mut(), len, rustix::mm::ProtFlags::READ, flags, &fd, 0)
    }?;
    let Stand { context, recv_at, kept_at, threads } = stand;
    Ok(Snapshot {
        fd,
        bytes,
        view: view as u64,
        pieces,
        context,
        recv_at,
        kept_at,
        os,
        threads,
        can_be_kept: true,
    })
}

fn write_all(fd: &OwnedFd, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        done += rustix::io::pwrite(fd, rest, offset + done as u64)?;
    }
    Ok(())
}

/// A snapshot from a file that the node kept. The node vouches for its bytes; what they say is checked all the same.
pub(crate) fn reopen(kept: &OwnedFd, base: u64, config: &crate::os::Config) -> Result<Snapshot, ReopenError> {
    let size = u64::try_from(rustix::fs::fstat(kept).map_err(ReopenError::Kernel)?.st_size).unwrap_or(0);
    if !(META_BYTES..=FILE_BYTES_MAX).contains(&size) {
        return Err(ReopenError::Malformed);
    }
    // Into a file of this process's own: the node's may be on a disk, and is not sealed.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("baton-snapshot", flags).map_err(ReopenError::Kernel)?;
    rustix::fs::ftruncate(&fd, size).map_err(ReopenError::Kernel)?;
    let mut chunk = vec![0; COPY_BYTES];
    let mut head = Vec::new();
    let mut done = 0;
    while done < size {
        let read = rustix::io::pread(kept, &mut chunk, done).map_err(ReopenError::Kernel)?;
        let bytes = chunk.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(ReopenError::Malformed)?;
        if (head.len() as u64) < META_BYTES {
            head.extend_from_slice(bytes);
        }
        for (page, at) in bytes.chunks(PAGE_BYTES).zip((done..).step_by(PAGE_BYTES)) {
            if page.iter().any(|byte| *byte != 0) {
                write_all(&fd, page, at).map_err(ReopenError::Kernel)?;
            }
        }
        done += read as u64;
    }
    let (stand, pieces, os) = header::decode(&head, base, size, config).ok_or(ReopenError::Malformed)?;
    finish(fd, size, pieces, stand, os).map_err(ReopenError::Kernel)
}

/// Cuts a range into pieces: what lies in the ELF file, what has pages of its own, what is untouched.
fn cut((at, region): (u64, Region), from_file: &[(u64, u64, u64)], emit: &mut dyn FnMut(Piece, bool)) {
    let mut from = at;
    let access = region.access;
    for &(elf_at, offset, len) in from_file {
        let (start, end) = (elf_at.max(from), (elf_at + len).min(region.end));
        if access == Access::Read && start < end {
            touched(from, start, access, emit);
            let source = Source::Elf(offset + (start - elf_at));
            emit(Piece { at: start, len: end - start, access, source }, false);
            from = end;
        }
    }
    touched(from, region.end, access, emit);
}

/// One piece around every page that was ever touched, zeros around it.
fn touched(from: u64, to: u64, access: Access, emit: &mut dyn FnMut(Piece, bool)) {
    if from >= to {
        return;
    }
    let pages = resident(from, to);
    let zeros = |at: u64, to: u64| Piece { at, len: to - at, access, source: Source::Zeros };
    let first = pages.iter().position(|page| *page);
    let last = pages.iter().rposition(|page| *page);
    let (Some(first), Some(last)) = (first, last) else {
        emit(zeros(from, to), false);
        return;
    };
    let (start, end) = (from + first as u64 * PAGE, from + (last as u64 + 1) * PAGE);
    if from < start {
        emit(zeros(from, start), false);
    }
    emit(Piece { at: start, len: end - start, access, source: Source::Zeros }, true);
    if end < to {
        emit(zeros(end, to), false);
    }
}

/// For each page, whether it is there. A kernel that does not say has them all.
fn resident(from: u64, to: u64) -> Vec<bool> {
    let mut pages = vec![1u8; usize::try_from((to - from) / PAGE).unwrap_or(0)];
    // SAFETY: `pages` has a byte for each page of the range.
    let _ = unsafe { libc::syscall(libc::SYS_mincore, from, to - from, pages.as_mut_ptr()) };
    pages.into_iter().map(|page| page & 1 != 0).collect()
}

impl Snapshot {
    /// Puts the seat's memory back to what it was, whatever has been mapped since.
    pub(crate) fn restore(&self, space: &mut Space, executable: &Executable) -> Result<(), Errno> {
        let stale: Vec<(u64, u64)> = space
            .regions()
            .filter(|(_, region)| region.access != Access::Execute)
            .map(|(at, region)| (at, region.end - at))
            .collect();
        for (at, len) in stale {
            space.unmap(at, len)?;
        }
        for piece in &self.pieces {
            let backing = match piece.source {
                Source::File(offset) => Backing::Private { fd: self.fd.as_raw_fd(), offset },
                Source::Elf(offset) => executable.backing(offset),
                Source::Zeros => Backing::Anonymous,
            };
            space.map(piece.at, piece.len, piece.access, backing)?;
        }
        self.settle(space);
        Ok(())
    }

    /// The list of ranges, as the pieces and the code make it.
    pub(crate) fn settle(&self, space: &mut Space) {
        let code: Vec<(u64, Region)> =
            space.regions().filter(|(_, region)| region.access == Access::Execute).collect();
        let pieces = self
            .pieces
            .iter()
            .map(|piece| (piece.at, Region { end: piece.at + piece.len, access: piece.access }));
        space.set_regions(pieces.chain(code));
    }

    /// Copies the hot pages back. `false` if that is not enough: something was mapped or unmapped.
    pub(crate) fn cool(&self, space: &Space) -> bool {
        if space.changed || !space.is_watching() || space.is_overheated() {
            return false;
        }
        space.hot().all(|(from, to)| self.copy_back(from, to))
    }

    fn copy_back(&self, mut from: u64, to: u64) -> bool {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        while from < to {
            let next = self.pieces.partition_point(|piece| piece.at <= from);
            let Some(piece) = next.checked_sub(1).and_then(|nth| self.pieces.get(nth)) else { return false };
            let end = (piece.at + piece.len).min(to);
            if end <= from {
                return false;
            }
            let copied = match piece.source {
                Source::File(offset) => {
                    let len = usize::try_from(end - from).unwrap_or(0);
                    // SAFETY: the hot range is writable memory of the seat; the view holds the piece's bytes.
                    unsafe { arch::copy(from, self.view + offset + (from - piece.at), len) }
                }
                Source::Zeros => (from..end).step_by(PAGE_BYTES).all(|page| {
                    // SAFETY: as above; a whole page of zeros.
                    unsafe { arch::copy(page, ZEROS.as_ptr() as u64, ZEROS.len()) }
                }),
                Source::Elf(_) => false,
            };
            if !copied {
                return false;
            }
            from = end;
        }
        true
    }
}
