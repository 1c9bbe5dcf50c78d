//! Conversions between clocks, counts and figures, each saturating instead of wrapping.

use std::time::Duration;

/// Whole nanoseconds of a duration.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as microseconds with a fraction.
#[must_use]
pub fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

/// The whole part of a figure that is not negative.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the fraction is what shall go; `as` saturates")]
pub fn floor(figure: f64) -> u64 {
    figure as u64
}

/// A count as a 32-bit number, saturating.
#[must_use]
pub fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
