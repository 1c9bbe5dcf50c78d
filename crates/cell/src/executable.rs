//! The file that an image comes from, or the two files: what a function is, and the program that many share.
//!
//! ```text
//!  offsets  0 ┌ ELF file ┐ elf_bytes ┌ host ┐ elf_bytes + host_bytes      elf_bytes is whole pages, if there is a host
//! ```
//! Headers lie in the first one and speak of both as of one file. Nothing of an image lies across the border: so each
//! segment can be mapped from the file that it lies in.

// UNSAFETY: maps the files side by side.
#![expect(unsafe_code, reason = "two files as one range of memory")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

use crate::sys::{Backing, PAGE};

/// An executable, mapped for good.
#[derive(Debug)]
pub(crate) struct Executable {
    elf: OwnedFd,
    elf_bytes: u64,
    host: Option<OwnedFd>,
    bytes: &'static [u8],
}

impl Executable {
    /// Maps the files, as long as is said.
    pub(crate) fn open(elf: OwnedFd, elf_bytes: u64, host: Option<(OwnedFd, u64)>) -> Result<Self, Errno> {
        let host_bytes = host.as_ref().map_or(0, |(_, bytes)| *bytes);
        if host.is_some() && (host_bytes == 0 || !elf_bytes.is_multiple_of(PAGE)) {
            return Err(Errno::NOEXEC);
        }
        check(elf.as_fd(), elf_bytes)?;
        let whole = elf_bytes.checked_add(host_bytes).ok_or(Errno::FBIG)?;
        let len = usize::try_from(whole).map_err(|_| Errno::FBIG)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let at =
            unsafe { mmap_anonymous(core::ptr::null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        lay(at, elf.as_fd(), elf_bytes)?;
        if let Some((host, bytes)) = &host {
            check(host.as_fd(), *bytes)?;
            lay(at.wrapping_byte_add(usize::try_from(elf_bytes).unwrap_or(len)), host.as_fd(), *bytes)?;
        }
        // SAFETY: mapped readable from the files, that long, for the rest of the process's life. It is private, never unmapped,
        // and the node's files are never written once they have their names.
        let bytes = unsafe { core::slice::from_raw_parts(at.cast(), len) };
        Ok(Self { elf, elf_bytes, host: host.map(|(fd, _)| fd), bytes })
    }

    /// Both files, one behind the other.
    pub(crate) fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Whether bytes lie in one of the files, and not across their border.
    pub(crate) fn is_whole(&self, offset: u64, len: u64) -> bool {
        self.host.is_none() || offset >= self.elf_bytes || offset.saturating_add(len) <= self.elf_bytes
    }

    /// What lies at an offset, to be mapped privately.
    pub(crate) fn backing(&self, offset: u64) -> Backing {
        match (&self.host, offset.checked_sub(self.elf_bytes)) {
            (Some(host), Some(offset)) => Backing::Private { fd: host.as_raw_fd(), offset },
            _ => Backing::Private { fd: self.elf.as_raw_fd(), offset },
        }
    }
}

fn check(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let has = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    if bytes == 0 || has < bytes { Err(Errno::NOEXEC) } else { Ok(()) }
}

/// Maps a file's first bytes to where the caller has reserved room for them.
fn lay(at: *mut core::ffi::c_void, file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let len = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
    // SAFETY: within a mapping that the caller has just made and nobody else knows of.
    unsafe { mmap(at, len, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED, file, 0) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.into()
    }

    #[test]
    fn two_files_are_one() {
        let (elf, host) = (vec![1; 2 * 4096], vec![2; 5000]);
        let both = Executable::open(file(&elf), 2 * 4096, Some((file(&host), 5000))).unwrap();
        assert!(both.bytes() == [elf, host].concat());
        assert!(both.is_whole(0, 8192) && both.is_whole(8192, 5000) && !both.is_whole(8191, 2));
        let place = |offset| match both.backing(offset) {
            Backing::Private { fd, offset } => (fd == both.elf.as_raw_fd(), offset),
            other => panic!("{other:?}"),
        };
        assert_eq!((place(4096), place(8192), place(12288)), ((true, 4096), (false, 0), (false, 4096)));
    }

    #[test]
    fn files_that_are_shorter_or_do_not_meet_are_refused() {
        let host = || Some((file(&[2; 100]), 100));
        assert!(Executable::open(file(&[1; 4096]), 4096, host()).is_ok());
        assert!(Executable::open(file(&[1; 100]), 100, None).is_ok());
        for (len, said) in [(100, 100), (4096, 8192), (0, 0)] {
            assert_eq!(Executable::open(file(&vec![1; len]), said, host()).unwrap_err(), Errno::NOEXEC);
        }
        for bytes in [0, 101, u64::MAX] {
            assert!(Executable::open(file(&[1; 4096]), 4096, Some((file(&[2; 100]), bytes))).is_err());
        }
    }
}
