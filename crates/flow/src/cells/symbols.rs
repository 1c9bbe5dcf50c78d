//! Names for the addresses of a fault: from the symbol table of the function's executable.
//!
//! The executable is a stranger's file: every offset in it is looked at before it is followed.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest executable that is read for this.
const EXECUTABLE_BYTES_MAX: u64 = 512 << 20;
/// Frames that a report names.
const FRAMES_MAX: usize = 64;

const TABLE: u32 = 2;
const FUNCTION: u8 = 2;
const LOADABLE: u32 = 1;
const SECTION_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const SYMBOL_BYTES: u64 = 24;

/// The report of a fault with names, and what it means to a Wasm module: `at` and the addresses in the lines of `text` count from the start of the image.
/// Reads the file: not for a thread that others wait for.
///
/// `host` is the program in which the executable goes on: its functions have their names there.
pub(super) fn report(executable: &Path, host: Option<&Path>, at: u64, text: &str) -> String {
    let mut lines = text.lines();
    let mut report = lines.next().unwrap_or("it failed").to_owned();
    let returns = lines.filter_map(|line| u64::from_str_radix(line.trim().strip_prefix("0x")?, 16).ok());
    // A return address is behind the call; the call is what one wants to see.
    let frames = (at != 0).then_some((at, at)).into_iter();
    let frames = frames.chain(returns.map(|address| (address, address.saturating_sub(1)))).take(FRAMES_MAX);
    let files = [Some(executable), host].map(|path| path.and_then(read).unwrap_or_default());
    if let Some(trap) = files.first().filter(|_| at != 0).and_then(|file| baton_wasm::trap_at(file, at)) {
        report = format!("wasm trap: {trap} ({report})");
    }
    for (number, (address, inside)) in frames.enumerate() {
        let name = files.iter().find_map(|file| Image(file).function_at(inside));
        let name = name.unwrap_or_else(|| "?".to_owned());
        let word = if number == 0 && at != 0 { "at" } else { "from" };
        // Writing to a string cannot fail.
        let _ = write!(report, "\n  {word} {name} (0x{address:x})");
    }
    report
}

fn read(executable: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(executable).ok()?.take(EXECUTABLE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A 64-bit little-endian ELF file.
struct Image<'a>(&'a [u8]);

/// A section's type, the section that it refers to, and where its bytes are.
struct Section {
    kind: u32,
    link: u64,
    offset: u64,
    bytes: u64,
}

impl<'a> Image<'a> {
    fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let offset = usize::try_from(offset).ok()?;
        self.0.get(offset..)?.first_chunk::<N>().copied()
    }

    fn u16(&self, offset: u64) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: u64) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// Where entry `index` of a table begins.
    fn entry(start: u64, index: u64, bytes: u64) -> Option<u64> {
        start.checked_add(index.checked_mul(bytes)?)
    }

    fn section(&self, index: u64) -> Option<Section> {
        let at = Self::entry(self.u64(40)?, index, SECTION_BYTES)?;
        Some(Section {
            kind: self.u32(at.checked_add(4)?)?,
            link: u64::from(self.u32(at.checked_add(40)?)?),
            offset: self.u64(at.checked_add(24)?)?,
            bytes: self.u64(at.checked_add(32)?)?,
        })
    }

    /// The address in the file of the image's first byte.
    fn base(&self) -> Option<u64> {
        let segments = u64::from(self.u16(56)?);
        let lowest = (0..segments).filter_map(|index| {
            let at = Self::entry(self.u64(32)?, index, SEGMENT_BYTES)?;
            (self.u32(at)? == LOADABLE).then_some(())?;
            self.u64(at.checked_add(16)?)
        });
        Some(lowest.min()? & !0xfff)
    }

    /// The function around an address that counts from the start of the image, and how far into it the address is.
    fn function_at(&self, offset: u64) -> Option<String> {
        let address = self.base()?.checked_add(offset)?;
        let sections = u64::from(self.u16(60)?);
        let table =
            (0..sections).filter_map(|index| self.section(index)).find(|found| found.kind == TABLE)?;
        let names = self.section(table.link)?;
        let symbols = (0..table.bytes / SYMBOL_BYTES)
            .map_while(|index| self.symbol(Self::entry(table.offset, index, SYMBOL_BYTES)?));
        let around = |symbol: &Symbol| symbol.is_around(address);
        // Some functions have several names: the first one of the innermost.
        let found = symbols.filter(around).reduce(|a, b| if b.start > a.start { b } else { a })?;
        let name = self.text(names.offset.checked_add(found.name)?)?;
        Some(format!("{:#}+0x{:x}", rustc_demangle::demangle(name), address - found.start))
    }

    fn symbol(&self, at: u64) -> Option<Symbol> {
        let [info] = self.array(at.checked_add(4)?)?;
        Some(Symbol {
            name: u64::from(self.u32(at)?),
            is_function: info & 0xf == FUNCTION,
            start: self.u64(at.checked_add(8)?)?,
            bytes: self.u64(at.checked_add(16)?)?,
        })
    }

    fn text(&self, offset: u64) -> Option<&'a str> {
        let rest = self.0.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

struct Symbol {
    name: u64,
    is_function: bool,
    start: u64,
    bytes: u64,
}

impl Symbol {
    fn is_around(&self, address: u64) -> bool {
        self.is_function && address.checked_sub(self.start).is_some_and(|into| into < self.bytes.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test program itself: its table has this function.
    #[inline(never)]
    fn landmark() -> usize {
        landmark as fn() -> usize as usize
    }

    fn load_address() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let own = std::env::current_exe().unwrap();
        let line = maps.lines().find(|line| line.ends_with(own.to_str().unwrap())).unwrap();
        u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
    }

    #[test]
    fn addresses_get_the_names_of_their_functions() {
        let own = std::env::current_exe().unwrap();
        let at = landmark() as u64 - load_address();
        let report = report(&own, None, at, &format!("it fell over\n0x{:x}\nnoise\n", at + 1));
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines[0], "it fell over");
        assert!(
            lines[1].starts_with("  at ") && lines[1].contains("symbols::tests::landmark+0x0"),
            "{report}"
        );
        assert!(lines[2].starts_with("  from ") && lines[2].contains("landmark"), "{report}");
        assert_eq!(lines.len(), 3, "{report}");
    }

    #[test]
    fn without_a_table_addresses_stay() {
        let report = report(Path::new("/dev/null"), None, 0x10, "overflow");
        assert_eq!(report, "overflow\n  at ? (0x10)");
        assert_eq!(super::report(Path::new("/nowhere"), Some(Path::new("/nowhere")), 0, ""), "it failed");
    }

    /// A file cut and broken anywhere yields no name or some name, and no panic.
    #[test]
    fn broken_files_are_survived() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for cut in [0, 1, 39, 40, 63, 64, 100, own.len() / 2] {
            let _ = Image(&own[..cut]).function_at(0x1000);
        }
        let mut broken = own[..4096.min(own.len())].to_vec();
        for place in 16..64 {
            for value in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut broken[place], value);
                let _ = Image(&broken).function_at(u64::MAX);
                broken[place] = before;
            }
        }
    }
}
