//! The vDSO of a cell: a shared object of one page that answers clocks through a gate, so that no clock costs a trap.
//!
//! C libraries and Go's runtime find it by `AT_SYSINFO_EHDR` and look its symbols up like those of any library. Its code
//! reads the gate's address from the gate page each time: the page is mapped at one place in every cell, the gates are not.

use baton_abi::cell::GATE_PAGE_AT;
use baton_abi::gate::{CLOCK, GatePage};

use crate::sys::PAGE_BYTES;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: usize = 24;
const SYMBOLS_AT: usize = HEADER + 2 * PROGRAM_HEADER;
const NAMES: &[u8] = b"\0__vdso_clock_gettime\0__vdso_gettimeofday\0linux-vdso.so.1\0LINUX_2.6\0";
const CLOCK_NAME: usize = 1;
const TIME_OF_DAY_NAME: usize = 22;
const SO_NAME: usize = 42;
const VERSION_NAME: usize = 58;
const SYMBOLS: usize = 3;
const NAMES_AT: usize = SYMBOLS_AT + SYMBOLS * SYMBOL;
const HASH_AT: usize = (NAMES_AT + NAMES.len()).next_multiple_of(8);
/// The version of each symbol, and what versions there are: C libraries can do without, Go's runtime cannot.
const VERSIONS_AT: usize = HASH_AT + 4 * (2 + 1 + SYMBOLS);
const DEFINITIONS_AT: usize = (VERSIONS_AT + 2 * SYMBOLS).next_multiple_of(8);
const DEFINITION: usize = 28;
const DYNAMIC_AT: usize = (DEFINITIONS_AT + 2 * DEFINITION).next_multiple_of(16);
const DYNAMIC_ENTRIES: usize = 10;
const CODE_AT: usize = (DYNAMIC_AT + 16 * DYNAMIC_ENTRIES).next_multiple_of(16);

/// Address of the clock gate's place in the gate page.
const CLOCK_AT: u64 = GATE_PAGE_AT + core::mem::offset_of!(GatePage, gates) as u64 + 8 * CLOCK as u64;

struct Object {
    bytes: [u8; PAGE_BYTES],
}

impl Object {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: usize) {
        self.put(at, &(value as u64).to_le_bytes());
    }

    fn header(&mut self) {
        self.put(0, b"\x7fELF\x02\x01\x01");
        self.u16(16, 3); // a shared object
        self.u16(18, 62); // x86-64
        self.u32(20, 1);
        self.u64(32, HEADER); // program headers
        self.u16(52, 64);
        self.u16(54, 56);
        self.u16(56, 2);
        self.u16(58, 64);
        self.program_header(0, (1, 5), (0, self.bytes.len()));
        self.program_header(1, (2, 4), (DYNAMIC_AT, 16 * DYNAMIC_ENTRIES));
    }

    fn program_header(&mut self, nth: usize, (kind, flags): (u32, u32), (at, len): (usize, usize)) {
        let header = HEADER + nth * PROGRAM_HEADER;
        self.u32(header, kind);
        self.u32(header + 4, flags);
        for (field, value) in [(8, at), (16, at), (24, at), (32, len), (40, len), (48, 16)] {
            self.u64(header + field, value);
        }
    }

    fn symbol(&mut self, nth: usize, name: usize, at: usize, len: usize) {
        let symbol = SYMBOLS_AT + nth * SYMBOL;
        self.u32(symbol, u32::try_from(name).unwrap_or(0));
        self.put(symbol + 4, &[0x12, 0]); // a global function
        self.u16(symbol + 6, 1); // defined, in some section
        self.u64(symbol + 8, at);
        self.u64(symbol + 16, len);
    }

    /// One bucket with all symbols.
    fn hash(&mut self) {
        self.u32(HASH_AT, 1);
        self.u32(HASH_AT + 4, 3);
        self.u32(HASH_AT + 8, 1);
        self.u32(HASH_AT + 16, 2);
    }

    /// Version 1 is the object itself, version 2 is the one that all symbols have.
    fn versions(&mut self) {
        self.u16(VERSIONS_AT + 2, 2);
        self.u16(VERSIONS_AT + 4, 2);
        for (nth, name, next) in [(0, SO_NAME, DEFINITION), (1, VERSION_NAME, 0)] {
            let at = DEFINITIONS_AT + nth * DEFINITION;
            self.u16(at, 1);
            self.u16(at + 2, u16::from(nth == 0)); // the base
            self.u16(at + 4, if nth == 0 { 1 } else { 2 });
            self.u16(at + 6, 1); // one name
            self.u32(at + 8, hash_of(NAMES.get(name..).unwrap_or_default()));
            self.u32(at + 12, 20); // which follows
            self.u32(at + 16, u32::try_from(next).unwrap_or(0));
            self.u32(at + 20, u32::try_from(name).unwrap_or(0));
        }
    }

    fn dynamic(&mut self) {
        let entries = [
            (4, HASH_AT),
            (5, NAMES_AT),
            (6, SYMBOLS_AT),
            (10, NAMES.len()),
            (11, SYMBOL),
            (14, SO_NAME),
            (0x6fff_fff0, VERSIONS_AT),
            (0x6fff_fffc, DEFINITIONS_AT),
            (0x6fff_fffd, 2),
            (0, 0),
        ];
        for (nth, (tag, value)) in entries.into_iter().enumerate() {
            self.u64(DYNAMIC_AT + 16 * nth, tag);
            self.u64(DYNAMIC_AT + 16 * nth + 8, value);
        }
    }
}

