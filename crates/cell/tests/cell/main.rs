//! The real `baton-cell` with real guests, and a small node in front of it.
//!
//! Needs memory keys, Syscall User Dispatch and FSGSBASE; skipped loudly where they are missing.

// UNSAFETY: hands the control socket to the child by number.
#![expect(unsafe_code, reason = "descriptors are placed between fork and exec")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod build;
mod built;
mod calls;
mod closed;
mod files;
mod function;
mod languages;
mod model;
mod node;
mod patches;
mod program;
mod threads;
mod window;

use std::path::{Path, PathBuf};

use built::{compiled, give_control, harmless, machine_can};
use program::cell_binary;

/// A guest in C.
fn guest(name: &str) -> PathBuf {
    compiled(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cell/guests/{name}.c")))
}
