//! Child processes: checked exit codes, time limits, and nothing left running.
//!
//! Every child leads a process group of its own. The terminal's Ctrl-C therefore reaches this process alone, which passes
//! it on to the whole group, waits, and kills what is still there. The same happens when a time limit ends.
//!
//! ```text
//! running ──exit──▶ checked
//!    │ signal or limit
//!    ▼
//! asked to end (the signal, or SIGTERM) ──exit or GRACE──▶ group killed, child reaped
//! ```

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a child that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(25);
/// The signals that end a task.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Runs children and knows whether the user wants them to end.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    /// The number of the signal that came, 0 before.
    signal: Arc<AtomicUsize>,
}

/// Why a child did not end well.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be started.
    Start { program: String, source: io::Error },
    /// It ended with another code than 0, or by a signal.
    Failed { program: String, status: ExitStatus },
    /// It took too long and was ended.
    TimedOut { program: String, limit: Duration },
    /// A signal asked this process to end.
    Interrupted,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, source } => write!(f, "cannot start `{program}`: {source}"),
            Self::Failed { program, status } => write!(f, "`{program}` failed: {status}"),
            Self::TimedOut { program, limit } => {
                write!(f, "`{program}` took longer than {} s and was ended", limit.as_secs())
            }
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl std::error::Error for RunError {}

/// Whom a signal goes to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Every process that the child started and that stayed in its group.
    Group,
    /// The child alone, which ends its own children.
    Leader,
}

impl Runner {
    /// A runner that nothing interrupts yet.
    pub(crate) fn new() -> Self {
        Self { signal: Arc::default() }
    }

    /// From now on SIGINT, SIGTERM and SIGHUP end the running child, and then this process.
    pub(crate) fn catch_signals(&self) -> io::Result<()> {
        for signal in ENDING {
            let number = signal.as_raw();
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(number, Arc::clone(&self.signal), value)?;
        }
        Ok(())
    }

    /// Runs a command with the terminal's output and no input, to its end or the limit's.
    pub(crate) fn run(&self, command: &mut Command, limit: Duration) -> Result<(), RunError> {
        let mut child = self.start(command)?;
        self.finish(&mut child, &shown(command), Some(limit), Target::Group)
    }

    /// Starts a command as the leader of a group; it must be given to [`Runner::serve`], [`Runner::join`] or [`stop`] then.
    pub(crate) fn start(&self, command: &mut Command) -> Result<Child, RunError> {
        if self.caught().is_some() {
            return Err(RunError::Interrupted);
        }
        let started = command.stdin(Stdio::null()).process_group(0).spawn();
        started.map_err(|source| RunError::Start { program: shown(command), source })
    }

    /// Waits without a limit for a child that runs until it is told to end; being told to is a good end.
    pub(crate) fn serve(&self, child: &mut Child, program: &str) -> Result<(), RunError> {
        match self.finish(child, program, None, Target::Leader) {
            Err(RunError::Interrupted) => Ok(()),
            result => result,
        }
    }

    /// Waits for a child of [`Runner::start`] that ends by itself, and ends its own children if it is told to.
    pub(crate) fn join(&self, child: &mut Child, program: &str, limit: Duration) -> Result<(), RunError> {
        self.finish(child, program, Some(limit), Target::Leader)
    }

    fn finish(
        &self,
        child: &mut Child,
        program: &str,
        limit: Option<Duration>,
        target: Target,
    ) -> Result<(), RunError> {
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(RunError::Failed { program: program.to_owned(), status }),
                Ok(None) => {}
                Err(source) => return Err(RunError::Start { program: program.to_owned(), source }),
            }
            if let Some(signal) = self.caught() {
                end(child, signal, target);
                return Err(RunError::Interrupted);
            }
            if let Some(limit) = limit.filter(|limit| started.elapsed() > *limit) {
                end(child, Signal::TERM, target);
                return Err(RunError::TimedOut { program: program.to_owned(), limit });
            }
            thread::sleep(POLL);
        }
    }

    fn caught(&self) -> Option<Signal> {
        let number = self.signal.load(Ordering::Relaxed);
        ENDING.into_iter().find(|signal| usize::try_from(signal.as_raw()) == Ok(number))
    }
}

/// Ends a child of [`Runner::start`], and what it left in its group.
pub(crate) fn stop(child: &mut Child) {
    end(child, Signal::TERM, Target::Leader);
}

/// Asks a child to end, waits at most [`GRACE`], then kills its group and reaps it. The group is killed even if the child
/// ended by itself: what it left behind in its group is not wanted either.
fn end(child: &mut Child, signal: Signal, target: Target) {
    let pid = Pid::from_child(child);
    // Errors mean that the process is gone already, which is what is wanted.
    let _ = match target {
        Target::Group => kill_process_group(pid, signal),
        Target::Leader => kill_process(pid, signal),
    };
    let asked = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && asked.elapsed() < GRACE {
        thread::sleep(POLL);
    }
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = child.wait();
}

/// A command as a person would type it, without its directory and environment.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name.into_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// A script that starts a grandchild, notes its pid in `note`, and waits.
    fn family(note: &Path) -> Command {
        shell(&format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", note.display()))
    }

    /// Whether the process whose pid is in `note` is gone, or a zombie that init has yet to reap. One that was killed needs the
    /// processor once more for that, so it has a while, much less than it would have slept.
    fn is_gone(note: &Path) -> bool {
        let pid = fs::read_to_string(note).unwrap();
        let is_over = || {
            let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        };
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_over()
        })
    }

    #[test]
    fn exit_codes_are_checked() {
        let runner = Runner::new();
        assert!(runner.run(&mut shell("exit 0"), LONG).is_ok());
        let failed = runner.run(&mut shell("exit 3"), LONG);
        assert!(matches!(failed, Err(RunError::Failed { status, .. }) if status.code() == Some(3)));
        let missing = runner.run(&mut Command::new("no-such-program-here"), LONG);
        assert!(matches!(missing, Err(RunError::Start { .. })));
    }

    #[test]
    fn a_limit_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("pid");
        let result = Runner::new().run(&mut family(&note), Duration::from_secs(1));
        assert!(matches!(result, Err(RunError::TimedOut { .. })));
        assert!(is_gone(&note));
    }

    #[test]
    fn a_signal_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("pid");
        let runner = Runner::new();
        let signal = Arc::clone(&runner.signal);
        let watched = note.clone();
        let interrupter = thread::spawn(move || {
            let started = Instant::now();
            while !watched.exists() && started.elapsed() < LONG {
                thread::sleep(POLL);
            }
            signal.store(usize::try_from(Signal::TERM.as_raw()).unwrap(), Ordering::Relaxed);
        });
        let result = runner.run(&mut family(&note), LONG);
        interrupter.join().unwrap();
        assert!(matches!(result, Err(RunError::Interrupted)));
        assert!(is_gone(&note));
        assert!(matches!(runner.run(&mut shell("exit 0"), LONG), Err(RunError::Interrupted)));
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["fmt", "--check"]);
        assert_eq!(shown(&command), "cargo fmt --check");
    }
}
