//! `traceparent` (W3C Trace Context): taken as it comes when it is well-formed, made afresh when it is not.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Length of a `traceparent` of version 00.
const LEN: usize = 55;

/// A well-formed `traceparent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traceparent([u8; LEN]);

impl Traceparent {
    /// Reads a header value. A later version may carry more behind a dash: only the known part is passed on.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_first_chunk::<LEN>()?;
        let later = known.starts_with(b"ff") || rest.first().is_some_and(|next| *next != b'-');
        if later || (known.starts_with(b"00") && !rest.is_empty()) {
            return None;
        }
        let dash = |place: usize| matches!(place, 2 | 35 | 52);
        let shaped = known.iter().enumerate().all(|(place, byte)| match byte {
            b'-' => dash(place),
            b'0'..=b'9' | b'a'..=b'f' => !dash(place),
            _ => false,
        });
        let zero = |range: std::ops::Range<usize>| {
            known.get(range).is_none_or(|part| part.iter().all(|byte| *byte == b'0'))
        };
        (shaped && !zero(3..35) && !zero(36..52)).then_some(Self(*known))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only ASCII is ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Makes fresh ones. They must differ from each other, not be unguessable: nothing trusts a trace id.
#[derive(Debug)]
pub(crate) struct Tracer {
    state: Cell<u64>,
}

impl Tracer {
    pub(crate) fn new() -> Self {
        // The only source of randomness that std has: every RandomState is keyed afresh.
        Self { state: Cell::new(RandomState::new().build_hasher().finish()) }
    }

    pub(crate) fn fresh(&self) -> Traceparent {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        // An id of zeros is no id. Flags 00: the gateway records nothing itself.
        for (at, value) in [(3, self.next() | 1), (19, self.next()), (36, self.next() | 1)] {
            if let Some(place) = text.get_mut(at..at + 16) {
                write_hex(value, place);
            }
        }
        Traceparent(text)
    }

    /// `SplitMix64`.
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn write_hex(value: u64, place: &mut [u8]) {
    for (pair, byte) in place.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_ones_are_kept_and_others_are_not() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(good.as_bytes()).unwrap().as_str(), good);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert_eq!(Traceparent::parse(later.as_bytes()).unwrap().as_str(), &later[..LEN]);
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6-3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(Traceparent::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn fresh_ones_are_well_formed_and_differ() {
        let tracer = Tracer::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let fresh = tracer.fresh();
            assert!(Traceparent::parse(fresh.as_str().as_bytes()).is_some(), "{fresh:?}");
            assert!(seen.insert(fresh.as_str().to_owned()));
        }
    }
}
