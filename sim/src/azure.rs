//! What functions are like, as Azure Functions published it in 2019.
//!
//! Quantiles of the cumulative distributions that ServerlessBench derived from that trace (its test case 11): functions
//! of an app, calls of an app in a day, how irregular they are, how long they take on average, and what memory an app has. Values
//! between two quantiles are interpolated on a logarithmic scale.

/// A cumulative distribution: probability, value.
pub(crate) struct Quantiles(&'static [(f64, f64)]);

impl Quantiles {
    /// The value below which this share of all lies.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let above = self.0.partition_point(|(probability, _)| *probability < share);
        let (Some(&(high, to)), low) =
            (self.0.get(above), above.checked_sub(1).and_then(|at| self.0.get(at)))
        else {
            return self.0.last().map_or(0.0, |last| last.1);
        };
        match low {
            Some(&(low, from)) if from > 0.0 => {
                let way = (share - low) / (high - low);
                (from.ln() + way * (to.ln() - from.ln())).exp()
            }
            Some(&(low, from)) => from + (to - from) * (share - low) / (high - low),
            None => to,
        }
    }
}

/// Functions of an app; half of all apps have one.
pub(crate) const FUNCTIONS: Quantiles = Quantiles(&[
    (0.503252, 1.0),
    (0.723720, 2.0),
    (0.819163, 3.0),
    (0.870478, 4.0),
    (0.905496, 5.0),
    (0.967455, 10.0),
    (0.990998, 20.0),
    (0.998638, 50.0),
    (0.999757, 100.0),
    (1.0, 298.0),
]);

/// Calls of an app in a day: eight orders of magnitude.
pub(crate) const CALLS_PER_DAY: Quantiles = Quantiles(&[
    (0.138667, 1.0),
    (0.232595, 2.0),
    (0.359850, 10.0),
    (0.440101, 29.0),
    (0.501030, 74.0),
    (0.599530, 250.0),
    (0.654321, 289.0),
    (0.700750, 437.0),
    (0.752122, 600.0),
    (0.800115, 1_227.0),
    (0.897957, 4_320.0),
    (0.925311, 8_640.0),
    (0.943273, 15_802.0),
    (0.990030, 333_222.0),
    (0.995015, 954_419.0),
    (0.999011, 5_334_114.0),
    (0.999506, 9_914_976.0),
    (0.999876, 46_002_740.0),
    (1.0, 128_592_666.0),
]);

/// Coefficient of variation of the time between two calls: 0 is a timer, 1 is chance, above that come bursts.
pub(crate) const IRREGULARITY: Quantiles = Quantiles(&[
    (0.226678, 0.0),
    (0.249513, 0.02),
    (0.306884, 0.08),
    (0.350867, 0.135),
    (0.401622, 0.25),
    (0.457178, 0.4),
    (0.492446, 0.5),
    (0.539548, 0.7),
    (0.562909, 0.8),
    (0.588708, 0.888),
    (0.847886, 3.334),
    (0.874366, 4.0),
    (0.959890, 11.056),
    (0.965706, 12.5),
    (0.996287, 75.0),
    (0.999008, 185.5),
    (1.0, 1448.0),
]);

/// Milliseconds that a function takes on average.
pub(crate) const MILLISECONDS: Quantiles = Quantiles(&[
    (0.032449, 1.0),
    (0.047463, 5.0),
    (0.102987, 20.0),
    (0.166637, 50.0),
    (0.226992, 100.0),
    (0.317938, 200.0),
    (0.414580, 400.0),
    (0.452469, 500.0),
    (0.500909, 670.0),
    (0.573549, 1_000.0),
    (0.647933, 1_500.0),
    (0.692002, 2_000.0),
    (0.745859, 3_000.0),
    (0.803851, 5_000.0),
    (0.9, 16_555.0),
    (0.99, 222_620.0),
    (1.0, 900_000.0),
]);

/// Mebibytes that an app has allocated.
pub(crate) const MEBIBYTES: Quantiles = Quantiles(&[
    (0.000837, 70.0),
    (0.060703, 100.0),
    (0.244361, 115.0),
    (0.443298, 130.0),
    (0.507019, 140.0),
    (0.617048, 170.0),
    (0.713412, 180.0),
    (0.847323, 195.0),
    (0.912325, 210.0),
    (0.951453, 240.0),
    (0.971655, 300.0),
    (0.989691, 400.0),
    (0.994434, 500.0),
    (0.997597, 700.0),
    (0.999570, 1_000.0),
    (1.0, 1_460.0),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_source() {
        let check = |of: &Quantiles, share: f64, value: f64| {
            let found = of.at(share);
            assert!((found / value - 1.0).abs() < 0.02, "{found} instead of {value} at {share}");
        };
        check(&CALLS_PER_DAY, 0.5, 74.0);
        check(&CALLS_PER_DAY, 0.99, 333_222.0);
        check(&MILLISECONDS, 0.9, 16_555.0);
        check(&MEBIBYTES, 0.99, 405.0);
        check(&FUNCTIONS, 0.905, 5.0);
        check(&IRREGULARITY, 0.96, 11.06);
    }

    #[test]
    fn quantiles_rise() {
        for of in [&FUNCTIONS, &CALLS_PER_DAY, &IRREGULARITY, &MILLISECONDS, &MEBIBYTES] {
            let values: Vec<f64> = (0..=1000).map(|step| of.at(f64::from(step) / 1000.0)).collect();
            assert!(values.is_sorted(), "{values:?}");
        }
    }
}
