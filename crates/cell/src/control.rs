//! Control sockets: messages and descriptors from the node, and to it.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_abi::boot::{MESSAGE_BYTES, MESSAGE_FDS_MAX, Message};
use baton_abi::cell::{CELL_FDS_MAX, FromCell, TO_TEMPLATE_BYTES, ToTemplate};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

fn receive<const BYTES: usize>(
    socket: BorrowedFd<'_>,
    space: &mut [MaybeUninit<u8>],
    flags: RecvFlags,
) -> Result<([u8; BYTES], usize, Vec<OwnedFd>), Errno> {
    let mut bytes = [0u8; BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((bytes, received.bytes, fds))
}

/// A message to a cell, if one is there.
pub(crate) fn receive_message(control: &RefCell<Option<OwnedFd>>) -> Option<(Message, Vec<OwnedFd>)> {
    let control = control.borrow();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let (bytes, len, fds) =
        receive::<MESSAGE_BYTES>(control.as_ref()?.as_fd(), &mut space, RecvFlags::DONTWAIT).ok()?;
    Some((bytes.get(..len).and_then(Message::decode)?, fds))
}

/// The next order to a template; waits for it. `None` when the node has closed the socket.
pub(crate) fn receive_order(control: &OwnedFd) -> Result<Option<(ToTemplate, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CELL_FDS_MAX))];
    let (bytes, len, fds) = receive::<TO_TEMPLATE_BYTES>(control.as_fd(), &mut space, RecvFlags::DONTWAIT)?;
    if len == 0 {
        return Ok(None);
    }
    let order = bytes.get(..len).and_then(ToTemplate::decode).ok_or(Errno::PROTO)?;
    Ok(Some((order, fds)))
}

/// Sends a message to the node, with its text and descriptors.
pub(crate) fn send(
    control: &OwnedFd,
    message: FromCell,
    text: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let bytes = message.encode();
    sendmsg(control, &[IoSlice::new(&bytes), IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
}
