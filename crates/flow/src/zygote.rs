//! The zygotes of an app: one for each Python function with `snapshot = true`, from which its replicas are forked.
//!
//! ```text
//!   keep: start ─▶ import (in the function's sandbox) ─▶ ready ─── dies ─▶ its replicas end with it; back-off, again
//!                                                          │
//!                                    keep_alive, one task a place of the unit: fork, born, ready, live
//! ```
//! It stays for a while when there are no replicas, so that a request that finds none waits for a fork and no import; it ends
//! when nobody has wanted one for long, or the machine is short of memory, and comes back with the next request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_catalog::{Function, Python, Runtime};
use baton_placement::{Backoff, home_core};
use baton_replica::{ExitReason, Output, Peer, Said, Zygote, zygote};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::app::{App, FunctionState};
use crate::lifecycle::{describe, listen, watch};
use crate::programs;
use crate::replica::Replica;
use crate::scale::Unit;
use crate::start;
use crate::tunnels::{self, Plan};

/// How long a zygote may take from the order to fork until the process is there.
const BORN_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to say how a process ended.
const REASON_WITHIN: Duration = Duration::from_millis(100);
/// It stays for so many times `scale.idle` after the last replica, at least and at most so long.
const IDLES: u32 = 10;
const STAYS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Looks in that time.
const LOOKS: u32 = 8;
/// The module of the package that it runs.
const MAIN: &str = "baton._zygote";

/// What an app knows of a function's zygote.
#[derive(Default)]
pub(crate) struct Nursery {
    zygote: RefCell<Option<Zygote>>,
    is_ready: Cell<bool>,
    /// Why it did not come up.
    pub(crate) failure: RefCell<Option<String>>,
    /// What was forked from the present one, and lives.
    born: RefCell<BTreeMap<u32, Rc<baton_replica::Cell>>>,
    next: Cell<u32>,
    oom_kills: Cell<u64>,
    /// It is to end as soon as it has no replica.
    must_rest: Cell<bool>,
    /// The doors of its network stay open as long as this is kept.
    tunnels: RefCell<Option<Box<dyn core::any::Any>>>,
    /// Told when a process is born or has ended, and when the zygote itself came or went.
    turned: Notify,
}

/// Whether replicas of a function are forked.
pub(crate) fn python(function: &Function) -> Option<&Python> {
    match &function.runtime {
        Runtime::Python(python) if python.snapshot => Some(python),
        _ => None,
    }
}

impl Nursery {
    /// For functions that have one.
    pub(crate) fn of(function: &Function) -> Option<Rc<Nursery>> {
        python(function).map(|_| Rc::default())
    }

    /// Whether replicas can be forked.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    /// Whether there is one, ready or not.
    pub(crate) fn is_up(&self) -> bool {
        self.zygote.borrow().is_some()
    }

    /// Has it end if it has nothing to do.
    pub(crate) fn relieve(&self) {
        self.must_rest.set(true);
        self.turned.notify_waiters();
    }

    fn kill(&self) {
        if let Some(zygote) = self.zygote.borrow().as_ref() {
            zygote.kill();
        }
    }

    /// It is gone, and all that was forked from it.
    fn orphan(&self, reason: ExitReason) {
        for process in std::mem::take(&mut *self.born.borrow_mut()).into_values() {
            process.ended(reason);
        }
        self.turned.notify_waiters();
    }

    /// From the words of `waitid`, and from what the kernel says of the group's memory.
    fn reason_of(&self, code: i32, status: i32) -> ExitReason {
        /// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`.
        const EXITED: i32 = 1;
        const KILLED: i32 = 2;
        const DUMPED: i32 = 3;
        let kills = self.zygote.borrow().as_ref().map_or(0, Zygote::oom_kills);
        let starved = kills > self.oom_kills.replace(kills);
        match code {
            EXITED => ExitReason::Exited { status },
            KILLED if starved => ExitReason::OutOfMemory,
            KILLED | DUMPED => ExitReason::Signalled { signal: status },
            _ => ExitReason::Unknown,
        }
    }
}

/// Keeps a function's zygote alive until the app stops.
pub(crate) async fn keep(app: Rc<App>, function: usize) {
    let Some(state) = app.functions.get(function) else { return };
    let Some(nursery) = state.nursery.clone() else { return };
    let begun = Instant::now();
    let mut backoff = Backoff::new();
    while !app.stopping.get() {
        let end = match come_up(&app, state, &nursery).await {
            Ok(fds) => {
                // Time that was spent on the import in vain is no run.
                backoff.started(begun.elapsed());
                stay(&app, state, &nursery, &fds).await
            }
            Err(why) => Err(why),
        };
        nursery.is_ready.set(false);
        let ended = nursery.zygote.borrow_mut().as_mut().and_then(Zygote::try_wait);
        // Dropping it waits for its end: nothing that it forked runs any more after this.
        drop(nursery.zygote.take());
        drop(nursery.tunnels.take());
        nursery.orphan(ended.unwrap_or(ExitReason::Unknown));
        app.changed.notify_waiters();
        if app.stopping.get() {
            return;
        }
        let Err(why) = end else {
            until_wanted(&app, state).await;
            continue;
        };
        let now = begun.elapsed();
        let delay = backoff.failed(now);
        state.crash_looping.set(backoff.crash_looping(now));
        let name = &state.name;
        app.node.say(&app.name, "error", &format!("{name}: {why}; importing it again in {delay:?}"));
        app.pause(delay).await;
    }
}

