//! One ELF file of the program of Wasm functions and an artifact: the module becomes segments of the program.
//!
//! The artifact is appended to the file and loaded behind the last segment: what comes before the code readable, the code
//! executable, the rest readable. The headers for these segments stand where the program has notes, which nobody reads.

use core::fmt;
use core::ops::Range;

const PAGE: u64 = 4096;
const HEADER_BYTES: usize = 56;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const GNU_PROPERTY: u32 = 0x6474_e553;
const EXECUTE: u32 = 1;
const READ: u32 = 4;

/// Why there is no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComposeError {
    /// The program is no ELF file of 64 bits, or its headers do not lie in it.
    Program,
    /// The program has too few notes.
    Room {
        /// Segments that need a header.
        wanted: usize,
        /// Headers that can be had.
        there: usize,
    },
    /// The code does not lie in the artifact, or does not begin at a page.
    Code {
        /// Its first byte.
        start: u64,
        /// One behind its last byte.
        end: u64,
    },
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program of Wasm functions is damaged: install Baton again"),
            Self::Room { wanted, there } => {
                write!(f, "the program of Wasm functions has room for {there} segments of the {wanted} that a module needs: install Baton again")
            }
            Self::Code { start, end } => write!(f, "the module's code at {start:#x} to {end:#x} lies outside of its artifact"),
        }
    }
}

impl core::error::Error for ComposeError {}

/// `program` with `artifact`, whose bytes at `code` are to be executable. The code begins at a multiple of 4 KiB.
///
/// # Errors
/// [`ComposeError`]: something is not what it should be.
pub fn compose(program: &[u8], artifact: &[u8], code: Range<u64>) -> Result<Vec<u8>, ComposeError> {
    let len = artifact.len() as u64;
    let is_code = code.start < code.end && code.end <= len && code.start.is_multiple_of(PAGE) && code.start > 0;
    if !is_code {
        return Err(ComposeError::Code { start: code.start, end: code.end });
    }
    let table = table(program).ok_or(ComposeError::Program)?;
    let headers: Vec<Header> = table.clone().step_by(HEADER_BYTES).filter_map(|at| Header::read(program, at)).collect();
    let end = headers.iter().filter(|header| header.kind == LOAD).map(|header| header.at.saturating_add(header.memory_bytes)).max();
    let at = end.ok_or(ComposeError::Program)?.checked_next_multiple_of(PAGE).ok_or(ComposeError::Program)?;
    let mut file = program.to_vec();
    file.resize(program.len().next_multiple_of(PAGE as usize), 0);
    let offset = file.len() as u64;
    file.extend_from_slice(artifact);
    // A page is readable or executable: what follows the code in its last page comes with it.
    let code_end = code.end.next_multiple_of(PAGE).min(len);
    let parts = [(0..code.start, READ), (code.start..code_end, READ | EXECUTE), (code_end..len, READ)];
    let parts = parts.into_iter().filter(|(part, _)| !part.is_empty());
    let spare: Vec<usize> = table
        .step_by(HEADER_BYTES)
        .filter(|at| Header::read(program, *at).is_some_and(|header| matches!(header.kind, NOTE | GNU_PROPERTY)))
        .collect();
    let wanted = parts.clone().count();
    if spare.len() < wanted {
        return Err(ComposeError::Room { wanted, there: spare.len() });
    }
    for (place, (part, access)) in spare.into_iter().zip(parts) {
        let bytes = part.end - part.start;
        let words = [offset + part.start, at + part.start, at + part.start, bytes, bytes, PAGE];
        let header: Vec<u8> = [LOAD, access].into_iter().flat_map(u32::to_le_bytes).chain(words.into_iter().flat_map(u64::to_le_bytes)).collect();
        file.get_mut(place..place + HEADER_BYTES).ok_or(ComposeError::Program)?.copy_from_slice(&header);
    }
    Ok(file)
}

struct Header {
    kind: u32,
    at: u64,
    memory_bytes: u64,
}

impl Header {
    fn read(file: &[u8], at: usize) -> Option<Header> {
        let header = file.get(at..at.checked_add(HEADER_BYTES)?)?;
        Some(Header {
            kind: u32::try_from(number(header, 0, 4)?).ok()?,
            at: number(header, 16, 8)?,
            memory_bytes: number(header, 40, 8)?,
        })
    }
}

/// Where the program headers lie in a file.
fn table(file: &[u8]) -> Option<Range<usize>> {
    let is_elf = file.starts_with(b"\x7fELF\x02\x01");
    let (start, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(count).ok()?.checked_mul(HEADER_BYTES)?)?;
    (is_elf && size == HEADER_BYTES as u64 && end <= file.len()).then(|| start..end)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
