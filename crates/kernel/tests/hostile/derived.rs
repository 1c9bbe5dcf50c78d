//! Lending and sharing: what is derived, where, with what rights; and what derived of derived may be.

use baton_abi::packet::Op;
use baton_abi::{Extent, Flags};
use baton_kernel::Cause;

use crate::world::{
    AB, ALL, ARENA, BC, Entry, FREE, FROZEN, HELD, PASS, READ, RELEASED, REVOKED, SLOTS, WRITE, head, lend,
    own, reply, request, root, world,
};

#[test]
fn what_is_lent_stays_and_the_receiver_gets_a_part_of_it() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let into = w.a.own(7);
    w.put(into, Entry { generation: 41, state: RELEASED, ..Entry::default() });
    let packet = lend(AB, root(0, generation, 100), into, READ | PASS);
    w.a.say(&packet);
    let got = w.b.hear().unwrap();
    assert_eq!(got.descriptor.body, Extent { handle: into, generation: 42, offset: 64, len: 100 });
    assert_eq!((got.rights, got.descriptor.flags), (READ | PASS, Flags::LEND));
    assert_eq!((w.entry(0).holder, w.entry(0).state), (w.a.seat.holder, HELD));
    let child = w.entry(into);
    assert_eq!((child.generation, child.holder, child.state), (42, w.b.seat.holder, HELD));
    assert_eq!((child.rights, child.offset, child.len), (READ | PASS, 64, 100));
    assert_eq!((child.parent, child.slot, child.slot_generation), (u64::from(generation), 0, generation));
    assert_eq!(w.entry(0).high_water, 164);
}

#[test]
fn what_one_may_not_lend_is_refused() {
    let Some(mut w) = world() else { return };
    let (mine, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    let into = w.a.own(0);
    w.refuses(&w.a, &lend(AB, root(1, theirs, 4), into, READ), Cause::Held);
    w.refuses(&w.a, &lend(AB, root(0, mine + 1, 4), into, READ), Cause::Stale);
    w.refuses(&w.a, &lend(AB, root(1 << 30, 1, 4), into, READ), Cause::Handle);
    w.refuses(&w.a, &lend(AB, root(0, mine, 4), into, 0), Cause::Rights);
    w.refuses(&w.a, &lend(AB, root(0, mine, 4), into, 8 | READ), Cause::Rights);
    w.put(2, Entry { rights: FROZEN, ..Entry::root(2, 1, HELD, w.a.seat.holder) });
    w.refuses(&w.a, &lend(AB, root(2, 1, 4), into, READ | WRITE), Cause::Rights);
    w.put(2, Entry { rights: READ | WRITE, ..Entry::root(2, 1, HELD, w.a.seat.holder) });
    w.refuses(&w.a, &lend(AB, root(2, 1, 4), into, READ), Cause::Rights);
    // Wider than what was written.
    let mut packet = lend(AB, root(0, mine, 4), into, READ);
    packet.written -= 1;
    w.refuses(&w.a, &packet, Cause::Range);
    // The head would lie in what stays.
    let mut packet = lend(AB, root(0, mine, 4), into, READ);
    packet.descriptor.head = head(0, mine);
    w.refuses(&w.a, &packet, Cause::Flags);
    // Shared and writable; lent in an answer; both at once.
    let mut packet = lend(AB, root(0, mine, 4), into, ALL);
    packet.descriptor.flags = Flags::SHARE;
    w.refuses(&w.a, &packet, Cause::Flags);
    packet.descriptor.flags = Flags::SHARE.with(Flags::LEND);
    w.refuses(&w.a, &packet, Cause::Flags);
    w.a.say(&request(AB, Extent::EMPTY));
    assert!(w.b.hear().is_some());
    let own = w.grant(5, w.b.seat);
    let mut packet = reply(AB, root(5, own, 4));
    (packet.into, packet.rights, packet.descriptor.flags) = (w.b.own(0), READ, Flags::LEND);
    w.refuses(&w.b, &packet, Cause::Flags);
    w.works();
}

#[test]
fn places_to_derive_into_are_ones_own_and_free() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let body = root(0, generation, 4);
    let others = [0, SLOTS - 1, w.a.own(0) + ARENA, w.b.own(0), w.c.own(1023), SLOTS + 4 * ARENA, 1 << 31];
    for into in others {
        w.refuses(&w.a, &lend(AB, body, into, READ), Cause::Into);
    }
    let into = w.a.own(3);
    for state in 0..=255u8 {
        w.put(into, Entry { generation: 1, state, ..Entry::default() });
        if ![FREE, RELEASED, REVOKED].contains(&state) {
            w.refuses(&w.a, &lend(AB, body, into, READ), Cause::Into);
        }
    }
    // The last of its own range, at the end of all generations.
    let into = w.a.own(1023);
    w.put(into, Entry { generation: u32::MAX, ..Entry::default() });
    w.a.say(&lend(AB, body, into, READ));
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, 1);
    w.refuses(&w.a, &lend(AB, body, into, READ), Cause::Into);
}

