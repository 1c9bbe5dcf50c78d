//! The receiver's end of the bulk lanes to one peer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::task::spawn_local;

use super::lane::Ended;
use super::pipe::Pipe;
use super::plane::PullCommand;
use super::{Peer, Shared, greet, pause};
use crate::bulk::{Fetcher, LaneId, PullError, PullId, Sink};
use crate::call::Violation;
use crate::counts::Counted;
use crate::limits::IDLE;
use crate::payload::Room;
use crate::reference::Reference;
use crate::wire::hello::Lane;
use crate::wire::{HEADER, Header, Road};

/// Bytes after which other connections of the thread get their turn.
const TURN: u64 = 1 << 20;
/// Between two looks at the clock while pulls are under way, and while none are.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_IDLE: Duration = Duration::from_secs(1);

struct Waiting {
    room: Room,
    reply: oneshot::Sender<Result<Room, PullError>>,
    _permit: OwnedSemaphorePermit,
}

/// The pulls from one peer.
pub(crate) struct Fetching {
    shared: Arc<Shared>,
    peer: Peer,
    fetcher: RefCell<Fetcher>,
    waiting: RefCell<HashMap<PullId, Waiting>>,
    wakes: RefCell<HashMap<LaneId, Rc<Notify>>>,
    next_lane: Cell<LaneId>,
    dialling: Cell<usize>,
    failures: Cell<u32>,
    retry_at: Cell<Duration>,
    wake: Notify,
    number: Cell<u64>,
    over: Cell<bool>,
}

/// Where the numbers of retrievals begin.
fn first_number() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0)
    })
}

