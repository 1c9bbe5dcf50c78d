//! Starting one replica: its numbers, its words, its mappings, its process.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use baton_abi::ABI_VERSION;
use baton_abi::boot::{CALLS_ENV, FILES_AT, FILES_ENV, Hello, NETWORK, PoolAccess};
use baton_abi::limits::REPLICAS_MAX;
use baton_abi::reference::REFERENCES;
use baton_abi::stream::STREAMS;
use baton_catalog::{Function, FunctionName, Runtime};
use baton_placement::home_core;
use baton_pool::ledger::NOBODY;
use baton_pool::link::{duplex_bytes, ring_entries_for};
use baton_pool::pool::Pool;
use baton_pool::region;
use baton_replica::{Child, Limits, Mappings, Output, Peer, SpawnSpec, Unborn};
use tokio::sync::oneshot;

use crate::app::{App, FunctionState};
use crate::cells::access;
use crate::guarded::Seat;
use crate::ports;
use crate::programs::{self, PROCESSES_MAX, Program};
use crate::replica::Replica;
use crate::shim;
use crate::tunnels::{self, Plan};

/// Address space for the tables and edges that a replica maps beside pool and link.
pub(crate) const TABLES_BYTES: u64 = 64 << 20;
/// Private memory beside the declared bound that a replica's mappings may need.
pub(crate) const MAPPINGS_SLACK: u64 = 64 << 20;
/// Descriptors that a replica may have open: its own few, two for each edge while it maps them.
const FILES_MAX: u32 = 512;
/// Threads of one replica.
const THREADS_MAX: u32 = 64;

/// Starts the replica at `place` of `function`: its process runs, has its mappings and its edges. The data plane goes on while the
/// process is made.
pub(crate) async fn start(
    app: &Rc<App>,
    function: usize,
    place: usize,
) -> Result<(Rc<Replica>, Output), String> {
    let state = app.functions.get(function).ok_or("no such function")?;
    let plan = Plan::for_programs(&state.spec);
    let options = &app.node.options;
    let cores = match options.cores.as_slice() {
        [] => all_cores(),
        some => some.to_vec(),
    };
    // A program that knows nothing of Baton takes no turns with its callers: its threads, and what stands in front of it, may all
    // run at once.
    let cores = match &state.spec.runtime {
        Runtime::Http(_) | Runtime::Lambda(_) => cores,
        Runtime::Native | Runtime::Python(_) => vec![home_core(app.index, place, &cores)],
    };
    let name = format!("{}-{}", app.name, state.name);
    let spec = spec(app, state, programs::of(app, state)?, cores, name)?;
    let birth = Birth::begin(app, state)?;
    let waker = birth.seat.as_ref().map(|seat| seat.mapped().waker);
    let made = Unborn::new(spec, birth.hello.ring_entries, waker);
    let (unborn, spec) = made.map_err(|error| error.to_string())?;
    let child = launch(app, spec).await?;
    if app.stopping.get() {
        return Err("its app is being stopped".to_owned());
    }
    let doors = child.take_doors();
    let (replica, output) = birth.end(function, place, |hello, mappings| {
        unborn.born(child, hello, mappings).map_err(|error| error.to_string())
    })?;
    let declared = ports::declare(app, function, replica.peer.borrow().pid(), &plan);
    let tunnels = tunnels::open(app, function, &plan, doors);
    *replica.tunnels.borrow_mut() = match declared {
        Some(declared) => Some(Box::new((tunnels, declared))),
        None => tunnels,
    };
    Ok((replica, output))
}

/// Has a process made by the thread that is there for it.
async fn launch(app: &App, spec: SpawnSpec) -> Result<Child, String> {
    let (done, told) = oneshot::channel();
    // Nobody waits any more: the process goes with what is told of it.
    let tell = move |made| drop(done.send(made));
    app.node.launcher.order(spec, tell).map_err(|error| error.to_string())?;
    match told.await {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err("the thread that starts processes has ended".to_owned()),
    }
}

