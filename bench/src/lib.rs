//! Benchmarks of Baton and their yardsticks: a load generator, scenarios, process accounting, reports.
//!
//! ```text
//! cli ──▶ suites ──▶ systems (who is measured) ─┬▶ proc (child processes, placement, processor time)
//!           │  │                                └▶ app (variants of a manifest)
//!           │  └───▶ boutique (what visitors do) ─▶ load (HTTP/1.1, closed and open loop)
//!           ├──────▶ report (medians, ratios, table, JSON)         yardstick (futex, Unix socket, broker)
//!           └──────▶ trace (what the kernel counts)
//!                                                                  courier (payloads through others' stores)
//! ```
//! Unsafe code is in `yardstick::sys` alone.

pub mod app;
pub mod boutique;
pub mod cli;
pub mod courier;
pub mod load;
mod locate;
pub mod proc;
pub mod report;
pub mod suites;
pub mod systems;
pub mod trace;
pub mod units;
pub mod yardstick;
