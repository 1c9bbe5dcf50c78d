//! What a component must be before it is compiled.
//!
//! A component is what other people's tools make: it has modules within, and says by names of interfaces what it needs and
//! what it offers. It is validated as modules are, bounded in sum over all of its modules, and may import what the program
//! that runs components has.

use wasmparser::{Parser, Payload, ValidPayload, Validator};

use super::error::shown;
use super::instances::Instances;
use super::{
    CheckError, Checked, FUNCTIONS_MAX, GLOBALS_MAX, PAGE_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX, at_most,
};
use crate::artifact::Kind;
use crate::settings::component_proposals;

/// Most modules and components within one.
const PARTS_MAX: u32 = 256;
/// Bytes that the memories may begin with, together.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Most types within types in one section: the parser goes down into each by a call of its own.
const NESTED_TYPES_MAX: u32 = 500;
/// Names of exports that are told.
const EXPORTS_SHOWN: usize = 8;

/// What makes a component a function.
const HANDLERS: [&str; 3] =
    ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3.", "baton:data/handler@0.1."];
/// Packages of which all interfaces of these versions are there.
const PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:random/", "wasi:sockets/"];

pub(super) fn check(component: &[u8]) -> Result<Checked, CheckError> {
    let is_async = match validate(component, false) {
        Ok(()) => false,
        Err(error) => {
            // The first error is that of a component that is not asynchronous at all, unless the second knows more.
            validate(component, true).map_err(|other| if is_about_async(&error) { other } else { error })?;
            true
        }
    };
    let found = look(component)?;
    if !found.serves {
        return Err(CheckError::NoHandler { exports: found.exports });
    }
    let made = found.instances.made;
    let memory_bytes = made.pages.saturating_mul(PAGE_BYTES);
    if memory_bytes > MEMORY_BYTES_MAX {
        return Err(CheckError::Memory { bytes: memory_bytes, max: MEMORY_BYTES_MAX });
    }
    Ok(Checked {
        kind: Kind::Component { is_async },
        memory_bytes,
        memory_bytes_max: made.pages_max.saturating_mul(PAGE_BYTES).max(memory_bytes),
        resets_by_memory: false,
        functions: found.functions,
    })
}

fn is_about_async(error: &CheckError) -> bool {
    matches!(error, CheckError::Invalid { what, .. } if what.contains("async"))
}

fn validate(component: &[u8], is_async: bool) -> Result<(), CheckError> {
    let mut validator = Validator::new_with_features(component_proposals(is_async));
    let mut allocations = Default::default();
    let mut parts = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(CheckError::invalid)?;
        // What would cost the validator more than it knows.
        match &payload {
            Payload::ComponentTypeSection(types) => {
                shallow(component.get(types.range()).unwrap_or_default())?;
            }
            Payload::Version { .. } => {
                parts += 1;
                at_most("modules and components", parts, PARTS_MAX)?;
            }
            _ => {}
        }
        if let ValidPayload::Func(function, body) =
            validator.payload(&payload).map_err(CheckError::invalid)?
        {
            let index = function.index;
            let mut function = function.into_validator(allocations);
            function.validate(&body).map_err(|error| CheckError::in_function(index, &error))?;
            allocations = function.into_allocations();
        }
    }
    Ok(())
}

/// Bounds how deep types lie within types, by the most that the bytes of a section could mean: a declaration of a type (1) that
/// is one of a component or an instance (0x41, 0x42).
fn shallow(section: &[u8]) -> Result<(), CheckError> {
    let nested = section.windows(2).filter(|pair| matches!(pair, [1, 0x41 | 0x42])).count();
    at_most("types within types", u32::try_from(nested).unwrap_or(u32::MAX), NESTED_TYPES_MAX)
}

#[derive(Default)]
struct Found {
    instances: Instances,
    functions: u32,
    globals: u32,
    tables: u32,
    serves: bool,
    exports: Vec<String>,
}

/// Looks at what the validator has believed.
fn look(component: &[u8]) -> Result<Found, CheckError> {
    let mut found = Found::default();
    for payload in Parser::new(0).parse_all(component) {
        found.section(payload.map_err(CheckError::invalid)?)?;
    }
    Ok(found)
}

