//! What is known of one connection, and the sweep that looks after the time-outs of all of them.
//!
//! ```text
//!            first byte          head complete           body complete          answer handed over
//!   Fresh ──────────────▶ Head ─────────────────▶ Body ─────────────────▶ Answer ───────▶ Idle ──first byte──▶ Head
//!     └ header_timeout     └ header_timeout        └ upload's own timer     └ backend's     └ idle_timeout
//! ```
//!
//! HTTP/2 connections are `Idle` from the start; what is in flight on them keeps them alive. Time is counted in
//! ticks of the sweep: a request reads no clock and arms no timer.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::counters::Counters;
use crate::limits::Limits;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No byte has come.
    Fresh,
    /// A head has begun.
    Head,
    /// A request's body is being read.
    Body,
    /// A request waits for its answer.
    Answer,
    /// Between two requests.
    Idle,
}

/// What the sweep or a drain wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Finish what is in flight, then close.
    Finish,
    /// The head took too long: say so, then close.
    HeadTimeout,
    /// Close now.
    Cut,
}

/// One connection, as its socket, its requests and the sweep share it.
#[derive(Debug)]
pub(crate) struct Conn {
    desk: Rc<Desk>,
    stage: Cell<Stage>,
    http2: Cell<bool>,
    /// Bytes of the next request came before the answer to this one was out.
    early: Cell<bool>,
    in_flight: Cell<u32>,
    /// The tick at which the stage began.
    since: Cell<u32>,
    /// The tick at which the socket took no more.
    blocked: Cell<Option<u32>>,
    /// Answers that the client has not taken whole, and the tick at which it last took something (HTTP/2 only).
    held: Cell<u32>,
    moved: Cell<u32>,
    /// The client has shut its side, which is kept from hyper until the answer is out.
    shut: Cell<bool>,
    finishing: Cell<bool>,
    /// An answer is under way that ends with the client's interest, not with its own length.
    live: Cell<bool>,
    /// Counts requests.
    serial: Cell<u32>,
    /// Bytes that nobody will read are on their way.
    unread: Cell<bool>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
    place: Cell<usize>,
    /// Who the client is, by its certificate.
    identity: OnceCell<Box<str>>,
}

/// All connections of a gateway.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) draining: Cell<bool>,
    now: Cell<u32>,
    open: RefCell<Vec<Rc<Conn>>>,
    pub(crate) emptied: tokio::sync::Notify,
    ticks: Ticks,
}

/// The time-outs in ticks.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    header: u32,
    idle: u32,
    write: u32,
}

/// An open connection's place at the desk; dropping it gives the place up.
pub(crate) struct Seat(Rc<Conn>);

/// A request in flight; dropping it ends it.
pub(crate) struct Flight(Rc<Conn>);

/// An answer that its client has yet to take.
pub(crate) struct Held(Rc<Conn>);

/// A body that is being read while its request is served.
pub(crate) struct Reading {
    conn: Rc<Conn>,
    serial: u32,
}

