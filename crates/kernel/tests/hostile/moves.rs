//! Handing over what one has, and what one has not.

use baton_abi::{Extent, Flags, HeadExtent, NONE};
use baton_kernel::Cause;

use crate::world::{AB, ALL, Entry, HELD, READ, REVOKED, SLOTS, STASHED, head, reply, request, root, world};

#[test]
fn a_buffer_and_a_head_of_its_own_move_together() {
    let Some(mut w) = world() else { return };
    let (body, own_head) = (w.grant(3, w.a.seat), w.grant(4, w.a.seat));
    let mut packet = request(AB, root(3, body, 100));
    packet.descriptor.head = head(4, own_head);
    packet.written = 5000;
    packet.rights = 77;
    w.a.say(&packet);
    let got = w.b.hear().unwrap();
    assert_eq!(got.descriptor, packet.descriptor);
    assert_eq!((got.rights, got.into, got.written), (ALL, NONE, 5000), "what the receiver may believe");
    let moved = w.entry(3);
    assert_eq!((moved.holder, moved.state, moved.generation), (w.b.seat.holder, HELD, body));
    assert_eq!((moved.offset, moved.len, moved.high_water, moved.invocation), (64, 100, 5000, 99));
    let moved = w.entry(4);
    assert_eq!((moved.holder, moved.state, moved.high_water), (w.b.seat.holder, HELD, 40));
    // How far it was written only grows, whoever says what.
    w.b.say(&reply(AB, root(3, body, 1)));
    assert_eq!(w.a.hear().unwrap().written, 5000);
    assert_eq!(w.entry(3).high_water, 5000);
}

#[test]
fn what_lies_in_the_stash_is_in_ones_hands() {
    let Some(mut w) = world() else { return };
    w.put(5, Entry::root(5, 9, STASHED, w.a.seat.holder));
    w.a.say(&request(AB, root(5, 9, 1)));
    assert!(w.b.hear().is_some());
    assert_eq!((w.entry(5).holder, w.entry(5).state), (w.b.seat.holder, HELD));
}

#[test]
fn what_one_does_not_have_is_refused() {
    let Some(mut w) = world() else { return };
    let (mine, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    w.refuses(&w.a, &request(AB, root(1, theirs, 4)), Cause::Held);
    w.refuses(&w.a, &request(AB, root(0, mine - 1, 4)), Cause::Stale);
    w.refuses(&w.a, &request(AB, root(0, mine + 1, 4)), Cause::Stale);
    w.refuses(&w.a, &request(AB, root(2, 0, 4)), Cause::Held);
    for index in [SLOTS, SLOTS + 5, SLOTS + 4 * 1024, 1 << 31, NONE - 1] {
        w.refuses(&w.a, &request(AB, root(index, 0, 4)), Cause::Handle);
    }
    for state in (0..=255u8).filter(|state| ![STASHED, HELD].contains(state)) {
        w.put(6, Entry { state, ..Entry::root(6, 1, HELD, w.a.seat.holder) });
        let cause = if state == REVOKED { Cause::Revoked } else { Cause::Held };
        w.refuses(&w.a, &request(AB, root(6, 1, 4)), cause);
    }
    w.put(7, Entry { rights: READ, ..Entry::root(7, 1, HELD, w.a.seat.holder) });
    w.refuses(&w.a, &request(AB, root(7, 1, 4)), Cause::Rights);
    w.works();
}

#[test]
fn a_buffer_is_handed_over_once() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = request(AB, root(0, generation, 4));
    w.a.say(&packet);
    assert!(w.b.hear().is_some());
    w.refuses(&w.a, &packet, Cause::Held);
    w.works();
}

#[test]
fn a_head_that_is_refused_keeps_the_body_where_it_is() {
    let Some(mut w) = world() else { return };
    let (body, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    let with_head = |head: HeadExtent| {
        let mut packet = request(AB, root(0, body, 4));
        packet.descriptor.head = head;
        packet
    };
    w.refuses(&w.a, &with_head(head(1, theirs)), Cause::Held);
    w.refuses(&w.a, &with_head(head(1, theirs + 3)), Cause::Stale);
    w.refuses(&w.a, &with_head(head(SLOTS + 1, 1)), Cause::Handle);
    w.refuses(&w.a, &with_head(head(0, body + 1)), Cause::Stale);
    // Beside the body, but behind what was written.
    w.refuses(&w.a, &with_head(HeadExtent { offset: 60, len: 9, ..head(0, body) }), Cause::Range);
    w.refuses(&w.a, &with_head(HeadExtent { len: 5, ..HeadExtent::EMPTY }), Cause::Flags);
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
    let beside = HeadExtent { offset: 0, len: 64, ..head(0, body) };
    w.a.say(&with_head(beside));
    assert_eq!(w.b.hear().unwrap().descriptor.head, beside);
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let ranges = [
        (0, 11, 10),
        (10, 1, 10),
        (u64::MAX, 1, 10),
        (1, u64::MAX, u64::MAX),
        (u64::MAX, u64::MAX, u64::MAX),
    ];
    for (offset, len, written) in ranges {
        let mut packet = request(AB, Extent { handle: 0, generation, offset, len });
        packet.written = written;
        w.refuses(&w.a, &packet, Cause::Range);
    }
    let mut packet = request(AB, Extent { handle: 0, generation, offset: 10, len: 0 });
    packet.written = 10;
    w.a.say(&packet);
    assert!(w.b.hear().is_some());
}

#[test]
fn flags_that_contradict_the_rest_are_refused() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let body = root(0, generation, 4);
    let with = |flags: u8, body: Extent| {
        let mut packet = request(AB, body);
        packet.descriptor.flags = Flags(flags);
        packet
    };
    for flags in [1, 2, 3, 16, 64, 128, 255] {
        w.refuses(&w.a, &with(flags, body), Cause::Flags);
    }
    for flags in [1, 2, 64, 128] {
        w.refuses(&w.a, &with(flags, Extent::EMPTY), Cause::Flags);
    }
    let inline = |len| Extent { offset: 0x4142, len, ..Extent::EMPTY };
    w.refuses(&w.a, &with(0, inline(1)), Cause::Flags);
    w.refuses(&w.a, &with(16, inline(9)), Cause::Flags);
    let mut packet = with(0, Extent::EMPTY);
    packet.into = w.a.own(0);
    w.refuses(&w.a, &packet, Cause::Flags);
    w.a.say(&with(16 | 4, inline(8)));
    assert_eq!(w.b.hear().unwrap().descriptor.body, inline(8));
    w.works();
}

#[test]
fn a_cancel_carries_nothing() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    w.a.say(&request(AB, Extent::EMPTY));
    assert!(w.b.hear().is_some());
    let mut packet = crate::world::message(baton_abi::Kind::Cancel, AB, root(0, generation, 1));
    w.refuses(&w.a, &packet, Cause::Flags);
    packet.descriptor.body = Extent::EMPTY;
    packet.descriptor.head = head(0, generation);
    w.refuses(&w.a, &packet, Cause::Flags);
}
