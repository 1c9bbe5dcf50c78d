//! What the kernel did not hand over, as the node says.

use baton_abi::packet::Packet;
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind as Message64};

use super::super::Link;
use super::super::send::{Sent, To};

/// The status of an answer that could not be handed over.
const STATUS_UNSENT: u16 = 500;

impl Link {
    #[cold]
    pub(super) fn take_refused(&'static self, packet: &Packet) {
        let refused = packet.descriptor;
        // Whatever it was, its payload stays here.
        self.recover(&refused);
        match Message64::from_u8(packet.rights) {
            Some(Message64::Request) => self.fail_call(packet.edge, &refused),
            Some(Message64::Reply) => self.answer_without(packet.edge, &refused),
            _ => {}
        }
    }

    /// A call that was refused fails at once.
    fn fail_call(&'static self, edge: u16, refused: &Descriptor) {
        let position = self.outgoing.borrow().iter().position(|road| road.id == edge && !road.dead);
        let Some(index) = position else { return };
        let kind = Descriptor::new(Message64::Reply);
        let flags = Flags::ERROR.with(Flags::REFUSED);
        let answer = Descriptor { flags, code: refused.code, tag: refused.tag, ..kind };
        self.take_answer(index, &answer, To::Kernel, true);
    }

    /// An answer whose payload was refused (it was revoked meanwhile) goes without it, as a failure: its caller still waits.
    fn answer_without(&'static self, edge: u16, refused: &Descriptor) {
        let had_payload = refused.body != Extent::EMPTY || refused.head != HeadExtent::EMPTY;
        let is_open = |road: &super::super::edge::Road| {
            road.id == edge && !road.dead && !road.duplex.flags().is_closed()
        };
        if !had_payload || !self.incoming.borrow().iter().any(is_open) {
            return;
        }
        let kind = Descriptor::new(Message64::Reply);
        let Descriptor { tag, invocation, .. } = *refused;
        let answer = Descriptor { flags: Flags::ERROR, code: STATUS_UNSENT, tag, invocation, ..kind };
        // Without a payload there is nothing to refuse or to lose.
        self.hand_over(edge, &answer, &mut Sent::nothing());
    }
}
