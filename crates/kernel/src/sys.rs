//! System calls that no library has in a safe form.
// UNSAFETY: calls bpf(2), unshare(2), ioctl(2) and getsockopt(2), which take addresses of what is described to them.
#![expect(unsafe_code, reason = "system calls that take addresses")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

/// `BPF_MAP_GET_FD_BY_ID` of linux/bpf.h.
const MAP_GET_FD_BY_ID: libc::c_int = 14;
/// `BPF_F_RDONLY` of linux/bpf.h.
const READ_ONLY: u32 = 1 << 3;
/// Words of `SO_MEMINFO`, and which of them counts what waits to be read.
const MEMINFO_WORDS: usize = 9;

/// The part of bpf(2)'s argument that `BPF_MAP_GET_FD_BY_ID` reads.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A descriptor of the map `id` by which nothing can be changed, nor mapped writable.
pub(crate) fn open_read_only(id: u32) -> io::Result<OwnedFd> {
    let by_id = ById { id, next_id: 0, open_flags: READ_ONLY };
    let size = size_of::<ById>();
    // SAFETY: the address is of `size` initialised bytes that live through the call, which reads no more of them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, MAP_GET_FD_BY_ID, &raw const by_id, size) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
