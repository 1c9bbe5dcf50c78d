//! Which invocations are looked at closely: by a receipt, by a trace, or by neither.
//!
//! While nothing is wanted of an invocation, deciding so costs one load. What is wanted travels with it: the hops of its
//! calls report their costs, which receipts and spans are made of.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// One invocation in so many gets a receipt: 1 for all, 0 for none.
    pub receipts_every: u32,
    /// Whether a request may ask for its own.
    pub on_demand: bool,
    /// Of a million requests that come without a trace so many begin one; `None` where nothing is traced at all.
    pub traces_ppm: Option<u32>,
}

/// The header by which a request asks for its own receipt: `1`.
pub const RECEIPT_HEADER: &str = "x-baton-receipt";
/// Traces out of so many requests.
const PPM: u64 = 1_000_000;
/// Length of a `traceparent` of version 00.
const LEN: usize = 55;

/// A W3C trace context: which trace something belongs to, and below which of its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether its spans are recorded.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00.
    #[must_use]
    pub fn parse(text: &str) -> Option<TraceContext> {
        let mut parts = text.split('-');
        let mut hex = |len: usize| {
            let part = parts.next().filter(|part| part.len() == len)?;
            let plain = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(part, 16).ok().filter(|_| plain)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let span = u64::try_from(span).ok()?;
        let is_whole = parts.next().is_none() && version == 0 && trace != 0 && span != 0;
        is_whole.then_some(TraceContext { trace, span, is_sampled: flags & 1 == 1 })
    }

    /// As a `traceparent`.
    #[must_use]
    pub fn text(&self) -> String {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled));
        debug_assert_eq!(text.len(), LEN, "version 00 has one length");
        text
    }
}

/// What is wanted of one invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// A receipt, since the request asks for one.
    pub receipt: bool,
    /// Spans of this trace.
    pub trace: Option<Traced>,
}

/// The trace that an invocation is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Where its first span stands: what functions see.
    pub context: TraceContext,
    /// The span of whoever sent the request; 0 if it said none.
    pub parent: u64,
}

/// Decides, and numbers spans.
#[derive(Debug)]
pub(crate) struct Watch {
    sampling: Cell<Sampling>,
    /// Invocations until the next receipt.
    until_receipt: Cell<u32>,
    chance: Cell<u64>,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let seed = RandomState::new().hash_one(0u8) | 1;
        Watch { sampling: Cell::default(), until_receipt: Cell::new(1), chance: Cell::new(seed) }
    }

    pub(crate) fn sampling(&self) -> Sampling {
        self.sampling.get()
    }

    pub(crate) fn set(&self, sampling: Sampling) {
        self.sampling.set(sampling);
        self.until_receipt.set(1);
    }

    /// Whether it is this invocation's turn to get a receipt.
    #[inline]
    pub(crate) fn receipt_due(&self) -> bool {
        let every = self.sampling.get().receipts_every;
        if every == 0 {
            return false;
        }
        let left = self.until_receipt.get().saturating_sub(1);
        self.until_receipt.set(if left == 0 { every } else { left });
        left == 0
    }

    /// A number that is no other's, as far as chance allows; never 0. Nothing trusts it.
    pub(crate) fn draw(&self) -> u64 {
        // SplitMix64.
        let state = self.chance.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.chance.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }

    /// What becomes of a request's trace. `given`: the client's own context; its word whether to record counts.
    pub(crate) fn trace(&self, given: Option<TraceContext>) -> Option<Traced> {
        let ppm = self.sampling.get().traces_ppm?;
        let context = |trace| TraceContext { trace, span: self.draw(), is_sampled: true };
        match given {
            Some(theirs) => {
                theirs.is_sampled.then(|| Traced { context: context(theirs.trace), parent: theirs.span })
            }
            None if u64::from(ppm) > self.draw() % PPM => {
                let trace = u128::from(self.draw()) << 64 | u128::from(self.draw());
                Some(Traced { context: context(trace), parent: 0 })
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_text_and_others_are_refused() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert!(context.is_sampled);
        assert_eq!((context.span, context.text().as_str()), (0x00f0_67aa_0ba9_02b7, text));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn receipts_come_first_and_then_every_so_often() {
        let watch = Watch::new();
        assert!(!watch.receipt_due());
        watch.set(Sampling { receipts_every: 3, ..Sampling::default() });
        let due: Vec<bool> = (0..7).map(|_| watch.receipt_due()).collect();
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn the_clients_word_counts_and_chance_decides_otherwise() {
        let watch = Watch::new();
        let theirs = TraceContext { trace: 5, span: 6, is_sampled: true };
        assert_eq!(watch.trace(Some(theirs)), None);
        watch.set(Sampling { traces_ppm: Some(0), ..Sampling::default() });
        let traced = watch.trace(Some(theirs)).unwrap();
        assert_eq!((traced.context.trace, traced.parent), (5, 6));
        assert!(traced.context.is_sampled && traced.context.span != 6);
        assert_eq!(watch.trace(None), None);
        watch.set(Sampling { traces_ppm: Some(250_000), ..Sampling::default() });
        assert_eq!(watch.trace(Some(TraceContext { is_sampled: false, ..theirs })), None);
        let begun = (0..4000).filter(|_| watch.trace(None).is_some()).count();
        assert!((800..1200).contains(&begun), "{begun}");
    }
}
