//! What a task knows of the project: where it is, where builds go, which workspaces it has.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs, io};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::child::Runner;

/// Directories whose own workspaces are guests: built one by one, with their own flags.
const GUEST_PLACES: &[&str] = &["bench", "e2e", "examples"];
/// How deep below such a directory a guest workspace is looked for.
const GUEST_DEPTH_MAX: usize = 2;

/// The clone that a task works on.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
    runner: Runner,
    metadata: OnceCell<Metadata>,
}

/// The part of `cargo metadata` that tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
    target_directory: PathBuf,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a package uses.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<DependencyKind>,
    pub(crate) path: Option<PathBuf>,
}

/// What a dependency is for; in the product if it has no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DependencyKind {
    /// Tests and examples.
    Dev,
    /// The build script.
    Build,
}

/// Why the crate graph could not be had.
#[derive(Debug)]
pub(crate) enum MetadataError {
    /// Cargo could not be started.
    Start(io::Error),
    /// Cargo failed; most likely a manifest is wrong.
    Failed { stderr: String },
    /// Cargo's answer could not be read.
    Answer(serde_json::Error),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(source) => write!(f, "cannot start cargo metadata: {source}"),
            Self::Failed { stderr } => write!(f, "cargo metadata failed: {}", stderr.trim()),
            Self::Answer(source) => write!(f, "cargo metadata answered nonsense: {source}"),
        }
    }
}

impl std::error::Error for MetadataError {}

impl Project {
    /// The project at `root`, whose children run under `runner`.
    pub(crate) fn new(root: PathBuf, runner: Runner) -> Self {
        Self { root, runner, metadata: OnceCell::new() }
    }

    /// Where the clone is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What runs its children.
    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The workspace's packages, asked for once.
    pub(crate) fn metadata(&self) -> Result<&Metadata, MetadataError> {
        if let Some(metadata) = self.metadata.get() {
            return Ok(metadata);
        }
        let metadata = self.ask_metadata(&["--no-deps"])?;
        Ok(self.metadata.get_or_init(|| metadata))
    }

    /// Asks cargo for as much of its metadata as `T` has.
    pub(crate) fn ask_metadata<T: DeserializeOwned>(&self, more: &[&str]) -> Result<T, MetadataError> {
        self.ask_metadata_in(&self.root, more)
    }

    /// The same of another workspace.
    pub(crate) fn ask_metadata_in<T: DeserializeOwned>(
        &self,
        workspace: &Path,
        more: &[&str],
    ) -> Result<T, MetadataError> {
        let mut command = self.cargo_in(workspace, &["metadata", "--format-version", "1"]);
        let output = command.args(more).output().map_err(MetadataError::Start)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(MetadataError::Failed { stderr });
        }
        serde_json::from_slice(&output.stdout).map_err(MetadataError::Answer)
    }

    /// Where builds of the workspace go.
    pub(crate) fn target_dir(&self) -> Result<&Path, MetadataError> {
        Ok(&self.metadata()?.target_directory)
    }

    /// Where a release build puts a binary.
    pub(crate) fn release_binary(&self, name: &str) -> Result<PathBuf, MetadataError> {
        Ok(self.target_dir()?.join("release").join(name))
    }

    /// A cargo command in the project's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        self.cargo_in(&self.root, args)
    }

    /// A cargo command in another directory, whose `.cargo/config.toml` then counts.
    pub(crate) fn cargo_in(&self, directory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args).current_dir(directory);
        // `cargo run` describes xtask in the environment; children must not take that for themselves.
        for (name, _) in env::vars_os() {
            let about_xtask = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
            if name.to_str().is_some_and(|name| about_xtask.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The workspaces of guests: directories below [`GUEST_PLACES`] whose `Cargo.toml` opens a workspace.
    pub(crate) fn guests(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for place in GUEST_PLACES {
            collect_workspaces(&self.root.join(place), GUEST_DEPTH_MAX, &mut found);
        }
        found.sort();
        found
    }

    /// A path as a person reads it: relative to the root.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

fn collect_workspaces(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
    if manifest.lines().any(|line| line.trim() == "[workspace]") {
        found.push(directory.to_owned());
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "target" {
            collect_workspaces(&entry.path(), depth, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_workspaces_are_found_and_members_are_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("examples/boutique/Cargo.toml", "[workspace]\nmembers = []\n");
        write("examples/boutique/functions/cart/Cargo.toml", "[package]\nname = \"cart\"\n[workspace]\n");
        write("examples/plain/Cargo.toml", "[package]\n");
        write("e2e/Cargo.toml", "[package]\n");
        write("e2e/guests/Cargo.toml", "[workspace]\n");
        write("bench/grpc/Cargo.toml", "[package]\n");
        write("bench/apps/hop/Cargo.toml", "[workspace]\n");
        let project = Project::new(root.path().to_owned(), Runner::new());
        let guests: Vec<_> = project.guests().iter().map(|p| project.shown(p).to_string()).collect();
        assert_eq!(guests, ["bench/apps/hop", "e2e/guests", "examples/boutique"]);
    }
}
