//! What a module must be before it is compiled.
//!
//! Everything that a module brings is hostile: it is validated with exactly the proposals that the engine has, and bounded in
//! all that costs the compiler time or memory. A refusal names the thing, its place, and what to do.

mod component;
mod error;
mod instances;
mod wasi;

use baton_abi::ABI_VERSION;
use baton_abi::wasm::{
    EVENT, GATE, MEMORY, MODULE, PARCEL, REFUSED, START, VERSION_SECTION, VERSION_UNSAID, WINDOW_AT,
};
use wasmparser::types::EntityType;
use wasmparser::{
    ExternalKind, FuncToValidate, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef, ValType,
    ValidPayload, Validator, ValidatorResources,
};

pub use self::error::CheckError;
use crate::artifact::{Kind, is_component};
use crate::settings::proposals;

/// Largest module, bytes.
pub const MODULE_BYTES_MAX: usize = 64 << 20;
/// Most functions that a module has, imported ones included.
pub const FUNCTIONS_MAX: u32 = 200_000;
/// Most globals.
pub const GLOBALS_MAX: u32 = 10_000;
/// Most tables.
pub const TABLES_MAX: u32 = 16;
/// Most elements that a table begins with.
pub const TABLE_ELEMENTS_MAX: u64 = 1 << 20;

const PAGE_BYTES: u64 = 64 << 10;
/// Pages that fit below the window of the pool.
const PAGES_MAX: u64 = WINDOW_AT / PAGE_BYTES;

/// A module, or a component, that may be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Which of them it is.
    pub kind: Kind,
    /// Bytes of memory at the start.
    pub memory_bytes: u64,
    /// Bytes that it may grow to.
    pub memory_bytes_max: u64,
    /// Whether putting the memory back is enough to begin anew: nothing else changes but one global, which toolchains
    /// have the stack's place in, and which is as it was when no function runs.
    pub resets_by_memory: bool,
    /// How many functions it has, imported ones included.
    pub functions: u32,
}

/// Checks the bytes of a module or a component.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(module: &[u8]) -> Result<Checked, CheckError> {
    if module.len() > MODULE_BYTES_MAX {
        return Err(CheckError::TooLarge { bytes: module.len() });
    }
    if is_component(module) {
        return component::check(module);
    }
    if !module.starts_with(b"\0asm") {
        return Err(CheckError::NotWasm { is_elf: module.starts_with(b"\x7fELF") });
    }
    let mut found = Found::default();
    let mut validator = Validator::new_with_features(proposals());
    let mut types = None;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(CheckError::invalid)?;
        match validator.payload(&payload).map_err(CheckError::invalid)? {
            ValidPayload::Func(function, body) => found.body(function, &body)?,
            ValidPayload::End(end) => types = Some(end),
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
        found.section(payload)?;
    }
    let types = types.ok_or(CheckError::Unfinished)?;
    let types = types.as_ref();
    let function = |entity| match entity {
        EntityType::Func(id) | EntityType::FuncExact(id) => match &types[id].composite_type.inner {
            wasmparser::CompositeInnerType::Func(ty) => Some(ty),
            _ => None,
        },
        _ => None,
    };
    for import in types.core_imports().into_iter().flatten() {
        let (module, name, entity) = import;
        imported(module, name, function(entity))?;
    }
    let exported = |name: &str| {
        types.core_exports().into_iter().flatten().find(|(other, _)| *other == name).map(|(_, entity)| entity)
    };
    if !matches!(exported(MEMORY), Some(EntityType::Memory(_))) {
        return Err(CheckError::NoMemory);
    }
    let answers = exported(EVENT).and_then(function).is_some_and(|ty| !ty.results().is_empty());
    let (number, none) = (&[ValType::I32][..], &[][..]);
    for (name, params, results, expected, is_needed) in [
        (START, none, none, "(func)", false),
        (PARCEL, none, number, "(func (result i32))", true),
        (EVENT, none, if answers { number } else { none }, "(func) or (func (result i32))", true),
        (REFUSED, &[ValType::I64][..], none, "(func (param i64))", answers),
    ] {
        match exported(name) {
            None if is_needed => return Err(CheckError::NoExport { name }),
            None => {}
            Some(entity) if function(entity).is_some_and(|ty| is(ty, params, results)) => {}
            Some(_) => return Err(CheckError::ExportType { name, expected }),
        }
    }
    found.end()
}

fn is(ty: &FuncType, params: &[ValType], results: &[ValType]) -> bool {
    ty.params() == params && ty.results() == results
}

