//! The clock of a Wasm module: its host's.

use crate::gates::Page;

const CLOCK_MONOTONIC: u64 = 1;

/// `CLOCK_MONOTONIC`, nanoseconds: one clock for all functions and processes of a machine, so that times of several compare.
#[must_use]
pub fn now_ns() -> u64 {
    Page.clock_ns(CLOCK_MONOTONIC)
}