impl Desk {
    pub(crate) fn new(limits: Limits) -> Rc<Self> {
        let tick = limits.tick();
        let ticks = |time: std::time::Duration| {
            u32::try_from(time.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX)
        };
        Rc::new(Self {
            limits,
            counters: Counters::default(),
            draining: Cell::new(false),
            now: Cell::new(0),
            open: RefCell::new(Vec::new()),
            emptied: tokio::sync::Notify::new(),
            ticks: Ticks {
                header: ticks(limits.header_timeout),
                idle: ticks(limits.idle_timeout),
                write: ticks(limits.write_timeout),
            },
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    pub(crate) fn seat(self: &Rc<Self>) -> Seat {
        let mut open = self.open.borrow_mut();
        let conn = Rc::new(Conn::new(self.clone(), open.len()));
        open.push(conn.clone());
        self.counters.opened();
        Seat(conn)
    }

    /// One tick has passed: looks at every connection once.
    pub(crate) fn sweep(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        for conn in self.open.borrow().iter() {
            if let Some(order) = conn.overdue() {
                conn.give(order);
            }
        }
    }

    /// Gives every connection an order, or only those of HTTP/2.
    pub(crate) fn order_all(&self, order: Order, http2_only: bool) {
        for conn in self.open.borrow().iter().filter(|conn| !http2_only || conn.http2.get()) {
            conn.give(order);
        }
    }
}

impl Seat {
    pub(crate) fn conn(&self) -> &Rc<Conn> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let desk = &self.0.desk;
        let mut open = desk.open.borrow_mut();
        let place = self.0.place.get();
        open.swap_remove(place);
        if let Some(moved) = open.get(place) {
            moved.place.set(place);
        }
        desk.counters.closed();
        if open.is_empty() {
            desk.emptied.notify_waiters();
        }
    }
}

impl Conn {
    fn new(desk: Rc<Desk>, place: usize) -> Self {
        Self {
            since: Cell::new(desk.now.get()),
            desk,
            stage: Cell::new(Stage::Fresh),
            http2: Cell::new(false),
            early: Cell::new(false),
            in_flight: Cell::new(0),
            blocked: Cell::new(None),
            held: Cell::new(0),
            moved: Cell::new(0),
            shut: Cell::new(false),
            finishing: Cell::new(false),
            live: Cell::new(false),
            serial: Cell::new(0),
            unread: Cell::new(false),
            order: Cell::new(None),
            waker: RefCell::new(None),
            place: Cell::new(place),
            identity: OnceCell::new(),
        }
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    pub(crate) fn set_http2(&self) {
        self.http2.set(true);
        self.enter_stage(Stage::Idle);
    }

    /// The client has shown a certificate, and it was verified.
    pub(crate) fn identify(&self, identity: Box<str>) {
        // There is one handshake a connection.
        let _ = self.identity.set(identity);
    }

    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.get().map(|identity| &**identity)
    }

    /// Whether any byte of a head has come: a client that said nothing is told nothing.
    pub(crate) fn has_spoken(&self) -> bool {
        self.stage.get() != Stage::Fresh
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.get().is_some()
    }

    /// The client still sends what nobody will read.
    pub(crate) fn leave_unread(&self) {
        self.unread.set(true);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.get()
    }

    /// The connection's task is about to sleep, or to look for orders.
    pub(crate) fn park(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    fn give(&self, order: Order) {
        if order == Order::Finish && self.finishing.replace(true) {
            return;
        }
        self.order.set(Some(order));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn enter_stage(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(self.desk.now.get());
    }

    fn overdue(&self) -> Option<Order> {
        let ticks = self.desk.ticks;
        let now = self.desk.now.get();
        // One tick more than the time: the tick under way when the stage began may have been nearly over.
        let past = |since: u32, limit: u32| now.wrapping_sub(since) > limit;
        let stalled = self.held.get() > 0 && past(self.moved.get(), ticks.write);
        if stalled || self.blocked.get().is_some_and(|since| past(since, ticks.write)) {
            return Some(Order::Cut);
        }
        let since = self.since.get();
        match self.stage.get() {
            Stage::Fresh | Stage::Head => past(since, ticks.header).then_some(Order::HeadTimeout),
            // Asked to finish, with nothing in flight, and still there: the peer does not close its side.
            Stage::Idle if self.in_flight.get() == 0 && !self.is_blocked() => {
                let stays = self.finishing.get() && past(since, ticks.idle.saturating_add(ticks.header));
                if stays { Some(Order::Cut) } else { past(since, ticks.idle).then_some(Order::Finish) }
            }
            Stage::Body | Stage::Answer | Stage::Idle => None,
        }
    }

    /// A request's head is complete.
    pub(crate) fn begin(self: &Rc<Self>, has_body: bool) -> Flight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.serial.set(self.serial.get().wrapping_add(1));
        if !self.http2.get() {
            self.early.set(false);
            self.stage.set(if has_body { Stage::Body } else { Stage::Answer });
        }
        Flight(self.clone())
    }

    /// Bytes came in.
    pub(crate) fn received(&self, bytes: usize) {
        self.desk.counters.received(bytes);
        if self.http2.get() {
            return;
        }
        match self.stage.get() {
            Stage::Fresh | Stage::Idle => self.enter_stage(Stage::Head),
            Stage::Answer => self.early.set(true),
            Stage::Head | Stage::Body => {}
        }
    }

    /// The client has shut its side. Whether that is kept from hyper, which would drop a request that is being
    /// answered: a client may well send a whole request, shut its side, and read on. Not while the answer is a stream, which may
    /// have no other end than the client's.
    pub(crate) fn hides_end(&self) -> bool {
        let hides =
            !self.http2.get() && !self.live.get() && (self.stage.get() == Stage::Answer || self.is_blocked());
        if hides {
            self.shut.set(true);
        }
        hides
    }

    /// The socket took bytes.
    pub(crate) fn sent(&self, bytes: usize) {
        self.desk.counters.sent(bytes);
        if self.blocked.take().is_some() && self.shut.get() {
            self.wake();
        }
    }

    /// The socket takes no more for now.
    pub(crate) fn block(&self) {
        if !self.is_blocked() {
            self.blocked.set(Some(self.desk.now.get()));
        }
    }
}

impl Flight {
    /// The request's body is complete.
    pub(crate) fn await_answer(&self) {
        if !self.0.http2.get() {
            self.0.stage.set(Stage::Answer);
        }
    }

    /// The body is read beside the answer.
    pub(crate) fn reading(&self) -> Reading {
        Reading { conn: self.0.clone(), serial: self.0.serial.get() }
    }

    /// The answer is a stream: it is over when the client leaves.
    pub(crate) fn go_live(&self) {
        let conn = &self.0;
        if !conn.http2.get() {
            conn.live.set(true);
            if conn.shut.get() {
                conn.wake();
            }
        }
    }

    /// Watches that the client takes its answer. On HTTP/1 a client that does not blocks the socket, which is watched
    /// already.
    pub(crate) fn hold(&self) -> Option<Held> {
        let conn = &self.0;
        conn.http2.get().then(|| {
            if conn.held.get() == 0 {
                conn.moved.set(conn.desk.now.get());
            }
            conn.held.set(conn.held.get() + 1);
            Held(conn.clone())
        })
    }
}

impl Reading {
    /// The body is complete.
    pub(crate) fn complete(&self) {
        let conn = &self.conn;
        if conn.serial.get() == self.serial && conn.stage.get() == Stage::Body {
            conn.stage.set(Stage::Answer);
        }
    }

    /// The rest of the body is left where it is.
    pub(crate) fn leave(&self) {
        if !self.conn.http2.get() {
            self.conn.leave_unread();
        }
    }
}

impl Held {
    /// The client takes some of it.
    pub(crate) fn moved(&self) {
        self.0.moved.set(self.0.desk.now.get());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get().saturating_sub(1));
        self.moved();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let conn = &self.0;
        conn.in_flight.set(conn.in_flight.get().saturating_sub(1));
        if conn.http2.get() {
            conn.since.set(conn.desk.now.get());
            return;
        }
        conn.live.set(false);
        conn.enter_stage(if conn.early.take() { Stage::Head } else { Stage::Idle });
        if conn.shut.get() {
            conn.wake();
        }
    }
}
