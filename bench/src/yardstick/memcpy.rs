//! What copying a payload once costs: the least that a hand-over by value could take.

use std::hint::black_box;

use super::{RoundTrips, YardstickError, measure_batches};

pub(super) fn run(payload: usize, iterations: u64, batch: u64) -> Result<RoundTrips, YardstickError> {
    // Not zero pages: those would all be one page, warm in the cache.
    let from = vec![1_u8; payload];
    let mut to = vec![2_u8; payload];
    measure_batches(iterations, batch, || {
        black_box(&mut to).copy_from_slice(black_box(&from));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_take_longer() {
        let [small, large] = [64, 4 << 20].map(|payload| run(payload, 20, 2).unwrap());
        assert!(large.p50_ns > small.p50_ns, "{large:?} {small:?}");
    }
}
