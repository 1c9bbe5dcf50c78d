//! The kernel as the go-between of an app's processes (`wake = "ebpf"`): its part of an app, and what it refuses.
//!
//! ```text
//!  caller ──packet──▶ program: may it? ─yes─▶ moves the capability, callee's socket
//!                        │ no
//!                        └──▶ the node's end of the caller's socket ──▶ listen: judge, count, Op::Refused to the caller
//! ```
//! A refusal is a lie, or comes of two things that happened at once: a callee that died, a capability that was revoked, a queue
//! that is full. Lies count as bad descriptors of a link do.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::packet::{EDGES_MAX, Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Flags, Kind, NONE};
use baton_catalog::Manifest;
use baton_kernel::{Plane, Seat as Who, Setup};
use baton_pool::capability::{Handle, Hold, Scribe, State};
use baton_pool::pool::Pool;
use baton_replica::{Guarded, Waker};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::counted::ByKernel;
use crate::error::DeployError;
use crate::hosting::Hosting;
use crate::lifecycle::watch;
use crate::replica::{Phase, Replica};
use crate::wake::{self, Choice};

/// Refused packets that are looked at before others get their turn, and before the sender has to wait.
const ROUND: usize = 64;
/// How long it waits then. What it sends meanwhile fills its socket, and holds up nobody else.
const REST: Duration = Duration::from_millis(2);
/// How long the rest of a packet may take.
const REST_OF_PACKET: Duration = Duration::from_millis(100);

/// How long a replica may leave unread what it is told of refusals.
const READS_WITHIN: Duration = Duration::from_secs(5);

/// The peer is gone, or on its way out.
const STATUS_GONE: u16 = 503;
/// More is out than may be, or the receiver does not read.
const STATUS_CROWDED: u16 = 429;
/// It was not the sender's to hand over.
const STATUS_DENIED: u16 = 403;

/// The kernel's part of an app.
pub(crate) struct Guard {
    plane: RefCell<Plane>,
}

/// A replica's place in it, until its process has it.
pub(crate) struct Seat {
    guard: Rc<Guard>,
    who: Who,
    replica: OwnedFd,
    node: Option<OwnedFd>,
}

/// Makes the pool of an app, and the kernel's part if it shall have one.
pub(crate) async fn begin(
    manifest: &Manifest,
    hosting: &[Hosting],
) -> Result<((Choice, Option<Rc<Guard>>), Pool), DeployError> {
    let (name, pool) = (manifest.app.name.as_str(), &manifest.pool);
    let (bytes, huge_pages) = (pool.size.bytes(), pool.huge_pages);
    let no_pool = |why: String| DeployError::Pool { why };
    let mut choice = wake::choose(manifest, hosting);
    if let Choice::Kernel { .. } = choice {
        // It takes as long as some hundred requests.
        let loaded = tokio::task::spawn_blocking(move || load(bytes, huge_pages)).await;
        match loaded.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((plane, table, pen)) => {
                match Pool::create_guarded(name, bytes, huge_pages, table, Box::new(pen)) {
                    Ok(pool) => {
                        let guard = Guard { plane: RefCell::new(plane) };
                        return Ok(((choice, Some(Rc::new(guard))), pool));
                    }
                    Err(error) => choice = Choice::without_kernel(manifest, &error.to_string()),
                }
            }
            Err(refusal) => choice = Choice::without_kernel(manifest, &refusal),
        }
    }
    let pool = Pool::create(name, bytes, huge_pages).map_err(|error| no_pool(error.to_string()))?;
    Ok(((choice, None), pool))
}

fn load(bytes: u64, huge_pages: bool) -> Result<(Plane, OwnedFd, Pen), String> {
    wake::kernel()?;
    let slots = Pool::entries_for(bytes, huge_pages) - REPLICAS_MAX * DERIVED_MAX;
    let setup = Setup { slots, arenas: REPLICAS_MAX, edges: u32::from(EDGES_MAX) };
    let plane = Plane::load(setup).map_err(|error| error.to_string())?;
    let table = plane.table_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let pen = Pen(plane.scribe());
    Ok((plane, table, pen))
}

/// How the node writes the capability table, which no process can.
#[derive(Debug)]
struct Pen(baton_kernel::Scribe);

impl Scribe for Pen {
    fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool {
        self.0.write(index, was, now, is_whole)
    }

    fn write_all(&self, entries: &[(u32, u64, [u64; 8])]) -> usize {
        self.0.write_all(entries)
    }
}

impl Guard {
    /// Makes the socket of a replica, and makes the kernel know it.
    pub(crate) fn join(self: &Rc<Self>, holder: u16, arena: u32) -> Result<Seat, String> {
        let who = who(holder, arena);
        let ends = self.plane.borrow_mut().join(who).map_err(|error| error.to_string())?;
        Ok(Seat { guard: Rc::clone(self), who, replica: ends.replica, node: Some(ends.node) })
    }

    /// From now on nothing is handed over to a replica or by it.
    pub(crate) fn leave(&self, replica: &Replica) {
        self.forget(who(replica.holder, replica.arena));
    }

