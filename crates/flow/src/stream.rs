//! Streams: answers and requests in parts, between the gateway and one request of a replica.
//!
//! ```text
//!  replica ──PART──▶ outlet ──▶ outward ≤ 8 ──▶ Parts ──▶ gateway       the call is answered once there is room
//!          ◀──NEXT── outlet ◀── inward  ≤ 8 ◀── Feed  ◀── gateway       the body is read once there is room
//! ```
//!
//! A stream is the call of its request with more to it: it lives until that is answered, fails, or is given up, and every part
//! moves its deadline. Parts are buffers of the pool that the node owns while they are here. Whatever ends a stream gives them
//! back, and answers those who wait at either side.

mod ends;
pub(crate) mod serve;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use baton_abi::stream::{OFFER_ANSWER, OFFER_BODY, OFFER_SOCKET, PARTS_AHEAD};
use tokio::sync::Notify;

pub use self::ends::{Feed, Over, Part, Parts};
use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::{Account, Body, Reply, Waiting};
use crate::landing::Landing;
use crate::replica::Replica;

/// What a client of the gateway could do with a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// It sends a body, which can be had in parts.
    pub body: bool,
    /// It asks for a WebSocket.
    pub socket: bool,
}

/// What a part is. Where there is no WebSocket all are binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Bytes, or a binary message.
    Binary,
    /// A text message.
    Text,
    /// The end of a WebSocket: a close code, big end first, and a reason; or nothing.
    Close,
}

/// One part on its way in.
struct Arrived {
    kind: PartKind,
    /// None where it is empty.
    landing: Option<Landing>,
}

/// How the client's side ended.
enum End {
    /// Well; on a WebSocket with what its close said.
    Complete(Vec<u8>),
    /// The client left in the middle.
    Broken,
}

/// The head of an answer that began.
struct Begun {
    status: u16,
    head: Vec<u8>,
}

/// The call that a stream belongs to.
struct Call {
    replica: Rc<Replica>,
    tag: u32,
    invocation: u64,
}

/// One stream.
pub(crate) struct Stream {
    app: Rc<App>,
    offer: Offer,
    first_byte: Duration,
    idle: Duration,
    /// When it ends at the latest.
    until: Option<Instant>,
    call: RefCell<Option<Call>>,
    begun: RefCell<Option<Begun>>,
    has_begun: Cell<bool>,
    outward: RefCell<VecDeque<Part>>,
    inward: RefCell<VecDeque<Arrived>>,
    end: RefCell<Option<End>>,
    is_over: Cell<bool>,
    /// A function waits for the next part.
    is_asked: Cell<bool>,
    /// Whoever waits for what the function does.
    reader: RefCell<Option<Waker>>,
    /// Whoever waits for room in `inward`.
    writer: RefCell<Option<Waker>>,
    /// There is room in `outward`, or the stream is over.
    room: Notify,
    /// There is something in `inward`, or nothing more will be.
    arrived: Notify,
    /// The stream is over.
    ended: Notify,
}

/// The streams of an app, by the holder whose request each belongs to and that request's invocation.
#[derive(Default)]
pub(crate) struct Streams {
    all: RefCell<Vec<Rc<Stream>>>,
}

impl Streams {
    fn find(&self, holder: u16, invocation: u64) -> Option<Rc<Stream>> {
        self.all.borrow().iter().find(|stream| stream.is_of(holder, invocation)).cloned()
    }
}

impl Offer {
    /// As the function's head says it.
    pub(crate) fn bits(self) -> u8 {
        let bit = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        OFFER_ANSWER | bit(self.body, OFFER_BODY) | bit(self.socket, OFFER_SOCKET)
    }
}

