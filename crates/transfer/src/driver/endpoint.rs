//! The data plane as its user sees it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::calls::{Called, Calling};
use super::plane::{self, Accepted, Command};
use super::{Peer, PeerState, Service, Settings, Shared, StartError, lane, pause};
use crate::bulk::PullError;
use crate::call::CallError;
use crate::counts::{Counted, Counters, Counts};
use crate::limits::{ACCEPTED_MAX, COMMANDS_MAX, HELD_BEYOND, HOLD_MAX, PEERS_MAX, PULLS_MAX};
use crate::payload::{Answer, Arrived, Call, Held, Incoming, Payload, Room};
use crate::reference::{Reference, Token, system};
use crate::security::Secured;
use crate::vault::{HeldRow, HoldError, Terms, Vault};
use crate::wire::named;

/// Between two looks at whether a drain is done.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// This node's end of the data plane. Clones are the same; with the last one everything ends. Lives on one thread, in a `LocalSet`.
#[derive(Clone)]
pub struct Endpoint {
    inner: Rc<Inner>,
    _end: Rc<End>,
}

/// Ends the tasks that have the rest.
struct End(Rc<Inner>);

impl Drop for End {
    fn drop(&mut self) {
        for (_, known) in self.0.lanes.borrow_mut().split_off("") {
            known.task.abort();
        }
        self.0.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
        for called in self.0.called.borrow_mut().drain(..) {
            called.hang_up();
        }
        self.0.service.take();
        let _ = self.0.commands.try_send(Command::Stop);
    }
}

/// A peer that calls can be made to, or will be.
struct Known {
    peer: Peer,
    lane: Rc<RefCell<Option<Rc<Calling>>>>,
    trouble: Rc<RefCell<Option<String>>>,
    task: AbortHandle,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    service: RefCell<Option<Rc<dyn Service>>>,
    lanes: RefCell<BTreeMap<String, Known>>,
    called: RefCell<Vec<Rc<Called>>>,
    tasks: RefCell<Vec<AbortHandle>>,
    pub(crate) changed: Notify,
    pulls: Arc<Semaphore>,
    draining: Cell<bool>,
}

impl Endpoint {
    /// Listens, and starts the thread for transfers. Incoming calls go to `service`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings, service: Rc<dyn Service>) -> Result<Endpoint, StartError> {
        for (what, name) in [("cluster", &settings.cluster), ("node", &settings.node)] {
            if !named(name) {
                return Err(StartError::Name { what });
            }
        }
        let secured =
            Secured::new(&settings.security, settings.allow_plaintext).map_err(StartError::Security)?;
        secured.allows(settings.listen).map_err(StartError::Security)?;
        secured.to(&settings.node).map_err(StartError::Security)?;
        let failed = |error| StartError::Listen { address: settings.listen, error };
        let listener = TcpListener::bind(settings.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let vault =
            Vault::new(&settings.node, &settings.limits, system()).map_err(|_| StartError::NoRandom)?;
        let shared = Arc::new(Shared {
            secured,
            address,
            start: Instant::now(),
            vault: Mutex::new(vault),
            counters: Counters::default(),
            peers: Mutex::default(),
            machine: this_machine(),
            near: Mutex::default(),
            news: watch::Sender::new(0),
            settings,
        });
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (accepted, accepts) = mpsc::channel(ACCEPTED_MAX);
        plane::start(Arc::clone(&shared), listener, commanded, accepted).map_err(StartError::Thread)?;
        let inner = Rc::new(Inner {
            shared,
            commands,
            service: RefCell::new(Some(service)),
            lanes: RefCell::default(),
            called: RefCell::default(),
            tasks: RefCell::default(),
            changed: Notify::new(),
            pulls: Arc::new(Semaphore::new(PULLS_MAX)),
            draining: Cell::new(false),
        });
        let tasks = [
            tokio::task::spawn_local(accept(Rc::clone(&inner), accepts)).abort_handle(),
            tokio::task::spawn_local(keep(Arc::clone(&inner.shared))).abort_handle(),
        ];
        inner.tasks.borrow_mut().extend(tasks);
        Ok(Endpoint { _end: Rc::new(End(Rc::clone(&inner))), inner })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.shared.address
    }

