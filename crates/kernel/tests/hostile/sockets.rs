//! What can be done to sockets: closed, full, inherited, taken elsewhere; and what can be done to the table's descriptor.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use aya::maps::{Array, Map, MapData};
use baton_abi::Extent;
use baton_abi::packet::{CREDITS, Op};
use baton_kernel::{Cause, KernelError, Seat};
use rustix::net::{Shutdown, shutdown};

use crate::world::{AB, BC, EDGES, READ, REVOKED, bytes_of, lend, own, reply, request, root, world};

#[test]
fn a_target_that_is_gone_leaves_all_with_the_sender() {
    let Some(mut w) = world() else { return };
    let (a, ghost) = (w.a.seat, Seat { holder: 77, arena: 3 });
    w.plane.open_edge(4, a, ghost).unwrap();
    let (body, of_head) = (w.grant(0, a), w.grant(1, a));
    let mut packet = request(4, root(0, body, 4));
    packet.descriptor.head = crate::world::head(1, of_head);
    assert_eq!(w.a.write(&bytes_of(&packet)), Ok(80));
    assert_eq!(w.a.passed(80), bytes_of(&packet));
    assert_eq!((w.count(Cause::Gone), w.all_refusals()), (1, 1));
    assert_eq!((w.entry(0).holder, w.entry(1).holder), (a.holder, a.holder));
    assert_eq!(w.plane.outstanding(4).unwrap(), 0);
    // Nor is anything derived.
    let into = w.a.own(0);
    assert_eq!(w.a.write(&bytes_of(&lend(4, root(0, body, 4), into, READ))), Ok(80));
    assert_eq!(w.count(Cause::Gone), 2);
    assert_ne!(w.entry(into).state, crate::world::HELD);
    assert_ne!(w.entry(into).state, REVOKED);
    w.a.passed(80);
    w.works();
}

#[test]
fn who_left_is_called_no_more_and_sends_no_more() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let theirs = w.grant(1, w.b.seat);
    w.plane.leave(w.b.seat.arena).unwrap();
    assert!(matches!(w.plane.leave(w.b.seat.arena), Err(KernelError::Arena(1))));
    assert!(matches!(w.plane.wake(w.b.seat.arena), Err(KernelError::Arena(1))));
    assert_eq!(w.a.write(&bytes_of(&request(AB, root(0, generation, 4)))), Ok(80));
    assert_eq!(w.count(Cause::Closed), 1);
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
    // Its socket is one like any other now: its bytes reach the node, if the node still reads.
    let _ = w.b.write(&bytes_of(&request(BC, root(1, theirs, 4))));
    assert!(w.c.hear().is_none());
    assert_eq!(w.entry(1).holder, w.b.seat.holder);
    // Its range is someone else's then.
    let next = Seat { holder: 21, arena: w.b.seat.arena };
    let ends = w.plane.join(next).unwrap();
    assert!(matches!(w.plane.join(next), Err(KernelError::Taken(1))));
    w.plane.open_edge(AB, w.a.seat, next).unwrap();
    w.b = crate::world::Replica { seat: next, ends };
    w.works();
}

#[test]
fn a_target_that_shut_its_socket_harms_itself_alone() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    shutdown(&w.b.ends.replica, Shutdown::Both).unwrap();
    assert_eq!(w.a.write(&bytes_of(&request(AB, root(0, generation, 4)))), Ok(80));
    // Whether it arrived or not, someone has it, and that is who the node will take it from.
    let entry = w.entry(0);
    assert!([w.a.seat.holder, w.b.seat.holder].contains(&entry.holder) && entry.state == crate::world::HELD);
    w.plane.leave(w.b.seat.arena).unwrap();
    w.plane.open_edge(5, w.a.seat, w.c.seat).unwrap();
    let generation = w.grant(1, w.a.seat);
    w.a.say(&request(5, root(1, generation, 4)));
    assert!(w.c.hear().is_some());
}

/// A target that reads nothing takes what the credits of its edges allow, and its senders never wait for it.
#[test]
fn a_target_that_never_reads_is_full_at_its_credits() {
    let Some(mut w) = world() else { return };
    let (a, b) = (w.a.seat, w.b.seat);
    let edges: Vec<u16> = (2..u16::try_from(EDGES).unwrap()).collect();
    for id in &edges {
        w.plane.open_edge(*id, a, b).unwrap();
    }
    for id in edges.iter().chain([&AB]) {
        for _ in 0..CREDITS {
            w.a.say(&request(*id, Extent::EMPTY));
        }
        let packet = bytes_of(&request(*id, Extent::EMPTY));
        assert_eq!(w.a.write(&packet), Ok(80));
        assert_eq!(w.a.passed(80), packet);
    }
    assert_eq!(w.count(Cause::Credit), 7);
    let mut arrived = 0;
    while w.b.hear().is_some() {
        arrived += 1;
    }
    assert_eq!(arrived, 7 * CREDITS);
}

