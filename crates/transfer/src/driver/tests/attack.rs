//! Peers that lie, flood and stall, over real connections. Each time: the liar loses its connection, others go on.

use std::io::{Read, Write};

use super::*;
use crate::limits::{CALLS_MAX, GREETING_MAX, LANES_PER_PEER_MAX, PULLS_PER_LANE_MAX};
use crate::wire::call::put_call;
use crate::wire::hello::{Hello, Lane, PROTOCOL};
use crate::wire::{HEADER, Header, Kind, bulk};
use crate::{Reference, Token};

/// A connection that says it is node `liar`.
struct Liar(std::net::TcpStream);

impl Liar {
    fn connect(to: &Endpoint) -> Liar {
        let socket = std::net::TcpStream::connect(to.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        socket.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        Liar(socket)
    }

    async fn greet(to: &Endpoint, lane: Lane) -> Liar {
        let mut liar = Liar::connect(to);
        let (cluster, node) = ("test".to_owned(), "liar".to_owned());
        let mut hello = Vec::new();
        Hello { protocol: PROTOCOL, lane, cluster, node, incarnation: 1, machine: 0 }.encode(&mut hello);
        liar.write(&hello).await;
        let header = liar.frame().await.expect("an answer");
        assert_eq!(header.0.kind, Kind::Hello);
        liar
    }

    /// Writes all of it, unless the connection is closed.
    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads `len` bytes; `None` if the connection is closed.
    async fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; len];
        let mut at = 0;
        while at < len {
            match self.0.read(&mut out[at..]) {
                Ok(0) => return None,
                Ok(taken) => at += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(_) => return None,
            }
        }
        Some(out)
    }

    async fn frame(&mut self) -> Option<(Header, Vec<u8>)> {
        let header = self.read(HEADER).await?;
        let (kind, len) = (header[4], u32::from_le_bytes(header[..4].try_into().unwrap()));
        let id = u64::from_le_bytes(header[8..].try_into().unwrap());
        let kind = [
            Kind::Hello,
            Kind::Refuse,
            Kind::Reply,
            Kind::Pong,
            Kind::GoAway,
            Kind::Credit,
            Kind::Piece,
            Kind::End,
        ]
        .into_iter()
        .find(|each| *each as u8 == kind)
        .unwrap();
        let body = self.read(len as usize).await?;
        Some((Header { kind, len, id }, body))
    }

    /// The other side closes.
    async fn closed(&mut self) {
        while self.read(1).await.is_some() {}
    }
}

/// `a` knows an honest `b`, and the liar.
async fn attacked() -> (Endpoint, Endpoint) {
    let mut at_a = settings("a");
    at_a.limits.greet_within = Duration::from_millis(300);
    let a = Endpoint::start(at_a, echo()).await.unwrap();
    let b = Endpoint::start(settings("b"), echo()).await.unwrap();
    // Nobody listens there.
    let liar = Peer { name: "liar".to_owned(), address: "127.0.0.1:1".parse().unwrap(), incarnation: 1 };
    a.set_peers(&[peer(&b, "b"), liar]);
    b.set_peers(&[peer(&a, "a")]);
    until("b is up", || a.peers()[0].up && b.peers()[0].up).await;
    (a, b)
}

/// What honest nodes do still works.
async fn unaffected(a: &Endpoint, b: &Endpoint) {
    b.call("a", call(Payload::Inline(Bytes::from_static(b"still there")))).await.unwrap();
    a.call("b", call(Payload::Empty)).await.unwrap();
    let (memory, far) = (Memory::new(1 << 20), Memory::new(1 << 20));
    memory.fill(0, 1 << 20);
    let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
    let reference = a.hold("b", memory.held(0, 1 << 20), terms).unwrap();
    b.pull("a", &reference, far.room(0, 1 << 20), deadline(10)).await.unwrap();
    assert!(memory.same(0, &far, 0, 1 << 20));
}

