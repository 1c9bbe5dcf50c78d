//! Doors: listeners inside a process's own network that its node holds.
//!
//! The process makes them before it walls itself in, sends them to the node, and closes its own: what runs in it afterwards can
//! connect there, and do nothing else with them. As with all that a child does before its program, nothing is allocated.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen, recvmsg, sendmsg, socket_with,
};

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

/// Child: listens at each of `doors` and sends the listeners over `sync`.
pub(super) fn open(sync: BorrowedFd<'_>, doors: &[SocketAddrV4]) -> Result<(), Errno> {
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
