//! From the one socket to the roads.

use baton_abi::packet::{Op, Packet};
use baton_abi::{Descriptor, Extent, HeadExtent, Kind as Message64, NONE};
use baton_pool::capability::Handle;

use super::super::edge::Road;
use super::super::send::{Sent, To};
use super::super::{Link, receive};
use crate::executor::Origin;

/// The road with a number, if it is one that still leads somewhere.
fn find(roads: &mut [Road], id: u16) -> Option<(usize, &mut Road)> {
    roads.iter_mut().enumerate().find(|(_, road)| road.id == id && !road.dead)
}

impl Link {
    /// Gives everything that the kernel brought to whom it is for.
    #[inline]
    pub(in super::super) fn sort_packets(&'static self) {
        let Some(guard) = &self.guard else { return };
        guard.begin_turn();
        loop {
            // Not held on to: what follows may write, and read.
            let next = guard.inbox.borrow_mut().pop_front();
            let Some(packet) = next else { return };
            if packet.op == Op::Refused as u8 {
                self.take_refused(&packet);
            } else {
                self.deliver(&packet);
            }
        }
    }

    #[inline]
    fn deliver(&'static self, packet: &Packet) {
        if self.put_in_inbox(packet) {
            return;
        }
        // It overtook the message that tells of its road.
        self.take_control();
        if !self.put_in_inbox(packet) {
            // Its road is closed. What it brought is in this replica's hands.
            self.discard(&packet.descriptor, To::Kernel);
        }
    }

    #[inline]
    fn put_in_inbox(&self, packet: &Packet) -> bool {
        let roads = match Message64::from_u8(packet.descriptor.kind) {
            Some(Message64::Reply) => &self.outgoing,
            _ => &self.incoming,
        };
        let mut roads = roads.borrow_mut();
        let inbox = find(&mut roads, packet.edge).and_then(|(_, road)| road.own.inbox.as_mut());
        inbox.map(|inbox| inbox.push_back(packet.descriptor)).is_some()
    }

    /// Sends a descriptor over an edge that the kernel keeps, with what was prepared for it: at the end of this turn, unless the outcome
    /// is needed now. What cannot be sent comes back as what was refused.
    #[inline]
    pub(in super::super) fn hand_over(&self, edge: u16, descriptor: &Descriptor, sent: &mut Sent) {
        let packet = Packet {
            rights: sent.rights,
            edge,
            into: sent.into,
            written: sent.written,
            ..Packet::new(Op::Send, *descriptor)
        };
        self.post(&packet);
        if sent.into != NONE {
            self.flush_packets();
            self.settle_derived(sent);
        }
    }

    /// Puts a packet behind those that go at the end of this turn.
    #[inline]
    pub(super) fn post(&self, packet: &Packet) {
        let Some(guard) = &self.guard else { return };
        if !guard.queue(packet) {
            self.flush_packets();
            guard.queue(packet);
        }
    }

    /// Sends what is queued. What each packet asks for is done, or refused, when this returns.
    #[inline]
    pub(in super::super) fn flush_packets(&self) {
        if let Some(guard) = &self.guard {
            guard.flush(|packet| !self.has_payload_of(packet));
        }
    }

    /// Whether this replica still has what a packet would move.
    #[cold]
    fn has_payload_of(&self, packet: &Packet) -> bool {
        let Descriptor { body, head, .. } = packet.descriptor;
        let has = |index: u32, generation: u32| {
            index == NONE
                || self.memory.table.in_hands(Handle { index, generation }, self.memory.holder).is_ok()
        };
        packet.op != Op::Send as u8
            || (has(body.handle, body.generation) && has(head.handle, head.generation))
    }

    /// Takes back what was to be handed over and was not.
    pub(in super::super) fn recover(&self, descriptor: &Descriptor) {
        let Descriptor { body, head, flags, .. } = *descriptor;
        if body != Extent::EMPTY && !receive::is_derived(flags) {
            self.recover_root(body.handle, body.generation);
        }
        if head != HeadExtent::EMPTY && head.handle != body.handle {
            self.recover_root(head.handle, head.generation);
        }
    }

    /// The road of a task's origin, for the kernel: its number, if it is open.
    pub(in super::super) fn guarded_edge(&self, origin: Origin) -> Option<u16> {
        let Origin::Edge(index) = origin else { return None };
        let roads = self.incoming.borrow();
        roads.get(index).filter(|road| !road.dead && road.own.inbox.is_some()).map(|road| road.id)
    }
}
