//! The mean load of the last while.

use std::time::Duration;

/// Parts of a window.
const PARTS: usize = 16;

/// A mean over a span that slides on in sixteen parts. A part without a look counts as little as one that has not been yet:
/// who is looked at again after a pause starts with what it is like then.
#[derive(Clone, Debug)]
pub(super) struct Window {
    part: Duration,
    /// Number of the part, counted from the caller's start, sum of what was seen in it, and how often it was looked.
    parts: [(u64, u64, u32); PARTS],
}

impl Window {
    pub(super) fn new(span: Duration) -> Self {
        let part = (span / u32::try_from(PARTS).unwrap_or(1)).max(Duration::from_millis(1));
        // Number 0 with no look in it is empty, whenever the caller started.
        Self { part, parts: [(0, 0, 0); PARTS] }
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / self.part.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    pub(super) fn add(&mut self, load: u64, now: Duration) {
        let number = self.number(now);
        let at = usize::try_from(number % PARTS as u64).unwrap_or_default();
        let Some(part) = self.parts.get_mut(at) else { return };
        if part.0 != number {
            *part = (number, 0, 0);
        }
        part.1 = part.1.saturating_add(load);
        part.2 = part.2.saturating_add(1);
    }

    /// The mean of all looks within the span.
    pub(super) fn mean(&self, now: Duration) -> u64 {
        let last = self.number(now);
        let within = |part: &&(u64, u64, u32)| part.0 <= last && last - part.0 < PARTS as u64;
        let sums = self.parts.iter().filter(within);
        let (sum, looks) = sums
            .fold((0u64, 0u64), |(sum, looks), part| (sum.saturating_add(part.1), looks + u64::from(part.2)));
        sum.div_ceil(looks.max(1))
    }
}
