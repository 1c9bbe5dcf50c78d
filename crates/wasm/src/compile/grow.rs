//! `memory.grow` and `memory.size` of modules, by the host.
//!
//! The engine is told that a memory is as large as it can be, so that `memory.copy` and `memory.fill` reach the window of the
//! pool. Allocators that ask how large it is, or have it grow, must not hear of that: both instructions become calls of a function
//! behind the module's last one, which asks the host by the gate that the module imports anyway.
//!
//! ```text
//! memory.size        →  i32.const 0, call $grow
//! memory.grow        →  call $grow
//! (func $grow (param i32) (result i32)  (i32.wrap_i64 (call $gate GROW (i64.extend_i32_u 0) MOST 0)))
//! ```
//! A module that does not import the gate asks nobody, and has what it begins with; it is compiled as it is.

use baton_abi::wasm::{GATE, GROW, MODULE, WINDOW_AT};
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, Instruction, TypeSection, ValType};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

/// Pages that a memory may have.
const PAGES_MAX: u64 = WINDOW_AT / (64 << 10);

/// Why it cannot be done: the module was checked before, so this is none of its faults.
pub(super) type GrowError = reencode::Error;

/// The module with calls in the places of those instructions, if there are any.
pub(super) fn by_host(module: &[u8]) -> Result<Option<Vec<u8>>, GrowError> {
    let Some(found) = Found::in_module(module)? else { return Ok(None) };
    let mut out = wasm_encoder::Module::new();
    Rewrite(found).parse_core_module(&mut out, Parser::new(0), module)?;
    Ok(Some(out.finish()))
}

/// What there is to know before the first function is written anew.
#[derive(Clone, Copy)]
struct Found {
    /// Index of the imported gate.
    gate: u32,
    /// Types and functions that the module has: the first indices of new ones.
    types: u32,
    functions: u32,
    /// Pages that the memory may have by its own declaration.
    most: u64,
}

impl Found {
    /// `None` if there is nothing to do, or nobody to ask.
    fn in_module(module: &[u8]) -> Result<Option<Found>, GrowError> {
        let (mut gate, mut types, mut functions, mut grows) = (None, 0, 0, false);
        let mut most = PAGES_MAX;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types += u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if !matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                            continue;
                        }
                        if (import.module, import.name) == (MODULE, GATE) {
                            gate = Some(functions);
                        }
                        functions += 1;
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        most = memory?.maximum.unwrap_or(PAGES_MAX).min(PAGES_MAX);
                    }
                }
                Payload::FunctionSection(section) => functions += section.count(),
                Payload::CodeSectionEntry(body) => grows |= asks_for_memory(&body)?,
                _ => {}
            }
        }
        Ok(gate.filter(|_| grows).map(|gate| Found { gate, types, functions, most }))
    }
}

fn asks_for_memory(body: &FunctionBody<'_>) -> Result<bool, GrowError> {
    for operator in body.get_operators_reader()? {
        if matches!(operator?, Operator::MemoryGrow { .. } | Operator::MemorySize { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Rewrite(Found);

impl Reencode for Rewrite {
    type Error = core::convert::Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), GrowError> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), GrowError> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.0.types);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), GrowError> {
        utils::parse_code_section(self, code, section)?;
        code.function(&grow(self.0));
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), GrowError> {
        if !asks_for_memory(&body)? {
            code.raw(body.as_bytes());
            return Ok(());
        }
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            match reader.read()? {
                Operator::MemoryGrow { .. } => {
                    function.instruction(&Instruction::Call(self.0.functions));
                }
                Operator::MemorySize { .. } => {
                    function.instruction(&Instruction::I32Const(0));
                    function.instruction(&Instruction::Call(self.0.functions));
                }
                other => {
                    function.instruction(&self.instruction(other)?);
                }
            }
        }
        code.function(&function);
        Ok(())
    }
}

/// The function that asks.
fn grow(Found { gate, most, .. }: Found) -> Function {
    let mut function = Function::new([]);
    for instruction in [
        Instruction::I32Const(GROW),
        Instruction::LocalGet(0),
        Instruction::I64ExtendI32U,
        Instruction::I64Const(most.cast_signed()),
        Instruction::I64Const(0),
        Instruction::Call(gate),
        Instruction::I32WrapI64,
        Instruction::End,
    ] {
        function.instruction(&instruction);
    }
    function
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Option<Vec<u8>> {
        let module = wat::parse_str(text).unwrap();
        let out = by_host(&module).unwrap();
        if let Some(out) = &out {
            wasmparser::Validator::new_with_features(crate::settings::proposals()).validate_all(out).unwrap();
        }
        out
    }

    fn operators(module: &[u8]) -> Vec<String> {
        let bodies = Parser::new(0).parse_all(module).filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        });
        let of = |body: FunctionBody<'_>| {
            body.get_operators_reader()
                .unwrap()
                .into_iter()
                .map(|o| format!("{:?}", o.unwrap()))
                .collect::<Vec<_>>()
        };
        bodies.flat_map(of).collect()
    }

    #[test]
    fn what_asks_for_memory_asks_the_host() {
        let out = rewritten(
            r#"(module
                (type $unused (func (param f64)))
                (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
                (import "baton" "gate" (func $gate (param i32 i64 i64 i64) (result i64)))
                (memory (export "memory") 1)
                (table funcref (elem $other))
                (func $other (result i32) i32.const 7)
                (func (export "more") (param i32) (result i32)
                  (block (result i32)
                    (i32.add (memory.size) (memory.grow (local.get 0))))))"#,
        );
        let out = out.unwrap();
        let operators = operators(&out);
        assert!(operators.iter().all(|operator| !operator.contains("Memory")), "{operators:?}");
        // The new function is the last one: two are imported, two were there.
        let calls: Vec<_> = operators.iter().filter(|operator| operator.starts_with("Call")).collect();
        assert_eq!(calls.len(), 3);
        assert!(calls[..2].iter().all(|call| call.contains("function_index: 4")), "{calls:?}");
        assert!(calls[2].contains("function_index: 1"), "{calls:?}");
    }

    #[test]
    fn modules_without_such_instructions_or_without_the_gate_stay_as_they_are() {
        assert_eq!(rewritten(crate::compile::tests::SMALL), None);
        let without = r#"(module (memory 1) (func (result i32) memory.size))"#;
        assert_eq!(rewritten(without), None);
    }
}
