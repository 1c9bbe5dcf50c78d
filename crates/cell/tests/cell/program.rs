//! The cell as it is shipped, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program under test: `BATON_CELL_BIN`, or built here: static, position-independent, as it is shipped.
pub(crate) fn cell_binary() -> &'static Path {
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
