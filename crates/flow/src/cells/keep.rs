//! The life of a cell: forked, born, ready, until it ends or sleeps.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::cell::FromCell;
use baton_replica::{Cell, ExitReason, Heard};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::birth::fork;
use super::{Group, symbols};
use crate::app::App;
use crate::lifecycle::{Rests, bury, describe, pump, watch};
use crate::logs::Writer;
use crate::replica::{Phase, Replica};
use crate::scale::{Place, Unit, until_drained};

/// How long a cell may take from the order to fork it until it takes requests.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long a template may take to say how its cell ended.
const REASON_WITHIN: Duration = Duration::from_millis(100);
/// Reports of one group that are given names at the same time. Those beyond go without: each reads an executable.
const NAMING_MAX: u32 = 2;
/// Messages of a cell that are taken before others get their turn.
const MESSAGES_MAX: u32 = 64;

/// Why a cell is no more.
enum End {
    /// It died, and is to be replaced.
    Died(String),
    /// Nobody used it.
    Slept,
}

/// Keeps the cell at `place` of a group alive until the app stops, or nobody needs one there any more.
pub(crate) async fn keep_cell(app: &Rc<App>, unit: &Rc<Unit>, group: &Rc<Group>, place: &Place) {
    while wait_for_turn(app, unit, group, place).await {
        let (ordered, began) = (Instant::now(), app.node.since());
        unit.started(place.number, began);
        let end = match fork(app, group, place.number) {
            Ok((cell, replicas)) => {
                let living = Living {
                    app,
                    unit,
                    group,
                    place,
                    cell: &cell,
                    replicas: &replicas,
                    rests: Rests::default(),
                    ordered,
                };
                let end = living.live().await;
                group.forget_cell(cell.number());
                end
            }
            Err(why) => End::Died(why),
        };
        let why = match end {
            _ if app.stopping.get() => return,
            End::Slept => {
                if unit.wanted() == 0 {
                    group.prepare(app);
                }
                return;
            }
            End::Died(why) => why,
        };
        let (delay, is_looping) = unit.failed(place.number, began, app.node.since());
        for state in app.of_group(group) {
            state.restarts.set(state.restarts.get().saturating_add(1));
            state.crash_looping.set(is_looping);
        }
        let names = app.names_of(group);
        app.node.say(
            &app.name,
            "error",
            &format!("{names}: their cell {why}; forking it again in {delay:?}"),
        );
        app.node.totals.borrow_mut().replica_deaths += group.seats.len() as u64;
        app.changed.notify_waiters();
    }
}

/// Waits until a cell may be started again after others died, and the template takes forks. `false` if none is needed any more.
async fn wait_for_turn(app: &Rc<App>, unit: &Unit, group: &Group, place: &Place) -> bool {
    loop {
        if !unit.wait_to_start(app, place).await {
            return false;
        }
        let changed = app.changed.notified();
        if group.is_ready() {
            return true;
        }
        if app.stopping.get() {
            return false;
        }
        tokio::select! {
            () = changed => {}
            () = place.until_leaving() => {}
        }
    }
}

/// A cell from its fork to its end.
struct Living<'a> {
    app: &'a Rc<App>,
    unit: &'a Unit,
    group: &'a Rc<Group>,
    place: &'a Place,
    cell: &'a Rc<Cell>,
    replicas: &'a [Rc<Replica>],
    rests: Rests,
    /// When its fork began.
    ordered: Instant,
}

