//! What each fault says, and its remedy.
//!
//! Two matches over all faults and nothing else: a new fault does not compile without both of its texts.

use std::fmt;

use super::ManifestFault;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::routes::RouteClash;
use crate::units::SizeFault;

impl ManifestFault {
    /// What is said of settings that an isolation setting does not go with.
    fn of_isolation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WasmAsProcess => f.write_str("a Wasm module cannot run as a process"),
            Self::NeedsCompartment { key } => {
                write!(f, "{key} means something for isolation = \"compartment\" only")
            }
            Self::NeedsWasm { key } => write!(f, "{key} means something for isolation = \"wasm\" only"),
            Self::NeedsProcess { key } => {
                write!(f, "{key} means something for isolation = \"process\" only")
            }
            Self::WakeInCells { function, isolation } => {
                write!(
                    f,
                    "wake = \"ebpf\" is for processes, and function \"{function}\" has isolation = \"{isolation}\""
                )
            }
            Self::ResetOfWasm => f.write_str("a Wasm function begins anew with each request as it is"),
            Self::FreshUnderOthers { concurrency } => {
                write!(
                    f,
                    "a Wasm function that begins anew with each request cannot have {concurrency} at once"
                )
            }
            Self::ResetAsProcess => f.write_str("a process is not reset after each request"),
            Self::ResetUnderOthers { concurrency } => {
                write!(f, "a reset after each request would end {concurrency} requests at once")
            }
            Self::FilesOutside { path } => {
                write!(f, "files {:?} are not in the manifest's directory", path.display().to_string())
            }
            Self::ArtifactKind { isolation } => {
                write!(f, "the artifact is not what isolation = {isolation:?} runs")
            }
            _ => Ok(()),
        }
    }
}

