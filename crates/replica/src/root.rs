//! What a program in a language of its own sees of the machine: a root with programs and libraries, and nothing else.
//!
//! ```text
//!   /usr /bin /lib* /sbin    the machine's, read-only         /tmp    a bounded tmpfs, the only place to write
//!   PREFIX/{bin,lib,…}       an interpreter's that lies       /proc   of its own processes, without the rest
//!                            elsewhere, read-only             /dev    null, zero, full, random, urandom
//!   /etc                     what libraries look up there     /app    the function's files, read-only
//! ```
//! Nothing here is opened: the process itself opens each path before it lets go of the machine's root.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use baton_abi::boot::FILES_AT;

/// Most things that one root shows of the machine.
pub const SHOWN_MAX: usize = 64;

/// Directories of programs and libraries; each a directory or a link into another.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What of `/etc` is shown where it is there: what the loader, the clock, certificates and names of services need. No users, no
/// keys, nothing of who runs the machine.
const ETC: [&str; 15] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/python3",
];

/// Devices that are harmless.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Files that the root has of its own.
const OWN_FILES: [(&str, &str); 4] = [
    ("/etc/passwd", "root:x:0:0::/:/usr/sbin/nologin\nfunction:x:1000:1000::/tmp:/bin/sh\n"),
    ("/etc/group", "root:x:0:\nfunction:x:1000:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/shm", "/tmp"),
];

/// One thing of the machine that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) from: CString,
    pub(crate) at: CString,
    pub(crate) is_directory: bool,
    pub(crate) is_device: bool,
}

/// A root, ready to be built by the process that is to live in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub(crate) shown: Vec<Shown>,
    pub(crate) files: Vec<(CString, Vec<u8>)>,
    /// Where, and what the link says.
    pub(crate) links: Vec<(CString, CString)>,
    /// Parents first.
    pub(crate) directories: Vec<CString>,
    pub(crate) tmp_bytes: u64,
    /// The program by its path inside; `None` executes the descriptor of the spec.
    pub(crate) program: Option<CString>,
    pub(crate) start_in: CString,
}

/// Why a root cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootError {
    /// A path that is not absolute, goes through `..`, or has a NUL in it.
    Path(PathBuf),
    /// More than [`SHOWN_MAX`] things to show.
    TooMuch,
}

impl std::fmt::Display for RootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{} cannot be shown to a function", path.display()),
            Self::TooMuch => write!(f, "more than {SHOWN_MAX} directories and files are to be shown"),
        }
    }
}

impl std::error::Error for RootError {}

impl Root {
    /// The machine's programs and libraries, and a `/tmp` of so many bytes.
    ///
    /// # Errors
    /// [`RootError`], which a usual machine has no reason for.
    pub fn of_machine(tmp_bytes: u64) -> Result<Self, RootError> {
        let mut root = Self {
            shown: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            directories: Vec::new(),
            tmp_bytes,
            program: None,
            start_in: c"/".to_owned(),
        };
        for path in SYSTEM.map(Path::new) {
            match fs::read_link(path) {
                Ok(target) => root.link(path, &target)?,
                Err(_) => root.show_if_there(path, path)?,
            }
        }
        for path in ETC.map(Path::new) {
            root.show_if_there(path, path)?;
        }
        for path in DEVICES.map(Path::new) {
            root.show_if_there(path, path)?;
        }
        for (path, text) in OWN_FILES {
            let path = Path::new(path);
            root.make_parents(path)?;
            root.files.push((c_path(path)?, text.as_bytes().to_vec()));
        }
        for (at, target) in LINKS {
            root.link(Path::new(at), Path::new(target))?;
        }
        for path in ["/tmp", "/proc"].map(Path::new) {
            root.make_directory(path)?;
        }
        root.make_directory(Path::new(OsStr::from_bytes(FILES_AT.to_bytes())))?;
        Ok(root)
    }

