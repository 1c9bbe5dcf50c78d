//! Measures calls and pulls beside plain sockets, interleaved, over loopback. Run by hand:
//!
//! ```text
//! cargo run --release -p baton-transfer --example measure [rounds]
//! ```
//! Yardsticks: a blocking ping-pong of 4 KiB between two threads; one thread that writes and one that reads, 128 KiB at a time, from and
//! to private memory that is hot, as iperf3 does. Rooms are hot as well, but for the line that says otherwise.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_pool::region::{self, Access, Mapping, View};
use baton_transfer::{
    Arrived, Call, Endpoint, Held, Incoming, Limits, Outcome, Owner, Payload, Peer, Place, Room, Security,
    Service, Settings, Terms,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

const MIB: u64 = 1 << 20;
const LARGE: u64 = 64 * MIB;
/// The yardstick's buffer.
const BUFFER: usize = 128 * 1024;
const SMALL: usize = 4096;

struct Echo;

impl Service for Echo {
    fn serve(&self, _: Rc<str>, call: Incoming) -> Pin<Box<dyn Future<Output = Outcome>>> {
        Box::pin(async move {
            let body = match call.body {
                Arrived::Inline(bytes) => Payload::Inline(bytes),
                _ => Payload::Empty,
            };
            Outcome { status: 200, body, ..Outcome::default() }
        })
    }
}

struct Memory {
    fd: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
}

impl Memory {
    fn new(bytes: u64) -> Memory {
        let fd = region::create("measure", bytes, false).expect("memory");
        let len = usize::try_from(bytes).expect("64 bits");
        let mapping = Arc::new(Mapping::new(&fd, len, Access::ReadWrite).expect("a mapping"));
        Memory { fd: Arc::new(fd), mapping }
    }

    fn touched(self) -> Memory {
        assert!(self.mapping.zero(0, self.mapping.len() as u64));
        self
    }

    fn held(&self, len: u64) -> Held {
        let view = View::new(&self.mapping, 0, len).expect("inside");
        let owner = Owner { app: "measure".to_owned(), buffer: 0, generation: 0 };
        Held::new(Place { view, pool: Arc::clone(&self.fd), at: 0 }, owner, Box::new(()))
    }

    fn room(&self, len: u64) -> Room {
        Room::new(region::Room::new(&self.mapping, 0, len).expect("inside"), Box::new(()))
    }
}

fn settings(node: &str, stripes: usize) -> Settings {
    let limits = Limits {
        stripes: Some(stripes),
        stripe_from: if stripes > 1 { MIB } else { u64::MAX },
        ..Limits::default()
    };
    Settings {
        cluster: "measure".to_owned(),
        node: node.to_owned(),
        incarnation: 1,
        listen: "127.0.0.1:0".parse().expect("an address"),
        security: security(node),
        allow_plaintext: false,
        limits,
    }
}

thread_local! {
    static AUTHORITY: std::cell::RefCell<Option<rcgen::CertifiedIssuer<'static, rcgen::KeyPair>>> =
        const { std::cell::RefCell::new(None) };
}

fn security(node: &str) -> Security {
    AUTHORITY.with_borrow(|authority| {
        let Some(authority) = authority else { return Security::Plain };
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![node.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, authority).expect("a certificate");
        let (cert, key) = (cert.pem().into_bytes(), key.serialize_pem().into_bytes());
        Security::Tls { cert, key, ca: authority.as_ref().pem().into_bytes() }
    })
}

fn peer(endpoint: &Endpoint, name: &str) -> Peer {
    Peer { name: name.to_owned(), address: endpoint.address(), incarnation: 1 }
}

/// Node `a` on a thread of its own, which holds what it is told to until nobody can tell it anything.
async fn far(near: &Endpoint, at_a: Settings) -> (Peer, mpsc::Sender<Order>) {
    let (tell, told) = oneshot::channel();
    let (orders, mut ordered) = mpsc::channel::<Order>(1);
    let b = peer(near, "b");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async move {
            let a = Endpoint::start(at_a, Rc::new(Echo)).await.expect("node a");
            a.set_peers(&[b]);
            tell.send(peer(&a, "a")).expect("listened to");
            while let Some(Order { held, reply }) = ordered.recv().await {
                let terms = Terms { expires: Duration::from_secs(60), retrievals: 1 };
                reply.send(a.hold("b", held, terms).expect("held")).expect("listened to");
            }
        });
    });
    (told.await.expect("node a"), orders)
}

struct Order {
    held: Held,
    reply: oneshot::Sender<baton_transfer::Reference>,
}

/// A thread that answers 4 KiB with 4 KiB.
fn ping_pong() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut far, _) = listener.accept().expect("a connection");
    far.set_nodelay(true).expect("a socket");
    near.set_nodelay(true).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; SMALL];
        while far.read_exact(&mut buffer).is_ok() && far.write_all(&buffer).is_ok() {}
    });
    near
}

/// A thread that writes as many bytes as it is told.
fn copying() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut far, _) = listener.accept().expect("a connection");
    std::thread::spawn(move || {
        // Told: how many bytes, and how much memory to take them from.
        let (mut wanted, mut apart) = ([0; 8], [0; 8]);
        let memory = vec![1; usize::try_from(LARGE).expect("64 bits")];
        while far.read_exact(&mut wanted).is_ok() && far.read_exact(&mut apart).is_ok() {
            let (len, apart) = (u64::from_le_bytes(wanted), u64::from_le_bytes(apart));
            let mut at = 0;
            while at < len {
                let now = (len - at).min(BUFFER as u64);
                let from = usize::try_from(at % apart).expect("64 bits");
                let Ok(()) = far.write_all(&memory[from..][..usize::try_from(now).expect("small")]) else {
                    return;
                };
                at += now;
            }
        }
    });
    near
}

