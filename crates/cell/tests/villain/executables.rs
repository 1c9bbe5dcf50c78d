//! Executables that lie, or misbehave before their first request: they are refused, and the others of their template load.

use std::path::PathBuf;

use baton_abi::cell::Trust;

use crate::arena::{Runtime, guest};
use crate::node::{Function, Node};

#[path = "../../src/elf/sample.rs"]
mod sample;

use sample::{CODE, DATA_AT, Header, INTERP, LOAD, R, RELRO, STACK, Sample, TABLES_AT, TLS, W, X};

/// A file with these bytes.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("crafted");
    std::fs::write(&path, bytes).expect("a file");
    (directory, path)
}

/// Loads `bytes` between two honest functions: it is refused for `reason`, they are not, and serve.
#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let (_directory, path) = file(bytes);
    refused_function(Function::new("crafted", &path), reason);
}

#[track_caller]
fn refused_function(function: Function, reason: &str) {
    let honest = |name| Function::new(name, &guest("victim"));
    let (mut node, reasons) = Node::start_anyway(Trust::App, vec![honest("first"), function, honest("last")]);
    let [first, crafted, last] = &reasons[..] else { panic!("three functions") };
    assert!(first.is_none() && last.is_none(), "{reasons:?}");
    let why = crafted.as_deref().expect("it must not load");
    assert!(why.contains(reason), "refused for another reason than \"{reason}\": {why}");
    let mut cell = node.fork();
    for seat in [0, 2] {
        assert_eq!(cell.ask(&mut node.pool, seat, b"intact").text(), "intact");
    }
}

