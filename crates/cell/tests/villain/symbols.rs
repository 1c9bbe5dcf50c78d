//! Where things lie in a program, by its symbol table: what every attacker can read in the binary that is shipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The symbols of a program: by name, their address, and whether they name code.
pub(crate) struct Symbols(BTreeMap<String, (u64, bool)>);

impl Symbols {
    pub(crate) fn of(program: &Path) -> Symbols {
        let listed = Command::new("nm").arg(program).output().expect("nm is installed");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let symbol = |line: &str| {
            let mut parts = line.split_whitespace();
            let at = u64::from_str_radix(parts.next()?, 16).ok()?;
            let kind = parts.next()?;
            Some((parts.next()?.to_owned(), (at, kind.eq_ignore_ascii_case("t"))))
        };
        Symbols(text.lines().filter_map(symbol).collect())
    }

    /// Address of the symbol with this name, or with this part in its mangled name.
    pub(crate) fn at(&self, name: &str) -> u64 {
        let found = self.0.get(name).copied();
        let by_part = || self.0.iter().find(|(symbol, _)| symbol.contains(name)).map(|(_, found)| *found);
        found.or_else(by_part).unwrap_or_else(|| panic!("no symbol {name}")).0
    }

    /// Where functions begin.
    pub(crate) fn code(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.values().filter(|(_, is_code)| *is_code).map(|(at, _)| *at)
    }
}
