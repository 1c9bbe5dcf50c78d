//! An app on the disk: its directory and its manifest.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use baton_catalog::limits::NAME_CHARS_MAX;
use baton_catalog::policy::Schema;
use baton_catalog::{Manifest, ManifestError};
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::failure::Failure;

/// What the file of a component ends with.
const WASM: &str = "wasm";
/// What the file of a function in Python ends with, and where its packages may lie beside it.
const PYTHON: &str = "py";
const VENV: &str = ".venv";
/// How much memory a component has that no manifest speaks of: that of an interpreter and more.
const COMPONENT_MEMORY: &str = "256MiB";

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "baton.toml";

/// An app's directory with its manifest.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
    /// It is one file, and what lies beside that is none of its.
    pub(crate) is_file: bool,
}

impl App {
    /// Reads `baton.toml` of a directory; a component needs none.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let extension = directory.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if [WASM, PYTHON].contains(&extension) && directory.is_file() {
            return Self::of_file(directory, extension);
        }
        let file = directory.join(MANIFEST);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Failure::bad_input(
                format_args!("cannot read {}: {error}", file.display()),
                "name a directory with a baton.toml, a component's .wasm file or a Python function's .py file, or make an app with `baton new NAME`",
            )
        })?;
        let mut manifest =
            Manifest::parse(&text, &file).map_err(|error| Failure::manifest(report(error, text)))?;
        inline_schemas(manifest.schemas_mut(), directory)?;
        let directory = directory.canonicalize().map_err(|error| {
            Failure::bad_input(format_args!("cannot use {}: {error}", directory.display()), "")
        })?;
        find_pythons(&mut manifest, &directory);
        Ok(Self { directory, manifest, is_file: false })
    }

    /// The app of a single component or Python file: one function of its name, which answers every path.
    fn of_file(file: &Path, extension: &str) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| {
            Failure::bad_input(
                format_args!("cannot use {}: {error}", file.display()),
                "name a file that can be read",
            )
        };
        let path = file.canonicalize().map_err(unusable)?;
        let artifact = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Failure::bad_input(
                format_args!("the name of {} is not UTF-8", file.display()),
                "rename the file, or write a baton.toml",
            )
        })?;
        let name = function_name(path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default());
        let methods = r#"["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]"#;
        let route = |path: &str| {
            format!("[[routes]]\npath = \"{path}\"\nmethods = {methods}\nfunction = \"{name}\"\n")
        };
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        let settings = match extension {
            WASM => format!("isolation = \"wasm\"\nmemory = \"{COMPONENT_MEMORY}\"\n"),
            // Its packages are where people put them.
            _ if directory.join(VENV).join("bin/python3").exists() => {
                format!("runtime = \"python\"\npython = \"{VENV}\"\n")
            }
            _ => "runtime = \"python\"\n".to_owned(),
        };
        let text = format!(
            "[app]\nname = \"{name}\"\n\n[functions.{name}]\nartifact = {}\n{settings}\n{}\n{}",
            toml_text(artifact),
            route("/"),
            route("/{*path}"),
        );
        let mut manifest = Manifest::parse(&text, Path::new(MANIFEST))
            .map_err(|error| Failure::manifest(report(error, text)))?;
        find_pythons(&mut manifest, &directory);
        Ok(Self { directory, manifest, is_file: true })
    }
}

/// Puts the text of each schema's file in: the node does not see the directory.
pub(crate) fn inline_schemas<'a>(
    schemas: impl Iterator<Item = &'a mut Schema>,
    directory: &Path,
) -> Result<(), Failure> {
    for schema in schemas {
        let Some(file) = &schema.file else { continue };
        let path = directory.join(file);
        schema.schema = std::fs::read_to_string(&path).map_err(|error| {
            Failure::bad_input(
                format_args!("cannot read the schema {}: {error}", path.display()),
                "name a file by its path from the directory of the manifest",
            )
        })?;
    }
    Ok(())
}

