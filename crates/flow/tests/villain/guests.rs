//! Builds the guests, once a test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The target that functions are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The directory with `villain`, `echo` and `caller`.
pub(crate) fn directory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/villain");
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(shared) => PathBuf::from(shared).join("villain"),
            None => source.join("target"),
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Flags of the outer build would take the place of the guest's own.
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--quiet"])
            .current_dir(&source)
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .status()
            .unwrap();
        assert!(built.success(), "the guests in e2e/villain do not build");
        target.join(TARGET).join("release")
    })
}