impl Living<'_> {
    async fn live(&self) -> End {
        for replica in self.replicas {
            if let Err(why) = crate::edges::connect(self.app, replica) {
                replica.condemn(&why);
            }
        }
        let pumps = self.pumps();
        let slept = match tokio::time::timeout(READY_WITHIN, self.come_up()).await {
            Ok(Some((control, end))) => self.serve(control, end).await,
            Ok(None) => false,
            Err(_) => {
                self.condemn("did not say that it is ready within 10 s");
                false
            }
        };
        self.see_off().await;
        pumps.iter().for_each(tokio::task::JoinHandle::abort);
        let how = self.bury();
        if slept { End::Slept } else { End::Died(how) }
    }

    /// A task a seat that takes what the replica puts on its link.
    fn pumps(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let pump = |replica: &Rc<Replica>| {
            let events = replica.peer.borrow().event_fd().try_clone_to_owned().and_then(watch);
            match events {
                Ok(events) => Some(tokio::task::spawn_local(pump(Rc::clone(replica), events))),
                Err(_) => {
                    replica.condemn("the node has no file descriptors left");
                    None
                }
            }
        };
        self.replicas.iter().filter_map(pump).collect()
    }

    /// Waits until the cell is born and takes requests. `None` if it has ended before.
    async fn come_up(&self) -> Option<(AsyncFd<OwnedFd>, AsyncFd<OwnedFd>)> {
        let told = self.ordered.elapsed();
        loop {
            let turned = self.group.turned.notified();
            if self.cell.end_fd().is_some() {
                break;
            }
            if self.cell.exit_reason().is_some() {
                return None;
            }
            turned.await;
        }
        let born = self.ordered.elapsed();
        let end = self.cell.end_fd()?.try_clone_to_owned().and_then(watch);
        let control = self.cell.control_fd().try_clone_to_owned().and_then(watch);
        let (Ok(end), Ok(control)) = (end, control) else {
            self.condemn("could not be watched: the node has no file descriptors left");
            return None;
        };
        loop {
            let ready = self.listen(&control, &end).await?;
            if ready {
                break;
            }
        }
        let ready = self.ordered.elapsed();
        tracing::debug!(app = self.app.name, cell = self.cell.number(), ?told, ?born, ?ready, "cell forked");
        for replica in self.replicas {
            replica.phase.set(Phase::Ready);
        }
        self.note_ready(born, ready);
        for &function in &self.group.seats {
            self.app.serve_queue(function);
        }
        self.app.changed.notify_waiters();
        // Those who waited get their turn first.
        tokio::task::yield_now().await;
        self.cell.give_page_map();
        Some((control, end))
    }

    /// Takes the next messages of the cell; whether one says that it is ready. `None` at its end.
    async fn listen(&self, control: &AsyncFd<OwnedFd>, end: &AsyncFd<OwnedFd>) -> Option<bool> {
        let mut ready = tokio::select! {
            // What it said before it ended still counts.
            biased;
            ready = control.readable() => ready.ok()?,
            _ = end.readable() => return None,
        };
        let mut said_ready = false;
        for _ in 0..MESSAGES_MAX {
            match self.cell.hear() {
                Ok(Heard { message: FromCell::Ready, .. }) => said_ready = true,
                Ok(heard) => {
                    self.take(&heard);
                    self.rests.after(heard.text.len()).await;
                }
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    // Harmless if it has ended; otherwise nobody would hear of its faults.
                    self.cell.kill();
                    let _ = end.readable().await;
                    return None;
                }
                Err(_) => {
                    self.condemn("said something that is no message");
                    let _ = end.readable().await;
                    return None;
                }
            }
        }
        Some(said_ready)
    }

    /// From ready to the end; whether the end is that nobody needs it any more.
    async fn serve(&self, control: AsyncFd<OwnedFd>, end: AsyncFd<OwnedFd>) -> bool {
        loop {
            // Goes on while the cell says something.
            let drained = until_drained(self.app, self.replicas, self.place);
            tokio::pin!(drained);
            let is_empty = loop {
                tokio::select! {
                    heard = self.listen(&control, &end) => if heard.is_none() { return false },
                    is_empty = &mut drained => break is_empty,
                }
            };
            if is_empty {
                self.put_to_sleep(&end).await;
                return true;
            }
        }
    }

    /// It takes requests: counts for those who waited for it.
    fn note_ready(&self, born: Duration, ready: Duration) {
        self.unit.start_took.set(ready);
        let load = self.group.take_load();
        for state in self.app.of_group(self.group) {
            state.crash_looping.set(false);
            if state.queued() > 0 {
                let mut cold = state.cold_starts.borrow_mut();
                let cold = cold.get_or_insert_default();
                if let Some(load) = load {
                    cold.load.add(load);
                }
                cold.spawn.add(born);
                cold.init.add(ready.saturating_sub(born));
            }
        }
    }

    async fn put_to_sleep(&self, end: &AsyncFd<OwnedFd>) {
        self.cell.kill();
        let _ = end.readable().await;
    }

    fn take(&self, heard: &Heard) {
        match heard.message {
            FromCell::Log { seat, .. } => {
                let Some(replica) = self.replicas.get(seat as usize) else { return };
                let function = self.app.function_name(replica.function);
                let writer = Writer { app: &self.app.name, function, holder: replica.holder };
                self.app.node.logs.borrow_mut().add_lines(writer, &heard.text);
            }
            FromCell::Fault { seat, at } => self.fault(seat as usize, at, &heard.text),
            FromCell::Roads { seat, callee } => {
                let function = |seat: u32| self.group.seats.get(seat as usize).copied();
                if let (Some(caller), Some(callee)) = (function(seat), function(callee)) {
                    crate::edges::widen(self.app, self.group, caller, callee);
                }
            }
            other => tracing::warn!(app = self.app.name, ?other, "a cell said what only templates say"),
        }
    }

    /// A function failed and was reset: it counts, and goes to its log with names as soon as they are found.
    fn fault(&self, seat: usize, at: u64, text: &[u8]) {
        let Some(replica) = self.replicas.get(seat) else { return };
        let Some(state) = self.app.functions.get(replica.function) else { return };
        state.faults.set(state.faults.get().saturating_add(1));
        let (app, function, holder) = (Rc::clone(self.app), replica.function, replica.holder);
        let text = String::from_utf8_lossy(text).into_owned();
        let group = Rc::clone(self.group);
        if group.naming.get() >= NAMING_MAX {
            let writer = Writer { app: &app.name, function: app.function_name(function), holder };
            let first = text.lines().next().unwrap_or_default();
            app.node.logs.borrow_mut().add(writer, "error", 0, first);
            return;
        }
        group.naming.set(group.naming.get() + 1);
        let (executable, host) = (state.artifact.clone(), state.host.clone());
        tokio::task::spawn_local(async move {
            let named = tokio::task::spawn_blocking({
                let text = text.clone();
                move || symbols::report(&executable, host.as_deref(), at, &text)
            });
            let report = named.await.unwrap_or(text);
            group.naming.set(group.naming.get() - 1);
            let writer = Writer { app: &app.name, function: app.function_name(function), holder };
            let mut logs = app.node.logs.borrow_mut();
            report.lines().for_each(|line| logs.add(writer, "error", 0, line));
        });
    }

    /// Kills the cell, for a reason that callers and the log get to see.
    fn condemn(&self, why: &str) {
        if let Some(first) = self.replicas.first() {
            first.condemn(why);
        }
    }

    /// Makes sure that the cell has ended and, if its template says so in time, how.
    async fn see_off(&self) {
        self.cell.kill();
        let gone = async {
            loop {
                let turned = self.group.turned.notified();
                if self.cell.exit_reason().is_some() {
                    return;
                }
                turned.await;
            }
        };
        let said = tokio::time::timeout(REASON_WITHIN, gone).await;
        if said.is_err() && self.cell.end_fd().is_none() {
            // A template that takes so long to fork is stuck.
            self.group.kill();
        }
        // Without a word of the template, only the process itself can tell: its memory must not be given away before.
        while said.is_err() && !self.cell.is_over() && self.group.is_up() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.cell.ended(ExitReason::Unknown);
    }

    /// Buries every replica of the cell. Gives the reason of its end.
    fn bury(&self) -> String {
        // Before the last looks: no call may get a place in it that an answer frees.
        for replica in self.replicas {
            replica.phase.set(Phase::Dead);
        }
        let verdict = self.replicas.iter().find_map(|replica| {
            let why = replica.verdict.borrow().clone()?;
            Some(format!("was ended because of {}: {why}", self.app.function_name(replica.function)))
        });
        let reason = self.cell.exit_reason().unwrap_or(ExitReason::Unknown);
        let how = verdict.unwrap_or_else(|| describe(reason));
        for replica in self.replicas {
            replica.verdict.borrow_mut().get_or_insert_with(|| format!("its cell {how}"));
        }
        bury(self.app, self.replicas);
        how
    }
}
