//! What tasks build: the binaries, the guests, the yardsticks. All in release, into one target directory for the workspace,
//! so that nothing is built twice with different flags.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::child::RunError;
use crate::project::{MetadataError, Project};

/// How long one build may take.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// The program of cells. It runs where no libraries are, so it is linked as guests are.
const CELL: &str = "baton-cell";
/// The packages that make up the product.
pub(crate) const PRODUCT: &[&str] = &["baton", CELL];
/// The packages with binaries: the product, the load generator, and the yardstick that needs a gRPC stack.
pub(crate) const ALL_BINARIES: &[&str] = &["baton", CELL, "baton-bench", "baton-bench-grpc"];

/// Why something could not be built.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// The build failed.
    Run(RunError),
    /// Where to build could not be found out.
    Metadata(MetadataError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "{error}"),
            Self::Metadata(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds some of the workspace's binaries.
pub(crate) fn binaries(project: &Project, packages: &[&str]) -> Result<(), BuildError> {
    let mut command = project.cargo(&["build", "--release"]);
    for package in packages.iter().filter(|package| **package != CELL) {
        command.args(["--package", package]);
    }
    project.runner().run(command.arg("--bins"), BUILD_LIMIT).map_err(BuildError::Run)?;
    if packages.contains(&CELL) { cell(project) } else { Ok(()) }
}

/// Builds the program of cells: static, since a cell sees no file system to load libraries from, and position-independent.
/// Only the program itself is linked so; what it consists of is built once, as for everything else.
fn cell(project: &Project) -> Result<(), BuildError> {
    let mut command = project.cargo(&["rustc", "--release", "--package", CELL, "--bin", CELL, "--"]);
    command.args(["-C", "target-feature=+crt-static", "-C", "relocation-model=pie"]);
    project.runner().run(&mut command, BUILD_LIMIT).map_err(BuildError::Run)
}

/// Builds every guest workspace, each in its own directory, since its flags are in its own configuration.
pub(crate) fn guests(project: &Project) -> Result<(), BuildError> {
    project.guests().iter().try_for_each(|directory| guest(project, directory))
}

/// Builds one guest workspace.
pub(crate) fn guest(project: &Project, directory: &Path) -> Result<(), BuildError> {
    println!("{}", project.shown(directory));
    let mut command = project.cargo_in(directory, &["build", "--release"]);
    project.runner().run(&mut command, BUILD_LIMIT).map_err(BuildError::Run)
}
