//! ELF executables of guests: what is believed of their headers, and how they are laid out in a compartment.
//!
//! [`Image::parse`] takes a file as hostile bytes and gives a list of steps that a loader carries out without another
//! look at the headers. Nothing is allocated, every sum is checked, and every count has a maximum.
//!
//! ```text
//!  file    ┌ headers ┬ … ┬ code ┬ … ┬ data ┐          addresses count from the seat's base, a multiple of every
//!          └────┬────┴───┴──┬───┴───┴──┬───┘          alignment that a segment may ask for
//!  image   ┌────▼────┐  ┌───▼───┐  ┌───▼────────┬───────────┐
//!          │ R       │  │ R X   │  │ R W  RELRO │ R W … bss │        what a page holds besides its segment's bytes
//!          └─────────┘  └───────┘  └────────────┴───────────┘        is zero, never a neighbour's part of the file
//!          span.start ≤ …                        … ≤ span.end ≤ IMAGE_BYTES_MAX
//! ```
//!
//! What an accepted image keeps to:
//! - Segments ascend and do not overlap; those that share a page have the same access; none is writable and executable.
//! - Each lies within the file, within the image, and is congruent with its place in the file, so that it can be mapped.
//! - The segments together have no more bytes than the file: what is mapped is bounded by what was uploaded.
//! - Executable bytes all come from the file: what a scan of the file has seen is what runs.
//! - The entry lies in code, the program headers lie in a segment (`AT_PHDR` can be given).
//! - Relocations that the loader has to apply lie in writable segments: none changes code.
//!
//! **Fixed addresses are refused** (`ET_EXEC`): such files all ask for the same addresses, so two functions of a cell
//! would lie on each other, and none would lie in the seat that its key guards.
//!
//! **Who relocates**: a static PIE (no `PT_INTERP`) relocates itself before anything else. A PIE that names an interpreter
//! but needs no library, as Go makes them, relies on it for `R_X86_64_RELATIVE` and nothing else: the loader does that. A
//! file that needs a library is refused.

mod bytes;
mod dynamic;
mod error;
mod fault;
mod headers;

use core::ops::Range;

pub use dynamic::{Relocation, Relocations};
pub use error::ElfError;
pub use fault::{LibraryName, Part, RelocationFault, SegmentFault};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Largest image, from the seat's base to its last byte. The heap lies behind it in the same 8 GiB of the seat.
pub const IMAGE_BYTES_MAX: u64 = 4 << 30;
/// Most segments of an image.
pub const SEGMENTS_MAX: usize = 16;
/// Most program headers of a file.
pub const HEADERS_MAX: u16 = 64;
/// Most relocations that the loader applies for an image.
pub const RELOCATIONS_MAX: u64 = 4 << 20;
/// Largest template of thread-local storage.
pub const TLS_BYTES_MAX: u64 = 16 << 20;
/// Largest alignment that a segment may ask for. A seat's base is a multiple of it.
pub const ALIGN_MAX: u64 = 1 << 30;

/// What a segment's pages allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
}

/// A part of the file that is laid into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, from the seat's base.
    pub at: u64,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many of them there are.
    pub file_bytes: u64,
    /// How many bytes it has in memory; those behind [`Segment::file_bytes`] are zero.
    pub memory_bytes: u64,
    /// What its pages allow.
    pub access: Access,
}

impl Segment {
    const EMPTY: Segment = Segment { at: 0, offset: 0, file_bytes: 0, memory_bytes: 0, access: Access::Read };

    /// One behind its last byte in memory, from the seat's base.
    #[must_use]
    pub const fn end(&self) -> u64 {
        // An accepted segment ends within the image.
        self.at.saturating_add(self.memory_bytes)
    }

    /// The pages that it lies in, from the seat's base.
    #[must_use]
    pub const fn pages(&self) -> Range<u64> {
        page_down(self.at)..page_up(self.end())
    }

