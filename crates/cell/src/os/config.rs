//! What a seat is made of.

use core::ops::Range;

use baton_abi::cell::{MAIL_OFFSET, MAPS_END, MAPS_OFFSET, SEAT_BYTES, STACK_BYTES, STACK_TOP};

use super::PAGE;
use crate::bundle::Bundle;

/// A part of the image, as the loader mapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte; a multiple of the page size.
    pub at: u64,
    /// Bytes; a multiple of the page size.
    pub len: u64,
    /// What it may be used for.
    pub access: Access,
}

/// What a part of the image may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing. No system call ever changes such a part.
    Execute,
}

/// What a seat is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// All addresses of the seat.
    pub seat: Range<u64>,
    /// What the loader mapped, in ascending order.
    pub segments: Vec<Segment>,
    /// Where `brk` may go: from the first page behind the image.
    pub heap: Range<u64>,
    /// Where mappings go.
    pub maps: Range<u64>,
    /// The stack of the first thread. It is mapped, and stays as it is.
    pub stack: Range<u64>,
    /// Most bytes with pages behind them, the image and the stack included.
    pub memory_limit: u64,
    /// The files of the function, there for as long as the process.
    pub files: Bundle<'static>,
}

impl Config {
    /// The layout that [`baton_abi::cell`] fixes for the seat that begins at `base`.
    #[must_use]
    pub fn at(base: u64, segments: Vec<Segment>, memory_limit: u64) -> Config {
        let image_end = segments.iter().map(|segment| segment.at.saturating_add(segment.len)).max();
        let heap_end = base + MAIL_OFFSET - PAGE;
        Config {
            seat: base..base + SEAT_BYTES,
            heap: image_end.unwrap_or(base).min(heap_end)..heap_end,
            maps: base + MAPS_OFFSET..base + MAPS_END,
            stack: base + STACK_TOP - STACK_BYTES..base + STACK_TOP,
            segments,
            memory_limit,
            files: Bundle::NONE,
        }
    }
}

/// Why an [`super::Os`] cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A range is empty, not made of whole pages, or outside of the seat.
    Range {
        /// Its first byte.
        at: u64,
    },
    /// Two ranges overlap, or are out of order.
    Overlap {
        /// First byte of the second.
        at: u64,
    },
    /// The image and the stack alone are over the memory limit.
    Memory {
        /// Bytes that they need.
        needed: u64,
    },
}
