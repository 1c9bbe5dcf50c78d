//! One version of an app: its pool, its functions, their replicas and the edges between them.

mod waits;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use baton_abi::descriptor::HopCost;
use baton_abi::limits::REPLICAS_MAX;
use baton_abi::plan::Patch;
use baton_catalog::{Function, FunctionName, Trust};
use baton_placement::{Admission, Answered, Load, Waiting, admit, choose};
use baton_policy::{Chain, Set};
use baton_pool::bell::Bell;
use baton_pool::capability::Handle;
use baton_pool::pool::Pool;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::cells::Group;
use crate::coldstart::ColdStarts;
use crate::deploy::{AppSpec, BundledFiles};
use crate::edges::Edges;
use crate::error::InvokeError;
use crate::guarded::Guard;
use crate::hosting::Hosting;
use crate::node::Node;
use crate::outlet::{Counts, OUT_PER_APP_MAX};
use crate::puts::Puts;
use crate::receipts::{Beside, GATEWAY};
use crate::replica::{Phase, Replica};
use crate::scale::Unit;
use crate::secrets::SecretEnv;
use crate::slots::RawReply;
use crate::start::Numbers;
use crate::status::LoadStatus;
use crate::stream::Streams;
use crate::tally::Tally;
use crate::wake::Choice;
use crate::zygote::Nursery;

/// How long a handler may stand still beyond its function's time before its replica is killed.
const STUCK_GRACE: Duration = Duration::from_millis(500);

/// How long a replica may keep a call after its time is over. The SDK gives it up as soon as it hears of it; a handler
/// that stands still is found sooner or later than this by its function's own time.
const OWED_GRACE: Duration = Duration::from_secs(5);

/// Deadline checks of the node between two of the replicas'.
const TICKS_PER_NUDGE: u32 = 5;

/// A function of a running app.
pub(crate) struct FunctionState {
    pub(crate) name: FunctionName,
    pub(crate) spec: Function,
    pub(crate) artifact: PathBuf,
    /// The program in which that goes on.
    pub(crate) host: Option<PathBuf>,
    pub(crate) hosting: Hosting,
    /// The group whose cells hold it.
    pub(crate) group: Option<Rc<Group>>,
    /// What a compartment writes over the executable's code.
    pub(crate) patches: Vec<Patch>,
    pub(crate) files: Option<BundledFiles>,
    /// What its replicas are forked from, if they are.
    pub(crate) nursery: Option<Rc<Nursery>>,
    pub(crate) secrets: SecretEnv,
    /// One place for each replica; empty while it is down.
    pub(crate) replicas: RefCell<Vec<Option<Rc<Replica>>>>,
    queue: RefCell<VecDeque<oneshot::Sender<Reserved>>>,
    cursor: Cell<usize>,
    pub(crate) restarts: Cell<u32>,
    pub(crate) crash_looping: Cell<bool>,
    pub(crate) calls: Cell<u64>,
    pub(crate) errors: Cell<u64>,
    /// How long its calls took, and what they brought and took.
    pub(crate) tally: Tally,
    /// Times that a compartment of it was reset after a fault.
    pub(crate) faults: Cell<u64>,
    /// What it asked of the network.
    pub(crate) out: Cell<Counts>,
    /// How its executable was last loaded into a template.
    pub(crate) loaded: Cell<Option<LoadStatus>>,
    /// What it is scaled with, by number, if it runs here.
    pub(crate) unit: Option<usize>,
    /// The units, by number, to which a request may lead, its own included.
    pub(crate) behind: Vec<usize>,
    /// All of them are being looked at, or need not be.
    pub(crate) is_stirred: Cell<bool>,
    /// How long its cold starts took, once there are any.
    pub(crate) cold_starts: RefCell<Option<Box<ColdStarts>>>,
    /// What its requests pass; nothing for most.
    pub(crate) chain: RefCell<Option<Rc<Chain>>>,
}

