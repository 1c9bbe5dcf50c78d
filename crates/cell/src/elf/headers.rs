//! The file header and the program headers, one by one and against each other.

use super::error::ElfError;
use super::fault::{Part, SegmentFault};
use super::{ALIGN_MAX, Access, HEADERS_MAX, IMAGE_BYTES_MAX, PAGE, SEGMENTS_MAX, Segment, bytes};

const FILE_HEADER_BYTES: usize = 64;
const HEADER_BYTES: usize = 56;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const TYPE_EXEC: u16 = 2;
const TYPE_DYN: u16 = 3;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PT_GNU_RELRO: u32 = 0x6474_e552;

const FLAG_EXECUTE: u32 = 1;
const FLAG_WRITE: u32 = 2;

/// What the file header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileHeader {
    /// Address of the first instruction.
    pub(super) entry: u64,
    /// Offset of the program headers.
    pub(super) table: u64,
    /// How many there are.
    pub(super) count: u16,
}

impl FileHeader {
    pub(super) fn read(file: &[u8]) -> Result<FileHeader, ElfError> {
        if file.get(..4) != Some(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let header = file.get(..FILE_HEADER_BYTES).ok_or(ElfError::Truncated {
            what: Part::FileHeader,
            end: FILE_HEADER_BYTES as u64,
            have: file.len() as u64,
        })?;
        FileHeader::of(header).unwrap_or(Err(ElfError::NotElf))
    }

    /// `None` cannot happen: the header is complete.
    fn of(header: &[u8]) -> Option<Result<FileHeader, ElfError>> {
        let (class, endian) = (bytes::u8_at(header, 4)?, bytes::u8_at(header, 5)?);
        if class != CLASS_64 || endian != LITTLE_ENDIAN {
            return Some(Err(ElfError::NotSixtyFour { class, endian }));
        }
        let machine = bytes::u16_at(header, 18)?;
        if machine != MACHINE_X86_64 {
            return Some(Err(ElfError::Machine { machine }));
        }
        let entry = bytes::u64_at(header, 24)?;
        match bytes::u16_at(header, 16)? {
            TYPE_DYN => {}
            TYPE_EXEC => return Some(Err(ElfError::FixedAddress { entry })),
            kind => return Some(Err(ElfError::Type { kind })),
        }
        let (size, count) = (bytes::u16_at(header, 54)?, bytes::u16_at(header, 56)?);
        if usize::from(size) != HEADER_BYTES || count == 0 || count > HEADERS_MAX {
            return Some(Err(ElfError::HeaderTable { count, size }));
        }
        Some(Ok(FileHeader { entry, table: bytes::u64_at(header, 32)?, count }))
    }
}

/// A program header that loads nothing itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extra {
    pub(super) at: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) align: u64,
}

/// What the program headers say together.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) segments: [Segment; SEGMENTS_MAX],
    pub(super) count: usize,
    pub(super) tls: Option<Extra>,
    pub(super) relro: Option<Extra>,
    pub(super) dynamic: Option<Extra>,
    pub(super) has_interpreter: bool,
}

