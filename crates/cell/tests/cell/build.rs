//! What is in the program itself: the check that a build of `baton-cell` must pass.

use std::process::Command;

use baton_cell::elf::Image;
use baton_cell::scan::scan;

/// Symbols of a program, by address: from, name.
fn symbols(program: &std::path::Path) -> Vec<(u64, String)> {
    let output = Command::new("nm").arg("-n").arg(program).output().expect("nm, of the compiler's tools");
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let at = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((at, words.nth(1)?.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// Instructions that change keys or segment bases may be in the gates, where each is checked, and in the lazy binding of
/// the C library, which never runs and is disarmed at start. Anywhere else they are a way out for guests.
#[test]
fn only_the_gates_can_change_keys() {
    let program = super::cell_binary();
    let file = std::fs::read(program).unwrap();
    let image = Image::parse(&file).unwrap();
    let symbols = symbols(program);
    let address = |name: &str| symbols.iter().find(|(_, of)| of == name).map(|(at, _)| *at).unwrap();
    let gates = address("baton_asm_begin")..address("baton_asm_end");
    let mut in_gates = 0;
    for segment in image.executable() {
        for finding in scan(segment.bytes(&file)) {
            let at = segment.at + finding.offset as u64;
            if gates.contains(&at) {
                in_gates += 1;
                continue;
            }
            let last = symbols.partition_point(|(from, _)| *from <= at);
            let name = last.checked_sub(1).map_or("?", |nth| symbols[nth].1.as_str());
            assert!(
                name.starts_with("_dl_runtime_resolve"),
                "{} at {at:#x}, in {name}: guests can jump there",
                finding.what
            );
        }
    }
    // Written out in src/arch/control.s, each with its check: four that write the key register, three that restore state, and
    // the segment bases.
    assert_eq!(in_gates, 12, "a key-changing instruction more or less than there was: look at its check");
}

/// No compiler, network stack or async runtime is in it.
#[test]
fn the_program_is_small() {
    let bytes = std::fs::read(super::cell_binary()).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let text: u64 = image.code().map(|code| code.end - code.start).sum();
    assert!(text < 2 << 20, "{text} bytes of code");
}
