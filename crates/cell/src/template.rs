//! Templates: the process that loads the functions of a cell, and is copied for each cell.
//!
//! ```text
//!  Setup ──▶ keys, pages that all guests see, signals
//!  Load  ──▶ each guest up to its first receive; its snapshot goes to the node
//!  Fork  ──▶ a copy of this process attaches itself to its links and serves
//! ```
//! After the last Load no guest code runs here any more: what is copied is what was checked.

// UNSAFETY: takes over inherited descriptors, maps pages that guests see, and sets up the first registers.
#![expect(unsafe_code, reason = "set-up of the process")]

mod error;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use baton_abi::ABI_VERSION;
use baton_abi::boot::CONTROL_FD;
use baton_abi::boot::PoolAccess;
use baton_abi::cell::{
    Fork, FromCell, Load, SEAT_BYTES, SEATS_AT, SEATS_MAX, Setup, ToTemplate, Trust, access_of,
};
use baton_abi::cell::{MAIL_BYTES, MAIL_OFFSET, POOL_AT, WINDOW_MAIL_OFFSET, WINDOW_OFFSET};
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::plan::{self, Entry};
use baton_abi::wasm::WINDOW_BYTES_MAX;
use baton_pool::Placed;
use baton_pool::capability::CapabilityTable;
use baton_pool::ledger::LedgerView;
use baton_pool::link::{Duplex, Side, map_bell};
use baton_pool::region::{Access as RegionAccess, Mapping};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::sync::Arc;

use self::error::{SetupError, at, region};
use crate::arch::{self, CORE, Full, GUEST_FULL};
use crate::control;
use crate::executable::Executable;
use crate::guest::renew_incarnation;
use crate::keys::Keys;
use crate::load::Source;
use crate::mail::Mail;
use crate::pages;
use crate::reach::Reach;
use crate::runtime::{Runtime, Shared, install};
use crate::seat::{Attachment, Callee, Facts, Parallel, Seat, State};
use crate::snapshot::{self, Stand};
use crate::sys::{self, Access, Backing};

/// Processor time between two ticks of a cell, and of a template, milliseconds.
const TICK_MS: i64 = 10;
/// How long a guest may take to its first receive, nanoseconds.
const LOAD_MAX_NS: u64 = 5_000_000_000;

