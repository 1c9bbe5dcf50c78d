//! Benchmarks of Baton and their yardsticks: a load generator, scenarios, process accounting, reports.

pub mod load;
pub mod proc;
pub mod report;
pub mod units;