    /// The other nodes. Those that are none any more, moved, or were started anew are hung up, and what is held for them is revoked.
    /// Of more than [`PEERS_MAX`] the last are left out.
    pub fn set_peers(&self, peers: &[Peer]) {
        let me = &self.inner.shared.settings.node;
        let peers: Vec<Peer> = peers
            .iter()
            .filter(|peer| peer.name != *me && named(&peer.name))
            .take(PEERS_MAX)
            .cloned()
            .collect();
        *self.inner.shared.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = peers.clone();
        self.inner.shared.near().retain(|name| peers.iter().any(|peer| peer.name == *name));
        let mut lanes = self.inner.lanes.borrow_mut();
        let gone: Vec<String> = lanes
            .iter()
            .filter(|(_, known)| !peers.contains(&known.peer))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(known) = lanes.remove(&name) {
                known.task.abort();
                if let Some(lane) = known.lane.borrow_mut().take() {
                    lane.lost();
                }
                self.inner.changed.notify_one();
            }
            self.inner.shared.vault().revoke_where(|_, receiver| receiver == name);
        }
        for peer in peers {
            lanes.entry(peer.name.clone()).or_insert_with(|| {
                let (lane, trouble) = (Rc::default(), Rc::default());
                let dialling =
                    dial(Rc::clone(&self.inner), peer.clone(), Rc::clone(&lane), Rc::clone(&trouble));
                Known { peer, lane, trouble, task: tokio::task::spawn_local(dialling).abort_handle() }
            });
        }
        drop(lanes);
        self.inner
            .called
            .borrow()
            .iter()
            .filter(|called| !called.wanted())
            .for_each(|called| called.hang_up());
        self.inner.shared.tell();
    }

    /// How it is with each peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        let lanes = self.inner.lanes.borrow();
        let state = |known: &Known| {
            let lane = known.lane.borrow();
            let (in_flight, round_trip, draining) =
                lane.as_ref().map_or((0, None, false), |lane| lane.state());
            let (name, trouble) = (known.peer.name.clone(), known.trouble.borrow().clone());
            PeerState {
                name,
                up: lane.as_ref().is_some_and(|lane| lane.ready()),
                draining,
                round_trip,
                in_flight,
                trouble,
            }
        };
        lanes.values().map(state).collect()
    }

    /// How many calls to a node are not answered. `None` if no more can be made: it is not up, or takes no more.
    #[must_use]
    pub fn calls_out(&self, node: &str) -> Option<u32> {
        let lanes = self.inner.lanes.borrow();
        let lane = lanes.get(node)?.lane.borrow();
        let (in_flight, _, draining) = lane.as_ref()?.state();
        (!draining).then(|| u32::try_from(in_flight).unwrap_or(u32::MAX))
    }

    /// Some peer went up or down since this was last awaited. For one waiter.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Calls a function on `node`. Dropping the future cancels the call there.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::retryable`] says which of them leave the call surely not begun.
    pub async fn call(&self, node: &str, call: Call) -> Result<Answer, CallError> {
        let result = self.inner.call(node, call).await;
        if result.is_err() {
            self.inner.shared.counters.one(Counted::CallsFailed);
        }
        result
    }

    /// Brings what `reference` names, held by `node`, into `room`, and acknowledges it. Connections that break in the middle are
    /// made anew until `deadline`, and the pull goes on where it was. Dropping the future gives it up; what it names can then be
    /// pulled again for as long as it is held.
    ///
    /// # Errors
    /// [`PullError`]; the room is dropped.
    pub async fn pull(
        &self,
        node: &str,
        reference: &Reference,
        room: Room,
        deadline: Instant,
    ) -> Result<Room, PullError> {
        let result = self.inner.pull(node, reference, room, deadline).await;
        self.inner.shared.counters.one(Counted::Pulls);
        match &result {
            Ok(_) => self.inner.shared.counters.add(Counted::BytesPulled, reference.len),
            Err(_) => self.inner.shared.counters.one(Counted::PullsFailed),
        }
        result
    }

    /// Tells `node` that what `reference` names will not be pulled: its memory can go.
    pub fn release(&self, node: &str, reference: &Reference) {
        self.inner.release(node, *reference);
    }

    /// Holds bytes until `node` has pulled them. (For bodies of calls and answers that is done anyway.)
    ///
    /// # Errors
    /// [`HoldError`]: the bytes are dropped.
    pub fn hold(&self, node: &str, held: Held, terms: Terms) -> Result<Reference, HoldError> {
        self.inner.shared.vault().hold(self.inner.shared.now(), node, held, terms)
    }

    /// Takes back what is held of a buffer of an app, whoever was to pull it; how many holds that were. No byte is taken from the buffer
    /// after this returns but by a connection that is reset before the memory goes.
    pub fn revoke(&self, app: &str, buffer: Option<(u32, u32)>) -> usize {
        let of =
            |held: &Held, _: &str| held.app() == app && buffer.is_none_or(|buffer| held.buffer() == buffer);
        let revoked = self.inner.shared.vault().revoke_where(of);
        self.inner.shared.tell();
        revoked
    }

    /// Takes back all that is held for `node`; how many holds that were.
    pub fn revoke_node(&self, node: &str) -> usize {
        let revoked = self.inner.shared.vault().revoke_where(|_, receiver| receiver == node);
        self.inner.shared.tell();
        revoked
    }

    #[cfg(test)]
    pub(crate) fn revoke_held(&self, which: impl Fn(&Held) -> bool) {
        self.inner.shared.vault().revoke_where(|held, _| which(held));
        self.inner.shared.tell();
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> Vec<HeldRow> {
        self.inner.shared.vault().rows(self.inner.shared.now())
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.shared.counters.snapshot()
    }

    /// Tells the peers to call elsewhere. Calls that run go on.
    pub fn refuse(&self) {
        self.inner.draining.set(true);
        self.inner.called.borrow().iter().for_each(|called| called.drain());
    }

    /// Tells the peers to call elsewhere, and waits until the calls that run are answered and everything held is pulled, `within` at most.
    pub async fn drain(&self, within: Duration) {
        self.refuse();
        let until = Instant::now() + within;
        let busy = || {
            let calls: usize = self.inner.called.borrow().iter().map(|called| called.in_flight()).sum();
            calls > 0 || self.inner.shared.vault().len() > 0
        };
        while busy() && Instant::now() < until {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

impl Inner {
    pub(crate) fn service(&self) -> Rc<dyn Service> {
        // Lanes end with the service: there is none without the other.
        self.service.borrow().clone().unwrap_or_else(|| Rc::new(super::plane::Nobody))
    }

    pub(crate) fn release(&self, node: &str, reference: Reference) {
        // If the thread has too much to do for this, the hold ends with its time.
        let _ = self.commands.try_send(Command::Release { node: node.to_owned(), reference });
    }

    pub(crate) fn revoke_token(&self, token: Token) {
        if self.shared.vault().revoke(token) {
            self.shared.tell();
        }
    }

    async fn call(&self, node: &str, call: Call) -> Result<Answer, CallError> {
        let lane = self.lanes.borrow().get(node).and_then(|known| known.lane.borrow().clone());
        let lane = lane.ok_or(CallError::NotConnected)?;
        let Call { app, function, version, invocation, operation, record, timeout, head, body } = call;
        let timeout = timeout.min(crate::limits::CALL_TIME_MAX);
        let body = match body {
            Payload::Empty => Arrived::Empty,
            Payload::Inline(bytes) => {
                self.shared.counters.add(Counted::BytesInline, bytes.len() as u64);
                Arrived::Inline(bytes)
            }
            Payload::Held(held) => {
                let expires = (timeout + HELD_BEYOND).min(HOLD_MAX);
                let held =
                    self.shared.vault().hold(self.shared.now(), node, held, Terms { expires, retrievals: 1 });
                Arrived::Referenced(held.map_err(|_| CallError::Crowded)?)
            }
        };
        // The callee pulls before it answers, or not at all.
        let _held = if let Arrived::Referenced(Reference { token, .. }) = body { Some(token) } else { None }
            .map(|token| Withdraw(self, token));
        self.shared.counters.one(Counted::CallsOut);
        let call = Incoming { app, function, version, invocation, operation, record, timeout, head, body };
        lane.call(call).await
    }

    async fn pull(
        &self,
        node: &str,
        reference: &Reference,
        room: Room,
        deadline: Instant,
    ) -> Result<Room, PullError> {
        if reference.len > room.len() {
            return Err(PullError::TooLarge { len: reference.len, room: room.len() });
        }
        let permit = Arc::clone(&self.pulls).try_acquire_owned().map_err(|_| PullError::Crowded)?;
        let (reply, answer) = oneshot::channel();
        let deadline = deadline.saturating_duration_since(self.shared.start);
        let (node, reference) = (node.to_owned(), *reference);
        let pull = plane::PullCommand { node, reference, room, deadline, reply, permit };
        self.commands.send(Command::Pull(pull)).await.map_err(|_| PullError::Lost)?;
        answer.await.unwrap_or(Err(PullError::Lost))
    }
}

/// Takes a hold back when a call is over.
struct Withdraw<'a>(&'a Inner, Token);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.revoke_token(self.1);
    }
}

