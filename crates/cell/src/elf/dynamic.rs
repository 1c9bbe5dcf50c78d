//! The dynamic section: whether a file needs a library, and what the loader has to relocate.

use super::error::ElfError;
use super::fault::{LibraryName, RelocationFault};
use super::{Access, Image, RELOCATIONS_MAX, bytes, headers};

/// Most entries of a dynamic section.
const ENTRIES_MAX: usize = 1024;
const ENTRY_BYTES: usize = 16;
const RELA_BYTES: usize = 24;
const WORD_BYTES: u64 = 8;
/// Words that one bitmap of packed relocations covers.
const BITMAP_WORDS: u64 = 63;

const R_RELATIVE: u32 = 8;
/// What `DF_TEXTREL` is in `DT_FLAGS`.
const FLAG_TEXTREL: u64 = 4;

mod tag {
    pub(super) const NULL: u64 = 0;
    pub(super) const NEEDED: u64 = 1;
    pub(super) const PLTRELSZ: u64 = 2;
    pub(super) const STRTAB: u64 = 5;
    pub(super) const RELA: u64 = 7;
    pub(super) const RELASZ: u64 = 8;
    pub(super) const RELAENT: u64 = 9;
    pub(super) const RELSZ: u64 = 18;
    pub(super) const TEXTREL: u64 = 22;
    pub(super) const FLAGS: u64 = 30;
    pub(super) const RELRSZ: u64 = 35;
    pub(super) const RELR: u64 = 36;
    pub(super) const RELRENT: u64 = 37;
}

/// Where in the file the relocations lie that the loader applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    rela: Table,
    relr: Table,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Table {
    offset: u64,
    bytes: u64,
}

/// One word of the image that depends on where the image lies. `at` counts from the seat's base and lies, with all of its
/// eight bytes, in a writable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relocation {
    /// The word becomes the seat's base plus `addend`, wrapping.
    Set {
        /// Address of the word.
        at: u64,
        /// What is added to the base.
        addend: u64,
    },
    /// The base is added to the word, wrapping.
    Add {
        /// Address of the word.
        at: u64,
    },
}

impl Relocation {
    /// Address of the word, from the seat's base.
    #[must_use]
    pub const fn at(&self) -> u64 {
        match *self {
            Relocation::Set { at, .. } | Relocation::Add { at } => at,
        }
    }
}

/// What the dynamic section says, as far as it matters here.
#[derive(Debug, Default)]
struct Facts {
    needed: Option<u64>,
    strings: Option<u64>,
    rela: Table,
    rela_entry: Option<u64>,
    relr: Table,
    relr_entry: Option<u64>,
    rel_bytes: u64,
    plt_bytes: u64,
    relocates_code: bool,
}

/// Refuses what needs a library or a change of its code. The tables that the loader has to apply; `None` if the image
/// relocates itself.
pub(super) fn check(
    file: &[u8],
    image: &Image,
    dynamic: Option<headers::Extra>,
    has_interpreter: bool,
) -> Result<Option<Tables>, ElfError> {
    let Some(dynamic) = dynamic else { return Ok(has_interpreter.then(Tables::default)) };
    let facts = read(file, image, &dynamic)?;
    if let Some(name) = facts.needed {
        return Err(ElfError::NeedsLibrary { name: library(file, image, facts.strings, name) });
    }
    if facts.relocates_code {
        return Err(ElfError::RelocatesCode);
    }
    if !has_interpreter {
        return Ok(None);
    }
    // Both would need symbols or resolvers, which is more than a loader without libraries has.
    if facts.plt_bytes != 0 || facts.rel_bytes != 0 {
        let bytes = facts.plt_bytes.max(facts.rel_bytes);
        return Err(ElfError::RelocationTable { at: 0, bytes });
    }
    let tables = Tables {
        rela: locate(image, facts.rela, facts.rela_entry, RELA_BYTES as u64)?,
        relr: locate(image, facts.relr, facts.relr_entry, WORD_BYTES)?,
    };
    verify(file, image, tables)?;
    Ok(Some(tables))
}

fn read(file: &[u8], image: &Image, dynamic: &headers::Extra) -> Result<Facts, ElfError> {
    let fault = ElfError::Dynamic { at: dynamic.at, bytes: dynamic.file_bytes };
    let section = image
        .offset_of(dynamic.at, dynamic.file_bytes)
        .and_then(|offset| bytes::range(file, offset, dynamic.file_bytes))
        .ok_or(fault)?;
    let mut facts = Facts::default();
    for entry in section.chunks_exact(ENTRY_BYTES).take(ENTRIES_MAX) {
        let (Some(name), Some(value)) = (bytes::u64_at(entry, 0), bytes::u64_at(entry, 8)) else { break };
        match name {
            tag::NULL => return Ok(facts),
            tag::NEEDED => facts.needed = facts.needed.or(Some(value)),
            tag::STRTAB => facts.strings = Some(value),
            tag::PLTRELSZ => facts.plt_bytes = value,
            tag::RELA => facts.rela.offset = value,
            tag::RELASZ => facts.rela.bytes = value,
            tag::RELAENT => facts.rela_entry = Some(value),
            tag::RELSZ => facts.rel_bytes = value,
            tag::RELR => facts.relr.offset = value,
            tag::RELRSZ => facts.relr.bytes = value,
            tag::RELRENT => facts.relr_entry = Some(value),
            tag::TEXTREL => facts.relocates_code = true,
            tag::FLAGS => facts.relocates_code |= value & FLAG_TEXTREL != 0,
            _ => {}
        }
    }
    Err(fault)
}

