//! Whether a file is a static, position-independent ELF executable: the only kind that every isolation setting
//! can run.
//!
//! The file is input like any other: each field is read with a bounds check, and nothing is believed about
//! what follows it.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// The ELF header of a 64-bit file.
const HEADER_BYTES: usize = 64;
/// One program header of a 64-bit file.
const PROGRAM_HEADER_BYTES: u16 = 56;
/// More program headers than any linker writes.
const PROGRAM_HEADERS_MAX: u16 = 512;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_DYNAMIC: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_INTERPRETER: u32 = 3;
const FLAG_EXECUTE: u32 = 1;

/// Why a file cannot run as a function.
#[derive(Debug)]
pub(crate) enum ElfFault {
    /// It cannot be read.
    Io(io::Error),
    /// It is no ELF file.
    NotElf,
    /// It ends before what its header promises.
    Truncated,
    /// It is for another processor.
    Machine {
        /// The number of the processor.
        machine: u16,
    },
    /// It is an object file, a core dump or the like.
    Type {
        /// The number of the type.
        kind: u16,
    },
    /// It can only be loaded at one address.
    FixedAddress,
    /// It needs a dynamic loader, and with that shared libraries.
    Interpreter,
    /// It has nothing to run: a shared library.
    NoEntry,
    /// Its program headers are not what they should be.
    ProgramHeaders,
}

impl fmt::Display for ElfFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::NotElf => f.write_str("it is no 64-bit little-endian ELF file"),
            Self::Truncated => f.write_str("it ends in the middle of its headers"),
            Self::Machine { machine } => {
                write!(f, "it is for another processor (ELF machine {machine}), not x86-64")
            }
            Self::Type { kind } => write!(f, "it is no executable (ELF type {kind})"),
            Self::FixedAddress => f.write_str("it is not position-independent"),
            Self::Interpreter => f.write_str("it is linked dynamically"),
            Self::NoEntry => f.write_str("it has no entry point: it is a shared library"),
            Self::ProgramHeaders => f.write_str("its program headers are damaged"),
        }
    }
}

impl std::error::Error for ElfFault {}

impl ElfFault {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::FixedAddress | Self::Interpreter => {
                "build a static-PIE executable: for Rust, put `[build] target = \"x86_64-unknown-linux-gnu\"` and \
                 `rustflags = [\"-C\", \"target-feature=+crt-static\", \"-C\", \"relocation-model=pie\"]` into \
                 .cargo/config.toml (a RUSTFLAGS variable overrules that file); for C, compile and link with \
                 `-static-pie`; Go runs with `isolation = \"compartment\"` alone: `CGO_ENABLED=0 go build \
                 -buildmode=pie`"
            }
            Self::Machine { .. } => "build for x86_64-unknown-linux-gnu",
            Self::Type { .. } | Self::NoEntry => "name the executable, not a library or an object file",
            Self::Io(_) | Self::NotElf | Self::Truncated | Self::ProgramHeaders => {
                "name an x86-64 Linux executable, and build it again if it is damaged"
            }
        }
    }
}

/// Who loads an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    /// The kernel, which asks for the interpreter that the file names: in a sandbox there is none.
    Kernel,
    /// A cell, which has no use for one. Go names one in every position-independent executable, and needs no library; a file
    /// that does is refused when it is deployed.
    Cell,
}

/// Checks a file.
pub(crate) fn check(file: &mut (impl Read + Seek), loader: Loader) -> Result<(), ElfFault> {
    let mut header = [0; HEADER_BYTES];
    read_at(file, 0, &mut header)?;
    let fields = Fields(&header);
    if !header.starts_with(b"\x7fELF") || header.get(4..6) != Some(&[CLASS_64, LITTLE_ENDIAN]) {
        return Err(ElfFault::NotElf);
    }
    match fields.u16(18)? {
        MACHINE_X86_64 => {}
        machine => return Err(ElfFault::Machine { machine }),
    }
    // The interpreter is looked for first: the remedy is the same, the reason is the one that people know.
    let kind = fields.u16(16)?;
    if kind != TYPE_EXECUTABLE && kind != TYPE_DYNAMIC {
        return Err(ElfFault::Type { kind });
    }
    let executable = segments(file, &fields, loader)?;
    if kind == TYPE_EXECUTABLE {
        return Err(ElfFault::FixedAddress);
    }
    if fields.u64(24)? == 0 || !executable {
        return Err(ElfFault::NoEntry);
    }
    Ok(())
}

