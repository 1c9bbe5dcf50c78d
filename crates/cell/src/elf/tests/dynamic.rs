//! Libraries and relocations.

use super::super::{RELOCATIONS_MAX, Relocation, RelocationFault};
use super::*;

const NEEDED: u64 = 1;
const PLTRELSZ: u64 = 2;
const STRTAB: u64 = 5;
const RELA: u64 = 7;
const RELASZ: u64 = 8;
const RELAENT: u64 = 9;
const RELSZ: u64 = 18;
const TEXTREL: u64 = 22;
const FLAGS: u64 = 30;
const RELRSZ: u64 = 35;
const RELR: u64 = 36;

/// Where the tests put what a dynamic section points to.
const TABLE: u64 = TABLES_AT + 0x200;

fn rela(at: u64, kind: u32, symbol: u32, addend: u64) -> Vec<u8> {
    let info = u64::from(symbol) << 32 | u64::from(kind);
    [at, info, addend].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A file that leaves these relocations to the loader.
fn relocated(table: &[u8]) -> Sample {
    let bytes = table.len() as u64;
    let mut sample =
        Sample::new().with_interpreter().with_dynamic(&[(RELA, TABLE), (RELASZ, bytes), (RELAENT, 24)]);
    sample.put(TABLE, table);
    sample
}

fn packed(words: &[u64]) -> Sample {
    let bytes = words.len() as u64 * 8;
    let mut sample = Sample::new().with_interpreter().with_dynamic(&[(RELR, TABLE), (RELRSZ, bytes)]);
    for (at, word) in (TABLE..).step_by(8).zip(words) {
        sample.put(at, &word.to_le_bytes());
    }
    sample
}

fn error(sample: &Sample) -> ElfError {
    parse(sample).unwrap_err()
}

#[test]
fn a_file_that_needs_a_library_is_refused_by_the_librarys_name() {
    let mut sample = Sample::new().with_dynamic(&[(STRTAB, TABLE), (NEEDED, 1)]);
    sample.put(TABLE, b"\0libssl.so.3\0");
    let text = error(&sample).to_string();
    assert!(text.starts_with("it needs libssl.so.3, and"), "{text}");
    assert!(text.contains("-static-pie"), "{text}");
    let nameless = Sample::new().with_dynamic(&[(STRTAB, u64::MAX), (NEEDED, 1)]);
    assert!(error(&nameless).to_string().starts_with("it needs a shared library, and"));
}

#[test]
fn a_static_image_relocates_itself() {
    let mut sample = relocated(&rela(CODE, 37, 0, CODE));
    sample.headers.retain(|header| header.kind != INTERP);
    let image = accept(&sample);
    assert!(image.relocates_itself());
    assert_eq!(image.relocations(&sample.build()).count(), 0);
}

#[test]
fn an_image_with_an_interpreter_and_no_library_is_relocated_by_the_loader() {
    let table = [rela(DATA_AT, 8, 0, CODE), rela(DATA_AT + 0x4ff8, 8, 0, u64::MAX)].concat();
    let sample = relocated(&table);
    let image = accept(&sample);
    assert!(!image.relocates_itself());
    let set = |at, addend| Relocation::Set { at, addend };
    let expected = [set(DATA_AT, CODE), set(DATA_AT + 0x4ff8, u64::MAX)];
    assert_eq!(image.relocations(&sample.build()).collect::<Vec<_>>(), expected);
    assert!(!accept(&Sample::new().with_interpreter()).relocates_itself());
}

#[test]
fn packed_relocations_are_unpacked() {
    // The word at 0x3000, of the 63 behind it the first and the last, then the second of the next 63.
    let sample = packed(&[DATA_AT, 1 | 1 << 1 | 1 << 63, 1 | 1 << 2]);
    let image = accept(&sample);
    let expected = [DATA_AT, DATA_AT + 8, DATA_AT + 63 * 8, DATA_AT + 8 + 63 * 8 + 8];
    let found: Vec<_> = image.relocations(&sample.build()).collect();
    assert_eq!(found, expected.map(|at| Relocation::Add { at }));
}

#[test]
fn packed_relocations_without_a_place_are_refused() {
    let fault = |index| ElfError::Relocation { index, fault: RelocationFault::Packing };
    assert_eq!(error(&packed(&[3])), fault(0));
    let target = |at| ElfError::Relocation { index: 0, fault: RelocationFault::Target { at } };
    assert_eq!(error(&packed(&[u64::MAX - 1, 3])), target(u64::MAX - 1));
}

#[test]
fn relocations_outside_the_data_are_refused() {
    for at in [0, CODE, CODE + 0xff8, DATA_AT - 4, DATA_AT + 0x4ff9, u64::MAX - 3] {
        let fault = RelocationFault::Target { at };
        let good = rela(DATA_AT, 8, 0, 0);
        let sample = relocated(&[good, rela(at, 8, 0, 0)].concat());
        assert_eq!(error(&sample), ElfError::Relocation { index: 1, fault });
    }
}

#[test]
fn relocations_that_need_symbols_or_code_are_refused() {
    for kind in [1, 6, 7, 37] {
        let fault = RelocationFault::Kind { kind };
        let sample = relocated(&rela(DATA_AT, kind, 1, 0));
        assert_eq!(error(&sample), ElfError::Relocation { index: 0, fault });
    }
    for tag in [PLTRELSZ, RELSZ] {
        let sample = Sample::new().with_interpreter().with_dynamic(&[(tag, 24)]);
        assert_eq!(error(&sample), ElfError::RelocationTable { at: 0, bytes: 24 });
    }
}

#[test]
fn unusual_tables_of_relocations_are_refused() {
    let check = |entries: &[(u64, u64)]| {
        let sample = Sample::new().with_interpreter().with_dynamic(entries);
        assert!(matches!(error(&sample), ElfError::RelocationTable { .. }), "{entries:?}");
    };
    check(&[(RELA, TABLE), (RELASZ, 25)]);
    check(&[(RELA, TABLE), (RELASZ, 24), (RELAENT, 16)]);
    check(&[(RELA, DATA_AT + 0xff0), (RELASZ, 24)]);
    check(&[(RELA, u64::MAX), (RELASZ, 24)]);
    check(&[(RELASZ, u64::MAX - 15)]);
    check(&[(RELR, TABLE), (RELRSZ, 7)]);
}

#[test]
fn more_relocations_than_a_loader_applies_are_refused() {
    let words = RELOCATIONS_MAX / 63 + 2;
    let mut sample = Sample::new().with_interpreter();
    sample.headers[2].memory_bytes = 1 << 31;
    let table = sample.body.len() as u64 + CODE;
    let at = 0x1_0000_0000 - PAGE * 1024;
    let bytes = words * 8;
    sample.headers.push(Header {
        kind: LOAD,
        flags: R,
        offset: table,
        at: at & !(PAGE - 1),
        file_bytes: bytes,
        memory_bytes: bytes,
        align: PAGE,
    });
    let mut sample = sample.with_dynamic(&[(RELR, at), (RELRSZ, bytes)]);
    sample.body.extend_from_slice(&DATA_AT.to_le_bytes());
    (1..words).for_each(|_| sample.body.extend_from_slice(&u64::MAX.to_le_bytes()));
    assert_eq!(error(&sample), ElfError::TooManyRelocations);
}

#[test]
fn code_that_has_to_be_changed_is_refused() {
    for entry in [(TEXTREL, 0), (FLAGS, 4)] {
        assert_eq!(error(&Sample::new().with_dynamic(&[entry])), ElfError::RelocatesCode);
    }
    accept(&Sample::new().with_dynamic(&[(FLAGS, 8)]));
}

#[test]
fn a_dynamic_section_without_an_end_or_outside_the_file_is_refused() {
    let change = |change: fn(&mut Header)| {
        let mut sample = Sample::new().with_dynamic(&[(FLAGS, 8)]);
        change(sample.headers.last_mut().unwrap());
        assert!(matches!(error(&sample), ElfError::Dynamic { .. }));
    };
    change(|header| header.file_bytes = 16);
    change(|header| header.at = DATA_AT + 0x1000);
    change(|header| header.file_bytes = u64::MAX);
    change(|header| header.file_bytes = 0);
}
