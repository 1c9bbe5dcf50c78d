//! Why a module has no executable.

use std::fmt;
use std::path::PathBuf;

use baton_wasm::{ReadError, WeldError};

use crate::artifacts::ArtifactError;

/// Why a module has no executable.
#[derive(Debug)]
pub enum ModuleError {
    /// A program that it takes is not there.
    NoProgram {
        /// Its name.
        name: &'static str,
        /// The variable that names it.
        env: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The compiler refuses the module.
    Refused {
        /// Its words.
        why: String,
    },
    /// The compiler did not come to an end.
    Ended {
        /// How it ended.
        how: String,
    },
    /// The compiler came upon what it does not know: its own fault, for all that the module was checked.
    Panicked {
        /// Where, and what it says.
        words: String,
    },
    /// The compiler could not be started or heard.
    Compiler(std::io::Error),
    /// What it made is too large.
    TooLarge,
    /// What it made is not for this node.
    Code(ReadError),
    /// What it made was made from another module.
    Other,
    /// What it made cannot be made part of the program that runs modules.
    Weld(WeldError),
    /// The disk refuses.
    Disk(ArtifactError),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram { name, env, path } => write!(
                f,
                "this node cannot run Wasm functions: {name} is not at {}; install it beside the node, or name it in {env}",
                path.display()
            ),
            Self::Refused { why } => f.write_str(why),
            Self::Ended { how } => {
                write!(
                    f,
                    "the compiler of the module {how}: make the module smaller, or split it into several functions"
                )
            }
            Self::Panicked { words } => write!(
                f,
                "the compiler fails on this module, by a fault of its own ({words}): report it with the module, and build the module \
                 with another optimisation or toolchain meanwhile"
            ),
            Self::Compiler(error) => write!(f, "the compiler of the module cannot be run: {error}"),
            Self::TooLarge => {
                f.write_str("the compiled module is too large: split it into several functions")
            }
            Self::Code(error) => write!(f, "{error}"),
            Self::Other => f.write_str("the module changed while it was compiled: deploy again"),
            Self::Weld(error) => write!(f, "{error}"),
            Self::Disk(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ModuleError {}