/// The hash of ELF, of a name up to its NUL.
fn hash_of(name: &[u8]) -> u32 {
    name.iter().take_while(|byte| **byte != 0).fold(0u32, |hash, &byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// The object, to be mapped at [`baton_abi::cell::VDSO_AT`].
pub(crate) fn build() -> [u8; PAGE_BYTES] {
    let gate = CLOCK_AT.to_le_bytes();
    // clock_gettime(clock, timespec): movabs rax, [gate]; jmp rax
    let clock = [&[0x48, 0xa1][..], &gate, &[0xff, 0xe0]].concat();
    // gettimeofday(timeval, _): the realtime clock into the same place, then nanoseconds to microseconds.
    let time_of_day = [
        &[0x57, 0x48, 0x89, 0xfe, 0x31, 0xff][..], // push rdi; mov rsi, rdi; xor edi, edi
        &[0x48, 0xa1],                             // movabs rax, [gate]
        &gate,
        &[0xff, 0xd0, 0x5f],                         // call rax; pop rdi
        &[0x48, 0x85, 0xc0, 0x75, 0x14],             // test rax, rax; jne the end
        &[0x48, 0x8b, 0x47, 0x08, 0x31, 0xd2],       // mov rax, [rdi+8]; xor edx, edx
        &[0xb9, 0xe8, 0x03, 0, 0, 0x48, 0xf7, 0xf1], // mov ecx, 1000; div rcx
        &[0x48, 0x89, 0x47, 0x08, 0x31, 0xc0, 0xc3], // mov [rdi+8], rax; xor eax, eax; ret
    ]
    .concat();
    let mut object = Object { bytes: [0xcc; PAGE_BYTES] };
    object.put(0, &[0; CODE_AT]);
    object.header();
    object.put(NAMES_AT, NAMES);
    let second = (CODE_AT + clock.len()).next_multiple_of(16);
    object.put(CODE_AT, &clock);
    object.put(second, &time_of_day);
    object.symbol(1, CLOCK_NAME, CODE_AT, clock.len());
    object.symbol(2, TIME_OF_DAY_NAME, second, time_of_day.len());
    object.hash();
    object.versions();
    object.dynamic();
    object.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_symbols_say() {
        let object = build();
        for (nth, name) in [(1, "__vdso_clock_gettime"), (2, "__vdso_gettimeofday")] {
            let symbol = SYMBOLS_AT + nth * SYMBOL;
            let at = NAMES_AT + u32::from_le_bytes(object[symbol..symbol + 4].try_into().unwrap()) as usize;
            assert!(object[at..].starts_with(name.as_bytes()) && object[at + name.len()] == 0);
        }
        assert!(NAMES[SO_NAME..].starts_with(b"linux-vdso"));
        assert!(NAMES[VERSION_NAME..].starts_with(b"LINUX_2.6"));
        // As glibc and Go have it.
        assert_eq!(hash_of(b"LINUX_2.6\0"), 0x3ae_75f6);
        assert!(crate::scan::scan(&object).next().is_none());
    }
}
