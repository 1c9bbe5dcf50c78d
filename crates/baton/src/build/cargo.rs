//! Building Cargo packages: one `cargo build` per workspace, executables found by what cargo reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton_catalog::{Function, FunctionName, Isolation};
use indicatif::ProgressBar;
use serde::Deserialize;

use super::{Executables, run};
use crate::failure::Failure;

/// What `cargo metadata` tells about a workspace.
#[derive(Debug, Deserialize)]
struct Workspace {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// One line of `cargo build --message-format json`.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    executable: Option<PathBuf>,
    message: Option<Rendered>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Rendered {
    rendered: Option<String>,
}

/// A function that a package implements.
#[derive(Debug)]
struct Wanted {
    function: FunctionName,
    package: String,
    manifest: PathBuf,
}

/// Where builds for a target of their own go, and where others do.
const RELEASE_DIRECTORIES: [&str; 2] = ["x86_64-unknown-linux-gnu/release", "release"];

/// What modules are built for.
const WASM: &str = "wasm32-wasip1";

/// What a function's package is built for; nothing is said where the workspace says it itself.
pub(super) fn target(function: &Function) -> Option<&'static str> {
    (function.isolation == Isolation::Wasm).then_some(WASM)
}

/// The directory of the workspace that a package is in.
pub(crate) fn workspace_root(directory: &Path) -> Result<PathBuf, Failure> {
    metadata(directory).map(|workspace| workspace.workspace_root)
}

pub(super) fn build(
    functions: Vec<(FunctionName, PathBuf, Option<&'static str>)>,
    progress: &ProgressBar,
) -> Result<Executables, Failure> {
    let mut workspaces: BTreeMap<(PathBuf, Option<&str>), Vec<Wanted>> = BTreeMap::new();
    for (function, directory, target) in functions {
        let (workspace, wanted) = locate(function, &directory)?;
        workspaces.entry((workspace.workspace_root, target)).or_default().push(wanted);
    }
    let mut built = Executables::new();
    for ((root, target), wanted) in workspaces {
        let reported = build_workspace((&root, target), &wanted, progress)?;
        for Wanted { function, manifest, .. } in wanted {
            let executable = choose(&function, reported.get(&manifest).map_or(&[][..], Vec::as_slice))?;
            built.insert(function, executable);
        }
    }
    Ok(built)
}

/// The executable that an earlier build of a package left behind.
pub(super) fn find(
    function: &FunctionName,
    directory: &Path,
    target: Option<&str>,
) -> Result<PathBuf, Failure> {
    let (workspace, wanted) = locate(function.clone(), directory)?;
    let built_for = target.map(|target| format!("{target}/release"));
    let directories = match &built_for {
        Some(directory) => vec![directory.as_str()],
        None => RELEASE_DIRECTORIES.to_vec(),
    };
    let places = directories.into_iter().flat_map(|release| {
        let release = workspace.target_directory.join(release);
        let names = [release.join(function.as_str()), release.join(&wanted.package)];
        names.map(|path| if target.is_some() { path.with_extension("wasm") } else { path })
    });
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::failed(
            format_args!("function {function} is not built"),
            "run `baton build` first, or leave --no-build out",
        )
    })
}

fn locate(function: FunctionName, directory: &Path) -> Result<(Workspace, Wanted), Failure> {
    let manifest = directory.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| {
        Failure::bad_input(
            format_args!("function {function}: cannot use {}: {error}", manifest.display()),
            "build.cargo in baton.toml names the directory of a Cargo package",
        )
    })?;
    let workspace = metadata(directory)?;
    let package = workspace.packages.iter().find(|package| package.manifest_path == manifest);
    let package = package.ok_or_else(|| {
        Failure::bad_input(
            format_args!("function {function}: {} is no package of its workspace", manifest.display()),
            "name the package's own directory, and list it among the workspace's members",
        )
    })?;
    let wanted = Wanted { function, package: package.name.clone(), manifest };
    Ok((workspace, wanted))
}

fn metadata(directory: &Path) -> Result<Workspace, Failure> {
    let mut text = String::new();
    let mut command = Command::new("cargo");
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(directory);
    run::quietly(&mut command, &format!("cargo metadata in {}", directory.display()), |line| {
        text.push_str(line);
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::failed(
            format_args!("the answer of cargo metadata is not understood: {error}"),
            "use a newer cargo",
        )
    })
}

/// Executables by the manifest of their package, each with the name of its target.
type Reported = BTreeMap<PathBuf, Vec<(String, PathBuf)>>;

fn build_workspace(
    (root, target): (&Path, Option<&str>),
    wanted: &[Wanted],
    progress: &ProgressBar,
) -> Result<Reported, Failure> {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--bins", "--message-format", "json"]).current_dir(root);
    if let Some(target) = target {
        command.args(["--target", target]);
    }
    let mut packages: Vec<&str> = wanted.iter().map(|wanted| wanted.package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    for package in packages {
        command.args(["--package", package]);
    }
    let mut reported = Reported::new();
    let mut errors = String::new();
    let mut done = 0_u32;
    progress.set_message(format!("building {}", root.display()));
    let result = run::quietly(&mut command, &format!("cargo build in {}", root.display()), |line| {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return };
        match (message.reason.as_str(), message.target) {
            ("compiler-artifact", Some(target)) => {
                done += 1;
                progress.set_message(format!(
                    "building {}: {done} done, last {}",
                    root.display(),
                    target.name
                ));
                if let (Some(manifest), Some(executable)) = (message.manifest_path, message.executable) {
                    reported.entry(manifest).or_default().push((target.name, executable));
                }
            }
            ("compiler-message", _) => {
                errors.extend(message.message.and_then(|message| message.rendered));
            }
            _ => {}
        }
    });
    match result {
        Ok(()) => Ok(reported),
        // The compiler's words are in the JSON lines, the linker's and cargo's own in the other output.
        Err(failure) => Err(failure.followed_by(&errors)),
    }
}

/// A package's only executable, or the one with the function's name.
fn choose(function: &FunctionName, executables: &[(String, PathBuf)]) -> Result<PathBuf, Failure> {
    match executables {
        [] => Err(Failure::bad_input(
            format_args!("function {function}: its package has no executable"),
            "give the package a src/main.rs",
        )),
        [(_, only)] => Ok(only.clone()),
        several => {
            let named = several.iter().find(|(name, _)| name == function.as_str());
            named.map(|(_, path)| path.clone()).ok_or_else(|| {
                Failure::bad_input(
                    format_args!("function {function}: its package has {} executables", several.len()),
                    format!("name one of them {function}"),
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_only_one_or_the_one_of_that_name() {
        let function = FunctionName::new("cart").unwrap();
        let one = ("anything".to_owned(), PathBuf::from("/a"));
        let named = ("cart".to_owned(), PathBuf::from("/b"));
        assert!(choose(&function, &[]).is_err());
        assert_eq!(choose(&function, std::slice::from_ref(&one)).unwrap(), Path::new("/a"));
        assert_eq!(choose(&function, &[one.clone(), named]).unwrap(), Path::new("/b"));
        assert!(choose(&function, &[one.clone(), one]).is_err());
    }

    #[test]
    fn a_missing_package_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failure = locate(FunctionName::new("cart").unwrap(), dir.path()).unwrap_err();
        assert!(format!("{failure:?}").contains("Cargo.toml"));
    }
}
