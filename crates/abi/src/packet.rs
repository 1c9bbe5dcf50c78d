//! Packets: what a replica says to the kernel, and the kernel to a replica, where the kernel hands payloads over (`wake = "ebpf"`).
//!
//! A replica has one socket for all its edges. It writes whole packets; a program in the kernel checks each, moves the capability
//! in the app's table, which replicas can only read, and puts the packet on the receiver's socket. What arrives has been checked
//! and moved: a receiver need not believe its sender.
//!
//! ```text
//!  byte  0     1        2..4    4..8    8..16      16..80
//!        op   rights    edge    into    written    descriptor (see `descriptor`)
//! ```
//! Whatever is refused is passed on as it is to the node, which has the other end of the socket; the node answers it with
//! [`Op::Refused`]. Of what comes back to its own sender nothing is read: once it is written, it is done or refused, and the table says which.
//! A derived capability from which others were derived has a high-water mark of 1: without one, nothing has to be looked for when
//! it ends. The program in `crates/kernel` has the same layout, pinned there.

use crate::descriptor::{DESCRIPTOR_BYTES, DESCRIPTOR_WORDS, Descriptor, NONE};

/// Bytes before the descriptor.
pub const HEADER_BYTES: usize = 16;
/// Size of a packet, bytes. Whatever is written to the socket otherwise is refused.
pub const PACKET_BYTES: usize = HEADER_BYTES + DESCRIPTOR_BYTES;
/// Words of eight bytes in a packet.
pub const PACKET_WORDS: usize = 2 + DESCRIPTOR_WORDS;
/// Edges of an app that the kernel knows at most; their numbers are below this.
pub const EDGES_MAX: u16 = 16_384;
/// Calls that may be on their way, or in the callee's hands, over one edge at a time.
pub const CREDITS: u32 = 256;

/// What a packet asks for, or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Replica to replica, over `edge`: the descriptor with what it hands over. A [`crate::Kind::Request`] or [`crate::Kind::Cancel`]
    /// by the edge's caller, a [`crate::Kind::Reply`] by its callee, never more of them than requests that are open. A body that is a
    /// root moves. A body with `into` other than [`NONE`] stays: the receiver gets a capability derived from it with `rights`
    /// at index `into` of the sender's own range, and finds that one in the descriptor. A head in a buffer of its own moves.
    Send = 1,
    /// To oneself: wakes the loop. Nothing is moved.
    Wake = 2,
    /// To oneself: the capability in `body` ends. It must be derived, at any depth, from the one in `head`, and that one held by the
    /// sender or in the sender's own range.
    Revoke = 3,
    /// To oneself: of the root in `body`, which the sender holds, no rights but `rights` stay; its range and `written` are noted.
    Restrict = 4,
    /// To oneself: the derived capability in `body`, which the sender holds, is given up.
    Release = 5,
    /// By the node, to the replica whose range in the table is at index `into`: something lies on its link.
    NodeWake = 6,
    /// By the node, to the replica whose range is at index `into`: what it sent over `edge` was refused. The descriptor is a failed reply
    /// with the same tag; `body` and `head` are what was to be handed over, which the sender still has if it had it. `rights` is the
    /// [`crate::Kind`] of what was refused.
    Refused = 7,
    /// To oneself: a capability is derived from the one in `body`, which the sender holds, with `rights`, at index `into` of the sender's
    /// own range, and is on its way to the node (`ToNode` of the sender). A descriptor on the link, or on an edge to the node, names it next.
    Derive = 8,
}