/// Starts a zygote, and waits until its module is imported.
async fn come_up(app: &Rc<App>, state: &FunctionState, nursery: &Nursery) -> Result<Fds, String> {
    let fail = |why: String| {
        nursery.failure.borrow_mut().get_or_insert_with(|| why.clone());
        Err(why)
    };
    let fds = match begin(app, state, nursery) {
        Ok(fds) => fds,
        Err(why) => return fail(why),
    };
    let within = state.spec.start_within();
    match tokio::time::timeout(within.duration(), next(app, nursery, &fds)).await {
        Ok(Ok(Said::Loaded)) => {}
        Ok(Ok(Said::Failed(why)) | Err(why)) => return fail(why),
        Ok(Ok(_)) => {
            return fail("its zygote said something else than that its module is imported".to_owned());
        }
        Err(_) => {
            return fail(format!(
                "its module was not imported within {within}: raise start_timeout, import less, or do the work at the first request"
            ));
        }
    }
    nursery.failure.take();
    nursery.must_rest.set(false);
    nursery.is_ready.set(true);
    app.changed.notify_waiters();
    Ok(fds)
}

/// Has a zygote do its work to its end: `Ok` if nobody needs it.
async fn stay(app: &Rc<App>, state: &FunctionState, nursery: &Nursery, fds: &Fds) -> Result<(), String> {
    tokio::select! {
        why = serve(app, nursery, fds) => Err(why),
        () = until_over(app, state, nursery) => Ok(()),
    }
}

/// Readable when the zygote speaks, and when it has ended.
struct Fds {
    control: AsyncFd<OwnedFd>,
    end: AsyncFd<OwnedFd>,
}

fn begin(app: &Rc<App>, state: &FunctionState, nursery: &Nursery) -> Result<Fds, String> {
    let python = python(&state.spec).ok_or("it is no Python function with a snapshot")?;
    let program = programs::of_python(app, state, python, MAIN)?.copied(state.spec.scale.max + 1);
    let plan = Plan::for_programs(&state.spec);
    let name = format!("{}-{}-zygote", app.name, state.name);
    let spec = start::spec(app, state, program, app.node.options.cores.clone(), name)?;
    let (zygote, output) = zygote::start(spec).map_err(|error| error.to_string())?;
    listen(app, state.name.to_string(), 0, output);
    let fds = || {
        let control = watch(zygote.control_fd().try_clone_to_owned()?)?;
        Ok(Fds { control, end: watch(zygote.end_fd().try_clone_to_owned()?)? })
    };
    let fds = fds().map_err(|_: std::io::Error| "the node has no file descriptors left".to_owned())?;
    let number = app.functions.iter().position(|other| std::ptr::eq(other, state)).unwrap_or_default();
    *nursery.tunnels.borrow_mut() = tunnels::open(app, number, &plan, zygote.take_doors());
    nursery.oom_kills.set(zygote.oom_kills());
    *nursery.zygote.borrow_mut() = Some(zygote);
    Ok(fds)
}

/// Listens to a zygote until it ends.
async fn serve(app: &Rc<App>, nursery: &Nursery, fds: &Fds) -> String {
    loop {
        match next(app, nursery, fds).await {
            Ok(Said::Forked { number, pidfd }) => {
                if let Some(process) = nursery.born.borrow().get(&number) {
                    process.born(pidfd);
                }
                nursery.turned.notify_waiters();
            }
            Ok(Said::Ended { number, code, status }) => {
                let process = nursery.born.borrow_mut().remove(&number);
                if let Some(process) = process {
                    process.ended(nursery.reason_of(code, status));
                }
                nursery.turned.notify_waiters();
            }
            Ok(Said::Failed(why)) => {
                nursery.kill();
                return why;
            }
            Ok(Said::Loaded) => {}
            Err(why) => return why,
        }
    }
}

/// What the zygote says next; an error is its end.
async fn next(app: &App, nursery: &Nursery, fds: &Fds) -> Result<Said, String> {
    loop {
        let changed = app.changed.notified();
        if app.stopping.get() && app.replicas().is_empty() {
            return Err("its app was stopped".to_owned());
        }
        let mut ready = tokio::select! {
            // What it said before it ended still counts.
            biased;
            ready = fds.control.readable() => match ready {
                Ok(ready) => ready,
                Err(error) => return Err(format!("its zygote cannot be heard: {error}")),
            },
            _ = fds.end.readable() => return Err(how_it_ended(nursery)),
            () = changed => continue,
        };
        let heard = nursery.zygote.borrow().as_ref().map_or(Err(Errno::PIPE), Zygote::hear);
        match heard {
            Ok(said) => return Ok(said),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::PIPE | Errno::CONNRESET) => {
                nursery.kill();
                let _ = fds.end.readable().await;
                return Err(how_it_ended(nursery));
            }
            Err(errno) => {
                nursery.kill();
                return Err(format!("its zygote said something that is no message ({errno})"));
            }
        }
    }
}