/// A place for one call at a replica. The call is counted there once its tag exists.
pub(crate) struct Reserved {
    pub(crate) replica: Rc<Replica>,
    pub(crate) tag: u32,
    /// When it was given to a call that had found no replica at all.
    pub(crate) cold: Option<Instant>,
}

/// A replica that stood still when a call timed out.
struct Suspect {
    holder: u16,
    turn: u32,
    since: Instant,
}

/// One version of an app.
pub(crate) struct App {
    pub(crate) node: Rc<Node>,
    pub(crate) name: String,
    pub(crate) version: u64,
    /// Counts apps on this node: where its chain runs.
    pub(crate) index: usize,
    pub(crate) pool: RefCell<Pool>,
    pub(crate) trust: Trust,
    /// Who hands over between its processes.
    pub(crate) wake: Choice,
    /// The kernel's part of it, where it is the kernel.
    pub(crate) guard: Option<Rc<Guard>>,
    pub(crate) functions: Vec<FunctionState>,
    /// Groups of its functions that share cells.
    pub(crate) groups: Vec<Rc<Group>>,
    /// What of it is scaled as one.
    pub(crate) units: Vec<Rc<Unit>>,
    pub(crate) edges: RefCell<Edges>,
    pub(crate) stopping: Cell<bool>,
    /// Bounds the requests to the network that are out.
    pub(crate) out: Semaphore,
    /// Requests that have come as far as their heads, and are not answered.
    pub(crate) uploads: Cell<usize>,
    /// Wakes those who wait for replicas to come or go.
    pub(crate) changed: Notify,
    /// Requests of clients that it answered.
    pub(crate) answered: Cell<Answered>,
    pub(crate) pool_full: Cell<u64>,
    pub(crate) numbers: Numbers,
    /// What other nodes may pull that its owner can take back, for as long as it is kept for them.
    pub(crate) shared_out: RefCell<Vec<(Handle, Weak<()>)>>,
    /// What its functions have put up on this node.
    pub(crate) puts: RefCell<Puts>,
    /// Its requests whose answers may be streams.
    pub(crate) streams: Streams,
    /// The range of the capability table in which the node derives, once it does.
    pub(crate) node_arena: Cell<Option<u32>>,
    /// What it has of policies.
    pub(crate) policies: RefCell<Option<Rc<Set>>>,
    suspects: RefCell<Vec<Suspect>>,
    ticks: Cell<u32>,
}

/// What an app consists of beside what was declared.
pub(crate) struct Parts {
    pub(crate) pool: Pool,
    /// How each function runs, in the order of their names.
    pub(crate) hosting: Vec<Hosting>,
    pub(crate) groups: Vec<Rc<Group>>,
    /// Who hands over, and the kernel's part of it.
    pub(crate) wake: (Choice, Option<Rc<Guard>>),
}