#[test]
fn lengths_that_lie_close_the_connection() {
    run(async {
        let (a, b) = attacked().await;
        let liars = [
            (Lane::Call, Kind::Call, u32::MAX),
            (Lane::Call, Kind::Cancel, 1),
            (Lane::Bulk, Kind::Pull, 65),
            (Lane::Bulk, Kind::Ack, 1 << 30),
            (Lane::Call, Kind::Piece, 1),
            (Lane::Bulk, Kind::Call, 1),
            (Lane::Bulk, Kind::Hello, 1),
        ];
        for (count, (lane, kind, len)) in liars.into_iter().enumerate() {
            let mut liar = Liar::greet(&a, lane).await;
            liar.write(&Header { kind, len, id: 1 }.bytes()).await;
            liar.closed().await;
            until("it is counted", || a.counts().of(Counted::Violations) > count as u64).await;
        }
        unaffected(&a, &b).await;
    });
}

#[test]
fn garbage_closes_the_connection_before_and_after_the_hello() {
    run(async {
        let (a, b) = attacked().await;
        let garbage: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for lane in [Lane::Call, Lane::Bulk] {
            let mut liar = Liar::greet(&a, lane).await;
            liar.write(&garbage).await;
            liar.closed().await;
            // A whole frame of the right length, whose fields say nothing.
            let mut liar = Liar::greet(&a, lane).await;
            let kind = if lane == Lane::Call { Kind::Call } else { Kind::Ack };
            liar.write(&Header { kind, len: 32, id: 1 }.bytes()).await;
            liar.write(&[0xFF; 32]).await;
            if lane == Lane::Call {
                liar.closed().await;
            }
        }
        let mut liar = Liar::connect(&a);
        liar.write(&garbage).await;
        liar.closed().await;
        unaffected(&a, &b).await;
    });
}

#[test]
fn connections_without_a_hello_are_turned_away() {
    run(async {
        let (a, b) = attacked().await;
        let mut half = Liar::connect(&a);
        half.write(&[1, 2, 3]).await;
        let mut silent: Vec<Liar> = (0..GREETING_MAX * 3).map(|_| Liar::connect(&a)).collect();
        half.closed().await;
        for liar in &mut silent {
            liar.closed().await;
        }
        assert!(a.counts().of(Counted::TurnedAway) >= GREETING_MAX as u64 * 3);
        unaffected(&a, &b).await;
    });
}

#[test]
fn a_half_frame_costs_its_sender_the_connection_in_time() {
    run(async {
        let (a, b) = attacked().await;
        let mut liar = Liar::greet(&a, Lane::Call).await;
        liar.write(&Header { kind: Kind::Call, len: 1000, id: 1 }.bytes()).await;
        let start = std::time::Instant::now();
        liar.closed().await;
        assert!(start.elapsed() < Duration::from_secs(5));
        unaffected(&a, &b).await;
    });
}

#[test]
fn ten_thousand_calls_are_not_served_at_a_time() {
    run(async {
        let began = Rc::new(Cell::new(0));
        let there = Rc::clone(&began);
        let service = By(move |from: Rc<str>, _| {
            let stays = &*from == "liar";
            if stays {
                there.set(there.get() + 1);
            }
            async move {
                if stays {
                    std::future::pending::<()>().await;
                }
                Outcome { status: 200, ..Outcome::default() }
            }
        });
        let a = Endpoint::start(settings("a"), Rc::new(service)).await.unwrap();
        let b = Endpoint::start(settings("b"), echo()).await.unwrap();
        let liar = Peer { name: "liar".to_owned(), address: "127.0.0.1:1".parse().unwrap(), incarnation: 1 };
        a.set_peers(&[peer(&b, "b"), liar]);
        b.set_peers(&[peer(&a, "a")]);
        until("b is up", || a.peers()[0].up && b.peers()[0].up).await;
        let mut liar = Liar::greet(&a, Lane::Call).await;
        let mut calls = Vec::new();
        let body = Arrived::Inline(Bytes::from(vec![1; 1000]));
        for id in 1..=10_000 {
            let (app, function) = ("shop".to_owned(), "cart".to_owned());
            put_call(&mut calls, id, &Incoming { app, function, body: body.clone(), ..Incoming::default() });
        }
        liar.write(&calls).await;
        liar.closed().await;
        assert_eq!(began.get(), CALLS_MAX);
        unaffected(&a, &b).await;
    });
}

