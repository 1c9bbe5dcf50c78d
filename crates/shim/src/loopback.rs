//! Brings the loopback interface up, where this process may: in a network namespace of its own that nobody has prepared.
//!
//! By netlink, whose messages are bytes: a header of 16 (length, kind, flags, sequence, port) and an `ifinfomsg` of 16 (family, kind,
//! index, flags, which flags to change).

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};

const NEW_LINK: u16 = 16;
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const LOOPBACK_INDEX: i32 = 1;
const UP: u32 = 1;
const MESSAGE_BYTES: u32 = 32;

/// Does its best: a machine's own loopback is up anyway, and who may not do it has had it done by the node.
pub(crate) fn bring_up() {
    // Protocol 0 is that of routes and links.
    let made = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let Ok(socket) = made else { return };
    if rustix::net::send(&socket, &message(), SendFlags::NOSIGNAL).is_ok() {
        let mut answer = [0u8; 64];
        let _ = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty());
    }
}

fn message() -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&MESSAGE_BYTES.to_ne_bytes());
    message.extend_from_slice(&NEW_LINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_message_is_as_long_as_it_says() {
        assert_eq!(super::message().len(), super::MESSAGE_BYTES as usize);
    }
}
