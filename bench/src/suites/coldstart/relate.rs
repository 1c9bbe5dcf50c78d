//! What is promised of a start, a reset and a further cell.

use crate::report::{Key, Promise, Report, Series};

use super::{RESET_CONCURRENCY, compartment};

/// Case, figure and the most that it may be.
const FIGURES: [(&str, &str, f64); 5] = [
    ("replica", "p50_us", 50.0),
    ("cell", "p50_us", 1000.0),
    ("cell", "p99_us", 3000.0),
    ("first-load", "p50_us", 1000.0),
    ("memory", "private_kib", 1024.0),
];
const RESET_US_MAX: f64 = 10.0;

pub(super) fn all(series: &Series, report: &mut Report) {
    for (case, figure, most) in FIGURES {
        let name = format!("{figure}_{}", case.replace('-', "_"));
        report.figure(&name, series, figure, &compartment(case), Some(Promise::AtMost(most)));
    }
    report.figure("private_kib_memory_used", series, "private_kib", &compartment("memory-used"), None);
    let process = Key::new("forkexec", "replica", 1);
    for case in ["replica", "cell", "first-load"] {
        let name = format!("p50_us_forkexec_over_{}", case.replace('-', "_"));
        report.ratio(&name, series, "p50_us", [&process, &compartment(case)], None);
    }
    let cell = compartment("cell");
    report.ratio("p50_us_workerd_over_cell", series, "p50_us", [&cell.of("workerd"), &cell], None);
    report.difference("p50_us_cell_minus_warm", series, "p50_us", [&cell, &compartment("warm")], None);
    let [one, many] = RESET_CONCURRENCY;
    let promise = || Some(Promise::AtMost(RESET_US_MAX));
    // One connection shows what a caller waits for; many show what is done after the answer, too.
    for (figure, concurrency) in [("p50_us", one), ("cpu_us_per_req", many)] {
        let of = |case| Key { concurrency, ..compartment(case) };
        let name = format!("{figure}_reset_minus_off_at_{concurrency}");
        report.difference(&name, series, figure, [&of("reset"), &of("reset-off")], promise());
    }
}