impl Layout {
    /// The layout, and the bytes of the program headers.
    pub(super) fn read<'f>(file: &'f [u8], header: &FileHeader) -> Result<(&'f [u8], Layout), ElfError> {
        let len = u64::from(header.count) * HEADER_BYTES as u64;
        let table = bytes::range(file, header.table, len).ok_or(ElfError::Truncated {
            what: Part::ProgramHeaders,
            end: header.table.saturating_add(len),
            have: file.len() as u64,
        })?;
        let mut layout = Layout {
            segments: [Segment::EMPTY; SEGMENTS_MAX],
            count: 0,
            tls: None,
            relro: None,
            dynamic: None,
            has_interpreter: false,
        };
        for (index, raw) in (0u16..).zip(table.chunks_exact(HEADER_BYTES)) {
            let Some(raw) = Raw::read(raw) else { continue };
            layout.take(index, &raw, file.len() as u64)?;
        }
        Ok((table, layout))
    }

    /// A file that laid the same bytes into memory over and over would cost many times what it weighs.
    pub(super) fn check_bytes(&self, have: u64) -> Result<(), ElfError> {
        let total = self.segments.iter().map(|segment| segment.file_bytes).fold(0, u64::saturating_add);
        if total <= have { Ok(()) } else { Err(ElfError::RepeatsItself { total, have }) }
    }

    fn take(&mut self, index: u16, raw: &Raw, file_bytes: u64) -> Result<(), ElfError> {
        match raw.kind {
            PT_LOAD if raw.memory_bytes == 0 && raw.file_bytes == 0 => Ok(()),
            PT_LOAD => {
                let segment =
                    raw.segment(file_bytes).map_err(|fault| ElfError::Segment { header: index, fault })?;
                self.push(index, segment)
            }
            PT_DYNAMIC => once(&mut self.dynamic, index, raw),
            PT_TLS => once(&mut self.tls, index, raw),
            PT_GNU_RELRO => once(&mut self.relro, index, raw),
            PT_GNU_STACK if raw.flags & FLAG_EXECUTE != 0 => Err(ElfError::ExecutableStack),
            PT_INTERP => {
                self.has_interpreter = true;
                Ok(())
            }
            // Notes, unwind tables and what is not known say nothing about the layout.
            _ => Ok(()),
        }
    }

    fn push(&mut self, index: u16, segment: Segment) -> Result<(), ElfError> {
        let fault = |fault| Err(ElfError::Segment { header: index, fault });
        let before = self.count.checked_sub(1).and_then(|last| self.segments.get(last));
        if let Some(before) = before {
            if segment.at < before.end() {
                return fault(SegmentFault::Overlap { at: segment.at, before_end: before.end() });
            }
            if segment.pages().start < before.pages().end && segment.access != before.access {
                return fault(SegmentFault::SharedPage { page: segment.pages().start });
            }
        }
        let Some(place) = self.segments.get_mut(self.count) else {
            return Err(ElfError::TooManySegments { header: index });
        };
        *place = segment;
        self.count += 1;
        Ok(())
    }
}

fn once(place: &mut Option<Extra>, index: u16, raw: &Raw) -> Result<(), ElfError> {
    let extra =
        Extra { at: raw.at, file_bytes: raw.file_bytes, memory_bytes: raw.memory_bytes, align: raw.align };
    match place.replace(extra) {
        None => Ok(()),
        Some(_) => Err(ElfError::Twice { header: index, kind: raw.kind }),
    }
}

/// A program header as it stands in the file.
#[derive(Clone, Copy, Debug)]
struct Raw {
    kind: u32,
    flags: u32,
    offset: u64,
    at: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

impl Raw {
    fn read(raw: &[u8]) -> Option<Raw> {
        Some(Raw {
            kind: bytes::u32_at(raw, 0)?,
            flags: bytes::u32_at(raw, 4)?,
            offset: bytes::u64_at(raw, 8)?,
            at: bytes::u64_at(raw, 16)?,
            file_bytes: bytes::u64_at(raw, 32)?,
            memory_bytes: bytes::u64_at(raw, 40)?,
            align: bytes::u64_at(raw, 48)?,
        })
    }

    fn segment(&self, have: u64) -> Result<Segment, SegmentFault> {
        if self.file_bytes > self.memory_bytes {
            return Err(SegmentFault::MoreInFile { file: self.file_bytes, memory: self.memory_bytes });
        }
        match self.offset.checked_add(self.file_bytes) {
            Some(end) if end <= have => {}
            end => return Err(SegmentFault::OutsideFile { end: end.unwrap_or(u64::MAX), have }),
        }
        match self.at.checked_add(self.memory_bytes) {
            Some(end) if end <= IMAGE_BYTES_MAX => {}
            end => return Err(SegmentFault::OutsideImage { end: end.unwrap_or(u64::MAX) }),
        }
        if self.align > ALIGN_MAX || (self.align != 0 && !self.align.is_power_of_two()) {
            return Err(SegmentFault::Alignment { align: self.align });
        }
        if self.at % PAGE != self.offset % PAGE {
            return Err(SegmentFault::Misaligned { at: self.at, offset: self.offset });
        }
        let access = match (self.flags & FLAG_WRITE != 0, self.flags & FLAG_EXECUTE != 0) {
            (true, true) => return Err(SegmentFault::WritableCode),
            (true, false) => Access::Write,
            (false, true) => Access::Execute,
            (false, false) => Access::Read,
        };
        if access == Access::Execute && self.file_bytes != self.memory_bytes {
            return Err(SegmentFault::CodeFromNowhere { file: self.file_bytes, memory: self.memory_bytes });
        }
        Ok(Segment {
            at: self.at,
            offset: self.offset,
            file_bytes: self.file_bytes,
            memory_bytes: self.memory_bytes,
            access,
        })
    }
}
