//! The program against a plain model: random packets of three replicas, most of them nearly right. After each the table is what the
//! model says, and what was refused was refused for the model's cause.

use baton_abi::packet::{CREDITS, Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Extent, Flags, Kind, NONE};
use baton_kernel::{Cause, Seat};
use proptest::prelude::*;

use crate::said::{Said, Step, apt_packet, packet, step, watched};
use crate::world::{
    ARENA, Entry, FREE, HELD, PASS, RELEASED, REVOKED, Replica, SLOTS, STASHED, TO_NODE, WRITE, World,
    bytes_of, world,
};

const DEPTH_MAX: usize = 16;

/// An edge as the model keeps it.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    ends: Option<(Seat, Seat)>,
    outstanding: u32,
    cancels: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    entries: Vec<Entry>,
    edges: Vec<Edge>,
}

/// Where a packet arrives, and as what.
type Answer = Result<(u16, Packet), Cause>;

fn handle_of(entry: u32, generation: u32) -> u64 {
    u64::from(entry) << 32 | u64::from(generation)
}

impl Model {
    pub(crate) fn at(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    fn write(&mut self, index: u32, change: impl FnOnce(&mut Entry)) {
        change(&mut self.entries[index as usize]);
    }

    pub(crate) fn has(entry: &Entry, by: Seat) -> bool {
        entry.holder == by.holder && [HELD, STASHED].contains(&entry.state)
    }

    /// What `by` has at `index`, with all of `need`.
    fn take(&self, index: u32, generation: u32, by: Seat, need: u8) -> Result<Entry, Cause> {
        let entry = *self.at(index).ok_or(Cause::Handle)?;
        if entry.generation != generation {
            return Err(Cause::Stale);
        }
        if entry.state == REVOKED {
            return Err(Cause::Revoked);
        }
        if !Model::has(&entry, by) {
            return Err(Cause::Held);
        }
        if entry.rights & need != need { Err(Cause::Rights) } else { Ok(entry) }
    }

    fn root(&self, index: u32, generation: u32, by: Seat, need: u8) -> Result<(), Cause> {
        if index >= SLOTS {
            return Err(Cause::Handle);
        }
        self.take(index, generation, by, need).map(|_| ())
    }

    /// All that lies above a capability, itself included.
    fn way_up(&self, mut index: u32, mut generation: u32) -> Vec<Entry> {
        let mut way = Vec::new();
        while let Some(entry) = self.at(index).filter(|entry| entry.generation == generation) {
            way.push(*entry);
            if entry.parent == u64::MAX || way.len() > DEPTH_MAX {
                break;
            }
            index = u32::try_from(entry.parent >> 32).unwrap();
            generation = u32::try_from(entry.parent & 0xffff_ffff).unwrap();
        }
        way
    }

    /// What a derivation would make.
    fn derived(&self, packet: &Packet, by: Seat, hold: (u8, u16)) -> Result<Entry, Cause> {
        let first = SLOTS + u32::from(by.arena) * ARENA;
        if !(first..first + ARENA).contains(&packet.into) {
            return Err(Cause::Into);
        }
        let Extent { handle, generation, offset, len } = packet.descriptor.body;
        let parent = self.take(handle, generation, by, 0)?;
        let rights = packet.rights;
        if parent.rights & PASS == 0 || rights == 0 || rights & !parent.rights != 0 {
            return Err(Cause::Rights);
        }
        let (from, to) = match handle < SLOTS {
            true => (0, packet.written),
            false => (parent.offset, parent.offset + parent.len),
        };
        if offset < from || offset.checked_add(len).is_none_or(|end| end > to) {
            return Err(Cause::Range);
        }
        let way = self.way_up(handle, generation);
        if way.iter().take(DEPTH_MAX).any(|entry| entry.state == REVOKED) {
            return Err(Cause::Revoked);
        }
        if way.len() >= DEPTH_MAX {
            return Err(Cause::Depth);
        }
        let old = self.at(packet.into).ok_or(Cause::Into)?;
        if ![FREE, RELEASED, REVOKED].contains(&old.state) {
            return Err(Cause::Into);
        }
        let (state, holder) = hold;
        Ok(Entry {
            generation: old.generation.checked_add(1).unwrap_or(1),
            holder,
            state,
            rights,
            offset,
            len,
            parent: handle_of(handle, generation),
            high_water: 0,
            ..parent
        })
    }

    fn derive(&mut self, packet: &Packet, child: Entry) {
        let written = packet.written;
        self.write(packet.descriptor.body.handle, |parent| {
            let mark = if packet.descriptor.body.handle < SLOTS { written } else { 1 };
            parent.high_water = parent.high_water.max(mark);
        });
        self.write(packet.into, |entry| *entry = child);
    }

    fn is_sane(packet: &Packet) -> bool {
        let Descriptor { flags, body, head, kind, .. } = packet.descriptor;
        let (lent, shared, inline) =
            (flags.has(Flags::LEND), flags.has(Flags::SHARE), flags.has(Flags::INLINE));
        let known = [Flags::LEND, Flags::SHARE, Flags::RECORD, Flags::ERROR, Flags::INLINE, Flags::REFUSED];
        let derives = packet.into != NONE;
        let body_fits = match body.handle {
            NONE => !lent && !shared && !derives && body.len <= if inline { 8 } else { 0 },
            _ if inline => false,
            _ if derives => lent != shared && head.handle != body.handle,
            _ => !lent && !shared,
        };
        known.into_iter().fold(flags.0, |rest, flag| rest & !flag.0) == 0
            && body_fits
            && !(lent && kind != Kind::Request as u8)
            && !(shared && packet.rights & WRITE != 0)
            && (kind != Kind::Cancel as u8 || (body.handle == NONE && head.handle == NONE))
            && (head.handle != NONE || head.len == 0)
    }

    fn send(&mut self, by: Seat, packet: &Packet) -> Answer {
        let id = usize::from(packet.edge);
        let edge = *self.edges.get(id).ok_or(Cause::Edge)?;
        let (caller, callee) = edge.ends.ok_or(Cause::Closed)?;
        let kind = packet.descriptor.kind;
        let (is_request, is_reply, is_cancel) =
            (kind == Kind::Request as u8, kind == Kind::Reply as u8, kind == Kind::Cancel as u8);
        if by != caller && by != callee {
            return Err(Cause::Ends);
        }
        if !(is_reply && by == callee || (is_request || is_cancel) && by == caller) {
            return Err(Cause::Kind);
        }
        if !Model::is_sane(packet) {
            return Err(Cause::Flags);
        }
        let to = if is_reply { caller } else { callee };
        if is_request && edge.outstanding >= CREDITS {
            return Err(Cause::Credit);
        }
        if is_reply && edge.outstanding == 0 {
            return Err(Cause::Reply);
        }
        if is_cancel && edge.cancels == 0 {
            return Err(Cause::Cancel);
        }
        let mut arrives = self.hand_over(by, to, packet)?;
        arrives.into = NONE;
        let edge = &mut self.edges[id];
        if is_request {
            edge.outstanding += 1;
            edge.cancels = (edge.cancels + 1).min(CREDITS);
        }
        edge.outstanding -= u32::from(is_reply);
        edge.cancels -= u32::from(is_cancel);
        Ok((to.arena, arrives))
    }

    fn hand_over(&mut self, by: Seat, to: Seat, packet: &Packet) -> Result<Packet, Cause> {
        let Descriptor { body, head, invocation, .. } = packet.descriptor;
        let mut arrives = Packet { rights: 0, written: 0, ..*packet };
        let mut child = None;
        if body.handle != NONE && packet.into != NONE {
            child = Some(self.derived(packet, by, (HELD, to.holder))?);
        } else if body.handle != NONE {
            if body.handle >= SLOTS {
                return Err(Cause::Handle);
            }
            if body.offset.checked_add(body.len).is_none_or(|end| end > packet.written) {
                return Err(Cause::Range);
            }
            self.root(body.handle, body.generation, by, PASS)?;
        }
        let head_end = u64::from(head.offset) + u64::from(head.len);
        if head.handle != NONE && head.handle == body.handle {
            if head.generation != body.generation {
                return Err(Cause::Stale);
            }
            if head_end > packet.written {
                return Err(Cause::Range);
            }
        } else if head.handle != NONE
            && let Err(cause) = self.root(head.handle, head.generation, by, PASS)
        {
            // The child was made and given up: a generation and what it says of its parent are gone.
            if let Some(child) = child {
                self.derive(packet, Entry { state: FREE, holder: 0, ..child });
            }
            return Err(cause);
        }
        let moved = |root: &mut Entry, (offset, len), written: u64| {
            (root.holder, root.state) = (to.holder, HELD);
            (root.offset, root.len, root.invocation) = (offset, len, invocation);
            root.high_water = root.high_water.max(written);
        };
        if let Some(child) = child {
            self.derive(packet, child);
            arrives.rights = child.rights;
            arrives.descriptor.body.handle = packet.into;
            arrives.descriptor.body.generation = child.generation;
        } else if body.handle != NONE {
            self.write(body.handle, |root| moved(root, (body.offset, body.len), packet.written));
            let root = self.at(body.handle).ok_or(Cause::Handle)?;
            (arrives.rights, arrives.written) = (root.rights, root.high_water);
        }
        if head.handle != NONE && head.handle != body.handle {
            let range = (u64::from(head.offset), u64::from(head.len));
            self.write(head.handle, |root| moved(root, range, head_end));
        }
        Ok(arrives)
    }

    fn revoke(&mut self, by: Seat, packet: &Packet) -> Result<(), Cause> {
        let (body, head) = (packet.descriptor.body, packet.descriptor.head);
        let (above, entry) = (self.at(head.handle), self.at(body.handle));
        let (above, entry) = (*above.ok_or(Cause::Handle)?, *entry.ok_or(Cause::Handle)?);
        if body.handle < SLOTS {
            return Err(Cause::Handle);
        }
        if above.generation != head.generation {
            return Err(Cause::Stale);
        }
        let first = SLOTS + u32::from(by.arena) * ARENA;
        let is_own = (first..first + ARENA).contains(&head.handle);
        let ancestor = handle_of(head.handle, head.generation);
        let way = self.way_up(body.handle, entry.generation);
        let descends = handle_of(entry.slot, entry.slot_generation) == ancestor
            || way.iter().any(|entry| entry.parent == ancestor);
        let allowed = match body.handle == head.handle {
            true => is_own,
            false => (is_own || Model::has(&above, by)) && descends,
        };
        if !allowed {
            return Err(Cause::Held);
        }
        if entry.generation != body.generation {
            return Err(Cause::Stale);
        }
        if ![FREE, RELEASED, REVOKED].contains(&entry.state) {
            self.write(body.handle, |entry| entry.state = REVOKED);
        }
        Ok(())
    }

    fn restrict(&mut self, by: Seat, packet: &Packet) -> Result<(), Cause> {
        let Descriptor { body, invocation, .. } = packet.descriptor;
        if body.handle >= SLOTS {
            return Err(Cause::Handle);
        }
        if body.offset.checked_add(body.len).is_none_or(|end| end > packet.written) {
            return Err(Cause::Range);
        }
        self.root(body.handle, body.generation, by, 0)?;
        self.write(body.handle, |root| {
            root.rights &= packet.rights;
            root.state = HELD;
            (root.offset, root.len, root.invocation) = (body.offset, body.len, invocation);
            root.high_water = root.high_water.max(packet.written);
        });
        Ok(())
    }

    fn release(&mut self, by: Seat, packet: &Packet) -> Result<(), Cause> {
        let Extent { handle, generation, .. } = packet.descriptor.body;
        let entry = *self.at(handle).filter(|_| handle >= SLOTS).ok_or(Cause::Handle)?;
        if entry.generation != generation {
            return Err(Cause::Stale);
        }
        if entry.state == REVOKED {
            return Err(Cause::Revoked);
        }
        if entry.state != HELD || entry.holder != by.holder {
            return Err(Cause::Held);
        }
        self.write(handle, |entry| entry.state = RELEASED);
        Ok(())
    }

    fn say(&mut self, by: Seat, packet: &Packet) -> Answer {
        match Op::from_u8(packet.op) {
            Some(Op::Send) => return self.send(by, packet),
            Some(Op::Wake) => {}
            Some(Op::Revoke) => self.revoke(by, packet)?,
            Some(Op::Restrict) => self.restrict(by, packet)?,
            Some(Op::Release) => self.release(by, packet)?,
            Some(Op::Derive) => {
                let child = self.derived(packet, by, (TO_NODE, by.holder))?;
                self.derive(packet, child);
            }
            _ => return Err(Cause::Op),
        }
        Ok((by.arena, *packet))
    }
}

fn who(w: &World, by: usize) -> &Replica {
    [&w.a, &w.b, &w.c][by]
}

/// Says all of them in one message, of the one who says the first. Gives how many were taken.
fn act(w: &World, model: &mut Model, said: &[Said]) -> u32 {
    let Some(replica) = said.first().map(|first| who(w, first.by)) else { return 0 };
    let (mut packets, mut bytes) = (Vec::new(), Vec::new());
    for said in said {
        let make = if said.apt { apt_packet } else { packet };
        let packet = make(model, replica.seat, said);
        packets.push((packet, model.say(replica.seat, &packet)));
    }
    if said.len() > 1 {
        // The node's end gets what is refused in the middle of a message with what is refused last, or some time after.
        let last = Packet { op: 0, ..Packet::new(Op::Send, Descriptor::new(Kind::Request)) };
        packets.push((last, model.say(replica.seat, &last)));
    }
    packets.iter().for_each(|(packet, _)| bytes.extend(bytes_of(packet)));
    let before = w.plane.refusals().unwrap();
    assert_eq!(replica.write(&bytes), Ok(bytes.len()));
    let after = w.plane.refusals().unwrap();
    let mut taken = 0;
    let mut refused = before;
    for (packet, expected) in &packets {
        match expected {
            Ok((arena, arrives)) => {
                let heard = who(w, usize::from(*arena)).hear();
                assert_eq!(heard, Some(*arrives), "{packet:?} of {packets:?}");
                taken += 1;
            }
            Err(cause) => {
                refused.iter_mut().filter(|(one, _)| one == cause).for_each(|(_, count)| *count += 1);
                assert_eq!(replica.passed(PACKET_BYTES), bytes_of(packet), "of {packets:?}");
            }
        }
    }
    assert_eq!(after, refused, "{packets:?}");
    for other in [&w.a, &w.b, &w.c] {
        assert_eq!(other.hear(), None, "{packets:?}");
    }
    for index in watched() {
        assert_eq!(w.entry(index), model.entries[index as usize], "entry {index} after {packets:?}");
    }
    for (id, edge) in (0..).zip(&model.edges) {
        assert_eq!(u32::from(w.plane.outstanding(id).unwrap()), edge.outstanding, "edge {id}");
    }
    taken
}

/// Says up to `together` packets in one message. Gives how many were taken.
fn walk(w: &mut World, steps: &[Step], together: usize) -> u32 {
    let (a, b, c) = (w.a.seat, w.b.seat, w.c.seat);
    w.plane.open_edge(2, c, a).unwrap();
    let mut edges = vec![Edge::default(); crate::world::EDGES as usize];
    for (edge, ends) in edges.iter_mut().zip([(a, b), (b, c), (c, a)]) {
        edge.ends = Some(ends);
    }
    let mut model = Model { entries: vec![Entry::default(); (SLOTS + 4 * ARENA) as usize], edges };
    let mut taken = 0;
    let mut said: Vec<Said> = Vec::new();
    for step in steps {
        match step {
            Step::Grant { root, to } => {
                taken += act(w, &mut model, &std::mem::take(&mut said));
                let to = who(w, *to).seat;
                w.grant(*root, to);
                model.entries[*root as usize] = w.entry(*root);
            }
            Step::Say(more) => said.push(*more),
        }
        if said.len() >= together {
            taken += act(w, &mut model, &std::mem::take(&mut said));
        }
    }
    taken + act(w, &mut model, &said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn random_packets_do_what_the_model_says(steps in prop::collection::vec(step(), 300..500)) {
        let Some(mut w) = world() else { return Ok(()) };
        let taken = walk(&mut w, &steps, 1);
        prop_assert!(taken > 20, "the walk goes nowhere: {taken} packets were taken");
    }

    #[test]
    fn random_packets_in_one_message_do_what_each_would(
        steps in prop::collection::vec(step(), 300..500),
        together in 2..20usize,
    ) {
        let Some(mut w) = world() else { return Ok(()) };
        let taken = walk(&mut w, &steps, together);
        prop_assert!(taken > 20, "the walk goes nowhere: {taken} packets were taken");
    }
}
