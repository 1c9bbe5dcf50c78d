//! What tasks build: the binaries, the guests, the yardsticks. All in release, into one target directory for the workspace,
//! so that nothing is built twice with different flags.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::child::RunError;
use crate::project::{MetadataError, Project};

/// How long one build may take.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// The packages with binaries: the product, the load generator, and the yardstick that needs a gRPC stack.
pub(crate) const ALL_BINARIES: &[&str] = &["baton", "baton-bench", "baton-bench-grpc"];

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
    for package in packages {
        command.args(["--package", package]);
    }
    project.runner().run(command.arg("--bins"), BUILD_LIMIT).map_err(BuildError::Run)
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
