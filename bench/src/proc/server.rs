//! One server process: its start, its readiness line, its end.
//!
//! A server says on its standard output that it is ready. Everything else that it prints is kept in a short tail for
//! the error message. The end: its standard input closes, it gets SIGTERM, after a grace SIGKILL, and whatever it
//! left behind gets SIGKILL too, each by its own pid.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::{self, ProcError, Usage};

/// Lines of output kept for error messages.
const TAIL_LINES_MAX: usize = 20;
/// Lines that may wait for whoever awaits readiness.
const LINES_QUEUED_MAX: usize = 64;
/// Time between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What to start and where.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// The name in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its additional environment.
    pub env: Vec<(OsString, OsString)>,
    /// The core that it and its children stay on.
    pub core: Option<usize>,
    /// How long it may take to be ready.
    pub ready_within: Duration,
}

/// Why a server did not come up.
#[derive(Debug)]
pub enum StartError {
    /// The program could not be started.
    Spawn {
        /// The server's name.
        name: String,
        /// The program.
        program: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It ended, or said nothing useful in time.
    NotReady {
        /// The server's name.
        name: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// It could not be placed on its core.
    Place(ProcError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn { name, program, error } => {
                write!(f, "{name}: {} does not start: {error}", program.display())
            }
            Self::NotReady { name, tail } if tail.is_empty() => {
                write!(f, "{name} did not get ready, and said nothing")
            }
            Self::NotReady { name, tail } => write!(f, "{name} did not get ready; its last words:\n{tail}"),
            Self::Place(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

type Tail = Arc<Mutex<VecDeque<String>>>;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
}

impl Server {
    /// Starts a server and waits until `ready` understands a line of its output.
    pub fn start<T>(
        spec: &ServerSpec,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<(Self, T), StartError> {
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).envs(spec.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = account::pinned(spec.core, || command.spawn()).map_err(StartError::Place)?;
        let mut child = spawned.map_err(|error| StartError::Spawn {
            name: spec.name.clone(),
            program: spec.program.clone(),
            error,
        })?;
        let tail = Tail::default();
        let lines = child.stdout.take().map(|out| collect(out, &tail));
        let _errors = child.stderr.take().map(|out| collect(out, &tail));
        let server = Self { name: spec.name.clone(), child };
        let deadline = Instant::now() + spec.ready_within;
        while let Some(line) = lines.as_ref().and_then(|lines| next_line(lines, deadline)) {
            if let Some(value) = ready(&line) {
                return Ok((server, value));
            }
        }
        // The last words may still be on their way through the other pipe.
        thread::sleep(Duration::from_millis(50));
        let words = tail.lock().map(|tail| tail.iter().cloned().collect::<Vec<_>>()).unwrap_or_default();
        Err(StartError::NotReady { name: spec.name.clone(), tail: words.join("\n") })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it and its children have used so far.
    pub fn usage(&self) -> Result<Usage, ProcError> {
        account::usage(self.pid())
    }

    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let below = account::descendants(self.pid());
        drop(self.child.stdin.take());
        if !self.has_ended() {
            signal(self.pid(), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_GRACE;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for pid in below {
            signal(pid, Signal::KILL);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Reads lines to their end in a thread of their own, so that the server never blocks on a full pipe.
fn collect(output: impl Read + Send + 'static, tail: &Tail) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_QUEUED_MAX);
    let tail = Arc::clone(tail);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(mut tail) = tail.lock() {
                tail.push_back(line.clone());
                if tail.len() > TAIL_LINES_MAX {
                    tail.pop_front();
                }
            }
            // Nobody listens once the server is ready; the lines are dropped then.
            let _ = sender.try_send(line);
        }
    });
    receiver
}

fn next_line(lines: &Receiver<String>, deadline: Instant) -> Option<String> {
    lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ServerSpec {
        ServerSpec {
            name: "shell".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            core: Some(account::affinity()[0]),
            ready_within: Duration::from_secs(5),
        }
    }

    fn listening(line: &str) -> Option<String> {
        line.strip_prefix("listening ").map(str::to_owned)
    }

    #[test]
    fn a_server_is_awaited_and_ended_with_its_children() {
        let spec = shell("echo hi; sleep 60 & echo listening here; wait");
        let (server, place) = Server::start(&spec, listening).unwrap();
        assert_eq!(place, "here");
        let (pid, below) = (server.pid(), account::descendants(server.pid()));
        assert_eq!(below.len(), 1);
        drop(server);
        assert!(account::usage(pid).is_err());
        thread::sleep(Duration::from_millis(50));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", below[0])).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }

    #[test]
    fn a_server_that_fails_leaves_its_last_words() {
        let error = Server::start(&shell("echo out; echo no such port >&2; exit 1"), listening).unwrap_err();
        assert!(error.to_string().contains("no such port"), "{error}");
        let mut spec = shell("sleep 60");
        spec.ready_within = Duration::from_millis(100);
        assert!(matches!(Server::start(&spec, listening), Err(StartError::NotReady { .. })));
    }
}
