//! What a module imports and exports: a first look, by those who built it. Whoever runs it checks the rest.

use std::path::Path;
use std::{fmt, fs, io};

use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef};

/// Where the runtime's gate is imported from, and the start-up calls that toolchains leave in programs.
const GATE: (&str, &str) = ("baton", "gate");
const WASI: &str = "wasi_snapshot_preview1";
const WASI_CALLS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_seek",
    "fd_write",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];
/// What a module exports.
const EXPORTS: &[(&str, ExternalKind)] = &[
    ("memory", ExternalKind::Memory),
    ("_start", ExternalKind::Func),
    ("baton_parcel", ExternalKind::Func),
    ("baton_event", ExternalKind::Func),
];

/// Why a module is none that a node takes.
#[derive(Debug)]
pub(crate) enum ModuleError {
    Read(io::Error),
    /// It ends too early, or is something else.
    Malformed,
    /// It needs what no node has.
    Import {
        module: String,
        name: String,
    },
    /// It lacks what every node needs.
    Export {
        name: &'static str,
    },
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(source) => write!(f, "{source}"),
            Self::Malformed => write!(f, "this is no core Wasm module"),
            Self::Import { module, name } => write!(f, "imports {module}.{name}, which no node has"),
            Self::Export { name } => {
                write!(f, "does not export {name}: does its main call `baton::serve` (in C, `baton_serve`)?")
            }
        }
    }
}

impl std::error::Error for ModuleError {}

/// The names of what the module at `path` imports, all of which there is.
///
/// # Errors
/// [`ModuleError`] says what it needs and is not there, or lacks.
pub(super) fn check(path: &Path) -> Result<Vec<String>, ModuleError> {
    check_bytes(&fs::read(path).map_err(ModuleError::Read)?)
}

fn check_bytes(module: &[u8]) -> Result<Vec<String>, ModuleError> {
    let Interface { imports, exports } = Interface::read(module).ok_or(ModuleError::Malformed)?;
    let is_there =
        |module: &str, name: &str| (module, name) == GATE || (module == WASI && WASI_CALLS.contains(&name));
    if let Some((module, name)) = imports.iter().find(|(module, name)| !is_there(module, name)) {
        return Err(ModuleError::Import { module: (*module).to_owned(), name: (*name).to_owned() });
    }
    match EXPORTS.iter().find(|export| !exports.contains(export)) {
        Some((name, _)) => Err(ModuleError::Export { name }),
        None => Ok(imports.iter().map(|(_, name)| (*name).to_owned()).collect()),
    }
}

/// What a module shows.
#[derive(Default)]
struct Interface<'a> {
    /// Functions: module and name.
    imports: Vec<(&'a str, &'a str)>,
    /// Names and kinds.
    exports: Vec<(&'a str, ExternalKind)>,
}

impl<'a> Interface<'a> {
    /// Functions alone: a module that imports anything else is none that this can read.
    fn read(module: &'a [u8]) -> Option<Interface<'a>> {
        let mut interface = Interface::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { encoding: Encoding::Component, .. } => return None,
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.ok()?;
                        let is_function = matches!(import.ty, TypeRef::Func(_));
                        interface.imports.push(is_function.then_some((import.module, import.name))?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        interface.exports.push((export.name, export.kind));
                    }
                }
                _ => {}
            }
        }
        Some(interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8] = b"\0asm\x01\0\0\0";
    const IMPORTS_SECTION: u8 = 2;
    const EXPORTS_SECTION: u8 = 7;

    fn text(text: &str) -> Vec<u8> {
        let len = u8::try_from(text.len()).unwrap();
        [&[len], text.as_bytes()].concat()
    }

    fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
        let content = [vec![u8::try_from(items.len()).unwrap()], items.concat()].concat();
        [vec![id, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn module(imports: &[(&str, &str)], exports: &[(&str, ExternalKind)]) -> Vec<u8> {
        let imports: Vec<_> =
            imports.iter().map(|(module, name)| [text(module), text(name), vec![0, 0]].concat()).collect();
        let exports: Vec<_> =
            exports.iter().map(|(name, kind)| [text(name), vec![*kind as u8, 0]].concat()).collect();
        [MAGIC.to_vec(), section(IMPORTS_SECTION, &imports), section(EXPORTS_SECTION, &exports)].concat()
    }

    #[test]
    fn what_a_module_needs_must_be_there() {
        let good = module(&[GATE, (WASI, "fd_write")], EXPORTS);
        assert_eq!(check_bytes(&good).unwrap(), ["gate", "fd_write"]);
        let bad = check_bytes(&module(&[GATE, (WASI, "sock_accept")], EXPORTS)).unwrap_err();
        assert!(matches!(bad, ModuleError::Import { name, .. } if name == "sock_accept"));
    }

    #[test]
    fn what_nodes_need_must_be_exported() {
        for (missing, (name, _)) in EXPORTS.iter().enumerate() {
            let mut exports = EXPORTS.to_vec();
            exports.remove(missing);
            let error = check_bytes(&module(&[GATE], &exports)).unwrap_err();
            assert!(matches!(error, ModuleError::Export { name: lacking } if lacking == *name));
        }
    }

    #[test]
    fn what_ends_too_early_is_no_module() {
        let good = module(&[GATE], EXPORTS);
        assert!(check_bytes(&good).is_ok());
        for len in 0..good.len() {
            assert!(check_bytes(&good[..len]).is_err(), "{len} bytes");
        }
    }
}
