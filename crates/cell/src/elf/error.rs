//! Why a file is refused: what is wrong, where, and what to do.

use core::fmt;

use super::fault::{LibraryName, Part, RelocationFault, SegmentFault};
use super::{HEADERS_MAX, RELOCATIONS_MAX, SEGMENTS_MAX, TLS_BYTES_MAX};

const HOW_TO_BUILD: &str = "build a static position-independent executable: Rust with \
    `-C target-feature=+crt-static -C relocation-model=pie`, C with `gcc -static-pie`, Go with \
    `CGO_ENABLED=0 go build -buildmode=pie`";
pub(super) const DAMAGED: &str = "the file is damaged or was edited: build it again";

/// Why a file cannot be loaded into a compartment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not begin as an ELF file does.
    NotElf,
    /// It is for 32 bits, or big-endian.
    NotSixtyFour {
        /// 1 for 32 bits, 2 for 64.
        class: u8,
        /// 1 for little-endian, 2 for big-endian.
        endian: u8,
    },
    /// It is for another processor.
    Machine {
        /// Its number.
        machine: u16,
    },
    /// It is an executable for fixed addresses, which all functions of a cell would claim.
    FixedAddress {
        /// Its entry.
        entry: u64,
    },
    /// It is no executable.
    Type {
        /// Its type.
        kind: u16,
    },
    /// A part of it ends behind its end.
    Truncated {
        /// Which part.
        what: Part,
        /// Where it ends.
        end: u64,
        /// Length of the file.
        have: u64,
    },
    /// The table of program headers has no, too many, or unusual entries.
    HeaderTable {
        /// Entries.
        count: u16,
        /// Bytes of each.
        size: u16,
    },
    /// It has too many segments.
    TooManySegments {
        /// Index of the program header that is one too many.
        header: u16,
    },
    /// Its segments together have more bytes than it has itself.
    RepeatsItself {
        /// Bytes of all segments in the file.
        total: u64,
        /// Length of the file.
        have: u64,
    },
    /// A segment is not as it should be.
    Segment {
        /// Index of its program header.
        header: u16,
        /// What is wrong.
        fault: SegmentFault,
    },
    /// A program header that there can be only one of is there twice.
    Twice {
        /// Index of the second.
        header: u16,
        /// Its type.
        kind: u32,
    },
    /// It asks for an executable stack.
    ExecutableStack,
    /// It has no executable segment.
    NoCode,
    /// It starts outside its executable segments.
    EntryOutsideCode {
        /// Its entry.
        entry: u64,
    },
    /// No segment has the program headers, which the program needs at run time.
    HeadersNotLoaded {
        /// Their offset.
        offset: u64,
        /// Their length.
        bytes: u64,
    },
    /// Its thread-local storage is not as it should be.
    Tls {
        /// Address of the initial values.
        at: u64,
        /// Bytes of them.
        file_bytes: u64,
        /// Bytes in memory.
        memory_bytes: u64,
        /// Alignment.
        align: u64,
    },
    /// What is to become read-only does not lie in a writable segment.
    Relro {
        /// Address.
        at: u64,
        /// Bytes.
        bytes: u64,
    },
    /// It needs a library.
    NeedsLibrary {
        /// Which.
        name: LibraryName,
    },
    /// Its dynamic section is not in a segment's part of the file, or has no end.
    Dynamic {
        /// Address.
        at: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Its code has to be changed before it can run.
    RelocatesCode,
    /// A table of relocations is not in a segment's part of the file, or has unusual entries.
    RelocationTable {
        /// Address.
        at: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The loader would have to apply too many relocations.
    TooManyRelocations,
    /// A relocation cannot be applied.
    Relocation {
        /// Which, counted from the table's start.
        index: u64,
        /// What is wrong.
        fault: RelocationFault,
    },
}

impl ElfError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotElf | Self::Type { .. } | Self::FixedAddress { .. } | Self::NeedsLibrary { .. } => {
                HOW_TO_BUILD
            }
            Self::NotSixtyFour { .. } | Self::Machine { .. } => "build for x86_64-unknown-linux-gnu",
            Self::Segment { fault, .. } => fault.remedy(),
            Self::TooManyRelocations => "make its static tables of pointers smaller",
            Self::TooManySegments { .. } => "link without a linker script",
            Self::ExecutableStack => {
                "link with `-z noexecstack`, and end assembly files with `.section .note.GNU-stack`"
            }
            Self::HeadersNotLoaded { .. } => {
                "link without a linker script that leaves the headers out of the first segment"
            }
            Self::RelocatesCode => "compile everything position-independent and link with `-z text`",
            Self::Relocation { fault: RelocationFault::Kind { .. }, .. } => HOW_TO_BUILD,
            _ => DAMAGED,
        }
    }

    fn what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::NotSixtyFour { class, endian } => {
                write!(
                    f,
                    "not a 64-bit little-endian ELF file (class {class}, data encoding {endian}, both in its first bytes)"
                )
            }
            Self::Machine { machine } => write!(f, "an ELF file for machine {machine}, not for x86-64 (62)"),
            Self::FixedAddress { entry } => write!(
                f,
                "an executable for fixed addresses (entry {entry:#x}), which every function of a cell would claim"
            ),
            Self::Type { kind } => write!(f, "an ELF file of type {kind}, not an executable"),
            Self::Truncated { what, end, have } => {
                write!(f, "cut off: its {what} end at offset {end:#x} of {have:#x} bytes")
            }
            Self::HeaderTable { count, size } => {
                write!(f, "it has {count} program headers of {size} bytes, not 1 to {HEADERS_MAX} of 56")
            }
            Self::TooManySegments { header } => {
                write!(f, "program header {header} is one segment more than the {SEGMENTS_MAX} there may be")
            }
            Self::RepeatsItself { total, have } => {
                write!(f, "its segments take {total:#x} bytes from a file of {have:#x}")
            }
            Self::Segment { header, fault } => write!(f, "the segment of program header {header} {fault}"),
            Self::Twice { header, kind } => {
                write!(f, "program header {header} is the second of type {kind:#x}, there may be one")
            }
            Self::ExecutableStack => f.write_str("it asks for an executable stack (PT_GNU_STACK)"),
            _ => self.what_else(f),
        }
    }

    fn what_else(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoCode => f.write_str("it has no executable segment"),
            Self::EntryOutsideCode { entry } => {
                write!(f, "it starts at {entry:#x}, outside its executable segments")
            }
            Self::HeadersNotLoaded { offset, bytes } => {
                write!(f, "its program headers ({bytes} bytes at offset {offset:#x}) lie in no segment")
            }
            Self::Tls { at, file_bytes, memory_bytes, align } => write!(
                f,
                "its thread-local storage ({memory_bytes:#x} bytes, {file_bytes:#x} of them from {at:#x}, \
                 aligned to {align:#x}) is larger than {TLS_BYTES_MAX:#x}, oddly aligned or not in the file"
            ),
            Self::Relro { at, bytes } => {
                write!(f, "PT_GNU_RELRO ({bytes:#x} bytes at {at:#x}) is not in a writable segment")
            }
            Self::NeedsLibrary { name } => write!(f, "it needs {name}, and a compartment has no libraries"),
            Self::Dynamic { at, bytes } => {
                write!(
                    f,
                    "its dynamic section ({bytes:#x} bytes at {at:#x}) is not in the file or has no end"
                )
            }
            Self::RelocatesCode => f.write_str("its code would have to be changed to run (DT_TEXTREL)"),
            Self::RelocationTable { at, bytes } => {
                write!(
                    f,
                    "a table of relocations ({bytes:#x} bytes at {at:#x}) is not in the file or unusual"
                )
            }
            Self::TooManyRelocations => write!(f, "it has more than {RELOCATIONS_MAX} relocations"),
            Self::Relocation { index, fault } => write!(f, "relocation {index} {fault}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what(f)?;
        write!(f, "; {}", self.remedy())
    }
}

impl core::error::Error for ElfError {}
