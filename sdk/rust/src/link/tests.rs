//! Tests of the link where the kernel hands over, on the kernel's program itself. The link over rings is tested end to end.

use baton_abi::packet::Op;
use baton_abi::{Descriptor, Extent, Flags, Kind as Message64, Rights};
use baton_pool::capability::{Hold, NODE, State};
use baton_pool::link::map_head;

use stage::{Stage, handle};

mod stage;

const A: u16 = 1;
const B: u16 = 2;
const C: u16 = 3;
const OVER: u16 = 7;

macro_rules! stage {
    () => {
        match Stage::open() {
            Some(stage) => stage,
            None => return,
        }
    };
}

#[test]
fn what_is_moved_goes_and_comes_from_hand_to_hand() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    for round in 0..40u8 {
        let tag = a.call_bytes(&[round; 200]);
        let (request, parcel) = b.event();
        assert_eq!((request.kind, parcel.rights), (Message64::Request as u8, u32::from(Rights::ALL.0)));
        assert_eq!(b.read(&stage, request.body), [round; 200]);
        let body = handle(request.body.handle, request.body.generation);
        assert_eq!(b.link.memory.table.hold(body), Some(Hold::held(B)));
        b.reply(request.tag, request.body, Flags::MOVE);
        let (reply, _) = a.event();
        assert_eq!((reply.kind, reply.tag, reply.code), (Message64::Reply as u8, tag, 200));
        assert_eq!(a.read(&stage, reply.body), [round; 200]);
        a.outside.free(baton_abi::gate::Pair { handle: body.index, generation: body.generation }).unwrap();
    }
    // Its stash is as it was: no buffer was lost on the way.
    assert_eq!((a.stashed(0), b.stashed(0)), (14, 14));
    let counts = stage.plane.borrow().edge_counts(OVER).unwrap();
    assert_eq!((counts.calls, counts.replies, counts.bytes, counts.refusals), (40, 40, 16_000, 0));
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn what_is_lent_ends_with_the_call_and_so_does_what_was_lent_on() {
    let stage = stage!();
    let [a, b, c] = [(A, "b"), (B, "c"), (C, "")].map(|(who, calls)| stage.join(who, &[calls]));
    stage.pave(OVER, &a, &b, "b");
    stage.pave(8, &b, &c, "c");
    let own = a.buffer(&stage, b"lent");
    a.call(own, Flags::LEND, u32::from(Rights::FROZEN.0));
    let (request, _) = b.event();
    assert!(request.flags.has(Flags::LEND));
    assert_eq!(b.read(&stage, request.body), b"lent");
    let lent = handle(request.body.handle, request.body.generation);
    b.call(request.body, Flags::LEND, u32::from(Rights::READ.0));
    let (inner, parcel) = c.event();
    assert_eq!(parcel.rights, u32::from(Rights::READ.0), "rights only narrow");
    let lent_on = handle(inner.body.handle, inner.body.generation);
    // B answers before its own call is over: what it lent on ends with A's call.
    b.reply(request.tag, Extent::EMPTY, Flags::MOVE);
    a.event();
    for ended in [lent, lent_on] {
        let hold = stage.pool.borrow().capabilities().any(|found| found.handle == ended);
        assert!(!hold, "{ended:?} is still there");
        assert!(a.link.memory.table.hold(ended).is_some_and(|hold| hold.state == State::Revoked));
    }
    let again = c.link.check(lent_on, Rights::READ, baton_pool::capability::Range { offset: 0, len: 4 });
    assert!(again.is_err());
    c.reply(inner.tag, Extent::EMPTY, Flags::MOVE);
    b.event();
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn what_is_cancelled_is_told_and_ends_what_was_lent() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    let own = a.buffer(&stage, b"lent");
    let tag = a.call(own, Flags::LEND, u32::from(Rights::ALL.0));
    let (request, _) = b.event();
    a.outside.cancel_call(tag).unwrap();
    let lent = handle(request.body.handle, request.body.generation);
    assert_eq!(b.link.memory.table.hold(lent), Some(Hold::new(State::Revoked, B)));
    let (told, _) = b.event();
    assert_eq!((told.kind, told.tag), (Message64::Cancel as u8, request.tag));
    b.reply(request.tag, Extent::EMPTY, Flags::MOVE);
    assert!(a.has_no_event());
    assert_eq!(stage.plane.borrow().outstanding(OVER).unwrap(), 0);
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn what_is_shared_comes_back_with_its_last_reader() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    let own = a.buffer(&stage, b"shared");
    let root = handle(own.handle, own.generation);
    a.call(own, Flags::SHARE, 0);
    let (request, _) = b.event();
    assert!(request.flags.has(Flags::SHARE));
    assert_eq!(a.link.memory.table.in_hands(root, A), Ok(Rights::FROZEN));
    b.reply(request.tag, Extent::EMPTY, Flags::MOVE);
    a.event();
    a.outside.free(baton_abi::gate::Pair { handle: own.handle, generation: own.generation }).unwrap();
    assert_eq!(stage.take_frees(&a), 1);
    assert_eq!(stage.pool.borrow().usage().orphans, 1, "B still reads");
    assert_eq!(b.read(&stage, request.body), b"shared");
    let shared = baton_abi::gate::Pair { handle: request.body.handle, generation: request.body.generation };
    b.outside.free(shared).unwrap();
    assert_eq!(stage.take_frees(&b), 1);
    assert_eq!(stage.pool.borrow().usage().orphans, 0);
}