/// Puts the replica that `launch` makes at `place` of `function`.
pub(crate) fn replica(
    app: &Rc<App>,
    function: usize,
    place: usize,
    launch: impl FnOnce(&Hello, &Mappings<'_>) -> Result<(Peer, Output), String>,
) -> Result<(Rc<Replica>, Output), String> {
    let state = app.functions.get(function).ok_or("no such function")?;
    Birth::begin(app, state)?.end(function, place, launch)
}

/// The numbers that an app's replicas have.
#[derive(Debug)]
pub(crate) struct Numbers {
    last_holder: Cell<u16>,
    /// Those of replicas whose processes are being made.
    unborn: RefCell<Vec<(u16, u32)>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { last_holder: Cell::new(1), unborn: RefCell::default() }
    }
}

impl Numbers {
    /// Whether a process is being made for the app.
    pub(crate) fn has_unborn(&self) -> bool {
        !self.unborn.borrow().is_empty()
    }
}

/// A replica that is about to be: its numbers are nobody else's.
struct Birth<'a> {
    app: &'a Rc<App>,
    hello: Hello,
    numbers: (u16, u32),
    seat: Option<Seat>,
}

impl<'a> Birth<'a> {
    fn begin(app: &'a Rc<App>, state: &FunctionState) -> Result<Self, String> {
        let numbers = free_numbers(app, 1).ok_or("as many replicas are up as an app may have")?;
        let &(holder, arena) = numbers.first().ok_or("as many replicas are up as an app may have")?;
        let hello = hello(state, &mut app.pool.borrow_mut(), holder, arena);
        // The kernel knows its socket before it runs.
        let seat = app.guard.as_ref().map(|guard| guard.join(holder, arena)).transpose()?;
        app.numbers.unborn.borrow_mut().push((holder, arena));
        Ok(Birth { app, hello, numbers: (holder, arena), seat })
    }

    fn end(
        mut self,
        function: usize,
        place: usize,
        launch: impl FnOnce(&Hello, &Mappings<'_>) -> Result<(Peer, Output), String>,
    ) -> Result<(Rc<Replica>, Output), String> {
        let (app, (holder, arena)) = (self.app, self.numbers);
        let seat = self.seat.take();
        let (peer, output) = mapped(app, &self.hello, seat.as_ref(), launch)?;
        let replica = Rc::new(Replica::new(app, function, holder, arena, peer));
        replica.socket.set(seat.and_then(Seat::keep));
        let state = app.functions.get(function).ok_or("no such function")?;
        if let Some(slot) = state.replicas.borrow_mut().get_mut(place) {
            *slot = Some(Rc::clone(&replica));
        }
        Ok((replica, output))
    }
}

impl Drop for Birth<'_> {
    fn drop(&mut self) {
        self.app.numbers.unborn.borrow_mut().retain(|numbers| *numbers != self.numbers);
    }
}

fn hello(state: &FunctionState, pool: &mut Pool, holder: u16, arena: u32) -> Hello {
    let scale = &state.spec.scale;
    Hello {
        abi_version: ABI_VERSION,
        holder,
        access: access(state.spec.pool),
        pool_bytes: pool.bytes(),
        slots: pool.slots(),
        derived_base: pool.derived_base(arena),
        ring_entries: ring_entries(&state.spec),
        concurrency: scale.concurrency,
        is_guarded: pool.is_guarded(),
    }
}

/// Descriptors in each ring of a replica's link: what it may have in its hands, and what it says beside.
pub(crate) fn ring_entries(spec: &Function) -> u32 {
    ring_entries_for(spec.scale.concurrency.saturating_mul(2).saturating_add(128))
}

