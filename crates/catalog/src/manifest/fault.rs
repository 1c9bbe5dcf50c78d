//! What can be wrong with a manifest, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::read::Located;
use crate::limits::{CALLS_PER_FUNCTION_MAX, EDGES_MAX, MANIFEST_BYTES_MAX};
use crate::names::{FunctionName, NameFault};
use crate::routes::{Method, MethodFault, PatternFault, RouteClash, RoutePattern};
use crate::units::{ByteSize, SizeFault, TimeFault};

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
    pub(super) fn at(file: &Path, text: &str, located: Located) -> Self {
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

/// What is wrong. `Display` says what; [`remedy`](Self::remedy) says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestFault {
    /// The file is larger than any manifest may be.
    FileTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The text is not TOML.
    Syntax {
        /// What the TOML parser says.
        message: String,
    },
    /// A key that no such table has.
    UnknownKey {
        /// The table; empty for the document.
        table: String,
        /// The key.
        key: String,
        /// The known key that it resembles.
        nearest: Option<String>,
        /// Every key that the table may have.
        known: &'static [&'static str],
    },
    /// A key that such a table must have.
    MissingKey {
        /// The table; empty for the document.
        table: String,
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A value of another type than the key takes.
    WrongType {
        /// The key, with its table.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        found: &'static str,
    },
    /// A word that is not in the key's vocabulary.
    UnknownWord {
        /// The key.
        key: String,
        /// The word.
        word: String,
        /// The known word that it resembles.
        nearest: Option<String>,
        /// Every word that the key takes.
        known: &'static [&'static str],
    },
    /// A bad name of an app or a function.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// A bad size.
    Size {
        /// The key.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: SizeFault,
    },
    /// A bad time.
    Time {
        /// The key.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: TimeFault,
    },
    /// A bad route path.
    Path {
        /// What stands there.
        path: String,
        /// What is wrong with it.
        fault: PatternFault,
    },
    /// A bad method.
    Method {
        /// What stands there.
        method: String,
        /// What is wrong with it.
        fault: MethodFault,
    },
    /// A value outside the bounds of its key.
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The least that it may be.
        min: String,
        /// The most that it may be.
        max: String,
    },
    /// More of something than there may be.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A text longer than it may be.
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bytes that it may have.
        max: usize,
    },
    /// A text that is empty or holds NUL where neither makes sense.
    BadText {
        /// Which text.
        what: &'static str,
    },
    /// The app has no function.
    NoFunctions,
    /// A function with neither build nor artifact.
    NoBuild {
        /// The function.
        function: String,
    },
    /// A function with both build and artifact, or with two ways to build.
    TwoBuilds {
        /// The function.
        function: String,
    },
    /// A build by command that does not name its output, or an output without a command.
    HalfBuild {
        /// The key that is missing.
        missing: &'static str,
    },
    /// A name that no environment entry can have.
    EnvName {
        /// The name.
        name: String,
    },
    /// A text that is no outgoing host.
    Host {
        /// The text.
        host: String,
    },
    /// A call edge to a function that the app does not have.
    UnknownCallee {
        /// The caller.
        caller: FunctionName,
        /// The function that does not exist.
        callee: FunctionName,
        /// The function that it resembles.
        nearest: Option<String>,
    },
    /// A call edge from a function to itself.
    CallsItself {
        /// The function.
        function: FunctionName,
    },
    /// A call edge that stands twice.
    CalledTwice {
        /// The caller.
        caller: FunctionName,
        /// The callee.
        callee: FunctionName,
    },
    /// A route to a function that the app does not have.
    RouteToNowhere {
        /// The route.
        path: RoutePattern,
        /// The function that does not exist.
        function: FunctionName,
        /// The function that it resembles.
        nearest: Option<String>,
    },
    /// A route that answers no method.
    NoMethods {
        /// The route.
        path: RoutePattern,
    },
    /// A method that stands twice in one route.
    MethodTwice {
        /// The method.
        method: Method,
    },
    /// Two routes for the same paths and method.
    DuplicateRoute {
        /// Which two.
        clash: RouteClash,
        /// The line of the first one, where there are lines.
        first_line: Option<usize>,
    },
    /// `scale.min` above `scale.max`.
    MinAboveMax {
        /// `scale.min`.
        min: u32,
        /// `scale.max`.
        max: u32,
    },
    /// Huge pages for a pool that does not consist of whole ones.
    UnevenHugePages {
        /// The pool's size.
        size: ByteSize,
    },
    /// A Wasm function that is to run as a process where Wasm is lacking.
    WasmAsProcess,
    /// A Wasm artifact for a function that does not run Wasm, or the reverse.
    ArtifactKind {
        /// The isolation setting.
        isolation: &'static str,
    },
}

