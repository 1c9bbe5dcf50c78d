//! What a replica says to itself: revoke, restrict, release.

use baton_abi::Extent;
use baton_abi::packet::{Op, Packet};
use baton_kernel::Cause;

use crate::world::{
    AB, ALL, BC, Entry, FROZEN, HELD, PASS, READ, RELEASED, REVOKED, SLOTS, STASHED, World, lend, own, root,
    world,
};

/// A lends to B, and B lends that on to C: the root's generation, and both derived.
fn lent_twice(w: &mut World) -> (u32, Extent, Extent) {
    let generation = w.grant(0, w.a.seat);
    w.a.say(&lend(AB, root(0, generation, 100), w.a.own(0), READ | PASS));
    let first = w.b.hear().unwrap().descriptor.body;
    w.b.say(&lend(BC, first, w.b.own(0), READ));
    let second = w.c.hear().unwrap().descriptor.body;
    (generation, first, second)
}

fn pair(extent: Extent) -> (u32, u32) {
    (extent.handle, extent.generation)
}

#[test]
fn a_lender_takes_back_what_it_lent_and_what_came_of_it() {
    let Some(mut w) = world() else { return };
    let (generation, first, second) = lent_twice(&mut w);
    // By the lent one, after it was taken back; and by the root.
    w.a.say(&own(Op::Revoke, pair(first), pair(first)));
    assert_eq!(w.a.hear().unwrap().op, Op::Revoke as u8);
    assert_eq!((w.entry(first.handle).state, w.entry(second.handle).state), (REVOKED, HELD));
    w.a.say(&own(Op::Revoke, pair(second), pair(first)));
    assert!(w.a.hear().is_some());
    assert_eq!(w.entry(second.handle).state, REVOKED);
    w.a.say(&own(Op::Revoke, pair(second), (0, generation)));
    assert!(w.a.hear().is_some(), "what is revoked is revoked");
    w.works();
}

#[test]
fn a_lender_takes_back_what_came_of_what_was_given_up() {
    let Some(mut w) = world() else { return };
    let (_, first, second) = lent_twice(&mut w);
    w.b.say(&own(Op::Release, pair(first), (0, 0)));
    assert!(w.b.hear().is_some());
    assert_eq!(w.entry(first.handle).state, RELEASED);
    w.a.say(&own(Op::Revoke, pair(second), pair(first)));
    assert!(w.a.hear().is_some());
    assert_eq!(w.entry(second.handle).state, REVOKED);
}

#[test]
fn what_does_not_descend_is_not_revoked() {
    let Some(mut w) = world() else { return };
    let (generation, first, second) = lent_twice(&mut w);
    let other = w.grant(1, w.a.seat);
    let theirs = w.grant(2, w.c.seat);
    // Of another buffer of its own; of a buffer of someone else; of something that does not exist; a root.
    w.refuses(&w.a, &own(Op::Revoke, pair(first), (1, other)), Cause::Held);
    w.refuses(&w.c, &own(Op::Revoke, pair(first), (2, theirs)), Cause::Held);
    w.refuses(&w.b, &own(Op::Revoke, pair(first), (0, generation)), Cause::Held);
    w.refuses(&w.c, &own(Op::Revoke, pair(first), pair(second)), Cause::Held);
    w.refuses(&w.b, &own(Op::Revoke, pair(first), pair(first)), Cause::Held);
    w.refuses(&w.a, &own(Op::Revoke, (0, generation), (0, generation)), Cause::Handle);
    w.refuses(&w.c, &own(Op::Revoke, (2, theirs), (2, theirs)), Cause::Handle);
    w.refuses(&w.a, &own(Op::Revoke, pair(first), (0, generation + 1)), Cause::Stale);
    w.refuses(&w.a, &own(Op::Revoke, (first.handle, first.generation + 1), (0, generation)), Cause::Stale);
    w.refuses(&w.a, &own(Op::Revoke, (1 << 31, 1), (0, generation)), Cause::Handle);
    w.refuses(&w.a, &own(Op::Revoke, pair(first), (u32::MAX, 1)), Cause::Handle);
    w.works();
}

#[test]
fn parents_in_a_circle_end() {
    let Some(mut w) = world() else { return };
    let (_, first, second) = lent_twice(&mut w);
    let circle = |to: Extent| u64::from(to.handle) << 32 | u64::from(to.generation);
    let entry = w.entry(first.handle);
    w.put(first.handle, Entry { parent: circle(second), ..entry });
    let other = w.grant(1, w.a.seat);
    w.refuses(&w.a, &own(Op::Revoke, pair(first), (1, other)), Cause::Held);
    w.refuses(&w.b, &lend(BC, first, w.b.own(1), READ), Cause::Depth);
}

#[test]
fn rights_are_given_up_and_do_not_come_back() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let restrict = |rights, generation, offset, len, written| {
        let body = Extent { handle: 0, generation, offset, len };
        let mut packet = Packet { rights, written, ..own(Op::Restrict, (0, 0), (0, 0)) };
        packet.descriptor.body = body;
        packet
    };
    w.a.say(&restrict(FROZEN, generation, 10, 20, 40));
    assert!(w.a.hear().is_some());
    let entry = w.entry(0);
    assert_eq!((entry.rights, entry.offset, entry.len, entry.high_water), (FROZEN, 10, 20, 40));
    assert_eq!((entry.state, entry.holder), (HELD, w.a.seat.holder));
    w.a.say(&restrict(ALL, generation, 10, 20, 40));
    assert!(w.a.hear().is_some());
    assert_eq!(w.entry(0).rights, FROZEN);
    w.refuses(&w.a, &restrict(READ, generation + 1, 0, 0, 0), Cause::Stale);
    w.refuses(&w.b, &restrict(READ, generation, 0, 0, 0), Cause::Held);
    w.refuses(&w.a, &restrict(READ, generation, 0, 41, 40), Cause::Range);
    let mut derived = restrict(READ, 0, 0, 0, 0);
    derived.descriptor.body.handle = SLOTS;
    w.refuses(&w.a, &derived, Cause::Handle);
    w.put(0, Entry::root(0, 9, STASHED, w.a.seat.holder));
    w.a.say(&restrict(READ | PASS, 9, 0, 4, 4));
    assert!(w.a.hear().is_some());
    assert_eq!((w.entry(0).state, w.entry(0).rights), (HELD, READ | PASS));
}

#[test]
fn what_one_has_not_is_not_released() {
    let Some(mut w) = world() else { return };
    let (generation, first, second) = lent_twice(&mut w);
    w.refuses(&w.a, &own(Op::Release, pair(first), (0, 0)), Cause::Held);
    w.refuses(&w.b, &own(Op::Release, pair(second), (0, 0)), Cause::Held);
    w.refuses(&w.a, &own(Op::Release, (0, generation), (0, 0)), Cause::Handle);
    w.refuses(&w.b, &own(Op::Release, (first.handle, first.generation + 1), (0, 0)), Cause::Stale);
    w.b.say(&own(Op::Release, pair(first), (0, 0)));
    assert!(w.b.hear().is_some());
    w.refuses(&w.b, &own(Op::Release, pair(first), (0, 0)), Cause::Held);
    w.a.say(&own(Op::Revoke, pair(second), (0, generation)));
    assert!(w.a.hear().is_some());
    w.refuses(&w.c, &own(Op::Release, pair(second), (0, 0)), Cause::Revoked);
}
