//! Why an executable may not run in a compartment: function, offset, instruction, remedy.

use std::fmt;

use baton_cell::elf::{ElfError, Image};
use baton_cell::scan::Forbidden;

use super::symbols::Symbols;

/// A function, and how far into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// Its symbol.
    pub name: Box<str>,
    /// Bytes from its start.
    pub offset: u64,
}

/// Where in an executable something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address, from the image's base.
    pub at: u64,
    /// Its offset in the file.
    pub offset: u64,
    /// The function, if the file has a symbol for it.
    pub symbol: Option<Within>,
}

impl Place {
    pub(super) fn find(at: u64, image: &Image, symbols: &Symbols<'_>) -> Place {
        let symbol = symbols
            .holding(at)
            .map(|symbol| Within { name: symbols.name(symbol).into(), offset: at - symbol.at });
        // What a scan finds begins in a segment: the zeros around them begin nothing.
        Place { at, offset: image.offset_of(at, 1).unwrap_or_default(), symbol }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.symbol {
            Some(within) => {
                write!(f, "{}+{:#x} (offset {:#x} of the file)", within.name, within.offset, self.offset)
            }
            None => write!(f, "offset {:#x} of the file, in no known function", self.offset),
        }
    }
}

/// What the forbidden bytes are part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// They are an instruction.
    Instruction {
        /// As a disassembler shows it.
        text: Box<str>,
    },
    /// They lie in another instruction, or begin in it.
    Part {
        /// The instruction, as a disassembler shows it.
        text: Box<str>,
    },
    /// They are data among code.
    Data,
    /// It cannot be told.
    Unknown,
}

/// Something that keeps an executable out of compartments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The bytes of an instruction that no guest may have.
    Forbidden {
        /// The instruction.
        what: Forbidden,
        /// Where.
        place: Place,
        /// What the bytes are part of.
        context: Context,
    },
    /// A far jump, call or return in a function.
    FarTransfer {
        /// Where.
        place: Place,
        /// The instruction.
        text: Box<str>,
    },
}

impl Objection {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Forbidden { context: Context::Instruction { .. }, .. } | Self::FarTransfer { .. } => {
                "build without the code that needs it, or choose isolation = \"process\""
            }
            Self::Forbidden { context: Context::Part { .. }, .. } => {
                "the bytes are there by chance: change the constant or the code around it, compile with another \
                 optimisation level, or choose isolation = \"process\""
            }
            Self::Forbidden { context: Context::Data, .. } => {
                "keep data out of executable segments: link with `-z separate-code`"
            }
            Self::Forbidden { context: Context::Unknown, place: Place { symbol: None, .. }, .. } => {
                "build without stripping symbols, so that the function and the instruction can be named"
            }
            Self::Forbidden { context: Context::Unknown, .. } => {
                "keep data out of functions, or choose isolation = \"process\""
            }
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { what, place, context } => match context {
                Context::Instruction { text } => write!(f, "`{text}` at {place}"),
                Context::Part { text } => write!(f, "the bytes of `{what}` within `{text}` at {place}"),
                Context::Data => write!(f, "the bytes of `{what}` in executable data at {place}"),
                Context::Unknown => write!(f, "the bytes of `{what}` at {place}"),
            },
            Self::FarTransfer { place, text } => write!(f, "the far transfer `{text}` at {place}"),
        }
    }
}

/// Why an executable may not run in a compartment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VetError {
    /// No loader would load it.
    Unloadable(ElfError),
    /// It has instructions that no guest may have.
    Refused {
        /// The first of them.
        first: Objection,
        /// How many more there are.
        others: usize,
    },
}

impl VetError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Unloadable(error) => error.remedy(),
            Self::Refused { first, .. } => first.remedy(),
        }
    }
}

impl fmt::Display for VetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot run in a compartment: ")?;
        match self {
            Self::Unloadable(error) => write!(f, "{error}"),
            Self::Refused { first, others: 0 } => write!(f, "{first}; {}", first.remedy()),
            Self::Refused { first, others } => write!(f, "{first} and {others} more; {}", first.remedy()),
        }
    }
}

impl std::error::Error for VetError {}
