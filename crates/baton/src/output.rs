//! What people and scripts read: tables, colours on terminals, one JSON object.

use std::io::{self, IsTerminal, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::failure::Failure;

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    pub(crate) fn stdout() -> Self {
        Self { colours: wanted(io::stdout().is_terminal()) }
    }

    pub(crate) fn stderr() -> Self {
        Self { colours: wanted(io::stderr().is_terminal()) }
    }

    pub(crate) fn coloured(self) -> bool {
        self.colours
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint(31, text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint(32, text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint(33, text)
    }

    pub(crate) fn blue(self, text: &str) -> String {
        self.paint(34, text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(2, text)
    }
}

fn wanted(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table without lines, as other command-line tools print it.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints a table without blanks at the ends of lines.
pub(crate) fn print_table(table: &Table) -> Result<(), Failure> {
    for line in table.to_string().lines() {
        line_out(line.trim_end())?;
    }
    Ok(())
}

/// Prints one line. A reader that has gone ends the verb quietly elsewhere; here it is an error like others.
pub(crate) fn line_out(line: &str) -> Result<(), Failure> {
    bytes_out(format!("{line}\n").as_bytes())
}

/// Prints bytes as they are.
pub(crate) fn bytes_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // `baton logs | head`: the reader has what it wanted.
            std::process::exit(0);
        }
        Failure::failed(format_args!("cannot write to standard output: {error}"), "")
    })
}

/// Prints one JSON object on one line.
pub(crate) fn json_out(value: &impl Serialize) -> Result<(), Failure> {
    match serde_json::to_string(value) {
        Ok(text) => line_out(&text),
        Err(error) => {
            Err(Failure::failed(format_args!("cannot write JSON: {error}"), "report this as a bug"))
        }
    }
}

/// A number of bytes for people: three digits and a unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

/// Nanoseconds for people.
pub(crate) fn nanos(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} ns"),
        1_000..1_000_000 => format!("{}.{} µs", count / 1_000, count % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} ms", count / 1_000_000, count % 1_000_000 / 100_000),
        _ => format!("{}.{} s", count / 1_000_000_000, count % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (256 << 20, "256 MiB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with("TiB"));
        for (count, text) in
            [(999, "999 ns"), (24_500, "24.5 µs"), (2_000_000, "2.0 ms"), (3_100_000_000, "3.1 s")]
        {
            assert_eq!(nanos(count), text);
        }
    }

    #[test]
    fn colours_are_left_out_where_nobody_looks() {
        let plain = Style { colours: false };
        assert_eq!(plain.red("x"), "x");
        assert_eq!(Style { colours: true }.red("x"), "\x1b[31mx\x1b[0m");
    }
}
