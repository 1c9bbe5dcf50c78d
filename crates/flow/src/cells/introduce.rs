//! What a template is given: a process with bounds, mappings, its plan, its functions.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use baton_abi::ABI_VERSION;
use baton_abi::boot::PoolAccess;
use baton_abi::cell::{Setup, Trust};
use baton_pool::region::{self, Access, Mapping};
use baton_replica::{Limits, Mappings, NetworkAccess, Output, Role, SpawnSpec, Template, template};
use rustix::io::Errno;

use super::{Group, plan};
use crate::app::App;
use crate::snapshots::Image;
use crate::start::{MAPPINGS_SLACK, TABLES_BYTES, milli_to_cores};

/// Private memory of one seat beside the function's own: its mail, its stack, what the runtime keeps of it.
const SEAT_SLACK: u64 = 64 << 20;
/// Private memory of the runtime itself.
const CELL_SLACK: u64 = 256 << 20;
/// Descriptors that a template or a cell may have open: its own few, those of a fork, two for each edge on its way.
const FILES_MAX: u32 = 1024;

/// Starts the process of a template, with bounds for it and its cells.
pub(super) fn launch(app: &App, group: &Group) -> Result<(Template, Output), String> {
    let program =
        File::open(&group.program).map_err(|error| format!("{}: {error}", group.program.display()))?;
    let options = &app.node.options;
    let states = || app.of_group(group);
    let private: u64 = states().map(|state| state.spec.memory.bytes().saturating_add(SEAT_SLACK)).sum();
    let shared = app.pool.borrow().bytes().saturating_add(TABLES_BYTES + MAPPINGS_SLACK);
    let places = group.bounds.max;
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
        files: None,
        root: None,
        limits,
        network: NetworkAccess::None,
        doors: Vec::new(),
        cores: options.cores.clone(),
        name: format!("{}-cells-{}", app.name, group.number),
        insecure_no_sandbox: options.insecure_no_sandbox,
    };
    template::start(spec).map_err(|error| error.to_string())
}

/// Gives the template its mappings, its plan and its functions.
pub(super) fn introduce(
    app: &App,
    group: &Group,
    template: &Template,
    entries: &[Vec<u8>],
) -> Result<(), String> {
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
        guarded: None,
    };
    let setup = setup(app, group, plan.len());
    template.set_up(&setup, plan_fd.as_fd(), &mappings).map_err(said)?;
    let images = group.images.borrow();
    for (seat, state) in app.of_group(group).enumerate() {
        let (elf, elf_bytes) = open(&state.artifact)?;
        let more = [state.host.as_ref(), state.files.as_ref().map(|files| &files.bundle)];
        let [host, files] = more.map(|path| path.map(|path| open(path)).transpose());
        let (host, files) = (host?, files?);
        let more = [&host, &files].map(|file| file.as_ref().map(|(file, bytes)| (file.as_fd(), *bytes)));
        let image = images.get(seat).and_then(Option::as_ref).map(Image::fd);
        let index = u32::try_from(seat).unwrap_or(u32::MAX);
        template.load(index, (elf.as_fd(), elf_bytes), more, image).map_err(said)?;
    }
    Ok(())
}

/// A file and its length.
fn open(path: &Path) -> Result<(File, u64), String> {
    let shown = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(shown)?;
    let bytes = file.metadata().map_err(shown)?.len();
    Ok((file, bytes))
}

/// What the most trusted function of the group may do; the runtime holds each to its own right.
fn pool_access(app: &App, group: &Group) -> PoolAccess {
    let accesses = app.of_group(group).map(|state| plan::access(state.spec.pool));
    accesses.max_by_key(|access| *access as u32).unwrap_or(PoolAccess::Absent)
}

/// What a template is told beside its plan.
pub(super) fn setup(app: &App, group: &Group, plan_bytes: usize) -> Setup {
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
