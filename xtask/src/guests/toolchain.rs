//! What compiles Rust to Wasm: rustup's, or what Debian has.
//!
//! | | compiler | std | libc and start |
//! |---|---|---|---|
//! | rustup's | the one that builds everything | a component, installed if it is missing | come with it |
//! | Debian's | `rustc-web`, unpacked below `target` and not installed | built from its source, by cargo | package `wasi-libc` |

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::child::{RunError, Runner};
use crate::project::Project;
use crate::tools;

/// Core modules with std.
pub(super) const TARGET: &str = "wasm32-wasip1";
/// How long rustup may take to get a std.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);
/// How long getting, or unpacking, the packages may take.
const PACKAGES_LIMIT: Duration = Duration::from_secs(300);
/// What is unpacked: the compiler with what it links to, the source of its std, and the libc that this std needs.
const PACKAGES: &[&str] =
    &["rustc-web", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rust-web-src", "libllvm22", "wasi-libc"];
/// Where the linker is, from rustup's sysroot.
const LINKERS: &str = "lib/rustlib/x86_64-unknown-linux-gnu/bin";

/// A compiler of modules.
#[derive(Debug)]
pub(super) enum Toolchain {
    Rustup,
    /// Unpacked in this directory, to be used with rustup's linker.
    Debian {
        root: PathBuf,
        linkers: PathBuf,
    },
}

/// What there is.
pub(super) enum Found {
    Toolchain(Toolchain),
    /// Why not.
    Nothing(String),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup => write!(f, "rustup's {TARGET}"),
            Self::Debian { root, .. } => write!(f, "Debian's rustc-web in {}", root.display()),
        }
    }
}

impl Toolchain {
    /// Has a build by cargo use it.
    pub(super) fn set_up(&self, command: &mut Command) {
        let Self::Debian { root, linkers } = self else { return };
        let usr = root.join("usr");
        let wasi = usr.join("lib/wasm32-wasi");
        let flags =
            format!("-C link-self-contained=no -L native={0} -C link-arg={0}/crt1-command.o", wasi.display());
        let mut path = linkers.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.arg("-Zbuild-std=std,panic_abort");
        command.env("RUSTC", usr.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1").env("PATH", path);
        command.env("LD_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu"));
        command.env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags);
    }
}

/// Finds a toolchain, or gets one; Debian's goes below `directory`.
///
/// # Errors
/// [`RunError::Interrupted`] alone: what cannot be had is no error.
pub(super) fn find(project: &Project, directory: &Path) -> Result<Found, RunError> {
    let runner = project.runner();
    let mut add = Command::new("rustup");
    add.args(["target", "add", TARGET]);
    if has_std() || (try_run(runner, &mut add, RUSTUP_LIMIT)? && has_std()) {
        return Ok(Found::Toolchain(Toolchain::Rustup));
    }
    let root = directory.join("debian");
    let Some(linkers) = ask_rustc(&["--print", "sysroot"]).map(|sysroot| sysroot.join(LINKERS)) else {
        return Ok(Found::Nothing("there is no rustc".into()));
    };
    if !linkers.join("rust-lld").is_file() {
        return Ok(Found::Nothing(format!("rustup has no {TARGET}, and there is no rust-lld to link by")));
    }
    if root.is_dir() || unpack(runner, directory, &root)? {
        return Ok(Found::Toolchain(Toolchain::Debian { root, linkers }));
    }
    let packages = PACKAGES.join(", ");
    Ok(Found::Nothing(format!("rustup cannot get {TARGET}, nor apt-get the packages {packages}")))
}

/// Whether the compiler on `PATH` has a std for the target.
fn has_std() -> bool {
    let libraries = ask_rustc(&["--print", "target-libdir", "--target", TARGET]);
    libraries.and_then(|libraries| fs::read_dir(libraries).ok()).is_some_and(|files| {
        files.flatten().any(|file| file.file_name().to_str().is_some_and(|name| name.starts_with("libstd-")))
    })
}

fn ask_rustc(args: &[&str]) -> Option<PathBuf> {
    let output = Command::new("rustc").args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(PathBuf::from(text.trim_end()))
}

/// Gets the packages and unpacks them; whether that went well. The directory appears when all is in it.
fn unpack(runner: &Runner, directory: &Path, root: &Path) -> Result<bool, RunError> {
    if tools::find("apt-get").is_none() || tools::find("dpkg").is_none() {
        return Ok(false);
    }
    let (packages, new) = (directory.join("debian.packages"), directory.join("debian.new"));
    let _ = fs::remove_dir_all(&packages);
    let _ = fs::remove_dir_all(&new);
    if fs::create_dir_all(&packages).is_err() {
        return Ok(false);
    }
    // Without the right to, what is known of packages has to do.
    if rustix::process::geteuid().is_root() {
        try_run(runner, Command::new("apt-get").args(["-qq", "update"]), PACKAGES_LIMIT)?;
    }
    let mut download = Command::new("apt-get");
    download.args(["-qq", "download"]).args(PACKAGES).current_dir(&packages);
    if !try_run(runner, &mut download, PACKAGES_LIMIT)? {
        return Ok(false);
    }
    for package in fs::read_dir(&packages).into_iter().flatten().flatten() {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(package.path()).arg(&new);
        if !try_run(runner, &mut unpack, PACKAGES_LIMIT)? {
            return Ok(false);
        }
    }
    let _ = fs::remove_dir_all(&packages);
    Ok(fs::rename(&new, root).is_ok())
}

/// Runs a command; whether it ended well.
pub(super) fn try_run(runner: &Runner, command: &mut Command, limit: Duration) -> Result<bool, RunError> {
    match runner.run(command, limit) {
        Err(RunError::Interrupted) => Err(RunError::Interrupted),
        Err(error) => {
            println!("{error}");
            Ok(false)
        }
        Ok(()) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debians_needs_more_than_a_target() {
        let mut command = Command::new("cargo");
        Toolchain::Rustup.set_up(&mut command);
        assert_eq!((command.get_args().count(), command.get_envs().count()), (0, 0));
        Toolchain::Debian { root: "unpacked".into(), linkers: "bin".into() }.set_up(&mut command);
        let flags =
            command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS").unwrap();
        assert!(flags.1.unwrap().to_str().unwrap().ends_with("unpacked/usr/lib/wasm32-wasi/crt1-command.o"));
        assert!(command.get_args().eq(["-Zbuild-std=std,panic_abort"]));
    }
}