impl Found {
    fn section(&mut self, payload: Payload<'_>) -> Result<(), CheckError> {
        self.instances.section(&payload)?;
        let is_outermost = self.instances.depth() == 1;
        match payload {
            Payload::FunctionSection(functions) => {
                self.functions = self.functions.saturating_add(functions.count());
                at_most("functions", self.functions, FUNCTIONS_MAX)?;
            }
            Payload::GlobalSection(globals) => {
                self.globals = self.globals.saturating_add(globals.count());
                at_most("globals", self.globals, GLOBALS_MAX)?;
            }
            Payload::TableSection(tables) => {
                self.tables = self.tables.saturating_add(tables.count());
                // The glue between modules has tables of its own.
                at_most("tables", self.tables, TABLES_MAX + PARTS_MAX)?;
                for (index, table) in tables.into_iter().enumerate() {
                    let initial = table.map_err(CheckError::invalid)?.ty.initial;
                    if initial > TABLE_ELEMENTS_MAX {
                        return Err(CheckError::Table { index, initial });
                    }
                }
            }
            Payload::ComponentImportSection(imports) if is_outermost => {
                for import in imports {
                    imported(import.map_err(CheckError::invalid)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(exports) if is_outermost => {
                for export in exports {
                    let name = export.map_err(CheckError::invalid)?.name.name;
                    self.serves |= HANDLERS.iter().any(|handler| name.starts_with(handler));
                    if self.exports.len() < EXPORTS_SHOWN {
                        self.exports.push(format!("`{}`", shown(name)));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn imported(name: &str) -> Result<(), CheckError> {
    let is_there = match name.split_once('@') {
        Some((interface, version)) if version.starts_with("0.1.") => interface.starts_with("baton:data/"),
        Some((interface, version)) if version.starts_with("0.2.") => {
            interface.starts_with("wasi:io/") || PACKAGES.iter().any(|package| interface.starts_with(package))
        }
        // Candidates of a release have types that differ from those of the release.
        Some((interface, version)) if version.starts_with("0.3.") && !version.contains('-') => {
            PACKAGES.iter().any(|package| interface.starts_with(package))
        }
        _ => false,
    };
    if is_there { Ok(()) } else { Err(CheckError::Interface { name: shown(name), hint: hint(name) }) }
}

fn hint(name: &str) -> &'static str {
    let starts = |prefix: &str| name.starts_with(prefix);
    if starts("wasi:keyvalue")
        || starts("wasi:blobstore")
        || starts("wasi:config")
        || starts("wasi:messaging")
    {
        "no store is behind a function: call another function, or a host that the manifest's `network` names, by HTTP"
    } else if starts("wasi:nn") || starts("wasi:tls") || starts("wasi:logging") {
        "there is WASI's cli, clocks, filesystem, http, io, random and sockets; print instead of logging"
    } else if starts("wasi:") && name.contains("-rc-") {
        "it is a candidate of a release: build with tools for WASI 0.2, or 0.3.0"
    } else if starts("wasi:") {
        "build with tools for WASI 0.2, or 0.3.0"
    } else if starts("baton:data/") {
        "this node has `baton:data@0.1.0`: build with its `data.wit`"
    } else {
        "compose it with the component that has it (`wac plug`), so that only WASI is left to import"
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn component(text: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {text})")).unwrap()
    }

    const HANDLER: &str = r#"(core module $m (func (export "f")) (memory 3 9))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $h (export "handle" (func $f)))
        (export "wasi:http/incoming-handler@0.2.3" (instance $h))"#;

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = check(&component(text)).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn a_component_that_serves_is_taken() {
        let checked = check(&component(HANDLER)).unwrap();
        assert_eq!(checked.kind, Kind::Component { is_async: false });
        assert_eq!((checked.memory_bytes, checked.memory_bytes_max), (3 << 16, 9 << 16));
    }

    #[test]
    fn a_component_that_serves_nothing_is_told_what_to_export() {
        refused(
            r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
               (func $f (canon lift (core func $i "f"))) (export "greet" (func $f))"#,
            &["`greet`", "wasi:http/proxy"],
        );
    }

    #[test]
    fn interfaces_that_are_not_there_are_named() {
        let with = |name: &str| format!(r#"(import "{name}" (instance)) {HANDLER}"#);
        for name in ["wasi:io/poll@0.2.0", "wasi:http/types@0.2.12", "wasi:cli/stdout@0.3.0"] {
            assert!(check(&component(&with(name))).is_ok(), "{name}");
        }
        refused(
            &with("wasi:keyvalue/store@0.2.0-draft"),
            &["`wasi:keyvalue/store@0.2.0-draft`", "`network`"],
        );
        refused(&with("wasi:http/types@0.3.0-rc-2026-03-15"), &["candidate of a release"]);
        refused(&with("acme:billing/api@1.0.0"), &["`acme:billing/api@1.0.0`", "wac plug"]);
        refused(&with("wasi:io/poll@1.0.0"), &["tools for WASI 0.2"]);
    }

    #[test]
    fn modules_within_are_bounded_together() {
        let memory = |pages: u64| {
            format!("(core module $x (memory {pages})) (core instance (instantiate $x)) {HANDLER}")
        };
        assert!(check(&component(&memory(60_000))).is_ok());
        refused(&memory(65_535), &["4096 MiB of memory"]);
        let many = format!("(core module $x (memory 1)) {}", "(core instance (instantiate $x))".repeat(9));
        refused(&format!("{many} {HANDLER}"), &["9 memories"]);
        refused(&format!("(core module (table 2000000 funcref)) {HANDLER}"), &["2000000 elements"]);
    }

    #[test]
    fn code_within_is_validated() {
        let body = "(core module (func (result i32)))";
        refused(&format!("{body} {HANDLER}"), &["not valid", "in function 0"]);
    }
}
