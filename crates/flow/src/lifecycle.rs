//! The life of replicas: start, ready, death, reclaim, back-off, start again.

use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_catalog::limits::START_DEFAULT;
use baton_pool::capability::{Hold, State};
use baton_pool::ledger::NOBODY;
use baton_replica::{Body, ExitReason, Output};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::app::App;
use crate::error::InvokeError;
use crate::guarded;
use crate::logs::{LINE_BYTES_MAX, Writer};
use crate::replica::{Phase, Pumped, Replica};
use crate::scale::{Place, Unit, until_drained};
use crate::start::start;
use crate::zygote;

/// How long a replica that is asked to end may take.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
/// What is read of one stream of output before the reader rests.
const LOG_BYTES_PER_REST: usize = 64 * 1024;
/// How long it rests.
const LOG_REST: Duration = Duration::from_millis(5);

/// Keeps the data plane's turns short, however much is written: whoever writes faster than this waits.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    unrested: Cell<usize>,
}

impl Rests {
    /// So many bytes were read.
    pub(crate) async fn after(&self, bytes: usize) {
        self.unrested.set(self.unrested.get() + bytes);
        if self.unrested.get() >= LOG_BYTES_PER_REST {
            self.unrested.set(0);
            tokio::time::sleep(LOG_REST).await;
        }
    }
}

/// Keeps one replica of `function` alive until the app stops, or nobody needs one there any more.
pub(crate) async fn keep_alive(app: &Rc<App>, unit: &Rc<Unit>, function: usize, place: &Place) {
    while unit.wait_to_start(app, place).await {
        let nursery = app.functions.get(function).and_then(|state| state.nursery.as_deref());
        if let Some(nursery) = nursery
            && !zygote::until_ready(app, nursery, place).await
        {
            return;
        }
        let (ordered, came_up) = (Instant::now(), Cell::new(None));
        let started = match nursery {
            Some(_) => zygote::fork(app, function, place.number).await,
            None => start(app, function, place.number).await,
        };
        let end = match started {
            Ok((replica, output)) => {
                let spawned = ordered.elapsed();
                listen(app, app.function_name(function).to_owned(), replica.holder, output);
                if let Err(why) = crate::edges::connect(app, &replica) {
                    replica.condemn(&why);
                }
                let life = Life { app, unit, place, replica: &replica, ordered, spawned, came_up: &came_up };
                life.live().await
            }
            Err(why) => Some(why),
        };
        let Some(end) = end.filter(|_| !app.stopping.get()) else { return };
        // Time that was spent on a start in vain is no run.
        let (began, now) = (came_up.get(), app.node.since());
        let (delay, is_looping) = unit.failed(place.number, began.unwrap_or(now), now);
        if let Some(state) = app.functions.get(function) {
            state.restarts.set(state.restarts.get().saturating_add(1));
            state.crash_looping.set(is_looping);
        }
        let name = app.function_name(function);
        app.node.say(&app.name, "error", &format!("{name}: {end}; starting it again in {delay:?}"));
        app.node.totals.borrow_mut().replica_deaths += 1;
        app.changed.notify_waiters();
    }
}

/// Reads what a process writes, line by line, until it is gone.
pub(crate) fn listen(app: &Rc<App>, function: String, holder: u16, output: Output) {
    for pipe in [output.stdout, output.stderr] {
        let (app, function) = (Rc::clone(app), function.clone());
        tokio::task::spawn_local(async move {
            let Ok(pipe) = watch(pipe) else { return };
            let mut line = Vec::new();
            let mut chunk = [0u8; 4096];
            let rests = Rests::default();
            while let Ok(mut ready) = pipe.readable().await {
                let read = match rustix::io::read(pipe.get_ref(), &mut chunk) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        continue;
                    }
                    Err(_) => break,
                };
                rests.after(read).await;
                let writer = Writer { app: &app.name, function: &function, holder };
                for &byte in chunk.get(..read).unwrap_or_default() {
                    if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                        app.node.logs.borrow_mut().add_raw(writer, &line);
                        line.clear();
                    }
                    if byte != b'\n' {
                        line.push(byte);
                    }
                }
            }
            if !line.is_empty() {
                let writer = Writer { app: &app.name, function: &function, holder };
                app.node.logs.borrow_mut().add_raw(writer, &line);
            }
        });
    }
}

/// A descriptor whose readiness can be awaited.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an `OwnedFd` never closes or changes its descriptor early"
)]
pub(crate) fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// A replica from the start of its process to its end.
struct Life<'a> {
    app: &'a Rc<App>,
    unit: &'a Unit,
    place: &'a Place,
    replica: &'a Rc<Replica>,
    /// When it was to be started, and how long it took until its process was there.
    ordered: Instant,
    spawned: Duration,
    /// When it was ready, if it was.
    came_up: &'a Cell<Option<Duration>>,
}