/// Looks through the program headers; says whether one is executable.
fn segments(file: &mut (impl Read + Seek), header: &Fields<'_>, loader: Loader) -> Result<bool, ElfFault> {
    let (offset, size, count) = (header.u64(32)?, header.u16(54)?, header.u16(56)?);
    if size != PROGRAM_HEADER_BYTES || count == 0 || count > PROGRAM_HEADERS_MAX {
        return Err(ElfFault::ProgramHeaders);
    }
    let mut table = vec![0; usize::from(size) * usize::from(count)];
    read_at(file, offset, &mut table)?;
    let mut executable = false;
    for segment in table.chunks_exact(usize::from(size)).map(Fields) {
        match segment.u32(0)? {
            SEGMENT_INTERPRETER if loader == Loader::Kernel => return Err(ElfFault::Interpreter),
            SEGMENT_LOAD => executable |= segment.u32(4)? & FLAG_EXECUTE != 0,
            _ => {}
        }
    }
    Ok(executable)
}

fn read_at(file: &mut (impl Read + Seek), offset: u64, into: &mut [u8]) -> Result<(), ElfFault> {
    file.seek(SeekFrom::Start(offset)).map_err(|_| ElfFault::ProgramHeaders)?;
    file.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ElfFault::Truncated,
        _ => ElfFault::Io(error),
    })
}

/// Little-endian fields of some bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], ElfFault> {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(ElfFault::Truncated)
    }

    fn u16(&self, at: usize) -> Result<u16, ElfFault> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, ElfFault> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, ElfFault> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A well-formed file with these program headers, each `(type, flags)`.
    fn image(segments: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..18].copy_from_slice(&TYPE_DYNAMIC.to_le_bytes());
        bytes[18..20].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x1000_u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&PROGRAM_HEADER_BYTES.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (kind, flags) in segments {
            let mut segment = vec![0; 56];
            segment[..4].copy_from_slice(&kind.to_le_bytes());
            segment[4..8].copy_from_slice(&flags.to_le_bytes());
            bytes.extend(segment);
        }
        bytes
    }

    const GOOD: &[(u32, u32)] = &[(SEGMENT_LOAD, 4), (SEGMENT_LOAD, 5), (2, 6)];

    fn fault(bytes: Vec<u8>) -> String {
        format!("{:?}", check(&mut Cursor::new(bytes), Loader::Kernel))
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = image(GOOD);
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    #[test]
    fn a_static_pie_is_taken() {
        assert_eq!(fault(image(GOOD)), "Ok(())");
    }

    #[test]
    fn a_cell_needs_no_interpreter() {
        let bytes = image(&[(SEGMENT_LOAD, 5), (SEGMENT_INTERPRETER, 4)]);
        assert!(check(&mut Cursor::new(&bytes), Loader::Cell).is_ok());
        assert!(check(&mut Cursor::new(&bytes), Loader::Kernel).is_err());
        let bytes = image(&[(SEGMENT_LOAD, 4), (SEGMENT_INTERPRETER, 4)]);
        assert!(check(&mut Cursor::new(&bytes), Loader::Cell).is_err(), "it has nothing to run");
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let table = [
            ("Err(Truncated)", Vec::new()),
            ("Err(Truncated)", b"\x7fELF\x02\x01".to_vec()),
            ("Err(NotElf)", b"#!/bin/sh\n".repeat(10)),
            ("Err(NotElf)", with(4, &[1])),
            ("Err(NotElf)", with(5, &[2])),
            ("Err(Machine { machine: 183 })", with(18, &[183, 0])),
            ("Err(Type { kind: 1 })", with(16, &[1, 0])),
            ("Err(Type { kind: 4 })", with(16, &[4, 0])),
            ("Err(FixedAddress)", with(16, &[2, 0])),
            ("Err(NoEntry)", with(24, &[0; 8])),
            ("Err(NoEntry)", image(&[(SEGMENT_LOAD, 4)])),
            ("Err(Interpreter)", image(&[(SEGMENT_LOAD, 5), (SEGMENT_INTERPRETER, 4)])),
            ("Err(ProgramHeaders)", image(&[])),
            ("Err(ProgramHeaders)", with(54, &[55, 0])),
            ("Err(ProgramHeaders)", with(56, &[0xff, 0xff])),
            ("Err(Truncated)", with(32, &[0xff; 8])),
            ("Err(Truncated)", with(32, &1_000_000_u64.to_le_bytes())),
        ];
        for (expect, bytes) in table {
            assert_eq!(fault(bytes), expect);
        }
    }

    #[test]
    fn no_prefix_of_a_file_panics() {
        let whole = image(GOOD);
        for len in 0..whole.len() {
            assert_eq!(fault(whole[..len].to_vec()), "Err(Truncated)", "{len}");
        }
    }

    #[test]
    fn every_fault_says_what_to_do() {
        for fault in [ElfFault::FixedAddress, ElfFault::Interpreter, ElfFault::NoEntry, ElfFault::NotElf] {
            assert!(!fault.hint().is_empty() && !fault.to_string().is_empty());
        }
        assert!(ElfFault::Interpreter.hint().contains("crt-static"));
    }
}
