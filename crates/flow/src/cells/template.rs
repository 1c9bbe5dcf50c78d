//! The life of a template: started, set up, loaded, and listened to until it ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::ABI_VERSION;
use baton_abi::boot::PoolAccess;
use baton_abi::cell::{FromCell, Setup, Trust};
use baton_placement::Backoff;
use baton_pool::region::{self, Access, Mapping};
use baton_replica::{
    ExitReason, Heard, Limits, Mappings, NetworkAccess, Output, Role, SpawnSpec, Template, probe, template,
};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::{Group, plan};
use crate::app::App;
use crate::lifecycle::{describe, listen, watch};
use crate::logs::Writer;
use crate::snapshots::{Image, Origin, SnapshotKey};
use crate::start::{MAPPINGS_SLACK, TABLES_BYTES, milli_to_cores};

/// How long a template may take to load all functions of its group.
const LOAD_WITHIN: Duration = Duration::from_secs(10);
/// Private memory of one seat beside the function's own: its mail, its stack, what the runtime keeps of it.
const SEAT_SLACK: u64 = 64 << 20;
/// Private memory of the runtime itself.
const CELL_SLACK: u64 = 256 << 20;
/// Descriptors that a template or a cell may have open: its own few, those of a fork, two for each edge on its way.
const FILES_MAX: u32 = 1024;

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
            End::Stale => "their template refuses a snapshot that it was not given".to_owned(),
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
}

/// From the start of a template to its end.
async fn run(app: &Rc<App>, group: &Rc<Group>) -> End {
    let entries = match plan::entries(app, group) {
        Ok(entries) => entries,
        Err(why) => return End::Died(why),
    };
    find_images(app, group, &entries).await;
    let fds = match begin(app, group, &entries) {
        Ok(fds) => fds,
        Err(why) => return End::Died(why),
    };
    let mut left = vec![true; group.seats.len()];
    let loaded = tokio::time::timeout(LOAD_WITHIN, load(app, group, &fds, &mut left)).await;
    let why = match loaded {
        Ok(Ok(())) => None,
        Ok(Err(End::Stale)) => return End::Stale,
        Ok(Err(End::Died(why))) => Some(why),
        Err(_) => Some(format!("their template did not load them within {LOAD_WITHIN:?}")),
    };
    if let Some(why) = why {
        // What is loaded is told in its order: the first that is missing is the one at work.
        let at_work = left.iter().position(|waits| *waits).unwrap_or_default();
        let function = group.seats.get(at_work).copied().unwrap_or_default();
        group.failure.borrow_mut().get_or_insert((function, why.clone()));
        return End::Died(why);
    }
    group.ready.set(true);
    app.changed.notify_waiters();
    End::Died(serve(app, group, &fds).await)
}

/// Readable when the template speaks, and when it has ended.
struct Fds {
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
        Ok(Fds { control, end: watch(template.end_fd().try_clone_to_owned()?)? })
    };
    let fds = fds().map_err(|_: std::io::Error| "the node has no file descriptors left".to_owned())?;
    *group.template.borrow_mut() = Some(template);
    Ok(fds)
}

