//! Builds the guests once and runs them.

#![allow(clippy::unwrap_used, reason = "a test helper")]
#![allow(dead_code, reason = "every test binary uses its part")]

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use baton_replica::{Child, ExitReason, Limits, NetworkAccess, Role, SpawnError, SpawnSpec, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// How long any guest may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The C guest, or `None` where no compiler is.
pub(crate) fn c_guest() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("gcc", &["-static-pie", "-O1", "-Wall"], "guest.c", "c-guest")).as_deref()
}

/// The Rust guest, or `None` where no compiler is.
pub(crate) fn rust_guest() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let options = ["--edition=2024", "-Ctarget-feature=+crt-static", "-Crelocation-model=pie"];
    BUILT.get_or_init(|| build("rustc", &options, "guest.rs", "rust-guest")).as_deref()
}

fn build(compiler: &str, options: &[&str], source: &str, name: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest").join(source);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Several test binaries build it at once: each its own, and the last one to rename wins.
    let (own, shared) = (directory.join(format!("{name}-{}", std::process::id())), directory.join(name));
    let built = Command::new(compiler).args(options).arg("-o").arg(&own).arg(source).status();
    if built.is_err() {
        println!("SKIP: {compiler} is not installed, so {name} cannot be built");
        return None;
    }
    assert!(built.unwrap().success(), "{name} does not compile");
    std::fs::rename(own, &shared).unwrap();
    Some(shared)
}

/// What a guest left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reason: ExitReason,
    pub(crate) stdout: String,
}

/// A running guest with the other ends of its descriptors.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) child: Child,
    pub(crate) control: OwnedFd,
    pub(crate) stdout: File,
}

/// A specification with pipes to read from.
pub(crate) fn spec(program: &Path, args: &[&str]) -> (SpawnSpec, OwnedFd, File) {
    let (control, ours) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let stderr = writer.try_clone().unwrap();
    let spec = SpawnSpec {
        program: File::open(program).unwrap().into(),
        args: std::iter::once("guest")
            .chain(args.iter().copied())
            .map(|s| CString::new(s).unwrap())
            .collect(),
        role: Role::Replica,
        env: vec![c"GREETING=hello".to_owned()],
        control,
        stdout: writer.into(),
        stderr: stderr.into(),
        limits: Limits::default(),
        files: None,
        root: None,
        network: NetworkAccess::None,
        doors: Vec::new(),
        cores: Vec::new(),
        name: "shop_cart#1".to_owned(),
        insecure_no_sandbox: false,
    };
    (spec, ours, File::from(OwnedFd::from(reader)))
}

pub(crate) fn start(
    program: &Path,
    args: &[&str],
    adjust: impl FnOnce(&mut SpawnSpec),
) -> Result<Guest, SpawnError> {
    let (mut spec, control, stdout) = spec(program, args);
    adjust(&mut spec);
    Ok(Guest { child: spawn(spec)?, control, stdout })
}

/// Runs a guest to its end.
pub(crate) fn run(program: &Path, args: &[&str], adjust: impl FnOnce(&mut SpawnSpec)) -> Outcome {
    start(program, args, adjust).unwrap_or_else(|error| panic!("{error}")).finish()
}

impl Guest {
    /// Waits for the guest's end, at most as long as patience lasts.
    pub(crate) fn finish(mut self) -> Outcome {
        await_end(&mut self.child);
        let reason = self.child.try_wait().expect("its descriptor is readable, so it has ended");
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        Outcome { reason, stdout }
    }

    /// Waits until the guest says that it is ready.
    pub(crate) fn ready(&mut self) {
        let mut word = [0; 8];
        self.stdout.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ready 0 ");
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.pid().as_raw_nonzero().get()
    }

    /// A file of the guest below `/proc`.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid()))
    }
}

fn await_end(child: &mut Child) {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let fd = child.as_fd();
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "the guest does not end");
}

/// Waits until a condition holds, at most as long as patience lasts.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
