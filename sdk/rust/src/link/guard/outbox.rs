//! Packets that wait for the next write.
//!
//! What goes the same way stands together: the kernel puts packets in a row that have one edge and one direction on their receiver's
//! socket at once, which costs as much for many as for one. No packet goes ahead of one that names a capability of its own: what is lent
//! and then moved on is lent first.

use baton_abi::packet::{Op, PACKET_WORDS, Packet};
use baton_abi::{Kind as Message64, NONE};

/// Packets that one write takes at most. What is sent later finds its receivers awake.
const ROOM: usize = 16;

/// What of a packet decides on its place.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Its edge and direction, or what no packet to another has.
    way: u32,
    /// The capabilities that it names, or [`NONE`].
    body: u32,
    head: u32,
}

/// The way of what a replica writes to itself.
const OWN: u32 = u32::MAX;

impl Mark {
    const EMPTY: Mark = Mark { way: OWN, body: NONE, head: NONE };

    #[inline]
    fn of(packet: &Packet) -> Mark {
        let way = if packet.op == Op::Send as u8 {
            u32::from(packet.edge) << 1 | u32::from(packet.descriptor.kind == Message64::Reply as u8)
        } else {
            OWN
        };
        Mark { way, body: packet.descriptor.body.handle, head: packet.descriptor.head.handle }
    }

    /// Whether a packet has to stay behind this one.
    #[inline]
    fn holds_back(&self, later: &Mark) -> bool {
        let names = |handle: u32| handle != NONE && (handle == self.body || handle == self.head);
        self.way == OWN || names(later.body) || names(later.head)
    }
}

/// The packets.
pub(super) struct Outbox {
    packets: [[u64; PACKET_WORDS]; ROOM],
    marks: [Mark; ROOM],
    len: usize,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { packets: [[0; PACKET_WORDS]; ROOM], marks: [Mark::EMPTY; ROOM], len: 0 }
    }

    /// Puts a packet behind the last that goes its way, or at the end. `false` if there is no room.
    #[inline]
    pub(super) fn put(&mut self, packet: &Packet) -> bool {
        let len = self.len;
        if len == ROOM {
            return false;
        }
        let mark = Mark::of(packet);
        let at = self.place(&mark);
        if at < len {
            self.packets.copy_within(at..len, at + 1);
            self.marks.copy_within(at..len, at + 1);
        }
        if let (Some(free), Some(marked)) = (self.packets.get_mut(at), self.marks.get_mut(at)) {
            *free = packet.to_words().map(u64::to_le);
            *marked = mark;
        }
        self.len += 1;
        true
    }

    #[inline]
    fn place(&self, mark: &Mark) -> usize {
        let marks = self.marks.get(..self.len).unwrap_or_default();
        for (at, before) in marks.iter().enumerate().rev() {
            if before.way == mark.way {
                return at + 1;
            }
            if before.holds_back(mark) || mark.way == OWN {
                break;
            }
        }
        self.len
    }

    /// The packets in the order in which they go; none are left.
    #[inline]
    pub(super) fn take(&mut self) -> &[[u64; PACKET_WORDS]] {
        let len = core::mem::take(&mut self.len);
        self.packets.get(..len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use baton_abi::{Descriptor, Extent, HeadExtent};
    use proptest::prelude::*;

    use super::*;

    fn packet(op: Op, edge: u16, kind: Message64, (body, head): (u32, u32), number: u32) -> Packet {
        let extent = Extent { handle: body, ..Extent::EMPTY };
        let head = HeadExtent { handle: head, ..HeadExtent::EMPTY };
        let descriptor = Descriptor { tag: number, body: extent, head, ..Descriptor::new(kind) };
        Packet { edge, ..Packet::new(op, descriptor) }
    }

    fn request(edge: u16, body: u32, number: u32) -> Packet {
        packet(Op::Send, edge, Message64::Request, (body, NONE), number)
    }

    fn order(packets: &[Packet]) -> Vec<u32> {
        let mut outbox = Outbox::new();
        packets.iter().for_each(|packet| assert!(outbox.put(packet)));
        outbox.take().iter().map(|words| Packet::from_words(words.map(u64::from_le)).descriptor.tag).collect()
    }

    #[test]
    fn what_goes_the_same_way_stands_together() {
        let packets = [request(1, 10, 0), request(2, 11, 1), request(1, 12, 2), request(2, NONE, 3)];
        assert_eq!(order(&packets), [0, 2, 1, 3]);
        // A call and an answer over one edge have two receivers.
        let answer = packet(Op::Send, 1, Message64::Reply, (13, NONE), 4);
        assert_eq!(order(&[packets[0], answer, packets[2]]), [0, 2, 4]);
    }

    #[test]
    fn nothing_goes_ahead_of_what_names_its_capability() {
        let lent_then_moved = [request(1, 9, 0), request(2, 10, 1), request(1, 10, 2)];
        assert_eq!(order(&lent_then_moved), [0, 1, 2]);
        let as_head = packet(Op::Send, 1, Message64::Request, (5, 10), 2);
        assert_eq!(order(&[lent_then_moved[0], lent_then_moved[1], as_head]), [0, 1, 2]);
        // What a replica asks for itself stays where it is, and so does what comes after it.
        let own = packet(Op::Release, 0, Message64::Cancel, (77, NONE), 1);
        assert_eq!(order(&[request(1, 9, 0), own, request(1, 12, 2)]), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn order_is_kept_where_it_matters(
            drawn in proptest::collection::vec((0u16..4, any::<bool>(), any::<bool>(), 0u32..6, 0u32..6), 0..=ROOM),
        ) {
            let handle = |drawn: u32| if drawn == 0 { NONE } else { drawn };
            let packets: Vec<_> = drawn
                .iter()
                .zip(0u32..)
                .map(|(&(edge, is_own, is_reply, body, head), number)| {
                    let kind = if is_reply { Message64::Reply } else { Message64::Request };
                    let op = if is_own && edge == 0 { Op::Revoke } else { Op::Send };
                    packet(op, edge, kind, (handle(body), handle(head)), number)
                })
                .collect();
            let places = order(&packets);
            let at = |number: usize| places.iter().position(|&tag| tag as usize == number).unwrap();
            for (early, first) in packets.iter().enumerate() {
                for (late, second) in packets.iter().enumerate().skip(early + 1) {
                    let (first, second) = (Mark::of(first), Mark::of(second));
                    let shares = [first.body, first.head].iter().any(|&handle| {
                        handle != NONE && [second.body, second.head].contains(&handle)
                    });
                    if first.way == second.way || shares || first.way == OWN || second.way == OWN {
                        prop_assert!(at(early) < at(late), "{places:?}");
                    }
                }
            }
        }
    }
}