impl Life<'_> {
    /// Gives the reason of its end; none if it was not needed any more.
    async fn live(&self) -> Option<String> {
        let Life { app, replica, .. } = *self;
        let fds = {
            let peer = replica.peer.borrow();
            let clone =
                |fd: BorrowedFd<'_>| -> std::io::Result<AsyncFd<OwnedFd>> { watch(fd.try_clone_to_owned()?) };
            match peer.body() {
                Body::Process(process) => {
                    // One that was never born has nothing to be watched by.
                    let end =
                        process.end_fd().map_or_else(|| Err(std::io::ErrorKind::NotFound.into()), clone);
                    (end, clone(process.control_fd()), clone(peer.event_fd()))
                }
                // Cells are kept alive elsewhere.
                Body::Compartment(_) => return Some("it is no process".to_owned()),
            }
        };
        let (Ok(end), Ok(control), Ok(events)) = fds else {
            replica.condemn("the node has no file descriptors left");
            self.see_off().await;
            return Some(bury(app, std::slice::from_ref(replica)));
        };
        let pump = tokio::task::spawn_local(pump(Rc::clone(replica), events));
        let ear = guarded::listen(replica);
        let within = app.functions.get(replica.function).map(|state| state.spec.start_within());
        let within = within.unwrap_or(START_DEFAULT);
        let ready = tokio::time::timeout(within.duration(), wait_ready(replica, &control, &end)).await;
        match ready {
            Ok(true) => {
                replica.phase.set(Phase::Ready);
                let since = app.node.since();
                self.came_up.set(Some(since));
                self.unit.started(self.place.number, since);
                self.note_ready();
                app.serve_queue(replica.function);
                app.changed.notify_waiters();
            }
            // Harmless if it has ended; otherwise it would be neither ready nor replaced.
            Ok(false) => replica.kill(),
            Err(_) => replica.condemn(&format!(
                "it did not say that it is ready within {within}; raise start_timeout if it needs longer"
            )),
        }
        let has_left = loop {
            tokio::select! {
                // An error here means that the process cannot be watched: it is taken for ended.
                _ = end.readable() => break false,
                drained = until_drained(app, std::slice::from_ref(replica), self.place) => if drained {
                    self.end(&end).await;
                    break true;
                }
            }
        };
        pump.abort();
        ear.into_iter().for_each(|ear| ear.abort());
        self.see_off().await;
        // One that died of itself while it was drained is replaced if it is needed.
        let how = bury(app, std::slice::from_ref(replica));
        (!has_left).then_some(how)
    }

    /// What was forked is no child of the node's: its zygote says how it ended.
    async fn see_off(&self) {
        let process = match self.replica.peer.borrow().body() {
            Body::Process(process) => process.from_zygote().cloned(),
            Body::Compartment(_) => None,
        };
        let state = self.app.functions.get(self.replica.function);
        if let (Some(process), Some(nursery)) = (process, state.and_then(|state| state.nursery.as_deref())) {
            zygote::see_off(nursery, &process).await;
        }
    }

    fn note_ready(&self) {
        let Some(state) = self.app.functions.get(self.replica.function) else { return };
        state.crash_looping.set(false);
        let took = self.ordered.elapsed();
        self.unit.start_took.set(took);
        if state.queued() > 0 {
            let mut cold = state.cold_starts.borrow_mut();
            let cold = cold.get_or_insert_default();
            cold.spawn.add(self.spawned);
            cold.init.add(took.saturating_sub(self.spawned));
        }
    }

    /// Ends a replica that has nothing in its hands.
    async fn end(&self, end: &AsyncFd<OwnedFd>) {
        // One that does not read its link is killed.
        let _ = self.replica.peer.borrow_mut().ask_to_stop();
        self.replica.flush();
        if tokio::time::timeout(ENDS_WITHIN, end.readable()).await.is_err() {
            self.replica.kill();
            let _ = end.readable().await;
        }
    }
}

async fn wait_ready(replica: &Replica, control: &AsyncFd<OwnedFd>, end: &AsyncFd<OwnedFd>) -> bool {
    loop {
        let mut ready = tokio::select! {
            ready = control.readable() => match ready { Ok(ready) => ready, Err(_) => return false },
            _ = end.readable() => return false,
        };
        let said = match replica.peer.borrow().body() {
            Body::Process(process) => process.read_ready(),
            Body::Compartment(_) => return false,
        };
        match said {
            Ok(()) => return true,
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::PROTO) => {
                replica.condemn("it said something else than that it is ready");
                return false;
            }
            Err(_) => return false,
        }
    }
}

/// Takes what the replica puts on its link, whenever it rings, and after the node has woken it: see [`Replica::flush`].
pub(crate) async fn pump(replica: Rc<Replica>, events: AsyncFd<OwnedFd>) {
    loop {
        loop {
            match replica.pump() {
                Pumped::More => tokio::task::yield_now().await,
                Pumped::Empty => break,
                Pumped::Broken => return,
            }
        }
        if !replica.announce_sleep() {
            continue;
        }
        tokio::select! {
            biased;
            () = replica.look.given() => {}
            ready = poll_fn(|cx| events.poll_read_ready(cx)) => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
        }
        replica.peer.borrow().announce_awake();
    }
}