/// Runs a template until the node closes its socket. Cells are copies that never come back from here.
#[must_use]
pub fn run() -> ExitCode {
    // SAFETY: by the start protocol the node leaves the control socket at this number, and nothing else in this process
    // knows of it.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    if rustix::net::sockopt::socket_type(&control).is_err() {
        // Not a socket, or not open at all: leave the number alone.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(control);
        eprintln!("this program holds functions of a Baton node, which starts it; it does nothing by itself");
        return ExitCode::from(2);
    }
    match serve(control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-cell: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(control: OwnedFd) -> Result<(), SetupError> {
    check_machine()?;
    let Some((ToTemplate::Setup(setup), fds)) = wait_order(&control, &[])? else {
        return Err(SetupError::Protocol("no set-up"));
    };
    if setup.abi_version != ABI_VERSION {
        return Err(SetupError::Version { node: setup.abi_version });
    }
    let (runtime, plan) = set_up(&setup, fds)?;
    // A copy has no timers of its original: cells start their own.
    sys::start_ticking(TICK_MS).map_err(at("starting the timer"))?;
    *runtime.control.borrow_mut() =
        Some(control.try_clone().map_err(|_| SetupError::Protocol("no descriptors"))?);
    let mut template = Template { runtime, plan, cells: Vec::new(), control };
    template.obey()
}

/// Waits for the next order, or for the end of one of `cells` (`Err(AGAIN)` then).
fn wait_order(control: &OwnedFd, cells: &[Cell]) -> Result<Option<(ToTemplate, Vec<OwnedFd>)>, SetupError> {
    loop {
        let mut fds = vec![PollFd::new(control, PollFlags::IN)];
        fds.extend(cells.iter().map(|cell| PollFd::new(&cell.pidfd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(SetupError::Kernel { step: "waiting for orders", errno }),
        }
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return control::receive_order(control).map_err(at("receiving an order"));
        }
        if fds.iter().skip(1).any(|fd| !fd.revents().is_empty()) {
            return Err(SetupError::Kernel { step: "a cell ended", errno: Errno::AGAIN });
        }
    }
}

fn check_machine() -> Result<(), SetupError> {
    if !sys::has_fsgsbase() {
        return Err(SetupError::Machine("FSGSBASE"));
    }
    if sys::has_rseq() {
        return Err(SetupError::Protocol("restartable sequences are registered: GLIBC_TUNABLES is not set"));
    }
    arch::init_xstate().map_err(|_| SetupError::Machine("memory keys"))
}

/// Everything but the functions.
fn set_up(setup: &Setup, fds: Vec<OwnedFd>) -> Result<(&'static Runtime, Vec<u8>), SetupError> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(SetupError::Protocol("a descriptor is missing"));
    let plan_fd = next()?;
    let pool = if setup.pool_bytes > 0 { Some(next()?) } else { None };
    let (ledger, table) = (next()?, next()?);
    let plan = read_all(&plan_fd, setup.plan_bytes as usize)?;
    let entries: Vec<Entry<'_>> = plan::entries(&plan).collect();
    if entries.len() != setup.functions as usize || entries.len() > SEATS_MAX {
        return Err(SetupError::Protocol("a plan that does not fit"));
    }
    pages::clean_own_text().map_err(|at| SetupError::Text { at })?;
    let keys = Keys::new(&entries, setup.trust).map_err(at("allocating memory keys"))?;
    pages::map_common(&keys).map_err(at("mapping the pages of all guests"))?;
    if let Some(pool) = &pool {
        let backing = Backing::Shared { fd: pool.as_raw_fd(), offset: 0 };
        // SAFETY: nothing else is mapped there in a process that has just begun.
        unsafe { sys::map(POOL_AT, setup.pool_bytes, Access::Write, backing, keys.pool) }
            .map_err(at("mapping the pool"))?;
    }
    let shared = Shared {
        table: CapabilityTable::new(view(
            &table,
            setup.slots + REPLICAS_MAX * DERIVED_MAX,
            RegionAccess::ReadWrite,
        )?),
        ledger: LedgerView::new(view(&ledger, setup.slots, RegionAccess::Read)?),
        slots: setup.slots,
        pool_bytes: setup.pool_bytes,
    };
    let mut seats = Vec::new();
    for (id, entry) in (0u8..).zip(&entries) {
        let window = if entry.window { window(id, entry, &pool, setup, &keys)? } else { 0 };
        seats.push(seat(id, entry, &entries, &keys, (setup.trust, window))?);
    }
    // SAFETY: no guest runs yet.
    unsafe { (*CORE.get()).host_fs = sys::fs_base() };
    sys::catch_signals().map_err(at("installing signal handlers"))?;
    sys::dispatch_calls().map_err(at("directing system calls (Syscall User Dispatch)"))?;
    Ok((install(Runtime::new(setup.trust, setup.trace, seats, shared)), plan))
}

/// Maps the pool a second time, into a seat, if its function may use it. Gives its bytes there.
fn window(
    id: u8,
    entry: &Entry<'_>,
    pool: &Option<OwnedFd>,
    setup: &Setup,
    keys: &Keys,
) -> Result<u64, SetupError> {
    let Some(pool) = pool.as_ref().filter(|_| access_of(entry.access) != Some(PoolAccess::Absent)) else {
        return Ok(0);
    };
    if setup.pool_bytes > WINDOW_BYTES_MAX {
        return Err(SetupError::Protocol("a pool that is larger than the window of a Wasm module"));
    }
    let at = SEATS_AT + u64::from(id) * SEAT_BYTES + WINDOW_OFFSET;
    let backing = Backing::Shared { fd: pool.as_raw_fd(), offset: 0 };
    // SAFETY: nothing else is mapped there in a process that has just begun. The key is that of the pool itself: under
    // `trust = "buffer"` no guest has it, and buffers open one by one.
    unsafe { sys::map(at, setup.pool_bytes, Access::Write, backing, keys.pool) }
        .map_err(self::at("mapping a window"))?;
    Ok(setup.pool_bytes)
}

fn seat(
    id: u8,
    entry: &Entry<'_>,
    entries: &[Entry<'_>],
    keys: &Keys,
    (trust, window): (Trust, u64),
) -> Result<Seat, SetupError> {
    let base = SEATS_AT + u64::from(id) * SEAT_BYTES;
    let key = keys.of(id);
    let access = access_of(entry.access).ok_or(SetupError::Protocol("an unknown right to the pool"))?;
    let callees = entry.calls.iter().zip(entry.call_timeouts.numbers()).map(|(name, timeout_ns)| Callee {
        name: String::from_utf8_lossy(name).into_owned(),
        timeout_ns,
        seat: (0u8..).zip(entries).find(|(_, other)| other.name.as_bytes() == name).map(|(id, _)| id),
        parallel: Parallel::default(),
    });
    let facts = Facts {
        name: entry.name.to_owned(),
        timeout_ns: entry.timeout_ns,
        concurrency: entry.concurrency.max(1) as usize,
        access,
        reset: entry.reset,
        key,
        pkru: keys.rights(key, access, trust),
        callees: callees.collect(),
    };
    let mail = base + if entry.window { WINDOW_MAIL_OFFSET } else { MAIL_OFFSET };
    if trust == Trust::Buffer {
        // SAFETY: the seat is empty.
        unsafe { sys::map(mail, MAIL_BYTES, Access::Write, Backing::Anonymous, key) }
            .map_err(at("mapping mail"))?;
    }
    Ok(Seat::new(id, facts, Reach::new(base, window), Mail::new(mail)))
}

fn view<T: baton_pool::SharedLayout>(
    fd: &OwnedFd,
    len: u32,
    access: RegionAccess,
) -> Result<Placed<T>, SetupError> {
    let bytes = (len as usize).saturating_mul(size_of::<T>());
    let mapping = Arc::new(Mapping::new(fd, bytes, access).map_err(region("mapping a table"))?);
    Placed::mapped(&mapping, 0, len as usize)
        .ok_or(SetupError::Protocol("a table that does not fit its file"))
}

fn read_all(fd: &OwnedFd, len: usize) -> Result<Vec<u8>, SetupError> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        let rest = bytes.get_mut(done..).unwrap_or_default();
        match rustix::io::pread(fd, rest, done as u64).map_err(at("reading the plan"))? {
            0 => return Err(SetupError::Protocol("a plan that is shorter than it should be")),
            read => done += read,
        }
    }
    Ok(bytes)
}

struct Cell {
    number: u32,
    pidfd: OwnedFd,
}

struct Template {
    runtime: &'static Runtime,
    plan: Vec<u8>,
    cells: Vec<Cell>,
    control: OwnedFd,
}

impl Template {
    fn obey(&mut self) -> Result<(), SetupError> {
        loop {
            match wait_order(&self.control, &self.cells) {
                Ok(None) => return Ok(()),
                Ok(Some((ToTemplate::Load(load), fds))) => self.load(load, fds)?,
                Ok(Some((ToTemplate::Fork(fork), fds))) => self.fork(&fork, fds)?,
                Ok(Some((ToTemplate::Setup(_), _))) => return Err(SetupError::Protocol("a second set-up")),
                Err(SetupError::Kernel { errno: Errno::AGAIN, .. }) => self.reap()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn say(&self, message: FromCell, text: &[u8], fd: Option<&OwnedFd>) -> Result<(), SetupError> {
        let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
        control::send(&self.control, message, text, &fds).map_err(at("answering the node"))
    }

    // ---- loading -----------------------------------------------------------------------------------------------------

    fn load(&mut self, load: Load, fds: Vec<OwnedFd>) -> Result<(), SetupError> {
        let mut fds = fds.into_iter();
        let elf = fds.next().ok_or(SetupError::Protocol("a function without its file"))?;
        let mut next = |bytes: u64| if bytes > 0 { fds.next().map(|fd| (fd, bytes)) } else { None };
        let (host, files) = (next(load.host_bytes), next(load.files_bytes));
        let began = sys::now_ns();
        let executable =
            Executable::open(elf, load.elf_bytes, host).map_err(|errno| format!("its file: {errno}"));
        match executable.and_then(|executable| self.bring_up(&load, executable, files, fds.next())) {
            Ok(fresh) => {
                let load_ns = sys::now_ns().saturating_sub(began);
                let seat = self.seat(load.index)?;
                let snapshot = seat.snapshot.borrow().clone();
                let snapshot = snapshot.filter(|snapshot| fresh && snapshot.can_be_kept);
                let bytes = snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
                let message = FromCell::Loaded { index: load.index, load_ns, snapshot_bytes: bytes };
                self.say(message, &[], snapshot.as_ref().map(|snapshot| &snapshot.fd))
            }
            Err(why) => self.say(FromCell::Failed { index: load.index }, why.as_bytes(), None),
        }
    }

    fn seat(&self, index: u32) -> Result<&'static Seat, SetupError> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.runtime.seats.get(index).ok_or(SetupError::Protocol("a function that is not in the plan"))
    }

    /// Brings a guest to its first receive; whether its snapshot is new.
    fn bring_up(
        &self,
        load: &Load,
        executable: Executable,
        files: Option<(OwnedFd, u64)>,
        kept: Option<OwnedFd>,
    ) -> Result<bool, String> {
        let seat = self.seat(load.index).map_err(|error| error.to_string())?;
        let entries: Vec<Entry<'_>> = plan::entries(&self.plan).collect();
        let entry = entries.get(usize::from(seat.id)).ok_or("it is not in the plan")?;
        if seat.state.get() != State::Loading {
            return Err("it is loaded already".to_owned());
        }
        let files = files.map(|(fd, bytes)| pages::bundle(&fd, bytes)).transpose()?.unwrap_or_default();
        let executable = Rc::new(executable);
        let source = Source { executable: &executable, files };
        seat.executable.replace(Some(Rc::clone(&executable)));
        if let Some(kept) = kept.filter(|_| load.has_snapshot) {
            return self.revive(seat, entry, &source, kept).map(|()| false);
        }
        let loaded = crate::load::load(&mut seat.space.borrow_mut(), &source, entry)
            .map_err(|error| error.to_string())?;
        *seat.os.borrow_mut() = Some(loaded.os);
        begin(seat, loaded.entry, loaded.stack_pointer);
        let last = sys::now_ns().saturating_add(LOAD_MAX_NS);
        seat.deadline_ns.set(last);
        self.runtime.enter(seat);
        self.runtime.wait_for_first_receive(seat, last);
        seat.deadline_ns.set(0);
        if seat.state.get() != State::Waiting {
            return Err(self.why_not(seat));
        }
        self.capture(seat, &loaded.from_file)?;
        Ok(true)
    }

    /// Why a guest did not come to its first receive.
    fn why_not(&self, seat: &Seat) -> String {
        let why = seat.last_words.take().unwrap_or_default();
        if seat.state.get() == State::Asleep {
            return "it sleeps for long before it asks for its first request: move the wait behind that"
                .to_owned();
        }
        let line = seat.last_line.take();
        let said = if line.is_empty() { String::new() } else { format!("; the last that it wrote: {line}") };
        format!("it ended before it asked for a request: {why}{said}")
    }

    fn capture(&self, seat: &Seat, from_file: &[(u64, u64, u64)]) -> Result<(), String> {
        let os = seat.os.borrow().clone().ok_or("it has no library OS")?;
        let stand = Stand {
            context: seat.registers(),
            recv_at: seat.recv_at.get(),
            kept_at: seat.kept_at.get(),
            threads: seat.threads.borrow().clone(),
        };
        let snapshot = snapshot::capture(&seat.space.borrow(), from_file, stand, &os)
            .map_err(|errno| format!("its snapshot cannot be written: {errno}"))?;
        snapshot.settle(&mut seat.space.borrow_mut());
        *seat.snapshot.borrow_mut() = Some(Rc::new(snapshot));
        seat.state.set(State::Cold);
        Ok(())
    }

    /// Brings a guest back from a snapshot that the node kept.
    fn revive(
        &self,
        seat: &Seat,
        entry: &Entry<'_>,
        source: &Source<'_>,
        kept: OwnedFd,
    ) -> Result<(), String> {
        let mut space = seat.space.borrow_mut();
        let loaded = crate::load::load(&mut space, source, entry).map_err(|error| error.to_string())?;
        let snapshot =
            snapshot::reopen(&kept, space.base(), &loaded.config).map_err(|error| error.to_string())?;
        snapshot
            .restore(&mut space, source.executable)
            .map_err(|errno| format!("its snapshot cannot be mapped: {errno}"))?;
        drop(space);
        *seat.os.borrow_mut() = Some(snapshot.os.clone());
        *seat.snapshot.borrow_mut() = Some(Rc::new(snapshot));
        seat.state.set(State::Cold);
        Ok(())
    }

    // ---- forking -----------------------------------------------------------------------------------------------------

    fn fork(&mut self, fork: &Fork, fds: Vec<OwnedFd>) -> Result<(), SetupError> {
        match sys::fork().map_err(at("copying the template"))? {
            None => {
                let status = match become_cell(self.runtime, fork, fds) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("baton-cell: {error}");
                        1
                    }
                };
                std::process::exit(status)
            }
            Some((_, pidfd)) => {
                // SAFETY: the kernel has just made this descriptor for us.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                self.say(FromCell::Forked { cell: fork.cell }, &[], Some(&pidfd))?;
                self.cells.push(Cell { number: fork.cell, pidfd });
                Ok(())
            }
        }
    }

    /// Tells the node of cells that ended.
    fn reap(&mut self) -> Result<(), SetupError> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let mut ended = Vec::new();
        self.cells.retain(|cell| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(cell.pidfd.as_fd()), options) {
                Ok(Some(status)) => {
                    let (code, status) = match (status.exit_status(), status.terminating_signal()) {
                        (Some(status), _) => (libc::CLD_EXITED, status),
                        (None, signal) => (libc::CLD_KILLED, signal.unwrap_or(0)),
                    };
                    ended.push(FromCell::Ended { cell: cell.number, code, status });
                    false
                }
                Ok(None) | Err(Errno::INTR) => true,
                Err(_) => false,
            }
        });
        ended.into_iter().try_for_each(|message| self.say(message, &[], None))
    }
}

