//! Why a file is refused: what is wrong, where, and what to do.

use core::fmt;

use super::{ALIGN_MAX, HEADERS_MAX, IMAGE_BYTES_MAX, RELOCATIONS_MAX, SEGMENTS_MAX, TLS_BYTES_MAX};

/// Most bytes of a library's name that are reported.
const NAME_BYTES: usize = 48;

const HOW_TO_BUILD: &str = "build a static position-independent executable: Rust with \
    `-C target-feature=+crt-static -C relocation-model=pie`, C with `gcc -static-pie`, Go with \
    `CGO_ENABLED=0 go build -buildmode=pie`";
const DAMAGED: &str = "the file is damaged or was edited: build it again";

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first 64 bytes.
    FileHeader,
    /// The table of program headers.
    ProgramHeaders,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::FileHeader => "file header",
            Part::ProgramHeaders => "program headers",
        })
    }
}

/// The name of a library, as far as it can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryName {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl LibraryName {
    /// The printable start of a name that a zero byte ends.
    pub(super) fn new(text: &[u8]) -> LibraryName {
        let mut name = LibraryName { bytes: [0; NAME_BYTES], len: 0 };
        let printable = text.iter().take_while(|byte| byte.is_ascii_graphic());
        for (place, byte) in name.bytes.iter_mut().zip(printable) {
            *place = *byte;
            name.len += 1;
        }
        name
    }
}

impl fmt::Display for LibraryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes.get(..self.len).map(str::from_utf8) {
            Some(Ok(name)) if !name.is_empty() => f.write_str(name),
            _ => f.write_str("a shared library"),
        }
    }
}

/// What is wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentFault {
    /// It has more bytes in the file than in memory.
    MoreInFile {
        /// In the file.
        file: u64,
        /// In memory.
        memory: u64,
    },
    /// It ends behind the file's end, or nowhere.
    OutsideFile {
        /// Where it ends, at most `u64::MAX`.
        end: u64,
        /// Length of the file.
        have: u64,
    },
    /// It ends behind what a seat has for images, or nowhere.
    OutsideImage {
        /// Where it ends, at most `u64::MAX`.
        end: u64,
    },
    /// Its alignment is not a power of two, or too large.
    Alignment {
        /// The alignment.
        align: u64,
    },
    /// Its place in the file and its address differ within a page.
    Misaligned {
        /// Its address.
        at: u64,
        /// Its place in the file.
        offset: u64,
    },
    /// It may be both written and executed.
    WritableCode,
    /// It is executable and not all of it comes from the file.
    CodeFromNowhere {
        /// Bytes in the file.
        file: u64,
        /// Bytes in memory.
        memory: u64,
    },
    /// It begins before the segment before it ends.
    Overlap {
        /// Its address.
        at: u64,
        /// Where the segment before it ends.
        before_end: u64,
    },
    /// It shares a page with the segment before it, and the two allow different things.
    SharedPage {
        /// Address of the page.
        page: u64,
    },
}

impl SegmentFault {
    const fn remedy(self) -> &'static str {
        match self {
            Self::WritableCode => "link without `-N`, `--omagic` and `-z rwx`",
            Self::SharedPage { .. } => "link with `-z separate-code` and without a linker script",
            Self::OutsideImage { .. } => "make its static data smaller, or allocate it at run time",
            Self::Alignment { .. } => "link without `-z max-page-size`",
            _ => DAMAGED,
        }
    }
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MoreInFile { file, memory } => {
                write!(f, "has {file:#x} bytes in the file and only {memory:#x} in memory")
            }
            Self::OutsideFile { end, have } => {
                write!(f, "ends at offset {end:#x} of a file of {have:#x} bytes")
            }
            Self::OutsideImage { end } => {
                write!(f, "ends at {end:#x}, an image at {IMAGE_BYTES_MAX:#x} at the latest")
            }
            Self::Alignment { align } => {
                write!(
                    f,
                    "asks for an alignment of {align:#x}: not a power of two, or more than {ALIGN_MAX:#x}"
                )
            }
            Self::Misaligned { at, offset } => {
                write!(f, "lies at {at:#x} and at offset {offset:#x}, which differ within a page")
            }
            Self::WritableCode => f.write_str("is both writable and executable"),
            Self::CodeFromNowhere { file, memory } => {
                write!(f, "is executable with {memory:#x} bytes, of which the file has {file:#x}")
            }
            Self::Overlap { at, before_end } => {
                write!(f, "begins at {at:#x}, before the segment before it ends at {before_end:#x}")
            }
            Self::SharedPage { page } => {
                write!(
                    f,
                    "shares the page at {page:#x} with the segment before it, which allows other accesses"
                )
            }
        }
    }
}

/// What is wrong with a relocation that the loader would have to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationFault {
    /// It is of a kind that needs symbols, code or a table that the loader does not read.
    Kind {
        /// Its type, as in `R_X86_64_…`.
        kind: u32,
    },
    /// It would change bytes outside the writable segments.
    Target {
        /// The address.
        at: u64,
    },
    /// A list of packed relocations does not begin with an address, or runs out of the address space.
    Packing,
}

impl fmt::Display for RelocationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kind { kind } => write!(f, "is of type {kind}, the loader applies R_X86_64_RELATIVE only"),
            Self::Target { at } => write!(f, "changes {at:#x}, which is not in a writable segment"),
            Self::Packing => f.write_str("is packed wrongly"),
        }
    }
}

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
                write!(
                    f,
                    "{count} program headers of {size} bytes; there must be 1 to {HEADERS_MAX}, of 56 bytes"
                )
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
