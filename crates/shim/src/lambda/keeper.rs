//! The program: started when it is needed, watched over, ended when an event takes too long.
//!
//! It is started at once, so that it is up when the first event comes. One that ends is started again for the next event: what it was
//! doing is told to whoever waits for that. Where this is the first process of its pid namespace, what the program leaves behind is
//! ended with it.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use super::desk::{Desk, LOOK_EVERY, State};
use super::outcome::Failure;
use super::output::Output;
use super::{LambdaConfig, environment};

/// Variables that are the shim's own.
const OWN: [&str; 2] = [crate::config::ENV, "BATON_CALLS"];

/// Keeps the program.
#[derive(Debug)]
pub(super) struct Keeper {
    config: &'static LambdaConfig,
    port: u16,
    desk: Arc<Desk>,
}

/// Why the keeper does not start.
#[derive(Debug)]
pub(super) struct KeeperError(io::Error);

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no thread can be started: {}", self.0)
    }
}

/// A program that runs.
struct Running {
    pid: Pid,
    ended: mpsc::Receiver<ExitStatus>,
    since: Instant,
}

impl Keeper {
    pub(super) fn start(
        config: &'static LambdaConfig,
        port: u16,
        desk: &Arc<Desk>,
    ) -> Result<(), KeeperError> {
        let keeper = Self { config, port, desk: Arc::clone(desk) };
        let started = thread::Builder::new().name("baton-keeper".to_owned()).spawn(move || keeper.run());
        started.map(|_| ()).map_err(KeeperError)
    }

    fn run(&self) {
        loop {
            {
                let mut state = self.desk.lock();
                state.start += 1;
                state.is_up = false;
                state.init_error = None;
            }
            // Connections of an earlier program see that it is over.
            self.desk.stir();
            let how = match self.launch() {
                Ok(running) => self.watch(&running),
                Err(error) => Some(error),
            };
            // What is not given goes to the next start, if this one has come up at all.
            self.fail_lost(how);
            let mut state = self.desk.lock();
            state.is_asleep = true;
            while state.queue.is_empty() && !state.is_ending {
                state = self.desk.wait(state, None);
            }
            state.is_asleep = false;
            if state.is_ending {
                return;
            }
        }
    }

    fn launch(&self) -> Result<Running, String> {
        let words = environment::command(self.config)?;
        let (name, args) = words.split_first().ok_or_else(|| "there is nothing to start".to_owned())?;
        let (fixed, usual) = environment::variables(self.config, self.port);
        let told = |error: io::Error| format!("`{name}` cannot be started: {error}");
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| told(errno.into()))?;
        let mut command = Command::new(name);
        let usual = usual.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
        command.args(args).envs(usual).envs(fixed).stdin(Stdio::null());
        for name in OWN {
            command.env_remove(name);
        }
        let root = environment::root();
        if Path::new(&root).is_dir() {
            command.current_dir(&root);
        }
        let second = write.try_clone().map_err(told)?;
        command.stdout(Stdio::from(write)).stderr(Stdio::from(second));
        let child = command.spawn().map_err(told)?;
        // This process's own ends of the pipe go with the command.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| told(io::Error::other("it has no number")))?;
        let (tell, ended) = mpsc::channel();
        let desk = Arc::clone(&self.desk);
        let reaping = thread::Builder::new().name("baton-children".to_owned());
        reaping.spawn(move || reap(pid, &tell, &desk)).map_err(told)?;
        let (desk, output) = (Arc::clone(&self.desk), Arc::new(Output::new(read)));
        self.desk.lock().output = Some(Arc::clone(&output));
        let copying = thread::Builder::new().name("baton-output".to_owned());
        copying.spawn(move || output.copy(&desk)).map_err(told)?;
        Ok(Running { pid, ended, since: Instant::now() })
    }

    /// Watches a program to its end, and over the events that it has. Says how it ended, unless somebody was told already.
    fn watch(&self, running: &Running) -> Option<String> {
        let mut state = self.desk.lock();
        let mut is_killed = false;
        loop {
            if let Ok(status) = running.ended.try_recv() {
                return Some(described(status));
            }
            if state.is_ending {
                kill(running.pid);
                return None;
            }
            let now = Instant::now();
            let overdue: Vec<_> = {
                let State { running, .. } = &mut *state;
                running.extract_if(.., |running| running.until <= now).collect()
            };
            let within = Duration::from_millis(self.config.within_ms);
            let is_stuck = !state.is_up && now >= running.since + within && !state.queue.is_empty();
            if is_stuck && state.init_error.is_none() {
                let message = format!("the runtime did not come up within {} seconds", within.as_secs_f64());
                state.init_error = Some(Failure::new("Sandbox.Timedout", &message).body);
            }
            if (!overdue.is_empty() || is_stuck) && !is_killed {
                is_killed = true;
                kill(running.pid);
            }
            for late in overdue {
                late.job.slot.fail(Failure::late(&late.job.id, late.job.timeout));
            }
            let next = state.running.iter().map(|running| running.until).min();
            let look = now + LOOK_EVERY;
            state = self.desk.wait(state, Some(next.map_or(look, |next| next.min(look))));
        }
    }

    /// Tells those whose events were lost with the program.
    fn fail_lost(&self, how: Option<String>) {
        let how = how.unwrap_or_else(|| "it was told to".to_owned());
        let (lost, waiting, error) = {
            let mut state = self.desk.lock();
            let lost = std::mem::take(&mut state.running);
            // One that never came up would not come up for these either.
            let waiting = if state.is_up { Default::default() } else { std::mem::take(&mut state.queue) };
            (lost, waiting, state.init_error.take())
        };
        for job in lost.into_iter().map(|running| running.job) {
            job.slot.fail(Failure::exited(&job.id, &how));
        }
        for job in waiting {
            let told = error.clone().map(Failure::told);
            job.slot.fail(told.unwrap_or_else(|| Failure::exited(&job.id, &how)));
        }
    }
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => "signal: killed".to_owned(),
        (None, signal) => format!("signal: {}", signal.unwrap_or(0)),
    }
}

fn is_first() -> bool {
    std::process::id() == 1
}

fn kill(program: Pid) {
    // One that has ended already needs no more.
    let _ = rustix::process::kill_process(program, Signal::KILL);
}

/// Waits for children until there are none.
fn reap(program: Pid, tell: &mpsc::Sender<ExitStatus>, desk: &Desk) {
    let mut how = None;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                how = Some(ExitStatus::from_raw(status.as_raw()));
                if is_first() {
                    // All but this process, which no signal of its own reaches. Without any there is nobody left.
                    let _ = kill_all();
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    let _ = tell.send(how.unwrap_or_else(|| ExitStatus::from_raw(0)));
    desk.stir();
}

/// Ends what the program left behind.
fn kill_all() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if pid != Pid::INIT {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}
