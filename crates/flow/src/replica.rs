//! One replica as the data plane drives it: its link is pumped here, and every descriptor on it is checked.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use baton_abi::descriptor::{HopCost, PAIRS_PER_DESCRIPTOR, pack_pairs, unpack_pairs};
use baton_abi::limits::{BAD_DESCRIPTORS_MAX, HEAD_MAX_BYTES};
use baton_abi::{Descriptor, Extent, Flags, Kind, NONE};
use baton_pool::capability::Handle;
use baton_pool::ledger::{LedgerError, class_of};
use baton_pool::pool::{Pool, Refusal};
use baton_replica::Peer;
use baton_transfer::nudge::Nudge;

use crate::app::App;
use crate::error::InvokeError;
use crate::outlet::Outlet;
use crate::slots::{Met, RawReply, Slots};

/// Descriptors that one pump takes before others get their turn.
const PUMP_MAX: u32 = 256;
/// The status with which a cell answers for a function that ended.
const STATUS_ENDED: u16 = 502;
/// How long what is known of a process's memory counts.
const RESIDENT_FRESH: Duration = Duration::from_secs(1);
/// Buffers that one refill may ask for.
const REFILL_MAX: u16 = 128;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Draining,
    Dead,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Dead => "backoff",
        }
    }
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) app: Weak<App>,
    /// Index of its function in the app.
    pub(crate) function: usize,
    pub(crate) holder: u16,
    /// Index of its range in the capability table.
    pub(crate) arena: u32,
    pub(crate) peer: RefCell<Peer>,
    pub(crate) phase: Cell<Phase>,
    pub(crate) slots: RefCell<Slots>,
    pub(crate) started: Instant,
    /// Why the node killed it, if it did.
    pub(crate) verdict: RefCell<Option<String>>,
    /// Times that the node had its loop come round, for something else than a call.
    pub(crate) nudges: Cell<u32>,
    /// Its roads out of the node.
    pub(crate) outlets: RefCell<Vec<Outlet>>,
    /// Connections out of its own network end with this.
    pub(crate) tunnels: RefCell<Option<Box<dyn core::any::Any>>>,
    /// The node's end of its socket, where the kernel hands over, until somebody listens there.
    pub(crate) socket: Cell<Option<OwnedFd>>,
    /// Has its link looked at though it did not ring.
    pub(crate) look: Nudge,
    bad: Cell<u32>,
    dirty: Cell<bool>,
    /// Nothing that it puts on its link is looked at any more.
    silenced: Cell<bool>,
    /// Pages that its process had in memory, and when that was looked up.
    resident: Cell<Option<(Instant, u64)>>,
}

/// What a look at a replica's link came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There may be more; others get their turn first.
    More,
    /// Nothing is left.
    Empty,
    /// The replica broke the rules for good and is being killed.
    Broken,
}

impl Replica {
    pub(crate) fn new(app: &Rc<App>, function: usize, holder: u16, arena: u32, peer: Peer) -> Replica {
        Replica {
            app: Rc::downgrade(app),
            function,
            holder,
            arena,
            peer: RefCell::new(peer),
            phase: Cell::new(Phase::Starting),
            slots: RefCell::default(),
            started: Instant::now(),
            verdict: RefCell::default(),
            nudges: Cell::new(0),
            outlets: RefCell::default(),
            tunnels: RefCell::default(),
            socket: Cell::new(None),
            look: Nudge::default(),
            bad: Cell::new(0),
            dirty: Cell::new(false),
            silenced: Cell::new(false),
            resident: Cell::new(None),
        }
    }

    /// Requests in its hands that the node gave it.
    pub(crate) fn in_flight(&self) -> u32 {
        self.slots.borrow().owed()
    }

    /// Puts a descriptor on the link; the bell is rung at the end of the data plane's round.
    pub(crate) fn push(self: &Rc<Self>, words: [u64; 8]) -> bool {
        if self.peer.borrow_mut().push_words(words).is_err() {
            self.silence("it does not read its link");
            return false;
        }
        self.ring_soon();
        true
    }

    /// Has the bell rung at the end of the round.
    pub(crate) fn ring_soon(self: &Rc<Self>) {
        self.peer.borrow_mut().note_sent();
        if !self.dirty.replace(true)
            && let Some(app) = self.app.upgrade()
        {
            app.node.ring_later(Rc::clone(self));
        }
    }

    /// Has its loop come round.
    pub(crate) fn nudge(&self) {
        self.nudges.set(self.nudges.get().wrapping_add(1));
        self.peer.borrow().nudge();
    }

    /// Rings the replica's bell if it sleeps. One that shares the node's core runs right then, as a rule, and has answered when this
    /// returns: since the link is looked at next anyway, it need not ring for that.
    pub(crate) fn flush(&self) {
        self.dirty.set(false);
        let mut peer = self.peer.borrow_mut();
        peer.announce_awake();
        peer.flush();
        drop(peer);
        self.look.give();
    }

