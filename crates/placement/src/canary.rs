//! Whether a newer version answers worse than the one before: the judge of a roll-back.

/// How many requests a version answered, and how many of them with a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// All of them, failures included.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Answered {
    /// What was added since an earlier look.
    #[must_use]
    pub const fn since(self, before: Answered) -> Answered {
        Answered {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
        }
    }

    /// Failures in hundredths of a percent; nothing failed of nothing.
    #[must_use]
    pub fn rate(self) -> u16 {
        let of_all = u128::from(self.failures.min(self.requests)) * 10_000;
        let rate = of_all.checked_div(u128::from(self.requests)).unwrap_or(0);
        u16::try_from(rate).unwrap_or(10_000)
    }
}

/// When a version counts as worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How much higher its share of failures may be, in hundredths of a percent.
    pub errors: u16,
    /// Requests that it must have answered before anything is said about it.
    pub after: u64,
}

/// What is to be done about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little is known.
    Unknown,
    /// It is no worse than the one before.
    Fit,
    /// It is worse: back to the one before.
    Worse {
        /// Its share of failures, in hundredths of a percent.
        rate: u16,
        /// That of the one before.
        before: u16,
    },
}

/// Judges a version by what it answered, against what the one before answered.
///
/// An old version that answered nothing counts as one without failures. The comparison is of whole numbers, so that no
/// rounding ever lets a share through that lies above the threshold.
#[must_use]
pub fn judge(terms: Terms, new: Answered, old: Answered) -> Verdict {
    if new.requests == 0 || new.requests < terms.after {
        return Verdict::Unknown;
    }
    let failures = |answered: Answered| u128::from(answered.failures.min(answered.requests));
    let (fresh, former) = (u128::from(new.requests), u128::from(old.requests.max(1)));
    // new.failures / new.requests > old.failures / old.requests + errors / 10 000, over one denominator.
    let worse = failures(new).saturating_mul(former).saturating_mul(10_000);
    let allowed =
        failures(old).saturating_mul(10_000).saturating_add(u128::from(terms.errors).saturating_mul(former));
    if worse > allowed.saturating_mul(fresh) {
        Verdict::Worse { rate: new.rate(), before: old.rate() }
    } else {
        Verdict::Fit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { errors: 500, after: 20 };

    fn answered(requests: u64, failures: u64) -> Answered {
        Answered { requests, failures }
    }

    #[test]
    fn it_takes_enough_requests_and_more_failures_than_before() {
        let check = |new, old, expect| assert_eq!(judge(TERMS, new, old), expect, "{new:?} {old:?}");
        check(answered(19, 19), answered(100, 0), Verdict::Unknown);
        check(answered(20, 20), answered(100, 0), Verdict::Worse { rate: 10_000, before: 0 });
        check(answered(20, 1), answered(100, 0), Verdict::Fit);
        check(answered(100, 6), answered(100, 0), Verdict::Worse { rate: 600, before: 0 });
        check(answered(100, 6), answered(100, 1), Verdict::Fit);
        check(answered(100, 50), answered(100, 50), Verdict::Fit);
        check(answered(100, 6), answered(0, 0), Verdict::Worse { rate: 600, before: 0 });
        assert_eq!(judge(Terms { after: 0, ..TERMS }, answered(0, 0), answered(9, 9)), Verdict::Unknown);
    }

    #[test]
    fn looks_count_from_where_they_began() {
        assert_eq!(answered(30, 4).since(answered(10, 4)), answered(20, 0));
        assert_eq!(answered(1, 1).since(answered(10, 4)), answered(0, 0), "a replaced count starts anew");
    }

    proptest! {
        #[test]
        fn a_version_that_fails_no_more_often_is_never_worse(
            requests in 1..10_000_u64, failures in 0..10_000_u64, errors in 0..10_000_u16,
        ) {
            let same = answered(requests, failures.min(requests));
            let terms = Terms { errors, after: 0 };
            prop_assert_eq!(judge(terms, same, same), Verdict::Fit);
            prop_assert_eq!(judge(terms, answered(requests, 0), same), Verdict::Fit);
        }

        #[test]
        fn more_failures_never_make_it_fit(
            requests in 1..1000_u64, failures in 0..1000_u64, more in 0..1000_u64, old in (0..1000_u64, 0..1000_u64),
        ) {
            let old = answered(old.0, old.1.min(old.0));
            let is_worse = |failures: u64| {
                matches!(judge(Terms { errors: 500, after: 0 }, answered(requests, failures), old), Verdict::Worse { .. })
            };
            prop_assert!(!is_worse(failures.min(requests)) || is_worse((failures + more).min(requests)));
        }

        #[test]
        fn nothing_overflows(new in any::<(u64, u64)>(), old in any::<(u64, u64)>(), terms in any::<(u16, u64)>()) {
            let terms = Terms { errors: terms.0, after: terms.1 };
            let _ = judge(terms, answered(new.0, new.1), answered(old.0, old.1));
        }
    }
}
