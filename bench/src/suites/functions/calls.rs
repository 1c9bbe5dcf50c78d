//! Callers that draw functions at random and compare every answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::modules::{answer, path};
use super::{FunctionsOptions, SuiteError};
use crate::load::{Caller, ClientError};

/// What a call may take: more than a function's own time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of all calls.
#[derive(Debug)]
pub(super) struct Called {
    /// Times of first calls of a function, microseconds.
    pub(super) first: Histogram<u64>,
    /// Times of all others.
    pub(super) further: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Functions that were called.
    pub(super) functions: u64,
}

impl Called {
    fn new() -> Self {
        let longest = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
        let bounded = Histogram::new_with_bounds(1, longest, 3);
        let times =
            || bounded.clone().unwrap_or_else(|error| unreachable!("bounds that are allowed: {error}"));
        Self { first: times(), further: times(), errors: 0, first_error: None, functions: 0 }
    }

    fn add(mut self, other: Self) -> Self {
        // Both have the same bounds.
        let _ = self.first.add(&other.first);
        let _ = self.further.add(&other.further);
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
        self
    }

    fn note(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

/// SplitMix64: the same functions for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // The high half of the product is below the bound.
        u32::try_from((u128::from(word) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

/// Calls until the time or the number of calls is used up.
pub(super) fn run(address: SocketAddr, options: FunctionsOptions) -> Result<Called, SuiteError> {
    let seen: Vec<AtomicBool> = (0..options.functions).map(|_| AtomicBool::new(false)).collect();
    let (left, until) = (AtomicU64::new(options.calls_max), Instant::now() + options.calls_for);
    let may_go_on = || {
        let one_less = |left: u64| left.checked_sub(1);
        Instant::now() < until && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    };
    let call = |number: u32| -> Result<Called, ClientError> {
        let mut draw = Draw(options.seed.wrapping_add(u64::from(number) << 32));
        let mut called = Called::new();
        let mut caller = Caller::connect(address, PATIENCE)?;
        while may_go_on() {
            let function = draw.below(options.functions);
            let request = format!("GET {} HTTP/1.1\r\nhost: {address}\r\n\r\n", path(function));
            let is_first =
                seen.get(function as usize).is_some_and(|seen| !seen.swap(true, Ordering::Relaxed));
            let begun = Instant::now();
            match caller.request(request.as_bytes()) {
                Ok(found) if found.status == 200 && found.body == answer(function).as_bytes() => {
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let times = if is_first { &mut called.first } else { &mut called.further };
                    times.saturating_record(took);
                }
                Ok(found) => called.note(format!(
                    "function {function}: status {}, {}",
                    found.status,
                    String::from_utf8_lossy(&found.body).trim()
                )),
                Err(error) => {
                    called.note(format!("function {function}: {error}"));
                    caller = Caller::connect(address, PATIENCE)?;
                }
            }
        }
        Ok(called)
    };
    let all = thread::scope(|scope| {
        let callers: Vec<_> = (0..options.callers).map(|number| scope.spawn(move || call(number))).collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        let results = joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Result<Vec<Called>, ClientError>>()
    })?;
    let mut called = all.into_iter().fold(Called::new(), Called::add);
    called.functions = seen.iter().filter(|seen| seen.load(Ordering::Relaxed)).count() as u64;
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_and_repeatable() {
        let draws = |seed| {
            let mut draw = Draw(seed);
            (0..10_000).map(|_| draw.below(100)).collect::<Vec<u32>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let mut counts = [0u32; 100];
        draws(7).iter().for_each(|&drawn| counts[drawn as usize] += 1);
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
    }
}
