//! What a function is written for: an SDK, or a language or protocol that the node brings along.
//!
//! All but native functions run as processes, have their code below `/app`, and need no executable of their own.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::{Misplaced, fail, not_longer, within};
use super::fault::{ManifestFault, RuntimeFault};
use super::{Build, Function, Site};
use crate::limits;
use crate::outgoing::is_connection;
use crate::words::{Isolation, LambdaRuntime, RuntimeWord};

/// Where a socket of an HTTP server may lie: the only directory that it can write.
const SOCKET_DIRECTORY: &str = "/tmp";

/// What a function is written for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// An executable or a module that was built with an SDK.
    #[default]
    Native,
    /// A Python module with the SDK.
    Python(Python),
    /// A program that serves HTTP.
    Http(Http),
    /// A function for AWS Lambda, as it is.
    Lambda(Lambda),
}

/// A Python function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// `module:function` or `module`; what the module declares if absent.
    pub handler: Option<String>,
    /// A virtual environment or an interpreter; `python3` of the node if absent.
    pub python: Option<PathBuf>,
    /// Whether its module is imported once, and replicas are forked from there.
    pub snapshot: bool,
}

/// A program that serves HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it listens.
    pub listen: Listen,
    /// The path that answers 2xx once it is ready; it is ready when it accepts connections if absent.
    pub ready: Option<String>,
    /// A virtual environment whose programs are found first.
    pub python: Option<PathBuf>,
    /// Further ports that it uses inside its own network; absent, it may use any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
}

/// Where an HTTP server listens, inside its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// A port of its loopback address.
    Port(u16),
    /// A Unix socket below `/tmp`.
    Socket(PathBuf),
}

/// A function for AWS Lambda.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lambda {
    /// The handler, as Lambda names it; absent only where the runtime is `provided`.
    pub handler: Option<String>,
    /// The runtime's name.
    pub runtime: LambdaRuntime,
    /// Whether the limits of AWS hold: 6 MB of request and answer.
    pub aws_limits: bool,
    /// A virtual environment or an interpreter, for the Python runtimes.
    pub python: Option<PathBuf>,
}

impl Runtime {
    pub(crate) fn is_native(&self) -> bool {
        *self == Self::Native
    }

    /// The word that the manifest uses.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.word().as_str()
    }

    pub(crate) fn word(&self) -> RuntimeWord {
        match self {
            Self::Native => RuntimeWord::Native,
            Self::Python(_) => RuntimeWord::Python,
            Self::Http(_) => RuntimeWord::Http,
            Self::Lambda(_) => RuntimeWord::Lambda,
        }
    }

    /// The virtual environment or interpreter that is named.
    #[must_use]
    pub fn python(&self) -> Option<&Path> {
        match self {
            Self::Native => None,
            Self::Python(python) => python.python.as_deref(),
            Self::Http(http) => http.python.as_deref(),
            Self::Lambda(lambda) => lambda.python.as_deref(),
        }
    }

    /// The same, to be made absolute by whoever knows the manifest's directory.
    pub fn python_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Native => None,
            Self::Python(python) => python.python.as_mut(),
            Self::Http(http) => http.python.as_mut(),
            Self::Lambda(lambda) => lambda.python.as_mut(),
        }
    }
}

impl Function {
    /// Whether it is an executable or a module of its own, and not code for a program of the node.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.runtime.is_native()
    }

    /// What is bundled for it and seen below `/app`, relative to the manifest's directory: its files, and the code of what
    /// is not native.
    #[must_use]
    pub fn bundled(&self) -> Option<&Path> {
        match &self.build {
            Build::Artifact { path } | Build::Command { output: path, .. } if !self.is_native() => Some(path),
            _ => self.files.as_deref(),
        }
    }
}

/// Checks what a function that is not native says.
pub(super) fn check(function: &Function, site: &Site) -> Result<(), Misplaced> {
    let runtime = function.runtime.as_str();
    if function.is_native() {
        return match function.build {
            Build::Files => fail(site.clone(), ManifestFault::NoBuild { function: last(site) }),
            _ => Ok(()),
        };
    }
    if function.isolation != Isolation::Process {
        return fail(site.then("isolation"), RuntimeFault::NeedsProcess { runtime }.into());
    }
    code(function, site)?;
    if !function.args.is_empty() {
        return fail(site.then("args"), RuntimeFault::Args { runtime }.into());
    }
    if let Some(python) = function.runtime.python() {
        text(site, "python", "the path of python", &python.to_string_lossy())?;
    }
    match &function.runtime {
        Runtime::Native => {}
        Runtime::Python(python) => python_handler(python, site)?,
        Runtime::Http(http) => self::http(http, site)?,
        Runtime::Lambda(lambda) => lambda_handler(lambda, site)?,
    }
    for (place, entry) in function.network.iter().enumerate() {
        if !is_connection(entry) {
            return fail(
                site.then("network").then(place),
                RuntimeFault::Connection { entry: entry.clone() }.into(),
            );
        }
    }
    Ok(())
}