    /// Kills the replica, for a reason that its callers and the log get to see.
    pub(crate) fn condemn(&self, why: &str) {
        let mut verdict = self.verdict.borrow_mut();
        if verdict.is_none() {
            *verdict = Some(why.to_owned());
        }
        self.peer.borrow().kill();
    }

    /// As [`Replica::condemn`], and nothing that it sent is looked at any more.
    pub(crate) fn silence(&self, why: &str) {
        self.condemn(why);
        self.silenced.set(true);
    }

    /// Whether nothing that it sends is looked at any more.
    pub(crate) fn is_silenced(&self) -> bool {
        self.silenced.get()
    }

    /// Memory of its process over some time, MiB-milliseconds, as far as it can be known. Looked up once a second at most, and
    /// only for what is recorded.
    pub(crate) fn memory_over(&self, ns: u64) -> Option<f64> {
        let known = self.resident.get().filter(|(at, _)| at.elapsed() < RESIDENT_FRESH);
        let (_, pages) = known.or_else(|| {
            let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.peer.borrow().pid())).ok()?;
            Some((Instant::now(), statm.split(' ').nth(1)?.parse().ok()?))
        })?;
        if known.is_none() {
            self.resident.set(Some((Instant::now(), pages)));
        }
        let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
        #[expect(clippy::cast_precision_loss, reason = "nobody reads 50 digits of a product")]
        Some(bytes as f64 / f64::from(1 << 20) * (ns as f64 / 1e6))
    }

    /// Says that the node waits to be rung now. `false`: something came meanwhile, look again first.
    pub(crate) fn announce_sleep(&self) -> bool {
        let link_is_quiet = self.peer.borrow_mut().announce_sleep();
        let is_quiet = link_is_quiet && self.outlets.borrow_mut().iter_mut().all(Outlet::is_quiet);
        if link_is_quiet && !is_quiet {
            self.peer.borrow().announce_awake();
        }
        is_quiet
    }

    /// Kills the replica, if it has not ended by itself: then how it ended is what counts.
    pub(crate) fn kill(&self) {
        self.peer.borrow().kill();
    }

    /// Tells the replica that nobody waits for `tag`.
    pub(crate) fn cancel(self: &Rc<Self>, tag: u32) {
        if self.phase.get() != Phase::Dead {
            self.push(Descriptor { tag, ..Descriptor::new(Kind::Cancel) }.to_words());
        }
    }

    /// Takes what is on the link.
    pub(crate) fn pump(self: &Rc<Self>) -> Pumped {
        let Some(app) = self.app.upgrade() else { return Pumped::Broken };
        let pumped = self.pump_some(&app);
        app.pool.borrow_mut().tidy();
        pumped
    }

    fn pump_some(self: &Rc<Self>, app: &Rc<App>) -> Pumped {
        for _ in 0..PUMP_MAX {
            if self.silenced.get() {
                return Pumped::Broken;
            }
            let popped = self.peer.borrow_mut().pop();
            match popped {
                Ok(Some(descriptor)) => {
                    let is_good = self.take(app, &descriptor);
                    self.judge(app, is_good);
                }
                Ok(None) => return self.pump_outlets(app, PUMP_MAX),
                Err(_) => self.silence("it overran its ring"),
            }
        }
        Pumped::More
    }

    /// Counts bad descriptors in a row.
    pub(crate) fn judge(&self, app: &Rc<App>, is_good: bool) {
        let bad = if is_good { 0 } else { self.bad.get() + 1 };
        self.bad.set(bad);
        app.node.totals.borrow_mut().bad_descriptors += u64::from(!is_good);
        if bad >= BAD_DESCRIPTORS_MAX {
            self.silence("it sent three bad descriptors in a row");
        }
    }

    /// Acts on one allegation. `false` if it does not bear checking.
    fn take(self: &Rc<Self>, app: &Rc<App>, descriptor: &Descriptor) -> bool {
        let body = descriptor.body;
        match Kind::from_u8(descriptor.kind) {
            Some(Kind::Reply) => self.take_reply(app, descriptor),
            Some(Kind::Free) => {
                let mut pool = app.pool.borrow_mut();
                unpack_pairs(descriptor)
                    .map(|(index, generation)| pool.free_by(Handle { index, generation }, self.holder))
                    .fold(true, |all_good, freed| all_good & freed.is_ok())
            }
            Some(Kind::Alloc) => self.grant_one(app, descriptor.tag, body.len),
            Some(Kind::Refill) => self.refill(app, descriptor.code, body.len),
            Some(Kind::Receipt) => {
                app.add_cost(self, &HopCost::from_descriptor(descriptor));
                true
            }
            _ => false,
        }
    }

    fn grant_one(self: &Rc<Self>, app: &Rc<App>, tag: u32, len: u64) -> bool {
        let granted = app.pool.borrow_mut().grant(len, self.holder);
        let words = match granted {
            Ok(handle) => pack_pairs(Kind::Grant, tag, &[(handle.index, handle.generation)]),
            Err(_) => {
                app.pool_full.set(app.pool_full.get() + 1);
                Descriptor { tag, flags: Flags::REFUSED, ..Descriptor::new(Kind::Grant) }.to_words()
            }
        };
        self.push(words)
    }

    fn refill(self: &Rc<Self>, app: &Rc<App>, count: u16, bytes: u64) -> bool {
        let Some(class) = class_of(bytes) else { return false };
        let granted =
            app.pool.borrow_mut().grant_many(bytes, self.holder, usize::from(count.min(REFILL_MAX)));
        let pairs: Vec<_> = granted.iter().map(|handle| (handle.index, handle.generation)).collect();
        if pairs.is_empty() {
            let code = u16::from(class);
            return self
                .push(Descriptor { code, flags: Flags::REFUSED, ..Descriptor::new(Kind::Grant) }.to_words());
        }
        pairs.chunks(PAIRS_PER_DESCRIPTOR).all(|chunk| self.push(pack_pairs(Kind::Grant, 0, chunk)))
    }

    fn take_reply(self: &Rc<Self>, app: &Rc<App>, descriptor: &Descriptor) -> bool {
        let tag = descriptor.tag;
        if !self.slots.borrow_mut().is_owed(tag) {
            return false;
        }
        let received = self.receive(app, descriptor, None);
        let is_good = received.is_ok();
        let result = received
            .map_err(|_| InvokeError::BadReply { what: "it answered with a payload that it does not hold" });
        let raw = result.as_ref().ok().copied();
        let met = self.slots.borrow_mut().answer(tag, result);
        match met {
            Some(Met::Waiter(waker)) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            _ => {
                if let Some(raw) = raw {
                    app.give_up(&raw);
                }
            }
        }
        app.serve_queue(self.function);
        is_good
    }

    /// Whether buffers that it is granted stay its alone, and it has a memory from one request to the next anyway: then it may get
    /// back what it wrote.
    fn has_its_own_buffers(&self, app: &App) -> bool {
        let state = app.functions.get(self.function);
        state.is_some_and(|state| !state.hosting.is_in_cell() && !state.spec.reset)
    }

    /// Takes payload and head over, of an answer on the link or of what came over an edge, or leaves everything as it is.
    pub(crate) fn receive(
        &self,
        app: &Rc<App>,
        descriptor: &Descriptor,
        edge: Option<u16>,
    ) -> Result<RawReply, Refusal> {
        let Descriptor { body, head, flags, code, .. } = *descriptor;
        let mut pool = app.pool.borrow_mut();
        let take = |pool: &mut Pool, extent: Extent| match edge {
            Some(edge) => pool.receive_over(extent, (edge, self.holder)),
            None => pool.receive(extent, self.holder),
        };
        let mut reply = RawReply {
            status: code,
            is_error: flags.has(Flags::ERROR),
            has_ended: flags.has(Flags::ERROR.with(Flags::REFUSED)) && code == STATUS_ENDED,
            body: None,
            head: None,
            inline: None,
        };
        if flags.has(Flags::INLINE) && body.handle == NONE {
            let len = usize::try_from(body.len).unwrap_or(8).min(8);
            reply.inline = Some((body.offset.to_le_bytes(), len));
        } else if body.handle != NONE {
            let received = take(&mut pool, body)?;
            if self.has_its_own_buffers(app) {
                pool.goes_back(&received, self.holder);
            }
            reply.body = Some((received.handle, received.place));
        }
        if head.handle == NONE {
            return Ok(reply);
        }
        let (offset, len) = (u64::from(head.offset), u64::from(head.len));
        let place = match reply.body {
            // The node copies heads: none is larger than what it would send itself.
            _ if len > HEAD_MAX_BYTES as u64 => Err(Refusal::Ledger(LedgerError::OutOfBounds {
                slot: head.handle,
                end: len,
                capacity: HEAD_MAX_BYTES as u64,
            })),
            Some((handle, _)) if handle.index == head.handle => {
                pool.head_place(handle, offset, len).map(|place| (None, place))
            }
            _ => {
                let extent = Extent { handle: head.handle, generation: head.generation, offset, len };
                take(&mut pool, extent).map(|got| (Some(got.handle), got.place))
            }
        };
        match place {
            Ok(place) => reply.head = Some(place),
            Err(refusal) => {
                if let Some((handle, _)) = reply.body {
                    pool.release(handle);
                }
                return Err(refusal);
            }
        }
        Ok(reply)
    }
}