/// Makes the paths of interpreters absolute: the node does not know the directory. A name alone that is not there is for the
/// node to look up.
fn find_pythons(manifest: &mut Manifest, directory: &Path) {
    for function in manifest.functions.values_mut() {
        let Some(python) = function.runtime.python_mut() else { continue };
        let here = directory.join(&*python);
        if python.components().count() > 1 || here.exists() {
            *python = here;
        }
    }
}

/// A file's name as that of an app and a function.
fn function_name(stem: &str) -> String {
    let letters = stem.chars().map(|letter| letter.to_ascii_lowercase());
    let name: String = letters
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .skip_while(|letter| !letter.is_ascii_lowercase())
        .take(NAME_CHARS_MAX)
        .collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "function".to_owned() } else { name.to_owned() }
}

/// A string of TOML.
fn toml_text(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|letter| match letter {
            '"' | '\\' => format!("\\{letter}"),
            letter if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
            letter => letter.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// A manifest's fault, shown in its source.
struct Shown {
    error: ManifestError,
    source: NamedSource<String>,
}

pub(crate) fn report(error: ManifestError, text: String) -> miette::Report {
    let source = NamedSource::new(error.file.display().to_string(), text);
    miette::Report::new(Shown { error, source })
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fault.fmt(f)
    }
}

impl Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.error.remedy()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.error.location.span.clone();
        let len = span.len().max(1);
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".to_owned()), span.start, len))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_faulty_manifest_is_shown_in_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[app]\nname = \"shop\"\ntrsut = \"app\"\n";
        std::fs::write(dir.path().join(MANIFEST), text).unwrap();
        let failure = App::load(dir.path()).unwrap_err();
        assert_eq!(failure.kind(), Kind::BadInput);
        let error = Manifest::parse(text, Path::new("baton.toml")).unwrap_err();
        let shown = format!("{:?}", report(error, text.to_owned()));
        for part in ["trsut", "baton.toml:3", "trust"] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
    }

    #[test]
    fn a_component_is_an_app_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("7 Hello_World.v2.wasm");
        std::fs::write(&file, b"").unwrap();
        let app = App::load(&file).unwrap();
        assert_eq!(app.manifest.app.name.as_str(), "hello-world-v2");
        let (name, function) = app.manifest.functions.iter().next().unwrap();
        assert_eq!(name.as_str(), "hello-world-v2");
        assert_eq!(function.build, baton_catalog::Build::Artifact { path: "7 Hello_World.v2.wasm".into() });
        assert_eq!(app.manifest.routes.len(), 2);
        assert_eq!(app.directory, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn a_python_file_is_an_app_by_itself_and_finds_its_packages() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("handler.py");
        std::fs::write(&file, b"").unwrap();
        let load = || App::load(&file).unwrap().manifest.functions.into_iter().next().unwrap();
        let (name, mut function) = load();
        assert_eq!((name.as_str(), function.bundled()), ("handler", Some(Path::new("handler.py"))));
        assert!(function.runtime.python_mut().is_none_or(|python| !python.ends_with(VENV)));
        std::fs::create_dir_all(dir.path().join(".venv/bin")).unwrap();
        std::fs::write(dir.path().join(".venv/bin/python3"), b"").unwrap();
        let (_, mut function) = load();
        let here = dir.path().canonicalize().unwrap().join(VENV);
        assert_eq!(function.runtime.python_mut().map(|python| python.clone()), Some(here));
    }

    #[test]
    fn names_of_files_become_names_of_functions() {
        for (stem, name) in
            [("hello", "hello"), ("Ünïts", "n-ts"), ("123", "function"), ("a--", "a"), ("", "function")]
        {
            assert_eq!(function_name(stem), name, "{stem}");
        }
        assert_eq!(function_name(&"a".repeat(90)).len(), NAME_CHARS_MAX);
        assert_eq!(toml_text("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }

    #[test]
    fn a_directory_without_a_manifest_is_bad_input() {
        let dir = tempfile::tempdir().unwrap();
        let failure = App::load(dir.path()).unwrap_err();
        assert_eq!(failure.kind(), Kind::BadInput);
        assert!(format!("{failure:?}").contains("baton new"));
    }
}
