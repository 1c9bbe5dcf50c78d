//! Which system calls a program asks for in a compartment and does not get: it is loaded as for a cell, by a template
//! that tells of every call that it refuses, up to its first receive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use baton_abi::ABI_VERSION;
use baton_abi::boot::PoolAccess;
use baton_abi::cell::{FromCell, Setup, Trust};
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX, slots_for};
use baton_abi::plan::{NewEntry, Patch, Writer};
use baton_pool::region::{self, Access, Mapping, RegionError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::process::Mappings;
use crate::sandbox::{Limits, NetworkAccess, Role, SpawnSpec};
use crate::start_error::StartError;
use crate::template::{self, Template};

/// How long a program may take until it asks for its first request.
const TIME: Duration = Duration::from_secs(10);
/// Private memory that it may take on the way.
const MEMORY_BYTES: u64 = 1 << 30;
/// Lines of its own that are kept.
const LINES_MAX: usize = 1000;
/// What the runtime says of a call begins like this: `refused system call NUMBER (NAME)`.
const REFUSED: &str = "refused system call ";

/// What to trace.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The program of cells.
    pub cell: File,
    /// The executable.
    pub executable: File,
    /// What is written over its code before it runs.
    pub patches: &'a [Patch],
    /// Its arguments, the name first.
    pub args: &'a [&'a [u8]],
    /// Its environment.
    pub env: &'a [&'a [u8]],
}

/// One system call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCall {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// How often.
    pub times: u32,
}

/// How far the program came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It asked for its first request: it runs in a compartment.
    FirstRequest,
    /// It did not; this is what the runtime says.
    Failure(String),
    /// It did nothing of the kind in its time.
    Nothing,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// In the order of their numbers.
    pub refused: Vec<RefusedCall>,
    /// What the program wrote itself.
    pub output: Vec<String>,
    /// How far it came.
    pub reached: Reached,
}

/// Why nothing could be traced.
#[derive(Debug)]
pub enum TraceError {
    /// The template did not start.
    Start(StartError),
    /// Shared memory for it.
    Region(RegionError),
    /// It does not listen.
    Deaf(Errno),
    /// The executable cannot be read.
    Executable(std::io::Error),
}

impl core::fmt::Display for TraceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TraceError::Start(error) => write!(f, "{error}"),
            TraceError::Region(error) => write!(f, "{error}"),
            TraceError::Deaf(errno) => write!(f, "the template does not listen: {errno}"),
            TraceError::Executable(error) => write!(f, "the executable cannot be read: {error}"),
        }
    }
}

impl std::error::Error for TraceError {}

/// Loads the program and listens. Takes as long as it takes to its first receive, at most some seconds.
///
/// # Errors
/// [`TraceError`]: nothing could be found out. That a program does not run is no error.
pub fn trace(subject: Subject<'_>) -> Result<Trace, TraceError> {
    let plan = plan(&subject);
    let cell: OwnedFd = subject.cell.into();
    let spec = |control, stdout, stderr| SpawnSpec {
        program: cell,
        args: vec![c"baton-cell".to_owned()],
        role: Role::Template,
        env: template::environment(),
        control,
        stdout,
        stderr,
        limits: Limits { memory_bytes: MEMORY_BYTES, processes: 1, files: 64, ..Limits::default() },
        files: None,
        root: None,
        network: NetworkAccess::None,
        doors: Vec::new(),
        cores: Vec::new(),
        name: "trace".to_owned(),
        insecure_no_sandbox: false,
    };
    let (template, output) = template::start(spec).map_err(TraceError::Start)?;
    introduce(&template, &plan, &subject.executable)?;
    let mut trace = listen(template);
    let mut last_words = String::new();
    // The template is gone: all that it wrote is there.
    let _ = File::from(output.stderr).read_to_string(&mut last_words);
    trace.output.extend(last_words.lines().take(LINES_MAX).map(str::to_owned));
    Ok(trace)
}

