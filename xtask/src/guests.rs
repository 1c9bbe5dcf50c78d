//! `cargo xtask guests`: functions of the clone as Wasm modules, built and looked at.
//!
//! The same sources as for every other isolation setting: nothing of a function says that it becomes a module.

mod c;
mod components;
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
    /// There is no place for modules.
    Place { path: PathBuf, source: std::io::Error },
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
            Self::Place { path, source } => write!(f, "{}: {source}", path.display()),
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
        built.iter().try_for_each(|path| check(project, path))?;
    }
    in_c(project, &directory)?;
    components::build(project, &directory)?;
    Ok(Outcome::Done)
}

/// Those in C, if there is, or can be had, a compiler for them.
fn in_c(project: &Project, directory: &Path) -> Result<(), GuestError> {
    let Some(compiler) = c::find(project, directory).map_err(GuestError::Run)? else {
        println!("SKIP: modules in C: there is neither zig, nor PyPI's ziglang, nor clang with wasi-libc");
        return Ok(());
    };
    println!("Wasm modules in C, by {compiler}");
    let place = directory.join("c");
    std::fs::create_dir_all(&place).map_err(|source| GuestError::Place { path: place.clone(), source })?;
    for source in c::SOURCES {
        let name = Path::new(source).with_extension("wasm");
        let path = place.join(name.file_name().unwrap_or_default());
        compiler.compile(project, source, &path).map_err(GuestError::Run)?;
        check(project, &path)?;
    }
    Ok(())
}

/// Whether a node would take a module; shows what it imports.
fn check(project: &Project, path: &Path) -> Result<(), GuestError> {
    let imports = module::check(path);
    let imports = imports.map_err(|source| GuestError::Module { path: path.to_owned(), source })?;
    println!("{}: imports {}", project.shown(path), imports.join(", "));
    Ok(())
}

/// The modules of a workspace's packages: each has its package's name.
fn built(project: &Project, workspace: &Path, directory: &Path) -> Result<Vec<PathBuf>, GuestError> {
    let metadata: Metadata =
        project.ask_metadata_in(workspace, &["--no-deps"]).map_err(GuestError::Metadata)?;
    let names = metadata.packages.iter().map(|package| &package.name);
    let paths = names.map(|name| directory.join(name).with_extension("wasm"));
    Ok(paths.filter(|path| path.is_file()).collect())
}
