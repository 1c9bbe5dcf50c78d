//! One test for each thing that a file can be refused for, and what holds for all that are accepted.

use core::iter;

use proptest::prelude::*;

use super::laws;
use super::sample::{
    CODE, DATA, DATA_AT, DYNAMIC, Header, INTERP, LOAD, R, RELRO, STACK, Sample, TABLES_AT, TLS, W, X,
};
use super::*;

mod dynamic;

fn parse(sample: &Sample) -> Result<Image, ElfError> {
    let file = sample.build();
    let image = Image::parse(&file)?;
    laws::hold(&image, &file);
    Ok(image)
}

fn accept(sample: &Sample) -> Image {
    parse(sample).unwrap()
}

/// Changes a good file and says how it is refused; every refusal says what is wrong and what to do.
fn refuse(change: impl FnOnce(&mut Sample)) -> ElfError {
    let mut sample = Sample::new();
    change(&mut sample);
    let error = parse(&sample).unwrap_err();
    let text = error.to_string();
    let (what, remedy) = text.split_once("; ").unwrap();
    assert!(!what.is_empty() && remedy == error.remedy(), "{text}");
    error
}

fn segment(change: impl FnOnce(&mut Vec<Header>)) -> (u16, SegmentFault) {
    match refuse(|sample| change(&mut sample.headers)) {
        ElfError::Segment { header, fault } => (header, fault),
        other => panic!("{other}"),
    }
}

fn refuse_bytes(file: &[u8]) -> ElfError {
    Image::parse(file).unwrap_err()
}

#[test]
fn a_good_file_is_laid_out_as_its_headers_say() {
    let image = accept(&Sample::new());
    let facts: Vec<_> = image.segments().iter().map(|s| (s.at, s.offset, s.file_bytes, s.access)).collect();
    let expected = [
        (0, 0, 0x400, Access::Read),
        (CODE, CODE, 0x1000, Access::Execute),
        (DATA_AT, DATA, 0x1000, Access::Write),
    ];
    assert_eq!(facts, expected);
    assert_eq!((image.span(), image.entry()), (0..0x8000, CODE + 0x10));
    assert_eq!((image.headers_at(), image.header_count()), (64, 4));
    assert!(image.code().eq(iter::once(CODE..CODE + 0x1000)));
    assert!(image.relocates_itself() && image.relro().is_none());
    assert_eq!((image.code_at(CODE + 5), image.code_at(5)), (Some(CODE + 5), None));
    assert_eq!(image.offset_of(DATA_AT + 8, 8), Some(DATA + 8));
    assert_eq!(image.offset_of(DATA_AT + 0xffc, 8), None);
}

#[test]
fn what_is_no_elf_file_is_refused() {
    assert_eq!(refuse_bytes(b""), ElfError::NotElf);
    assert_eq!(refuse_bytes(b"#!/bin/sh\n"), ElfError::NotElf);
    assert_eq!(refuse_bytes(b"\x7fEL"), ElfError::NotElf);
}

#[test]
fn a_file_that_ends_within_its_headers_is_refused() {
    let file = Sample::new().build();
    let truncated = |what, end, have| ElfError::Truncated { what, end, have };
    assert_eq!(refuse_bytes(&file[..40]), truncated(Part::FileHeader, 64, 40));
    assert_eq!(refuse_bytes(&file[..100]), truncated(Part::ProgramHeaders, 64 + 4 * 56, 100));
    let mut far = file;
    far[32..40].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
    assert!(matches!(refuse_bytes(&far), ElfError::Truncated { what: Part::ProgramHeaders, .. }));
}

#[test]
fn other_classes_machines_and_types_are_refused() {
    assert_eq!(refuse(|sample| sample.class = 1), ElfError::NotSixtyFour { class: 1, endian: 1 });
    assert_eq!(refuse(|sample| sample.machine = 183), ElfError::Machine { machine: 183 });
    assert_eq!(refuse(|sample| sample.kind = 1), ElfError::Type { kind: 1 });
    assert_eq!(refuse(|sample| sample.kind = 2), ElfError::FixedAddress { entry: CODE + 0x10 });
}

