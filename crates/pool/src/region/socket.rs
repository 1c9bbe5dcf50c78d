//! From a socket straight into a mapping: what another node sends lands where it is to lie.

// UNSAFETY: lets the kernel write into shared memory, and asks a socket for its send queue.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use super::{Access, Mapping};

/// A range of a writable mapping that is filled from a socket.
///
/// Whoever makes one holds the range for as long as it lives. Several sockets may fill parts of it side by side.
#[derive(Debug)]
pub struct Room {
    mapping: Arc<Mapping>,
    offset: u64,
    len: u64,
}

impl Room {
    /// The range `offset..offset + len` of `mapping`; `None` if it does not lie inside, or cannot be written.
    #[must_use]
    pub fn new(mapping: &Arc<Mapping>, offset: u64, len: u64) -> Option<Room> {
        mapping.address(offset, len)?;
        (mapping.access() == Access::ReadWrite).then(|| Room { mapping: Arc::clone(mapping), offset, len })
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where `at..at + len` lies in the mapping.
    fn place(&self, at: u64, len: u64) -> io::Result<u64> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        if inside { Ok(self.offset + at) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Takes up to `max` bytes from `socket` to byte `at` of the room, without waiting. Returns how many there were; 0 if
    /// the peer sends no more.
    ///
    /// # Errors
    /// `InvalidInput` if `at..at + max` does not lie inside the room, `WouldBlock` if nothing is there; otherwise what the
    /// kernel says.
    pub fn read_from(&self, socket: BorrowedFd<'_>, at: u64, max: usize) -> io::Result<usize> {
        let offset = self.place(at, max as u64)?;
        let to = self.mapping.address(offset, max as u64).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: `to` is valid for `max` bytes of a writable mapping that `self` keeps alive across the call, and no
        // reference to that memory exists in this process: whoever made the room holds its range. The kernel writes
        // at most `max` bytes there. What another process of the app writes meanwhile garbles payload bytes of its own app.
        let taken = unsafe { libc::recv(socket.as_raw_fd(), to.as_ptr().cast(), max, libc::MSG_DONTWAIT) };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// Copies `bytes` to byte `at` of the room; `false` if they do not fit.
    pub fn write(&self, at: u64, bytes: &[u8]) -> bool {
        self.place(at, bytes.len() as u64).is_ok_and(|offset| self.mapping.write(offset, bytes))
    }
}

/// Bytes in the send queue of a TCP socket that its peer has not acknowledged.
///
/// # Errors
/// What the kernel says; `NotConnected` and the like if it is no connected stream socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request (`SIOCOUTQ`) stores one `int` to the address that it is given, which is that of `bytes`.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Has `socket` call itself readable only when `bytes` are there, or its end.
///
/// # Errors
/// What the kernel says.
pub fn low_water(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel reads `len` bytes, one `int`, from the address of `bytes`, which lives across the call.
    let status =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const bytes).cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;
    use crate::region::create;

    fn mapping(access: Access) -> Arc<Mapping> {
        let fd = create("test", 8192, false).expect("memory");
        Arc::new(Mapping::new(fd, 8192, access).expect("a mapping"))
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (near, listener.accept().expect("a connection").0)
    }

    #[test]
    fn bytes_of_a_socket_land_in_the_room_and_nowhere_else() {
        let mapping = mapping(Access::ReadWrite);
        assert!(mapping.write(0, &[7; 8192]));
        let room = Room::new(&mapping, 4000, 100).unwrap();
        let (near, mut far) = connected();
        assert_eq!(room.read_from(near.as_fd(), 0, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        far.write_all(&[1; 90]).unwrap();
        let mut at = 10;
        while at < 100 {
            match room.read_from(near.as_fd(), at, usize::try_from(100 - at).unwrap()) {
                Ok(taken) => at += taken as u64,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let mut seen = [0; 8192];
        assert!(mapping.read(0, &mut seen));
        assert!(seen[..4010].iter().chain(&seen[4100..]).all(|byte| *byte == 7));
        assert_eq!(seen[4010..4100], [1; 90]);
        drop(far);
        assert_eq!(room.read_from(near.as_fd(), 0, 1).unwrap(), 0);
    }

    #[test]
    fn a_room_ends_where_it_ends() {
        let mapping = mapping(Access::ReadWrite);
        assert!(Room::new(&mapping, 8000, 193).is_none());
        let room = Room::new(&mapping, 8000, 192).unwrap();
        let (near, mut far) = connected();
        far.write_all(&[1; 10]).unwrap();
        for (at, max) in [(192, 1), (0, 193), (u64::MAX, 2)] {
            let error = room.read_from(near.as_fd(), at, max).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!room.write(190, b"abc"));
        assert!(room.write(190, b"ab"));
    }

    #[test]
    fn memory_that_cannot_be_written_is_no_room() {
        assert!(Room::new(&mapping(Access::Read), 0, 1).is_none());
    }

    #[test]
    fn the_send_queue_is_what_the_peer_has_not_taken() {
        let (near, far) = connected();
        near.set_nonblocking(true).unwrap();
        assert_eq!(unacknowledged(near.as_fd()).unwrap(), 0);
        while (&near).write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(near.as_fd()).unwrap() > 0);
        drop(far);
    }
}
