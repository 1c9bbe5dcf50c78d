//! The life of a template: started, set up, loaded, and listened to until it ends.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::cell::FromCell;
use baton_placement::Backoff;
use baton_replica::{ExitReason, Heard, Template};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::images::{find_images, forget_images, keep_image};
use super::introduce::{introduce, launch};
use super::{Group, plan, rest};
use crate::app::App;
use crate::lifecycle::{Rests, describe, listen, watch};
use crate::logs::Writer;
use crate::status::LoadStatus;

/// How long a template may take to load all functions of its group.
const LOAD_WITHIN: Duration = Duration::from_secs(10);

/// Keeps the template of a group alive until the app stops.
pub(crate) async fn keep_template(app: Rc<App>, group: Rc<Group>) {
    let begun = Instant::now();
    let mut backoff = Backoff::new();
    while !app.stopping.get() {
        backoff.started(begun.elapsed());
        let mut end = run(&app, &group).await;
        if end == End::Stale {
            drop(group.template.take());
            // Without snapshots there is none that could be refused.
            end = run(&app, &group).await;
        }
        if end == End::Rested {
            group.ready.set(false);
            drop(group.template.take());
            rest::until_wanted(&app, &group).await;
            continue;
        }
        let ended = group.template.borrow_mut().as_mut().and_then(Template::try_wait);
        group.ready.set(false);
        // Dropping it waits for its end: no cell runs any more after this.
        drop(group.template.take());
        group.orphan_cells(ended.unwrap_or(ExitReason::Unknown));
        app.changed.notify_waiters();
        if app.stopping.get() {
            return;
        }
        let now = begun.elapsed();
        let delay = backoff.failed(now);
        for state in app.of_group(&group) {
            state.crash_looping.set(backoff.crash_looping(now));
        }
        let names = app.names_of(&group);
        let why = match end {
            End::Died(why) => why,
            End::Stale | End::Rested => "their template refuses a snapshot that it was not given".to_owned(),
        };
        app.node.say(&app.name, "error", &format!("{names}: {why}; starting their cell again in {delay:?}"));
        app.pause(delay).await;
    }
}

/// Why a template is no more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It ended, or could not begin.
    Died(String),
    /// It refused a snapshot. All of its group's are forgotten.
    Stale,
    /// Nobody has needed a cell for long.
    Rested,
}

/// From the start of a template to its end.
async fn run(app: &Rc<App>, group: &Rc<Group>) -> End {
    let entries = match plan::entries(app, group) {
        Ok(entries) => entries,
        Err(why) => return End::Died(why),
    };
    let began = Instant::now();
    find_images(app, group, &entries).await;
    let fds = match begin(app, group, &entries) {
        Ok(fds) => fds,
        Err(why) => return End::Died(why),
    };
    let mut left = vec![true; group.seats.len()];
    let loaded = tokio::time::timeout(LOAD_WITHIN, load(app, group, &fds, &mut left)).await;
    let why = match loaded {
        Ok(Ok(())) => None,
        Ok(Err(End::Died(why))) => Some(why),
        Ok(Err(end)) => return end,
        Err(_) => Some(format!("their template did not load them within {LOAD_WITHIN:?}")),
    };
    if let Some(why) = why {
        // What is loaded is told in its order: the first that is missing is the one at work.
        let at_work = left.iter().position(|waits| *waits).unwrap_or_default();
        let function = group.seats.get(at_work).copied().unwrap_or_default();
        group.failure.borrow_mut().get_or_insert((function, why.clone()));
        return End::Died(why);
    }
    group.let_go_of_stored();
    if app.of_group(group).any(|state| state.queued() > 0) {
        // Someone waited for this, too.
        group.load.set(Some(began.elapsed()));
    }
    group.ready.set(true);
    if group.bounds.min == 0 {
        group.prepare(app);
    }
    app.changed.notify_waiters();
    tokio::select! {
        why = serve(app, group, &fds) => End::Died(why),
        () = rest::until_over(app, group) => End::Rested,
    }
}

/// Readable when the template speaks, and when it has ended.
struct Fds {
    rests: Rests,
    control: AsyncFd<OwnedFd>,
    end: AsyncFd<OwnedFd>,
}

/// Starts the template and tells it everything.
fn begin(app: &Rc<App>, group: &Rc<Group>, entries: &[Vec<u8>]) -> Result<Fds, String> {
    let (template, output) = launch(app, group)?;
    listen(app, format!("cells-{}", group.number), 0, output);
    introduce(app, group, &template, entries)?;
    let fds = || {
        let control = watch(template.control_fd().try_clone_to_owned()?)?;
        Ok(Fds { rests: Rests::default(), control, end: watch(template.end_fd().try_clone_to_owned()?)? })
    };
    let fds = fds().map_err(|_: std::io::Error| "the node has no file descriptors left".to_owned())?;
    group.oom_kills.set(template.oom_kills());
    *group.template.borrow_mut() = Some(template);
    Ok(fds)
}