impl fmt::Display for ManifestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileTooLarge { bytes } => {
                write!(f, "the manifest has {bytes} bytes, the most is {MANIFEST_BYTES_MAX}")
            }
            Self::Syntax { message } => write!(f, "not TOML: {message}"),
            Self::UnknownKey { table, key, .. } => write!(f, "unknown key {key:?} in {}", Named(table)),
            Self::MissingKey { table, key, .. } => write!(f, "{} has no {key:?}", Named(table)),
            Self::WrongType { key, expected, found } => write!(f, "{key} takes {expected}, not {found}"),
            Self::UnknownWord { key, word, .. } => write!(f, "{key} does not take {word:?}"),
            Self::Name { name, fault } => write!(f, "bad name {name:?}: {fault}"),
            Self::Size { key, text, fault } => write!(f, "bad size {text:?} of {key}: {fault}"),
            Self::Time { key, text, fault } => write!(f, "bad time {text:?} of {key}: {fault}"),
            Self::Path { path, fault } => write!(f, "bad path {path:?}: {fault}"),
            Self::Method { method, fault } => write!(f, "bad method {method:?}: {fault}"),
            Self::OutOfRange { key, value, min, max } => {
                write!(f, "{key} is {value}, outside {min} to {max}")
            }
            Self::TooMany { what, count, max } => write!(f, "{count} {what}, the most is {max}"),
            Self::TooLong { what, bytes, max } => write!(f, "{what} has {bytes} bytes, the most is {max}"),
            Self::BadText { what } => write!(f, "{what} is empty or holds a NUL character"),
            Self::NoFunctions => f.write_str("the app has no function"),
            Self::NoBuild { function } => write!(f, "function {function:?} has neither build nor artifact"),
            Self::TwoBuilds { function } => write!(f, "function {function:?} gets its artifact in two ways"),
            Self::HalfBuild { missing } => write!(f, "a build by command has no {missing:?}"),
            Self::EnvName { name } => write!(f, "{name:?} cannot name an environment entry"),
            Self::Host { host } => write!(f, "{host:?} is no host or host:port"),
            Self::MinAboveMax { min, max } => {
                write!(f, "scale.min is {min}, above scale.max, which is {max}")
            }
            Self::UnevenHugePages { size } => {
                write!(f, "a pool of {size} does not consist of whole huge pages")
            }
            Self::WasmAsProcess => f.write_str("a Wasm module cannot run as a process"),
            Self::ArtifactKind { isolation } => {
                write!(f, "the artifact is not what isolation = {isolation:?} runs")
            }
            edge_or_route => edge_or_route.fmt_link(f),
        }
    }
}

/// A table as messages name it.
struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the manifest") } else { write!(f, "[{}]", self.0) }
    }
}

