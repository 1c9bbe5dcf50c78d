//! Python: the packages that tests and benchmarks use (`xtask/python.txt`, in a virtual environment below `target`), and the
//! project's own.

pub(crate) mod package;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use crate::child::RunError;
use crate::project::Project;
use crate::tools;

/// What is to be there, by pinned versions.
const REQUIREMENTS: &str = "xtask/python.txt";
/// Where it is, in the target directory.
const PLACE: &str = "tools/python";
/// The requirements as they were when the last installation succeeded, in the environment.
const STAMP: &str = "installed.txt";
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The environment's interpreter, if everything is installed.
pub(crate) fn find(project: &Project) -> Option<PathBuf> {
    let place = project.target_dir().ok()?.join(PLACE);
    let wanted = fs::read(project.root().join(REQUIREMENTS)).ok()?;
    let is_current = fs::read(place.join(STAMP)).is_ok_and(|installed| installed == wanted);
    let interpreter = place.join("bin/python3");
    (is_current && interpreter.is_file()).then_some(interpreter)
}

/// Installs what is missing. That it cannot be had is no error: the tests that need it say `SKIP` themselves.
pub(crate) fn install_missing(project: &Project) -> Result<(), RunError> {
    if find(project).is_some() {
        return Ok(());
    }
    let Ok(target) = project.target_dir() else { return Ok(()) };
    let place = target.join(PLACE);
    let requirements = project.root().join(REQUIREMENTS);
    if tools::find("python3").is_some() {
        println!("installing {REQUIREMENTS} from PyPI");
        match install(project, &place, &requirements) {
            Err(RunError::Interrupted) => return Err(RunError::Interrupted),
            Err(error) => println!("{error}"),
            Ok(()) => stamp(&place, &requirements).unwrap_or_else(|error| println!("{error}")),
        }
    }
    if find(project).is_none() {
        println!("SKIP: Python functions with packages: {REQUIREMENTS} could not be installed");
    }
    Ok(())
}

fn install(project: &Project, place: &Path, requirements: &Path) -> Result<(), RunError> {
    let run = |command: &mut Command| project.runner().run(command, INSTALL_LIMIT);
    if !place.join("bin/pip").is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(place))?;
    }
    let mut pip = Command::new(place.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    run(pip.arg("--requirement").arg(requirements))
}

/// Only now: an installation that was interrupted is made again.
fn stamp(place: &Path, requirements: &Path) -> io::Result<()> {
    fs::copy(requirements, place.join(STAMP)).map(|_bytes| ())
}
