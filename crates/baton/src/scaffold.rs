//! `baton new`: a function project that builds and runs as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use baton_catalog::AppName;

use crate::cli::Template;
use crate::failure::Failure;

/// A file of a new project: its path, and its text, in which `{name}`, `{sdk}`, `{root}` and `{python}` are filled in.
type File = (&'static str, &'static str);

macro_rules! template {
    ($($path:literal = $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("templates/", $file)))),*]
    };
}

const RUST: &[File] = template![
    "baton.toml" = "rust/baton.toml.in",
    "Cargo.toml" = "rust/Cargo.toml.in",
    ".cargo/config.toml" = "rust/config.toml.in",
    "src/main.rs" = "rust/main.rs.in",
    "baton.test.toml" = "rust/baton.test.toml.in",
    "README.md" = "rust/README.md.in",
];
const C: &[File] = template![
    "baton.toml" = "c/baton.toml.in",
    "hello.c" = "c/hello.c.in",
    "baton.test.toml" = "c/baton.test.toml.in",
    "README.md" = "c/README.md.in",
];
const PYTHON: &[File] = template![
    "baton.toml" = "python/baton.toml.in",
    "app/hello.py" = "python/app/hello.py.in",
    "tests/test_hello.py" = "python/tests/test_hello.py.in",
    "baton.test.toml" = "python/baton.test.toml.in",
    "README.md" = "python/README.md.in",
];
const LAMBDA_PYTHON: &[File] = template![
    "baton.toml" = "lambda-python/baton.toml.in",
    "package/app.py" = "lambda-python/app.py.in",
    "tests/test_app.py" = "lambda-python/test_app.py.in",
    "baton.test.toml" = "lambda-python/baton.test.toml.in",
    "README.md" = "lambda-python/README.md.in",
];
const HTTP: &[File] = template![
    "baton.toml" = "http/baton.toml.in",
    "web/server.py" = "http/server.py.in",
    "baton.test.toml" = "http/baton.test.toml.in",
    "README.md" = "http/README.md.in",
];
const WASM_JS: &[File] = template![
    "baton.toml" = "wasm-js/baton.toml.in",
    "hello.js" = "wasm-js/hello.js.in",
    "package.json" = "wasm-js/package.json.in",
    "baton.test.toml" = "wasm-js/baton.test.toml.in",
    "README.md" = "wasm-js/README.md.in",
];
/// What builds and tests leave behind.
const IGNORED: &str = "/target\n/node_modules\n/.venv\n__pycache__\n";
/// The version of Python that a Lambda function is said to be for where there is none to ask.
const PYTHON_DEFAULT: &str = "python3.12";

fn files(template: Template) -> &'static [File] {
    match template {
        Template::Rust => RUST,
        Template::C => C,
        Template::Python => PYTHON,
        Template::LambdaPython => LAMBDA_PYTHON,
        Template::Http => HTTP,
        Template::WasmJs => WASM_JS,
    }
}

/// Writes a project into a new directory and returns the directory.
pub(crate) fn create(at: &Path, template: Template, sdk: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = AppName::new(name).map_err(|fault| {
        Failure::bad_input(
            format_args!("{name:?} cannot be an app's name: {fault}"),
            "use lower-case letters, digits and `-`, a letter first",
        )
    })?;
    let files = files(template);
    // Only those that name it need Baton's sources.
    let needs_sources = files.iter().any(|(_, text)| text.contains("{sdk}") || text.contains("/sdk/"));
    let sdk = if needs_sources { sdk_directory(sdk)? } else { String::new() };
    let root = sdk.strip_suffix("/sdk/rust").unwrap_or(&sdk).to_owned();
    fs::create_dir(at).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::bad_input(format_args!("{} is there already", at.display()), "choose another name")
        }
        _ => Failure::failed(format_args!("cannot make {}: {error}", at.display()), ""),
    })?;
    let python = if template == Template::LambdaPython { python_version() } else { String::new() };
    for (file, text) in files.iter().copied().chain([(".gitignore", IGNORED)]) {
        let path = at.join(file);
        let text = [("{name}", name.as_str()), ("{sdk}", &sdk), ("{root}", &root), ("{python}", &python)]
            .iter()
            .fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
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

/// The version of Python that is here, as Lambda names it.
fn python_version() -> String {
    let asked = Command::new("python3").arg("--version").stdin(Stdio::null()).output();
    let text = asked.ok().filter(|output| output.status.success());
    let text = text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.trim().strip_prefix("Python ").unwrap_or_default().split('.');
    match (numbers.next(), numbers.next().and_then(|minor| minor.parse::<u32>().ok())) {
        (Some("3"), Some(minor)) if (10..=14).contains(&minor) => format!("python3.{minor}"),
        _ => PYTHON_DEFAULT.to_owned(),
    }
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
        Some(text) if !text.contains(['"', '\'', '\\', '\n']) => Ok(text.to_owned()),
        _ => {
            Err(Failure::bad_input("the SDK's path cannot be written into Cargo.toml", "use a plainer path"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

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
        let at = create(&dir.path().join("hello"), Template::Rust, Some(&sdk)).unwrap();
        let app = App::load(&at).unwrap();
        assert_eq!(app.manifest.app.name.as_str(), "hello");
        let cargo = fs::read_to_string(at.join("Cargo.toml")).unwrap();
        assert!(cargo.contains(sdk.canonicalize().unwrap().to_str().unwrap()), "{cargo}");
        assert!(fs::read_to_string(at.join(".cargo/config.toml")).unwrap().contains("crt-static"));
    }

    #[test]
    fn every_template_is_filled_in_and_has_tests_and_a_readme() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree/sdk/rust")).unwrap();
        let sdk = dir.path().join("tree/sdk/rust");
        fs::write(sdk.join("Cargo.toml"), "").unwrap();
        for template in Template::value_variants() {
            let name = template.to_possible_value().unwrap().get_name().to_owned();
            let at = create(&dir.path().join(&name), *template, Some(&sdk)).unwrap();
            for (file, _) in files(*template) {
                let text = fs::read_to_string(at.join(file)).unwrap();
                for mark in ["{name}", "{sdk}", "{root}", "{python}"] {
                    assert!(!text.contains(mark), "{name}/{file}: {mark}");
                }
            }
            assert!(at.join("README.md").is_file() && at.join("baton.test.toml").is_file(), "{name}");
            assert_eq!(App::load(&at).unwrap().manifest.app.name.as_str(), name);
        }
        assert!(
            create(&dir.path().join("web"), Template::Http, Some(dir.path())).is_ok(),
            "needs no sources"
        );
    }

    #[test]
    fn nothing_is_written_over_and_names_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = sdk(dir.path());
        assert!(create(&sdk, Template::Rust, Some(&sdk)).is_err());
        assert!(create(&dir.path().join("Not A Name"), Template::Rust, Some(&sdk)).is_err());
        assert!(create(&dir.path().join("hello"), Template::Rust, Some(dir.path())).is_err());
        assert!(!dir.path().join("hello").exists());
    }
}
