//! Which of two versions of an app answers a request.
//!
//! ```text
//!   who asks ──fingerprint──▶ a place in 0..10 000 ──below the share?──▶ the newer version
//!   nobody known ──turn──▶ every n-th request, evenly spread
//! ```
//!
//! A place depends on who asks and on the newer version's number only: every node of a cluster gives the same answer without
//! asking anybody, it stays the same over restarts, and a share that rises takes new ones over and gives none back.

/// What part of the requests a version has, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All requests.
    pub const ALL: Share = Share(WHOLE);
    /// None of them.
    pub const NONE: Share = Share(0);

    /// A share in hundredths of a percent; `None` beyond the whole.
    #[must_use]
    pub const fn new(hundredths: u16) -> Option<Share> {
        if hundredths <= WHOLE { Some(Share(hundredths)) } else { None }
    }

    /// In hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Share {
        Share(WHOLE - self.0)
    }

    /// Whether whoever has this place is among it.
    #[must_use]
    pub const fn takes(self, place: Place) -> bool {
        place.0 < self.0
    }
}

/// The whole, in hundredths of a percent.
const WHOLE: u16 = 10_000;

/// Where someone stands in the order in which a newer version takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u16);

/// The place of whoever is known by `key` in the order of version `version`.
#[must_use]
pub fn place(key: &[u8], version: u64) -> Place {
    // FNV-1a, which is cheap for a few dozen bytes, and a finish that makes every bit of the place depend on all of it.
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ mixed(version);
    for &byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    scaled(mixed(hash))
}

/// The place of the request that comes `turn`-th, of someone who is not known: shares are met evenly within any
/// stretch of requests.
#[must_use]
pub const fn turn(turn: u64) -> Place {
    // The golden ratio's multiples fall evenly into any interval.
    scaled(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The upper half of a product: a number below the whole, evenly.
const fn scaled(hash: u64) -> Place {
    let product = (hash as u128 * WHOLE as u128) >> 64;
    // Below the whole, which fits.
    Place((product & 0xffff) as u16)
}

/// The finish of `splitmix64`.
const fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(percent: u16) -> Share {
        Share::new(percent * 100).unwrap()
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        for number in 0..20_000_u64 {
            let places = [place(&number.to_le_bytes(), 7), turn(number)];
            assert!(places.iter().all(|at| Share::ALL.takes(*at) && !Share::NONE.takes(*at)));
        }
        assert_eq!((Share::new(10_001), share(10).rest()), (None, share(90)));
    }

    #[test]
    fn a_place_is_pinned_since_nodes_of_several_versions_must_agree() {
        let places = [place(b"alice", 2), place(b"bob", 2), place(b"alice", 3), place(b"", 1)];
        assert_eq!(places.map(|at| at.0), PINNED);
    }

    const PINNED: [u16; 4] = [6164, 1374, 4749, 634];

    proptest! {
        #[test]
        fn shares_are_met_within_bounds_by_many(percent in 0..=100_u16, version in any::<u64>(), salt in any::<u32>()) {
            const MANY: u32 = 4000;
            let key = |number: u32| format!("session-{salt}-{number}");
            let taken = (0..MANY).filter(|number| share(percent).takes(place(key(*number).as_bytes(), version))).count();
            let expect = f64::from(MANY) * f64::from(percent) / 100.0;
            // Six standard deviations of a coin that falls so.
            let most = 6.0 * (expect * (1.0 - f64::from(percent) / 100.0)).sqrt() + 1.0;
            prop_assert!((taken as f64 - expect).abs() <= most, "{taken} of {MANY} at {percent} %");
        }

        #[test]
        fn turns_are_met_nearly_exactly_in_any_stretch(percent in 0..=100_u16, from in any::<u64>(), stretch in 1..2000_u64) {
            let from = from.min(u64::MAX - stretch);
            let taken = (from..from + stretch).filter(|number| share(percent).takes(turn(*number))).count();
            let expect = stretch as f64 * f64::from(percent) / 100.0;
            prop_assert!((taken as f64 - expect).abs() <= 6.0, "{taken} of {stretch} at {percent} %");
        }

        #[test]
        fn whoever_was_taken_over_stays_and_rising_shares_only_add(
            key in prop::collection::vec(any::<u8>(), 0..64),
            version in any::<u64>(),
            shares in (0..=10_000_u16, 0..=10_000_u16),
        ) {
            let at = place(&key, version);
            prop_assert_eq!(at, place(&key, version));
            let (less, more) = (shares.0.min(shares.1), shares.0.max(shares.1));
            let takes = |hundredths| Share::new(hundredths).unwrap().takes(at);
            prop_assert!(!takes(less) || takes(more));
        }
    }
}
