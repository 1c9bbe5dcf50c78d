//! Real programs, made by the compilers that make guests, and what becomes of them.

mod detours;
mod modules;

use std::path::{Path, PathBuf};
use std::process::Command;

use baton_cell::elf::{ElfError, Relocation};
use baton_cell::scan::Forbidden;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const HELLO: &str = "#include <stdio.h>\nint main(void) { return printf(\"%f\\n\", 1.5) < 0; }\n";
const STATIC_PIE: &[&str] = &["-O2", "-static-pie"];
/// A program without a C library, so that nothing is in it but what a test puts there.
const BARE: &[&str] = &["-O1", "-static-pie", "-nostdlib", "-Wl,--build-id=none"];

/// Runs a compiler that every machine which builds guests has.
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn compile(source: &str, flags: &[&str]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (text, program) = (directory.path().join("guest.c"), directory.path().join("guest"));
    std::fs::write(&text, source).unwrap();
    run(Command::new("gcc").arg(&text).args(flags).arg("-o").arg(&program));
    (directory, program)
}

fn c(source: &str, flags: &[&str]) -> Vec<u8> {
    let (_directory, program) = compile(source, flags);
    std::fs::read(program).unwrap()
}

fn stripped(program: &Path) -> Vec<u8> {
    run(Command::new("strip").arg(program));
    std::fs::read(program).unwrap()
}

/// A function `guest` of these instructions, in a program that does nothing else.
fn with_function(assembly: &str) -> Vec<u8> {
    let quoted = assembly.replace('\n', "\\n");
    let source = format!(
        "asm(\".globl guest\\n.type guest,@function\\nguest:\\n{quoted}\\n.size guest,.-guest\\n\");\n\
         void _start(void) {{ for (;;); }}\n"
    );
    c(&source, BARE)
}

fn refusal(file: &[u8]) -> Objection {
    match vet(file).unwrap_err() {
        VetError::Refused { first, .. } => first,
        VetError::Unloadable(error) => panic!("{error}"),
    }
}

fn unloadable(file: &[u8]) -> ElfError {
    match vet(file).unwrap_err() {
        VetError::Unloadable(error) => error,
        VetError::Refused { first, .. } => panic!("{first}"),
    }
}

/// What a cell does with a vetted program: nothing forbidden is left.
fn patched_and_clean(file: &[u8], patches: &[Patch]) {
    let image = Image::parse(file).unwrap();
    let mut applied = 0;
    for range in image.code() {
        let mut code = Code::lay(file, &image, range.start, range.end);
        for patch in patches.iter().filter(|patch| range.contains(&patch.at())) {
            assert_eq!(code.write(patch.at(), patch.bytes()).len(), patch.bytes().len());
            applied += 1;
        }
        assert_eq!(scan::scan(&code.bytes).next(), None);
    }
    assert_eq!(applied, patches.len());
}

#[test]
fn a_static_c_program_is_accepted_with_its_lazy_resolver_disarmed() {
    let (_directory, program) = compile(HELLO, STATIC_PIE);
    let file = std::fs::read(&program).unwrap();
    let vetted = vet(&file).unwrap();
    assert_eq!(vetted.patches.len(), 2, "{vetted:x?}");
    let symbols = Symbols::read(&file);
    let image = Image::parse(&file).unwrap();
    for patch in &vetted.patches {
        let symbol = symbols.holding(patch.at()).unwrap();
        assert!(symbols.name(symbol).starts_with(RESOLVER));
    }
    assert!(image.relocates_itself());
    patched_and_clean(&file, &vetted.patches);
    assert_eq!(vet(&stripped(&program)), Ok(vetted), "known by its shape without its name");
}

#[test]
fn a_rust_program_is_accepted_with_its_lazy_resolver_disarmed() {
    let directory = tempfile::tempdir().unwrap();
    let (text, program) = (directory.path().join("guest.rs"), directory.path().join("guest"));
    std::fs::write(&text, "fn main() { println!(\"{}\", 1.5); }").unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let flags = ["-O", "-Ctarget-feature=+crt-static", "-Crelocation-model=pie"];
    run(rustc.arg("--target=x86_64-unknown-linux-gnu").args(flags).arg(&text).arg("-o").arg(&program));
    let file = std::fs::read(&program).unwrap();
    let vetted = vet(&file).unwrap();
    assert_eq!(vetted.patches.len(), 2, "{vetted:x?}");
    patched_and_clean(&file, &vetted.patches);
    assert_eq!(vet(&stripped(&program)), Ok(vetted));
}

