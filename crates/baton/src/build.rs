//! Building an app: every function's executable, checked.
//!
//! Cargo packages of one workspace are built by one `cargo build`, commands run one after the other. What a build
//! prints is kept and shown only if it fails.

mod cargo;
mod elf;
mod run;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton_catalog::{Build, Fallback, Function, FunctionName, Isolation};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) use self::cargo::workspace_root;
use crate::app::App;
use crate::failure::Failure;

/// The executable of each function.
pub(crate) type Executables = BTreeMap<FunctionName, PathBuf>;

/// Builds everything and checks it.
pub(crate) fn build(app: &App) -> Result<Executables, Failure> {
    let progress = progress();
    let built = build_all(app, &progress);
    progress.finish_and_clear();
    checked(app, built?)
}

/// Finds what an earlier build left behind, and checks it.
pub(crate) fn find(app: &App) -> Result<Executables, Failure> {
    let mut found = Executables::new();
    for (name, function) in &app.manifest.functions {
        if !function.is_native() {
            continue;
        }
        let path = match &function.build {
            Build::Cargo { dir } => cargo::find(name, &app.directory.join(dir), cargo::target(function))?,
            Build::Command { output, .. } => app.directory.join(output),
            Build::Artifact { path } => app.directory.join(path),
            Build::Files => continue,
        };
        found.insert(name.clone(), path);
    }
    checked(app, found)
}

fn checked(app: &App, built: Executables) -> Result<Executables, Failure> {
    for (name, path) in &built {
        // Nothing else ends up in `built` than names of the manifest.
        if let Some(function) = app.manifest.function(name.as_str()) {
            check(name, function, path)?;
        }
    }
    Ok(built)
}

fn build_all(app: &App, progress: &ProgressBar) -> Result<Executables, Failure> {
    let packages = app.manifest.functions.iter().filter_map(|(name, function)| match &function.build {
        Build::Cargo { dir } => Some((name.clone(), app.directory.join(dir), cargo::target(function))),
        Build::Command { .. } | Build::Artifact { .. } | Build::Files => None,
    });
    let mut built = cargo::build(packages.collect(), progress)?;
    for (name, function) in &app.manifest.functions {
        let path = match &function.build {
            Build::Cargo { .. } => continue,
            Build::Command { command, output } => {
                progress.set_message(format!("{name}: {command}"));
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).current_dir(&app.directory);
                run::quietly(&mut shell, &format!("function {name}: `{command}`"), |_| {})?;
                app.directory.join(output)
            }
            Build::Artifact { path } => app.directory.join(path),
            Build::Files => continue,
        };
        // The code of others is bundled when it is uploaded.
        if function.is_native() {
            built.insert(name.clone(), path);
        }
    }
    Ok(built)
}

fn check(name: &FunctionName, function: &Function, path: &Path) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(|error| {
        Failure::failed(
            format_args!("function {name}: cannot read {}: {error}", path.display()),
            "correct the path of the artifact or output in baton.toml",
        )
    })?;
    if function.isolation == Isolation::Wasm {
        return module(name, &mut file, path);
    }
    let always_in_cell =
        function.isolation == Isolation::Compartment && function.fallback == Fallback::Refuse;
    let loader = if always_in_cell { elf::Loader::Cell } else { elf::Loader::Kernel };
    elf::check(&mut file, loader).map_err(|fault| {
        Failure::failed(
            format_args!("function {name}: {} cannot run as a function: {fault}", path.display()),
            fault.hint(),
        )
    })
}

/// Whether a file is a core module or a component at first sight; the node looks closer.
fn module(name: &FunctionName, file: &mut File, path: &Path) -> Result<(), Failure> {
    let mut start = [0; 8];
    let is_whole = file.read_exact(&mut start).is_ok();
    if is_whole && matches!(start, [0, b'a', b's', b'm', 1, 0, 0, 0] | [0, b'a', b's', b'm', _, _, 1, 0]) {
        return Ok(());
    }
    Err(Failure::failed(
        format_args!("function {name}: {} is neither a Wasm module nor a component", path.display()),
        "build it for wasm32-wasip1 with the SDK, or as a component of `wasi:http`; text has to be assembled first",
    ))
}

/// A spinner on terminals, nothing elsewhere.
pub(crate) fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(dir: &Path, function: &str) -> App {
        let text = format!("[app]\nname = \"shop\"\n[functions.hello]\n{function}\n");
        std::fs::write(dir.join("baton.toml"), text).unwrap();
        App::load(dir).unwrap()
    }

    #[test]
    fn a_command_that_fails_is_shown_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path(), "build = { command = \"echo no compiler; exit 3\", output = \"x\" }");
        let failure = format!("{:?}", build(&app).unwrap_err());
        assert!(failure.contains("no compiler") && failure.contains("hello"), "{failure}");
    }

    #[test]
    fn an_output_that_is_no_executable_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path(), "build = { command = \"echo hi > out\", output = \"out\" }");
        let failure = format!("{:?}", build(&app).unwrap_err());
        assert!(failure.contains("cannot run as a function"), "{failure}");
        let app = self::app(dir.path(), "artifact = \"missing\"");
        let failure = format!("{:?}", build(&app).unwrap_err());
        assert!(failure.contains("missing") && failure.contains("baton.toml"), "{failure}");
    }

    #[test]
    fn what_is_no_module_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path(), "artifact = \"x.wasm\"\nisolation = \"wasm\"");
        for (bytes, is_module) in [
            (&b"\0asm\x01\0\0\0 more"[..], true),
            (b"\0asm\x0d\0\x01\0 more", true),
            (b"\0asm\x0d\0\x02\0", false),
            (b"\0asm", false),
            (b"\x7fELF", false),
        ] {
            std::fs::write(dir.path().join("x.wasm"), bytes).unwrap();
            assert_eq!(build(&app).is_ok(), is_module, "{bytes:?}");
        }
    }

    #[test]
    fn the_running_test_itself_is_linked_dynamically() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), dir.path().join("x")).unwrap();
        let app = app(dir.path(), "artifact = \"x\"");
        let failure = format!("{:?}", build(&app).unwrap_err());
        assert!(failure.contains("linked dynamically") && failure.contains("crt-static"), "{failure}");
    }
}