#[test]
fn what_was_shared_can_be_revoked() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    let own = a.buffer(&stage, b"shared");
    for _ in 0..3 {
        a.call(own, Flags::SHARE, 0);
        let (request, _) = b.event();
        b.reply(request.tag, request.body, Flags::SHARE);
        let (reply, _) = a.event();
        assert!(reply.flags.has(Flags::SHARE));
    }
    // Three of B's to read, and three that B derived of those for A.
    let pair = baton_abi::gate::Pair { handle: own.handle, generation: own.generation };
    assert_eq!(a.outside.revoke(pair), Ok(6));
    assert_eq!(a.outside.revoke(pair), Ok(0));
}

#[test]
fn what_the_kernel_refuses_fails_at_once_and_its_payload_is_used_again() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    stage.plane.borrow_mut().close_edge(OVER).unwrap();
    let own = a.buffer(&stage, b"lent");
    let stashed = a.stashed(0);
    for (is_lent, status, told) in [(false, 503, 502), (true, 403, 500), (false, 429, 429)] {
        let tag = match is_lent {
            true => a.call(own, Flags::LEND, u32::from(Rights::FROZEN.0)),
            false => a.call_bytes(b"refused"),
        };
        let refused = stage.answer_refused(&a, status);
        assert_eq!((refused.edge, refused.descriptor.kind), (OVER, Message64::Request as u8));
        let (reply, parcel) = a.event();
        assert_eq!((reply.tag, parcel.from), (tag, 0), "the node says so");
        assert_eq!(reply.code, told);
        let pair = baton_abi::gate::Pair { handle: reply.body.handle, generation: reply.body.generation };
        let _ = a.outside.free(pair);
        assert_eq!(a.stashed(0), stashed);
    }
    assert_eq!(a.link.outgoing.borrow().first().map(|road| road.outstanding), Some(0));
    assert!(b.has_no_event());
}

#[test]
fn an_answer_that_is_refused_goes_without_its_payload() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    let own = a.buffer(&stage, b"shared");
    a.call(own, Flags::SHARE, 0);
    let (request, _) = b.event();
    // Taken away before B shares it on.
    a.outside.revoke(baton_abi::gate::Pair { handle: own.handle, generation: own.generation }).unwrap();
    b.reply(request.tag, request.body, Flags::SHARE);
    stage.answer_refused(&b, 403);
    assert!(b.has_no_event());
    let (reply, _) = a.event();
    assert_eq!(reply.code, 500);
}

#[test]
fn what_a_dead_peer_sent_is_taken_and_given_up() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    let rings = stage.pave(OVER, &a, &b, "b");
    a.call_bytes(b"last words");
    map_head(&rings).unwrap().0.close();
    let before = b.stashed(0);
    assert!(b.has_no_event());
    assert_eq!(b.stashed(0), before + 1);
    // The caller hears that nobody is there, and what still comes over the edge is given up, too.
    let (reply, _) = a.event();
    assert_eq!(reply.code, 502);
    a.call_bytes(b"again");
    assert!(a.has_no_event(), "there is no road");
}

#[test]
fn a_packet_may_overtake_the_message_that_tells_of_its_edge() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    let rings = stage.pave_for(OVER, &a, &b);
    a.tell(&a.edge(OVER, B, true, "b"), &rings);
    b.tell(&b.edge(OVER, A, false, "a"), &rings);
    // The caller looks at its control socket as soon as the bell counts a message.
    a.link.bell().count_control();
    a.outside.turn();
    a.call_bytes(b"early");
    let (request, _) = b.event();
    assert_eq!(b.read(&stage, request.body), b"early");
}

