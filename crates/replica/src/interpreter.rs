//! Finding interpreters: what a function, or the node's own `PATH`, names, with all that it needs to run elsewhere.
//!
//! What a function names is looked at and never executed here: whoever deploys does not get to run something as the node. The
//! node's own `python3` may be a script that chooses one (pyenv's is), and is asked.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::root::{Root, RootError};

/// The oldest CPython 3 that functions are written for.
pub const PYTHON_MINOR_MIN: u32 = 10;
/// Links that are followed from a name to an executable.
const LINKS_MAX: u32 = 16;
/// How long the node's own interpreter may take to say where it is.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// What of a prefix is shown: programs, libraries, and what says that it is a virtual environment. Never a whole prefix, which
/// may be somebody's home.
const OF_PREFIX: [&str; 5] = ["bin", "lib", "lib64", "libexec", "pyvenv.cfg"];
/// Prefixes that every root has anyway.
const SYSTEM_PREFIXES: [&str; 2] = ["/usr", "/usr/local"];

/// An interpreter, by the path under which it is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its path: in a virtual environment, the one there.
    pub path: PathBuf,
    /// Where it, its libraries and its packages lie.
    pub prefixes: BTreeSet<PathBuf>,
    /// Of CPython 3, the number behind the dot, as far as a name tells it.
    pub minor: Option<u32>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterpreterError {
    /// Nothing of that name.
    Missing {
        /// What was looked for.
        name: PathBuf,
    },
    /// It is no interpreter and no virtual environment.
    NoInterpreter {
        /// Where.
        path: PathBuf,
    },
    /// It is too old.
    TooOld {
        /// Where.
        path: PathBuf,
        /// Of CPython 3, the number behind the dot.
        minor: u32,
    },
}

impl fmt::Display for InterpreterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } if name.components().count() == 1 => write!(
                f,
                "there is no {} on this machine: install it, or name an interpreter or a virtual environment in `python`",
                name.display()
            ),
            Self::Missing { name } => write!(
                f,
                "{} is not on this machine: every node that runs the function needs it there",
                name.display()
            ),
            Self::NoInterpreter { path } => write!(
                f,
                "{} is neither an interpreter nor a virtual environment: name a directory with pyvenv.cfg and bin/python3, or an \
                 executable",
                path.display()
            ),
            Self::TooOld { path, minor } => write!(
                f,
                "{} is Python 3.{minor}: functions need 3.{PYTHON_MINOR_MIN} or later",
                path.display()
            ),
        }
    }
}

impl std::error::Error for InterpreterError {}

/// The Python that a function names; `python3` of the node if it names none. A name alone is looked up in `PATH`.
///
/// # Errors
/// [`InterpreterError`].
pub fn python(named: Option<&Path>) -> Result<Interpreter, InterpreterError> {
    let Some(named) = named else { return own_python() };
    if named.components().count() == 1 && named.is_relative() {
        return in_path(named.as_os_str());
    }
    let path = if named.is_dir() { named.join("bin/python3") } else { named.to_owned() };
    let missing = || InterpreterError::Missing { name: path.clone() };
    if !named.is_absolute() || fs::symlink_metadata(&path).is_err() {
        return Err(missing());
    }
    at(&path)
}

/// The node's own `python3`, looked for once.
fn own_python() -> Result<Interpreter, InterpreterError> {
    static FOUND: OnceLock<Result<Interpreter, InterpreterError>> = OnceLock::new();
    FOUND.get_or_init(|| in_path(OsStr::new("python3"))).clone()
}

/// A program by name, where the node's `PATH` has it: `node`, say.
#[must_use]
pub fn which(name: &OsStr) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_absolute() && path.is_file())
}

fn in_path(name: &OsStr) -> Result<Interpreter, InterpreterError> {
    let path = which(name).ok_or_else(|| InterpreterError::Missing { name: name.into() })?;
    if is_elf(&path) {
        return at(&path);
    }
    // Whatever else is in `PATH` is not for who deploys to start.
    if !name.as_encoded_bytes().starts_with(b"python") {
        return Err(InterpreterError::NoInterpreter { path });
    }
    let real = ask(&path).ok_or_else(|| InterpreterError::NoInterpreter { path: path.clone() })?;
    at(&real)
}