/// Waits until every function is loaded.
async fn load(app: &Rc<App>, group: &Rc<Group>, fds: &Fds, left: &mut [bool]) -> Result<(), End> {
    while left.contains(&true) {
        let Heard { message, text, fd } = next(app, group, fds).await.map_err(End::Died)?;
        match message {
            FromCell::Loaded { index, load_ns, .. } => {
                let place = usize::try_from(index).ok().and_then(|index| left.get_mut(index));
                match place {
                    Some(waits) if *waits => *waits = false,
                    _ => {
                        return Err(End::Died("their template loaded what it was not asked for".to_owned()));
                    }
                }
                tracing::debug!(app = app.name, index, load_ns, "function loaded");
                let from_snapshot = group.images.borrow().get(index as usize).is_some_and(Option::is_some);
                if let Some(state) = app.of_group(group).nth(index as usize) {
                    state.loaded.set(Some(LoadStatus { load_ns, from_snapshot }));
                }
                if let Some(fd) = fd {
                    keep_image(app, group, index as usize, fd);
                }
            }
            FromCell::Failed { index } => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let function = group.seats.get(index as usize).copied();
                let name = function.map_or("?", |function| app.function_name(function)).to_owned();
                let had_image = group.images.borrow().get(index as usize).is_some_and(Option::is_some);
                if had_image {
                    forget_images(app, group, &name, &text);
                    return Err(End::Stale);
                }
                *group.failure.borrow_mut() = Some((function.unwrap_or_default(), text.clone()));
                return Err(End::Died(format!("{name} cannot be loaded: {text}")));
            }
            other => take(app, group, other, &text, fd),
        }
    }
    Ok(())
}

/// Listens to a template until it ends.
async fn serve(app: &Rc<App>, group: &Rc<Group>, fds: &Fds) -> String {
    loop {
        match next(app, group, fds).await {
            Ok(Heard { message, text, fd }) => take(app, group, message, &text, fd),
            Err(why) => return why,
        }
    }
}

/// What the template says next; an error is its end.
async fn next(app: &App, group: &Group, fds: &Fds) -> Result<Heard, String> {
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
                Err(error) => return Err(format!("their template cannot be heard: {error}")),
            },
            _ = fds.end.readable() => return Err(how_it_ended(group)),
            () = changed => continue,
        };
        let heard = group.template.borrow().as_ref().map_or(Err(Errno::PIPE), Template::hear);
        match heard {
            Ok(heard) => {
                fds.rests.after(heard.text.len()).await;
                return Ok(heard);
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::PIPE | Errno::CONNRESET) => {
                group.kill();
                let _ = fds.end.readable().await;
                return Err(how_it_ended(group));
            }
            Err(errno) => {
                group.kill();
                return Err(format!("their template said something that is no message ({errno})"));
            }
        }
    }
}

fn how_it_ended(group: &Group) -> String {
    let reason = group.template.borrow_mut().as_mut().and_then(Template::try_wait);
    format!("their template {}", reason.map_or_else(|| "ended".to_owned(), describe))
}

/// Acts on what a template says at any time.
fn take(app: &App, group: &Group, message: FromCell, text: &[u8], fd: Option<OwnedFd>) {
    match message {
        FromCell::Forked { cell } => {
            if let (Some(cell), Some(pidfd)) = (group.cell(cell), fd) {
                cell.born(pidfd);
            }
            group.turned.notify_waiters();
        }
        FromCell::Ended { cell, code, status } => {
            if let Some(cell) = group.cell(cell) {
                cell.ended(reason_of(group, code, status));
            }
            group.turned.notify_waiters();
        }
        FromCell::Log { seat, .. } => {
            let function = group.seats.get(seat as usize).map_or("?", |&seat| app.function_name(seat));
            app.node.logs.borrow_mut().add_lines(Writer { app: &app.name, function, holder: 0 }, text);
        }
        other => tracing::warn!(app = app.name, ?other, "a template said what only cells say"),
    }
}

/// From the words of `waitid`, and from what the kernel says of the group's memory.
fn reason_of(group: &Group, code: i32, status: i32) -> ExitReason {
    /// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`.
    const EXITED: i32 = 1;
    const KILLED: i32 = 2;
    const DUMPED: i32 = 3;
    let kills = group.template.borrow().as_ref().map_or(0, Template::oom_kills);
    let starved = kills > group.oom_kills.replace(kills);
    match code {
        EXITED => ExitReason::Exited { status },
        KILLED if starved => ExitReason::OutOfMemory,
        KILLED | DUMPED => ExitReason::Signalled { signal: status },
        _ => ExitReason::Unknown,
    }
}
