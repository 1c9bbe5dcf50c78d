//! An artifact as an executable of its own, which goes on in a program that many share.
//!
//! ```text
//!  file    ┌ headers of the file and ┬ artifact: R, code R X, R ┬ symbols of the code ┬ seal ┐┌ the program's file, as it is ┐
//!          └ of the program, a page R┴──────────────────────────┴─────────────────────┴──────┘└──────────────────────────────┘
//!          0                                                          whole pages: where offsets go on in the other file
//!  memory  the program … bss ┬ headers ┬ artifact         from the first page behind the program's last
//! ```
//! So a module lies in the image of the program that runs it, is mapped and scanned with it, and its functions have names
//! wherever those of native functions have; and the program is there once for all of them, on the disk and in memory.
//! Nothing of the program moves. What the last bytes hold is the node's: they prove that it stored the file.

use std::fmt;
use std::ops::Range;

use crate::artifact::{HEADER_BYTES, Header, MAGIC, ReadError};
use crate::elf::{Elf, FILE_HEADER_BYTES, LOAD, SECTION_BYTES, SEGMENT_BYTES, SYMBOL_BYTES, SYMTAB, put};

/// Bytes that are added to what [`weld`] gives: with them it is whole pages.
pub const SEAL_BYTES: usize = 32;

const PAGE: u64 = HEADER_BYTES as u64;
const READ: u32 = 4;
const EXECUTE: u32 = 1;
/// A program header that says where they lie.
const HEADERS: u32 = 6;
/// A section of strings.
const STRINGS: u32 = 3;

/// Why there is no executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeldError {
    /// The program is none that could be loaded.
    Program,
    /// The artifact is not one of this engine's.
    Artifact(ReadError),
}

