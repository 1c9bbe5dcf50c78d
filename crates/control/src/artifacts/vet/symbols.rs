//! The symbol table of an executable, as far as it can be read: symbols are for messages and for where to begin decoding,
//! so that what is broken is left out.

const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SYMTAB: u32 = 2;

const NO_TYPE: u8 = 0;
const OBJECT: u8 = 1;
const FUNCTION: u8 = 2;
const RESOLVED_FUNCTION: u8 = 10;

/// Longest name that is shown, bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A function.
    Function,
    /// A place in code that assembly names.
    Label,
    /// Data.
    Object,
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its address, from the image's base.
    pub(super) at: u64,
    /// One behind its last byte; never behind the start of the next symbol.
    pub(super) end: u64,
    pub(super) kind: Kind,
    /// Whether the file says where it ends.
    pub(super) has_size: bool,
    name: usize,
}

/// The symbols of a file, by ascending address, one an address.
#[derive(Debug, Default)]
pub(super) struct Symbols<'f> {
    list: Vec<Symbol>,
    names: &'f [u8],
}

impl<'f> Symbols<'f> {
    /// What can be read of them. As many as the file has room for, so no larger than it.
    pub(super) fn read(file: &'f [u8]) -> Symbols<'f> {
        Symbols::find(file).unwrap_or_default()
    }

    fn find(file: &'f [u8]) -> Option<Symbols<'f>> {
        let sections = table(file, number(file, 40, 8)?, number(file, 60, 2)?.checked_mul(64)?)?;
        let is_table = |section: &&[u8]| number(section, 4, 4) == Some(u64::from(SYMTAB));
        let section = sections.chunks_exact(SECTION_BYTES).find(is_table)?;
        let strings = usize::try_from(number(section, 40, 4)?).ok()?;
        let strings = sections.chunks_exact(SECTION_BYTES).nth(strings)?;
        let names = table(file, number(strings, 24, 8)?, number(strings, 32, 8)?)?;
        let entries = table(file, number(section, 24, 8)?, number(section, 32, 8)?)?;
        let mut list: Vec<Symbol> = entries.chunks_exact(SYMBOL_BYTES).filter_map(symbol).collect();
        // Of several at one address a function is preferred, and the one that is listed first.
        list.sort_by_key(|symbol| (symbol.at, symbol.kind));
        list.dedup_by_key(|symbol| symbol.at);
        let mut next = u64::MAX;
        for symbol in list.iter_mut().rev() {
            // Hand-written assembly does not always say how long a function is.
            symbol.end = if symbol.has_size { symbol.end.min(next) } else { next };
            next = symbol.at;
        }
        Some(Symbols { list, names })
    }

    /// The symbol that address `at` lies in.
    pub(super) fn holding(&self, at: u64) -> Option<&Symbol> {
        let after = self.list.partition_point(|symbol| symbol.at <= at);
        self.list.get(after.checked_sub(1)?).filter(|symbol| at < symbol.end)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Symbol> {
        self.list.iter()
    }

    /// A symbol's name, as far as it can be shown.
    pub(super) fn name(&self, symbol: &Symbol) -> String {
        let name = self.names.get(symbol.name..).unwrap_or_default();
        let name = name.iter().take(NAME_BYTES_MAX).take_while(|byte| **byte != 0);
        name.map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect()
    }
}

fn symbol(entry: &[u8]) -> Option<Symbol> {
    let (at, size) = (number(entry, 8, 8)?, number(entry, 16, 8)?);
    let kind = match entry.get(4)? & 0xf {
        FUNCTION | RESOLVED_FUNCTION => Kind::Function,
        NO_TYPE => Kind::Label,
        OBJECT => Kind::Object,
        _ => return None,
    };
    let defined = number(entry, 6, 2)? != 0;
    let name = usize::try_from(number(entry, 0, 4)?).ok()?;
    (defined && name != 0).then_some(Symbol {
        at,
        end: at.saturating_add(size),
        kind,
        has_size: size != 0,
        name,
    })
}

/// The little-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn table(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}