impl App {
    pub(crate) fn new(node: &Rc<Node>, spec: &AppSpec, index: usize, parts: Parts) -> Rc<App> {
        let Parts { pool, hosting, groups, wake: (wake, guard) } = parts;
        let units = crate::scale::units(&spec.manifest, &hosting, &groups);
        let is_behind = |unit: usize, function| units.get(unit).is_some_and(|unit| unit.is_behind(function));
        let functions = spec.manifest.functions.iter().zip(hosting).enumerate();
        let functions = functions
            .map(|(number, ((name, function), hosting))| {
                let group = groups.iter().find(|group| group.seats.contains(&number));
                let is_here = hosting != Hosting::Elsewhere;
                FunctionState {
                    name: name.clone(),
                    nursery: Nursery::of(function).filter(|_| is_here),
                    group: group.cloned(),
                    spec: function.clone(),
                    artifact: spec.artifacts.get(name).cloned().unwrap_or_default(),
                    host: spec.hosts.get(name).cloned().filter(|_| hosting == Hosting::Wasm),
                    hosting,
                    patches: spec.patches.get(name).cloned().unwrap_or_default(),
                    files: spec.files.get(name).cloned(),
                    secrets: spec.secrets.get(name).cloned().unwrap_or_default(),
                    replicas: RefCell::default(),
                    queue: RefCell::default(),
                    cursor: Cell::new(0),
                    restarts: Cell::new(0),
                    crash_looping: Cell::new(false),
                    calls: Cell::new(0),
                    errors: Cell::new(0),
                    tally: Tally::default(),
                    faults: Cell::new(0),
                    out: Cell::default(),
                    loaded: Cell::new(None),
                    unit: units.iter().position(|unit| unit.functions().contains(&number)),
                    behind: (0..units.len()).filter(|unit| is_behind(*unit, number)).collect(),
                    is_stirred: Cell::new(false),
                    cold_starts: RefCell::default(),
                    chain: RefCell::default(),
                }
            })
            .collect();
        let app = Rc::new(App {
            node: Rc::clone(node),
            name: spec.manifest.app.name.to_string(),
            version: spec.version,
            index,
            pool: RefCell::new(pool),
            trust: spec.manifest.app.trust(),
            wake,
            guard,
            functions,
            groups,
            units,
            edges: RefCell::default(),
            stopping: Cell::new(false),
            out: Semaphore::new(OUT_PER_APP_MAX),
            uploads: Cell::new(0),
            changed: Notify::new(),
            answered: Cell::default(),
            pool_full: Cell::new(0),
            numbers: Numbers::default(),
            shared_out: RefCell::default(),
            puts: RefCell::new(Puts::new()),
            streams: Streams::default(),
            node_arena: Cell::new(None),
            policies: RefCell::default(),
            suspects: RefCell::default(),
            ticks: Cell::new(0),
        });
        node.apps.borrow_mut().push(Rc::downgrade(&app));
        app
    }

    /// All replicas that are up.
    pub(crate) fn replicas(&self) -> Vec<Rc<Replica>> {
        let up = self.functions.iter().flat_map(|function| function.replicas.borrow().clone());
        up.flatten().filter(|replica| replica.phase.get() != Phase::Dead).collect()
    }

    pub(crate) fn replica(&self, holder: u16) -> Option<Rc<Replica>> {
        self.replicas().into_iter().find(|replica| replica.holder == holder)
    }

    pub(crate) fn function_name(&self, index: usize) -> &str {
        self.functions.get(index).map_or("?", |function| function.name.as_str())
    }

    /// A range of the capability table for the node itself, which no replica gets from now on. `None` if all are taken.
    pub(crate) fn own_arena(&self) -> Option<u32> {
        if self.node_arena.get().is_none() {
            let up = self.replicas();
            // The lowest: whoever revokes looks at all that are below the highest.
            let mut free = 0..REPLICAS_MAX;
            self.node_arena.set(free.find(|arena| up.iter().all(|replica| replica.arena != *arena)));
        }
        self.node_arena.get()
    }

    /// Whether this node hosts a function.
    pub(crate) fn is_here(&self, function: usize) -> bool {
        self.functions.get(function).is_some_and(|state| state.hosting != Hosting::Elsewhere)
    }

    /// Calls that the node has out at replicas.
    pub(crate) fn in_flight(&self) -> u32 {
        self.functions.iter().map(FunctionState::in_flight).sum()
    }

    pub(crate) fn queued(&self) -> usize {
        self.functions.iter().map(FunctionState::queued).sum()
    }