impl Op {
    /// The operation of a raw byte, if it is one.
    #[must_use]
    pub const fn from_u8(raw: u8) -> Option<Op> {
        Some(match raw {
            1 => Op::Send,
            2 => Op::Wake,
            3 => Op::Revoke,
            4 => Op::Restrict,
            5 => Op::Release,
            6 => Op::NodeWake,
            7 => Op::Refused,
            8 => Op::Derive,
            _ => return None,
        })
    }
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// An [`Op`], as it was said.
    pub op: u8,
    /// The rights of a derived capability, or those that stay; else 0.
    pub rights: u8,
    /// The edge.
    pub edge: u16,
    /// Where to derive, or which replica the node means; else [`NONE`].
    pub into: u32,
    /// First byte behind everything that was ever written to the body's buffer.
    pub written: u64,
    /// What is said.
    pub descriptor: Descriptor,
}

impl Packet {
    /// A packet that says nothing more than `op`.
    #[must_use]
    pub const fn new(op: Op, descriptor: Descriptor) -> Packet {
        Packet { op: op as u8, rights: 0, edge: 0, into: NONE, written: 0, descriptor }
    }

    /// The wire form.
    #[must_use]
    pub fn to_words(&self) -> [u64; PACKET_WORDS] {
        let mut words = [0; PACKET_WORDS];
        let [first, second, rest @ ..] = &mut words;
        let [e0, e1] = self.edge.to_le_bytes();
        let [i0, i1, i2, i3] = self.into.to_le_bytes();
        *first = u64::from_le_bytes([self.op, self.rights, e0, e1, i0, i1, i2, i3]);
        *second = self.written;
        *rest = self.descriptor.to_words();
        words
    }

    /// The packet in the wire form `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; PACKET_BYTES]) -> Packet {
        let mut words = [0; PACKET_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Packet::from_words(words)
    }

    /// The packet in `words`.
    #[must_use]
    pub fn from_words(words: [u64; PACKET_WORDS]) -> Packet {
        let [first, written, rest @ ..] = words;
        let [op, rights, e0, e1, i0, i1, i2, i3] = first.to_le_bytes();
        Packet {
            op,
            rights,
            edge: u16::from_le_bytes([e0, e1]),
            into: u32::from_le_bytes([i0, i1, i2, i3]),
            written,
            descriptor: Descriptor::from_words(rest),
        }
    }
}

const _: () = assert!(PACKET_BYTES == 80 && PACKET_WORDS * 8 == PACKET_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extent, HeadExtent, Kind};

    #[test]
    fn a_packet_is_the_same_after_its_wire_form() {
        let body = Extent { handle: 7, generation: 3, offset: 64, len: 1 << 30 };
        let head = HeadExtent { handle: 8, generation: 4, offset: 16, len: 48 };
        let descriptor = Descriptor { tag: 0xdead_beef, body, head, ..Descriptor::new(Kind::Request) };
        let packet = Packet {
            rights: 5,
            edge: 16_383,
            into: 70_000,
            written: 99,
            ..Packet::new(Op::Send, descriptor)
        };
        assert_eq!(Packet::from_words(packet.to_words()), packet);
    }

    #[test]
    fn fields_lie_where_the_kernels_program_looks_for_them() {
        let descriptor = Descriptor { tag: 0x0403_0201, ..Descriptor::new(Kind::Reply) };
        let packet = Packet {
            rights: 2,
            edge: 0x0403,
            into: 0x0807_0605,
            written: 9,
            ..Packet::new(Op::Send, descriptor)
        };
        let bytes: Vec<u8> = packet.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(Packet::from_bytes(bytes.as_slice().try_into().unwrap()), packet);
        assert_eq!(bytes.get(..9), Some([1, 2, 3, 4, 5, 6, 7, 8, 9].as_slice()));
        assert_eq!(bytes.get(16), Some(&(Kind::Reply as u8)));
        assert_eq!(bytes.get(20..24), Some([1, 2, 3, 4].as_slice()));
    }

    #[test]
    fn only_operations_are_operations() {
        let known = (0..=u8::MAX).filter_map(Op::from_u8);
        assert!(known.map(|op| op as u8).eq(1..=8));
        assert_eq!(Op::from_u8(0), None);
    }
}