#[test]
fn what_the_node_is_given_to_read_is_there_whatever_its_sender_does_next() {
    let stage = stage!();
    let a = stage.join(A, &["@network"]);
    let mut outlet = a.add_outlet(9, "@network");
    let mut look = || outlet.from_peer.pop().unwrap().unwrap();
    // Shared, and given up before the node looks.
    let own = a.buffer(&stage, b"for the node");
    let tag = a.call(own, Flags::SHARE, 0);
    a.outside.free(baton_abi::gate::Pair { handle: own.handle, generation: own.generation }).unwrap();
    a.outside.cancel_call(tag).unwrap();
    assert_eq!(stage.take_frees(&a), 1);
    let Descriptor { body, flags, .. } = look();
    assert_eq!(look().kind, Message64::Cancel as u8);
    assert!(flags.has(Flags::SHARE));
    let given = stage.pool.borrow_mut().receive_over(body, (9, A)).unwrap();
    assert!(stage.pool.borrow().still_has(given.handle));
    stage.pool.borrow_mut().release(given.handle);
    assert_eq!(stage.pool.borrow().usage().orphans, 0);
    // Lent, and cancelled: whatever the node copies then, it is told not to use.
    let own = a.buffer(&stage, b"for the node");
    for is_taken in [true, false] {
        let tag = a.call(own, Flags::LEND, u32::from(Rights::FROZEN.0));
        let Descriptor { body, .. } = look();
        let lent = handle(body.handle, body.generation);
        assert_eq!(a.link.memory.table.hold(lent), Some(Hold::new(State::ToNode, A)));
        if is_taken {
            stage.pool.borrow_mut().receive_over(body, (9, A)).unwrap();
            assert_eq!(a.link.memory.table.hold(lent), Some(Hold::held(NODE)));
        }
        a.outside.cancel_call(tag).unwrap();
        assert!(!stage.pool.borrow().still_has(lent));
        assert!(stage.pool.borrow_mut().receive_over(body, (9, A)).is_err());
        stage.pool.borrow_mut().release(lent);
        assert_eq!(look().kind, Message64::Cancel as u8);
    }
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn another_thread_ends_a_sleep() {
    let stage = stage!();
    let a = stage.join(A, &[]);
    let alarm = a.outside.alarm();
    assert!(alarm.bell().is_none());
    for _ in 0..20 {
        assert!(a.outside.announce_sleep());
        let other = std::thread::spawn(move || alarm.ring());
        // Without a time: if this returns, it was woken.
        a.link.nap(None);
        a.outside.awake();
        other.join().unwrap();
    }
    // Awake: nobody is told anything.
    alarm.ring();
    assert!(a.has_no_event());
    stage.plane.borrow().wake(a.seat.arena).unwrap();
    a.link.nap(None);
}

#[test]
fn more_packets_to_oneself_than_fit_are_read_on_the_way() {
    let stage = stage!();
    let a = stage.join(A, &[]);
    let packet = baton_abi::packet::Packet::new(Op::Wake, Descriptor::new(Message64::Request));
    (0..20_000).for_each(|_| a.link.tell(&packet));
    a.link.flush_packets();
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn what_a_turn_sends_goes_at_its_end_in_its_order() {
    let stage = stage!();
    let (a, b) = (stage.join(A, &["b"]), stage.join(B, &[]));
    stage.pave(OVER, &a, &b, "b");
    // More than go with one write.
    let tags: Vec<_> = (0..14u8).map(|round| a.post_bytes(&[round; 20])).collect();
    assert!(b.has_no_event());
    a.outside.turn();
    let requests: Vec<_> = tags.iter().map(|_| b.event().0).collect();
    for ((round, tag), request) in (0..14u8).zip(&tags).zip(&requests) {
        assert_eq!((request.tag, b.read(&stage, request.body)), (*tag, vec![round; 20]));
        b.post_reply(request.tag, request.body, Flags::MOVE);
    }
    assert!(a.has_no_event());
    b.outside.turn();
    for tag in tags {
        assert_eq!(a.event().0.tag, tag);
    }
    assert_eq!(stage.refusals(), 0);
}

#[test]
fn a_packet_that_cannot_be_sent_comes_back_as_one_that_was_refused() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (near, far) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let guard = super::guard::Guard::new(near);
    let packet = |op: Op, tag: u32| {
        let descriptor = Descriptor { tag, ..Descriptor::new(Message64::Request) };
        baton_abi::packet::Packet { edge: OVER, ..baton_abi::packet::Packet::new(op, descriptor) }
    };
    drop(far);
    guard.put_all(&[packet(Op::Send, 1), packet(Op::Wake, 2), packet(Op::Send, 3)]);
    let got: Vec<_> = guard
        .take_all()
        .iter()
        .map(|back| (back.op, back.rights, back.edge, back.descriptor.tag, back.descriptor.code))
        .collect();
    let back = |tag| (Op::Refused as u8, Message64::Request as u8, OVER, tag, 503);
    assert_eq!(got, [back(1), back(3)]);
}

#[test]
fn packets_come_in_whatever_pieces_the_socket_gives() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use zerocopy::IntoBytes;
    let (near, far) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let guard = super::guard::Guard::new(near);
    let packet = |tag: u32, op: Op| {
        let descriptor = Descriptor { tag, ..Descriptor::new(Message64::Request) };
        baton_abi::packet::Packet::new(op, descriptor)
    };
    // Wake-ups and what a replica told itself are no news.
    let sent: Vec<_> =
        (0..200).map(|tag| packet(tag, if tag % 3 == 0 { Op::Wake } else { Op::Send })).collect();
    let bytes: Vec<u8> = sent.iter().flat_map(|packet| packet.to_words().as_bytes().to_vec()).collect();
    let mut got = Vec::new();
    for piece in bytes.chunks(37) {
        rustix::io::write(&far, piece).unwrap();
        guard.look();
        got.extend(guard.take_all());
    }
    let news: Vec<_> = sent.into_iter().filter(|packet| packet.op == Op::Send as u8).collect();
    assert_eq!(got, news);
    // More than one read takes.
    rustix::io::write(&far, &bytes).unwrap();
    guard.wait(None);
    assert_eq!(guard.take_all(), news);
    guard.wait(Some(1_000_000));
    assert!(guard.is_quiet());
}
