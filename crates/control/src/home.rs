//! `$BATON_HOME`: one directory, one node, one token.
//!
//! ```text
//!   node.lock    locked by the running node; holds its pid
//!   token        32 hexadecimal digits, mode 0600, made once
//!   admin.sock   the admin API, mode 0600
//!   state.redb   what is deployed, and secrets, sealed
//!   secrets.key  what they are sealed with, mode 0600, made with the first of them
//!   artifacts/   executables and bundles of files by hash
//!   files/       files of functions that run as processes, by the hash of their bundle
//!   wasm/        compiled Wasm modules, by what they depend on
//!   snapshots/   memory of compartments after their start, by what it depends on
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::limits::SOCKET_PATH_BYTES_MAX;

/// The random part of a token, in bytes.
const TOKEN_BYTES: usize = 16;
/// How long what a killed node left behind may take to go, and how often that is looked at.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a state directory cannot be used.
#[derive(Debug)]
pub enum HomeError {
    /// Another node uses it.
    Taken {
        /// The directory.
        home: PathBuf,
        /// The other node, as it named itself.
        pid: String,
    },
    /// Its path is too long for the socket in it.
    TooLong {
        /// The socket.
        socket: PathBuf,
    },
    /// The token file holds something else.
    Token {
        /// The file.
        file: PathBuf,
    },
    /// The file system refuses.
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { home, pid } => write!(f, "a node with pid {pid} uses {} already", home.display()),
            Self::TooLong { socket } => write!(
                f,
                "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a Unix socket's path may have",
                socket.display()
            ),
            Self::Token { file } => write!(f, "{} holds no token of this node", file.display()),
            Self::Io { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for HomeError {}

impl HomeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Taken { .. } => {
                "use `baton deploy` to add an app to it, or set BATON_HOME to another directory"
            }
            Self::TooLong { .. } => "set BATON_HOME to a shorter path",
            Self::Token { .. } => "delete the file; the node makes a new token",
            Self::Io { .. } => "set BATON_HOME to a directory that this user may write",
        }
    }
}

/// The Unix socket of the node that uses a state directory.
#[must_use]
pub fn admin_socket(home: &Path) -> PathBuf {
    home.join("admin.sock")
}

/// A state directory that belongs to this process until the value is dropped.
#[derive(Debug)]
pub struct Home {
    root: PathBuf,
    token: String,
    /// Open means locked: the kernel unlocks it when the process ends, however it ends.
    _lock: File,
}

impl Home {
    /// Makes the directory if need be, locks it and reads its token.
    ///
    /// # Errors
    /// Another node has it, or the file system refuses.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let io = |source| HomeError::Io { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
        let root = root.canonicalize().map_err(io)?;
        let socket = admin_socket(&root);
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(HomeError::TooLong { socket });
        }
        let lock = lock(&root)?;
        let token = token(&root.join("token"))?;
        Ok(Self { root, token, _lock: lock })
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What requests over TCP must bring along.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The admin API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        admin_socket(&self.root)
    }

    /// The store's file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state.redb")
    }

    /// The directory of executables.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// The file of usage accounts.
    #[must_use]
    pub fn usage(&self) -> PathBuf {
        self.root.join("usage.redb")
    }

    /// The directory of unpacked files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The directory of compiled Wasm modules.
    #[must_use]
    pub fn wasm(&self) -> PathBuf {
        self.root.join("wasm")
    }

    /// The directory of calls that are not answered yet.
    #[must_use]
    pub fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    /// The file of events that wait.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.root.join("events.redb")
    }

    /// The directory of snapshots.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
}

fn lock(root: &Path) -> Result<File, HomeError> {
    let path = root.join("node.lock");
    let io = |source| HomeError::Io { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).mode(0o600).open(&path).map_err(io)?;
    let until = Instant::now() + LEAVES_WITHIN;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(io(errno.into())),
        }
        let mut pid = String::new();
        // It may be half written or missing.
        let _ = file.rewind().and_then(|()| (&file).take(32).read_to_string(&mut pid));
        // A node that was killed may have had a child in the making, which goes in the same moment.
        if Instant::now() >= until || !is_gone(pid.trim()) {
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(HomeError::Taken { home: root.to_owned(), pid });
        }
        thread::sleep(LOOK_EVERY);
    }
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(io)?;
    Ok(file)
}

/// Whether there is certainly no process of this number.
fn is_gone(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Reads the token, or makes it. The caller holds the lock, so nobody else makes one meanwhile.
fn token(path: &Path) -> Result<String, HomeError> {
    let io = |source| HomeError::Io { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => {
            let token = text.trim();
            if token.len() != 2 * TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(HomeError::Token { file: path.to_owned() });
            }
            // A backup or a copy may have widened it.
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
            Ok(token.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = random_token().map_err(io)?;
            let new = path.with_extension("new");
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(io)?;
            let write = file.write_all(token.as_bytes()).and_then(|()| file.sync_all());
            write.and_then(|()| fs::rename(&new, path)).map_err(io)?;
            Ok(token)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(HomeError::Token { file: path.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let error = Home::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(home);
        Home::open(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_node_left_behind_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(dir.path().join("node.lock"), format!("{}\n", gone.id())).unwrap();
        let leaving = thread::spawn(move || {
            thread::sleep(LOOK_EVERY);
            drop(home);
        });
        Home::open(dir.path()).unwrap();
        leaving.join().unwrap();
    }

    #[test]
    fn the_token_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(dir.path()).unwrap().token().to_owned();
        assert_eq!(first.len(), 32);
        let file = dir.path().join("token");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Home::open(dir.path()).unwrap().token(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [&b"short"[..], b"", b"zz345678901234567890123456789012", b"\xff\xfe"] {
            fs::write(dir.path().join("token"), damaged).unwrap();
            assert!(matches!(Home::open(dir.path()), Err(HomeError::Token { .. })), "{damaged:?}");
        }
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_early() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(Home::open(&long), Err(HomeError::TooLong { .. })));
    }
}
