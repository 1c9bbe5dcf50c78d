//! `workerd`, if npm has installed it: a whole process with one Worker, from its start to its first answer.
//!
//! A Worker cannot read the machine's clock, so its first instruction is bounded by the answer.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::get;
use crate::locate;
use crate::proc;

const PROGRAM: &str = "workerd";
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Between two knocks at a door that is not open yet.
const KNOCK_EVERY: Duration = Duration::from_micros(200);

/// The program, or a note that it is not there.
pub(super) fn find(notes: &mut Vec<String>) -> Option<PathBuf> {
    let program = locate::npm_program(PROGRAM);
    let mut version = Command::new(&program);
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Some(program);
    }
    notes.push(format!("{PROGRAM} is left out: it is not installed (npm install {PROGRAM})"));
    None
}

/// From right before the fork to the first answer.
pub(super) fn times(program: &Path, core: usize, count: usize) -> io::Result<Vec<u64>> {
    (0..count).map(|_| once(program, core)).collect()
}

fn once(program: &Path, core: usize) -> io::Result<u64> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("config.capnp");
    // Nobody else takes a port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    fs::write(&config, self::config(address))?;
    let mut command = Command::new(program);
    command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let child = proc::pinned(Some(core), || command.spawn()).map_err(io::Error::other)?;
    let _child = Ends(child?);
    while begun.elapsed() < READY_WITHIN {
        if get(address, "/", None, READY_WITHIN).is_ok_and(|answer| answer.status == 200) {
            return Ok(crate::units::nanos(begun.elapsed()));
        }
        thread::sleep(KNOCK_EVERY);
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn config(address: SocketAddr) -> String {
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .hello)],
  sockets = [(name = "http", address = "{address}", http = (), service = "main")]
);
const hello :Workerd.Worker = (
  serviceWorkerScript = "addEventListener('fetch', event => event.respondWith(new Response('hello')));",
  compatibilityDate = "2024-09-02"
);
"#
    )
}

/// A process that ends with its owner.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