    /// Its bytes in `file`, from which the image was parsed.
    #[must_use]
    pub fn bytes<'f>(&self, file: &'f [u8]) -> &'f [u8] {
        bytes::range(file, self.offset, self.file_bytes).unwrap_or_default()
    }

    /// Where `len` bytes at address `at` lie in the file, if this segment has them all from there.
    fn offset_of(&self, at: u64, len: u64) -> Option<u64> {
        let within = at.checked_sub(self.at)?;
        let end = within.checked_add(len)?;
        // Within a segment that lies in the file: the sum cannot wrap.
        (end <= self.file_bytes).then(|| self.offset.saturating_add(within))
    }

    /// Where the `len` bytes at `offset` of the file lie, from the seat's base, if this segment has them all.
    fn at_of(&self, offset: u64, len: u64) -> Option<u64> {
        let within = offset.checked_sub(self.offset)?;
        let end = within.checked_add(len)?;
        // Within a segment that lies in the image: the sum cannot wrap.
        (end <= self.file_bytes).then(|| self.at.saturating_add(within))
    }

    fn holds(&self, at: u64, len: u64) -> bool {
        at >= self.at && at.checked_add(len).is_some_and(|end| end <= self.end())
    }
}

/// An executable that may be loaded, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    segments: [Segment; SEGMENTS_MAX],
    count: usize,
    entry: u64,
    headers_at: u64,
    header_count: u16,
    relro: Option<(u64, u64)>,
    loader: Option<dynamic::Tables>,
}

impl Image {
    /// Believes, or does not believe, the headers of `file`.
    ///
    /// # Errors
    /// The file is not a static position-independent executable for x86-64, or its headers lie.
    pub fn parse(file: &[u8]) -> Result<Image, ElfError> {
        let header = headers::FileHeader::read(file)?;
        let (table, layout) = headers::Layout::read(file, &header)?;
        layout.check_bytes(file.len() as u64)?;
        let mut image = Image {
            segments: layout.segments,
            count: layout.count,
            entry: header.entry,
            headers_at: 0,
            header_count: header.count,
            relro: None,
            loader: None,
        };
        image.check_entry()?;
        image.headers_at = image.locate_headers(&header, table)?;
        image.check_tls(layout.tls)?;
        image.relro = image.locate_relro(layout.relro)?;
        image.loader = dynamic::check(file, &image, layout.dynamic, layout.has_interpreter)?;
        Ok(image)
    }

