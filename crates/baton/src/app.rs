//! An app on the disk: its directory and its manifest.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use baton_catalog::{Manifest, ManifestError};
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::failure::Failure;

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "baton.toml";

/// An app's directory with its manifest.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
}

impl App {
    /// Reads `baton.toml` of a directory.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let file = directory.join(MANIFEST);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Failure::bad_input(
                format_args!("cannot read {}: {error}", file.display()),
                "name a directory with a baton.toml, or make one with `baton new NAME`",
            )
        })?;
        let manifest =
            Manifest::parse(&text, &file).map_err(|error| Failure::manifest(report(error, text)))?;
        let directory = directory.canonicalize().map_err(|error| {
            Failure::bad_input(format_args!("cannot use {}: {error}", directory.display()), "")
        })?;
        Ok(Self { directory, manifest })
    }
}

/// A manifest's fault, shown in its source.
struct Shown {
    error: ManifestError,
    source: NamedSource<String>,
}

fn report(error: ManifestError, text: String) -> miette::Report {
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
    fn a_directory_without_a_manifest_is_bad_input() {
        let dir = tempfile::tempdir().unwrap();
        let failure = App::load(dir.path()).unwrap_err();
        assert_eq!(failure.kind(), Kind::BadInput);
        assert!(format!("{failure:?}").contains("baton new"));
    }
}
