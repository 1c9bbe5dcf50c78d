//! Chance, the same again for the same seed on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Gamma};

/// A source of random numbers.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// Numbers of a seed; each stream of it is independent of the others.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// Any 32 bits.
    pub(crate) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// At least 0, below 1.
    pub(crate) fn share(&mut self) -> f64 {
        f64::from(self.word()) / (f64::from(u32::MAX) + 1.0)
    }

    /// At least 0, below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: u32) -> u32 {
        let product = u64::from(self.word()) * u64::from(count);
        u32::try_from(product >> u32::BITS).unwrap_or_default()
    }

    /// A gamma variable of this mean; `shape` is one over the square of its coefficient of variation.
    pub(crate) fn gamma(&mut self, shape: f64, mean: f64) -> f64 {
        Gamma::new(shape, mean / shape).map_or(mean, |gamma| gamma.sample(&mut self.0))
    }
}
