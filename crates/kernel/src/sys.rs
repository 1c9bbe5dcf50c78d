//! System calls that no library has in a safe form.
// UNSAFETY: calls bpf(2), unshare(2), ioctl(2) and getsockopt(2), which take addresses of what is described to them.
#![expect(unsafe_code, reason = "system calls that take addresses")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_TEST_RUN` of linux/bpf.h.
const PROG_TEST_RUN: libc::c_int = 10;
/// `BPF_MAP_FREEZE` of linux/bpf.h.
const MAP_FREEZE: libc::c_int = 22;
/// Words of `SO_MEMINFO`, and which of them counts what waits to be read.
const MEMINFO_WORDS: usize = 9;

/// The part of bpf(2)'s argument that `BPF_PROG_TEST_RUN` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// From now on no process can write the map, or map it writable, by whatever descriptor; programs can.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let which = map.as_raw_fd();
    let size = size_of_val(&which);
    // SAFETY: the address is of `size` initialised bytes that live through the call, which reads no more of them.
    let done = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, &raw const which, size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs a program once with `order` in the place of a trace point's arguments; what it returns.
pub(crate) fn run(program: BorrowedFd<'_>, order: &[u64]) -> io::Result<u32> {
    let size = u32::try_from(size_of_val(order)).map_err(io::Error::other)?;
    let context_in = order.as_ptr().expose_provenance() as u64;
    let number = program.as_raw_fd().unsigned_abs();
    let mut run = Run { program: number, context_size_in: size, context_in, ..Run::default() };
    // SAFETY: both addresses are of initialised bytes that live through the call, which reads no more of them than their sizes say,
    // and writes only into `run`.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut run, size_of::<Run>()) };
    if done == 0 { Ok(run.returned) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread into a network of its own, with nothing in it.
pub(crate) fn leave_network() -> io::Result<()> {
    // SAFETY: takes no address; what threads share in memory and descriptors stays as it is.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts the loopback device of the network that `socket` is in.
pub(crate) fn start_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    let request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    // SAFETY: the kernel reads one `ifreq` at the address, which lives through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that wait at a socket to be read, as the kernel accounts for them.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0u32; MEMINFO_WORDS];
    let mut len = libc::socklen_t::try_from(size_of_val(&words)).map_err(io::Error::other)?;
    let at = words.as_mut_ptr().cast();
    // SAFETY: `at` has room for `len` bytes, and both live through the call.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, at, &raw mut len) };
    let [waiting, ..] = words;
    if done == 0 { Ok(waiting) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;
    use crate::{Plane, Setup, probe};

    fn map(fd: BorrowedFd<'_>, len: usize, access: ProtFlags) -> rustix::io::Result<*mut libc::c_void> {
        // SAFETY: a new mapping at a place that the kernel picks.
        unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0) }
    }

    #[test]
    fn replicas_see_the_table_and_cannot_map_it_writable() {
        use std::os::fd::AsFd as _;
        if let Err(why) = probe() {
            println!("SKIP: the kernel does not hand over here: {why}");
            return;
        }
        let plane = Plane::load(Setup { slots: 64, arenas: 1, edges: 1 }).unwrap();
        let len = plane.table_bytes();
        let given = plane.table_read_only().unwrap();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        for fd in [given.as_fd(), plane.table_fd()] {
            assert_eq!(map(fd, len, both), Err(rustix::io::Errno::PERM));
            assert_eq!(map(fd, len, ProtFlags::WRITE), Err(rustix::io::Errno::PERM));
        }
        let seen = map(given.as_fd(), len, ProtFlags::READ).unwrap();
        // SAFETY: mapped, aligned, and as long as the table; all bit patterns are valid, and nobody writes without atomics.
        let from = unsafe { AtomicU64::from_ptr(seen.cast()) };
        assert!(plane.scribe().write(0, 0, &[77; 8], true));
        assert_eq!(from.load(Ordering::Acquire), 77);
        assert!(!plane.scribe().write(0, 76, &[78; 8], true), "not the word that is there");
        assert_eq!(from.load(Ordering::Acquire), 77);
        // More than one run carries out; after one that does not fit, none.
        let entries: Vec<_> =
            (1..64).chain(1..40).map(|index| (index, u64::from(index > 39) * 5, [5; 8])).collect();
        assert_eq!(plane.scribe().write_all(&entries[..39]), 39);
        assert_eq!(plane.scribe().write_all(&entries[39..]), 0, "not the word that is there");
        let again: Vec<_> = (1..1025).map(|index| (index, u64::from(index < 40) * 5, [6; 8])).collect();
        assert_eq!(plane.scribe().write_all(&again), 1024);
        assert_eq!(plane.scribe().write_all(&[(1, 6, [7; 8]), (2, 5, [7; 8]), (3, 6, [7; 8])]), 1);
        // SAFETY: the protection of a mapping that nothing else uses.
        let upgraded = unsafe { libc::mprotect(seen, len, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(upgraded, -1, "a read-only mapping became writable");
        // SAFETY: mapped above, and not used below.
        unsafe { munmap(seen, len) }.unwrap();
    }
}