fn plan(subject: &Subject<'_>) -> Vec<u8> {
    let mut plan = Vec::new();
    Writer::new(|bytes: &[u8]| plan.extend_from_slice(bytes)).entry(&NewEntry {
        name: "traced",
        access: PoolAccess::Absent as u32,
        concurrency: 1,
        timeout_ns: u64::try_from(TIME.as_nanos()).unwrap_or(u64::MAX),
        memory_bytes: MEMORY_BYTES / 2,
        reset: false,
        key_group: 0,
        window: false,
        args: subject.args,
        env: subject.env,
        calls: &[],
        patches: subject.patches,
    });
    plan
}

/// Set-up and load, with tables that nobody else uses.
fn introduce(template: &Template, plan: &[u8], executable: &File) -> Result<(), TraceError> {
    let slots = slots_for(0);
    let memory = |name, bytes: u64| region::create(name, bytes, false).map_err(TraceError::Region);
    let plan_fd = memory("baton-plan", plan.len() as u64)?;
    Mapping::new(&plan_fd, plan.len(), Access::ReadWrite).map_err(TraceError::Region)?.write(0, plan);
    let ledger = memory("baton-ledger", u64::from(slots) * 32)?;
    let table = memory("baton-caps", u64::from(slots + REPLICAS_MAX * DERIVED_MAX) * 64)?;
    let setup = Setup {
        abi_version: ABI_VERSION,
        trust: Trust::Buffer,
        pool_bytes: 0,
        slots,
        functions: 1,
        plan_bytes: u32::try_from(plan.len()).unwrap_or(u32::MAX),
        trace: true,
    };
    let mappings = Mappings { pool: None, ledger: ledger.as_fd(), table: table.as_fd(), guarded: None };
    template.set_up(&setup, plan_fd.as_fd(), &mappings).map_err(TraceError::Deaf)?;
    let bytes = executable.metadata().map_err(TraceError::Executable)?.len();
    template.load(0, (executable.as_fd(), bytes), [None, None], None).map_err(TraceError::Deaf)
}

/// Collects what is said until the program has come to its first receive, failed, or used up its time.
fn listen(template: Template) -> Trace {
    let mut counts: BTreeMap<(u64, String), u32> = BTreeMap::new();
    let mut output = Vec::new();
    let until = Instant::now() + TIME;
    let reached = loop {
        let heard = match template.hear() {
            Ok(heard) => heard,
            Err(Errno::AGAIN) if wait(&template, until) => continue,
            Err(Errno::AGAIN) => break Reached::Nothing,
            Err(errno) => break Reached::Failure(format!("its template ended ({errno})")),
        };
        let text = String::from_utf8_lossy(&heard.text).into_owned();
        match heard.message {
            FromCell::Loaded { .. } => break Reached::FirstRequest,
            FromCell::Failed { .. } => break Reached::Failure(text),
            FromCell::Log { .. } => {
                for line in text.lines() {
                    match refused(line) {
                        Some(call) => *counts.entry(call).or_default() += 1,
                        None if output.len() < LINES_MAX => output.push(line.to_owned()),
                        None => {}
                    }
                }
            }
            _ => {}
        }
    };
    let call = |((number, name), times)| RefusedCall { number, name, times };
    Trace { refused: counts.into_iter().map(call).collect(), output, reached }
}

/// Waits until the template speaks or has closed its socket; `false` when the time is over.
fn wait(template: &Template, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap_or_default();
    let control = template.control_fd();
    let ready = poll(&mut [PollFd::new(&control, PollFlags::IN)], Some(&timeout));
    matches!(ready, Ok(1..) | Err(Errno::INTR))
}

/// Number and name of the call in a line, if it tells of one.
fn refused(line: &str) -> Option<(u64, String)> {
    let (number, name) = line.strip_prefix(REFUSED)?.split_once(' ')?;
    let name = name.strip_prefix('(')?.strip_suffix(')')?;
    Some((number.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_calls_are_told_from_others() {
        assert_eq!(refused("refused system call 124 (getsid)"), Some((124, "getsid".to_owned())));
        for line in ["refused system call", "refused system call x (y)", "refused system call 1 y", "hello"] {
            assert_eq!(refused(line), None, "{line}");
        }
    }
}
