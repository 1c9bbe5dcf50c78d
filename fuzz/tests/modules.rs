//! Wasm modules: any bytes, modules of every shape, and compiled modules whose headers lie, are refused or become what is said.

use arbitrary::Unstructured;
use baton_fuzz::{INPUT_BYTES_MAX, Source};
use baton_wasm::{Header, SEAL_BYTES, check, compile, trap_at, weld, welded};
use wasm_smith::{Config, Module};

/// Everything that a module may import.
const IMPORTS: &str = r#"(module
    (import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))
    (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
/// Everything that a module has to export.
const EXPORTS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "baton_parcel") (result i32) (unreachable))
    (func (export "baton_event") (unreachable)))"#;
const SMALL: &str = r#"(module
    (memory (export "memory") 1 4)
    (func (export "baton_parcel") (result i32) (i32.const 64))
    (func (export "baton_event") (i32.store (i32.const 9) (i32.div_u (i32.const 1) (i32.load (i32.const 5))))))"#;

fn parsed(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it is well-formed")
}

/// This program, in whose place that of Wasm functions would be.
fn program() -> Vec<u8> {
    std::fs::read(std::env::current_exe().expect("it has a path")).expect("it can be read")
}

#[test]
fn any_bytes_are_refused_or_checked() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let _ = check(input);
        let _ = check(&[b"\0asm\x01\0\0\0", input].concat());
        let mut damaged = parsed(SMALL);
        let mut source = Source::new(input);
        for _ in 0..source.byte() % 8 {
            let at = usize::try_from(source.word()).unwrap_or(0) % damaged.len();
            damaged[at] = source.byte();
        }
        if let Ok(checked) = check(&damaged) {
            assert!(checked.memory_bytes <= checked.memory_bytes_max);
            let _ = compile(&damaged);
        }
    });
}

#[test]
fn what_is_checked_is_compiled_and_becomes_an_executable() {
    let config = Config {
        available_imports: Some(parsed(IMPORTS)),
        exports: Some(parsed(EXPORTS)),
        max_memories: 1,
        max_tables: 4,
        max_memory32_bytes: 1 << 24,
        memory64_enabled: false,
        threads_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        relaxed_simd_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        ..Config::default()
    };
    let program = program();
    let taken = std::cell::Cell::new(0u64);
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let Ok(module) = Module::new(config.clone(), &mut Unstructured::new(input)) else { return };
        let module = module.to_bytes();
        // What is refused is refused with a reason that has an end.
        match check(&module) {
            Err(error) => assert!(error.to_string().len() < 4096),
            Ok(checked) => {
                let artifact = compile(&module).expect("what is checked is compiled");
                let header = Header::read(&artifact).expect("it was made here");
                assert_eq!(header.memory_bytes, checked.memory_bytes);
                let executable = weld(&program, &artifact).expect("both are what they should be");
                assert!((executable.len() + SEAL_BYTES).is_multiple_of(4096));
                assert!(welded(&executable) == Some(&artifact));
                taken.set(taken.get() + 1);
            }
        }
    });
    println!("{} were taken", taken.get());
    assert!(taken.get() > 0, "none was taken");
}

#[test]
fn readers_survive_executables_that_lie() {
    let program = program();
    let artifact = compile(&parsed(SMALL)).expect("it is a function");
    let executable = weld(&program, &artifact).expect("both are what they should be");
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let mut source = Source::new(input);
        let (mut artifact, mut executable) = (artifact.clone(), executable.clone());
        for _ in 0..=source.byte() % 16 {
            // Headers are where lies do most.
            let bound = if source.byte().is_multiple_of(2) { 256 } else { executable.len() };
            let at = usize::try_from(source.word()).unwrap_or(0) % bound;
            let value = source.byte();
            executable[at] = value;
            if let Some(byte) = artifact.get_mut(at) {
                *byte = value;
            }
        }
        let cut = usize::try_from(source.word()).unwrap_or(0);
        if cut.is_multiple_of(3) {
            executable.truncate(cut % executable.len());
            artifact.truncate(cut % artifact.len());
        }
        if let Some(found) = welded(&executable) {
            let _ = Header::read(found);
        }
        for at in [0, 0x1000, u64::MAX, source.word()] {
            let _ = trap_at(&executable, at);
        }
        if let Ok(made) = weld(&program, &artifact) {
            assert!(welded(&made).is_some_and(|found| found.len() <= artifact.len()));
        }
        let _ = weld(&executable, &artifact);
    });
}
