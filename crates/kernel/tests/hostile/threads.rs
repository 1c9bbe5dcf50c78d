//! Two threads of a liar at the same moment, and the node beside them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use baton_abi::packet::{Op, PACKET_BYTES, Packet};
use baton_abi::{Extent, Kind};
use baton_kernel::Cause;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::world::{AB, BC, HELD, PASS, READ, Replica, bytes_of, lend, own, reply, request, root, world};

/// Sends that each thread makes.
const SENDS: u32 = 15_000;

/// Reads what the node gets, so that nobody waits for it, until `over`.
fn drain(replica: &Replica, over: &AtomicBool) -> usize {
    let mut bytes = [0; 64 * PACKET_BYTES];
    let mut all = 0;
    loop {
        match recv(&replica.ends.node, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((read, _)) => all += read,
            Err(_) if over.load(Ordering::Acquire) => return all,
            Err(_) => thread::yield_now(),
        }
    }
}

fn hammer(replica: &Replica, packet: &Packet) {
    let bytes = bytes_of(packet);
    for _ in 0..SENDS {
        assert_eq!(send(&replica.ends.replica, &bytes, SendFlags::NOSIGNAL), Ok(PACKET_BYTES));
    }
}

#[test]
fn two_threads_hand_one_buffer_over_once_each_time() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = request(AB, root(0, generation, 4));
    let over = AtomicBool::new(false);
    let mut arrived = 0u64;
    thread::scope(|scope| {
        let drained = scope.spawn(|| drain(&w.a, &over));
        let senders = [(); 2].map(|()| scope.spawn(|| hammer(&w.a, &packet)));
        while senders.iter().any(|sender| !sender.is_finished()) {
            let Some(got) = w.b.hear() else {
                thread::yield_now();
                continue;
            };
            arrived += 1;
            assert_eq!((got.descriptor.kind, got.descriptor.body.handle), (Kind::Request as u8, 0));
            let entry = w.entry(0);
            assert_eq!(
                (entry.holder, entry.state),
                (w.b.seat.holder, HELD),
                "what arrives is the receiver's"
            );
            assert!(w.b.hear().is_none(), "it came twice");
            w.b.say(&reply(AB, root(0, generation, 4)));
            while w.a.hear().is_some() {}
        }
        over.store(true, Ordering::Release);
        drained.join().unwrap();
    });
    while w.b.hear().is_some() {
        arrived += 1;
    }
    let counts = w.plane.edge_counts(AB).unwrap();
    assert_eq!(counts.calls, arrived);
    assert_eq!(counts.calls + counts.refusals, u64::from(2 * SENDS));
    assert!(arrived > 1, "it went around");
    while w.a.hear().is_some() {}
    w.works();
}

/// A flood of lies is slow for who floods, and others do not notice.
#[test]
fn who_floods_waits_for_the_node_and_others_do_not() {
    let Some(mut w) = world() else { return };
    let lie = bytes_of(&request(BC, Extent::EMPTY));
    let mut sent = 0u32;
    // The node reads nothing.
    while w.a.write(&lie) == Ok(PACKET_BYTES) {
        sent += 1;
        assert!(sent < 50_000, "nothing throttles it");
    }
    assert_eq!(w.count(Cause::Ends), u64::from(sent));
    for _ in 0..100 {
        w.b.say(&request(BC, Extent::EMPTY));
        assert!(w.c.hear().is_some());
        w.c.say(&reply(BC, Extent::EMPTY));
        assert!(w.b.hear().is_some());
    }
    w.a.passed(PACKET_BYTES * sent as usize);
    w.works();
}

/// An edge is closed, and its callee leaves, while its caller sends: what was handed over is the callee's, all else the caller's.
#[test]
fn nothing_is_lost_when_the_target_leaves_meanwhile() {
    let Some(mut w) = world() else { return };
    const ROOTS: u32 = 60;
    for round in 0..150u32 {
        for index in 0..ROOTS {
            w.grant(index, w.a.seat);
        }
        let packets: Vec<_> = (0..ROOTS)
            .map(|index| bytes_of(&request(AB, root(index, w.entry(index).generation, 4))))
            .collect();
        let over = AtomicBool::new(false);
        let (plane, a) = (&mut w.plane, &w.a);
        let (caller, callee) = (a.seat, w.b.seat);
        thread::scope(|scope| {
            let drained = scope.spawn(|| drain(a, &over));
            let sender = scope.spawn(|| {
                for packet in &packets {
                    assert_eq!(send(&a.ends.replica, packet, SendFlags::NOSIGNAL), Ok(PACKET_BYTES));
                }
            });
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            plane.leave(callee.arena).unwrap();
            sender.join().unwrap();
            over.store(true, Ordering::Release);
            drained.join().unwrap();
        });
        for index in 0..ROOTS {
            let entry = w.entry(index);
            assert_eq!(entry.state, HELD, "root {index}");
            assert!([caller.holder, callee.holder].contains(&entry.holder));
        }
        let ends = w.plane.join(callee).unwrap();
        w.b = Replica { seat: callee, ends };
        w.plane.open_edge(AB, caller, callee).unwrap();
    }
    w.works();
}

