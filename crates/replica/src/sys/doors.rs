//! Doors: listeners inside a process's own network that its node holds.
//!
//! The process makes them before it walls itself in, sends them to the node, and closes its own: what runs in it afterwards can
//! connect there, and do nothing else with them. As with all that a child does before its program, nothing is allocated.

// UNSAFETY: the kernel's interface requests have no safe wrapper.
#![expect(unsafe_code, reason = "bringing the loopback interface up")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen, recvmsg, sendmsg, socket_with,
};

use super::clone::last_errno;
use super::report::Report;

/// The message that a door comes with; reports are longer.
const DOOR: [u8; 1] = [b'D'];
/// Connections that wait to be accepted by the node.
const WAITING_MAX: i32 = 64;

/// What came in the place of a door.
#[derive(Debug)]
pub(crate) enum NoDoor {
    /// Another report.
    Report(Report),
    /// Nothing that can be read.
    Broken(Errno),
}

/// Child: brings the loopback interface up, listens at each of `doors` and sends the listeners over `sync`.
pub(super) fn open(sync: BorrowedFd<'_>, doors: &[SocketAddrV4]) -> Result<(), Errno> {
    if doors.is_empty() {
        return Ok(());
    }
    raise_loopback()?;
    for address in doors {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let door = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        bind(&door, address)?;
        listen(&door, WAITING_MAX)?;
        send(sync, door.as_fd())?;
    }
    Ok(())
}

fn send(sync: BorrowedFd<'_>, door: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [door];
    // Cannot fail: the space is for one.
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(sync, &[IoSlice::new(&DOOR)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Parent: the next door.
pub(crate) fn receive(sync: BorrowedFd<'_>) -> Result<OwnedFd, NoDoor> {
    let mut bytes = [0u8; Report::BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let len = loop {
        let into = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(sync, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received.bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(NoDoor::Broken(errno)),
        }
    };
    let door = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match door {
        Some(door) if len == DOOR.len() => Ok(door),
        _ if len == Report::BYTES => match Report::decode(bytes) {
            Some(report) => Err(NoDoor::Report(report)),
            None => Err(NoDoor::Broken(Errno::PROTO)),
        },
        _ => Err(NoDoor::Broken(Errno::PROTO)),
    }
}

/// Brings the loopback interface up, if it is not.
fn raise_loopback() -> Result<(), Errno> {
    let any = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: a structure of numbers and bytes, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: the kernel reads a name that ends with a zero, and writes the flags within the structure.
    let got = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    if got < 0 {
        return Err(last_errno());
    }
    // SAFETY: the call before has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // Fits: it is the lowest bit.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bit")]
    let up = libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: as above; the kernel only reads.
    let set = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if set < 0 { Err(last_errno()) } else { Ok(()) }
}