/// Sets the registers of a guest that has not begun.
fn begin(seat: &Seat, entry: u64, stack_pointer: u64) {
    let full = Full {
        rip: entry,
        rsp: stack_pointer,
        pkru: seat.facts.pkru,
        xsave: arch::park_xsave(&arch::CLEAN),
        mask: arch::xsave_mask(),
        ..Full::ZERO
    };
    // SAFETY: no guest runs.
    unsafe { *GUEST_FULL.get() = full };
    // SAFETY: as above.
    unsafe { (*seat.context.get()).full = 1 };
}

/// What a copy of the template does first and last: attach, and serve until the node says that it is enough.
fn become_cell(runtime: &'static Runtime, fork: &Fork, fds: Vec<OwnedFd>) -> Result<(), SetupError> {
    sys::die_with_parent().map_err(at("asking for the death signal"))?;
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(SetupError::Protocol("a descriptor is missing"));
    *runtime.control.borrow_mut() = Some(next()?);
    let bell = map_bell(next()?).map_err(region("mapping the bell"))?;
    runtime.bell.set(bell).map_err(|_| SetupError::Protocol("a second bell"))?;
    for (seat, given) in runtime.seats.iter().zip(fork.seats.iter().take(fork.count as usize)) {
        let link = Duplex::map(next()?, given.ring_entries, Side::Far).map_err(region("mapping a link"))?;
        let outside =
            Attachment { holder: given.holder, derived_base: given.derived_base, link, eventfd: next()? };
        seat.attach(outside);
    }
    pages::run_on(fork.core);
    renew_incarnation(pages::gate_page());
    sys::dispatch_calls().map_err(at("directing system calls"))?;
    sys::start_ticking(TICK_MS).map_err(at("starting the timer"))?;
    crate::filter::enter().map_err(at("entering the cell's own filter"))?;
    runtime.run();
    Ok(())
}
