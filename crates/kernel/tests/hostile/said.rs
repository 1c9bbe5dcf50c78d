//! What replicas say in random walks: mostly about a few capabilities to which much happens, and often nearly right.

use baton_abi::packet::{Op, Packet};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind, NONE};
use baton_kernel::Seat;
use proptest::prelude::*;

use crate::model::Model;
use crate::world::{ARENA, FREE, RELEASED, REVOKED, SLOTS, WRITE};

pub(crate) const ROOTS: u32 = 4;
const PLACES: u32 = 3;

/// A capability that a packet names: of the roots, of somebody's range, or out of all bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pick: u32,
    stale: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Grant { root: u32, to: usize },
    Say(Said),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// What it says is made to fit who says it.
    pub(crate) apt: bool,
    pub(crate) by: usize,
    op: u8,
    edge: u16,
    kind: u8,
    flags: u8,
    rights: u8,
    body: Option<Named>,
    head: Option<Named>,
    into: Option<u32>,
    range: (u64, u64),
    written: u64,
}

/// An index of the table: mostly one of a few that much happens to.
fn index_of(pick: u32) -> u32 {
    match pick {
        0..ROOTS => pick,
        _ => {
            let place = pick - ROOTS;
            match place / PLACES {
                arena @ 0..4 => SLOTS + arena * ARENA + place % PLACES,
                4 => SLOTS + 4 * ARENA,
                _ => NONE - place,
            }
        }
    }
}

fn named() -> impl Strategy<Value = Named> {
    (0..ROOTS + PLACES * 3 + 5, prop::bool::weighted(0.05)).prop_map(|(pick, stale)| Named { pick, stale })
}

fn said() -> impl Strategy<Value = Said> {
    let op = prop_oneof![8 => Just(1u8), 1 => Just(2), 3 => 3..=5u8, 2 => Just(8), 1 => any::<u8>()];
    let kind = prop_oneof![6 => Just(1u8), 6 => Just(2), 1 => Just(9), 1 => any::<u8>()];
    let flags = prop_oneof![4 => Just(0u8), 5 => Just(1), 5 => Just(2), 1 => Just(16), 1 => any::<u8>()];
    let rights = prop_oneof![3 => Just(5u8), 2 => Just(1), 1 => Just(7), 1 => any::<u8>()];
    let range =
        (prop_oneof![9 => 0..32u64, 1 => any::<u64>()], prop_oneof![9 => 0..32u64, 1 => any::<u64>()]);
    let written = prop_oneof![9 => 40..100u64, 1 => any::<u64>()];
    let edge = prop_oneof![12 => 0..3u16, 1 => any::<u16>()];
    let into = prop::option::weighted(0.6, 0..PLACES * 4);
    let who = (prop::bool::weighted(0.6), 0..3usize, op, edge);
    let what = (kind, flags, rights);
    let of = (prop::option::weighted(0.8, named()), prop::option::weighted(0.2, named()), into);
    (who, what, of, range, written).prop_map(|(who, what, of, range, written)| {
        let ((apt, by, op, edge), (kind, flags, rights), (body, head, into)) = (who, what, of);
        Said { apt, by, op, edge, kind, flags, rights, body, head, into, range, written }
    })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..ROOTS, 0..3usize).prop_map(|(root, to)| Step::Grant { root, to }),
        12 => said().prop_map(Step::Say),
    ]
}

pub(crate) fn packet(model: &Model, by: Seat, said: &Said) -> Packet {
    let place = |named: Option<Named>| {
        let Some(Named { pick, stale }) = named else { return (NONE, 0) };
        let index = index_of(pick);
        let generation = model.at(index).map_or(0, |entry| entry.generation);
        (index, generation.wrapping_sub(u32::from(stale)))
    };
    let ((body, body_generation), (head, head_generation)) = (place(said.body), place(said.head));
    let (offset, len) = said.range;
    let body = match said.body {
        None => Extent { offset: 0, len: 0, ..Extent::EMPTY },
        Some(_) => Extent { handle: body, generation: body_generation, offset, len },
    };
    let head = match said.head {
        None => HeadExtent::EMPTY,
        Some(_) => HeadExtent { handle: head, generation: head_generation, offset: 3, len: 20 },
    };
    let flags = Flags(said.flags);
    // Most that derive say so by their flags.
    let derives = said.op == Op::Derive as u8 || flags.0 & 3 != 0;
    let into = said.into.filter(|_| derives).map_or(NONE, |pick| match pick {
        0..PLACES => SLOTS + u32::from(by.arena) * ARENA + pick,
        _ => SLOTS + pick / PLACES * ARENA + pick % PLACES,
    });
    let descriptor = Descriptor {
        kind: said.kind,
        flags,
        tag: 1,
        invocation: 5,
        body,
        head,
        ..Descriptor::new(Kind::Request)
    };
    Packet { op: said.op, rights: said.rights, edge: said.edge, into, written: said.written, descriptor }
}

/// The same, as someone would say it who wants it to be taken.
pub(crate) fn apt_packet(model: &Model, by: Seat, said: &Said) -> Packet {
    let mut packet = packet(model, by, said);
    let held: Vec<u32> =
        watched().filter(|index| model.at(*index).is_some_and(|entry| Model::has(entry, by))).collect();
    let free = watched().filter(|index| {
        let is_own = index.checked_sub(SLOTS).is_some_and(|derived| derived / ARENA == u32::from(by.arena));
        is_own && model.at(*index).is_some_and(|entry| [FREE, RELEASED, REVOKED].contains(&entry.state))
    });
    // Each is the caller of one edge and the callee of another.
    let asks = said.kind != Kind::Reply as u8;
    packet.edge = if asks { by.arena } else { (by.arena + 2) % 3 };
    packet.descriptor.kind = if asks { Kind::Request as u8 } else { Kind::Reply as u8 };
    packet.descriptor.head = HeadExtent::EMPTY;
    let body = held.get(usize::from(said.rights) % held.len().max(1)).copied();
    let entry = body.and_then(|index| model.at(index)).copied().unwrap_or_default();
    let descriptor = &mut packet.descriptor;
    let (offset, len) =
        if body.is_some_and(|index| index >= SLOTS) { (entry.offset, entry.len) } else { (8, 24) };
    descriptor.body =
        body.map_or(Extent::EMPTY, |handle| Extent { handle, generation: entry.generation, offset, len });
    let derives =
        body.is_some_and(|index| index >= SLOTS) || said.flags & 1 != 0 || said.op == Op::Derive as u8;
    packet.into = free.last().filter(|_| derives && body.is_some()).unwrap_or(NONE);
    packet.rights = entry.rights & !WRITE;
    packet.written = 64;
    descriptor.flags = match packet.into {
        NONE => Flags(0),
        _ if asks => Flags::LEND,
        _ => Flags::SHARE,
    };
    packet
}

/// The entries that steps can change.
pub(crate) fn watched() -> impl Iterator<Item = u32> {
    (0..ROOTS + 4 * PLACES).map(index_of)
}
