//! Other variants of an app, on a node that runs.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Fleet, Setup, SystemError};
use crate::app::App;

/// Deploys another variant to a node that runs.
pub fn deploy(setup: &Setup, fleet: &Fleet, app: &App) -> Result<(), SystemError> {
    let directory = tempfile::tempdir().map_err(SystemError::State)?;
    app.write(directory.path()).map_err(SystemError::App)?;
    deploy_directory(setup, fleet, directory.path())
}

/// Deploys another variant beside the one that runs, with a part of its requests.
pub fn deploy_beside(setup: &Setup, fleet: &Fleet, app: &App, share: &str) -> Result<(), SystemError> {
    let directory = tempfile::tempdir().map_err(SystemError::State)?;
    app.write(directory.path()).map_err(SystemError::App)?;
    deploy_with(setup, &fleet.home().unwrap_or_default(), directory.path(), &["--canary", share])
}

/// Deploys the app of a directory to a node that runs.
pub fn deploy_directory(setup: &Setup, fleet: &Fleet, directory: &Path) -> Result<(), SystemError> {
    deploy_at(setup, &fleet.home().unwrap_or_default(), directory)
}

/// Deploys the app of a directory to the node that has this state directory.
pub(crate) fn deploy_at(setup: &Setup, home: &Path, directory: &Path) -> Result<(), SystemError> {
    deploy_with(setup, home, directory, &[])
}

fn deploy_with(setup: &Setup, home: &Path, directory: &Path, more: &[&str]) -> Result<(), SystemError> {
    let failed = |status: String| SystemError::Deploy { app: directory.display().to_string(), status };
    let mut command = Command::new(&setup.baton);
    command.arg("deploy").arg(directory).arg("--json").args(more).env("BATON_HOME", home);
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}
