//! Packets that wait for the next write.
//!
//! What goes the same way stands together: the kernel puts packets in a row that have one edge and one direction on their receiver's
//! socket at once, which costs as much for many as for one. The order does not matter otherwise: no two packets here name the same
//! capability, since what is moved is its sender's no more, and what is lent or shared is written at once. What a replica asks for itself
//! keeps its place before and behind all others.

use baton_abi::packet::{Op, PACKET_WORDS, Packet};
use baton_abi::{Kind as Message64, NONE};

/// Packets that one write takes at most. What is sent later finds its receivers awake.
const ROOM: usize = 64;
/// The way of what a replica writes to itself, which no packet to another has.
const OWN: u32 = u32::MAX;
/// Ways that are told apart; packets of others go in the order in which they came.
const WAYS: usize = 16;

/// One packet, as it is written.
type Words = [u64; PACKET_WORDS];

/// Where a packet goes: its edge and direction.
#[inline]
fn way(packet: &Packet) -> u32 {
    if packet.op == Op::Send as u8 {
        u32::from(packet.edge) << 1 | u32::from(packet.descriptor.kind == Message64::Reply as u8)
    } else {
        OWN
    }
}

/// The packets: in the order in which they came, and a list of the order in which they go.
pub(super) struct Outbox {
    came: Vec<Words>,
    /// Which goes next, of each; and of the last, [`ROOM`].
    next: [u8; ROOM],
    last: u8,
    /// The last packet of each way.
    ways: [(u32, u8); WAYS],
    ways_len: usize,
    /// Whether all that comes has to go behind all that is there.
    is_ordered: bool,
    sorted: Vec<Words>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            came: Vec::with_capacity(ROOM),
            next: [0; ROOM],
            last: 0,
            ways: [(OWN, 0); WAYS],
            ways_len: 0,
            is_ordered: false,
            sorted: Vec::with_capacity(ROOM),
        }
    }

    /// Puts a packet behind the last that goes its way, or at the end. `false` if there is no room.
    #[inline]
    pub(super) fn put(&mut self, packet: &Packet) -> bool {
        let at = self.came.len();
        let Some(number) = u8::try_from(at).ok().filter(|_| at < ROOM) else { return false };
        debug_assert!(!self.names_what(packet), "two packets name one capability: {packet:?}");
        let way = way(packet);
        self.is_ordered |= way == OWN;
        self.came.push(packet.to_words().map(u64::to_le));
        let known = self.ways.iter_mut().take(self.ways_len).find(|(known, _)| *known == way);
        let behind = match known {
            Some((_, last)) if !self.is_ordered => core::mem::replace(last, number),
            Some(_) => self.last,
            None => {
                if let Some(free) = self.ways.get_mut(self.ways_len) {
                    *free = (way, number);
                    self.ways_len += 1;
                }
                self.last
            }
        };
        if behind == self.last || at == 0 {
            self.last = number;
        }
        if let Some(before) = self.next.get_mut(usize::from(behind)).filter(|_| at > 0) {
            let after = core::mem::replace(before, number);
            self.link(number, after);
        }
        true
    }

    /// Whether a packet that is here names what this one does.
    fn names_what(&self, packet: &Packet) -> bool {
        let named = |packet: &Packet| [packet.descriptor.body.handle, packet.descriptor.head.handle];
        let is_here = |handle: u32| {
            let mut here = self.came.iter().map(|words| Packet::from_words(words.map(u64::from_le)));
            here.any(|other| other.op == Op::Send as u8 && named(&other).contains(&handle))
        };
        packet.op == Op::Send as u8
            && named(packet).into_iter().any(|handle| handle != NONE && is_here(handle))
    }

    fn link(&mut self, number: u8, after: u8) {
        if let Some(next) = self.next.get_mut(usize::from(number)) {
            *next = after;
        }
    }

    /// The packets in the order in which they go; none are left.
    #[inline]
    pub(super) fn take(&mut self) -> &[Words] {
        self.sorted.clear();
        let mut at = 0;
        for _ in 0..self.came.len() {
            self.sorted.extend(self.came.get(at));
            at = usize::from(self.next.get(at).copied().unwrap_or_default());
        }
        self.came.clear();
        (self.ways_len, self.is_ordered) = (0, false);
        &self.sorted
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
    fn what_a_replica_asks_for_itself_keeps_its_place() {
        let own = packet(Op::Release, 0, Message64::Cancel, (77, NONE), 1);
        assert_eq!(order(&[request(1, 9, 0), own, request(1, 12, 2)]), [0, 1, 2]);
        let ordered = [request(1, 9, 0), request(2, 10, 1), own, request(1, 11, 2), request(2, 12, 3)];
        assert_eq!(order(&ordered), [0, 1, 1, 2, 3]);
    }

    #[test]
    fn it_takes_no_more_than_one_write() {
        let mut outbox = Outbox::new();
        assert!((0..64).all(|number| outbox.put(&request(1, NONE, number))));
        assert!(!outbox.put(&request(1, NONE, 64)));
        assert_eq!(outbox.take().len(), 64);
        assert!(outbox.take().is_empty());
        assert!(outbox.put(&request(1, NONE, 64)));
    }

    proptest! {
        #[test]
        fn order_is_kept_on_each_way_and_none_is_lost(
            rounds in proptest::collection::vec(
                proptest::collection::vec((0u16..24, 0u32..40, any::<bool>()), 0..=ROOM),
                1..4,
            ),
        ) {
            let mut outbox = Outbox::new();
            for drawn in rounds {
                let packets: Vec<_> = drawn
                    .iter()
                    .zip(0u32..)
                    .map(|(&(edge, is_own, is_reply), number)| {
                        let kind = if is_reply { Message64::Reply } else { Message64::Request };
                        let op = if is_own == 0 { Op::Revoke } else { Op::Send };
                        packet(op, edge, kind, (number, NONE), number)
                    })
                    .collect();
                packets.iter().for_each(|packet| assert!(outbox.put(packet)));
                let went: Vec<Packet> =
                    outbox.take().iter().map(|words| Packet::from_words(words.map(u64::from_le))).collect();
                prop_assert_eq!(went.len(), packets.len());
                let at = |number: u32| went.iter().position(|packet| packet.descriptor.tag == number).unwrap();
                for (early, first) in packets.iter().enumerate() {
                    for second in packets.iter().skip(early + 1) {
                        let ways = (way(first), way(second));
                        if ways.0 == ways.1 || ways.0 == OWN || ways.1 == OWN {
                            prop_assert!(at(first.descriptor.tag) < at(second.descriptor.tag), "{went:?}");
                        }
                    }
                }
            }
        }
    }
}