impl Fetching {
    pub(crate) fn start(shared: &Arc<Shared>, peer: Peer) -> Rc<Fetching> {
        let near = shared.is_near(&peer);
        let fetching = Rc::new(Fetching {
            shared: Arc::clone(shared),
            peer,
            fetcher: RefCell::new(Fetcher::new(shared.limits(), near)),
            waiting: RefCell::default(),
            wakes: RefCell::default(),
            next_lane: Cell::new(1),
            dialling: Cell::new(0),
            failures: Cell::new(0),
            retry_at: Cell::new(Duration::ZERO),
            wake: Notify::new(),
            number: Cell::new(first_number()),
            over: Cell::new(false),
        });
        spawn_local(Rc::clone(&fetching).supervise());
        fetching
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn pull(&self, command: PullCommand) {
        let PullCommand { reference, room, deadline, reply, permit, .. } = command;
        let near = self.shared.is_near(&self.peer);
        self.fetcher.borrow_mut().spread(self.shared.limits(), near);
        let id = self.fetcher.borrow_mut().begin(self.shared.now(), reference, self.draw(), deadline);
        self.waiting.borrow_mut().insert(id, Waiting { room, reply, _permit: permit });
        self.stir();
    }

    /// Aborts pulls that nobody waits for any more. Looked for and not told of: being told would wake this thread after every pull.
    fn forget(&self) {
        self.waiting.borrow_mut().retain(|id, waiting| {
            let is_wanted = !waiting.reply.is_closed();
            if !is_wanted {
                self.fetcher.borrow_mut().abort(*id);
            }
            is_wanted
        });
    }

    /// A number that nobody else has: they go on from one that was drawn at random. It is no secret: what it tells apart is one node's own
    /// retrievals.
    fn draw(&self) -> u64 {
        self.number.set(self.number.get().wrapping_add(1));
        self.number.get()
    }

    pub(crate) fn release(&self, reference: &Reference) {
        self.fetcher.borrow_mut().release(self.shared.now(), reference, self.draw());
        self.stir();
    }

    /// The peer is none any more.
    pub(crate) fn give_up(&self) {
        self.over.set(true);
        self.stir();
    }

    /// Something has changed: answers pulls that are over, and wakes everyone who may have something to do.
    fn stir(&self) {
        self.settle();
        self.wake.notify_one();
    }

    fn settle(&self) {
        loop {
            let Some((pull, result)) = self.fetcher.borrow_mut().done() else { break };
            let Some(Waiting { room, reply, .. }) = self.waiting.borrow_mut().remove(&pull) else { continue };
            let _ = reply.send(result.map(|()| room));
        }
        let resumed = self.fetcher.borrow_mut().take_resumed();
        self.shared.counters.add(Counted::PullsResumed, resumed);
        let fetcher = self.fetcher.borrow();
        for (lane, wake) in self.wakes.borrow().iter() {
            if fetcher.pending(*lane) || self.over.get() {
                wake.notify_one();
            }
        }
    }

    /// Dials as many lanes as are of use, and lets time pass.
    async fn supervise(self: Rc<Self>) {
        while !self.over.get() {
            self.forget();
            let now = self.shared.now();
            let stuck = self.fetcher.borrow_mut().tick(now);
            for lane in stuck {
                // Its task sees that it is none any more.
                self.fetcher.borrow_mut().lane_down(now, lane);
                if let Some(wake) = self.wakes.borrow_mut().remove(&lane) {
                    wake.notify_one();
                }
            }
            self.settle();
            let (wanted, open) = (self.fetcher.borrow().lanes_wanted(), self.fetcher.borrow().lanes());
            if wanted > open + self.dialling.get() && now >= self.retry_at.get() {
                self.dialling.set(self.dialling.get() + 1);
                spawn_local(Rc::clone(&self).lane());
                continue;
            }
            let look = if self.fetcher.borrow().pulls() > 0 { LOOK } else { LOOK_IDLE };
            let _ = tokio::time::timeout(look, self.wake.notified()).await;
        }
        let waiting = core::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(|waiting| drop(waiting.reply.send(Err(PullError::Lost))));
    }

    /// One connection, from dialling to its end.
    async fn lane(self: Rc<Self>) {
        let dialled = greet::dial(&self.shared, &self.peer, Lane::Bulk).await;
        self.dialling.set(self.dialling.get() - 1);
        let pipe = match dialled {
            Ok(pipe) => pipe,
            Err(error) => {
                if self.failures.get() == 0 {
                    tracing::warn!(peer = self.peer.name, %error, "no connection for pulls");
                }
                self.failures.set(self.failures.get().saturating_add(1));
                self.retry_at.set(self.shared.now() + pause(self.failures.get()));
                self.wake.notify_one();
                return;
            }
        };
        let lane = self.next_lane.get();
        self.next_lane.set(lane + 1);
        let wake = Rc::new(Notify::new());
        self.wakes.borrow_mut().insert(lane, Rc::clone(&wake));
        self.fetcher.borrow_mut().lane_up(self.shared.now(), lane);
        self.stir();
        let ended = Receiving {
            pipe,
            lane,
            state: State::Head { bytes: [0; HEADER], at: 0 },
            out: Vec::new(),
            sent: 0,
            fetching: &self,
        }
        .turns(&wake)
        .await
        .err()
        .unwrap_or(Ended::Closed);
        match &ended {
            Ended::Violation(violation) => {
                tracing::warn!(peer = self.peer.name, %violation, "a node's pieces were not taken");
                self.shared.counters.one(Counted::Violations);
                self.failures.set(self.failures.get().saturating_add(1));
                self.retry_at.set(self.shared.now() + pause(self.failures.get()));
            }
            ended => tracing::debug!(peer = self.peer.name, %ended, "a connection for pulls ended"),
        }
        self.wakes.borrow_mut().remove(&lane);
        self.fetcher.borrow_mut().lane_down(self.shared.now(), lane);
        self.stir();
    }
}

/// What of a frame comes next.
enum State {
    Head { bytes: [u8; HEADER], at: usize },
    Piece { stripe: u64, left: u64 },
    End { stripe: u64, left: u64, body: Vec<u8> },
}

struct Receiving<'a> {
    pipe: Pipe,
    lane: LaneId,
    state: State,
    out: Vec<u8>,
    sent: usize,
    fetching: &'a Rc<Fetching>,
}

