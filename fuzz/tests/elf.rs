//! Executables: any bytes, and files whose headers lie, are refused or make an image that keeps to its laws.

use baton_cell::elf::{Access, HEADERS_MAX, IMAGE_BYTES_MAX, Image, PAGE, RELOCATIONS_MAX, SEGMENTS_MAX};
use baton_fuzz::{INPUT_BYTES_MAX, Source};

#[path = "../../crates/cell/src/elf/laws.rs"]
mod laws;
#[allow(dead_code, reason = "shared with the unit tests of the loader, which use all of it")]
#[path = "../../crates/cell/src/elf/sample.rs"]
mod sample;

use sample::{DATA_AT, DYNAMIC, Header, INTERP, LOAD, RELRO, STACK, Sample, TABLES_AT, TLS};

fn check(file: &[u8]) {
    match Image::parse(file) {
        Ok(image) => laws::hold(&image, file),
        Err(error) => assert!(error.to_string().ends_with(error.remedy())),
    }
}

/// A number that a liar would write: an edge of something, or anything.
fn lie(source: &mut Source<'_>) -> u64 {
    const EDGES: &[u64] =
        &[0, 0x400, PAGE, 2 * PAGE, DATA_AT, DATA_AT + PAGE, TABLES_AT, IMAGE_BYTES_MAX, 1 << 63, u64::MAX];
    let near = u64::from(source.byte() % 32);
    match source.byte() {
        byte @ 0..=199 => EDGES[usize::from(byte) % EDGES.len()].wrapping_add(near).wrapping_sub(8),
        byte @ 200..=229 => u64::from(byte % 8),
        _ => source.word(),
    }
}

fn header(source: &mut Source<'_>, header: &mut Header) {
    const KINDS: &[u32] = &[LOAD, LOAD, LOAD, DYNAMIC, INTERP, TLS, STACK, RELRO];
    match source.byte() % 7 {
        0 => header.kind = KINDS[usize::from(source.byte()) % KINDS.len()],
        1 => header.flags = u32::from(source.byte() % 8),
        2 => header.offset = lie(source),
        3 => header.at = lie(source),
        4 => header.file_bytes = lie(source),
        5 => header.memory_bytes = lie(source),
        _ => header.align = lie(source),
    }
}

fn liar(source: &mut Source<'_>) -> Vec<u8> {
    let entries: Vec<(u64, u64)> =
        (0..source.byte() % 8).map(|_| (u64::from(source.byte() % 40), lie(source))).collect();
    let mut sample = Sample::new().with_dynamic(&entries);
    if source.byte().is_multiple_of(2) {
        sample = sample.with_interpreter();
    }
    for at in (TABLES_AT + 0x200..TABLES_AT + 0x400).step_by(8) {
        sample.put(at, &lie(source).to_le_bytes());
    }
    for _ in 0..source.byte() % 4 {
        let index = usize::from(source.byte());
        if index.is_multiple_of(8) {
            sample = sample.with(Header { kind: LOAD, ..Header::default() });
        }
        let count = sample.headers.len();
        header(source, &mut sample.headers[index % count]);
    }
    if source.byte().is_multiple_of(8) {
        sample.entry = lie(source);
    }
    sample.build()
}

#[test]
fn elf() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        check(input);
        check(&[b"\x7fELF\x02\x01\x01", input].concat());
        let mut source = Source::new(input);
        let mut file = liar(&mut source);
        // What is left of the input lands anywhere in it.
        while !source.is_empty() {
            let at = usize::from(source.byte()) * 4 + usize::from(source.byte() % 4);
            file[at] = source.byte();
        }
        check(&file);
    });
}
