//! Modules: real code of the compiler, in a program of its own.

use baton_wasm::{SEAL_BYTES, compile, weld};

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

/// The executable of a module and its program, as one file.
fn whole(program: &[u8], module: &[u8]) -> Vec<u8> {
    let own = weld(program, &compile(module).unwrap()).unwrap();
    [&own[..], &[0; SEAL_BYTES], program].concat()
}

#[test]
fn the_code_of_a_module_is_vetted_beside_its_program() {
    let program = with_function("nop");
    assert!(vet_module(&whole(&program, &module("0"))).unwrap().patches.is_empty());
    // `wrpkru` in an immediate: a detour leads around it.
    let file = whole(&program, &module("0x00ef010f"));
    let patches = vet_module(&file).unwrap().patches;
    let code = Image::parse(&file).unwrap().executable().last().unwrap().pages();
    assert!(!patches.is_empty() && patches.iter().all(|patch| code.contains(&patch.at())), "{patches:?}");
    patched_and_clean(&file, &patches);
}

#[test]
fn a_file_without_its_program_is_refused() {
    let program = with_function("nop");
    let own = weld(&program, &compile(&module("0")).unwrap()).unwrap();
    assert!(matches!(vet_module(&own), Err(VetError::Unloadable(_))));
}
