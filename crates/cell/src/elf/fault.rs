//! What can be wrong with one part of a file.

use core::fmt;

use super::error::DAMAGED;
use super::{ALIGN_MAX, IMAGE_BYTES_MAX};

/// Most bytes of a library's name that are reported.
const NAME_BYTES: usize = 48;

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
    pub(super) const fn remedy(self) -> &'static str {
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
