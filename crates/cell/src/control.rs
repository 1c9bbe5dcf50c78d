//! Control sockets: messages and descriptors from the node, and to it.

use std::cell::RefCell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_abi::boot::{MESSAGE_BYTES, MESSAGE_FDS_MAX, Message};
use baton_abi::cell::{CELL_FDS_MAX, FromCell, TO_TEMPLATE_BYTES, ToTemplate};
use baton_pool::control::receive;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// A message to a cell, if one is there.
pub(crate) fn receive_message(control: &RefCell<Option<OwnedFd>>) -> Option<(Message, Vec<OwnedFd>)> {
    let control = control.borrow();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let mut bytes = [0; MESSAGE_BYTES];
    let (len, fds) = receive(control.as_ref()?.as_fd(), &mut bytes, &mut space, RecvFlags::DONTWAIT).ok()?;
    Some((bytes.get(..len).and_then(Message::decode)?, fds))
}

/// The next order to a template; waits for it. `None` when the node has closed the socket.
pub(crate) fn receive_order(control: &OwnedFd) -> Result<Option<(ToTemplate, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CELL_FDS_MAX))];
    let mut bytes = [0; TO_TEMPLATE_BYTES];
    let (len, fds) = receive(control.as_fd(), &mut bytes, &mut space, RecvFlags::DONTWAIT)?;
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