fn library(file: &[u8], image: &Image, strings: Option<u64>, name: u64) -> LibraryName {
    let at = strings.and_then(|strings| strings.checked_add(name));
    let offset = at.and_then(|at| image.offset_of(at, 1)).and_then(|offset| usize::try_from(offset).ok());
    LibraryName::new(offset.and_then(|offset| file.get(offset..)).unwrap_or_default())
}

/// From a table's address to its place in the file.
fn locate(image: &Image, table: Table, entry: Option<u64>, entry_bytes: u64) -> Result<Table, ElfError> {
    if table.bytes == 0 {
        return Ok(Table::default());
    }
    let fault = ElfError::RelocationTable { at: table.offset, bytes: table.bytes };
    if entry.is_some_and(|entry| entry != entry_bytes) || !table.bytes.is_multiple_of(entry_bytes) {
        return Err(fault);
    }
    let offset = image.offset_of(table.offset, table.bytes).ok_or(fault)?;
    Ok(Table { offset, bytes: table.bytes })
}

/// Each relocation is of the one kind and changes a word in a writable segment.
fn verify(file: &[u8], image: &Image, tables: Tables) -> Result<(), ElfError> {
    let bad = |index, fault| ElfError::Relocation { index, fault };
    let mut relocations = Relocations::new(file, Some(tables));
    let mut index = 0;
    while let Some(relocation) = relocations.step() {
        let at = relocation.map_err(|fault| bad(index, fault))?.at();
        let writable = |segment: &super::Segment| segment.access == Access::Write && segment.holds(at, 8);
        if !image.segments().iter().any(writable) {
            return Err(bad(index, RelocationFault::Target { at }));
        }
        index += 1;
        if index > RELOCATIONS_MAX {
            return Err(ElfError::TooManyRelocations);
        }
    }
    Ok(())
}

/// The relocations of an image, see [`Image::relocations`].
#[derive(Clone, Debug)]
pub struct Relocations<'f> {
    rela: &'f [u8],
    relr: &'f [u8],
    /// The word that the next bitmap begins with.
    next: Option<u64>,
    /// What is left of the current bitmap, its lowest bit being the word at `word`.
    bitmap: u64,
    word: u64,
}

impl<'f> Relocations<'f> {
    pub(super) fn new(file: &'f [u8], tables: Option<Tables>) -> Relocations<'f> {
        let tables = tables.unwrap_or_default();
        let of = |table: Table| bytes::range(file, table.offset, table.bytes).unwrap_or_default();
        Relocations { rela: of(tables.rela), relr: of(tables.relr), next: None, bitmap: 0, word: 0 }
    }

    fn step(&mut self) -> Option<Result<Relocation, RelocationFault>> {
        if let Some((entry, rest)) = self.rela.split_first_chunk::<RELA_BYTES>() {
            self.rela = rest;
            return Some(rela(entry));
        }
        self.packed().transpose()
    }

    /// An even word is an address; an odd one says for each of the 63 words that follow the last address whether it is
    /// to be relocated.
    fn packed(&mut self) -> Result<Option<Relocation>, RelocationFault> {
        loop {
            if self.bitmap != 0 {
                let skip = u64::from(self.bitmap.trailing_zeros());
                let at = self.word.checked_add(skip * WORD_BYTES).ok_or(RelocationFault::Packing)?;
                self.bitmap &= self.bitmap - 1;
                return Ok(Some(Relocation::Add { at }));
            }
            let Some((entry, rest)) = self.relr.split_first_chunk::<8>() else { return Ok(None) };
            self.relr = rest;
            let entry = u64::from_le_bytes(*entry);
            if entry & 1 == 0 {
                self.next = entry.checked_add(WORD_BYTES);
                return Ok(Some(Relocation::Add { at: entry }));
            }
            self.word = self.next.ok_or(RelocationFault::Packing)?;
            self.bitmap = entry >> 1;
            self.next = self.word.checked_add(BITMAP_WORDS * WORD_BYTES);
        }
    }
}

fn rela(entry: &[u8; RELA_BYTES]) -> Result<Relocation, RelocationFault> {
    let (at, kind, addend) = (bytes::u64_at(entry, 0), bytes::u32_at(entry, 8), bytes::u64_at(entry, 16));
    match (at, kind, addend) {
        (Some(at), Some(R_RELATIVE), Some(addend)) => Ok(Relocation::Set { at, addend }),
        (_, kind, _) => Err(RelocationFault::Kind { kind: kind.unwrap_or_default() }),
    }
}

impl Iterator for Relocations<'_> {
    type Item = Relocation;

    fn next(&mut self) -> Option<Relocation> {
        // An accepted image has no faulty one.
        self.step()?.ok()
    }
}
