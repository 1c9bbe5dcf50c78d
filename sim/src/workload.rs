//! The apps of a simulated cluster, and when they are called.

use crate::azure;
use crate::dice::Dice;
use crate::time::{Nanos, SECOND, nanos, whole};

/// Handlers are cut off here, as they would be by a function's timeout: a window of a minute says nothing about longer ones.
const SECONDS_MAX: f64 = 30.0;
/// What one app may ask of all cores. Popularity and duration are drawn apart from each other, so that once in a while the most called
/// app would also be one of the slowest, and be half of the load.
const APP_SHARE_MAX: f64 = 0.02;
/// Calls of one invocation, one after the other.
const STEPS_MAX: u32 = 4;
/// Bursts are no wilder than this, so that a minute has more than one.
const IRREGULARITY_MAX: f64 = 12.0;
/// Calls of one function that run at a time on one node, on average and at most.
const AT_ONCE: f64 = 8.0;
const MEBIBYTE: f64 = 1_048_576.0;

/// A function of an app.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Seconds that it takes on average.
    pub(crate) seconds: f64,
    /// How long a new replica takes to be ready: from a cell's fork to an interpreter with its libraries.
    pub(crate) start: Nanos,
    pub(crate) memory: u64,
    /// Replicas that its manifest allows.
    pub(crate) replicas: u32,
}

/// An app.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) functions: Vec<Function>,
    /// The number of its first function among those of all apps.
    pub(crate) first: u32,
    /// Seconds between two invocations on average.
    pub(crate) gap: f64,
    irregularity: f64,
    /// Whether its calls may be made again if their node is lost.
    pub(crate) idempotent: bool,
}

/// Draws apps that keep `cores` busy to this share.
pub(crate) fn apps(count: u32, cores: f64, load: f64, seed: u64) -> Vec<App> {
    let mut dice = Dice::new(seed, 1);
    let mut first = 0;
    let mut apps = Vec::new();
    for number in 0..count {
        let app = draw(number, first, &mut dice);
        first += u32::try_from(app.functions.len()).unwrap_or(u32::MAX);
        apps.push(app);
    }
    scale(&mut apps, cores * APP_SHARE_MAX, cores * load);
    apps
}

/// Draws functions, each an app of its own, that are called as often as Azure's were: with `least` seconds between two calls, and
/// not so often that more than a few run at a time on average, as nobody would have it on one node.
pub(crate) fn single(count: u32, least: f64, seed: u64) -> Vec<App> {
    let mut dice = Dice::new(seed, 11);
    let draw_one = |number| {
        let mut app = draw(number, number, &mut dice);
        app.functions.truncate(1);
        let seconds = app.functions.first().map_or(0.0, |function| function.seconds);
        app.gap = app.gap.max(least).max(seconds / AT_ONCE);
        app
    };
    (0..count).map(draw_one).collect()
}

fn draw(number: u32, first: u32, dice: &mut Dice) -> App {
    let count = azure::FUNCTIONS.at(dice.share()).ceil();
    let mebibytes = azure::MEBIBYTES.at(dice.share()) / count;
    let mut functions = Vec::new();
    while f64::from(u32::try_from(functions.len()).unwrap_or(u32::MAX)) < count {
        functions.push(Function {
            name: format!("f{}", functions.len()),
            seconds: (azure::MILLISECONDS.at(dice.share()) / 1e3).min(SECONDS_MAX),
            // 1 ms to 300 ms, each order of magnitude as likely as another.
            start: nanos(1e-3 * 300_f64.powf(dice.share())),
            memory: whole(mebibytes * MEBIBYTE),
            replicas: 1,
        });
    }
    App {
        name: format!("app-{number}"),
        functions,
        first,
        gap: 86_400.0 / azure::CALLS_PER_DAY.at(dice.share()),
        irregularity: azure::IRREGULARITY.at(dice.share()).min(IRREGULARITY_MAX),
        idempotent: dice.share() < 0.5,
    }
}