impl Stream {
    /// For a request of `function`, whose manifest must allow it.
    pub(crate) fn open(app: &Rc<App>, function: usize, offer: Offer) -> Option<Open> {
        let spec = &app.functions.get(function)?.spec;
        let total = spec.timeouts.total.map(|total| total.duration());
        Some(Open(Rc::new(Stream {
            app: Rc::clone(app),
            offer,
            first_byte: spec.first_byte().duration(),
            idle: spec.stream_idle().duration(),
            until: total.map(|total| Instant::now() + total),
            call: RefCell::default(),
            begun: RefCell::default(),
            has_begun: Cell::new(false),
            outward: RefCell::default(),
            inward: RefCell::default(),
            end: RefCell::new((!offer.body && !offer.socket).then(|| End::Complete(Vec::new()))),
            is_over: Cell::new(false),
            is_asked: Cell::new(false),
            reader: RefCell::default(),
            writer: RefCell::default(),
            room: Notify::new(),
            arrived: Notify::new(),
            ended: Notify::new(),
        })))
    }

    /// How long the answer's head may take to come.
    pub(crate) fn first_byte(&self) -> Duration {
        self.first_byte
    }

    /// The time that is left of its whole, if that is bounded.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether the client's side goes through a [`Feed`].
    pub(crate) fn is_fed(&self) -> bool {
        self.offer.body || self.offer.socket
    }

    /// Its call is about to be made.
    pub(crate) fn attach(self: &Rc<Self>, replica: &Rc<Replica>, tag: u32, invocation: u64) {
        *self.call.borrow_mut() = Some(Call { replica: Rc::clone(replica), tag, invocation });
        self.app.streams.all.borrow_mut().push(Rc::clone(self));
        self.move_deadline();
    }

    fn is_of(&self, holder: u16, invocation: u64) -> bool {
        let call = self.call.borrow();
        call.as_ref().is_some_and(|call| call.replica.holder == holder && call.invocation == invocation)
    }

    /// Something moved.
    fn move_deadline(&self) {
        let call = self.call.borrow();
        let Some(Call { replica, tag, .. }) = &*call else { return };
        // The answer's time begins with the end of the request.
        let still_asked = self.end.borrow().is_none();
        let wait = if self.has_begun.get() || (still_asked && !self.offer.socket) {
            self.idle
        } else {
            self.first_byte
        };
        let until = Instant::now() + wait;
        let until = self.until.map_or(until, |end| end.min(until));
        replica.slots.borrow_mut().extend(*tag, until);
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// The end, whoever brought it about.
    fn close(self: &Rc<Self>) {
        self.is_over.set(true);
        self.outward.take();
        self.inward.take();
        self.call.take();
        self.app.streams.all.borrow_mut().retain(|stream| !Rc::ptr_eq(stream, self));
        self.room.notify_waiters();
        self.arrived.notify_waiters();
        self.ended.notify_waiters();
        self.wake_writer();
    }

    fn has_room(&self) -> bool {
        self.outward.borrow().len() < PARTS_AHEAD
    }
}

/// A stream that is closed when this is dropped, whatever came of its request.
pub(crate) struct Open(Rc<Stream>);

impl Open {
    /// Waits for the answer: its head, or all of it.
    pub(crate) async fn answered(
        self,
        mut waiting: Waiting,
        (invocation, function): (u64, usize),
        account: &mut Option<Account>,
    ) -> Result<Reply, InvokeError> {
        let stream = &self.0;
        let raw = poll_fn(|cx| {
            *stream.reader.borrow_mut() = Some(cx.waker().clone());
            if let Some(begun) = stream.begun.take() {
                return Poll::Ready(Ok(Err(begun)));
            }
            Pin::new(&mut waiting).poll(cx).map_ok(Ok)
        });
        match raw.await? {
            Ok(raw) => Reply::new(Rc::clone(&stream.app), &raw, (invocation, function)),
            Err(Begun { status, head }) => {
                let body = Body::landed(&stream.app, None);
                let parts = Parts::new(self, waiting, account.take().map(|account| (account, status)));
                Ok(Reply::begun((status, invocation), head, body, parts))
            }
        }
    }
}

impl Deref for Open {
    type Target = Rc<Stream>;

    fn deref(&self) -> &Rc<Stream> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}