fn launch(app: &App, group: &Group) -> Result<(Template, Output), String> {
    let program =
        File::open(&group.program).map_err(|error| format!("{}: {error}", group.program.display()))?;
    let options = &app.node.options;
    let states = || app.of_group(group);
    let private: u64 = states().map(|state| state.spec.memory.bytes().saturating_add(SEAT_SLACK)).sum();
    let shared = app.pool.borrow().bytes().saturating_add(TABLES_BYTES + MAPPINGS_SLACK);
    let places = u32::try_from(group.places()).unwrap_or(u32::MAX);
    let cores = states().map(|state| state.spec.cpu.map(|cores| milli_to_cores(cores.milli())));
    // Bounded only if every function is: the time of one that is not bounded is not the others' to use up.
    let cpu: Option<f32> = cores.sum();
    let limits = Limits {
        memory_bytes: private.saturating_add(CELL_SLACK),
        mapped_bytes: shared,
        cpu: cpu.map(|cores| cores * f32::from(u16::try_from(places).unwrap_or(u16::MAX))),
        // The template, its cells, and as many that are just ending.
        processes: places.saturating_mul(2).saturating_add(2),
        files: FILES_MAX,
    };
    let spec = |control, stdout, stderr| SpawnSpec {
        program: program.into(),
        args: vec![c"baton-cell".to_owned()],
        role: Role::Template,
        env: template::environment(),
        control,
        stdout,
        stderr,
        limits,
        network: NetworkAccess::None,
        cores: options.cores.clone(),
        name: format!("{}-cells-{}", app.name, group.number),
        insecure_no_sandbox: options.insecure_no_sandbox,
    };
    template::start(spec).map_err(|error| error.to_string())
}

/// Gives the template its mappings, its plan and its functions.
fn introduce(app: &App, group: &Group, template: &Template, entries: &[Vec<u8>]) -> Result<(), String> {
    let said = |errno: Errno| format!("the template of {} does not listen: {errno}", app.names_of(group));
    let plan: Vec<u8> = entries.concat();
    let plan_fd = memory_file("baton-plan", &plan).map_err(|error| error.to_string())?;
    let pool = app.pool.borrow();
    let read_only = |fd| region::read_only(fd).map_err(|error| error.to_string());
    let access = pool_access(app, group);
    let reader = if access == PoolAccess::Read { Some(read_only(pool.fd())?) } else { None };
    let ledger = read_only(pool.ledger_fd())?;
    let mappings = Mappings {
        pool: match access {
            PoolAccess::Absent => None,
            PoolAccess::Read => reader.as_ref().map(AsFd::as_fd),
            PoolAccess::Write => Some(pool.fd()),
        },
        ledger: ledger.as_fd(),
        table: pool.table_fd(),
    };
    let setup = setup(app, group, plan.len());
    template.set_up(&setup, plan_fd.as_fd(), &mappings).map_err(said)?;
    let images = group.images.borrow();
    for (seat, state) in app.of_group(group).enumerate() {
        let shown = |error: std::io::Error| format!("{}: {error}", state.artifact.display());
        let elf = File::open(&state.artifact).map_err(shown)?;
        let bytes = elf.metadata().map_err(shown)?.len();
        let image = images.get(seat).and_then(Option::as_ref).map(Image::fd);
        template.load(u32::try_from(seat).unwrap_or(u32::MAX), elf.as_fd(), bytes, image).map_err(said)?;
    }
    Ok(())
}

/// What the most trusted function of the group may do; the runtime holds each to its own right.
fn pool_access(app: &App, group: &Group) -> PoolAccess {
    let accesses = app.of_group(group).map(|state| plan::access(state.spec.pool));
    accesses.max_by_key(|access| *access as u32).unwrap_or(PoolAccess::Absent)
}

fn setup(app: &App, group: &Group, plan_bytes: usize) -> Setup {
    let pool = app.pool.borrow();
    let may_map = pool_access(app, group) != PoolAccess::Absent;
    Setup {
        abi_version: ABI_VERSION,
        trust: match app.trust {
            baton_catalog::Trust::App => Trust::App,
            baton_catalog::Trust::Buffer => Trust::Buffer,
        },
        pool_bytes: if may_map { pool.bytes() } else { 0 },
        slots: pool.slots(),
        functions: u32::try_from(group.seats.len()).unwrap_or(u32::MAX),
        plan_bytes: u32::try_from(plan_bytes).unwrap_or(u32::MAX),
        trace: false,
    }
}

fn memory_file(name: &str, bytes: &[u8]) -> Result<OwnedFd, region::RegionError> {
    let fd = region::create(name, (bytes.len() as u64).max(1), false)?;
    Mapping::new(&fd, bytes.len().max(1), Access::ReadWrite)?.write(0, bytes);
    region::read_only(fd.as_fd())
}