#[test]
fn who_does_not_read_may_not_write() {
    let Some(mut w) = world() else { return };
    let wake = own(Op::Wake, (0, 0), (0, 0));
    let mut taken = 0u32;
    while w.count(Cause::Unread) == 0 {
        assert_eq!(w.a.write(&bytes_of(&wake)), Ok(80));
        taken += 1;
        assert!(taken < 20_000, "nothing bounds what waits");
    }
    assert!(taken > 13_000);
    w.a.passed(80);
    // Nothing at all of it is taken now, and others do not notice.
    w.refuses_quietly(&request(AB, Extent::EMPTY));
    assert!(w.plane.wake(w.a.seat.arena).is_ok(), "who has something to read is awake");
    assert!(matches!(w.plane.refuse(w.a.seat.arena, &wake), Err(KernelError::Unread(0))));
    w.b.say(&request(BC, Extent::EMPTY));
    assert!(w.c.hear().is_some());
    let mut read = 0;
    while w.a.hear().is_some() {
        read += 1;
    }
    assert_eq!(read + 1, taken);
    w.works();
}

/// Two that work together, and read nothing, fill no more than their own share.
#[test]
fn friends_who_do_not_read_are_bounded_too() {
    let Some(w) = world() else { return };
    for round in 0..20_000 {
        assert_eq!(w.a.write(&bytes_of(&request(AB, Extent::EMPTY))), Ok(80));
        if w.count_now(Cause::Unread, round) > 0 {
            break;
        }
        assert_eq!(w.b.write(&bytes_of(&reply(AB, Extent::EMPTY))), Ok(80));
        assert!(round < 15_000, "nothing bounds what waits");
    }
    assert!(w.count(Cause::Unread) > 0);
}

#[test]
fn an_inherited_socket_is_whose_it_was() {
    let Some(mut w) = world() else { return };
    let (mine, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    let in_a_child = |packet: &[u8]| {
        let socket = Stdio::from(w.a.ends.replica.try_clone().unwrap());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(socket).spawn().unwrap();
        child.stdin.take().unwrap().write_all(packet).unwrap();
        assert!(child.wait().unwrap().success());
    };
    in_a_child(&bytes_of(&request(AB, root(1, theirs, 4))));
    assert_eq!(w.count(Cause::Held), 1);
    w.a.passed(80);
    in_a_child(&bytes_of(&request(AB, root(0, mine, 4))));
    assert_eq!(w.b.hear().unwrap().descriptor.body.handle, 0);
    assert_eq!((w.entry(0).holder, w.entry(1).holder), (w.b.seat.holder, w.c.seat.holder));
    w.works();
}

/// A socket that is disconnected, and connected again, is whose it was, in a network where nobody else is.
#[test]
fn a_socket_that_is_taken_elsewhere_leads_nowhere() {
    let Some(mut w) = world() else { return };
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::connect_unspec(&w.a.ends.replica).unwrap();
    let there = outside.local_addr().unwrap();
    assert_eq!(rustix::net::connect(&w.a.ends.replica, &there), Err(rustix::io::Errno::CONNREFUSED));
    outside.set_nonblocking(true).unwrap();
    assert_eq!(outside.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // What the program takes it takes as before; what it refuses has nowhere to go.
    let (mine, theirs) = (w.grant(0, w.a.seat), w.grant(1, w.c.seat));
    assert_eq!(w.a.write(&bytes_of(&request(AB, root(0, mine, 4)))), Ok(80));
    assert_eq!(w.b.hear().unwrap().descriptor.body.handle, 0);
    assert_eq!(w.a.write(&bytes_of(&request(AB, root(1, theirs, 4)))), Err(rustix::io::Errno::PIPE));
    assert_eq!((w.count(Cause::Held), w.entry(1).holder), (1, w.c.seat.holder));
    w.plane.leave(w.a.seat.arena).unwrap();
    w.b.say(&request(BC, Extent::EMPTY));
    assert!(w.c.hear().is_some());
}

#[test]
fn the_replicas_descriptor_of_the_table_changes_nothing() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let read_only = w.plane.table_read_only().unwrap();
    let mut table: Array<MapData, [u64; 8]> =
        Array::try_from(Map::Array(MapData::from_fd(read_only).unwrap())).unwrap();
    let words = table.get(&0, 0).unwrap();
    assert_eq!(words[0] >> 32, u64::from(generation));
    let refused = table.set(0, [0; 8], 0).unwrap_err();
    assert!(format!("{refused:?}").contains("PermissionDenied"), "{refused:?}");
    assert_eq!(w.entry(0).generation, generation);
}
