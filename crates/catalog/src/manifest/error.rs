//! A fault together with its place in a text.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fault::ManifestFault;
use super::read::Located;

/// A fault in a `baton.toml`. Prints as `baton.toml:12:5: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// The place in it.
    pub location: Location,
    /// What is wrong.
    pub fault: Box<ManifestFault>,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Bytes of the text.
    pub span: Range<usize>,
}

impl Location {
    /// The place of some bytes of a text.
    #[must_use]
    pub fn of(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line, column, span }
    }
}

impl ManifestError {
    pub(crate) fn at(file: &Path, text: &str, located: Located) -> Self {
        let location = Location::of(text, located.span);
        Self { file: file.to_owned(), location, fault: located.fault }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.fault.remedy()
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, column, .. } = self.location;
        write!(f, "{}:{line}:{column}: {}; {}", self.file.display(), self.fault, self.fault.remedy())
    }
}

impl std::error::Error for ManifestError {}