#[test]
fn a_head_that_is_refused_leaves_no_child() {
    let Some(mut w) = world() else { return };
    let (mine, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    let into = w.a.own(0);
    let mut packet = lend(AB, root(0, mine, 4), into, READ);
    packet.descriptor.head = head(1, theirs);
    let before = w.entry(0).high_water;
    assert_eq!(w.a.write(&crate::world::bytes_of(&packet)), Ok(80));
    assert_eq!(w.count(Cause::Held), 1);
    assert_eq!((w.entry(into).state, w.entry(into).holder), (FREE, 0));
    assert_eq!(w.entry(1).holder, w.c.seat.holder);
    assert!(w.entry(0).high_water >= before);
    assert!(w.b.hear().is_none());
    w.a.passed(80);
    packet.descriptor.head = baton_abi::HeadExtent::EMPTY;
    w.a.say(&packet);
    assert!(w.b.hear().is_some());
}

#[test]
fn derived_of_derived_only_narrows() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    w.a.say(&lend(AB, root(0, generation, 100), w.a.own(0), READ | PASS));
    let lent = w.b.hear().unwrap().descriptor.body;
    let into = w.b.own(0);
    let part = |offset, len| Extent { offset, len, ..lent };
    w.refuses(&w.b, &lend(BC, part(63, 10), into, READ), Cause::Range);
    w.refuses(&w.b, &lend(BC, part(64, 101), into, READ), Cause::Range);
    w.refuses(&w.b, &lend(BC, part(u64::MAX, 2), into, READ), Cause::Range);
    w.refuses(&w.b, &lend(BC, part(70, 10), into, READ | WRITE), Cause::Rights);
    // It cannot be moved on: it is not the callee's.
    w.refuses(&w.b, &request(BC, lent), Cause::Handle);
    w.b.say(&lend(BC, part(70, 10), into, READ));
    let further = w.c.hear().unwrap().descriptor.body;
    assert_eq!((further.handle, further.offset, further.len), (into, 70, 10));
    // Without the right to pass it on, that is the end.
    w.c.say(&own(Op::Wake, (0, 0), (0, 0)));
    assert!(w.c.hear().is_some());
    w.plane.open_edge(3, w.c.seat, w.a.seat).unwrap();
    w.refuses(&w.c, &lend(3, further, w.c.own(0), READ), Cause::Rights);
}

#[test]
fn derivation_is_sixteen_deep() {
    let Some(mut w) = world() else { return };
    w.plane.open_edge(2, w.b.seat, w.a.seat).unwrap();
    let generation = w.grant(0, w.a.seat);
    let mut body = root(0, generation, 8);
    // The root is the first of sixteen.
    for depth in 0..15 {
        let (from, to, edge) = if depth % 2 == 0 { (&w.a, &w.b, AB) } else { (&w.b, &w.a, 2) };
        from.say(&lend(edge, body, from.own(depth), READ | PASS));
        body = to.hear().unwrap().descriptor.body;
    }
    w.refuses(&w.b, &lend(2, body, w.b.own(100), READ), Cause::Depth);
    // With one above it revoked it is void, however deep it is.
    let fourth = w.entry(w.b.own(3));
    w.b.say(&own(Op::Revoke, (w.b.own(3), fourth.generation), (w.b.own(3), fourth.generation)));
    assert!(w.b.hear().is_some());
    w.refuses(&w.b, &lend(2, body, w.b.own(101), READ), Cause::Revoked);
}

#[test]
fn nothing_is_derived_of_what_was_revoked() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let into = w.a.own(0);
    w.a.say(&lend(AB, root(0, generation, 8), into, READ | PASS));
    let lent = w.b.hear().unwrap().descriptor.body;
    w.a.say(&own(Op::Revoke, (into, lent.generation), (into, lent.generation)));
    assert!(w.a.hear().is_some());
    w.refuses(&w.b, &lend(BC, lent, w.b.own(0), READ), Cause::Revoked);
    assert_eq!(w.entry(into).state, REVOKED);
    // Its place serves again, under another generation.
    w.a.say(&lend(AB, root(0, generation, 8), into, READ));
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, lent.generation + 1);
    w.refuses(&w.b, &lend(BC, lent, w.b.own(0), READ), Cause::Stale);
}
