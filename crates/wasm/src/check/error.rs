//! Why a module is refused.

use std::fmt;

use baton_abi::ABI_VERSION;
use baton_abi::wasm::VERSION_SECTION;
use wasmparser::{BinaryReaderError, Import};

use super::{MODULE_BYTES_MAX, TABLE_ELEMENTS_MAX};

/// Characters of a name from a module that are shown.
const NAME_CHARS_MAX: usize = 80;

/// Why a module is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// It is too long.
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// It is something else.
    NotWasm {
        /// It is a native executable.
        is_elf: bool,
    },
    /// It is a component that imports an interface that there is not.
    Interface {
        /// Which.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// It is a component that exports nothing that could serve a request.
    NoHandler {
        /// What it does export.
        exports: Vec<String>,
    },
    /// It is a component that instantiates what is not within it.
    Elsewhere {
        /// A module or a component.
        what: &'static str,
    },
    /// It ends before it is whole.
    Unfinished,
    /// The validator refuses it.
    Invalid {
        /// Byte of the module.
        at: usize,
        /// The function, if it is in one.
        function: Option<u32>,
        /// What is wrong.
        what: String,
    },
    /// It imports a function that there is not.
    Import {
        /// From where.
        module: String,
        /// What.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// It imports a function as if it had another type.
    ImportType {
        /// From where.
        module: String,
        /// What.
        name: String,
        /// Its type.
        expected: String,
    },
    /// It imports what has to be its own.
    NotItsOwn {
        /// A memory, a table, a global.
        what: &'static str,
        /// From where.
        module: String,
        /// What.
        name: String,
    },
    /// It has no memory, or does not export it.
    NoMemory,
    /// It begins with more memory than there is.
    Memory {
        /// How much.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// It begins with too large a table.
    Table {
        /// Which.
        index: usize,
        /// How many elements.
        initial: u64,
    },
    /// It has too many of something.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u32,
        /// The most.
        max: u32,
    },
    /// It does not export a function that it has to.
    NoExport {
        /// Which.
        name: &'static str,
    },
    /// It exports one of another type.
    ExportType {
        /// Which.
        name: &'static str,
        /// What type it should have.
        expected: &'static str,
    },
    /// It was built for another version of the gates.
    Version {
        /// Which; 0 if what it says is none.
        built_for: u32,
    },
    /// It is a library that has to be initialised by a call.
    Reactor,
}

/// A name from a module, fit to be shown.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

impl CheckError {
    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` passes")]
    pub(super) fn invalid(error: BinaryReaderError) -> Self {
        Self::Invalid { at: error.offset(), function: None, what: shown(error.message()) }
    }

    pub(super) fn in_function(index: u32, error: &BinaryReaderError) -> Self {
        Self::Invalid { at: error.offset(), function: Some(index), what: shown(error.message()) }
    }

    pub(super) fn not_its_own(what: &'static str, import: &Import<'_>) -> Self {
        Self::NotItsOwn { what, module: shown(import.module), name: shown(import.name) }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SDK: &str = "build it with the SDK";
        match self {
            Self::TooLarge { bytes } => write!(
                f,
                "the module has {} MiB, the most is {} MiB: strip its names and debug information (`wasm-opt`, `-C strip=debuginfo`)",
                bytes.div_ceil(1 << 20),
                MODULE_BYTES_MAX >> 20
            ),
            Self::NotWasm { is_elf: true } => f.write_str(
                "this is a native executable, not a Wasm module: build for `wasm32-wasip1`, or say `isolation = \"compartment\"`",
            ),
            Self::NotWasm { is_elf: false } => {
                f.write_str("this is no Wasm module: it does not begin with `\\0asm` (text has to be assembled first)")
            }
            Self::Interface { name, hint } => {
                write!(f, "the component imports `{name}`, which is not there: {hint}")
            }
            Self::NoHandler { exports } => no_handler(f, exports),
            Self::Elsewhere { what } => elsewhere(f, what),
            Self::Unfinished => f.write_str("the module ends in the middle: build and deploy it again"),
            Self::Invalid { at, function, what } => {
                write!(f, "the module is not valid, or uses a proposal that is off: {what} (at byte {at:#x}")?;
                if let Some(function) = function {
                    write!(f, ", in function {function}")?;
                }
                f.write_str("); build it without threads, 64-bit memory, exceptions and garbage collection")
            }
            Self::Import { module, name, hint } => {
                write!(f, "the module imports `{module}` `{name}`, which is not there: {hint}")
            }
            Self::ImportType { module, name, expected } => {
                write!(f, "the module imports `{module}` `{name}` with another type than its own, {expected}: {SDK}")
            }
            Self::NotItsOwn { what, module, name } => write!(
                f,
                "the module imports its {what} as `{module}` `{name}` and has to have its own: link without `--import-{what}`"
            ),
            Self::NoMemory => {
                f.write_str("the module exports no memory named `memory`: link it as a program, with its own memory")
            }
            Self::Memory { bytes, max } => write!(
                f,
                "it begins with {} MiB of memory, the most is {} MiB: have it allocate less at its start",
                bytes >> 20,
                max >> 20
            ),
            Self::Table { index, initial } => {
                write!(f, "table {index} begins with {initial} elements, the most is {TABLE_ELEMENTS_MAX}")
            }
            Self::TooMany { what, count, max } => {
                write!(f, "the module has {count} {what}, the most is {max}: split it into several functions")
            }
            Self::NoExport { name } => write!(f, "the module exports no function `{name}`: {SDK}"),
            Self::ExportType { name, expected } => {
                write!(f, "the module's export `{name}` is no function of type {expected}: {SDK}")
            }
            Self::Version { built_for: 0 } => write!(
                f,
                "the module's section `{VERSION_SECTION}` says no one version: link objects of one SDK only"
            ),
            Self::Version { built_for } => write!(
                f,
                "the module was built for version {built_for} of the gates, this node has version {ABI_VERSION}: build it with \
                 the SDK of this version of Baton"
            ),
            Self::Reactor => f.write_str(
                "the module exports `_initialize`, which nobody calls: link it as a program (a command), which exports `_start`",
            ),
        }
    }
}

fn elsewhere(f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
    write!(
        f,
        "the component gets a {what} by an import or from an instance, where it has to be within: compose it (`wac plug`)"
    )
}

fn no_handler(f: &mut fmt::Formatter<'_>, exports: &[String]) -> fmt::Result {
    f.write_str(
        "the component exports none of `wasi:http/incoming-handler@0.2`, `wasi:http/handler@0.3` and `baton:data/handler@0.1`",
    )?;
    if !exports.is_empty() {
        write!(f, ", but {}", exports.join(", "))?;
    }
    f.write_str(": build it for the world `wasi:http/proxy`, `wasi:http/service` or `baton:data/function`")
}

impl std::error::Error for CheckError {}
