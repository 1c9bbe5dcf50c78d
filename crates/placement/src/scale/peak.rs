//! The most that was needed in the last while.

use std::time::Duration;

/// Counts that are told apart: what is forgotten is a smaller count that was needed longer, never a larger one.
const STAIRS: usize = 16;

/// Counts with the time at which each was last needed, as stairs that go down: the newer, the lower.
#[derive(Clone, Debug, Default)]
pub(super) struct Peak {
    stairs: Vec<(Duration, u32)>,
}

impl Peak {
    pub(super) fn note(&mut self, needed: u32, within: Duration, now: Duration) {
        let newest = self.stairs.last().map_or(Duration::ZERO, |stair| stair.0);
        let now = now.max(newest);
        self.stairs.retain(|&(at, count)| count > needed && now.saturating_sub(at) < within);
        if self.stairs.len() >= STAIRS {
            // Two neighbours become one, as high as the higher and as new as the newer: replicas stay longer, not shorter.
            let second = self.stairs.remove(1);
            if let Some(first) = self.stairs.first_mut() {
                first.0 = second.0;
            }
        }
        self.stairs.push((now, needed));
    }

    /// The most within a span before now.
    pub(super) fn within(&self, span: Duration, now: Duration) -> u32 {
        let recent = self.stairs.iter().filter(|&&(at, _)| now.saturating_sub(at) < span);
        recent.map(|&(_, count)| count).max().unwrap_or_default()
    }
}