fn real() -> Vec<u8> {
    std::fs::read(guest("victim")).expect("a program")
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Where in a real program its first executable segment lies in the file, and how long it is.
fn code_of(bytes: &[u8]) -> (usize, usize) {
    let headers = usize::try_from(number(bytes, 32)).expect("an offset");
    for header in (headers..).step_by(56).take(usize::from(bytes[56])) {
        if bytes[header] == 1 && bytes[header + 4] & 1 == 1 {
            let at = |offset| usize::try_from(number(bytes, header + offset)).expect("an offset");
            return (at(8), at(32));
        }
    }
    panic!("no code")
}

#[test]
fn file_headers_that_lie_are_refused() {
    if !crate::machine_can() {
        return;
    }
    let whole = real();
    refused(b"\x7fEL", "not an ELF file");
    refused(b"#!/bin/sh\n", "not an ELF file");
    refused(&whole[..40], "cut off");
    let cases: [(usize, &[u8], &str); 12] = [
        (4, &[1], "not a 64-bit"),
        (5, &[2], "not a 64-bit"),
        (16, &[2, 0], "fixed addresses"),
        (16, &[4, 0], "not an executable"),
        (18, &[3, 0], "not for x86-64"),
        // The program headers: none, more than there may be, of another size, outside, so far outside that it wraps.
        (56, &[0, 0], "program headers"),
        (56, &[0xff, 0xff], "program headers"),
        (54, &[1, 0], "program headers"),
        (32, &u64::MAX.to_le_bytes(), "cut off"),
        (32, &(u64::MAX - 55).to_le_bytes(), "cut off"),
        (24, &0u64.to_le_bytes(), "outside its executable segments"),
        (24, &u64::MAX.to_le_bytes(), "outside its executable segments"),
    ];
    for (at, what, reason) in cases {
        let mut bytes = whole.clone();
        put(&mut bytes, at, what);
        refused(&bytes, reason);
    }
}

#[test]
fn segments_that_lie_are_refused() {
    if !crate::machine_can() {
        return;
    }
    let changed = |nth: usize, change: &dyn Fn(&mut Header)| {
        let mut sample = Sample::new();
        change(&mut sample.headers[nth]);
        sample.build()
    };
    let huge = [1u64 << 33, 1 << 47, 1 << 63, u64::MAX - 0xfff, u64::MAX];
    for size in huge {
        refused(&changed(2, &|data| data.memory_bytes = size), "an image at");
        refused(&changed(2, &|data| (data.file_bytes, data.memory_bytes) = (size, size)), "ends at offset");
    }
    for at in huge.into_iter().map(|at| at & !0xfff) {
        refused(&changed(2, &|data| data.at = at), "an image at");
        refused(&changed(2, &|data| data.offset = at), "ends at offset");
    }
    refused(&changed(2, &|data| data.memory_bytes = 0x800), "only 0x800 in memory");
    refused(&changed(2, &|data| data.at = CODE), "before the segment before it ends");
    refused(&changed(2, &|data| data.at = CODE + 0xfff), "differ within a page");
    refused(&changed(2, &|data| data.flags = R | W | X), "writable and executable");
    refused(&changed(1, &|code| code.flags = R | W | X), "writable and executable");
    refused(&changed(1, &|code| code.flags = R), "no executable segment");
    refused(&changed(1, &|code| code.memory_bytes = 0x2000), "is executable with");
    refused(&changed(2, &|data| data.at += 0x10), "differ within a page");
    refused(&changed(2, &|data| data.align = 3), "alignment");
    refused(&changed(2, &|data| data.align = 1 << 40), "alignment");
    refused(&changed(3, &|stack| stack.flags = R | W | X), "executable stack");
    // The page of the code with data in it.
    let data = |offset, at, flags| Header {
        kind: LOAD,
        flags,
        offset,
        at,
        file_bytes: 8,
        memory_bytes: 8,
        align: 0x1000,
    };
    let mut sharing = Sample::new();
    sharing.headers[1].file_bytes = 0x800;
    sharing.headers[1].memory_bytes = 0x800;
    sharing.headers.insert(2, data(CODE + 0x900, CODE + 0x900, R | W));
    refused(&sharing.build(), "shares the page");
    // More segments than there may be; the same bytes over and over.
    let mut many = Sample::new();
    many.headers.extend((0..20).map(|nth| data(0, 0x10_0000 + nth * 0x1000, R)));
    refused(&many.build(), "one segment more");
    let mut again = Sample::new();
    let over = |nth: u64| Header {
        file_bytes: 0x3000,
        memory_bytes: 0x3000,
        ..data(0, 0x10_0000 + nth * 0x4000, R)
    };
    again.headers.extend((0..8).map(over));
    refused(&again.build(), "its segments take");
    // Zeros that nobody can pay for.
    refused(&changed(2, &|data| data.memory_bytes = 1 << 30), "memory");
}

#[test]
fn relocations_and_tables_that_lie_are_refused() {
    if !crate::machine_can() {
        return;
    }
    const RELA: u64 = 7;
    const RELASZ: u64 = 8;
    const RELAENT: u64 = 9;
    const NEEDED: u64 = 1;
    const TEXTREL: u64 = 22;
    const RELR: u64 = 36;
    const RELRSZ: u64 = 35;
    let with = |entries: &[(u64, u64)]| Sample::new().with_interpreter().with_dynamic(entries);
    refused(&with(&[(NEEDED, 0)]).build(), "no libraries");
    refused(&with(&[(TEXTREL, 0)]).build(), "DT_TEXTREL");
    for (at, bytes) in [(0xffff_0000, 24), (u64::MAX - 8, 24), (TABLES_AT, 1 << 60), (TABLES_AT, 7)] {
        refused(&with(&[(RELA, at), (RELASZ, bytes), (RELAENT, 24)]).build(), "table of relocations");
    }
    // A relocation that writes code, the headers, beyond the end, or is of a kind that asks for more.
    let table = TABLES_AT + 0x100;
    for (target, kind, reason) in [
        (CODE + 0x10, 8, "not in a writable segment"),
        (0, 8, "not in a writable segment"),
        (DATA_AT + 0x4ffc, 8, "not in a writable segment"),
        (u64::MAX - 3, 8, "not in a writable segment"),
        (DATA_AT, 6, "is of type 6"),
        (DATA_AT, 37, "is of type 37"),
    ] {
        let mut sample = with(&[(RELA, table), (RELASZ, 24), (RELAENT, 24)]);
        let entry: Vec<u8> = [target, kind, 0u64].iter().flat_map(|word| word.to_le_bytes()).collect();
        sample.put(table, &entry);
        refused(&sample.build(), reason);
    }
    let mut packed = with(&[(RELR, table), (RELRSZ, 8)]);
    packed.put(table, &(CODE + 0x10).to_le_bytes());
    refused(&packed.build(), "not in a writable segment");
    let extra = |kind, at, file_bytes, memory_bytes| Header {
        kind,
        flags: R,
        offset: at,
        at,
        file_bytes,
        memory_bytes,
        align: 8,
    };
    refused(&Sample::new().with(extra(TLS, DATA_AT, 0, 1 << 40)).build(), "thread-local storage");
    refused(&Sample::new().with(extra(TLS, 0xdead_0000, 8, 8)).build(), "thread-local storage");
    refused(&Sample::new().with(extra(RELRO, CODE, 0, 0x1000)).build(), "PT_GNU_RELRO");
    assert_eq!((INTERP, STACK), (3, 0x6474_e551));
}

/// Every instruction that would open keys or move bases, as bytes.
const FORBIDDEN: [(&str, &[u8]); 8] = [
    ("wrpkru", &[0x0f, 0x01, 0xef]),
    ("xrstors", &[0x0f, 0xc7, 0x18]),
    ("xrstors", &[0x48, 0x0f, 0xc7, 0x5c, 0x24, 0x10]),
    ("wrfsbase", &[0xf3, 0x0f, 0xae, 0xd0]),
    ("wrfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd7]),
    ("wrgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
    ("wrpkru", &[0xd5, 0x80, 0x01, 0xef]),
    ("wrpkru", &[0x66, 0x67, 0x2e, 0x0f, 0x01, 0xef]),
];

#[test]
fn forbidden_instructions_are_found_at_every_offset() {
    if !crate::machine_can() {
        return;
    }
    let whole = real();
    let (start, len) = code_of(&whole);
    for (name, instruction) in FORBIDDEN {
        let last = len - instruction.len();
        let to_page = |at: usize| (start + at).next_multiple_of(4096) - start;
        // The first and last bytes, odd places, across the borders of pages.
        let border = to_page(len / 2);
        for at in [0, 1, (len / 3) | 1, border - 1, border - 2, border, last - 1, last] {
            let mut bytes = whole.clone();
            put(&mut bytes, start + at, instruction);
            refused(&bytes, &format!("forbidden instruction {name}"));
        }
    }
    // In the operand of another instruction: mov eax, 0x00ef010f.
    let mut bytes = whole.clone();
    put(&mut bytes, start + 64, &[0xb8, 0x0f, 0x01, 0xef, 0x00]);
    refused(&bytes, "forbidden instruction wrpkru");
}

#[test]
fn forbidden_instructions_are_found_across_segments() {
    if !crate::machine_can() {
        return;
    }
    for split in 1..3 {
        // Two executable segments, page to page, with a part of the instruction in each.
        let mut sample = Sample::new();
        let second = Header { offset: CODE + 0x1000, at: CODE + 0x1000, ..sample.headers[1] };
        sample.headers[2].at = CODE + 0x2000;
        sample.headers[2].offset = CODE + 0x2000;
        sample.headers.insert(2, second);
        sample.body.resize(0x3000, 0);
        let at = usize::try_from(CODE).expect("an offset") + 0x1000 - split;
        let mut bytes = sample.build();
        put(&mut bytes, at, &[0x0f, 0x01, 0xef]);
        refused(&bytes, "forbidden instruction wrpkru");
    }
}

#[test]
fn what_forbidden_bytes_there_are_in_data_does_not_run() {
    if !crate::machine_can() {
        return;
    }
    // In data they are only bytes: what is refused then is that this program does nothing.
    let mut sample = Sample::new();
    sample.put(DATA_AT + 16, &[0x0f, 0x01, 0xef]);
    refused(&sample.build(), "ended before it asked for a request");
}

#[test]
fn guests_that_misbehave_before_their_first_request_do_not_load() {
    if !crate::machine_can() {
        return;
    }
    let runtime = Runtime::new();
    let core = runtime.distance("4arch4CORE");
    for (how, reason) in [
        ("e", "exited with status 0"),
        ("a", "by signal 6"),
        ("r", "behind another key"),
        ("w", "behind another key"),
        ("j", "that it does not have"),
        ("n", "that it does not have"),
        ("s", "by signal 11"),
        ("k", "by signal 9"),
        ("z", "sleeps for long before it asks"),
        ("d", "waits for itself"),
    ] {
        let mut function = Function::new("crafted", &guest("boot"));
        function.env = vec![format!("BOOT={how}"), format!("WHERE={core:x}")];
        refused_function(function, reason);
    }
}

#[test]
fn gates_for_requests_are_closed_before_the_first_one() {
    if !crate::machine_can() {
        return;
    }
    let mut function = Function::new("crafted", &guest("boot"));
    function.env = vec!["BOOT=g".to_owned()];
    let mut node = Node::start(Trust::Buffer, vec![function]).expect("it loads");
    let mut cell = node.fork();
    // Reply to wait: there is nobody. The log, no such clock, eight random bytes.
    assert_eq!(cell.ask(&mut node.pool, 0, b"tell").text(), "-13 -13 -13 -13 -13 -13 -13 -13 -13 0 -22 8 ");
}

#[test]
fn a_guest_that_receives_into_nothing_fails_its_requests_alone() {
    if !crate::machine_can() {
        return;
    }
    let mut function = Function::new("crafted", &guest("boot"));
    function.env = vec!["BOOT=v".to_owned()];
    let functions = vec![function, Function::new("victim", &guest("victim"))];
    let mut node = Node::start(Trust::App, functions).expect("it loads");
    let mut cell = node.fork();
    for _ in 0..3 {
        let answer = cell.ask(&mut node.pool, 0, b"ping");
        assert!(answer.is_error && answer.text().contains("where it has no memory"), "{answer:?}");
        assert_eq!(cell.ask(&mut node.pool, 1, b"intact").text(), "intact");
    }
}