fn how_it_ended(nursery: &Nursery) -> String {
    let reason = nursery.zygote.borrow_mut().as_mut().and_then(Zygote::try_wait);
    format!("its zygote {}", reason.map_or_else(|| "ended".to_owned(), describe))
}

/// Waits until a zygote takes forks, or the place is not needed any more: `false`.
pub(crate) async fn until_ready(app: &App, nursery: &Nursery, place: &crate::scale::Place) -> bool {
    loop {
        let changed = app.changed.notified();
        if nursery.is_ready() {
            return true;
        }
        if app.stopping.get() || place.is_leaving() {
            return false;
        }
        tokio::select! {
            () = changed => {}
            () = place.until_leaving() => {}
        }
    }
}

/// Forks the replica at `place`, and waits until its process is there.
pub(crate) async fn fork(
    app: &Rc<App>,
    function: usize,
    place: usize,
) -> Result<(Rc<Replica>, Output), String> {
    let state = app.functions.get(function).ok_or("no such function")?;
    let nursery = state.nursery.clone().ok_or("it has no zygote")?;
    let mut process = None;
    let cores = match app.node.options.cores.as_slice() {
        [] => start::all_cores(),
        some => some.to_vec(),
    };
    let core = u32::try_from(home_core(app.index, place, &cores)).unwrap_or_default();
    let made = start::replica(app, function, place, |hello, mappings| -> Result<(Peer, Output), String> {
        let zygote = nursery.zygote.borrow();
        let zygote = zygote.as_ref().ok_or("its zygote has just ended")?;
        let number = nursery.next.get();
        nursery.next.set(number.wrapping_add(1));
        let forked = zygote.fork((number, core), hello, mappings);
        let (forked, peer, output) = forked.map_err(|error| error.to_string())?;
        nursery.born.borrow_mut().insert(number, Rc::clone(&forked));
        process = Some(forked);
        Ok((peer, output))
    })?;
    let Some(process) = process else { return Ok(made) };
    let born = async {
        loop {
            let turned = nursery.turned.notified();
            if process.end_fd().is_some() || process.exit_reason().is_some() {
                return;
            }
            turned.await;
        }
    };
    if tokio::time::timeout(BORN_WITHIN, born).await.is_err() {
        made.0.condemn("its zygote did not fork it within 5 s");
        // One that takes so long is stuck.
        nursery.kill();
    }
    Ok(made)
}

/// Makes sure that a replica that was forked has ended and, if its zygote says so in time, how.
pub(crate) async fn see_off(nursery: &Nursery, process: &baton_replica::Cell) {
    process.kill();
    let gone = async {
        loop {
            let turned = nursery.turned.notified();
            if process.exit_reason().is_some() {
                return;
            }
            turned.await;
        }
    };
    let said = tokio::time::timeout(REASON_WITHIN, gone).await;
    // Without a word of the zygote, only the process itself can tell: its memory must not be given away before. What it said to be
    // the process may be another one: a process that does not end when it is killed takes its zygote along.
    let deadline = Instant::now() + BORN_WITHIN;
    while said.is_err() && !process.is_over() && nursery.is_up() {
        if Instant::now() > deadline {
            nursery.kill();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    nursery.born.borrow_mut().remove(&process.number());
    process.ended(ExitReason::Unknown);
}

fn unit_of(app: &App, state: &FunctionState) -> Option<Rc<Unit>> {
    app.units.get(state.unit?).cloned()
}

/// Waits until nobody has wanted a replica for long, or it is to rest and has none.
async fn until_over(app: &Rc<App>, state: &FunctionState, nursery: &Nursery) {
    let Some(unit) = unit_of(app, state) else { return std::future::pending().await };
    let (least, most) = STAYS;
    let stays = unit.bounds().idle.saturating_mul(IDLES).clamp(least, most);
    let mut used = Instant::now();
    while used.elapsed() < stays {
        let turned = nursery.turned.notified();
        let _ = tokio::time::timeout(stays / LOOKS, turned).await;
        if unit.wanted() > 0 || !unit.kept().is_empty() {
            used = Instant::now();
            nursery.must_rest.set(false);
        } else if nursery.must_rest.take() {
            return;
        }
    }
}

/// Waits until someone wants a replica, or the app stops.
async fn until_wanted(app: &Rc<App>, state: &FunctionState) {
    let Some(unit) = unit_of(app, state) else { return };
    loop {
        let changed = app.changed.notified();
        if app.stopping.get() || unit.wanted() > 0 || !unit.kept().is_empty() {
            return;
        }
        changed.await;
    }
}
