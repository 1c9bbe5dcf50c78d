//! `baton usage`: what functions used.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use baton_control::{UsageReport, Used};

use super::talk;
use crate::cli::UsageArgs;
use crate::client::escaped;
use crate::failure::Failure;
use crate::output::{Style, bytes, json_out, line_out, print_table, table};

pub(super) fn run(home: &Path, args: &UsageArgs) -> Result<(), Failure> {
    let mut path = "/v1/usage".to_owned();
    let mut mark = '?';
    if let Some(app) = &args.app {
        path.push_str(&format!("?app={}", escaped(app)));
        mark = '&';
    }
    if let Some(since) = args.since {
        path.push_str(&format!("{mark}since_s={}", since.as_secs()));
    }
    let report: UsageReport = talk(home, async |client| client.get(&path).await)?;
    if args.output.json {
        return json_out(&report);
    }
    if report.rows.is_empty() {
        return line_out("nothing was used in that time; accounts are looked at every 5 seconds");
    }
    let hours = report.until_s.saturating_sub(report.since_s).div_ceil(3600);
    line_out(
        &Style::stdout().faint(&format!("the last {hours} hours, from the beginning of the first one")),
    )?;
    let head = [
        "APP",
        "FUNCTION",
        "CALLS",
        "ERRORS",
        "CPU",
        "MEMORY",
        "IN",
        "OUT",
        "HANDED",
        "EGRESS",
        "COLD STARTS",
    ];
    let mut totals: BTreeMap<&str, Vec<&Used>> = BTreeMap::new();
    let mut rows = Vec::new();
    for row in &report.rows {
        totals.entry(&row.app).or_default().push(&row.used);
        rows.push(cells(&row.app, &row.function, &[&row.used]));
    }
    rows.extend(totals.iter().filter(|(_, of)| of.len() > 1).map(|(app, of)| cells(app, "all", of)));
    print_table(&table(&head, rows))
}

fn cells(app: &str, function: &str, of: &[&Used]) -> Vec<String> {
    let sum = |value: fn(&Used) -> u64| of.iter().map(|used| value(used)).fold(0, u64::saturating_add);
    let cold: Option<u64> = of.iter().filter_map(|used| used.cold_starts).reduce(u64::saturating_add);
    vec![
        app.to_owned(),
        function.to_owned(),
        sum(|used| used.invocations).to_string(),
        sum(|used| used.errors).to_string(),
        seconds(sum(|used| used.cpu_ns) / 1_000_000),
        gib_seconds(sum(|used| used.memory_mib_ms)),
        bytes(sum(|used| used.bytes_in)),
        bytes(sum(|used| used.bytes_out)),
        bytes(sum(|used| used.bytes_handed)),
        sum(|used| used.egress).to_string(),
        cold.map_or_else(|| "-".to_owned(), |cold| cold.to_string()),
    ]
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

fn gib_seconds(mib_ms: u64) -> String {
    format!("{} MiB s", mib_ms / 1000)
}

/// A time as `90m`, `24h` or `7d`.
pub(crate) fn back(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is no time, such as 90m, 24h or 7d");
    let unit = text.chars().next_back().ok_or_else(refused)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(refused()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|digits| digits.parse().ok()).ok_or_else(refused)?;
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(back("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(back("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "7", "h", "-1h", "1.5h", "1w", "ü"] {
            assert!(back(bad).is_err(), "{bad}");
        }
    }
}