/// Looks for stored snapshots of functions that have none in memory.
async fn find_images(app: &Rc<App>, group: &Rc<Group>, entries: &[Vec<u8>]) {
    let Some(snapshots) = app.node.snapshots.clone() else { return };
    let setup = setup(app, group, 0);
    for (seat, (state, plan)) in app.of_group(group).zip(entries).enumerate() {
        if group.images.borrow().get(seat).is_some_and(Option::is_some) {
            continue;
        }
        let mut setting = setup.abi_version.to_le_bytes().to_vec();
        setting.extend((setup.trust as u32).to_le_bytes());
        setting.extend(setup.pool_bytes.to_le_bytes());
        setting.extend(setup.slots.to_le_bytes());
        setting.extend((seat as u64).to_le_bytes());
        let (snapshots, plan) = (std::sync::Arc::clone(&snapshots), plan.clone());
        let (executable, program) = (state.artifact.clone(), group.program.clone());
        let work = move || {
            let processor = probe::processor();
            let origin = Origin {
                executable: &executable,
                program: &program,
                plan: &plan,
                setting: &setting,
                processor: &processor,
            };
            let key = origin.key()?;
            Ok((key, snapshots.fetch(key)))
        };
        let found: std::io::Result<(SnapshotKey, _)> = match tokio::task::spawn_blocking(work).await {
            Ok(found) => found,
            Err(_) => return,
        };
        let Ok((key, fetched)) = found else { continue };
        if let Err(error) = &fetched {
            let name = &state.name;
            app.node.say(&app.name, "warn", &format!("{name}: its stored snapshot is not used: {error}"));
        }
        if let Some(place) = group.keys.borrow_mut().get_mut(seat) {
            *place = Some(key);
        }
        if let Some(place) = group.images.borrow_mut().get_mut(seat) {
            *place = fetched.ok().flatten();
        }
    }
}

/// The template takes a snapshot for none: no function of the group starts from one now.
fn forget_images(app: &Rc<App>, group: &Group, name: &str, why: &str) {
    app.node.say(&app.name, "warn", &format!("{name}: its snapshot is not used: {why}"));
    group.images.borrow_mut().fill_with(|| None);
    let keys = std::mem::take(&mut *group.keys.borrow_mut());
    if let Some(snapshots) = &app.node.snapshots {
        for key in keys.iter().flatten() {
            snapshots.forget(*key);
        }
    }
    *group.keys.borrow_mut() = vec![None; group.seats.len()];
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

/// A new snapshot: kept in memory for the next template, and on the disk for the next node.
fn keep_image(app: &Rc<App>, group: &Rc<Group>, seat: usize, fd: OwnedFd) {
    let Some(image) = Image::sealed(fd) else {
        tracing::warn!(app = app.name, seat, "a snapshot that could still change is not kept");
        return;
    };
    let key = group.keys.borrow().get(seat).copied().flatten();
    if let (Some(key), Some(snapshots), Ok(copy)) = (key, app.node.snapshots.clone(), image.try_clone()) {
        let name = app.name.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = snapshots.keep(key, &copy) {
                tracing::warn!(app = name, seat, %error, "a snapshot is not stored");
            }
        });
    }
    if let Some(place) = group.images.borrow_mut().get_mut(seat) {
        *place = Some(image);
    }
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
            Ok(heard) => return Ok(heard),
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
                cell.ended(reason_of(code, status));
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

/// From the words of `waitid`.
fn reason_of(code: i32, status: i32) -> ExitReason {
    /// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`.
    const EXITED: i32 = 1;
    const KILLED: i32 = 2;
    const DUMPED: i32 = 3;
    match code {
        EXITED => ExitReason::Exited { status },
        KILLED | DUMPED => ExitReason::Signalled { signal: status },
        _ => ExitReason::Unknown,
    }
}