#[test]
fn unusual_tables_of_program_headers_are_refused() {
    assert_eq!(refuse(|sample| sample.headers.clear()), ElfError::HeaderTable { count: 0, size: 56 });
    assert_eq!(refuse(|sample| sample.header_bytes = 64), ElfError::HeaderTable { count: 4, size: 64 });
    let mut file = Sample::new().build();
    file[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(refuse_bytes(&file), ElfError::HeaderTable { count: u16::MAX, size: 56 });
}

#[test]
fn more_segments_than_a_loader_has_room_for_are_refused() {
    let error = refuse(|sample| {
        for index in 0..16 {
            let at = 0x10_0000 + index * PAGE;
            sample.headers.push(Header { kind: LOAD, flags: R, at, memory_bytes: 8, ..Header::default() });
        }
    });
    assert_eq!(error, ElfError::TooManySegments { header: 4 + 13 });
}

#[test]
fn a_segment_outside_the_file_is_refused() {
    let fault = |end| (2, SegmentFault::OutsideFile { end, have: 0x3000 });
    assert_eq!(segment(|headers| headers[2].file_bytes = 0x1001), fault(0x3001));
    assert_eq!(segment(|headers| headers[2].offset = u64::MAX - 0xfff), fault(u64::MAX));
}

#[test]
fn a_segment_outside_the_image_is_refused() {
    let huge = |headers: &mut Vec<Header>| headers[2].memory_bytes = IMAGE_BYTES_MAX;
    assert_eq!(segment(huge), (2, SegmentFault::OutsideImage { end: IMAGE_BYTES_MAX + DATA_AT }));
    let wrapping = |headers: &mut Vec<Header>| headers[2].at = u64::MAX - 0xfff;
    assert_eq!(segment(wrapping), (2, SegmentFault::OutsideImage { end: u64::MAX }));
    let negative = |headers: &mut Vec<Header>| headers[2].memory_bytes = u64::MAX;
    assert_eq!(segment(negative), (2, SegmentFault::OutsideImage { end: u64::MAX }));
}

#[test]
fn a_segment_with_more_in_the_file_than_in_memory_is_refused() {
    let fault = SegmentFault::MoreInFile { file: 0x1000, memory: 0xfff };
    assert_eq!(segment(|headers| headers[2].memory_bytes = 0xfff), (2, fault));
}

#[test]
fn misaligned_segments_are_refused() {
    let fault = SegmentFault::Misaligned { at: DATA_AT + 8, offset: DATA };
    assert_eq!(segment(|headers| headers[2].at += 8), (2, fault));
    for align in [3, ALIGN_MAX * 2] {
        assert_eq!(segment(|headers| headers[2].align = align), (2, SegmentFault::Alignment { align }));
    }
}

#[test]
fn writable_code_is_refused() {
    assert_eq!(segment(|headers| headers[1].flags = R | W | X), (1, SegmentFault::WritableCode));
    assert_eq!(segment(|headers| headers[2].flags = W | X), (2, SegmentFault::WritableCode));
}

#[test]
fn code_that_does_not_come_from_the_file_is_refused() {
    let fault = SegmentFault::CodeFromNowhere { file: 0x1000, memory: 0x1800 };
    assert_eq!(segment(|headers| headers[1].memory_bytes = 0x1800), (1, fault));
}

#[test]
fn overlapping_or_descending_segments_are_refused() {
    let overlap = |headers: &mut Vec<Header>| headers[0].memory_bytes = CODE + 1;
    assert_eq!(segment(overlap), (1, SegmentFault::Overlap { at: CODE, before_end: CODE + 1 }));
    let descending = |headers: &mut Vec<Header>| headers.swap(1, 2);
    assert_eq!(segment(descending), (2, SegmentFault::Overlap { at: CODE, before_end: 0x8000 }));
}

#[test]
fn a_page_that_two_segments_share_has_to_allow_the_same_for_both() {
    let share = |flags| {
        move |headers: &mut Vec<Header>| {
            headers[0].memory_bytes = 0x400;
            headers[1] = Header { flags, offset: 0x800, at: 0x800, ..headers[1] };
            headers[1].file_bytes = 0x400;
            headers[1].memory_bytes = 0x400;
        }
    };
    assert_eq!(segment(share(R | X)), (1, SegmentFault::SharedPage { page: 0 }));
    let mut sample = Sample::new();
    sample.entry = 0x810;
    share(R | X)(&mut sample.headers);
    sample.headers[0].flags = R | X;
    assert!(accept(&sample).code().eq(iter::once(0..0x1000)));
}

#[test]
fn a_file_that_is_laid_into_memory_over_and_over_is_refused() {
    let error = refuse(|sample| {
        for index in 0..4 {
            let at = 0x10_0000 + index * PAGE;
            let (file_bytes, memory_bytes) = (0x1000, 0x1000);
            let header = Header { kind: LOAD, flags: R, at, file_bytes, memory_bytes, ..Header::default() };
            sample.headers.push(header);
        }
    });
    assert_eq!(error, ElfError::RepeatsItself { total: 0x6400, have: 0x3000 });
}

#[test]
fn an_executable_stack_is_refused() {
    assert_eq!(refuse(|sample| sample.headers[3].flags = R | W | X), ElfError::ExecutableStack);
    let mut silent = Sample::new();
    silent.headers.retain(|header| header.kind != STACK);
    accept(&silent);
}

#[test]
fn a_file_without_code_or_with_an_entry_elsewhere_is_refused() {
    assert_eq!(refuse(|sample| sample.headers[1].flags = R), ElfError::NoCode);
    for entry in [0, DATA_AT, CODE + 0x1000, u64::MAX] {
        assert_eq!(refuse(|sample| sample.entry = entry), ElfError::EntryOutsideCode { entry });
    }
}

#[test]
fn headers_that_are_not_loaded_are_refused() {
    let error = refuse(|sample| {
        sample.headers.remove(0);
    });
    assert_eq!(error, ElfError::HeadersNotLoaded { offset: 64, bytes: 3 * 56 });
}

#[test]
fn thread_local_storage_is_checked() {
    let tls = Header {
        kind: TLS,
        flags: R,
        offset: DATA,
        at: DATA_AT,
        file_bytes: 16,
        memory_bytes: 64,
        align: 16,
    };
    accept(&Sample::new().with(tls));
    // As Go's linker writes it.
    accept(&Sample::new().with(Header { at: 0, offset: 0, file_bytes: 0, memory_bytes: 8, ..tls }));
    for bad in [
        Header { align: 3, ..tls },
        Header { align: 2 * PAGE, ..tls },
        Header { file_bytes: 65, ..tls },
        Header { memory_bytes: TLS_BYTES_MAX + 1, ..tls },
        Header { at: DATA_AT + 0xff8, ..tls },
        Header { at: u64::MAX, ..tls },
    ] {
        let error = refuse(|sample| sample.headers.push(bad));
        assert!(matches!(error, ElfError::Tls { .. }), "{error}");
    }
}

#[test]
fn headers_that_may_be_there_once_are_refused_twice() {
    for kind in [TLS, RELRO, DYNAMIC] {
        let error = refuse(|sample| {
            sample.headers.extend([Header { kind, ..Header::default() }; 2]);
        });
        assert_eq!(error, ElfError::Twice { header: 5, kind });
    }
}

#[test]
fn only_whole_pages_of_a_writable_segment_become_read_only() {
    let relro = |at, memory_bytes| Header { kind: RELRO, flags: R, at, memory_bytes, ..Header::default() };
    let check = |at, bytes, expected: Option<Range<u64>>| {
        assert_eq!(accept(&Sample::new().with(relro(at, bytes))).relro(), expected);
    };
    check(DATA_AT, 0x1000, Some(0x3000..0x4000));
    check(DATA_AT, 0x1fff, Some(0x3000..0x4000));
    check(DATA_AT, 0x5000, Some(0x3000..0x8000));
    check(DATA_AT + 8, 0x1ff8, Some(0x4000..0x5000));
    check(DATA_AT, 0x800, None);
    check(DATA_AT, 0, None);
    for (at, bytes) in [(CODE, 0x1000), (DATA_AT, 0x5001), (DATA_AT - 8, 16), (u64::MAX, 2)] {
        let error = refuse(|sample| sample.headers.push(relro(at, bytes)));
        assert_eq!(error, ElfError::Relro { at, bytes });
    }
}

/// Numbers that headers lie with.
fn lie() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 7, 8, 0x3ff, 0x400, 0x7ff, 0xfff, 0x1000, 0x1001, 0x2000, 0x2fff, 0x3000, 0x4000];
    let far = [1 << 31, 1 << 32, IMAGE_BYTES_MAX - 1, 1 << 33, 1 << 47, 1 << 63, u64::MAX - 0xfff, u64::MAX];
    prop_oneof![
        4 => prop::sample::select(edges.to_vec()),
        1 => prop::sample::select(far.to_vec()),
        1 => any::<u64>(),
    ]
}