    fn forget(&self, who: Who) {
        if let Err(error) = self.plane.borrow_mut().leave(who.arena) {
            tracing::error!(%error, holder = who.holder, "the kernel keeps a replica that is gone");
        }
    }

    /// The capability table as replicas get it.
    pub(crate) fn table(&self) -> Result<OwnedFd, String> {
        self.plane.borrow().table_read_only().map_err(|error| format!("the capability table: {error}"))
    }

    /// From now on `caller` may call `callee` over an edge.
    pub(crate) fn open(&self, edge: u16, caller: &Replica, callee: &Replica) -> Result<(), String> {
        let end = |replica: &Replica| who(replica.holder, replica.arena);
        self.plane.borrow_mut().open_edge(edge, end(caller), end(callee)).map_err(|error| error.to_string())
    }

    /// From now on nothing is handed over on an edge.
    pub(crate) fn close(&self, edge: u16) {
        if let Err(error) = self.plane.borrow_mut().close_edge(edge) {
            tracing::error!(%error, edge, "the kernel keeps an edge open");
        }
    }

    /// What was refused of its replicas so far, by the cause.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let refusals = self.plane.borrow().refusals().map(Vec::from).unwrap_or_default();
        let counted = refusals.into_iter().filter(|(_, count)| *count > 0);
        counted.map(|(cause, count)| (cause.word(), count)).collect()
    }

    /// What was handed over on an edge since it was opened, and what was not.
    pub(crate) fn counts(&self, edge: u16) -> ByKernel {
        let counts = self.plane.borrow().edge_counts(edge).unwrap_or_default();
        ByKernel { calls: counts.calls, bytes: counts.bytes, refusals: counts.refusals }
    }
}

impl Seat {
    /// What its replica is given.
    pub(crate) fn mapped(&self) -> Guarded<'_> {
        let (guard, arena) = (Rc::clone(&self.guard), self.who.arena);
        // A replica that it does not reach is gone.
        let waker = Waker::new(move || drop(guard.plane.borrow().wake(arena)));
        Guarded { socket: self.replica.as_fd(), waker }
    }

    /// The replica is there: the node's end of its socket.
    pub(crate) fn keep(mut self) -> Option<OwnedFd> {
        self.node.take()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.node.is_some() {
            self.guard.forget(self.who);
        }
    }
}

fn who(holder: u16, arena: u32) -> Who {
    // There are fewer ranges than replicas may be.
    Who { holder, arena: u16::try_from(arena).unwrap_or(u16::MAX) }
}

impl App {
    /// Says in the app's log who hands over, where that was a question.
    pub(crate) fn tell_wake(&self) {
        match &self.wake {
            Choice::Kernel { why } => {
                self.node.say(&self.name, "info", &format!("its processes hand over by the kernel: {why}"));
            }
            Choice::Rings { why, refused: true, asked } => {
                let level = if *asked { "warn" } else { "info" };
                tracing::warn!(app = self.name, why, "wake = \"ebpf\" cannot be had");
                self.node.say(&self.name, level, &format!("its processes hand over by rings: {why}"));
            }
            Choice::Rings { .. } => {}
        }
    }
}

/// Listens to what the kernel refuses of a replica's, until the task is aborted.
pub(crate) fn listen(replica: &Rc<Replica>) -> Option<JoinHandle<()>> {
    let socket = replica.socket.take()?;
    let Ok(socket) = watch(socket) else {
        replica.condemn("the node has no file descriptors left");
        return None;
    };
    Some(tokio::task::spawn_local(hear(Rc::clone(replica), socket)))
}

/// Bytes that were refused, and are not looked at yet.
struct Heard {
    bytes: [u8; ROUND * PACKET_BYTES],
    len: usize,
}

async fn hear(replica: Rc<Replica>, socket: AsyncFd<OwnedFd>) {
    let mut heard = Heard { bytes: [0; ROUND * PACKET_BYTES], len: 0 };
    loop {
        let ready = match heard.len {
            0 => socket.readable().await,
            // The rest of what was split comes at once, or is not there.
            _ => match tokio::time::timeout(REST_OF_PACKET, socket.readable()).await {
                Ok(ready) => ready,
                Err(_) => return replica.silence("it wrote what is no packet"),
            },
        };
        let Ok(mut ready) = ready else { return };
        let space = heard.bytes.get_mut(heard.len..).unwrap_or_default();
        match rustix::net::recv(socket.get_ref(), space, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return replica.silence("it closed its socket"),
            Ok((read, _)) => heard.len += read,
            Err(Errno::AGAIN) => {
                ready.clear_ready();
                continue;
            }
            Err(Errno::INTR) => continue,
            // Its process is gone, or did to its socket what none may.
            Err(_) => return replica.silence("its socket broke"),
        }
        let Some(app) = replica.app.upgrade() else { return };
        for packet in heard.packets() {
            let judged = judge(&replica, &app, &packet);
            if let Some(status) = judged.answer {
                tell(&replica, &app, &packet, status).await;
            }
            replica.judge(&app, judged.is_honest);
            if replica.is_silenced() || replica.phase.get() == Phase::Dead {
                return;
            }
        }
        drop(app);
        // Whoever is refused without end waits.
        tokio::time::sleep(REST).await;
    }
}

