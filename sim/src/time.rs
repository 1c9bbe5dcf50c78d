//! Simulated time, and what is to happen when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Nanoseconds since the start of a simulation, or between two moments.
pub(crate) type Nanos = u64;

pub(crate) const MICROSECOND: Nanos = 1_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Seconds as nanoseconds.
pub(crate) fn nanos(seconds: f64) -> Nanos {
    whole(seconds * 1e9)
}

/// The whole part of a number that is not below 0.
#[expect(clippy::cast_possible_truncation, reason = "a cast of a float stays within bounds")]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// What is to happen. Of two things at one time, what was entered first comes first.
pub(crate) struct Agenda<E> {
    entries: BinaryHeap<Entry<E>>,
    entered: u64,
    now: Nanos,
}

struct Entry<E> {
    at: Nanos,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) const fn new() -> Self {
        Self { entries: BinaryHeap::new(), entered: 0, now: 0 }
    }

    /// The time of what happened last.
    pub(crate) const fn now(&self) -> Nanos {
        self.now
    }

    pub(crate) fn after(&mut self, delay: Nanos, event: E) {
        self.entries.push(Entry { at: self.now.saturating_add(delay), number: self.entered, event });
        self.entered += 1;
    }

    /// What happens next; time goes on to it.
    pub(crate) fn next(&mut self) -> Option<E> {
        let entry = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_happens_first() {
        let mut agenda = Agenda::new();
        for (delay, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (4, 'b')] {
            agenda.after(delay, event);
        }
        let happened: String = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(happened, "abcd");
        assert_eq!(agenda.now(), 5);
    }
}
