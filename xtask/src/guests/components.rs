//! Components by tools that know nothing of Baton, as the end-to-end tests have them: JavaScript and Python.
//!
//! | | the tool | where from |
//! |---|---|---|
//! | JavaScript | `componentize-qjs` | npm |
//! | Python | `componentize-py` | PyPI |
//! | Rust | cargo, for `wasm32-wasip2` | rustup |
//!
//! The first two are got below `target`, where they are missing. The interfaces of WASI are those of the engine that this workspace has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::GuestError;
use super::toolchain::try_run;
use crate::child::RunError;
use crate::project::{Metadata, Project};
use crate::tools;

/// What compiles Rust to a component, and the component.
const RUST_TARGET: &str = "wasm32-wasip2";
const RUST_SOURCE: &str = "bench/apps/component";
/// Where sources are.
const SOURCES: &str = "e2e/components";
/// The package that has the interfaces of `wasi:http`.
const INTERFACES: &str = "wasmtime-wasi-http";
/// The component in JavaScript.
const JAVASCRIPT: &str = "hello-js.wasm";
/// Its worlds: of WASI 0.2, and of 0.3 without what the JavaScript tool cannot do.
const WORLD_02: &str = "wasi:http/proxy@0.2.12";
const WORLD_03: &str = "package baton:tests;\n\nworld app {\n  import wasi:http/types@0.3.0;\n  export wasi:http/handler@0.3.0;\n}\n";

const PYTHON_PACKAGE: &str = "componentize-py==0.25.1";
const NPM_PACKAGE: &str = "componentize-qjs@0.4.5";
/// How long getting a tool may take.
const TOOL_LIMIT: Duration = Duration::from_secs(300);
/// How long a component may take.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);

/// Builds the components whose tools are there, or can be had; of the others it says that they are missing.
pub(super) fn build(project: &Project, directory: &Path) -> Result<(), GuestError> {
    let place = directory.join("components");
    let tools = place.join("tools");
    let sources = project.root().join(SOURCES);
    let made = |path: &Path| {
        fs::create_dir_all(path).map_err(|source| GuestError::Place { path: path.to_owned(), source })
    };
    made(&tools)?;
    rust(project, directory)?;
    let interfaces = interfaces(project)?;
    match python(project, &tools).map_err(GuestError::Run)? {
        None => println!("SKIP: components in Python: there is no python3 that can get {PYTHON_PACKAGE}"),
        Some(python) => {
            for name in ["hello", "relay"] {
                let component = format!("{name}-py.wasm");
                if is_newer(&place.join(&component), &sources) {
                    continue;
                }
                let mut command = python.command();
                command.arg("--quiet").arg("-d").arg(interfaces.join("wit")).args(["-w", WORLD_02]);
                command.args(["componentize", "-p"]).arg(&sources).arg(name);
                command.arg("-o").arg(place.join(component));
                project.runner().run(&mut command, COMPILE_LIMIT).map_err(GuestError::Run)?;
            }
        }
    }
    match javascript(project, &tools).map_err(GuestError::Run)? {
        None => println!("SKIP: components in JavaScript: there is no npm that can get {NPM_PACKAGE}"),
        Some(_) if is_newer(&place.join(JAVASCRIPT), &sources) => {}
        Some(compiler) => {
            let world = place.join("wit-0.3");
            let parts = world.join("deps");
            made(&parts)?;
            copy_all(&interfaces.join("src/p3/wit/deps"), &parts)?;
            let path = world.join("world.wit");
            fs::write(&path, WORLD_03).map_err(|source| GuestError::Place { path, source })?;
            let mut command = Command::new(compiler);
            command.arg("--wit").arg(&world).args(["--world", "app", "--js"]);
            command.arg(sources.join("hello.js")).arg("--output").arg(place.join(JAVASCRIPT));
            project.runner().run(&mut command, COMPILE_LIMIT).map_err(GuestError::Run)?;
        }
    }
    Ok(())
}

/// Whether what was built is newer than all sources, as the end-to-end tests ask.
fn is_newer(built: &Path, sources: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let files = fs::read_dir(sources).into_iter().flatten().flatten();
    let newest = files.filter_map(|file| changed(&file.path())).max();
    changed(built).is_some_and(|built| Some(built) > newest)
}

/// The component in Rust that is measured, if rustup has its target.
fn rust(project: &Project, directory: &Path) -> Result<(), GuestError> {
    let mut add = Command::new("rustup");
    add.args(["target", "add", RUST_TARGET]);
    if !try_run(project.runner(), &mut add, TOOL_LIMIT).map_err(GuestError::Run)? {
        println!("SKIP: components in Rust: rustup cannot get {RUST_TARGET}");
        return Ok(());
    }
    let place = project.root().join(RUST_SOURCE);
    let mut command = project.cargo_in(&place, &["build", "--release", "--target", RUST_TARGET]);
    command.arg("--target-dir").arg(directory);
    project.runner().run(&mut command, COMPILE_LIMIT).map_err(GuestError::Run)
}

/// Where cargo has the package with the interfaces.
fn interfaces(project: &Project) -> Result<PathBuf, GuestError> {
    let metadata: Metadata = project.ask_metadata_in(project.root(), &[]).map_err(GuestError::Metadata)?;
    let package = metadata.packages.iter().find(|package| package.name == INTERFACES);
    let directory = package.and_then(|package| package.manifest_path.parent());
    directory.map(Path::to_owned).ok_or(GuestError::Nothing { place: INTERFACES })
}

fn copy_all(from: &Path, to: &Path) -> Result<(), GuestError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| GuestError::Place { path, source }
    };
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        if let Some(name) = path.file_name() {
            fs::copy(&path, to.join(name)).map_err(failed(&path))?;
        }
    }
    Ok(())
}

/// The Python tool, in a directory of its own.
struct Python {
    place: PathBuf,
}

impl Python {
    fn program(&self) -> PathBuf {
        self.place.join("bin/componentize-py")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("python3");
        command.arg(self.program()).env("PYTHONPATH", &self.place);
        command
    }
}

fn python(project: &Project, tools: &Path) -> Result<Option<Python>, RunError> {
    let python = Python { place: tools.join("python") };
    if tools::find("python3").is_none() {
        return Ok(None);
    }
    if python.program().is_file() {
        return Ok(Some(python));
    }
    let mut get = Command::new("python3");
    get.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    let got = try_run(project.runner(), get.arg(&python.place).arg(PYTHON_PACKAGE), TOOL_LIMIT)?;
    Ok(got.then_some(python).filter(|python| python.program().is_file()))
}

fn javascript(project: &Project, tools: &Path) -> Result<Option<PathBuf>, RunError> {
    let compiler = tools.join("node_modules/.bin/componentize-qjs");
    if tools::find("npm").is_none() {
        return Ok(None);
    }
    if compiler.is_file() {
        return Ok(Some(compiler));
    }
    let mut get = Command::new("npm");
    get.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(tools).arg(NPM_PACKAGE);
    let got = try_run(project.runner(), &mut get, TOOL_LIMIT)?;
    Ok(got.then_some(compiler).filter(|compiler| compiler.is_file()))
}