impl Heard {
    /// Takes the whole packets out.
    fn packets(&mut self) -> Vec<Packet> {
        let whole = self.len - self.len % PACKET_BYTES;
        let packets = self.bytes.get(..whole).unwrap_or_default().as_chunks::<PACKET_BYTES>().0;
        let read = packets.iter().map(Packet::from_bytes).collect();
        self.bytes.copy_within(whole..self.len, 0);
        self.len -= whole;
        read
    }
}

/// What a refusal comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judged {
    is_honest: bool,
    /// The status that its sender gets to hear, where one waits.
    answer: Option<u16>,
}

impl Judged {
    const RACE: Judged = Judged { is_honest: true, answer: None };
    const LIE: Judged = Judged { is_honest: false, answer: None };

    fn with(self, status: u16) -> Judged {
        Judged { answer: Some(status), ..self }
    }
}

/// Why the kernel refused a packet.
fn judge(replica: &Replica, app: &App, packet: &Packet) -> Judged {
    let own = packet.descriptor.body;
    let object = Handle { index: own.handle, generation: own.generation };
    match Op::from_u8(packet.op) {
        Some(Op::Send) => judge_sent(replica, app, packet),
        // Whoever does not get its own is awake.
        Some(Op::Wake) => Judged::RACE,
        Some(Op::Revoke | Op::Restrict | Op::Release | Op::Derive) => {
            match stands(app, object, replica.holder) {
                Standing::Over => Judged::RACE,
                Standing::Own | Standing::Foreign => Judged::LIE,
            }
        }
        Some(Op::NodeWake | Op::Refused) | None => Judged::LIE,
    }
}

fn judge_sent(replica: &Replica, app: &App, packet: &Packet) -> Judged {
    let d = &packet.descriptor;
    let Some((is_open, is_caller)) = app.edges.borrow().guarded(packet.edge, replica.holder) else {
        return Judged::LIE.with(STATUS_DENIED);
    };
    let is_its_to_say = match Kind::from_u8(d.kind) {
        Some(Kind::Request | Kind::Cancel) => is_caller,
        Some(Kind::Reply) => !is_caller,
        _ => return Judged::LIE,
    };
    if !is_its_to_say {
        return Judged::LIE;
    }
    if !is_open {
        return Judged::RACE.with(STATUS_GONE);
    }
    let body = (d.body.handle != NONE).then_some((d.body.handle, d.body.generation));
    let head = (d.head.handle != NONE && d.head.handle != d.body.handle)
        .then_some((d.head.handle, d.head.generation));
    for (index, generation) in body.into_iter().chain(head) {
        match stands(app, Handle { index, generation }, replica.holder) {
            Standing::Own => {}
            Standing::Over => return Judged::RACE.with(STATUS_DENIED),
            Standing::Foreign => return Judged::LIE.with(STATUS_DENIED),
        }
    }
    let body_fits = body.is_none() || app.pool.borrow().fits(d.body);
    if !body_fits {
        return Judged::LIE.with(STATUS_DENIED);
    }
    // It may be what it seems: the receiver reads too little, or the sender says too much.
    Judged::RACE.with(STATUS_CROWDED)
}

/// Whose a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The sender's.
    Own,
    /// Nobody's any more, which its holder may not know yet.
    Over,
    /// Never the sender's to use.
    Foreign,
}

fn stands(app: &App, handle: Handle, holder: u16) -> Standing {
    let pool = app.pool.borrow();
    match pool.hold_of(handle) {
        Some(Hold { state: State::Held | State::Stashed | State::InFlight, holder: has })
            if has == holder =>
        {
            Standing::Own
        }
        // A root is its holder's until that gives it away.
        _ if handle.index < pool.slots() => Standing::Foreign,
        Some(Hold { state, .. }) if state.is_live() => Standing::Foreign,
        // Revoked, given up, or used again since.
        _ if u64::from(handle.index) < u64::from(pool.slots()) + u64::from(REPLICAS_MAX * DERIVED_MAX) => {
            Standing::Over
        }
        _ => Standing::Foreign,
    }
}

/// Tells the sender of a request, answer or cancel that it was refused.
async fn tell(replica: &Replica, app: &App, packet: &Packet, status: u16) {
    let Some(guard) = &app.guard else { return };
    let said = packet.descriptor;
    let descriptor = Descriptor {
        kind: Kind::Reply as u8,
        flags: said.flags.with(Flags::ERROR.with(Flags::REFUSED)),
        code: status,
        ..said
    };
    let refused = Packet { rights: said.kind, edge: packet.edge, ..Packet::new(Op::Refused, descriptor) };
    let arena = who(replica.holder, replica.arena).arena;
    // Its socket is full as long as it does not read: nothing more of what it sends is looked at until it has.
    let until = Instant::now() + READS_WITHIN;
    while replica.phase.get() != Phase::Dead && guard.plane.borrow().refuse(arena, &refused).is_err() {
        if Instant::now() > until {
            return replica.silence("it does not read its socket");
        }
        tokio::time::sleep(REST).await;
    }
}