fn imported(module: &str, name: &str, ty: Option<&FuncType>) -> Result<(), CheckError> {
    let wrong = |expected| CheckError::ImportType {
        module: error::shown(module),
        name: error::shown(name),
        expected,
    };
    if (module, name) == (MODULE, GATE) {
        let params = [ValType::I32, ValType::I64, ValType::I64, ValType::I64];
        let fits = ty.is_some_and(|ty| is(ty, &params, &[ValType::I64]));
        return if fits { Ok(()) } else { Err(wrong("(param i32 i64 i64 i64) (result i64)".to_owned())) };
    }
    let unknown = || CheckError::Import {
        module: error::shown(module),
        name: error::shown(name),
        hint: wasi::hint(module, name),
    };
    let call = wasi::call(module, name).ok_or_else(unknown)?;
    let fits = ty.is_some_and(|ty| is(ty, &call.params(), call.results()));
    if fits { Ok(()) } else { Err(wrong(call.signature())) }
}

#[derive(Default)]
struct Found {
    functions: u32,
    globals: u32,
    mutable_globals: u32,
    tables: u32,
    memory: Option<wasmparser::MemoryType>,
    changes_tables: bool,
    /// What the module says that it was built for.
    version: Option<u32>,
}

impl Found {
    /// Looks at what the validator has believed.
    fn section(&mut self, payload: Payload<'_>) -> Result<(), CheckError> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(CheckError::invalid)?;
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => self.functions += 1,
                        TypeRef::Memory(_) => return Err(CheckError::not_its_own("memory", &import)),
                        TypeRef::Table(_) => return Err(CheckError::not_its_own("table", &import)),
                        TypeRef::Global(_) => return Err(CheckError::not_its_own("global", &import)),
                        TypeRef::Tag(_) => return Err(CheckError::not_its_own("tag", &import)),
                    }
                }
                at_most("functions", self.functions, FUNCTIONS_MAX)
            }
            Payload::FunctionSection(functions) => {
                self.functions = self.functions.saturating_add(functions.count());
                at_most("functions", self.functions, FUNCTIONS_MAX)
            }
            Payload::GlobalSection(globals) => {
                self.globals = globals.count();
                at_most("globals", self.globals, GLOBALS_MAX)?;
                for global in globals {
                    let global = global.map_err(CheckError::invalid)?;
                    self.mutable_globals += u32::from(global.ty.mutable);
                }
                Ok(())
            }
            Payload::TableSection(tables) => {
                self.tables = tables.count();
                at_most("tables", self.tables, TABLES_MAX)?;
                for (index, table) in tables.into_iter().enumerate() {
                    let initial = table.map_err(CheckError::invalid)?.ty.initial;
                    if initial > TABLE_ELEMENTS_MAX {
                        return Err(CheckError::Table { index, initial });
                    }
                }
                Ok(())
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memory = Some(memory.map_err(CheckError::invalid)?);
                }
                Ok(())
            }
            Payload::CustomSection(custom) if custom.name() == VERSION_SECTION => {
                // Once, or as often as objects were linked that say the same.
                for said in custom.data().chunks(4) {
                    let said = said.try_into().map_or(0, u32::from_le_bytes);
                    if self.version.replace(said).is_some_and(|before| before != said) {
                        return Err(CheckError::Version { built_for: 0 });
                    }
                }
                Ok(())
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(CheckError::invalid)?;
                    if export.kind == ExternalKind::Func && export.name == "_initialize" {
                        return Err(CheckError::Reactor);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn body(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), CheckError> {
        let index = function.index;
        let invalid = |error| CheckError::in_function(index, &error);
        function.into_validator(Default::default()).validate(body).map_err(invalid)?;
        if self.changes_tables {
            return Ok(());
        }
        for operator in body.get_operators_reader().map_err(invalid)? {
            self.changes_tables |= matches!(
                operator.map_err(invalid)?,
                Operator::TableSet { .. }
                    | Operator::TableGrow { .. }
                    | Operator::TableFill { .. }
                    | Operator::TableCopy { .. }
                    | Operator::TableInit { .. }
                    | Operator::ElemDrop { .. }
                    | Operator::DataDrop { .. }
            );
        }
        Ok(())
    }

    fn end(&self) -> Result<Checked, CheckError> {
        let built_for = self.version.unwrap_or(VERSION_UNSAID);
        if built_for != ABI_VERSION {
            return Err(CheckError::Version { built_for });
        }
        let memory = self.memory.ok_or(CheckError::NoMemory)?;
        if memory.initial > PAGES_MAX {
            let bytes = memory.initial.saturating_mul(PAGE_BYTES);
            return Err(CheckError::Memory { bytes, max: WINDOW_AT });
        }
        let most = memory.maximum.unwrap_or(PAGES_MAX).min(PAGES_MAX);
        Ok(Checked {
            kind: Kind::Module,
            memory_bytes: memory.initial * PAGE_BYTES,
            memory_bytes_max: most * PAGE_BYTES,
            resets_by_memory: self.mutable_globals <= 1 && !self.changes_tables,
            functions: self.functions,
        })
    }
}

fn at_most(what: &'static str, count: u32, max: u32) -> Result<(), CheckError> {
    if count <= max { Ok(()) } else { Err(CheckError::TooMany { what, count, max }) }
}

#[cfg(test)]
mod tests;
