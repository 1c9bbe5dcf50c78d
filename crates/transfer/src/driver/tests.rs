//! Real endpoints on loopback addresses.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use baton_pool::region::{self, Access, Mapping, View};
use bytes::Bytes;
use tokio::task::LocalSet;

use super::*;
use crate::counts::Counted;
use crate::payload::{Answer, AnswerKind, Arrived, Call, Held, Owner, Payload, Place, Room};
use crate::{CallError, PullError, Refusal, Terms};

mod attack;
mod calls;
mod identity;
mod pulls;

#[test]
fn a_peer_is_near_under_the_same_kernel_or_on_loopback() {
    let (loopback, other) = ("127.0.0.1:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap());
    let (here, there) = (super::endpoint::this_machine(), 1);
    assert_ne!(here, 0, "the kernel has a number");
    assert_eq!(here, super::endpoint::this_machine());
    let near = [(loopback, there, here), (loopback, 0, 0), (other, here, here)];
    assert!(near.into_iter().all(|(address, theirs, ours)| runs_here(address, theirs, ours)));
    let far = [(other, there, here), (other, 0, here), (other, 0, 0)];
    assert!(!far.into_iter().any(|(address, theirs, ours)| runs_here(address, theirs, ours)));
}

/// Memory that payloads come from and go to.
pub(super) struct Memory {
    fd: Arc<std::os::fd::OwnedFd>,
    mapping: Arc<Mapping>,
    used: Arc<AtomicUsize>,
}

struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Memory {
        let fd = region::create("test", bytes as u64, false).unwrap();
        let mapping = Arc::new(Mapping::new(&fd, bytes, Access::ReadWrite).unwrap());
        Memory { fd: Arc::new(fd), mapping, used: Arc::default() }
    }

    fn keep(&self) -> Box<dyn Send> {
        self.used.fetch_add(1, Ordering::SeqCst);
        Box::new(InUse(Arc::clone(&self.used)))
    }

    /// Things in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn held(&self, at: u64, len: u64) -> Held {
        let view = View::new(&self.mapping, at, len).unwrap();
        let owner = Owner { app: "shop".to_owned(), buffer: 1, generation: 1 };
        Held::new(Place { view, pool: Arc::clone(&self.fd), at }, owner, self.keep())
    }

    pub(super) fn room(&self, at: u64, len: u64) -> Room {
        Room::new(region::Room::new(&self.mapping, at, len).unwrap(), self.keep())
    }

    pub(super) fn fill(&self, at: u64, len: u64) {
        let bytes: Vec<u8> = (0..len).map(|i| pattern(at + i)).collect();
        assert!(self.mapping.write(at, &bytes));
    }

    pub(super) fn same(&self, at: u64, other: &Memory, other_at: u64, len: u64) -> bool {
        let len = usize::try_from(len).unwrap();
        let (mut left, mut right) = (vec![0; len], vec![1; len]);
        assert!(self.mapping.read(at, &mut left) && other.mapping.read(other_at, &mut right));
        left == right
    }
}

fn pattern(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]
}

/// A service made of a function.
pub(super) struct By<F>(pub(super) F);

impl<F, T> Service for By<F>
where
    F: Fn(Rc<str>, Incoming) -> T,
    T: Future<Output = Outcome> + 'static,
{
    fn serve(&self, from: Rc<str>, call: Incoming) -> Pin<Box<dyn Future<Output = Outcome>>> {
        Box::pin((self.0)(from, call))
    }
}

pub(super) fn echo() -> Rc<dyn Service> {
    Rc::new(By(|_, call: Incoming| async move {
        let body = match call.body {
            Arrived::Inline(bytes) => Payload::Inline(bytes),
            _ => Payload::Empty,
        };
        Outcome { status: 200, kind: AnswerKind::Reply, load: 7, head: call.head, body }
    }))
}

pub(super) fn settings(node: &str) -> Settings {
    Settings {
        cluster: "test".to_owned(),
        node: node.to_owned(),
        incarnation: 1,
        listen: "127.0.0.1:0".parse().unwrap(),
        security: Security::Plain,
        allow_plaintext: false,
        limits: Limits::default(),
    }
}

pub(super) fn peer(endpoint: &Endpoint, name: &str) -> Peer {
    Peer { name: name.to_owned(), address: endpoint.address(), incarnation: 1 }
}

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test hangs")
    })
}

pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two nodes, `a` and `b`, that know each other.
pub(super) async fn pair_with(
    (a, b): (Settings, Settings),
    (at_a, at_b): (Rc<dyn Service>, Rc<dyn Service>),
) -> (Endpoint, Endpoint) {
    let a = Endpoint::start(a, at_a).await.unwrap();
    let b = Endpoint::start(b, at_b).await.unwrap();
    a.set_peers(&[peer(&b, "b")]);
    b.set_peers(&[peer(&a, "a")]);
    until("both are up", || a.peers()[0].up && b.peers()[0].up).await;
    (a, b)
}

pub(super) async fn pair(service: Rc<dyn Service>) -> (Endpoint, Endpoint) {
    pair_with((settings("a"), settings("b")), (echo(), service)).await
}

pub(super) fn call(body: Payload) -> Call {
    Call {
        app: "shop".to_owned(),
        function: "cart".to_owned(),
        timeout: Duration::from_secs(5),
        head: b"head".to_vec(),
        body,
        ..Call::default()
    }
}

pub(super) fn deadline(seconds: u64) -> std::time::Instant {
    std::time::Instant::now() + Duration::from_secs(seconds)
}

pub(super) type Slot<T> = Rc<RefCell<Option<T>>>;
pub(super) type Flag = Rc<Cell<bool>>;