#[test]
fn ten_thousand_pulls_are_refused_and_cost_nothing() {
    run(async {
        let (a, b) = attacked().await;
        let memory = Memory::new(1 << 20);
        let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
        let mine = a.hold("liar", memory.held(0, 1 << 20), terms).unwrap();
        let mut liar = Liar::greet(&a, Lane::Bulk).await;
        let mut pulls = Vec::new();
        for id in 1..=10_000 {
            // Without a window: nothing is sent, so that the pulls stay.
            let pull = bulk::Pull { token: mine.token, retrieval: 1, offset: 0, len: 1 << 20, window: 0 };
            bulk::put_pull(&mut pulls, id, &pull);
        }
        let writing = liar.0.try_clone().unwrap();
        let writer = tokio::task::spawn_local(async move { Liar(writing).write(&pulls).await });
        for _ in 0..10_000 - PULLS_PER_LANE_MAX {
            let (header, body) = liar.frame().await.expect("an end");
            assert_eq!((header.kind, body[0]), (Kind::End, Refusal::Crowded as u8));
        }
        assert!(writer.await.unwrap());
        assert_eq!(a.counts().refused(Refusal::Crowded), 10_000 - PULLS_PER_LANE_MAX as u64);
        unaffected(&a, &b).await;
    });
}

#[test]
fn tokens_of_others_guesses_and_widened_ranges_are_refused() {
    run(async {
        let (a, b) = attacked().await;
        let memory = Memory::new(1 << 20);
        let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
        let others = a.hold("b", memory.held(0, 4096), terms).unwrap();
        let mine = a.hold("liar", memory.held(0, 4096), terms).unwrap();
        let mut forged = mine.token.to_bytes();
        forged[31] ^= 1;
        let mut liar = Liar::greet(&a, Lane::Bulk).await;
        let whole = |token| bulk::Pull { token, retrieval: 9, offset: 0, len: 4096, window: 4096 };
        let cases = [
            (whole(others.token), Refusal::Foreign),
            (whole(Token::from_bytes([7; 32])), Refusal::Unknown),
            (whole(Token::from_bytes(forged)), Refusal::Forged),
            (bulk::Pull { len: 4097, ..whole(mine.token) }, Refusal::Range),
            (bulk::Pull { offset: u64::MAX, ..whole(mine.token) }, Refusal::Range),
            (bulk::Pull { offset: 1, ..whole(mine.token) }, Refusal::Range),
        ];
        for (id, (pull, why)) in (1..).zip(cases) {
            let mut frame = Vec::new();
            bulk::put_pull(&mut frame, id, &pull);
            liar.write(&frame).await;
            let (header, body) = liar.frame().await.unwrap();
            assert_eq!((header.kind, header.id, body), (Kind::End, id, vec![why as u8]));
            assert_eq!(a.counts().refused(why), if why == Refusal::Range && id > 4 { id - 3 } else { 1 });
        }
        // An acknowledgement of what is another's changes nothing.
        let mut frame = Vec::new();
        bulk::put_ack(&mut frame, 1, &others.token);
        liar.write(&frame).await;
        until("it is counted", || a.counts().refused(Refusal::Foreign) == 2).await;
        let far = Memory::new(4096);
        b.pull("a", &others, far.room(0, 4096), deadline(10)).await.unwrap();
        unaffected(&a, &b).await;
    });
}

