//! Modules and components that nobody would write: whatever comes, it is refused with a reason, or becomes an artifact that holds
//! what it promises. Seeds are told; a seed gives the same bytes each time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use wasm_smith::{Component, Config, Module};

use super::*;
use crate::elf::SECTION_BYTES;
use crate::{SEAL_BYTES, weld, welded};

/// Seeds that are tried, unless the time is up before.
const SEEDS: u64 = 400;
const TIME_MAX: Duration = Duration::from_secs(6);

/// What became of what was made.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) compiled: u32,
    pub(super) refused: u32,
}

/// Bytes that a seed stands for.
fn drawn(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// This test's own program, which is position-independent.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| std::fs::read(std::env::current_exe().unwrap()).unwrap())
}

/// Checks and compiles; what is refused has a reason that says what to do, and what is compiled is what it should be.
#[track_caller]
pub(super) fn survived(bytes: &[u8], what: &str, tally: &mut Tally) {
    let checked = match check(bytes) {
        Err(error) => {
            let words = error.to_string();
            let says_what_to_do = [":", ";", "the most is"].iter().any(|sign| words.contains(sign));
            assert!(says_what_to_do && words.len() < 2000, "{what}: {words}");
            tally.refused += 1;
            return;
        }
        Ok(checked) => checked,
    };
    let artifact = match compile(bytes) {
        Ok(artifact) => artifact,
        Err(CompileError::Engine(error)) => {
            // The compiler has bounds of its own, such as the length of a function's code.
            println!("{what}: {error:#}");
            tally.refused += 1;
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let header = Header::read(&artifact).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(header.module, *blake3::hash(bytes).as_bytes(), "{what}");
    assert_eq!((header.kind, header.resets_by_memory), (checked.kind, checked.resets_by_memory), "{what}");
    let memory = (header.memory_bytes, header.memory_bytes_max);
    assert_eq!(memory, (checked.memory_bytes, checked.memory_bytes_max), "{what}");
    is_in_its_text(&artifact, &header, what);
    let welded_file = weld(program(), &artifact).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!((welded_file.len() + SEAL_BYTES).is_multiple_of(HEADER_BYTES), "{what}");
    assert!(welded(&welded_file) == Some(&artifact), "{what}: it is not what was welded");
    tally.compiled += 1;
}

/// Every executable byte, and every function, lies in the range that the header names.
#[track_caller]
fn is_in_its_text(artifact: &[u8], header: &Header, what: &str) {
    let code = Elf(&artifact[HEADER_BYTES..]);
    let mut found = false;
    for section in code.sections().unwrap().filter(|section| section.flags & EXECUTABLE != 0) {
        let (start, end) = (section.file.start + HEADER_BYTES as u64, section.file.end + HEADER_BYTES as u64);
        assert!(header.text.start <= start && end <= header.text.end, "{what}: {section:?}");
        found = true;
    }
    assert!(found && !header.text.is_empty(), "{what}: there is no code");
    let sections = code.long(40).unwrap() + u64::from(code.short(60).unwrap()) * SECTION_BYTES as u64;
    assert!(sections <= header.code_bytes, "{what}");
    let text = header.text.end - header.text.start;
    for symbol in
        code.symbols().into_iter().flat_map(|(table, _)| table.chunks_exact(crate::elf::SYMBOL_BYTES))
    {
        let (value, bytes) = (Elf(symbol).long(8).unwrap(), Elf(symbol).long(16).unwrap());
        assert!(value + bytes <= text, "{what}: a function of {bytes} bytes at {value:#x}");
    }
}

/// Tries seeds until there were enough, or the time is up.
fn try_seeds(
    kind: &str,
    mut make: impl FnMut(u64, &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>>,
) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    for seed in 0..SEEDS {
        let drawn = drawn(seed, 2048);
        // What is drawn may not be enough for a whole module.
        if let Ok(bytes) = make(seed, &mut Unstructured::new(&drawn)) {
            survived(&bytes, &format!("{kind}, seed {seed}"), &mut tally);
        }
        if begin.elapsed() > TIME_MAX {
            println!("{kind}: the time was up after seed {seed}");
            break;
        }
    }
    println!("{kind}: {tally:?}");
    tally
}

#[test]
fn any_module_is_compiled_or_refused_with_a_reason() {
    let tally = try_seeds("any module", |_, drawn| {
        let mut config = Config::arbitrary(drawn)?;
        config.allow_invalid_funcs = bool::arbitrary(drawn)?;
        config.generate_custom_sections = true;
        config.custom_page_sizes_enabled = bool::arbitrary(drawn)?;
        config.wide_arithmetic_enabled = bool::arbitrary(drawn)?;
        Ok(Module::new(config, drawn)?.to_bytes())
    });
    assert!(tally.refused > 50, "{tally:?}");
}

/// Everything that may be imported, and what has to be exported.
const IMPORTS: &str = r#"(module
    (import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;

fn exports(seed: u64) -> Vec<u8> {
    let start = if seed.is_multiple_of(2) { "(func (export \"_start\"))" } else { "" };
    let memory = ["0", "0 0", "1 65536", "2 4", "32768", "32768 32768"][usize::try_from(seed % 6).unwrap()];
    let text = format!(
        "(module (memory (export \"memory\") {memory}) {start} (func (export \"baton_event\"))
           (func (export \"baton_parcel\") (result i32) i32.const 64))"
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn modules_of_the_right_shape_compile() {
    let imports = wat::parse_str(IMPORTS).unwrap();
    let tally = try_seeds("shaped module", |seed, drawn| {
        let mut config = Config::arbitrary(drawn)?;
        config.available_imports = Some(imports.clone());
        config.exports = Some(exports(seed));
        // Beside the memory that it exports.
        (config.max_memories, config.max_tags) = (0, 0);
        config.max_tables = config.max_tables.min(usize::try_from(crate::TABLES_MAX).unwrap());
        config.threads_enabled = false;
        config.memory64_enabled = false;
        config.gc_enabled = false;
        config.exceptions_enabled = false;
        config.relaxed_simd_enabled = false;
        config.allow_start_export = !seed.is_multiple_of(3);
        Ok(Module::new(config, drawn)?.to_bytes())
    });
    assert!(tally.compiled > 20, "{tally:?}");
}

#[test]
fn any_component_is_compiled_or_refused_with_a_reason() {
    let tally = try_seeds("any component", |_, drawn| {
        let mut config = Config::arbitrary(drawn)?;
        (config.max_components, config.max_modules) = (8, 8);
        (config.max_instances, config.max_values) = (8, 0);
        Ok(Component::new(config, drawn)?.to_bytes())
    });
    assert!(tally.refused > 50, "{tally:?}");
}