/// Speeds all apps up by one factor, so that they ask for `wanted` cores together and none for more than `most`.
fn scale(apps: &mut [App], most: f64, wanted: f64) {
    let asked: Vec<f64> = apps.iter().map(|app| app.seconds_per_call() / app.gap).collect();
    let sum = |factor: f64| asked.iter().map(|cores| (cores * factor).min(most)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if sum(middle) < wanted { low = middle } else { high = middle }
    }
    for (app, cores) in apps.iter_mut().zip(asked) {
        app.gap /= low.min(most / cores);
        app.allow();
    }
}

impl App {
    /// The functions that an invocation may call, one after the other.
    fn chain(&self) -> u32 {
        u32::try_from(self.functions.len()).unwrap_or(u32::MAX).clamp(1, STEPS_MAX)
    }

    /// How many of them it calls.
    pub(crate) fn steps(&self, dice: &mut Dice) -> u32 {
        1 + dice.below(self.chain())
    }

    /// Core seconds of an invocation on average.
    fn seconds_per_call(&self) -> f64 {
        (0..)
            .zip(&self.functions)
            .take(STEPS_MAX as usize)
            .map(|(step, f)| self.reached(step) * f.seconds)
            .sum()
    }

    /// Share of invocations that take this step: the k-th is made by those that take k steps or more.
    fn reached(&self, step: u32) -> f64 {
        let chain = f64::from(self.chain());
        (chain - f64::from(step)).max(0.0) / chain
    }

    /// Allows each function the replicas that somebody who knows its load would: one, and twice what works on average.
    fn allow(&mut self) {
        for step in 0..u32::try_from(self.functions.len()).unwrap_or(u32::MAX) {
            let share = self.reached(step) / self.gap;
            if let Some(function) = self.functions.get_mut(step as usize) {
                function.replicas =
                    u32::try_from(whole(1.0 + 2.0 * share * function.seconds)).unwrap_or(u32::MAX);
            }
        }
    }

    /// Time from the start of the simulation to the first invocation.
    pub(crate) fn first_call(&self, dice: &mut Dice) -> Nanos {
        if self.irregularity < 0.05 {
            return nanos(dice.share() * self.gap);
        }
        // A look at a random moment falls into long gaps more often than into short ones.
        let shape = self.shape();
        nanos(dice.share() * dice.gamma(shape + 1.0, self.gap * (shape + 1.0) / shape))
    }

    /// Time from an invocation to the next.
    pub(crate) fn next_call(&self, dice: &mut Dice) -> Nanos {
        if self.irregularity < 0.05 { nanos(self.gap) } else { nanos(dice.gamma(self.shape(), self.gap)) }
    }

    fn shape(&self) -> f64 {
        (self.irregularity * self.irregularity).recip()
    }
}

impl Function {
    /// How long one call takes.
    pub(crate) fn service(&self, dice: &mut Dice) -> Nanos {
        nanos(dice.gamma(2.0, self.seconds).min(SECONDS_MAX)).min(30 * SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_ask_for_as_much_as_they_are_to() {
        let apps = apps(500, 8_000.0, 0.6, 7);
        let asked: f64 = apps.iter().map(|app| app.seconds_per_call() / app.gap).sum();
        assert!((asked / 4_800.0 - 1.0).abs() < 0.01, "{asked} cores");
        assert!(apps.iter().all(|app| app.seconds_per_call() / app.gap <= 161.0));
    }

    #[test]
    fn calls_come_as_often_as_they_are_to_and_as_irregularly() {
        for irregularity in [0.0, 0.5, 1.0, 3.0] {
            let app = App { gap: 2.0, irregularity, ..draw(0, 0, &mut Dice::new(1, 1)) };
            let mut dice = Dice::new(3, 3);
            let gaps: Vec<f64> = (0..40_000).map(|_| app.next_call(&mut dice) as f64 / 1e9).collect();
            let mean = gaps.iter().sum::<f64>() / 40_000.0;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 40_000.0;
            assert!((mean - 2.0).abs() < 0.15, "{mean}");
            assert!((variance.sqrt() / mean - irregularity).abs() < 0.2, "{}", variance.sqrt() / mean);
        }
    }
}