#[test]
fn a_program_that_is_not_static_or_not_position_independent_is_refused() {
    assert!(unloadable(&c(HELLO, &["-pie"])).to_string().starts_with("it needs libc.so."));
    assert!(matches!(unloadable(&c(HELLO, &["-static"])), ElfError::FixedAddress { .. }));
    assert_eq!(unloadable(&c(HELLO, &["-static-pie", "-zexecstack"])), ElfError::ExecutableStack);
    let text = vet(b"#!/bin/sh").unwrap_err().to_string();
    assert!(text.starts_with("cannot run in a compartment: not an ELF file; build a static"), "{text}");
}

#[test]
fn a_program_that_wants_an_interpreter_and_no_library_is_left_to_the_loader_to_relocate() {
    let source = "static int one, two; int *table[] = { &one, &two, &one };\n\
                  void _start(void) { for (;;) asm volatile(\"\" :: \"r\"(table[0])); }\n";
    let flags = ["-O1", "-pie", "-fpie", "-nostdlib", "-Wl,-dynamic-linker,/lib64/ld-linux-x86-64.so.2"];
    for (packing, extra) in [(false, "-Wl,-z,nopack-relative-relocs"), (true, "-Wl,-z,pack-relative-relocs")]
    {
        let file = c(source, &[flags.as_slice(), &[extra]].concat());
        assert_eq!(vet(&file), Ok(Vetted { patches: vec![] }));
        let image = Image::parse(&file).unwrap();
        assert!(!image.relocates_itself());
        let found: Vec<Relocation> = image.relocations(&file).collect();
        assert!(found.windows(2).all(|pair| pair[1].at() == pair[0].at() + 8) && found.len() == 3);
        assert!(found.iter().all(|one| matches!(one, Relocation::Add { .. }) == packing), "{found:x?}");
    }
}

#[test]
fn an_own_instruction_is_refused_by_function_offset_and_remedy() {
    let objection = refusal(&with_function("nop\nwrpkru\nret"));
    let Objection::Forbidden { what: Forbidden::WritePkru, place, context } = &objection else {
        panic!("{objection}")
    };
    assert_eq!(context, &Context::Instruction { text: "wrpkru".into() });
    assert_eq!(place.symbol, Some(Within { name: "guest".into(), offset: 1 }));
    let text = VetError::Refused { first: objection.clone(), others: 0 }.to_string();
    assert!(text.contains("`wrpkru` at guest+0x1 (offset 0x"), "{text}");
    assert!(text.ends_with("choose isolation = \"process\""), "{text}");
}

#[test]
fn every_forbidden_instruction_is_known_as_one_with_and_without_prefixes() {
    let check = |assembly, text: &str| {
        let objection = refusal(&with_function(assembly));
        let Objection::Forbidden { context, .. } = objection else { panic!("{objection}") };
        assert_eq!(context, Context::Instruction { text: text.into() });
    };
    check("xrstor 0x40(%rsp)", "xrstor 0x40(%rsp)");
    check("xrstor64 (%rdi)", "xrstor64 (%rdi)");
    check("xrstors (%rdi)", "xrstors (%rdi)");
    check("wrfsbase %rax", "wrfsbase %rax");
    check("wrgsbase %r9d", "wrgsbase %r9d");
    check("addr32 xrstor (%eax)", "xrstor (%eax)");
}

#[test]
fn several_objections_are_counted() {
    let error = vet(&with_function("wrpkru\nwrpkru\nwrfsbase %rax")).unwrap_err();
    assert!(matches!(error, VetError::Refused { others: 2, .. }), "{error}");
    assert!(error.to_string().contains(" and 2 more; "), "{error}");
}

#[test]
fn data_among_code_is_refused_with_the_way_to_move_it() {
    let source = "asm(\".type table,@object\\ntable: .byte 0x0f,0x01,0xef,0\\n.size table,4\\n\");\n\
                  void _start(void) { for (;;); }\n";
    let objection = refusal(&c(source, BARE));
    assert!(matches!(&objection, Objection::Forbidden { context: Context::Data, .. }), "{objection}");
    assert!(objection.remedy().contains("separate-code"));
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    // 0x06 is no instruction in 64-bit mode.
    let objection = refusal(&with_function(".byte 0x06\nwrpkru"));
    assert!(matches!(&objection, Objection::Forbidden { context: Context::Unknown, .. }), "{objection}");
}