/// Settles everything that dead replicas leave: their answers, calls, edges and buffers. Those of one cell end together: of
/// several, how the last one ended.
pub(crate) fn bury(app: &Rc<App>, replicas: &[Rc<Replica>]) -> String {
    let mut how = String::new();
    for replica in replicas {
        how = settle(app, replica);
    }
    // Once for all of them, and after the last look at each link: it goes over every buffer of the pool.
    reclaim(app);
    app.node.busy.notify_one();
    app.changed.notify_waiters();
    how
}

/// Settles what a dead replica leaves, but for its buffers.
fn settle(app: &App, replica: &Rc<Replica>) -> String {
    replica.peer.borrow().kill();
    let reason = loop {
        if let Some(reason) = replica.peer.borrow_mut().try_wait() {
            break reason;
        }
        std::thread::yield_now();
    };
    // Before the last look: no call may get the place that an answer frees.
    replica.phase.set(Phase::Dead);
    // What it published before it died still counts.
    while replica.pump() == Pumped::More {}
    // Whatever it still wants from outside the node is given up.
    replica.outlets.take();
    replica.tunnels.take();
    let how = replica.verdict.take().unwrap_or_else(|| describe(reason));
    let function = app.function_name(replica.function).to_owned();
    let died = InvokeError::ReplicaDied { function, how: how.clone() };
    let wakers = replica.slots.borrow_mut().fail_all(&died);
    wakers.into_iter().for_each(std::task::Waker::wake);
    if let Some(state) = app.functions.get(replica.function) {
        for place in state.replicas.borrow_mut().iter_mut() {
            if place.as_ref().is_some_and(|up| Rc::ptr_eq(up, replica)) {
                *place = None;
            }
        }
    }
    crate::counted::keep(app, replica);
    // From now on the kernel hands nothing over to it; what it refuses of the living is told to them.
    if let Some(guard) = &app.guard {
        guard.leave(replica);
    }
    let others = app.edges.borrow_mut().close(replica.holder, app.guard.as_deref());
    for other in others.into_iter().filter_map(|holder| app.replica(holder)) {
        other.nudge();
    }
    how
}

/// Gives back what nobody alive stands behind.
fn reclaim(app: &App) {
    let up: Vec<u16> = app.replicas().iter().map(|replica| replica.holder).collect();
    app.edges.borrow_mut().forget_drained(|holder| up.contains(&holder), app.guard.as_deref());
    let edges = app.edges.borrow();
    let keeps = |hold: Hold| match hold.state {
        // The kernel has it for a moment, and names who sends it.
        State::InFlight if app.guard.is_some() => up.contains(&hold.holder),
        State::InFlight => edges.is_live(hold.holder),
        _ => up.contains(&hold.holder),
    };
    let reclaimed = app.pool.borrow_mut().reclaim(NOBODY, keeps);
    if reclaimed.buffers + reclaimed.orphaned > 0 {
        tracing::debug!(app = app.name, ?reclaimed, "buffers of dead replicas are back");
    }
}

/// Looks at closed edges again; to be called now and then while there are any.
pub(crate) fn settle_edges(app: &App) {
    let up: Vec<u16> = app.replicas().iter().map(|replica| replica.holder).collect();
    let forgot = app.edges.borrow_mut().forget_drained(|holder| up.contains(&holder), app.guard.as_deref());
    if forgot {
        reclaim(app);
    }
}

/// Lets the replicas of an app finish what they have, at most `patience`, and ends them.
pub(crate) async fn stop(app: &Rc<App>, patience: Duration) {
    let deadline = Instant::now() + patience;
    // A request that was let in is answered, even if its body is still on its way.
    let has_work = || app.in_flight() > 0 || app.queued() > 0 || app.uploads.get() > 0;
    while has_work() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.stopping.set(true);
    app.clear_queues();
    app.changed.notify_waiters();
    for replica in app.replicas() {
        replica.phase.set(Phase::Draining);
        // A replica that does not read its link is killed below.
        let _ = replica.peer.borrow_mut().ask_to_stop();
        replica.flush();
    }
    let kill_at = Instant::now() + Duration::from_millis(500).min(patience);
    while !app.replicas().is_empty() && Instant::now() < kill_at {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for replica in app.replicas() {
        replica.condemn("its app was stopped");
    }
    // What is put up holds the app.
    app.puts.borrow_mut().clear();
    // Templates end once no replica is left; one that is just loading ends without.
    app.changed.notify_waiters();
    let is_up = || !app.replicas().is_empty() || app.numbers.has_unborn();
    while is_up() || app.groups.iter().any(|group| group.is_up()) || has_zygote(app) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn has_zygote(app: &App) -> bool {
    app.functions.iter().filter_map(|state| state.nursery.as_ref()).any(|nursery| nursery.is_up())
}

pub(crate) fn describe(reason: ExitReason) -> String {
    match reason {
        ExitReason::Exited { status } => format!("exited with status {status}"),
        ExitReason::Signalled { signal: 31 } => "killed: it made a forbidden system call (SIGSYS)".to_owned(),
        ExitReason::Signalled { signal } => format!("killed by signal {signal}"),
        ExitReason::OutOfMemory => "needed more memory than its `memory` allows".to_owned(),
        ExitReason::Unknown => "ended, nobody knows how".to_owned(),
    }
}
