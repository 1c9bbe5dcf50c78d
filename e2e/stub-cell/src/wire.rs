//! Packets on control sockets.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_abi::boot::{MESSAGE_BYTES, Message};
use baton_abi::cell::{CELL_FDS_MAX, FromCell, TO_TEMPLATE_BYTES, ToTemplate};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

fn receive(control: &OwnedFd, bytes: &mut [u8], waits: bool) -> Option<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CELL_FDS_MAX))];
    let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    baton_pool::control::receive(control.as_fd(), bytes, &mut space, flags).ok()
}

/// The next order to a template.
pub(crate) fn order(control: &OwnedFd, waits: bool) -> Option<(ToTemplate, Vec<OwnedFd>)> {
    let mut bytes = [0; TO_TEMPLATE_BYTES];
    let (len, fds) = receive(control, &mut bytes, waits)?;
    Some((ToTemplate::decode(&bytes[..len])?, fds))
}

/// The next message to a cell.
pub(crate) fn message(control: &OwnedFd) -> Option<(Message, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE_BYTES];
    let (len, fds) = receive(control, &mut bytes, false)?;
    Some((Message::decode(&bytes[..len])?, fds))
}

/// Tells the node.
pub(crate) fn say(control: &OwnedFd, message: FromCell, text: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let bytes = message.encode();
    let _ =
        sendmsg(control, &[IoSlice::new(&bytes), IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL);
}