#[test]
fn a_stripped_program_is_refused_with_the_wish_for_symbols() {
    let source = "void _start(void) { asm volatile(\"xrstor 0x40(%rsp)\\njmp *%r11\"); }\n";
    let (_directory, program) = compile(source, BARE);
    let objection = refusal(&stripped(&program));
    let Objection::Forbidden { place, context: Context::Unknown, .. } = &objection else {
        panic!("{objection}")
    };
    assert_eq!(place.symbol, None);
    assert!(objection.remedy().contains("without stripping symbols"));
}

#[test]
fn only_the_lazy_resolver_is_disarmed() {
    let resolver = |name: &str, kind: &str| {
        let source = format!(
            "asm(\".type {name},@{kind}\\n{name}: nop\\nxrstor 0x40(%rsp)\\nret\\n.size {name},.-{name}\\n\");\n\
             void _start(void) {{ for (;;); }}\n"
        );
        vet(&c(&source, BARE))
    };
    assert_eq!(resolver("_dl_runtime_resolve_xsavec", "function").unwrap().patches.len(), 1);
    assert!(resolver("_dl_runtime_resolve_xsavec", "object").is_err());
    assert!(resolver("restore_everything", "function").is_err());
}

#[test]
fn far_transfers_in_functions_are_refused() {
    for (assembly, expected) in [
        ("lretq", "lretq"),
        ("nop\niretq", "iretq"),
        ("ljmp *(%rax)", "ljmpl *(%rax)"),
        ("lcall *8(%rdi)", "lcalll *8(%rdi)"),
    ] {
        let objection = refusal(&with_function(assembly));
        let Objection::FarTransfer { text, place } = &objection else { panic!("{objection}") };
        assert_eq!(text.as_ref(), expected);
        assert_eq!(place.symbol.as_ref().unwrap().name.as_ref(), "guest");
    }
    // A function with data in it says nothing about what its bytes mean.
    assert!(vet(&with_function("jmp 1f\n.byte 0x06, 0xcb\n1: ret")).is_ok());
}

#[test]
fn disarming_covers_exactly_the_instruction() {
    let tails = [[0; 12], [0x25; 12], [0xff; 12]];
    for (opcode, tail) in [0x01u8, 0xae, 0xc7].into_iter().flat_map(|opcode| tails.map(|tail| (opcode, tail)))
    {
        for operand in 0..=u8::MAX {
            let code = [&[0x0f, opcode, operand], tail.as_slice()].concat();
            let mut traps = code.clone();
            if scan::disarm(&mut traps, 0).is_err() {
                continue;
            }
            // Without its prefix a decoder does not know the last two.
            let prefixed = [&[0xf3], code.as_slice()].concat();
            let length = |bytes| decode::length(bytes).filter(|len| *len > 0);
            let len = length(&code).or(length(&prefixed).map(|len| len - 1)).unwrap();
            assert_eq!(traps[..2], [0x0f, 0x0b]);
            assert!(traps[2..len].iter().all(|byte| *byte == 0xcc), "{code:x?}");
            assert_eq!(traps[len..], code[len..], "{code:x?}");
        }
    }
}

#[test]
fn the_program_that_is_damaged_is_patched_when_it_is_whole() {
    let file = c(DAMAGED, BARE);
    let vetted = vet(&file).unwrap();
    assert_eq!(vetted.patches.len(), 1 + 2 * 5, "{vetted:x?}");
    patched_and_clean(&file, &vetted.patches);
}

#[test]
fn symbols_that_lie_are_left_out() {
    let mut file = with_function("nop\nwrpkru");
    let good = refusal(&file).to_string();
    // The table of sections lies behind the end.
    file[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    let objection = refusal(&file);
    assert!(objection.to_string().contains("in no known function") && good.contains("guest+0x1"));
}

/// A program with what may be patched: a resolver, constants, two instructions with an encoding across.
const DAMAGED: &str = "asm(\".type _dl_runtime_resolve,@function\\n_dl_runtime_resolve: nop\\nxrstor 0x40(%rsp)\\n\
    .size _dl_runtime_resolve,.-_dl_runtime_resolve\\n\
    .type guest,@function\\nguest: mov $0xef010f,%eax\\nlea 0xef010f(%rip),%rdx\\njmp .+0xef0114\\ncall .+0xef0114\\n\
    mov $0xae0f0000,%ecx\\n.byte 0x2d\\n.long 7\\njz 1f\\n1: ret\\n.size guest,.-guest\\n\
    .byte 0x0f,0xc7\\n\");\n\
    void _start(void) { for (;;); }\n";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_program_is_refused_or_clean_once_patched(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        static PROGRAM: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| c(DAMAGED, BARE));
        let mut file = PROGRAM.clone();
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(vetted) = vet(&file) {
            patched_and_clean(&file, &vetted.patches);
        }
    }
}