/// The kernel remembers where it put the last packet of a message: a lie behind an honest packet must not go there, even if its sender's
/// seat is taken away between the two.
#[test]
fn a_lie_does_not_follow_an_honest_packet_when_its_sender_leaves_meanwhile() {
    let Some(mut w) = world() else { return };
    let honest = bytes_of(&request(AB, Extent::EMPTY));
    let mut lie = request(BC, Extent::EMPTY);
    lie.descriptor.tag = 666;
    let message = [&honest[..], &bytes_of(&lie), &honest, &bytes_of(&lie)].concat();
    let mut arrived = 0;
    for round in 0..200u32 {
        let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (plane, a, b) = (&mut w.plane, &w.a, &w.b);
        let caller = a.seat;
        thread::scope(|scope| {
            let drained = scope.spawn(|| drain(a, &over));
            let sender = scope.spawn(|| {
                let mut sent = (0..100).map(|_| {
                    let sent = send(&a.ends.replica, &message, SendFlags::NOSIGNAL);
                    begun.store(true, Ordering::Release);
                    sent
                });
                sent.all(|sent| sent == Ok(message.len()))
            });
            while !begun.load(Ordering::Acquire) {
                thread::yield_now();
            }
            for _ in 0..round * 40 {
                std::hint::spin_loop();
            }
            plane.leave(caller.arena).unwrap();
            sender.join().unwrap();
            over.store(true, Ordering::Release);
            drained.join().unwrap();
        });
        while let Some(got) = b.hear() {
            assert_eq!((got.edge, got.descriptor.tag), (AB, 7), "round {round}: a lie arrived");
            arrived += 1;
        }
        let ends = w.plane.join(caller).unwrap();
        w.a = Replica { seat: caller, ends };
        w.plane.open_edge(AB, caller, w.b.seat).unwrap();
    }
    assert!(arrived > 0, "nothing arrived");
    w.works();
}

/// B lends on what A takes back at the same time: afterwards nobody has anything of it.
#[test]
fn no_child_outlives_a_revocation_that_raced_with_it() {
    let Some(mut w) = world() else { return };
    for round in 0..300u32 {
        let generation = w.grant(0, w.a.seat);
        let into = w.a.own(round % 1000);
        w.a.say(&lend(AB, root(0, generation, 100), into, READ | PASS));
        let lent = w.b.hear().unwrap().descriptor.body;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let drained = scope.spawn(|| drain(&w.b, &over));
            let lender = scope.spawn(|| {
                for place in 0..8 {
                    let packet = bytes_of(&lend(BC, lent, w.b.own(place), READ));
                    assert_eq!(send(&w.b.ends.replica, &packet, SendFlags::NOSIGNAL), Ok(PACKET_BYTES));
                }
            });
            for _ in 0..round * 10 {
                std::hint::spin_loop();
            }
            revoke_all(&w, (lent.handle, lent.generation));
            lender.join().unwrap();
            over.store(true, Ordering::Release);
            drained.join().unwrap();
        });
        for place in 0..8 {
            let entry = w.entry(w.b.own(place));
            let is_of_it = entry.parent == u64::from(lent.handle) << 32 | u64::from(lent.generation);
            assert!(!(is_of_it && entry.state == HELD), "round {round}: {entry:?} is live");
        }
        while w.c.hear().is_some() {
            w.c.say(&reply(BC, Extent::EMPTY));
        }
        while w.b.hear().is_some() {}
        w.b.say(&reply(AB, Extent::EMPTY));
        while w.a.hear().is_some() {}
    }
    w.works();
}

/// As a lender does it: takes one back, then what came of it, until a round finds nothing.
fn revoke_all(w: &crate::world::World, lent: (u32, u32)) {
    w.a.say(&own(Op::Revoke, lent, lent));
    loop {
        let mut found = 0;
        for place in 0..8 {
            let index = w.b.own(place);
            let entry = w.entry(index);
            if entry.state == HELD && entry.parent == u64::from(lent.0) << 32 | u64::from(lent.1) {
                w.a.say(&own(Op::Revoke, (index, entry.generation), lent));
                found += 1;
            }
        }
        if found == 0 {
            return;
        }
    }
}
