//! The code and files of a function in one piece, on their way to the node.

use std::path::Path;

use baton_catalog::{Build, Function, FunctionName, Runtime};
use baton_control::{lambda, pack};

use crate::app::App;
use crate::failure::Failure;

/// The bundle of a function's files, or of the code of one that is not native; `None` if it has neither.
pub(crate) fn bundle(app: &App, name: &FunctionName, spec: &Function) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = spec.bundled() else { return Ok(None) };
    if matches!(spec.runtime, Runtime::Lambda(_))
        && path.extension().is_some_and(|extension| extension == "zip")
    {
        return package(&app.directory.join(path), name).map(Some);
    }
    let is_files = spec.files.is_some();
    let bundle = if is_files { pack(&app.directory, path) } else { packed_alone(&app.directory.join(path)) };
    bundle.map(Some).map_err(|error| {
        let key = match (&spec.build, is_files) {
            (_, true) => "files",
            (Build::Command { .. }, _) => "output",
            _ => "artifact",
        };
        Failure::bad_input(format_args!("{key} of {name}: {error}"), error.hint())
    })
}

/// A package of AWS Lambda, unpacked as the node would see it.
fn package(path: &Path, name: &FunctionName) -> Result<Vec<u8>, Failure> {
    let unread = |error: std::io::Error| {
        Failure::bad_input(
            format_args!("artifact of {name}: cannot read {}: {error}", path.display()),
            "name a zip",
        )
    };
    let zip = std::fs::read(path).map_err(unread)?;
    lambda::unzip(&zip).map_err(|error| {
        Failure::bad_input(format_args!("artifact of {name}, {}: {error}", path.display()), error.hint())
    })
}

/// What is built or downloaded may lie outside the manifest's directory.
fn packed_alone(path: &Path) -> Result<Vec<u8>, baton_control::PackError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    pack(directory, path.file_name().map_or(path, Path::new))
}
