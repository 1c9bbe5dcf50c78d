//! Modules: real code of the compiler, in a program of its own.

use baton_wasm::{compile, weld};

use super::*;

/// A module whose code has a table of jumps and constants, and another function that returns `more`.
fn module(more: &str) -> Vec<u8> {
    let arms = "(block ".repeat(6);
    let targets = "0 1 2 3 4 5";
    wat::parse_str(format!(
        "(module (memory (export \"memory\") 1)
           (func $work (param i32) (result f64)
             {arms} (br_table {targets} (local.get 0)) ) (return (f64.const 1.5)) ) (return (f64.const 2.25)) ) ) ) )
             (f64.const 0x1.cbcbcbcbcbcbcp+10))
           (func $more (result i32) (i32.const {more}))
           (func (export \"baton_parcel\") (result i32) i32.const 64)
           (func (export \"baton_event\") (drop (call $work (i32.const 3))) (drop (call $more))))"
    ))
    .unwrap()
}

fn welded_to(program: &[u8], module: &[u8]) -> Vec<u8> {
    weld(program, &compile(module).unwrap()).unwrap()
}

#[test]
fn the_code_of_a_module_is_vetted_with_its_program() {
    let program = with_function("nop");
    let vetted = vet_module(&welded_to(&program, &module("0"))).unwrap();
    assert!(vetted.patches.is_empty());
    // `wrpkru` in an immediate: a detour leads around it.
    let file = welded_to(&program, &module("0x00ef010f"));
    let patches = vet_module(&file).unwrap().patches;
    let code = Image::parse(&file).unwrap().executable().last().unwrap().pages();
    assert!(!patches.is_empty() && patches.iter().all(|patch| code.contains(&patch.at())), "{patches:?}");
}

#[test]
fn the_program_of_a_module_is_vetted_as_any_other() {
    let far = vet_module(&welded_to(&with_function("lretq"), &module("0")));
    assert!(matches!(far, Err(VetError::Refused { first: Objection::FarTransfer { .. }, .. })), "{far:?}");
    assert!(vet_module(&with_function("lretq")).is_err(), "a file without a module");
    assert!(vet_module(&welded_to(&with_function("wrpkru"), &module("0"))).is_err());
}