impl fmt::Display for WeldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str(
                "the program of Wasm functions is no position-independent executable: install that of this build",
            ),
            Self::Artifact(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for WeldError {}

/// The executable of an artifact, without its seal. Its offsets go on in the file of the program.
///
/// # Errors
/// Either is not what it should be.
pub fn weld(program: &[u8], artifact: &[u8]) -> Result<Vec<u8>, WeldError> {
    let header = Header::read(artifact).map_err(WeldError::Artifact)?;
    lay(program, artifact, &header.text).ok_or(WeldError::Program)
}

/// The artifact in an executable that [`weld`] made. It is not checked.
#[must_use]
pub fn welded(file: &[u8]) -> Option<&[u8]> {
    let elf = Elf(file);
    let from = |file: &Range<u64>| elf.0.get(usize::try_from(file.start).ok()?..);
    let rest = elf
        .segments()?
        .filter(|segment| segment.kind == LOAD)
        .find_map(|segment| from(&segment.file).filter(|bytes| bytes.starts_with(MAGIC)))?;
    let code = usize::try_from(Elf(rest).long(80)?).ok()?;
    rest.get(..HEADER_BYTES.checked_add(code)?)
}

fn lay(program: &[u8], artifact: &[u8], text: &Range<u64>) -> Option<Vec<u8>> {
    let elf = Elf(program);
    let loads: Vec<_> = elf.segments()?.filter(|segment| segment.kind == LOAD).collect();
    loads.iter().all(|segment| segment.file.end <= program.len() as u64).then_some(())?;
    let at = loads.iter().map(|segment| segment.memory.end).max()?.checked_next_multiple_of(PAGE)?;
    let header = program.get(..FILE_HEADER_BYTES)?;
    let mut file = Some(header).filter(|header| header.starts_with(b"\x7fELF\x02\x01"))?.to_vec();
    file.resize(HEADER_BYTES, 0);
    file.extend_from_slice(artifact);
    let end = file.len().next_multiple_of(HEADER_BYTES);
    file.resize(end, 0);

    let code = Elf(artifact.get(HEADER_BYTES..)?);
    let (symbols, names) = symbols(code, at + PAGE + text.start)?;
    let sections = file.len() as u64;
    let strings_at = sections + 3 * SECTION_BYTES as u64;
    let symbols_at = (strings_at + names.len() as u64).next_multiple_of(8);
    file.extend_from_slice(&[0; SECTION_BYTES]);
    file.extend(section(SYMTAB, symbols_at, symbols.len(), 2));
    file.extend(section(STRINGS, strings_at, names.len(), 0));
    file.extend_from_slice(&names);
    file.resize(usize::try_from(symbols_at).ok()?, 0);
    file.extend_from_slice(&symbols);
    let whole = (file.len() + SEAL_BYTES).next_multiple_of(HEADER_BYTES);
    file.resize(whole - SEAL_BYTES, 0);

    let table = headers(elf, &Place { at, program: whole as u64 }, artifact.len() as u64, text)?;
    let count = u16::try_from(table.len() / SEGMENT_BYTES).ok()?;
    put(&mut file, FILE_HEADER_BYTES, &table)?;
    put(&mut file, 32, &(FILE_HEADER_BYTES as u64).to_le_bytes())?;
    put(&mut file, 40, &sections.to_le_bytes())?;
    put(&mut file, 56, &count.to_le_bytes())?;
    put(&mut file, 60, &[3, 0, 0, 0])?;
    Some(file)
}

/// Where the page of headers lies in memory, and where in the file the program begins.
struct Place {
    at: u64,
    program: u64,
}

/// All program headers: the program's, and four more.
fn headers(elf: Elf<'_>, place: &Place, artifact: u64, text: &Range<u64>) -> Option<Vec<u8>> {
    let mut table = elf.segment_table()?.to_vec();
    let bytes = table.len() + 4 * SEGMENT_BYTES;
    if FILE_HEADER_BYTES + bytes > HEADER_BYTES {
        return None;
    }
    for entry in table.chunks_exact_mut(SEGMENT_BYTES) {
        if Elf(entry).word(0)? == HEADERS {
            let start = FILE_HEADER_BYTES as u64;
            entry.copy_from_slice(&segment(HEADERS, READ, start, place.at + start, bytes as u64));
        } else {
            let moved = Elf(entry).long(8)?.checked_add(place.program)?;
            put(entry, 8, &moved.to_le_bytes())?;
        }
    }
    table.extend(segment(LOAD, READ, 0, place.at, PAGE));
    for (range, access) in [(0..text.start, READ), (text.clone(), READ | EXECUTE), (text.end..artifact, READ)]
    {
        let (offset, at) = (PAGE + range.start, place.at + PAGE + range.start);
        table.extend(segment(LOAD, access, offset, at, range.end - range.start));
    }
    Some(table)
}

fn segment(kind: u32, access: u32, offset: u64, at: u64, bytes: u64) -> [u8; SEGMENT_BYTES] {
    let mut header = [0; SEGMENT_BYTES];
    let words = [u64::from(kind) | u64::from(access) << 32, offset, at, at, bytes, bytes, PAGE];
    for (place, word) in header.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

fn section(kind: u32, offset: u64, bytes: usize, link: u32) -> [u8; SECTION_BYTES] {
    let mut header = [0; SECTION_BYTES];
    let (entry, align) = if kind == SYMTAB { (SYMBOL_BYTES as u64, 8) } else { (0, 1) };
    let words = [u64::from(kind) << 32, 0, 0, offset, bytes as u64, u64::from(link) | 1 << 32, align, entry];
    for (place, word) in header.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// The symbols of the module's code and their names, moved to where it lies.
fn symbols(code: Elf<'_>, at: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut symbols = vec![0; SYMBOL_BYTES];
    let Some((own, names)) = code.symbols() else { return Some((symbols, vec![0])) };
    for symbol in own.chunks_exact(SYMBOL_BYTES) {
        let entry = Elf(symbol);
        let (name, value) = (entry.word(0)?, entry.long(8)?);
        let mut moved = symbol.to_vec();
        if name != 0 {
            put(&mut moved, 8, &value.checked_add(at)?.to_le_bytes())?;
            symbols.extend(moved);
        }
    }
    Some((symbols, names.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very test program, which is position-independent too.
    fn program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn artifact() -> Vec<u8> {
        crate::artifact::tests::artifact(&[0xc3; 3 * 4096 + 100], 2 * 4096..3 * 4096)
    }

    /// Both files as one, as a loader sees them.
    fn whole(program: &[u8], file: &[u8]) -> Vec<u8> {
        [file, &[0; SEAL_BYTES], program].concat()
    }

    #[test]
    fn an_executable_goes_on_in_the_program() {
        let (program, artifact) = (program(), artifact());
        let file = weld(&program, &artifact).unwrap();
        assert!(file.len() < artifact.len() + 4 * 4096, "the program is not in it");
        assert!(welded(&file) == Some(&artifact));
        let whole = whole(&program, &file);
        let border = (whole.len() - program.len()) as u64;
        assert!(border.is_multiple_of(4096));
        let (before, after) = (Elf(&program), Elf(&whole));
        let loads = |elf: Elf<'_>| -> Vec<_> {
            elf.segments().unwrap().filter(|segment| segment.kind == LOAD).collect()
        };
        let (old, new) = (loads(before), loads(after));
        assert_eq!(new.len(), old.len() + 4);
        for (old, new) in old.iter().zip(&new) {
            assert_eq!(old.memory, new.memory);
            assert_eq!(old.file.start + border, new.file.start);
            assert!(before.bytes(&old.file) == after.bytes(&new.file));
        }
        let added = &new[old.len()..];
        assert!(old.iter().all(|old| old.memory.end <= added[0].memory.start));
        assert_eq!(added[0].file, 0..4096, "the headers are loaded");
        for pair in added.windows(2) {
            assert_eq!(pair[0].memory.end, pair[1].memory.start, "without a gap");
            assert_eq!(pair[0].file.end, pair[1].file.start);
        }
        assert!(added.iter().all(|one| one.file.end <= border), "nothing lies across the border");
        assert_eq!(
            added.iter().map(|one| one.file.end - one.file.start).sum::<u64>(),
            4096 + artifact.len() as u64
        );
    }

    #[cfg(feature = "compile")]
    #[test]
    fn the_functions_of_a_module_have_their_names() {
        let module = wat::parse_str(crate::compile::tests::SMALL).unwrap();
        let artifact = crate::compile(&module).unwrap();
        let file = weld(&program(), &artifact).unwrap();
        let elf = Elf(&file);
        let (symbols, names) = elf.symbols().unwrap();
        let segments: Vec<_> = elf.segments().unwrap().filter(|segment| segment.kind == LOAD).collect();
        let text = segments[segments.len() - 2].memory.clone();
        let name = |symbol: &[u8]| {
            let from = &names[Elf(symbol).word(0).unwrap() as usize..];
            String::from_utf8_lossy(&from[..from.iter().position(|byte| *byte == 0).unwrap()]).into_owned()
        };
        let found = symbols.chunks_exact(SYMBOL_BYTES).find(|one| name(one).contains("wasm[0]::function[2]"));
        assert!(text.contains(&Elf(found.unwrap()).long(8).unwrap()));
    }

    #[test]
    fn other_files_are_refused() {
        let artifact = artifact();
        assert!(weld(b"\x7fELF", &artifact).is_err());
        assert!(weld(&[0; 5000], &artifact).is_err());
        assert!(matches!(weld(&program(), b"x"), Err(WeldError::Artifact(_))));
        let whole = program();
        for cut in [63, 64, 100, 8192] {
            assert!(weld(&whole[..cut], &artifact).is_err());
        }
        assert_eq!(welded(&whole), None);
        assert_eq!(welded(b""), None);
    }
}