    /// The segments, by ascending address.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(..self.count).unwrap_or_default()
    }

    /// The segments that can be executed, by ascending address.
    pub fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.segments().iter().filter(|segment| segment.access == Access::Execute)
    }

    /// The pages from the first to the last segment, from the seat's base.
    #[must_use]
    pub fn span(&self) -> Range<u64> {
        let first = self.segments().first().map_or(0, |segment| segment.pages().start);
        let last = self.segments().last().map_or(0, |segment| segment.pages().end);
        first..last
    }

    /// Where it starts, from the seat's base.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// Where its program headers lie in memory, from the seat's base (`AT_PHDR`).
    #[must_use]
    pub const fn headers_at(&self) -> u64 {
        self.headers_at
    }

    /// How many program headers it has (`AT_PHNUM`).
    #[must_use]
    pub const fn header_count(&self) -> u16 {
        self.header_count
    }

    /// The pages that become read-only once relocations are applied. An image that relocates itself asks for that
    /// with `mprotect`; for others it is the loader's to do.
    #[must_use]
    pub fn relro(&self) -> Option<Range<u64>> {
        self.relro.map(|(start, end)| start..end)
    }

    /// Whether the image relocates itself: if not, the loader applies [`Image::relocations`], then protects
    /// [`Image::relro`].
    #[must_use]
    pub const fn relocates_itself(&self) -> bool {
        self.loader.is_none()
    }

    /// What the loader has to apply, none if the image relocates itself. `file` is what the image was parsed from.
    #[must_use]
    pub fn relocations<'f>(&self, file: &'f [u8]) -> Relocations<'f> {
        Relocations::new(file, self.loader)
    }

    /// The ranges of pages that will be executable, by ascending address: neighbours are one range, since an
    /// instruction can lie across their border.
    pub fn code(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut rest = self.executable().peekable();
        core::iter::from_fn(move || {
            let mut range = rest.next()?.pages();
            while let Some(next) = rest.next_if(|next| next.pages().start <= range.end) {
                range.end = next.pages().end;
            }
            Some(range)
        })
    }

    /// The address, from the seat's base, at which the byte at `offset` of the file is executable; `None` if it is
    /// loaded nowhere as code.
    #[must_use]
    pub fn code_at(&self, offset: u64) -> Option<u64> {
        self.executable().find_map(|segment| segment.at_of(offset, 1))
    }

    /// Where in the file the `len` bytes at address `at` come from, if they lie in one segment and come from the file.
    #[must_use]
    pub fn offset_of(&self, at: u64, len: u64) -> Option<u64> {
        self.segments().iter().find_map(|segment| segment.offset_of(at, len))
    }

    fn check_entry(&self) -> Result<(), ElfError> {
        let mut code = self.executable().peekable();
        if code.peek().is_none() {
            return Err(ElfError::NoCode);
        }
        if code.any(|segment| segment.holds(self.entry, 1)) {
            return Ok(());
        }
        Err(ElfError::EntryOutsideCode { entry: self.entry })
    }

    fn locate_headers(&self, header: &headers::FileHeader, table: &[u8]) -> Result<u64, ElfError> {
        let bytes = table.len() as u64;
        let found = self.segments().iter().find_map(|segment| segment.at_of(header.table, bytes));
        found.ok_or(ElfError::HeadersNotLoaded { offset: header.table, bytes })
    }

    fn check_tls(&self, tls: Option<headers::Extra>) -> Result<(), ElfError> {
        let Some(tls) = tls else { return Ok(()) };
        let align_ok = tls.align <= PAGE && (tls.align == 0 || tls.align.is_power_of_two());
        let size_ok = tls.file_bytes <= tls.memory_bytes && tls.memory_bytes <= TLS_BYTES_MAX;
        // Without initial values its address means nothing, and Go's linker leaves it 0.
        let place_ok = tls.file_bytes == 0 || self.offset_of(tls.at, tls.file_bytes).is_some();
        if align_ok && size_ok && place_ok {
            return Ok(());
        }
        Err(ElfError::Tls {
            at: tls.at,
            file_bytes: tls.file_bytes,
            memory_bytes: tls.memory_bytes,
            align: tls.align,
        })
    }

    /// Whole pages of one writable segment that hold nothing else.
    fn locate_relro(&self, relro: Option<headers::Extra>) -> Result<Option<(u64, u64)>, ElfError> {
        let Some(relro) = relro.filter(|relro| relro.memory_bytes > 0) else { return Ok(None) };
        let fault = ElfError::Relro { at: relro.at, bytes: relro.memory_bytes };
        let end = relro.at.checked_add(relro.memory_bytes).ok_or(fault)?;
        let inside = |segment: &&Segment| {
            segment.access == Access::Write && segment.at <= relro.at && end <= segment.pages().end
        };
        let segment = self.segments().iter().find(inside).ok_or(fault)?;
        let start = if relro.at == segment.at { page_down(relro.at) } else { page_up(relro.at) };
        let end = if end >= segment.end() { page_up(end) } else { page_down(end) };
        Ok((start < end).then_some((start, end)))
    }
}

const fn page_down(at: u64) -> u64 {
    at & !(PAGE - 1)
}

/// `at` lies within an image, far from the end of the address space.
const fn page_up(at: u64) -> u64 {
    page_down(at.saturating_add(PAGE - 1))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
