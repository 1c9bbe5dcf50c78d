//! As much of ELF as welding needs: files of 64 bits, little-endian.

use std::ops::Range;

/// Bytes of a file's header.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// Bytes of a program header.
pub(crate) const SEGMENT_BYTES: usize = 56;
/// Bytes of a section header.
pub(crate) const SECTION_BYTES: usize = 64;
/// Bytes of a symbol.
pub(crate) const SYMBOL_BYTES: usize = 24;

/// A section's flag.
#[cfg(feature = "compile")]
pub(crate) const EXECUTABLE: u64 = 4;
/// A section's kind.
pub(crate) const SYMTAB: u32 = 2;
/// A program header's kind.
pub(crate) const LOAD: u32 = 1;

/// A file.
#[derive(Clone, Copy)]
pub(crate) struct Elf<'a>(pub(crate) &'a [u8]);

/// What a program header says.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) file: Range<u64>,
    pub(crate) memory: Range<u64>,
}

/// What a section header says.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Where its name begins.
    name: usize,
    pub(crate) kind: u32,
    #[cfg(feature = "compile")]
    pub(crate) flags: u64,
    pub(crate) file: Range<u64>,
    pub(crate) link: usize,
}

/// `bytes` with the bytes at `at` replaced.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..)?.get_mut(..value.len())?.copy_from_slice(value);
    Some(())
}

impl<'a> Elf<'a> {
    pub(crate) fn short(self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    pub(crate) fn word(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    pub(crate) fn long(self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn long_range(self, start: usize, len: usize) -> Option<Range<u64>> {
        let start = self.long(start)?;
        Some(start..start.checked_add(self.long(len)?)?)
    }

    pub(crate) fn bytes(self, range: &Range<u64>) -> Option<&'a [u8]> {
        self.0.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }

    /// The program headers, as they lie in the file.
    pub(crate) fn segment_table(self) -> Option<&'a [u8]> {
        let (start, count) = (self.long(32)?, u64::from(self.short(56)?));
        self.bytes(&(start..start.checked_add(count * SEGMENT_BYTES as u64)?))
    }

    pub(crate) fn segments(self) -> Option<impl Iterator<Item = Segment> + use<'a>> {
        let entries = self.segment_table()?.chunks_exact(SEGMENT_BYTES).map(Elf);
        Some(entries.filter_map(|entry| {
            Some(Segment {
                kind: entry.word(0)?,
                file: entry.long_range(8, 32)?,
                memory: entry.long_range(16, 40)?,
            })
        }))
    }

    pub(crate) fn sections(self) -> Option<impl Iterator<Item = Section> + use<'a>> {
        let (start, count) = (self.long(40)?, u64::from(self.short(60)?));
        let table = self.bytes(&(start..start.checked_add(count * SECTION_BYTES as u64)?))?;
        let entries = table.chunks_exact(SECTION_BYTES).map(Elf);
        Some(entries.filter_map(|entry| {
            Some(Section {
                name: usize::try_from(entry.word(0)?).ok()?,
                kind: entry.word(4)?,
                #[cfg(feature = "compile")]
                flags: entry.long(8)?,
                file: entry.long_range(24, 32)?,
                link: usize::try_from(entry.word(40)?).ok()?,
            })
        }))
    }

    /// The bytes of the section of a name, which ends in a zero.
    pub(crate) fn section_named(self, name: &[u8]) -> Option<&'a [u8]> {
        let names = self.sections()?.nth(usize::from(self.short(62)?))?;
        let names = self.bytes(&names.file)?;
        let is_it = |section: &Section| names.get(section.name..).is_some_and(|rest| rest.starts_with(name));
        self.bytes(&self.sections()?.find(is_it)?.file)
    }

    /// The symbols and their names, as they lie in the file.
    pub(crate) fn symbols(self) -> Option<(&'a [u8], &'a [u8])> {
        let table = self.sections()?.find(|section| section.kind == SYMTAB)?;
        let names = self.sections()?.nth(table.link)?;
        Some((self.bytes(&table.file)?, self.bytes(&names.file)?))
    }
}
