//! Builds a workspace of guests, once a test process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that functions are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `e2e/NAME`; gives the directory of its programs.
pub(crate) fn build(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e").join(name);
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(shared) => PathBuf::from(shared).join(name),
        None => source.join("target"),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Flags of the outer build would take the place of the guests' own.
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet"])
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .unwrap();
    assert!(built.success(), "e2e/{name} does not build");
    target.join(TARGET).join("release")
}