impl ManifestFault {
    /// What the faults say that are about one kind of table or key each.
    fn of_part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trigger(fault) => write!(f, "{fault}"),
            Self::Runtime(fault) => write!(f, "{fault}"),
            Self::Secret(fault) => write!(f, "{fault}"),
            Self::Subscription(fault) => write!(f, "{fault}"),
            Self::MinAboveMax { min, max } => {
                write!(f, "scale.min is {min}, above scale.max, which is {max}")
            }
            Self::UnevenHugePages { size } => {
                write!(f, "a pool of {size} does not consist of whole huge pages")
            }
            _ => Ok(()),
        }
    }

    fn remedied(&self) -> String {
        match self {
            Self::Trigger(fault) => fault.remedy(),
            Self::Runtime(fault) => fault.remedy(),
            Self::Secret(fault) => fault.remedy().to_owned(),
            Self::Subscription(fault) => fault.remedy(),
            _ => String::new(),
        }
    }

    fn remedy_of_pool(&self) -> &'static str {
        match self {
            Self::NetworkWithoutPool => "set pool = \"write\", or remove network",
            Self::StreamWithoutPool => "set pool = \"write\", or remove stream",
            Self::TimeoutsWithoutStream => "set stream = true; timeout alone bounds whole answers",
            Self::ReferencesWithoutPool => "set pool = \"write\" or \"read\", or remove references",
            _ => "",
        }
    }

    fn remedy_of_isolation(&self) -> &'static str {
        match self {
            Self::WasmAsProcess => "remove fallback, or choose isolation = \"process\"",
            Self::NeedsCompartment { .. } => "remove it, or choose isolation = \"compartment\"",
            Self::NeedsWasm { .. } => "remove it, or choose isolation = \"wasm\"",
            Self::NeedsProcess { .. } => "remove it, or choose isolation = \"process\"",
            Self::WakeInCells { .. } => {
                "choose isolation = \"process\" for all functions, or remove wake: cells hand over by themselves"
            }
            Self::ResetOfWasm => "remove reset; reuse = true would have it go on instead",
            Self::FreshUnderOthers { .. } => "set scale.concurrency to 1, or reuse = true",
            Self::ResetAsProcess => "remove fallback, or remove reset",
            Self::ResetUnderOthers { .. } => "set scale.concurrency to 1, or remove reset",
            Self::FilesOutside { .. } => {
                "name a directory or file by a path from the manifest's directory, without `..`"
            }
            Self::ArtifactKind { .. } => {
                "use a .wasm artifact with isolation = \"wasm\", and no other artifact with it"
            }
            _ => "",
        }
    }
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
            Self::Rollout { key, text, fault } => write!(f, "bad {key} {text:?}: {fault}"),
            Self::Path { path, fault } => write!(f, "bad path {path:?}: {fault}"),
            Self::Method { method, fault } => write!(f, "bad method {method:?}: {fault}"),
            Self::OutOfRange { key, value, min, max } => {
                write!(f, "{key} is {value}, outside {min} to {max}")
            }
            Self::TooMany { what, count, max } => write!(f, "{count} {what}, the most is {max}"),
            Self::TooLong { what, bytes, max } => write!(f, "{what} has {bytes} bytes, the most is {max}"),
            Self::BadText { what } => write!(f, "{what} is empty or holds a NUL character"),
            Self::Handler { handler, message } => write!(f, "policy handler {handler:?}: {}", message.trim()),
            Self::NoFunctions => f.write_str("the app has no function"),
            Self::NoBuild { function } => write!(f, "function {function:?} has neither build nor artifact"),
            Self::TwoBuilds { function } => write!(f, "function {function:?} gets its artifact in two ways"),
            Self::HalfBuild { missing } => write!(f, "a build by command has no {missing:?}"),
            Self::EnvName { name } => write!(f, "{name:?} cannot name an environment entry"),
            Self::Host { host } => write!(f, "{host:?} is no host or host:port"),
            Self::NetworkWithoutPool => f.write_str("requests to the network are written to the pool"),
            Self::DurableWithoutCall { caller, callee } => {
                write!(f, "{caller} does not call {callee}, which its durable names")
            }
            Self::ReferencesWithoutPool => f.write_str("what is behind references lies in the pool"),
            Self::StreamWithoutPool => f.write_str("the parts of a stream lie in the pool"),
            Self::TimeoutsWithoutStream => f.write_str("timeouts are those of streams"),
            Self::MinAboveMax { .. } | Self::UnevenHugePages { .. } => self.of_part(f),
            Self::WasmAsProcess
            | Self::NeedsCompartment { .. }
            | Self::NeedsWasm { .. }
            | Self::NeedsProcess { .. }
            | Self::WakeInCells { .. }
            | Self::ResetOfWasm
            | Self::FreshUnderOthers { .. }
            | Self::ResetAsProcess
            | Self::ResetUnderOthers { .. }
            | Self::FilesOutside { .. }
            | Self::ArtifactKind { .. } => self.of_isolation(f),
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
            Self::Trigger(_) | Self::Runtime(_) | Self::Secret(_) | Self::Subscription(_) => self.of_part(f),
            Self::NoMethods { path } => write!(f, "route \"{path}\" answers no method"),
            Self::MethodTwice { method } => write!(f, "method {method} stands twice in the route"),
            Self::DuplicateRoute { clash, first_line } => fmt_duplicate(f, clash, *first_line),
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
            Self::Rollout { .. } => "write a share such as \"10%\", and stay by \"cookie:NAME\"".to_owned(),
            Self::Path { fault, .. } => fault.remedy().to_owned(),
            Self::Method { .. } => "write a method in upper case, such as \"GET\"".to_owned(),
            Self::OutOfRange { min, max, .. } => format!("choose a value from {min} to {max}"),
            Self::TooMany { what, .. } => format!("remove some {what}, or split the app"),
            Self::TooLong { .. } => "shorten it".to_owned(),
            Self::BadText { .. } => "write some text without NUL".to_owned(),
            Self::Handler { handler, .. } => format!("docs/policy.md has all that {handler:?} takes"),
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
            Self::NetworkWithoutPool
            | Self::StreamWithoutPool
            | Self::TimeoutsWithoutStream
            | Self::ReferencesWithoutPool => self.remedy_of_pool().to_owned(),
            Self::DurableWithoutCall { callee, .. } => {
                format!("add \"{callee}\" to calls, or remove it from durable")
            }
            Self::UnknownCallee { nearest, .. } => {
                suggest(nearest.as_deref(), "add the function or remove it from calls")
            }
            Self::CallsItself { .. } => "remove it from its calls; write a loop instead".to_owned(),
            Self::CalledTwice { .. } | Self::MethodTwice { .. } => "remove one of the two".to_owned(),
            Self::RouteToNowhere { nearest, .. } => {
                suggest(nearest.as_deref(), "add the function or remove the route")
            }
            Self::Trigger(_) | Self::Runtime(_) | Self::Secret(_) | Self::Subscription(_) => self.remedied(),
            Self::NoMethods { .. } => "name a method, or leave methods out for GET".to_owned(),
            Self::DuplicateRoute { .. } => {
                "change the path or the methods of one of them; names in braces make no difference".to_owned()
            }
            Self::MinAboveMax { .. } => "raise scale.max or lower scale.min".to_owned(),
            Self::UnevenHugePages { .. } => {
                "choose a size that is a multiple of 2MiB, or remove huge_pages".to_owned()
            }
            Self::WasmAsProcess
            | Self::NeedsCompartment { .. }
            | Self::NeedsWasm { .. }
            | Self::NeedsProcess { .. }
            | Self::WakeInCells { .. }
            | Self::ResetOfWasm
            | Self::FreshUnderOthers { .. }
            | Self::ResetAsProcess
            | Self::ResetUnderOthers { .. }
            | Self::FilesOutside { .. }
            | Self::ArtifactKind { .. } => self.remedy_of_isolation().to_owned(),
        }
    }
}

fn fmt_duplicate(f: &mut fmt::Formatter<'_>, clash: &RouteClash, first_line: Option<usize>) -> fmt::Result {
    let RouteClash { first_path, second_path, method, first, .. } = clash;
    write!(f, "route \"{second_path}\" answers {method} on the paths of \"{first_path}\" ")?;
    match first_line {
        Some(line) => write!(f, "in line {line}"),
        None => write!(f, "(routes[{first}])"),
    }
}

pub(in crate::manifest) fn suggest(nearest: Option<&str>, otherwise: &str) -> String {
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