    /// Shows a directory or file of the machine at a path of its own, read-only; nothing if it is not there, or lies in what is
    /// shown already.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn show_if_there(&mut self, from: &Path, at: &Path) -> Result<(), RootError> {
        let Ok(about) = fs::metadata(from) else { return Ok(()) };
        if self.covers(from) && from == at
            || self.shown.iter().any(|shown| shown.at.to_bytes() == at.as_os_str().as_bytes())
        {
            return Ok(());
        }
        if self.shown.len() == SHOWN_MAX {
            return Err(RootError::TooMuch);
        }
        self.make_parents(at)?;
        if about.is_dir() {
            self.make_directory(at)?;
        } else {
            self.files.push((c_path(at)?, Vec::new()));
        }
        let is_device = from.starts_with("/dev");
        let shown = Shown { from: c_path(from)?, at: c_path(at)?, is_directory: about.is_dir(), is_device };
        self.shown.push(shown);
        Ok(())
    }

    /// Adds lines to `/etc/hosts`.
    pub fn add_hosts(&mut self, lines: &str) {
        let hosts = self.files.iter_mut().find(|(path, _)| path.as_bytes() == b"/etc/hosts");
        if let Some((_, text)) = hosts {
            text.extend(lines.as_bytes());
        }
    }

    /// Executes the program at this path inside, in place of a descriptor.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn running(mut self, program: &Path) -> Result<Self, RootError> {
        self.program = Some(c_path(program)?);
        Ok(self)
    }

    /// Starts the program in this directory inside.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn starting_in(mut self, directory: &Path) -> Result<Self, RootError> {
        self.start_in = c_path(directory)?;
        Ok(self)
    }

    /// Whether a path of the machine is seen under the same path.
    #[must_use]
    pub fn covers(&self, path: &Path) -> bool {
        let shown = |shown: &Shown| {
            shown.from == shown.at && path.starts_with(Path::new(OsStr::from_bytes(shown.from.to_bytes())))
        };
        self.shown.iter().any(shown)
    }

    fn link(&mut self, at: &Path, target: &Path) -> Result<(), RootError> {
        self.make_parents(at)?;
        let target =
            CString::new(target.as_os_str().as_bytes()).map_err(|_| RootError::Path(target.to_owned()))?;
        self.links.push((c_path(at)?, target));
        Ok(())
    }

    fn make_parents(&mut self, path: &Path) -> Result<(), RootError> {
        path.parent()
            .filter(|parent| *parent != Path::new("/"))
            .map_or(Ok(()), |parent| self.make_directory(parent))
    }

    fn make_directory(&mut self, path: &Path) -> Result<(), RootError> {
        let bytes = c_path(path)?;
        // What lies in a mount is there already.
        let is_mounted = self.shown.iter().any(|shown| {
            shown.is_directory && path.starts_with(Path::new(OsStr::from_bytes(shown.at.to_bytes())))
        });
        if is_mounted || self.directories.contains(&bytes) {
            return Ok(());
        }
        self.make_parents(path)?;
        self.directories.push(bytes);
        Ok(())
    }
}

/// An absolute path without detours.
fn c_path(path: &Path) -> Result<CString, RootError> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let refused = || RootError::Path(path.to_owned());
    if !path.is_absolute() || !path.components().all(plain) {
        return Err(refused());
    }
    let clean: PathBuf = path.components().collect();
    CString::new(clean.as_os_str().as_bytes()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_nothing_secret_is_shown() {
        let mut root = Root::of_machine(1 << 20).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        root.show_if_there(&dir.path().join("a/b"), Path::new("/x/y/z")).unwrap();
        let at = |path: &std::ffi::CStr| root.directories.iter().position(|made| **made == *path).unwrap();
        assert!(at(c"/x") < at(c"/x/y") && at(c"/x/y") < at(c"/x/y/z"));
        let shown: Vec<_> = root.shown.iter().map(|shown| shown.at.to_str().unwrap()).collect();
        for secret in
            ["/", "/etc", "/home", "/var", "/etc/shadow", "/etc/ssl", "/dev", "/proc", "/sys", "/run"]
        {
            assert!(!shown.contains(&secret), "{secret}");
        }
        assert!(root.covers(Path::new("/usr/bin/python3")) && !root.covers(Path::new("/srv/pyenv")));
        assert!(root.starting_in(Path::new("/app/../etc")).is_err());
    }
}