#[test]
fn who_does_not_read_costs_a_window_and_then_its_connection() {
    run(async {
        let (a, b) = attacked().await;
        let memory = Memory::new(64 << 20);
        let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
        let mine = a.hold("liar", memory.held(0, 64 << 20), terms).unwrap();
        let mut liar = Liar::greet(&a, Lane::Bulk).await;
        let mut frame = Vec::new();
        let pull = bulk::Pull { token: mine.token, retrieval: 1, offset: 0, len: 64 << 20, window: u64::MAX };
        bulk::put_pull(&mut frame, 1, &pull);
        liar.write(&frame).await;
        unaffected(&a, &b).await;
        // Its buffer is full, and stays so.
        let sent = a.counts().of(Counted::BytesSent);
        assert!(sent < 32 << 20, "{sent}");
        a.revoke("shop", None);
        until("the memory is free though it was not read", || memory.used() == 0).await;
        assert!(a.counts().of(Counted::Resets) > 0);
        unaffected(&a, &b).await;
    });
}

#[test]
fn acknowledging_bytes_that_were_not_sent_closes_the_connection() {
    run(async {
        let (a, b) = attacked().await;
        let memory = Memory::new(32 << 20);
        let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
        let mine = a.hold("liar", memory.held(0, 32 << 20), terms).unwrap();
        let mut liar = Liar::greet(&a, Lane::Bulk).await;
        let mut frames = Vec::new();
        let pull = bulk::Pull { token: mine.token, retrieval: 1, offset: 0, len: 32 << 20, window: u64::MAX };
        bulk::put_pull(&mut frames, 1, &pull);
        bulk::put_ack(&mut frames, 1, &mine.token);
        liar.write(&frames).await;
        liar.closed().await;
        until("it is counted", || a.counts().of(Counted::Violations) > 0).await;
        unaffected(&a, &b).await;
    });
}

#[test]
fn a_peer_has_so_many_lanes_and_no_more() {
    run(async {
        let (a, b) = attacked().await;
        let mut lanes = Vec::new();
        for _ in 0..LANES_PER_PEER_MAX {
            lanes.push(Liar::greet(&a, Lane::Bulk).await);
        }
        let mut more = Liar::greet(&a, Lane::Bulk).await;
        more.closed().await;
        unaffected(&a, &b).await;
        lanes.clear();
    });
}

#[test]
fn a_holder_that_sends_what_was_not_asked_for_is_hung_up() {
    run(async {
        let a = Endpoint::start(settings("a"), echo()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let liar = Peer { name: "liar".to_owned(), address: listener.local_addr().unwrap(), incarnation: 1 };
        a.set_peers(&[liar]);
        let lying = tokio::task::spawn_local(async move {
            loop {
                let Ok((socket, _)) = listener.accept() else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let mut liar = Liar(socket);
                let Some((_, body)) = liar.frame().await else { continue };
                let theirs = Hello::decode(&body).unwrap();
                let mut out = Vec::new();
                let (cluster, node) = ("test".to_owned(), "liar".to_owned());
                Hello { cluster, node, incarnation: 1, ..theirs.clone() }.encode(&mut out);
                if theirs.lane == Lane::Bulk {
                    // More than the whole pull has.
                    out.extend(Header { kind: Kind::Piece, len: 5000, id: 1 }.bytes());
                    out.extend([9; 5000]);
                }
                liar.write(&out).await;
                tokio::task::spawn_local(async move { liar.closed().await });
            }
        });
        let far = Memory::new(4096);
        let reference = Reference { token: Token::from_bytes([1; 32]), len: 4096 };
        let pulled = a.pull("liar", &reference, far.room(0, 4096), deadline(1)).await;
        assert_eq!(pulled.unwrap_err(), PullError::Late);
        assert!(a.counts().of(Counted::Violations) > 0);
        assert_eq!(far.used(), 0);
        lying.abort();
    });
}