fn last(site: &Site) -> String {
    match site.0.last() {
        Some(super::Step::Key(name)) => name.clone(),
        _ => String::new(),
    }
}

/// Code comes from one place.
fn code(function: &Function, site: &Site) -> Result<(), Misplaced> {
    let runtime = function.runtime.as_str();
    match (&function.build, &function.files) {
        (Build::Cargo { .. }, _) => fail(site.then("build"), RuntimeFault::Cargo { runtime }.into()),
        (Build::Files, None) if !matches!(function.runtime, Runtime::Http(_)) => {
            fail(site.clone(), RuntimeFault::NoCode { function: last(site), runtime }.into())
        }
        (Build::Artifact { .. } | Build::Command { .. }, Some(_)) => {
            fail(site.then("files"), RuntimeFault::TwoCodes { runtime }.into())
        }
        _ => Ok(()),
    }
}

fn text(site: &Site, key: &'static str, what: &'static str, text: &str) -> Result<(), Misplaced> {
    if text.is_empty() || text.contains('\0') {
        return fail(site.then(key), ManifestFault::BadText { what });
    }
    not_longer(&site.then(key), what, text.len(), limits::RUNTIME_TEXT_BYTES_MAX)
}

fn python_handler(python: &Python, site: &Site) -> Result<(), Misplaced> {
    let Some(handler) = &python.handler else { return Ok(()) };
    text(site, "handler", "the handler", handler)?;
    let (module, function) = handler.split_once(':').unwrap_or((handler, "f"));
    if is_dotted(module) && is_dotted(function) {
        return Ok(());
    }
    let expected = "\"MODULE:FUNCTION\" such as \"shop.cart:add\"";
    fail(site.then("handler"), RuntimeFault::Handler { handler: handler.clone(), expected }.into())
}

/// Whether it is a name of Python, or several with dots between.
fn is_dotted(text: &str) -> bool {
    text.split('.').all(|name| {
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

fn http(http: &Http, site: &Site) -> Result<(), Misplaced> {
    let command = site.then("command");
    if http.command.is_empty() {
        return fail(command, ManifestFault::BadText { what: "the command" });
    }
    super::check::at_most(&command, "words of a command", http.command.len(), limits::ARGS_MAX)?;
    for (place, word) in http.command.iter().enumerate() {
        if word.contains('\0') || place == 0 && word.is_empty() {
            return fail(command.then(place), ManifestFault::BadText { what: "the word of the command" });
        }
        not_longer(&command.then(place), "the word of the command", word.len(), limits::ARG_BYTES_MAX)?;
    }
    match &http.listen {
        Listen::Port(port) => within(&site.then("port"), "port", *port, (limits::PORT_MIN, u16::MAX))?,
        Listen::Socket(path) => socket(path, &site.then("socket"))?,
    }
    if let Some(ports) = &http.ports {
        let site = site.then("ports");
        super::check::at_most(&site, "ports", ports.len(), limits::PORTS_MAX)?;
        for (place, port) in ports.iter().enumerate() {
            within(&site.then(place), "ports", *port, (1, u16::MAX))?;
        }
    }
    let Some(ready) = &http.ready else { return Ok(()) };
    text(site, "ready", "the path of ready", ready)?;
    if ready.starts_with('/') && ready.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    fail(site.then("ready"), RuntimeFault::Ready { path: ready.clone() }.into())
}

fn socket(path: &Path, site: &Site) -> Result<(), Misplaced> {
    let mut parts = path.components().skip(1);
    let is_plain = parts.all(|part| matches!(part, Component::Normal(_)));
    let bytes = path.as_os_str().len();
    let fits = bytes <= limits::SOCKET_PATH_BYTES_MAX && bytes > SOCKET_DIRECTORY.len() + 1;
    if path.starts_with(SOCKET_DIRECTORY) && is_plain && fits && !path.to_string_lossy().contains('\0') {
        return Ok(());
    }
    fail(site.clone(), RuntimeFault::Socket { path: path.to_owned() }.into())
}

fn lambda_handler(lambda: &Lambda, site: &Site) -> Result<(), Misplaced> {
    let runtime = lambda.runtime;
    if lambda.python.is_some() && !runtime.is_python() {
        return fail(site.then("python"), RuntimeFault::PythonOfLambda { runtime: runtime.as_str() }.into());
    }
    let Some(handler) = &lambda.handler else {
        if runtime.is_provided() {
            return Ok(());
        }
        let (table, key) = (site.to_string(), "handler");
        return fail(
            site.clone(),
            ManifestFault::MissingKey { table, key, example: "handler = \"FILE.FUNCTION\"" },
        );
    };
    text(site, "handler", "the handler", handler)?;
    let halves = handler.rsplit_once('.').is_some_and(|(file, name)| {
        !name.is_empty()
            && !file.is_empty()
            && !file.starts_with('/')
            && file.split('/').all(|part| part != "..")
    });
    if halves || runtime.is_provided() {
        return Ok(());
    }
    let expected = "\"FILE.FUNCTION\" such as \"app.main\"";
    fail(site.then("handler"), RuntimeFault::Handler { handler: handler.clone(), expected }.into())
}
