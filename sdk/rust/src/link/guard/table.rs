//! Changes of a table that can only be read: the kernel is asked for each.

use baton_abi::packet::{Op, Packet};
use baton_abi::{Descriptor, Flags, HeadExtent, Kind as Message64, NONE, Rights};
use baton_pool::capability::{Handle, Hold, NODE, Range, State};

use super::super::Link;
use super::super::send::{Sent, extent};
use super::bare;
use crate::error::Error;
use crate::held::Holding;

fn named(op: Op, body: Handle) -> Packet {
    let mut packet = bare(op);
    packet.descriptor.body = extent(body, Range { offset: 0, len: 0 });
    packet
}

impl Link {
    /// Asks for what concerns this replica alone.
    pub(in super::super) fn tell(&self, packet: &Packet) {
        if let Some(guard) = &self.guard {
            guard.note_own();
            self.post(packet);
        }
    }

    /// Ends `handle`, which was derived from `above` or is that, with the next write.
    fn revoke(&self, handle: Handle, above: Handle) {
        let mut packet = named(Op::Revoke, handle);
        packet.descriptor.head =
            HeadExtent { handle: above.index, generation: above.generation, offset: 0, len: 0 };
        self.tell(&packet);
    }

    /// Gives a derived capability up, with the next write.
    pub(in super::super) fn release(&self, handle: Handle) {
        self.tell(&named(Op::Release, handle));
    }

    /// Leaves only some rights to an own buffer.
    pub(in super::super) fn narrow(&self, holding: &Holding, rights: Rights) {
        let range = holding.range();
        let body = extent(holding.handle, range);
        let written = (range.offset + range.len).max(holding.written as u64);
        let invocation = self.current.invocation();
        let descriptor = Descriptor { invocation, body, ..Descriptor::new(Message64::Request) };
        self.tell(&Packet { rights: rights.0, written, ..Packet::new(Op::Restrict, descriptor) });
        self.flush_packets();
    }

    fn is_live(&self, handle: Handle) -> bool {
        self.memory.table.hold(handle).is_some_and(|hold| hold.state.is_live())
    }

    /// Ends everything that was derived from `handle`; how much that was.
    pub(in super::super) fn end_below(&self, handle: Handle) -> u32 {
        let mut taken = 0;
        loop {
            let children = self.memory.table.live_below(handle, self.memory.derived());
            for child in &children {
                self.revoke(*child, handle);
            }
            self.flush_packets();
            let ended = children.iter().filter(|child| !self.is_live(**child)).count();
            let ended = u32::try_from(ended).unwrap_or(u32::MAX);
            taken += ended;
            // A round that ended nothing saw every child: later ones see their revoked parent.
            if ended == 0 {
                return taken;
            }
        }
    }

    /// Ends a capability that was lent for a call, and what was derived from it.
    pub(in super::super) fn end_lent(&self, lent: Handle) {
        if self.is_live(lent) {
            self.revoke(lent, lent);
            self.flush_packets();
        }
        let table = &self.memory.table;
        // The mark is set before the first child is there to be found.
        let has_children = table.look(lent.index).is_some_and(|found| found.high_water != 0);
        if has_children {
            self.end_below(lent);
        }
        self.arena.borrow_mut().put(lent.index);
    }

    /// Derives what the node is to get from `parent`, which it finds on its way.
    pub(in super::super) fn derive_for_node(
        &self,
        parent: Handle,
        range: Range,
        rights: Rights,
    ) -> Result<Handle, Error> {
        let into = self.take_arena_entry()?;
        let descriptor = Descriptor { body: extent(parent, range), ..Descriptor::new(Message64::Request) };
        let written = range.offset + range.len;
        let has = self.memory.table.in_hands(parent, self.memory.holder).unwrap_or(rights);
        let rights = has.intersect(rights);
        self.tell(&Packet { rights: rights.0, into, written, ..Packet::new(Op::Derive, descriptor) });
        self.flush_packets();
        let to = Hold::new(State::ToNode, self.memory.holder);
        let made = self.memory.table.look(into);
        match made.filter(|made| made.parent == Some(parent) && made.hold == to) {
            Some(made) => Ok(made.handle),
            None => {
                self.arena.borrow_mut().put(into);
                Err(Error::Denied {
                    what: "lending or sharing a payload without the right to, or after its revocation",
                })
            }
        }
    }

    /// What became of a derivation that went with a message: a refused one is not there, and its entry is free again.
    pub(super) fn settle_derived(&self, sent: &mut Sent) {
        let (parent, into) =
            (Handle { index: sent.body.handle, generation: sent.body.generation }, sent.into);
        let found = self.memory.table.look(into);
        let made = found.filter(|made| made.parent == Some(parent) && made.hold.state.is_live());
        let Some(made) = made else {
            self.arena.borrow_mut().put(into);
            return;
        };
        if sent.flags.has(Flags::LEND) {
            sent.lent = Some(made.handle);
        } else {
            self.arena.borrow_mut().remember(made.handle);
        }
    }

    /// Gives up what was lent to this replica, where someone may wait for its end: a buffer that was shared goes back with its last
    /// reader. All else ends with the call, by its lender.
    pub(in super::super) fn give_up_lent(&self, handle: Handle) {
        let table = &self.memory.table;
        let root = table.look(handle.index).and_then(|found| table.look(found.slot));
        let is_awaited = root
            .is_some_and(|root| root.rights != Rights::ALL || root.hold == Hold::new(State::Orphan, NODE));
        if is_awaited && self.is_live(handle) {
            self.release(handle);
        }
    }

    /// Takes back a buffer that was to be handed over, if it still is this replica's.
    pub(super) fn recover_root(&self, index: u32, generation: u32) {
        let memory = &self.memory;
        let handle = Handle { index, generation };
        if index == NONE || index >= memory.slots {
            return;
        }
        let rights = memory.table.in_hands(handle, memory.holder);
        let place = memory.ledger.place(index, generation);
        if let (Ok(rights), Ok(place)) = (rights, place) {
            self.recycle(handle, rights, place.capacity);
        }
    }

    /// Whether this replica may do `need` with `range` of its own buffer.
    pub(in super::super) fn check_root(&self, handle: Handle, need: Rights, range: Range) -> bool {
        let memory = &self.memory;
        let rights = memory.table.in_hands(handle, memory.holder);
        let is_inside = memory.ledger.range(handle.index, handle.generation, range.offset, range.len).is_ok();
        rights.is_ok_and(|rights| rights.allows(need)) && is_inside
    }
}
