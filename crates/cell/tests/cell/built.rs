//! What is built for the tests of cells, once: guests in C, and what a node tells a cell of them.

// UNSAFETY: places a descriptor between fork and exec.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use baton_abi::plan::Patch;
use baton_cell::elf::Image;
use baton_cell::scan::{self, Finding, Forbidden};

/// Places a descriptor at a number in the child.
pub(crate) fn give_control(command: &mut Command, from: i32, to: i32) {
    let place = move || {
        // SAFETY: duplicates one descriptor; async-signal-safe.
        if unsafe { libc::dup2(from, to) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(place) };
}

/// Traps over the lazy-binding code of a static C library, which never runs: what the deploy-time check finds by symbol.
pub(crate) fn harmless(elf: &[u8]) -> Vec<Patch> {
    const LONGEST: usize = 16;
    let Ok(image) = Image::parse(elf) else { return Vec::new() };
    let trap = |finding: Finding| {
        let at = image.code_at(finding.offset as u64)?;
        let mut code = elf.get(finding.offset..finding.offset + LONGEST)?.to_vec();
        scan::disarm(&mut code, 0).ok()?;
        Patch::new(at, &code)
    };
    scan::scan(elf).filter(|finding| finding.what == Forbidden::RestoreState).filter_map(trap).collect()
}

/// Whether this machine can host compartments; says so loudly if not.
pub(crate) fn machine_can() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let can = ["ospke", "fsgsbase"].iter().all(|flag| info.contains(flag));
    if !can {
        println!("SKIP: this machine has no memory keys: compartments are not tested");
    }
    can
}

/// A program in C, compiled if it, something in its directory or the SDK is newer than what was compiled last.
pub(crate) fn compiled(source: &Path) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = root.join("target/cell/guests");
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::create_dir_all(&out).expect("a directory for guests");
    let built = out.join(source.file_stem().expect("a source file"));
    let changed = |path: &Path| path.metadata().and_then(|of| of.modified()).ok();
    let beside = source.parent().into_iter().flat_map(|of| of.read_dir().expect("a directory of sources"));
    let sdk = root.join("sdk/c/include");
    let header = changed(&sdk.join("baton/gates.h"));
    let newest = beside.filter_map(|entry| changed(&entry.ok()?.path())).max().max(header);
    if built.exists() && changed(&built) > newest {
        return built;
    }
    // Tests may be processes of their own, and several want it at once.
    let fresh = built.with_extension(std::process::id().to_string());
    let done = Command::new("gcc")
        .args(["-O2", "-g", "-Wall", "-Werror", "-static-pie", "-fno-omit-frame-pointer", "-pthread", "-I"])
        .arg(&sdk)
        .arg("-o")
        .arg(&fresh)
        .arg(source)
        .status()
        .expect("gcc is installed");
    assert!(done.success(), "{} does not build", source.display());
    std::fs::rename(&fresh, &built).expect("a directory for guests");
    built
}