/// Has a script that chooses an interpreter say which.
fn ask(script: &Path) -> Option<PathBuf> {
    let mut child = Command::new(script)
        .args(["-I", "-S", "-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if began.elapsed() > ASK_WITHIN => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut said = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut said).ok()?;
    let path = PathBuf::from(said.trim());
    (status.success() && path.is_absolute() && path.is_file()).then_some(path)
}

fn is_elf(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"\x7fELF"
}

/// The interpreter at a path, with the prefixes that it and its environment are made of.
fn at(path: &Path) -> Result<Interpreter, InterpreterError> {
    let no_interpreter = || InterpreterError::NoInterpreter { path: path.to_owned() };
    if !is_elf(path) {
        return Err(no_interpreter());
    }
    let mut prefixes = BTreeSet::new();
    let mut minor = None;
    let mut link = path.to_owned();
    for _ in 0..LINKS_MAX {
        minor = minor_of(&link).or(minor);
        // A name in a directory that is itself reached by a link (`/bin`) lies in what that leads to as well.
        prefixes.extend(prefix_of(&link));
        let Ok(target) = fs::read_link(&link) else { break };
        link = link.parent().unwrap_or(Path::new("/")).join(target);
    }
    let real = path.canonicalize().map_err(|_| no_interpreter())?;
    prefixes.extend(prefix_of(&real));
    if let Some(base) = prefix_of(path).and_then(|prefix| home_of(&prefix)) {
        prefixes.insert(base);
    }
    let minor = minor_of(&real).or(minor);
    match minor {
        Some(minor) if minor < PYTHON_MINOR_MIN => {
            Err(InterpreterError::TooOld { path: path.to_owned(), minor })
        }
        _ => Ok(Interpreter { path: path.to_owned(), prefixes, minor }),
    }
}

/// What is above `bin`.
fn prefix_of(program: &Path) -> Option<PathBuf> {
    let bin = program.parent().filter(|bin| bin.file_name() == Some(OsStr::new("bin")))?;
    let prefix = bin.parent()?;
    // Without detours, and without links on the way: nothing else can be shown at its place.
    let plain = prefix.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let prefix = if plain { prefix.to_owned() } else { prefix.canonicalize().ok()? };
    (prefix != Path::new("/")).then_some(prefix)
}

/// The prefix that a virtual environment was made of.
fn home_of(prefix: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(prefix.join("pyvenv.cfg")).ok()?;
    let home = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| value.trim().to_owned())
    })?;
    let home = Path::new(&home);
    (home.is_absolute() && home.file_name() == Some(OsStr::new("bin")))
        .then(|| home.parent().map(Path::to_owned))?
}

/// `python3.11`.
fn minor_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("python3.")?.parse().ok()
}

impl Interpreter {
    /// Another program, with the prefixes on the way to it.
    #[must_use]
    pub fn of_program(path: &Path) -> Interpreter {
        let real = path.canonicalize().ok();
        let prefixes = std::iter::once(path).chain(real.as_deref()).filter_map(prefix_of).collect();
        Interpreter { path: path.to_owned(), prefixes, minor: None }
    }

    /// Shows it in a root, with its libraries and packages.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn show_in(&self, root: &mut Root) -> Result<(), RootError> {
        for prefix in &self.prefixes {
            if SYSTEM_PREFIXES.iter().any(|system| prefix == Path::new(system)) {
                continue;
            }
            for part in OF_PREFIX {
                let part = prefix.join(part);
                // In a virtual environment `lib64` is a link to `lib`.
                root.show_if_there(&part, &part)?;
            }
        }
        Ok(())
    }

    /// The directory of its programs.
    #[must_use]
    pub fn programs(&self) -> Option<&Path> {
        self.path.parent()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A virtual environment at `place/venv` of an interpreter at `place/base`.
    fn environment(place: &Path) -> PathBuf {
        let base = place.join("base/bin");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("python3.12"), b"\x7fELF and more").unwrap();
        let venv = place.join("venv");
        fs::create_dir_all(venv.join("bin")).unwrap();
        symlink(base.join("python3.12"), venv.join("bin/python3.12")).unwrap();
        symlink("python3.12", venv.join("bin/python3")).unwrap();
        fs::write(venv.join("pyvenv.cfg"), format!("home = {}\nversion = 3.12.1\n", base.display())).unwrap();
        venv
    }

    #[test]
    fn an_environment_brings_what_it_was_made_of() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let venv = environment(&place);
        for named in [venv.clone(), venv.join("bin/python3")] {
            let found = python(Some(&named)).unwrap();
            assert_eq!((found.path.clone(), found.minor), (venv.join("bin/python3"), Some(12)));
            assert_eq!(found.prefixes, BTreeSet::from([venv.clone(), place.join("base")]));
            let mut root = Root::of_machine(1 << 20).unwrap();
            found.show_in(&mut root).unwrap();
            assert!(
                root.covers(&venv.join("bin/python3")) && root.covers(&place.join("base/bin/python3.12"))
            );
            assert!(!root.covers(&place) && !root.covers(&venv), "a whole prefix is never shown");
        }
    }

    #[test]
    fn what_is_no_interpreter_is_named() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("python3");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert_eq!(
            python(Some(&script)).unwrap_err(),
            InterpreterError::NoInterpreter { path: script },
            "what a function names is not executed"
        );
        let missing = place.path().join("venv");
        assert!(python(Some(&missing)).unwrap_err().to_string().contains("not on this machine"));
        assert!(python(Some(Path::new("pyhton3"))).unwrap_err().to_string().contains("no pyhton3"));
        let venv = environment(place.path());
        fs::remove_file(venv.join("bin/python3")).unwrap();
        fs::rename(place.path().join("base/bin/python3.12"), place.path().join("base/bin/python3.9"))
            .unwrap();
        symlink(place.path().join("base/bin/python3.9"), venv.join("bin/python3")).unwrap();
        assert!(python(Some(&venv)).unwrap_err().to_string().contains("Python 3.9"));
    }
}
