//! What the fuzz targets share: where their inputs come from, and for how long.
//!
//! Every target is an ordinary test that runs for `BATON_FUZZ_SECONDS` (5 by default): among all others, or optimised by
//! `cargo xtask fuzz`. Inputs are random bytes; one that fails is shrunk and printed as the bytes that a regression test can use.
//! (No coverage-guided engine: bolero pins a version of `indexmap` that the manifest's parser cannot live with.)
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// How long a target runs when nobody says.
const SECONDS_DEFAULT: u64 = 5;
/// Inputs between two looks at the clock.
const ROUND: u32 = 64;
/// Largest input, bytes.
pub const INPUT_BYTES_MAX: usize = 4096;

/// How long each target runs.
#[must_use]
pub fn time() -> Duration {
    let asked = std::env::var("BATON_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(SECONDS_DEFAULT))
}

/// Feeds `target` inputs of up to `len` bytes until its time is over.
///
/// # Panics
/// With the smallest input that makes `target` panic.
pub fn fuzz(len: usize, target: impl Fn(&[u8])) {
    let config = Config { cases: ROUND, failure_persistence: None, ..Config::default() };
    let short = prop::collection::vec(any::<u8>(), 0..=len.min(64));
    let long = prop::collection::vec(any::<u8>(), 0..=len);
    let inputs = prop_oneof![2 => short, 1 => long];
    let until = Instant::now() + time();
    let mut count = 0u64;
    while Instant::now() < until {
        // A runner is done after its round: each has a seed of its own.
        let outcome = TestRunner::new(config.clone()).run(&inputs, |input| {
            target(&input);
            Ok::<(), TestCaseError>(())
        });
        if let Err(error) = outcome {
            panic!("after {count} good inputs: {error}");
        }
        count += u64::from(ROUND);
    }
    println!("{count} inputs");
}

/// Takes numbers off the front of an input; zeros when it is used up.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Source<'a> {
        Source(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// The next `len` bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