/// Gives `launch` what a replica maps of the pool.
fn mapped<R>(
    app: &App,
    hello: &Hello,
    seat: Option<&Seat>,
    launch: impl FnOnce(&Hello, &Mappings<'_>) -> Result<R, String>,
) -> Result<R, String> {
    let pool = app.pool.borrow();
    let table = app.guard.as_ref().map(|guard| guard.table()).transpose()?;
    let read_only = |fd: BorrowedFd<'_>| region::read_only(fd).map_err(|error| error.to_string());
    let ledger = read_only(pool.ledger_fd())?;
    let reader = if hello.access == PoolAccess::Read { Some(read_only(pool.fd())?) } else { None };
    let mappings = Mappings {
        pool: match hello.access {
            PoolAccess::Absent => None,
            PoolAccess::Read => reader.as_ref().map(AsFd::as_fd),
            PoolAccess::Write => Some(pool.fd()),
        },
        ledger: ledger.as_fd(),
        table: table.as_ref().map_or_else(|| pool.table_fd(), AsFd::as_fd),
        guarded: seat.map(Seat::mapped),
    };
    launch(hello, &mappings)
}

/// A process for a function, but for its control socket and its output.
pub(crate) fn spec(
    app: &App,
    state: &FunctionState,
    program: Program,
    cores: Vec<usize>,
    name: String,
) -> Result<impl FnOnce(OwnedFd, OwnedFd, OwnedFd) -> SpawnSpec, String> {
    let file = File::open(&program.path).map_err(|error| format!("{}: {error}", program.path.display()))?;
    let tables = duplex_bytes(ring_entries(&state.spec)) + TABLES_BYTES;
    let limits = Limits {
        memory_bytes: state.spec.memory.bytes(),
        mapped_bytes: (app.pool.borrow().bytes().saturating_add(tables))
            .saturating_add(MAPPINGS_SLACK)
            .saturating_add(files_bytes(state)?),
        cpu: state.spec.cpu.map(|cores| milli_to_cores(cores.milli().saturating_mul(program.copies()))),
        processes: if state.spec.is_native() { THREADS_MAX } else { PROCESSES_MAX },
        files: FILES_MAX,
    };
    let (args, env) = words_of(app, state, &program)?;
    let files = tree(state)?.map(|tree| CString::new(tree.as_os_str().as_bytes()));
    let files = files.transpose().map_err(|_| "a NUL byte in the path of its files".to_owned())?;
    let doors = Plan::for_programs(&state.spec).doors.iter().map(|(at, _)| *at).collect();
    let insecure_no_sandbox = app.node.options.insecure_no_sandbox;
    Ok(move |control, stdout, stderr| SpawnSpec {
        program: file.into(),
        args,
        role: program.role,
        env,
        control,
        stdout,
        stderr,
        files,
        root: program.root,
        limits,
        network: program.network,
        doors,
        cores,
        name,
        insecure_no_sandbox,
    })
}

/// The directory of a function's files, for a process.
fn tree(state: &FunctionState) -> Result<Option<&Path>, String> {
    let in_process = state.files.as_ref().filter(|_| !state.hosting.is_in_cell());
    let Some(files) = in_process else { return Ok(None) };
    let tree = files.tree.as_deref().ok_or("its files are not there one by one, as a process needs them")?;
    Ok(Some(tree))
}

/// Address space that mapping all its files takes.
fn files_bytes(state: &FunctionState) -> Result<u64, String> {
    let Some(files) = &state.files else { return Ok(0) };
    let about = files.bundle.metadata();
    about.map(|about| about.len()).map_err(|error| format!("{}: {error}", files.bundle.display()))
}

/// glibc's switch for restartable sequences: the kernel would keep them up to date at every switch to a replica, some
/// 60 ns each, for nobody. A manifest that names the variable has the last word.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.pthread.rseq=0");

/// Whom a function may call, in the order that its runtime numbers them by; the node's own services come last.
pub(crate) fn callees(spec: &Function) -> impl Iterator<Item = &str> {
    let network = (!spec.network.is_empty()).then_some(NETWORK);
    let references = spec.references.then_some(REFERENCES);
    let streams = spec.stream.then_some(STREAMS);
    spec.calls.iter().map(FunctionName::as_str).chain(network).chain(references).chain(streams)
}

/// The arguments and environment of a function's own executable.
pub(crate) fn words(app: &App, state: &FunctionState) -> Result<(Vec<CString>, Vec<CString>), String> {
    words_with(app, state, None, &[])
}

/// The same for whatever is executed.
fn words_of(
    app: &App,
    state: &FunctionState,
    program: &Program,
) -> Result<(Vec<CString>, Vec<CString>), String> {
    words_with(app, state, program.args.as_deref(), &program.env)
}

fn words_with(
    app: &App,
    state: &FunctionState,
    args: Option<&[String]>,
    more: &[(&'static str, String)],
) -> Result<(Vec<CString>, Vec<CString>), String> {
    let text = |value: String| CString::new(value).map_err(|_| "a NUL byte in args or env".to_owned());
    let own_args =
        || std::iter::once(state.name.to_string()).chain(state.spec.args.iter().cloned()).collect();
    let args: Vec<String> = args.map_or_else(own_args, <[String]>::to_vec);
    let calls: Vec<&str> = callees(&state.spec).collect();
    let own = [
        format!("BATON_APP={}", app.name),
        format!("BATON_FUNCTION={}", state.name),
        format!("{CALLS_ENV}={}", calls.join(",")),
    ];
    let (name, value) = TUNABLES;
    // Without a sandbox there is nothing to mount them in.
    let place = match tree(state)?.filter(|_| app.node.options.insecure_no_sandbox) {
        Some(tree) => tree.display().to_string(),
        None => FILES_AT.to_string_lossy().into_owned(),
    };
    let files = state.files.as_ref().map(|_| format!("{FILES_ENV}={place}"));
    let tunables = (!state.spec.env.contains_key(name)).then(|| format!("{name}={value}"));
    let shim =
        shim::configuration(&state.name, &state.spec).map(|config| format!("{}={config}", shim::CONFIG_ENV));
    // The manifest has the last word.
    let is_said = |key: &str| state.spec.env.contains_key(key) || state.spec.secrets.contains_key(key);
    let is_new = |(key, _): &(&'static str, String)| !is_said(key);
    let proxy = Plan::for_programs(&state.spec).environment().filter(is_new);
    let usual = more.iter().filter(|(key, _)| !is_said(key)).cloned();
    let proxy: Vec<String> = proxy.chain(usual).map(|(key, value)| format!("{key}={value}")).collect();
    let declared = state.spec.env.iter().map(|(key, value)| format!("{key}={value}"));
    let env = own.into_iter().chain(files).chain(tunables).chain(shim).chain(proxy).chain(declared);
    let args = args.into_iter().map(text).collect::<Result<_, _>>()?;
    let mut env: Vec<CString> = env.map(text).collect::<Result<_, _>>()?;
    for entry in state.secrets.entries() {
        env.push(entry.map_err(|name| format!("a NUL byte in the secret behind {name}"))?);
    }
    Ok((args, env))
}

#[expect(clippy::cast_precision_loss, reason = "thousandths of a core, far below the limit of exactness")]
pub(crate) fn milli_to_cores(milli: u32) -> f32 {
    milli as f32 / 1000.0
}

pub(crate) fn all_cores() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..count).collect()
}

/// For each of `count` replicas, a holder number and a capability range that nobody has.
pub(crate) fn free_numbers(app: &App, count: usize) -> Option<Vec<(u16, u32)>> {
    let up = app.replicas();
    let own = app.node_arena.get();
    let unborn = app.numbers.unborn.borrow();
    let is_free = |arena: &u32| {
        Some(*arena) != own
            && up.iter().all(|replica| replica.arena != *arena)
            && unborn.iter().all(|(_, other)| other != arena)
    };
    let arenas = (0..REPLICAS_MAX).filter(is_free);
    let last = app.numbers.last_holder.get();
    let holders = (1..NOBODY)
        .map(|step| 1 + (last - 1 + step) % (NOBODY - 1))
        .filter(|holder| up.iter().all(|replica| replica.holder != *holder))
        .filter(|holder| unborn.iter().all(|(other, _)| other != holder));
    let numbers: Vec<(u16, u32)> = holders.zip(arenas).take(count).collect();
    let (newest, _) = numbers.last()?;
    app.numbers.last_holder.set(*newest);
    (numbers.len() == count).then_some(numbers)
}