    /// A place for one call of `function`, now or when one is free.
    pub(crate) async fn reserve(
        self: &Rc<Self>,
        function: usize,
        deadline: Instant,
    ) -> Result<Reserved, InvokeError> {
        let state = self.functions.get(function).ok_or(InvokeError::Unknown)?;
        if self.stopping.get() {
            return Err(InvokeError::Draining);
        }
        self.stir(state);
        let mut waiting = Waiting { queued: count(state.queued()), bound: state.spec.scale.queue };
        if self.comes_and_goes(function) && !state.any_ready() {
            // Whoever has a replica started waits for it, even where nobody else may wait.
            waiting.bound = waiting.bound.max(1);
        }
        match state.admit(waiting) {
            Admission::Run(place) => state.take_place(place, deadline).ok_or(InvokeError::QueueFull),
            Admission::Refuse => Err(state.refusal()),
            Admission::Queue if state.crash_looping.get() => Err(state.refusal()),
            Admission::Queue => {
                let (sender, receiver) = oneshot::channel();
                state.queue.borrow_mut().push_back(sender);
                self.starve(state);
                let cold = (!state.any_ready()).then(Instant::now);
                match tokio::time::timeout_at(deadline.into(), receiver).await {
                    Ok(Ok(reserved)) => Ok(state.note_cold(cold, reserved)),
                    Ok(Err(_)) => Err(InvokeError::Draining),
                    Err(_) => {
                        state.queue.borrow_mut().retain(|waiter| !waiter.is_closed());
                        match state.refusal() {
                            InvokeError::QueueFull => {
                                Err(InvokeError::DeadlineExceeded { after: state.spec.timeout.duration() })
                            }
                            no_replica => Err(no_replica),
                        }
                    }
                }
            }
        }
    }

    /// A request of a client is answered.
    pub(crate) fn count(&self, has_failed: bool) {
        let Answered { requests, failures } = self.answered.get();
        self.answered.set(Answered { requests: requests + 1, failures: failures + u64::from(has_failed) });
    }

    /// Gives room that became free to those who wait.
    pub(crate) fn serve_queue(&self, function: usize) {
        let Some(state) = self.functions.get(function) else { return };
        while !state.queue.borrow().is_empty() {
            let Some(place) = choose(&state.loads(), state.cursor.get()) else { return };
            let waiter = state.queue.borrow_mut().pop_front();
            let Some(waiter) = waiter.filter(|waiter| !waiter.is_closed()) else { continue };
            let deadline = Instant::now() + state.spec.timeout.duration();
            let Some(reserved) = state.take_place(place, deadline) else { return };
            if let Err(reserved) = waiter.send(reserved) {
                // It left in this very moment: the place is free again.
                reserved.give_back();
            }
        }
    }

    /// Ends every wait in the queues.
    pub(crate) fn clear_queues(&self) {
        for function in &self.functions {
            function.queue.borrow_mut().clear();
        }
    }

    /// Gives the payloads of an answer that nobody takes back to the pool.
    pub(crate) fn give_up(&self, raw: &RawReply) {
        let mut pool = self.pool.borrow_mut();
        if let Some((handle, _)) = raw.body {
            pool.release(handle);
        }
        if let Some((Some(handle), _)) = raw.head {
            pool.release(handle);
        }
    }

    pub(crate) fn release(&self, handle: Handle) {
        self.pool.borrow_mut().release(handle);
    }

    pub(crate) fn add_cost(&self, by: &Replica, cost: &HopCost) {
        let caller = match cost.caller {
            0 => GATEWAY.to_owned(),
            holder => self
                .replica(holder)
                .map_or_else(String::new, |caller| self.function_name(caller.function).to_owned()),
        };
        let function = self.function_name(by.function).to_owned();
        self.node.traces.borrow_mut().add(&self.name, cost, (by.holder, &function), None);
        let memory_mib_ms = by.memory_over(cost.wall_ns);
        let is_by_kernel = self.guard.is_some() && cost.caller != 0;
        let beside = Beside { memory_mib_ms, is_by_kernel, ..Beside::default() };
        self.node.receipts.borrow_mut().add(&self.name, cost, (caller, function), beside);
    }

