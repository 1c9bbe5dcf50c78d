//! Modules that are taken, modules that are not, and modules that are damaged.

use proptest::prelude::*;

use super::*;

const EXPORTS: &str =
    r#"(func (export "baton_parcel") (result i32) i32.const 64) (func (export "baton_event"))"#;

fn module(more: &str) -> Vec<u8> {
    module_with(more, "(memory (export \"memory\") 1)")
}

fn module_with(more: &str, memory: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {more} {memory} {EXPORTS})")).unwrap()
}

#[track_caller]
fn refused(module: &[u8], parts: &[&str]) {
    let text = check(module).unwrap_err().to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[track_caller]
fn resets(more: &str) -> bool {
    check(&module(more)).unwrap().resets_by_memory
}

#[test]
fn a_module_of_the_sdk_is_taken() {
    let imports = r#"(import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
    let checked = check(&module_with(imports, "(memory (export \"memory\") 17) (func (export \"_start\"))"));
    let expected = Checked {
        kind: Kind::Module,
        memory_bytes: 17 << 16,
        memory_bytes_max: WINDOW_AT,
        resets_by_memory: true,
        functions: 7,
    };
    assert_eq!(checked, Ok(expected));
}

#[test]
fn a_memory_of_more_than_there_is_is_capped_or_refused() {
    let of = |memory: &str| check(&module_with("", &format!("(memory (export \"memory\") {memory})")));
    assert_eq!(of("1 65536").unwrap().memory_bytes_max, WINDOW_AT);
    assert_eq!(of("1 3").unwrap().memory_bytes_max, 3 << 16);
    refused(&module_with("", "(memory (export \"memory\") 40000)"), &["2500 MiB", "2048 MiB"]);
}

#[test]
fn modules_of_another_version_are_refused() {
    let says = |bytes: &[u8]| {
        let mut module = module("");
        let name = VERSION_SECTION.as_bytes();
        let len = 1 + name.len() + bytes.len();
        module.extend([0, u8::try_from(len).unwrap(), u8::try_from(name.len()).unwrap()]);
        [&module[..], name, bytes].concat()
    };
    let version = ABI_VERSION.to_le_bytes();
    assert!(check(&says(&version)).is_ok() && check(&says(&[version, version].concat())).is_ok());
    assert_eq!(check(&module("")).is_ok(), VERSION_UNSAID == ABI_VERSION);
    let next = (ABI_VERSION + 1).to_le_bytes();
    let (theirs, ours) = (format!("version {}", ABI_VERSION + 1), format!("version {ABI_VERSION}"));
    refused(&says(&next), &[theirs.as_str(), ours.as_str(), "SDK"]);
    for other in [&[version, next].concat()[..], &[1, 2], &[version.to_vec(), vec![1]].concat()] {
        refused(&says(other), &["baton.abi", "one SDK"]);
    }
}

#[test]
fn imports_that_are_not_there_are_named_with_a_hint() {
    let of =
        |module: &str, name: &str| super::tests::module(&format!("(import \"{module}\" \"{name}\" (func))"));
    refused(&of("env", "malloc"), &["`env` `malloc`", "--allow-undefined"]);
    refused(&of("baton", "gates"), &["`baton` `gates`", "`gate`"]);
    refused(&of("wasi_snapshot_preview1", "path_open"), &["`path_open`", "no files"]);
    refused(&of("wasi_snapshot_preview1", "sock_accept"), &["no network"]);
    refused(&of("wasi:io/poll@0.2.0", "poll"), &["component"]);
    refused(&of("x", &"long".repeat(100)), &["…"]);
    refused(&of("baton", "gate"), &["another type", "(param i32 i64 i64 i64) (result i64)"]);
    refused(&of("wasi_snapshot_preview1", "fd_seek"), &["(param i32 i64 i32 i32) (result i32)"]);
    refused(&super::tests::module("(import \"env\" \"g\" (global i32))"), &["global", "`env` `g`"]);
    refused(&super::tests::module("(import \"env\" \"t\" (table 1 funcref))"), &["--import-table"]);
    let memory = "(import \"env\" \"memory\" (memory 1)) (export \"memory\" (memory 0))";
    refused(&module_with("", memory), &["--import-memory"]);
}

#[test]
fn exports_that_are_missing_or_wrong_are_named() {
    let of = |text: &str| wat::parse_str(format!("(module {text})")).unwrap();
    refused(&of(EXPORTS), &["no memory"]);
    refused(&of(&format!("(memory 1) {EXPORTS}")), &["no memory"]);
    refused(&of("(memory (export \"memory\") 1) (func (export \"baton_event\"))"), &["`baton_parcel`"]);
    let wrong = "(memory (export \"memory\") 1) (func (export \"baton_parcel\"))";
    refused(&of(wrong), &["`baton_parcel`", "(func (result i32))"]);
    refused(&module("(func (export \"_start\") (param i32))"), &["`_start`"]);
    let event = |event: &str| {
        of(&format!(
            "(memory (export \"memory\") 1) (func (export \"baton_parcel\") (result i32) i32.const 64) {event}"
        ))
    };
    let answering = "(func (export \"baton_event\") (result i32) i32.const 0)";
    let hears = "(func (export \"baton_refused\") (param i64))";
    assert!(check(&event(&format!("{answering} {hears}"))).is_ok());
    refused(&event(answering), &["`baton_refused`"]);
    refused(&event(&format!("{answering} (func (export \"baton_refused\"))")), &["(param i64)"]);
    refused(
        &event("(func (export \"baton_event\") (result i64) i64.const 0)"),
        &["`baton_event`", "(result i32)"],
    );
    refused(&module("(func (export \"_initialize\"))"), &["`_initialize`"]);
}

#[test]
fn other_files_are_recognised() {
    refused(b"", &["no Wasm module"]);
    refused(b"\x7fELF\x02\x01\x01", &["native executable"]);
    refused(b"\0asm\x0d\0\x01\0", &["component"]);
    refused(b"(module)", &["assembled"]);
    refused(&vec![0; MODULE_BYTES_MAX + 1], &["65 MiB", "64 MiB"]);
}

#[test]
fn proposals_that_are_off_are_refused() {
    refused(&module_with("", "(memory (export \"memory\") 1 1 shared)"), &["threads", "byte 0x"]);
    refused(&module_with("", "(memory (export \"memory\") i64 1)"), &["64-bit memory"]);
    refused(&module("(memory 1)"), &["not valid"]);
    refused(&module("(tag)"), &["not valid"]);
    refused(&module("(type (struct))"), &["not valid"]);
    let broken = module("(func unreachable)");
    assert!(check(&broken).is_ok());
}

#[test]
fn counts_have_bounds() {
    refused(&module(&"(global i32 i32.const 0)".repeat(10_001)), &["10001 globals", "10000"]);
    refused(&module("(table 1048577 funcref)"), &["table 0", "1048577"]);
    refused(&module(&"(table 1 funcref)".repeat(17)), &["17 tables"]);
}

#[test]
fn what_changes_beside_the_memory_is_seen() {
    const GLOBAL: &str = "(global (mut i32) i32.const 0)";
    assert!(resets(GLOBAL), "the stack's place");
    assert!(!resets(&GLOBAL.repeat(2)));
    assert!(resets("(table 4 funcref) (elem (i32.const 0) 0)"));
    assert!(!resets("(table 4 funcref) (func (table.set (i32.const 0) (ref.null func)))"));
    assert!(!resets("(table 4 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))"));
    assert!(!resets("(data $d \"x\") (func (data.drop $d))"));
}

/// A module with a little of everything.
fn rich() -> Vec<u8> {
    module(
        r#"(import "baton" "gate" (func $gate (param i32 i64 i64 i64) (result i64)))
        (table 8 funcref) (elem (i32.const 0) $work $gate)
        (global $sp (mut i32) (i32.const 65536))
        (data (i32.const 16) "hello")
        (func $work (param i32) (result i64) (local i64)
            (block (loop (br_if 1 (local.get 0)) (br 0)))
            (call $gate (i32.const 1) (i64.const 2) (local.get 1) (i64.load (local.get 0))))
        (func (export "_start") (drop (call $work (global.get $sp))))"#,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A damaged module is refused or taken; what is taken keeps its promises, and nothing panics.
    #[test]
    fn damaged_modules_are_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = rich();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match check(&bytes) {
            Ok(checked) => prop_assert!(
                checked.memory_bytes <= checked.memory_bytes_max && checked.memory_bytes_max <= WINDOW_AT
            ),
            Err(error) => prop_assert!(error.to_string().len() > 20),
        }
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(&bytes).is_err());
        bytes.splice(..0, *b"\0asm\x01\0\0\0");
        prop_assert!(check(&bytes).is_err());
    }
}
