//! The two tables of `baton top`, as rows of cells that know how much they matter.

use ratatui::layout::{Alignment, Constraint};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Row, Table};

use crate::cli::SortKey;
use crate::output::{bytes, nanos};
use crate::overview::{EdgeRates, FunctionRates};

/// A column: what is above it, how wide it is, and how wide the screen must be for it to be there.
struct Column {
    title: &'static str,
    width: u16,
    from: u16,
    sort: Option<SortKey>,
}

const fn column(title: &'static str, width: u16, from: u16, sort: Option<SortKey>) -> Column {
    Column { title, width, from, sort }
}

const FUNCTIONS: [Column; 12] = [
    column("FUNCTION", 0, 0, Some(SortKey::Name)),
    column("RUNS AS", 12, 132, None),
    column("READY", 7, 56, Some(SortKey::Replicas)),
    column("CALLS/S", 9, 0, Some(SortKey::Rate)),
    column("FAIL/S", 8, 40, Some(SortKey::Errors)),
    column("P50", 9, 48, Some(SortKey::P50)),
    column("P99", 9, 66, Some(SortKey::P99)),
    column("MEAN", 9, 112, None),
    column("FLIGHT", 7, 76, Some(SortKey::Flight)),
    column("WAIT", 6, 84, Some(SortKey::Queue)),
    column("CPU", 7, 94, Some(SortKey::Cpu)),
    column("CALLS", 9, 104, None),
];

const CALLS: [Column; 7] = [
    column("CALLER", 0, 0, None),
    column("CALLEE", 26, 0, None),
    column("CALLS/S", 9, 0, None),
    column("FAIL/S", 8, 70, None),
    column("HANDED/S", 11, 80, None),
    column("MEAN", 9, 60, None),
    column("REFUSED", 9, 90, None),
];

/// Three digits and no unit.
pub(super) fn count(value: f64) -> String {
    match value {
        v if v >= 999_950.0 => format!("{:.1}M", v / 1e6),
        v if v >= 9_999.5 => format!("{:.1}k", v / 1e3),
        v if v >= 99.95 => format!("{v:.0}"),
        0.0 => "0".to_owned(),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A number of things: no part of one.
fn whole(number: u64) -> String {
    if number < 10_000 { number.to_string() } else { count(number as f64) }
}

fn time(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), nanos)
}

/// What a name may not do to a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn cells(row: &FunctionRates) -> [(String, Style); 12] {
    let plain = Style::new();
    let quiet = Style::new().fg(Color::DarkGray);
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let zero = |value: f64| if value == 0.0 { quiet } else { plain };
    let known = |ns: Option<u64>| if ns.is_none() { quiet } else { plain };
    let ready = match (row.ready, row.replicas) {
        _ if row.ailing => red,
        (_, 0) => quiet,
        (ready, all) if ready < all => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Green),
    };
    let cpu = row.cpu_cores.map_or_else(|| "-".to_owned(), |cores| format!("{:.0} %", cores * 100.0));
    [
        (harmless(&format!("{}/{}", row.app, row.function)), plain.add_modifier(Modifier::BOLD)),
        (harmless(&row.runs_as), quiet),
        (format!("{}/{}", row.ready, row.replicas), ready),
        (count(row.calls_per_s), zero(row.calls_per_s)),
        (count(row.errors_per_s), if row.errors_per_s > 0.0 { red } else { quiet }),
        (time(row.p50_ns), known(row.p50_ns)),
        (time(row.p99_ns), known(row.p99_ns)),
        (time(row.mean_ns), known(row.mean_ns)),
        (row.in_flight.to_string(), zero(row.in_flight as f64)),
        (row.queued.to_string(), if row.queued > 0 { Style::new().fg(Color::Yellow) } else { quiet }),
        (cpu, if row.cpu_cores.is_none() { quiet } else { plain }),
        (whole(row.calls), zero(row.calls as f64)),
    ]
}

fn edge_cells(edge: &EdgeRates) -> [(String, Style); 7] {
    let plain = Style::new();
    let quiet = Style::new().fg(Color::DarkGray);
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate that is not negative; casts saturate"
    )]
    let handed = bytes(edge.bytes_per_s as u64);
    let live = if edge.calls_per_s > 0.0 { plain } else { quiet };
    [
        (harmless(&format!("{}/{}", edge.app, edge.caller)), live),
        (format!("→ {}", harmless(&edge.callee)), live),
        (count(edge.calls_per_s), live),
        (count(edge.errors_per_s), if edge.errors_per_s > 0.0 { red } else { quiet }),
        (handed, if edge.bytes_per_s > 0.0 { Style::new().fg(Color::Cyan) } else { quiet }),
        (time(edge.mean_ns), live),
        // Only the kernel refuses.
        (
            if edge.by_kernel { edge.refusals.to_string() } else { String::new() },
            if edge.refusals > 0 { red } else { quiet },
        ),
    ]
}

/// A table of as many columns as the width has room for; the first takes what is left.
fn table<const N: usize>(
    columns: &[Column; N],
    rows: Vec<[(String, Style); N]>,
    width: u16,
    sort: Option<(SortKey, bool)>,
) -> Table<'static> {
    let shown: Vec<usize> =
        (0..N).filter(|&at| columns.get(at).is_some_and(|column| width >= column.from)).collect();
    let cell = |at: usize, text: String, style: Style| {
        let right =
            at > 0 && columns.get(at).is_some_and(|column| !matches!(column.title, "RUNS AS" | "CALLEE"));
        Cell::from(Text::from(text).alignment(if right { Alignment::Right } else { Alignment::Left }))
            .style(style)
    };
    let head =
        shown.iter().filter_map(|&at| {
            let column = columns.get(at)?;
            let mark =
                match sort {
                    Some((key, reversed)) if column.sort == Some(key) => {
                        if reversed != (key == SortKey::Name) { "▲" } else { "▼" }
                    }
                    _ => "",
                };
            let style = if mark.is_empty() {
                Style::new()
            } else {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            };
            Some(cell(at, format!("{}{mark}", column.title), style))
        });
    let head = Row::new(head.collect::<Vec<_>>()).style(Style::new().fg(Color::Cyan));
    let body = rows.into_iter().map(|row| {
        let cells = row.into_iter().enumerate().filter(|(at, _)| shown.contains(at));
        Row::new(cells.map(|(at, (text, style))| cell(at, text, style)).collect::<Vec<_>>())
    });
    let widths = shown.iter().filter_map(|&at| columns.get(at)).map(|column| match column.width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(head).column_spacing(1)
}

/// The table of functions.
pub(super) fn functions(rows: &[&FunctionRates], width: u16, sort: (SortKey, bool)) -> Table<'static> {
    table(&FUNCTIONS, rows.iter().map(|row| cells(row)).collect(), width, Some(sort))
}

/// The table of calls.
pub(super) fn calls(rows: &[&EdgeRates], width: u16) -> Table<'static> {
    table(&CALLS, rows.iter().map(|edge| edge_cells(edge)).collect(), width, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.004, "0.00"),
            (1.5, "1.50"),
            (12.34, "12.3"),
            (999.0, "999"),
            (9999.0, "9999"),
            (12_345.0, "12.3k"),
            (2_500_000.0, "2.5M"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn names_do_nothing_to_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