/// Copies `len` bytes over a socket; from and to the same `memory.len()` bytes again and again.
fn copy(socket: &mut TcpStream, len: u64, memory: &mut [u8]) -> Duration {
    let start = Instant::now();
    let order = [len.to_le_bytes(), (memory.len() as u64).to_le_bytes()].concat();
    socket.write_all(&order).expect("a connection");
    let mut at = 0;
    while at < len {
        let to = usize::try_from(at % memory.len() as u64).expect("64 bits");
        let now = usize::try_from((len - at).min(BUFFER as u64)).expect("small").min(memory.len() - to);
        at += socket.read(&mut memory[to..to + now]).expect("a connection") as u64;
    }
    start.elapsed()
}

fn median(mut all: Vec<f64>) -> (f64, f64, f64) {
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[0], all[all.len() - 1])
}

fn show(what: &str, unit: &str, all: Vec<f64>) -> f64 {
    let (middle, least, most) = median(all);
    println!("{what:<44} {middle:>9.2} {unit:<5} ({least:.2} to {most:.2})");
    middle
}

struct Node {
    near: Endpoint,
    orders: mpsc::Sender<Order>,
}

impl Node {
    async fn start(stripes: usize) -> Node {
        let near = Endpoint::start(settings("b", stripes), Rc::new(Echo)).await.expect("node b");
        let (a, orders) = far(&near, settings("a", stripes)).await;
        near.set_peers(&[a]);
        while !near.peers()[0].up {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Node { near, orders }
    }

    async fn pull(&self, held: Held, room: Room) -> Duration {
        let (reply, reference) = oneshot::channel();
        self.orders.send(Order { held, reply }).await.unwrap_or_else(|_| panic!("node a is gone"));
        let reference = reference.await.expect("node a");
        let start = Instant::now();
        let room = self.near.pull("a", &reference, room, Instant::now() + Duration::from_secs(20)).await;
        room.expect("pulled");
        start.elapsed()
    }

    async fn call(&self, times: u32) -> Duration {
        let body = Bytes::from(vec![7; SMALL]);
        let start = Instant::now();
        for _ in 0..times {
            let call = Call {
                app: "measure".to_owned(),
                function: "echo".to_owned(),
                timeout: Duration::from_secs(5),
                body: Payload::Inline(body.clone()),
                ..Call::default()
            };
            self.near.call("a", call).await.expect("answered");
        }
        start.elapsed() / times
    }
}

fn rate(len: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "to be shown")]
    let bytes = len as f64;
    bytes / took.as_secs_f64() / 1e9
}

async fn measure(rounds: u32) {
    let (mut pings, mut copies) = (ping_pong(), copying());
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    let authority = {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::CertifiedIssuer::self_signed(params, key).expect("an authority")
    };
    AUTHORITY.set(Some(authority));
    let tls = Node::start(1).await;
    let (source, target) = (Memory::new(LARGE).touched(), Memory::new(LARGE).touched());
    let (mut hot, mut large) = (vec![1; BUFFER], vec![1; usize::try_from(LARGE).expect("64 bits")]);
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); 13];
    for round in 0..rounds + 1 {
        let times = 1000;
        let mut buffer = [0; SMALL];
        let start = Instant::now();
        for _ in 0..times {
            pings.write_all(&buffer).expect("a connection");
            pings.read_exact(&mut buffer).expect("a connection");
        }
        let us = |took: Duration| took.as_secs_f64() * 1e6;
        let mut row = vec![us(start.elapsed() / times), us(one.call(times).await), us(tls.call(times).await)];
        for len in [MIB, LARGE] {
            row.push(rate(len, copy(&mut copies, len, &mut hot)));
            for node in [&one, &two, &tls] {
                row.push(rate(len, node.pull(source.held(len), target.room(len)).await));
            }
        }
        row.push(rate(LARGE, copy(&mut copies, LARGE, &mut large)));
        let fresh = Memory::new(LARGE);
        row.push(rate(LARGE, one.pull(source.held(LARGE), fresh.room(LARGE)).await));
        // The first round warms sockets, windows and pages.
        if round > 0 {
            rows.iter_mut().zip(row).for_each(|(all, value)| all.push(value));
        }
    }
    let mut rows = rows.into_iter();
    let mut next = || rows.next().unwrap_or_default();
    let ping = show("ping-pong, 4 KiB", "us", next());
    let call = show("call, 4 KiB", "us", next());
    let call_tls = show("call with TLS, 4 KiB", "us", next());
    println!("  call / ping-pong {:.2}, with TLS {:.2}", call / ping, call_tls / ping);
    for size in ["1 MiB", "64 MiB"] {
        let copy = show(&format!("socket copy, {size}"), "GB/s", next());
        let lanes = [("one lane", next()), ("two lanes", next()), ("one lane, TLS", next())];
        for (lane, all) in lanes {
            let pull = show(&format!("pull, {size}, {lane}"), "GB/s", all);
            println!("  pull / copy {:.2}", pull / copy);
        }
    }
    show("socket copy, 64 MiB, memory to memory", "GB/s", next());
    show("pull, 64 MiB, one lane, fresh pages", "GB/s", next());
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, measure(rounds));
    // Threads of yardsticks and far nodes end with the process.
    std::process::exit(0);
}