/// A number that the kernel keeps from one start of the machine to the next, and that is the same in all its namespaces.
pub(super) fn this_machine() -> u64 {
    let read = std::fs::read("/proc/sys/kernel/random/boot_id");
    read.ok().and_then(|id| blake3::hash(&id).as_bytes().first_chunk().copied()).map_or(0, u64::from_le_bytes)
}

/// Keeps a lane to a peer.
async fn dial(
    inner: Rc<Inner>,
    peer: Peer,
    lane: Rc<RefCell<Option<Rc<Calling>>>>,
    trouble: Rc<RefCell<Option<String>>>,
) {
    let mut failures = 0;
    loop {
        let (reply, dialled) = oneshot::channel();
        if inner.commands.send(Command::Dial { peer: peer.clone(), reply }).await.is_err() {
            return;
        }
        let dialled = dialled.await.unwrap_or_else(|_| Err("the thread for transfers has ended".to_owned()));
        let why = match dialled.and_then(|parted| parted.join().map_err(|error| error.to_string())) {
            Err(why) => {
                failures += 1;
                why
            }
            Ok(pipe) => {
                failures = 0;
                let calling = Calling::new(&inner, &peer);
                *lane.borrow_mut() = Some(Rc::clone(&calling));
                *trouble.borrow_mut() = None;
                let ended = lane::run(pipe, &*calling, &calling.wake, &inner.shared).await;
                lane.borrow_mut().take();
                calling.lost();
                inner.changed.notify_one();
                ended.to_string()
            }
        };
        if trouble.borrow().as_deref() != Some(why.as_str()) {
            tracing::warn!(peer = peer.name, address = %peer.address, %why, "no connection for calls");
            *trouble.borrow_mut() = Some(why);
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

/// Runs lanes that peers opened.
async fn accept(inner: Rc<Inner>, mut accepts: mpsc::Receiver<Accepted>) {
    while let Some(Accepted { parted, peer }) = accepts.recv().await {
        let Ok(pipe) = parted.join() else { continue };
        // A peer has one: it would not have dialled if the last were any good.
        let called = Called::new(&inner, peer);
        if !called.wanted() {
            continue;
        }
        if inner.draining.get() {
            called.drain();
        }
        let mut all = inner.called.borrow_mut();
        all.iter().filter(|other| other.peer() == called.peer()).for_each(|other| other.hang_up());
        all.push(Rc::clone(&called));
        drop(all);
        let inner = Rc::clone(&inner);
        tokio::task::spawn_local(async move {
            let ended = lane::run(pipe, &called, called.wake(), &inner.shared).await;
            called.lost();
            inner.called.borrow_mut().retain(|other| !Rc::ptr_eq(other, &called));
            tracing::debug!(peer = called.peer(), %ended, "a node's calls ended");
        });
    }
}

/// Ends what has outlived its time, and changes the secret of references.
async fn keep(shared: Arc<Shared>) {
    let mut rotated = shared.now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = shared.now();
        let mut vault = shared.vault();
        let expired = vault.expire(now);
        // Not before the last token that the secret before this one vouches for has expired.
        if now.saturating_sub(rotated) > HOLD_MAX && vault.rotate().is_ok() {
            rotated = now;
        }
        drop(vault);
        if expired {
            shared.tell();
        }
    }
}