    /// Fails overdue calls and finds handlers that stand still. `true` while there is something to watch.
    pub(crate) fn tick(self: &Rc<Self>) -> bool {
        let now = Instant::now();
        let mut out = false;
        for replica in self.replicas() {
            let overdue = replica.slots.borrow().overdue(now);
            let after = self.functions.get(replica.function).map(|state| state.spec.timeout.duration());
            for tag in overdue {
                let error = InvokeError::DeadlineExceeded { after: after.unwrap_or_default() };
                let waker = replica.slots.borrow_mut().fail(tag, error);
                if let Some(waker) = waker {
                    waker.wake();
                }
                replica.cancel(tag);
                self.suspect(now, |_| true);
            }
            if replica.slots.borrow().owes_since(now, OWED_GRACE) {
                replica.condemn("it neither answers nor gives up a call whose time is over");
            }
            out |= replica.in_flight() > 0;
        }
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(TICKS_PER_NUDGE) {
            self.nudge_busy();
        }
        crate::lifecycle::settle_edges(self);
        let orphans = self.pool.borrow_mut().sweep() > 0;
        // One that only other functions call is never overdue here: its callers give up by themselves.
        self.suspect(now, |bell| bell.in_flight() > 0 && bell.was_woken());
        let shared = crate::elsewhere::take_back(self);
        self.judge_suspects(now) || out || orphans || shared || self.edges.borrow().has_closed()
    }

    /// Has every replica with calls in its hands look at its deadlines.
    fn nudge_busy(&self) {
        for replica in self.replicas() {
            let peer = replica.peer.borrow();
            if peer.bell().in_flight() > 0 {
                peer.bell().tick();
                peer.nudge();
            }
        }
    }

    /// From now on watches the replicas whose bell says `which`.
    fn suspect(&self, now: Instant, which: impl Fn(&Bell) -> bool) {
        let mut suspects = self.suspects.borrow_mut();
        for replica in self.replicas() {
            let peer = replica.peer.borrow();
            if which(peer.bell()) && !suspects.iter().any(|suspect| suspect.holder == replica.holder) {
                suspects.push(Suspect { holder: replica.holder, turn: peer.bell().turn(), since: now });
            }
        }
    }

    /// Kills replicas whose loop has not come round, though awake, for longer than their function may take.
    fn judge_suspects(&self, now: Instant) -> bool {
        let mut suspects = self.suspects.borrow_mut();
        suspects.retain(|suspect| {
            let Some(replica) = self.replica(suspect.holder) else { return false };
            let peer = replica.peer.borrow();
            let moved = peer.bell().turn() != suspect.turn || !peer.bell().was_woken();
            drop(peer);
            if moved {
                return false;
            }
            if now.duration_since(suspect.since) < self.patience(replica.function) + STUCK_GRACE {
                return true;
            }
            replica.condemn("its handler did not return in its time");
            false
        });
        !suspects.is_empty()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl FunctionState {
    pub(crate) fn queued(&self) -> usize {
        self.queue.borrow().iter().filter(|waiter| !waiter.is_closed()).count()
    }

    fn loads(&self) -> Vec<Load> {
        let load = |place: &Option<Rc<Replica>>| match place {
            Some(replica) => Load {
                in_flight: replica.in_flight(),
                concurrency: self.spec.scale.concurrency,
                ready: replica.phase.get() == Phase::Ready,
            },
            None => Load { in_flight: 0, concurrency: 0, ready: false },
        };
        self.replicas.borrow().iter().map(load).collect()
    }

    fn admit(&self, waiting: Waiting) -> Admission {
        let cursor = self.cursor.get();
        self.cursor.set(cursor.wrapping_add(1));
        admit(&self.loads(), cursor, waiting)
    }

    fn take_place(&self, place: usize, deadline: Instant) -> Option<Reserved> {
        let replica = self.replicas.borrow().get(place)?.clone()?;
        let tag = replica.slots.borrow_mut().add(deadline)?;
        Some(Reserved { replica, tag, cold: None })
    }

    fn any_ready(&self) -> bool {
        self.replicas.borrow().iter().flatten().any(|replica| replica.phase.get() == Phase::Ready)
    }

    fn refusal(&self) -> InvokeError {
        if self.any_ready() {
            InvokeError::QueueFull
        } else {
            InvokeError::NoReplica { crash_looping: self.crash_looping.get() }
        }
    }
}
