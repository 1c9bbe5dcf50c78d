//! `baton new`: a function project that builds and runs as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use baton_catalog::AppName;

use crate::failure::Failure;

/// Every file of a new project; `{name}` and `{sdk}` are filled in.
const FILES: [(&str, &str); 5] = [
    ("baton.toml", include_str!("templates/baton.toml.in")),
    ("Cargo.toml", include_str!("templates/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("templates/config.toml.in")),
    ("src/main.rs", include_str!("templates/main.rs.in")),
    (".gitignore", "/target\n"),
];

/// Writes a project into a new directory and returns the directory.
pub(crate) fn create(at: &Path, sdk: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = AppName::new(name).map_err(|fault| {
        Failure::bad_input(
            format_args!("{name:?} cannot be an app's name: {fault}"),
            "use lower-case letters, digits and `-`, a letter first",
        )
    })?;
    let sdk = sdk_directory(sdk)?;
    fs::create_dir(at).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::bad_input(format_args!("{} is there already", at.display()), "choose another name")
        }
        _ => Failure::failed(format_args!("cannot make {}: {error}", at.display()), ""),
    })?;
    for (file, template) in FILES {
        let path = at.join(file);
        let text = template.replace("{name}", name.as_str()).replace("{sdk}", &sdk);
        let write = || {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(&path, &text)
        };
        write()
            .map_err(|error| Failure::failed(format_args!("cannot write {}: {error}", path.display()), ""))?;
    }
    Ok(at.to_owned())
}

/// Where the SDK is: as given, or in the source tree that this program was built from.
fn sdk_directory(given: Option<&Path>) -> Result<String, Failure> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust");
    let directory = given.unwrap_or(&built_from);
    if !directory.join("Cargo.toml").is_file() {
        return Err(Failure::bad_input(
            format_args!("the Rust SDK is not at {}", directory.display()),
            "name the directory sdk/rust of Baton's source tree: --sdk PATH",
        ));
    }
    let directory = directory.canonicalize().map_err(|error| {
        Failure::bad_input(format_args!("cannot use {}: {error}", directory.display()), "")
    })?;
    match directory.to_str() {
        Some(text) if !text.contains(['"', '\\', '\n']) => Ok(text.to_owned()),
        _ => {
            Err(Failure::bad_input("the SDK's path cannot be written into Cargo.toml", "use a plainer path"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;

    fn sdk(dir: &Path) -> PathBuf {
        let sdk = dir.join("sdk");
        fs::create_dir(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "").unwrap();
        sdk
    }

    #[test]
    fn a_new_project_has_a_valid_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = sdk(dir.path());
        let at = create(&dir.path().join("hello"), Some(&sdk)).unwrap();
        let app = App::load(&at).unwrap();
        assert_eq!(app.manifest.app.name.as_str(), "hello");
        let cargo = fs::read_to_string(at.join("Cargo.toml")).unwrap();
        assert!(cargo.contains(sdk.canonicalize().unwrap().to_str().unwrap()), "{cargo}");
        assert!(fs::read_to_string(at.join(".cargo/config.toml")).unwrap().contains("crt-static"));
        for (file, _) in FILES {
            let text = fs::read_to_string(at.join(file)).unwrap();
            assert!(!text.contains("{sdk}") && !text.contains("{name}"), "{file}");
        }
    }

    #[test]
    fn nothing_is_written_over_and_names_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = sdk(dir.path());
        assert!(create(&sdk, Some(&sdk)).is_err());
        assert!(create(&dir.path().join("Not A Name"), Some(&sdk)).is_err());
        assert!(create(&dir.path().join("hello"), Some(dir.path())).is_err());
        assert!(!dir.path().join("hello").exists());
    }
}
