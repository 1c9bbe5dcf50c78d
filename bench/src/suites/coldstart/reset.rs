//! What going back to the snapshot after each request costs a function that makes 25 pages dirty.

use crate::load::{Pace, Plan, get};
use crate::report::{Key, Series};
use crate::suites::sampling::{Timing, take};
use crate::systems::Fleet;

use super::{PATIENCE, RESET_CONCURRENCY, Stage, SuiteError, wrong};

/// The cases and the paths of their functions.
const CASES: [(&str, &str); 2] = [("reset-off", "/dirty"), ("reset", "/dirty-reset")];
const PAGES: &str = "25";

/// Makes sure that one function finds its pages clean each time, and the other does not.
pub(super) fn check(fleet: &Fleet) -> Result<(), SuiteError> {
    for (case, path) in CASES {
        let mut clean = String::new();
        for _ in 0..2 {
            let answer = get(fleet.address, path, None, PATIENCE)?;
            clean = String::from_utf8_lossy(&answer.body).into_owned();
        }
        if (case == "reset") != (clean == PAGES) {
            return Err(wrong(case, format!("at its second request {clean} of {PAGES} pages were clean")));
        }
    }
    Ok(())
}

pub(super) fn measure(stage: &Stage, timing: Timing, series: &mut Series) -> Result<(), SuiteError> {
    for concurrency in RESET_CONCURRENCY {
        for (case, path) in CASES {
            let fleet = &stage.resets;
            let plan = Plan::get(fleet.address, path);
            let plans = (0..concurrency).map(|_| plan.clone()).collect();
            let sample = take(fleet, plans, Pace::Closed, timing)?;
            series.add(Key { concurrency, ..stage.key(case) }, sample);
        }
    }
    Ok(())
}