/// A header with one or two fields replaced.
fn change() -> impl Strategy<Value = (usize, u8, u64)> {
    (0usize..8, 0u8..7, lie())
}

fn apply(headers: &mut [Header], (index, field, value): (usize, u8, u64)) {
    let index = index % headers.len();
    let header = &mut headers[index];
    let small = u32::try_from(value & 7).unwrap();
    match field {
        0 => header.kind = [LOAD, DYNAMIC, INTERP, TLS, STACK, RELRO, LOAD, 0][small as usize],
        1 => header.flags = small,
        2 => header.offset = value,
        3 => header.at = value,
        4 => header.file_bytes = value,
        5 => header.memory_bytes = value,
        _ => header.align = value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_make_a_lawful_image(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(image) = Image::parse(&bytes) {
            laws::hold(&image, &bytes);
        }
    }

    #[test]
    fn a_file_whose_headers_lie_is_refused_or_makes_a_lawful_image(
        changes in prop::collection::vec(change(), 0..4),
        entry in prop::option::of(lie()),
        extra in prop::option::of((0u32..8, lie(), lie())),
        entries in prop::collection::vec((0u64..40, lie()), 0..8),
        cut in prop::option::of(0usize..0x3000),
    ) {
        let mut sample = Sample::new().with_interpreter().with_dynamic(&entries);
        if let Some((flags, at, memory_bytes)) = extra {
            sample = sample.with(Header { kind: LOAD, flags, at, memory_bytes, ..Header::default() });
        }
        changes.iter().for_each(|change| apply(&mut sample.headers, *change));
        sample.entry = entry.unwrap_or(sample.entry);
        let mut file = sample.build();
        file.truncate(cut.unwrap_or(file.len()));
        if let Ok(image) = Image::parse(&file) {
            laws::hold(&image, &file);
        }
    }

    #[test]
    fn relocations_of_an_accepted_image_stay_in_its_data(words in prop::collection::vec(lie(), 0..12), packed: bool) {
        let table = TABLES_AT + 0x200;
        let bytes = words.len() as u64 * 8;
        let tags = if packed { [36, 35, 37] } else { [7, 8, 9] };
        let entry = if packed { 8 } else { 24 };
        let entries = [(tags[0], table), (tags[1], bytes), (tags[2], entry)];
        let mut sample = Sample::new().with_interpreter().with_dynamic(&entries);
        for (at, word) in (table..).step_by(8).zip(&words) {
            sample.put(at, &word.to_le_bytes());
        }
        let _ = parse(&sample);
    }
}