impl ManifestFault {
    /// The faults of call edges and routes.
    fn fmt_link(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCallee { caller, callee, .. } => {
                write!(f, "function \"{caller}\" calls \"{callee}\", which does not exist")
            }
            Self::CallsItself { function } => write!(f, "function \"{function}\" calls itself"),
            Self::CalledTwice { caller, callee } => {
                write!(f, "function \"{caller}\" names \"{callee}\" twice in its calls")
            }
            Self::RouteToNowhere { path, function, .. } => {
                write!(f, "route \"{path}\" leads to function \"{function}\", which does not exist")
            }
            Self::NoMethods { path } => write!(f, "route \"{path}\" answers no method"),
            Self::MethodTwice { method } => write!(f, "method {method} stands twice in the route"),
            Self::DuplicateRoute { clash, first_line } => {
                let RouteClash { first_path, second_path, method, first, .. } = clash;
                write!(f, "route \"{second_path}\" answers {method} on the paths of \"{first_path}\" ")?;
                match first_line {
                    Some(line) => write!(f, "in line {line}"),
                    None => write!(f, "(routes[{first}])"),
                }
            }
            other => write!(f, "{other:?}"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::FileTooLarge { .. } => "split the app".to_owned(),
            Self::Syntax { .. } => "correct the line; https://toml.io describes the format".to_owned(),
            Self::UnknownKey { nearest, known, .. } | Self::UnknownWord { nearest, known, .. } => {
                suggest(nearest.as_deref(), &format!("known: {}", known.join(", ")))
            }
            Self::MissingKey { example, .. } => format!("add {example}"),
            Self::WrongType { expected, .. } => format!("write {expected}"),
            Self::Name { .. } => "use at most 48 lower-case letters, digits and -, a letter first".to_owned(),
            Self::Size { fault, .. } => size_remedy(fault),
            Self::Time { .. } => {
                "write a whole number and one of ms, s, m, h, such as \"500ms\" or \"2s\"".to_owned()
            }
            Self::Path { fault, .. } => fault.remedy().to_owned(),
            Self::Method { .. } => "write a method in upper case, such as \"GET\"".to_owned(),
            Self::OutOfRange { min, max, .. } => format!("choose a value from {min} to {max}"),
            Self::TooMany { what: "calls of one function", .. } => {
                format!("at most {CALLS_PER_FUNCTION_MAX}; let another function make some of them")
            }
            Self::TooMany { what: "call edges", .. } => {
                format!("at most {EDGES_MAX} in one app; split the app")
            }
            Self::TooMany { what, .. } => format!("remove some {what}"),
            Self::TooLong { .. } => "shorten it".to_owned(),
            Self::BadText { .. } => "write some text without NUL".to_owned(),
            Self::NoFunctions => "add a table [functions.NAME] with build or artifact".to_owned(),
            Self::NoBuild { .. } => "add build = { cargo = \"DIRECTORY\" } or artifact = \"FILE\"".to_owned(),
            Self::TwoBuilds { .. } => {
                "keep one of build = { cargo = … }, build = { command = …, output = … } and artifact"
                    .to_owned()
            }
            Self::HalfBuild { .. } => "write build = { command = \"COMMAND\", output = \"FILE\" }".to_owned(),
            Self::EnvName { .. } => "use a name without = and NUL".to_owned(),
            Self::Host { .. } => {
                "write a host such as \"api.example.com\" or \"api.example.com:443\"".to_owned()
            }
            Self::UnknownCallee { nearest, .. } => {
                suggest(nearest.as_deref(), "add the function or remove it from calls")
            }
            Self::CallsItself { .. } => "remove it from its calls; write a loop instead".to_owned(),
            Self::CalledTwice { .. } | Self::MethodTwice { .. } => "remove one of the two".to_owned(),
            Self::RouteToNowhere { nearest, .. } => {
                suggest(nearest.as_deref(), "add the function or remove the route")
            }
            Self::NoMethods { .. } => "name a method, or leave methods out for GET".to_owned(),
            Self::DuplicateRoute { .. } => {
                "change the path or the methods of one of them; names in braces make no difference".to_owned()
            }
            Self::MinAboveMax { .. } => "raise scale.max or lower scale.min".to_owned(),
            Self::UnevenHugePages { .. } => {
                "choose a size that is a multiple of 2MiB, or remove huge_pages".to_owned()
            }
            Self::WasmAsProcess => "remove fallback, or choose isolation = \"process\"".to_owned(),
            Self::ArtifactKind { .. } => {
                "use a .wasm artifact with isolation = \"wasm\", and no other artifact with it".to_owned()
            }
        }
    }
}

fn suggest(nearest: Option<&str>, otherwise: &str) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => otherwise.to_owned(),
    }
}

fn size_remedy(fault: &SizeFault) -> String {
    let usual = "write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"256MiB\"";
    let SizeFault::Unit { unit } = fault else { return usual.to_owned() };
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return usual.to_owned(),
    };
    suggest(Some(meant), usual)
}
