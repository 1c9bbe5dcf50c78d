//! `cargo xtask guests`: functions of the clone as Wasm modules, built and looked at.
//!
//! The same sources as for every other isolation setting: nothing of a function says that it becomes a module.

mod module;
mod toolchain;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::builds::BUILD_LIMIT;
use crate::child::RunError;
use crate::project::{Metadata, MetadataError, Project};
use crate::steps::Outcome;
use module::ModuleError;
use toolchain::{Found, TARGET};

/// The workspaces that become modules. Others of the clone use what only Linux has.
const PLACES: &[&str] =
    &["bench/apps/coldstart", "bench/apps/hello", "bench/apps/hop", "e2e/guests", "examples/boutique"];

/// Why there are no modules, or bad ones.
#[derive(Debug)]
pub(crate) enum GuestError {
    /// A program failed, or the user ended it.
    Run(RunError),
    /// What a workspace has, or where builds go, could not be found out.
    Metadata(MetadataError),
    /// Nothing came out of a workspace.
    Nothing { place: &'static str },
    /// A module is none that a node would take.
    Module { path: PathBuf, source: ModuleError },
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "{error}"),
            Self::Metadata(error) => write!(f, "{error}"),
            Self::Nothing { place } => write!(f, "{place} has no package that becomes a module"),
            Self::Module { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for GuestError {}

/// Where modules are built.
pub(crate) fn directory(project: &Project) -> Result<PathBuf, MetadataError> {
    Ok(project.target_dir()?.join("modules"))
}

/// Builds and checks the modules, if there is, or can be had, a toolchain for them.
pub(crate) fn run(project: &Project) -> Result<Outcome, GuestError> {
    let directory = directory(project).map_err(GuestError::Metadata)?;
    let toolchain = match toolchain::find(project, &directory).map_err(GuestError::Run)? {
        Found::Toolchain(toolchain) => toolchain,
        Found::Nothing(why) => return Ok(Outcome::Skipped(why)),
    };
    println!("Wasm modules, by {toolchain}");
    for place in PLACES {
        let workspace = project.root().join(place);
        let mut command = project.cargo_in(&workspace, &["build", "--release", "--target", TARGET]);
        // One directory for all: what they consist of is the same.
        toolchain.set_up(command.arg("--target-dir").arg(&directory));
        project.runner().run(&mut command, BUILD_LIMIT).map_err(GuestError::Run)?;
        let built = built(project, &workspace, &directory.join(TARGET).join("release"))?;
        if built.is_empty() {
            return Err(GuestError::Nothing { place });
        }
        for path in built {
            let imports = module::check(&path);
            let imports = imports.map_err(|source| GuestError::Module { path: path.clone(), source })?;
            println!("{}: imports {}", project.shown(&path), imports.join(", "));
        }
    }
    Ok(Outcome::Done)
}

/// The modules of a workspace's packages: each has its package's name.
fn built(project: &Project, workspace: &Path, directory: &Path) -> Result<Vec<PathBuf>, GuestError> {
    let metadata: Metadata =
        project.ask_metadata_in(workspace, &["--no-deps"]).map_err(GuestError::Metadata)?;
    let names = metadata.packages.iter().map(|package| &package.name);
    let paths = names.map(|name| directory.join(name).with_extension("wasm"));
    Ok(paths.filter(|path| path.is_file()).collect())
}
