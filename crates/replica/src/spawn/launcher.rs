//! A thread that starts processes, so that whoever orders one goes on meanwhile.
//!
//! What it started dies with it, and it ends with the one who gives the orders: what holds of the spawning thread (see
//! [`mod@crate::spawn`]) holds of both.

use std::cell::OnceCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::io::Errno;

use super::{Child, SpawnError, Step, spawn};
use crate::sandbox::SpawnSpec;

/// Orders that wait. There are fewer places for replicas that one node may start at once.
const ORDERS_MAX: usize = 4096;
const THREAD: &str = "baton-starts";

/// What to start, and who is told of it.
type Order = (SpawnSpec, Box<dyn FnOnce(Result<Child, SpawnError>) + Send>);

/// What gives orders to the thread, which comes with the first one.
#[derive(Debug, Default)]
pub struct Launcher(OnceCell<SyncSender<Order>>);

impl Launcher {
    /// Has a process started; `done` is told on the other thread what came of it. A process that it lets go is killed.
    ///
    /// # Errors
    /// There is no such thread, or it has too much to do: nothing was started, and `done` is not told.
    pub fn order(
        &self,
        spec: SpawnSpec,
        done: impl FnOnce(Result<Child, SpawnError>) + Send + 'static,
    ) -> Result<(), SpawnError> {
        let short = SpawnError::Resources { step: Step::Prepare, errno: Errno::AGAIN };
        let orders = match self.0.get() {
            Some(orders) => orders,
            None => {
                let (orders, inbox) = sync_channel(ORDERS_MAX);
                let started = thread::Builder::new().name(THREAD.to_owned()).spawn(move || work(&inbox));
                started.map_err(|_| short)?;
                self.0.get_or_init(|| orders)
            }
        };
        orders.try_send((spec, Box::new(done))).map_err(|_| short)
    }
}

fn work(inbox: &Receiver<Order>) {
    for (spec, done) in inbox {
        done(spawn(spec));
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::process::Command;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::sandbox::{Limits, NetworkAccess, Role};

    fn pipe() -> OwnedFd {
        rustix::pipe::pipe().unwrap().1
    }

    /// A process that waits for as long as its control socket is open.
    fn sleeper() -> SpawnSpec {
        let words = |words: &[&str]| words.iter().map(|word| CString::new(*word).unwrap()).collect();
        SpawnSpec {
            program: File::open("/bin/sleep").unwrap().into(),
            args: words(&["sleep", "60"]),
            role: Role::Replica,
            env: Vec::new(),
            control: pipe(),
            stdout: pipe(),
            stderr: pipe(),
            files: None,
            root: None,
            limits: Limits::default(),
            network: NetworkAccess::None,
            doors: Vec::new(),
            cores: Vec::new(),
            name: "launched".to_owned(),
            insecure_no_sandbox: true,
        }
    }

    #[test]
    fn what_is_started_dies_with_who_ordered_it() {
        assert!(Command::new("/bin/sleep").arg("0").status().is_ok(), "there is such a program");
        let launcher = Launcher::default();
        let (sender, receiver) = sync_channel(2);
        for _ in 0..2 {
            let sender = sender.clone();
            launcher.order(sleeper(), move |child| drop(sender.send(child))).unwrap();
        }
        let mut children: Vec<Child> = (0..2).map(|_| receiver.recv().unwrap().unwrap()).collect();
        assert!(children.iter_mut().all(|child| child.try_wait().is_none()));
        drop(launcher);
        for child in &children {
            use std::os::fd::AsFd;
            let ended = WaitId::PidFd(child.as_fd());
            let status = waitid(ended, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap().unwrap();
            assert_eq!(status.terminating_signal(), Some(9));
        }
    }
}
