//! Writing packets for the node, and what keeps a replica that never reads from filling the kernel's memory.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use baton_abi::packet::{PACKET_BYTES, Packet};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::network::Pair;
use crate::sys;

/// What may wait at a replica's socket before the node stops adding to it, bytes.
pub(crate) const UNREAD_MAX: u32 = 1 << 20;
/// Rounds of reading what came back to the node's own socket.
const DRAIN_MAX: u32 = 256;

/// The node's socket: by it it wakes replicas and answers what was refused.
#[derive(Debug)]
pub(crate) struct NodeSocket {
    pair: Pair,
}

impl NodeSocket {
    pub(crate) fn new(pair: Pair) -> NodeSocket {
        NodeSocket { pair }
    }

    pub(crate) fn near(&self) -> &OwnedFd {
        &self.pair.near
    }

    /// Sends `packet`. What the program does not take comes back to the far end, where it is thrown away.
    pub(crate) fn send(&self, packet: &Packet) -> io::Result<()> {
        let mut bytes = [0; PACKET_BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip(packet.to_words()) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(&self.pair.near, &bytes, flags) {
            Err(rustix::io::Errno::AGAIN) => {
                self.drain();
                send(&self.pair.near, &bytes, flags)?;
            }
            done => {
                done?;
            }
        }
        Ok(())
    }

    fn drain(&self) {
        let mut bytes = [0; 4096];
        for _ in 0..DRAIN_MAX {
            if !matches!(recv(&self.pair.far, &mut bytes, RecvFlags::DONTWAIT), Ok((1.., _))) {
                break;
            }
        }
    }
}

/// Whether so much waits at `socket` that more would only fill memory.
pub(crate) fn is_full(socket: BorrowedFd<'_>) -> bool {
    sys::unread(socket.as_fd()).is_ok_and(|bytes| bytes > UNREAD_MAX)
}
