//! The program behind the shim: how it is started, and that the replica ends when it ends.
//!
//! The shim is the first process of its pid namespace: orphans become its children, and all of them die with it. A thread waits for
//! children; the program's own end is the replica's.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

/// How long a program that is asked to end may take; the node kills the replica soon after.
const ENDS_WITHIN: Duration = Duration::from_millis(300);
/// Where it looks for commands that are no paths, unless the manifest says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where it may write.
const TEMPORARY: &str = "/tmp";
/// Variables that are the shim's own.
const OWN: [&str; 2] = [crate::config::ENV, "BATON_CALLS"];
/// The variable that says where the function's files are.
const FILES_ENV: &str = "BATON_FILES";

/// Whether the node wants this replica to end: what the program does then is no news.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// The running program.
#[derive(Debug)]
pub(crate) struct Program {
    pid: Pid,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// The command is empty.
    Nothing,
    /// It cannot be started.
    Start { command: String, source: io::Error },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Nothing => f.write_str("`command` names no program"),
            ProgramError::Start { command, source } if source.kind() == io::ErrorKind::NotFound => write!(
                f,
                "`{command}` cannot be started: it is neither in the function's files, which it begins in, nor on PATH ({source})"
            ),
            ProgramError::Start { command, source } => write!(f, "`{command}` cannot be started: {source}"),
        }
    }
}

impl Program {
    /// Starts `command` in the function's directory, with this process's environment and `more`, where that does not say otherwise.
    /// Once it ends, this process does.
    pub(crate) fn start(command: &[String], more: &[(&str, &str)]) -> Result<Program, ProgramError> {
        let (name, args) = command.split_first().ok_or(ProgramError::Nothing)?;
        let mut started = Command::new(name);
        started.args(args).stdin(Stdio::null());
        let usual = [("PATH", PATH), ("HOME", TEMPORARY), ("TMPDIR", TEMPORARY)];
        for (key, value) in more.iter().chain(&usual) {
            if std::env::var_os(key).is_none() {
                started.env(key, value);
            }
        }
        for key in OWN {
            started.env_remove(key);
        }
        if let Some(files) = std::env::var_os(FILES_ENV).filter(|files| Path::new(files).is_dir()) {
            started.current_dir(files);
        }
        let failed = |source| ProgramError::Start { command: name.clone(), source };
        let child = started.spawn().map_err(failed)?;
        // Nobody waits by it: whatever child ends is waited for below.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::Error::other("it has no number")))?;
        let label = name.clone();
        let waiting = thread::Builder::new().name("baton-children".to_owned());
        waiting.spawn(move || reap(pid, &label)).map_err(failed)?;
        Ok(Program { pid })
    }

    /// Asks it to end, and waits a little.
    pub(crate) fn stop(&self) {
        IS_ENDING.store(true, Ordering::Release);
        if rustix::process::kill_process(self.pid, Signal::TERM).is_err() {
            return;
        }
        let until = Instant::now() + ENDS_WITHIN;
        // The thread that waits for it ends this process.
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits for children until the program itself has ended, and ends this process then.
fn reap(program: Pid, name: &str) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                end(name, ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Without children there is no program either.
            Err(_) => end(name, ExitStatus::from_raw(0)),
        }
    }
}

fn end(name: &str, status: ExitStatus) -> ! {
    if IS_ENDING.load(Ordering::Acquire) {
        std::process::exit(0);
    }
    // One write a line, and before this process ends: it is why the replica did.
    let (code, how) = match (status.code(), status.signal()) {
        (Some(code), _) => (code, format!("status {code}")),
        (None, signal) => {
            let signal = signal.unwrap_or(0);
            (128 + signal, format!("signal {signal}"))
        }
    };
    eprintln!("baton-shim: `{name}` ended with {how}");
    std::process::exit(code)
}
