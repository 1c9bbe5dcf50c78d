//! What can be wrong with what is not a native function.

use std::fmt;
use std::path::PathBuf;

use super::ManifestFault;
use crate::words::RuntimeWord;

/// What is wrong with a function's runtime or with a key that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeFault {
    /// A key of another runtime.
    NotOfRuntime {
        /// The key.
        key: &'static str,
        /// The function's runtime.
        runtime: &'static str,
        /// The runtimes that have it.
        owners: &'static [RuntimeWord],
    },
    /// A runtime in a cell.
    NeedsProcess {
        /// The runtime.
        runtime: &'static str,
    },
    /// Cargo builds native functions.
    Cargo {
        /// The runtime.
        runtime: &'static str,
    },
    /// No code at all.
    NoCode {
        /// The function.
        function: String,
        /// The runtime.
        runtime: &'static str,
    },
    /// Code from two places.
    TwoCodes {
        /// The runtime.
        runtime: &'static str,
    },
    /// Arguments for what is not started by its own command line.
    Args {
        /// The runtime.
        runtime: &'static str,
    },
    /// Two places to listen.
    PortAndSocket,
    /// A text that names no handler.
    Handler {
        /// The text.
        handler: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// A path for readiness that is none.
    Ready {
        /// The text.
        path: String,
    },
    /// A socket where the program cannot make one.
    Socket {
        /// Where.
        path: PathBuf,
    },
    /// An interpreter of Python for a runtime of Lambda that is none.
    PythonOfLambda {
        /// The runtime of Lambda.
        runtime: &'static str,
    },
    /// A text that names no host and port.
    Connection {
        /// The text.
        entry: String,
    },
}

impl From<RuntimeFault> for ManifestFault {
    fn from(fault: RuntimeFault) -> Self {
        Self::Runtime(fault)
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
struct Either<'a>(&'a [RuntimeWord]);

impl fmt::Display for Either<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.0.iter().enumerate() {
            let before = match place {
                0 => "",
                place if place + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}\"{word}\"")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuntimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOfRuntime { key, runtime, owners } => {
                write!(f, "{key} means something for runtime = {}, not for \"{runtime}\"", Either(owners))
            }
            Self::NeedsProcess { runtime } => write!(f, "runtime = \"{runtime}\" runs as a process only"),
            Self::Cargo { runtime } => {
                write!(
                    f,
                    "build = {{ cargo = … }} makes native functions, not code for runtime = \"{runtime}\""
                )
            }
            Self::NoCode { function, runtime } => {
                write!(f, "function \"{function}\" has no code for runtime = \"{runtime}\"")
            }
            Self::TwoCodes { runtime } => {
                write!(f, "the code of a function with runtime = \"{runtime}\" comes from two places")
            }
            Self::Args { runtime } => write!(f, "runtime = \"{runtime}\" takes no args"),
            Self::PortAndSocket => f.write_str("the program listens on port or on socket, not on both"),
            Self::Handler { handler, .. } => write!(f, "{handler:?} names no handler"),
            Self::Ready { path } => write!(f, "{path:?} is no path of a request"),
            Self::Socket { path } => {
                write!(f, "no socket can be at {:?}", path.display().to_string())
            }
            Self::PythonOfLambda { runtime } => {
                write!(f, "python means nothing for lambda.runtime = \"{runtime}\"")
            }
            Self::Connection { entry } => write!(f, "{entry:?} is no host:port"),
        }
    }
}

impl RuntimeFault {
    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::NotOfRuntime { key, owners, .. } => {
                format!("remove {key}, or set runtime = {}", Either(owners))
            }
            Self::NeedsProcess { .. } => "remove isolation, or set it to \"process\"".to_owned(),
            Self::Cargo { .. } => {
                "use files = \"DIRECTORY\", artifact = \"FILE\" or build = { command = …, output = … }"
                    .to_owned()
            }
            Self::NoCode { .. } => "add files = \"DIRECTORY\" or artifact = \"FILE\"".to_owned(),
            Self::TwoCodes { .. } => {
                "keep one of files and artifact (or build); a directory in files can hold all of it"
                    .to_owned()
            }
            Self::Args { .. } => "remove args; use env, or command with runtime = \"http\"".to_owned(),
            Self::PortAndSocket => "remove one of the two".to_owned(),
            Self::Handler { expected, .. } => format!("write {expected}"),
            Self::Ready { .. } => "write a path such as \"/healthz\"".to_owned(),
            Self::Socket { .. } => {
                "name a path below /tmp with at most 107 bytes, such as \"/tmp/http.sock\"".to_owned()
            }
            Self::PythonOfLambda { .. } => "remove python".to_owned(),
            Self::Connection { .. } => {
                "write a host and a port such as \"db.internal:5432\" or \"*.example.org:443\"".to_owned()
            }
        }
    }
}
