//! Calls made again: when that does no harm, and within a budget, so that retries never become the load that they answer to.

use std::cell::Cell;
use std::time::Duration;

use baton_catalog::policy::Retry;

/// Retries that a quiet function may begin with.
const RESERVE: u64 = 10;
/// The budget in thousandths of a retry at most: what a busy time may save for a bad one.
const BUDGET_MAX: u64 = 100_000;

/// How an attempt failed, as far as that decides on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The function never had it: no replica, no room, no node.
    NotBegun,
    /// The function had it, and died or was lost with it.
    Died,
    /// It took too long.
    Late,
    /// It answered with this status.
    Status(u16),
    /// For good: another attempt would fail the same way.
    ForGood,
}

/// Whether a request may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts so far, the one that failed included.
    pub made: u32,
    /// Whether doing it twice does no harm: by its method, or since the function says so.
    pub is_idempotent: bool,
}

/// Retries of one handler.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) attempts: u32,
    pub(crate) per_attempt: Option<Duration>,
    pub(crate) body_max: u64,
    statuses: Vec<u16>,
    /// Thousandths of a retry that each request adds.
    share: u64,
    budget: Cell<u64>,
    pub(crate) made: Cell<u64>,
    /// Those that the budget did not allow.
    pub(crate) spared: Cell<u64>,
}

impl Again {
    pub(crate) fn new(settings: &Retry) -> Self {
        Self {
            attempts: settings.attempts,
            per_attempt: settings.per_attempt.map(baton_catalog::TimeSpan::duration),
            body_max: settings.body.bytes(),
            statuses: settings.statuses.clone(),
            share: u64::from(settings.budget) * 10,
            budget: Cell::new(RESERVE * 1000),
            made: Cell::new(0),
            spared: Cell::new(0),
        }
    }

    /// A request has come.
    pub(crate) fn earn(&self) {
        self.budget.set((self.budget.get() + self.share).min(BUDGET_MAX));
    }

    /// Whether the failed request is made again; takes it from the budget.
    pub(crate) fn decide(&self, attempt: Attempt, failed: Failed) -> bool {
        let is_safe = match failed {
            Failed::NotBegun => true,
            Failed::Died => attempt.is_idempotent,
            Failed::Late => attempt.is_idempotent && self.per_attempt.is_some(),
            Failed::Status(status) => attempt.is_idempotent && self.statuses.contains(&status),
            Failed::ForGood => false,
        };
        if !is_safe || attempt.made >= self.attempts {
            return false;
        }
        let Some(left) = self.budget.get().checked_sub(1000) else {
            self.spared.set(self.spared.get() + 1);
            return false;
        };
        self.budget.set(left);
        self.made.set(self.made.get() + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn again(statuses: &str) -> Again {
        let text = format!(r#"{{"attempts":3,"budget":20,"per_attempt":"1s","statuses":{statuses}}}"#);
        Again::new(&serde_json::from_str(&text).unwrap())
    }

    fn any_failure() -> impl Strategy<Value = Failed> {
        prop_oneof![
            Just(Failed::NotBegun),
            Just(Failed::Died),
            Just(Failed::Late),
            (400u16..600).prop_map(Failed::Status),
            Just(Failed::ForGood),
        ]
    }

    proptest! {
        #[test]
        fn what_may_not_be_done_twice_is_never_made_again_once_begun(
            failures in prop::collection::vec((any_failure(), 1u32..4), 1..50),
        ) {
            let again = again("[500,503]");
            for (failed, made) in failures {
                if again.decide(Attempt { made, is_idempotent: false }, failed) {
                    prop_assert_eq!(failed, Failed::NotBegun);
                    prop_assert!(made < 3);
                }
            }
        }

        #[test]
        fn retries_stay_within_their_share(requests in 1u64..2000) {
            let again = again("[503]");
            let mut made = 0u64;
            for _ in 0..requests {
                again.earn();
                for attempt in 1..=5 {
                    let attempt = Attempt { made: attempt, is_idempotent: true };
                    made += u64::from(again.decide(attempt, Failed::Status(503)));
                }
            }
            prop_assert!(made <= RESERVE + requests / 5 + 1, "{made} of {requests}");
            prop_assert_eq!(made, again.made.get());
        }
    }
}
