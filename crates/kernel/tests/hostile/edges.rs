//! Who may call whom, how much at a time, and what may be said in which direction.

use baton_abi::packet::{CREDITS, Op, Packet};
use baton_abi::{Descriptor, Extent, Kind};
use baton_kernel::Cause;

use crate::world::{AB, BC, EDGES, FROZEN, message, reply, request, root, world};

#[test]
fn requests_and_answers_move_what_they_carry() {
    let Some(mut w) = world() else { return };
    w.works();
    let counts = w.plane.edge_counts(AB).unwrap();
    assert_eq!((counts.calls, counts.replies, counts.bytes, counts.refusals), (1, 1, 20, 0));
    assert_eq!(w.all_refusals(), 0);
}

#[test]
fn targets_that_are_not_declared_are_refused() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let body = root(0, generation, 4);
    // The edge of two others; edges that are closed; edges that cannot be.
    w.refuses(&w.a, &request(BC, body), Cause::Ends);
    w.refuses(&w.c, &request(AB, Extent::EMPTY), Cause::Ends);
    w.refuses(&w.a, &request(5, body), Cause::Closed);
    for id in [EDGES, 9_999, 16_384, 65_535] {
        w.refuses(&w.a, &request(u16::try_from(id).unwrap(), body), Cause::Edge);
    }
    w.works();
}

#[test]
fn a_seat_of_the_same_holder_in_another_range_is_someone_else() {
    let Some(mut w) = world() else { return };
    let twin = baton_kernel::Seat { holder: w.a.seat.holder, arena: 3 };
    let twin = crate::world::Replica { seat: twin, ends: w.plane.join(twin).unwrap() };
    w.refuses(&twin, &request(AB, Extent::EMPTY), Cause::Ends);
    w.works();
}

#[test]
fn what_goes_the_wrong_way_is_refused() {
    let Some(mut w) = world() else { return };
    w.refuses(&w.b, &request(AB, Extent::EMPTY), Cause::Kind);
    w.refuses(&w.b, &message(Kind::Cancel, AB, Extent::EMPTY), Cause::Kind);
    w.refuses(&w.a, &reply(AB, Extent::EMPTY), Cause::Kind);
    for kind in (0..=255u8).filter(|kind| ![1, 2, 9].contains(kind)) {
        let mut packet = request(AB, Extent::EMPTY);
        packet.descriptor.kind = kind;
        w.refuses(&w.a, &packet, Cause::Kind);
    }
    assert_eq!(w.plane.edge_counts(AB).unwrap().refusals, 3 + 253);
    w.works();
}

#[test]
fn answers_and_cancels_need_requests() {
    let Some(mut w) = world() else { return };
    w.refuses(&w.b, &reply(AB, Extent::EMPTY), Cause::Reply);
    w.refuses(&w.a, &message(Kind::Cancel, AB, Extent::EMPTY), Cause::Cancel);
    w.a.say(&request(AB, Extent::EMPTY));
    w.a.say(&message(Kind::Cancel, AB, Extent::EMPTY));
    assert_eq!(w.b.hear().unwrap().descriptor.kind, Kind::Request as u8);
    assert_eq!(w.b.hear().unwrap().descriptor.kind, Kind::Cancel as u8);
    w.refuses(&w.a, &message(Kind::Cancel, AB, Extent::EMPTY), Cause::Cancel);
    w.b.say(&reply(AB, Extent::EMPTY));
    assert!(w.a.hear().is_some());
    w.refuses(&w.b, &reply(AB, Extent::EMPTY), Cause::Reply);
    w.works();
}

#[test]
fn more_requests_than_credits_are_refused_until_there_is_an_answer() {
    let Some(w) = world() else { return };
    for _ in 0..CREDITS {
        w.a.say(&request(AB, Extent::EMPTY));
    }
    let mut arrived = 0;
    while w.b.hear().is_some() {
        arrived += 1;
    }
    assert_eq!(arrived, CREDITS);
    w.refuses(&w.a, &request(AB, Extent::EMPTY), Cause::Credit);
    // Others are not held up by it.
    w.b.say(&request(BC, Extent::EMPTY));
    assert!(w.c.hear().is_some());
    w.b.say(&reply(AB, Extent::EMPTY));
    assert!(w.a.hear().is_some());
    w.a.say(&request(AB, Extent::EMPTY));
    assert!(w.b.hear().is_some());
    // As many cancels as requests that may still be cancelled.
    for _ in 0..CREDITS {
        w.a.say(&message(Kind::Cancel, AB, Extent::EMPTY));
    }
    while w.b.hear().is_some() {}
    w.refuses(&w.a, &message(Kind::Cancel, AB, Extent::EMPTY), Cause::Cancel);
}

#[test]
fn a_closed_edge_is_closed_at_once_and_opens_with_counts_of_its_own() {
    let Some(mut w) = world() else { return };
    w.a.say(&request(AB, Extent::EMPTY));
    assert!(w.b.hear().is_some());
    w.plane.close_edge(AB).unwrap();
    w.refuses(&w.a, &request(AB, Extent::EMPTY), Cause::Closed);
    w.refuses(&w.b, &reply(AB, Extent::EMPTY), Cause::Closed);
    let (a, b, c) = (w.a.seat, w.b.seat, w.c.seat);
    w.plane.open_edge(AB, a, b).unwrap();
    w.refuses(&w.b, &reply(AB, Extent::EMPTY), Cause::Reply);
    w.works();
    w.plane.close_edge(AB).unwrap();
    w.plane.open_edge(AB, a, c).unwrap();
    w.refuses(&w.b, &reply(AB, Extent::EMPTY), Cause::Ends);
    w.a.say(&request(AB, Extent::EMPTY));
    assert!(w.c.hear().is_some());
}

#[test]
fn operations_of_the_node_are_the_nodes() {
    let Some(mut w) = world() else { return };
    for op in [Op::NodeWake, Op::Refused] {
        let packet = Packet { into: 1, ..Packet::new(op, Descriptor::new(Kind::Reply)) };
        w.refuses(&w.a, &packet, Cause::Op);
    }
    for op in (0..=255u8).filter(|op| ![1, 2, 3, 4, 5, 8].contains(op)) {
        w.refuses(&w.a, &Packet { op, rights: FROZEN, ..request(AB, Extent::EMPTY) }, Cause::Op);
    }
    w.plane.wake(1).unwrap();
    assert_eq!(w.b.hear().unwrap().op, Op::NodeWake as u8);
    let refused = reply(AB, Extent::EMPTY);
    w.plane.refuse(0, &refused).unwrap();
    let got = w.a.hear().unwrap();
    assert_eq!((got.op, got.descriptor), (Op::Refused as u8, refused.descriptor));
    w.works();
}