impl Receiving<'_> {
    async fn turns(&mut self, wake: &Notify) -> Result<(), Ended> {
        loop {
            let open = self.fetching.wakes.borrow().contains_key(&self.lane);
            if !open || self.fetching.over.get() {
                return Err(Ended::Silent);
            }
            tokio::select! {
                biased;
                moved = poll_fn(|cx| self.poll(cx)) => {
                    let moved = moved?;
                    if moved == 0 {
                        return Ok(());
                    }
                    self.fetching.stir();
                    // Whoever else has something to do on this thread comes first, if this lane has more.
                    if moved >= TURN {
                        tokio::task::yield_now().await;
                    }
                }
                () = wake.notified() => {}
                () = tokio::time::sleep(LOOK_IDLE) => {
                    let idle = self.fetching.fetcher.borrow().idle(self.lane);
                    if idle.is_some_and(|since| self.fetching.shared.now().saturating_sub(since) > IDLE) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Moves bytes: how many, 0 at the end of the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, Ended>> {
        let mut moved = 0;
        loop {
            while let Poll::Ready(sent) = self.poll_write(cx) {
                let sent = sent?;
                if sent == 0 {
                    break;
                }
                moved += sent as u64;
            }
            match self.poll_read(cx) {
                Poll::Ready(taken) => match taken? {
                    0 => return Poll::Ready(Ok(0)),
                    taken => moved += taken,
                },
                Poll::Pending if moved > 0 => return Poll::Ready(Ok(moved)),
                Poll::Pending => return Poll::Pending,
            }
            if moved >= TURN {
                return Poll::Ready(Ok(moved));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.fetching.fetcher.borrow_mut().transmit(self.lane, &mut self.out);
        }
        if self.out.is_empty() {
            return self.pipe.poll_flush(cx).map_ok(|()| 0);
        }
        let taken = ready!(self.pipe.poll_write(cx, self.out.get(self.sent..).unwrap_or_default()))?;
        self.sent += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, Ended>> {
        let taken = match &mut self.state {
            State::Head { bytes, at } => {
                let taken = ready!(self.pipe.poll_read(cx, bytes.get_mut(*at..).unwrap_or_default()))?;
                *at += taken;
                taken as u64
            }
            State::Piece { stripe, left } => {
                let (stripe, left) = (*stripe, *left);
                ready!(self.poll_piece(cx, stripe, left))?
            }
            State::End { left, body, .. } => {
                let mut byte = [0; 1];
                let taken = ready!(self.pipe.poll_read(cx, &mut byte))?;
                body.extend(byte.iter().take(taken));
                *left = left.saturating_sub(taken as u64);
                taken as u64
            }
        };
        if taken > 0 {
            self.step()?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Bytes of a piece, to where they belong at this moment.
    fn poll_piece(&mut self, cx: &mut Context<'_>, stripe: u64, left: u64) -> Poll<Result<u64, Ended>> {
        let place = self.fetching.fetcher.borrow().place(self.lane, stripe);
        let waiting = self.fetching.waiting.borrow();
        let wanted = place.and_then(|(pull, at)| waiting.get(&pull).map(|waiting| (waiting, at)));
        let max = usize::try_from(left.min(TURN)).unwrap_or(usize::MAX);
        let taken = match wanted {
            Some((Waiting { room, .. }, at)) => ready!(self.pipe.poll_read_room(cx, &room.room, (at, max)))?,
            None => {
                let mut nowhere = [0; 16 * 1024];
                ready!(self.pipe.poll_read(cx, nowhere.get_mut(..max.min(16 * 1024)).unwrap_or_default()))?
            }
        } as u64;
        drop(waiting);
        if taken > 0 {
            self.state = State::Piece { stripe, left: left.saturating_sub(taken) };
            let now = self.fetching.shared.now();
            self.fetching.fetcher.borrow_mut().arrived(now, self.lane, stripe, taken);
        }
        Poll::Ready(Ok(taken))
    }

    fn step(&mut self) -> Result<(), Ended> {
        let next = || State::Head { bytes: [0; HEADER], at: 0 };
        match &self.state {
            State::Head { bytes, at: HEADER } => {
                let header = Header::parse(bytes, Road::Pieces).map_err(Violation::Wire)?;
                let now = self.fetching.shared.now();
                let sink = self.fetching.fetcher.borrow_mut().receive(now, self.lane, &header)?;
                self.state = match sink {
                    Sink::Room { len, .. } | Sink::Nowhere { len } => {
                        State::Piece { stripe: header.id, left: len }
                    }
                    Sink::End { stripe } => {
                        State::End { stripe, left: u64::from(header.len), body: Vec::new() }
                    }
                };
                if matches!(self.state, State::Piece { left: 0, .. }) {
                    self.state = next();
                }
            }
            State::Piece { left: 0, .. } => {
                self.state = next();
                // Who waits for the last byte does not wait for the acknowledgement to be sent as well.
                self.fetching.settle();
            }
            State::End { stripe, left: 0, body } => {
                self.fetching.fetcher.borrow_mut().ended(*stripe, body)?;
                self.state = next();
            }
            _ => {}
        }
        Ok(())
    }
}
