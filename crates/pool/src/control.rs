//! Packets on control sockets, with the descriptors that come with them.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Takes a packet: its bytes in `into`, of which it gives the count, and its descriptors. `space` has room for as many as may
/// come (`rustix::cmsg_space!`); none is inherited by programs.
///
/// # Errors
/// As the kernel says; nothing there is [`Errno::AGAIN`] with [`RecvFlags::DONTWAIT`], a peer that has closed gives 0 bytes.
pub fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    space: &mut [MaybeUninit<u8>],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut ancillary = RecvAncillaryBuffer::new(space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(into)], &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((received.bytes, fds.flatten().collect()))
}
