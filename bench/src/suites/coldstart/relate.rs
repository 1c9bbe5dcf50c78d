//! What is promised of a start, a reset and a further cell.

use crate::app::Isolation;
use crate::report::{Key, Promise, Report, Series};

use super::{RESET_CONCURRENCY, key};

/// Case, figure and the most that it may be.
const FIGURES: [(&str, &str, f64); 5] = [
    ("replica", "p50_us", 50.0),
    ("cell", "p50_us", 1000.0),
    ("cell", "p99_us", 3000.0),
    ("first-load", "p50_us", 1000.0),
    ("memory", "private_kib", 1024.0),
];
const RESET_US_MAX: f64 = 10.0;

/// What is promised is promised of native functions; of modules the same figures are shown.
pub(super) fn all(isolation: Isolation, series: &Series, report: &mut Report) {
    let is_native = isolation == Isolation::Compartment;
    let short =
        |name: &str| if is_native { name.to_owned() } else { format!("{}_{name}", isolation.short()) };
    let cell_key = |case: &str| key(isolation, case);
    for (case, figure, most) in FIGURES {
        let name = format!("{figure}_{}", short(&case.replace('-', "_")));
        let promise = is_native.then_some(Promise::AtMost(most));
        report.figure(&name, series, figure, &cell_key(case), promise);
    }
    report.figure(
        &format!("private_kib_{}", short("memory_used")),
        series,
        "private_kib",
        &cell_key("memory-used"),
        None,
    );
    let process = Key::new("forkexec", "replica", 1);
    for case in ["replica", "cell", "first-load"] {
        let name = format!("p50_us_forkexec_over_{}", short(&case.replace('-', "_")));
        report.ratio(&name, series, "p50_us", [&process, &cell_key(case)], None);
    }
    let cell = cell_key("cell");
    report.ratio(
        &format!("p50_us_workerd_over_{}", short("cell")),
        series,
        "p50_us",
        [&cell.of("workerd"), &cell],
        None,
    );
    report.difference(
        &format!("p50_us_{}_minus_warm", short("cell")),
        series,
        "p50_us",
        [&cell, &cell_key("warm")],
        None,
    );
    let [one, many] = RESET_CONCURRENCY;
    let promise = || is_native.then_some(Promise::AtMost(RESET_US_MAX));
    // One connection shows what a caller waits for; many show what is done after the answer, too.
    for (figure, concurrency) in [("p50_us", one), ("cpu_us_per_req", many)] {
        let of = |case| Key { concurrency, ..cell_key(case) };
        let name = format!("{figure}_{}_minus_off_at_{concurrency}", short("reset"));
        report.difference(&name, series, figure, [&of("reset"), &of("reset-off")], promise());
    }
}
