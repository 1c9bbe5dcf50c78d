//! The real `baton-cell` with real guests, and a small node in front of it.
//!
//! Needs memory keys, Syscall User Dispatch and FSGSBASE; skipped loudly where they are missing.

// UNSAFETY: hands the control socket to the child by number.
#![expect(unsafe_code, reason = "descriptors are placed between fork and exec")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod build;
mod calls;
mod closed;
mod languages;
mod model;
mod node;
mod threads;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program under test: `BATON_CELL_BIN`, or built once: static, position-independent, as it is shipped.
fn cell_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(built) = std::env::var_os("BATON_CELL_BIN") {
            return built.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = root.join("target/cell");
        let done = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--package", "baton-cell"])
            .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
            .arg(&target)
            .current_dir(&root)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=pie")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .expect("cargo runs");
        assert!(done.success(), "baton-cell does not build");
        target.join("x86_64-unknown-linux-gnu/release/baton-cell")
    })
}

/// Places a descriptor at a number in the child.
fn give_control(command: &mut Command, from: i32, to: i32) {
    let place = move || {
        // SAFETY: duplicates one descriptor; async-signal-safe.
        if unsafe { libc::dup2(from, to) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(place) };
}

/// Offsets of the lazy-binding code of a static C library, which never runs: what the deploy-time check finds by symbol.
fn harmless(elf: &[u8]) -> Vec<u64> {
    let Ok(image) = baton_cell::elf::Image::parse(elf) else { return Vec::new() };
    baton_cell::scan::scan(elf)
        .filter(|finding| finding.what == baton_cell::scan::Forbidden::RestoreState)
        .map(|finding| finding.offset as u64)
        .filter(|&offset| image.code_at(offset).is_some())
        .collect()
}

/// Whether this machine can host compartments; says so loudly if not.
fn machine_can() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let can = ["ospke", "fsgsbase"].iter().all(|flag| info.contains(flag));
    if !can {
        println!("SKIP: this machine has no memory keys: compartments are not tested");
    }
    can
}

/// A guest in C, built once each: static and position-independent.
fn guest(name: &str) -> PathBuf {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("../../target/cell/guests");
    let _one_at_a_time = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::fs::create_dir_all(&out).unwrap();
    let (source, built) = (root.join(format!("tests/cell/guests/{name}.c")), out.join(name));
    let newer = |path: &Path| path.metadata().and_then(|of| of.modified()).ok();
    if built.exists() && newer(&built) > newer(&source) {
        return built;
    }
    // Tests are processes of their own, and several may want it at once.
    let fresh = out.join(format!("{name}.{}", std::process::id()));
    let done = Command::new("gcc")
        .args(["-O2", "-g", "-Wall", "-Werror", "-static-pie", "-fno-omit-frame-pointer", "-pthread", "-I"])
        .arg(root.join("../../sdk/c/include"))
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .status()
        .expect("gcc is installed");
    assert!(done.success(), "{name}.c does not build");
    std::fs::rename(&fresh, &built).unwrap();
    built
}
