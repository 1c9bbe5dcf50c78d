//! The report for eyes: one table of rows, one of ratios.

use comfy_table::{CellAlignment, Table, presets};

use super::{Promise, Report, Row};

/// The columns after the keys, in order; those that no row has are left out. The JSON holds more.
const COLUMNS: [(&str, &str); 22] = [
    ("offered_rps", "offered/s"),
    ("rps", "req/s"),
    ("p50_us", "p50 µs"),
    ("p95_us", "p95 µs"),
    ("p99_us", "p99 µs"),
    ("touch_us", "touch µs"),
    ("mib_per_s", "MiB/s"),
    ("cpu_us_per_req", "CPU µs/req"),
    ("idle_share", "cores at rest"),
    ("switches_per_req", "switches/req"),
    ("wakeups_per_req", "wake-ups"),
    ("interrupts_per_req", "interrupts"),
    ("syscalls_per_req", "system calls"),
    ("passes_per_req", "passes"),
    ("copies_per_req", "copies"),
    ("encodes_per_req", "encodes"),
    ("decodes_per_req", "decodes"),
    ("heads_per_req", "heads"),
    ("moving_ms", "moving ms"),
    ("moving_percent", "moving %"),
    ("rss_mib", "RSS MiB"),
    ("private_kib", "private KiB"),
];

impl Report {
    /// The tables as text.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} on {}, {} cores, Linux {}; medians of {} interleaved rounds [least–greatest]\n{}\n",
            self.bench,
            self.machine.cpu,
            self.machine.cores,
            self.machine.kernel,
            self.rounds,
            rows_table(&self.rows)
        );
        if !self.ratios.is_empty() {
            text.push_str(&format!("{}\n", self.ratios_table()));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }

    fn ratios_table(&self) -> Table {
        let mut table = new_table(vec!["ratio".into(), "median".into(), "range".into(), "promised".into()]);
        for (name, value) in &self.ratios {
            let range = self.ratio_ranges.get(name).map(|[a, b]| format!("{}–{}", number(*a), number(*b)));
            let promise = self.promises.get(name).map(|promise| {
                let (sign, bound) = match promise {
                    Promise::AtLeast(bound) => ("≥", bound),
                    Promise::AtMost(bound) => ("≤", bound),
                };
                format!("{sign} {bound} {}", if promise.is_kept(*value) { "kept" } else { "NOT KEPT" })
            });
            table.add_row(vec![
                name.clone(),
                number(*value),
                range.unwrap_or_default(),
                promise.unwrap_or_default(),
            ]);
        }
        table
    }
}

fn rows_table(rows: &[Row]) -> Table {
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(name, _)| rows.iter().any(|r| r.figures.contains_key(*name))).collect();
    let mut header: Vec<String> = ["case", "system", "bytes", "c"].map(str::to_owned).to_vec();
    header.extend(columns.iter().map(|(_, title)| (*title).to_owned()));
    header.push("errors".into());
    let mut table = new_table(header);
    for row in rows {
        let mut cells =
            vec![row.case.clone(), row.system.clone(), size(row.payload_bytes), row.concurrency.to_string()];
        cells.extend(columns.iter().map(|(name, _)| figure(row, name)));
        cells.push(row.errors.to_string());
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn new_table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn figure(row: &Row, name: &str) -> String {
    match (row.figures.get(name), row.min.get(name), row.max.get(name)) {
        (Some(median), Some(min), Some(max)) if row.rounds > 1 => {
            format!("{} [{}–{}]", number(*median), number(*min), number(*max))
        }
        (Some(median), ..) => number(*median),
        _ => String::new(),
    }
}

/// Three significant digits, thousands as k.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100_000.0 => format!("{:.0}k", value / 1000.0),
        v if v >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_short() {
        assert_eq!(
            [0.1234, 1.234, 12.34, 123.4, 12_340.0, 123_400.0].map(number),
            ["0.123", "1.23", "12.3", "123", "12.3k", "123k"]
        );
        assert_eq!([64, 4096, 1 << 20, 1000].map(size), ["64 B", "4 KiB", "1 MiB", "1000 B"]);
    }
}
