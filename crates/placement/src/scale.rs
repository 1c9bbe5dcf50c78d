//! How many replicas of a function, or cells of a group, there shall be.
//!
//! ```text
//!   look(sight, now) ─▶ load into two windows ─▶ needed: by the mean of the stable window, or of the panic window while
//!                                                load has at least doubled, or at once for calls that wait
//!                          needed ─▶ peak of the last `idle` ─▶ clamp to min and max ─▶ at most doubled or halved in
//!                                                                                       one step ─▶ how many
//! ```
//! The two windows and their rules are those of Knative's pod autoscaler: the count is mean load over target, the panic
//! window is a tenth of the stable one, and while it asks for twice of what is ready, the count follows it and never falls.
//! Two rules are added, since a replica here starts in milliseconds: calls that wait count at once, and a replica goes
//! only after `idle` without need of it, so that load that comes and goes does not make replicas come and go.

use std::time::Duration;

mod peak;
mod window;

use peak::Peak;
use window::Window;

/// How often whoever runs a scaler looks while there is load.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much of a replica's concurrency shall be in use, percent: the rest takes what comes while another one starts.
pub const TARGET_PERCENT: u32 = 70;
/// Longest stable window; `idle`, where that is shorter.
pub const STABLE_MAX: Duration = Duration::from_secs(60);
/// Longest time between two looks at what has no load.
pub const DOZE_MAX: Duration = Duration::from_secs(5);
/// Load that asks for so many times of what is ready is panic.
const PANIC_FACTOR: u32 = 2;
/// The thousandths of a replica's concurrency.
const WHOLE: u64 = 1_000;

/// Within what a scaler may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Replicas that are always there.
    pub min: u32,
    /// Replicas that there may be; at least `min`.
    pub max: u32,
    /// How long a replica above `min` is not needed before it goes.
    pub idle: Duration,
}

/// What is seen of the replicas at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Calls that run, as thousandths of one replica's concurrency: 1500 is one and a half replicas full.
    pub running: u64,
    /// Calls that wait for room, in the same measure.
    pub waiting: u64,
    /// Someone needs one to be there: a call waits or runs that may lead here, or something happened since the last look.
    pub wanted: bool,
    /// Replicas that take calls.
    pub ready: u32,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// So many replicas shall be there.
    pub replicas: u32,
    /// When to look again, from now, unless a call comes before; `None` if nothing changes without one.
    pub again: Option<Duration>,
}

/// What one function, or one group of functions, was like lately.
#[derive(Clone, Debug)]
pub struct Scaler {
    /// What was decided last.
    replicas: u32,
    stable: Window,
    panic: Window,
    /// Until when the count does not fall, and follows the panic window.
    panic_until: Option<Duration>,
    /// The most that was needed within `idle`.
    peak: Peak,
    /// The step that is on: when it began, and from how many replicas.
    step: Option<(Duration, u32)>,
}

impl Scaler {
    /// A scaler that has `replicas` to begin with, since `now`: they go when they were not needed for `idle`.
    #[must_use]
    pub fn new(replicas: u32, bounds: &Bounds, now: Duration) -> Self {
        let stable = stable(bounds);
        let mut peak = Peak::default();
        peak.note(replicas, bounds.idle, now);
        Self {
            replicas,
            stable: Window::new(stable),
            panic: Window::new(stable / 10),
            panic_until: None,
            peak,
            step: None,
        }
    }

    /// What was decided last.
    #[must_use]
    pub const fn replicas(&self) -> u32 {
        self.replicas
    }

    /// Decides anew. `now` is the time since any fixed start; one that steps back counts as standing still.
    pub fn look(&mut self, bounds: &Bounds, sight: &Sight, now: Duration) -> Decision {
        let is_quiet = !sight.wanted && sight.running == 0 && sight.waiting == 0;
        let needed = self.needed(bounds, sight, now);
        self.peak.note(needed, bounds.idle, now);
        let max = bounds.max.max(bounds.min);
        let mut wanted = needed.max(self.peak.within(bounds.idle, now));
        if !is_quiet && self.panic_until.is_some_and(|until| now < until) {
            wanted = wanted.max(self.replicas);
        }
        let wanted = wanted.clamp(bounds.min, max);
        let from = self.step_from(now);
        // From nothing the first one comes at once; to nothing the last one goes. Bounds that were just changed hold at once.
        let most = from.saturating_mul(2).max(1);
        self.replicas = wanted.clamp(from / 2, most).clamp(bounds.min, max);
        let again = if !is_quiet || wanted != self.replicas {
            Some(LOOK_EVERY)
        } else {
            (self.replicas > bounds.min).then(|| (bounds.idle / 8).clamp(LOOK_EVERY, DOZE_MAX))
        };
        Decision { replicas: self.replicas, again }
    }

    /// Replicas that are needed now. More come by the means, which one moment does not move far; how long they are kept is up
    /// to the peak: so what is seen now bounds the means from above.
    fn needed(&mut self, bounds: &Bounds, sight: &Sight, now: Duration) -> u32 {
        let load = sight.running.saturating_add(sight.waiting);
        self.stable.add(load, now);
        self.panic.add(load, now);
        let mut needed = for_load(self.stable.mean(now).min(load));
        let by_panic = for_load(self.panic.mean(now).min(load));
        if by_panic >= sight.ready.max(1).saturating_mul(PANIC_FACTOR) {
            self.panic_until = Some(now.saturating_add(stable(bounds)));
        }
        if self.panic_until.is_some_and(|until| now < until) {
            needed = needed.max(by_panic);
        }
        if sight.waiting > 0 {
            // A mean says too late what someone waits for now.
            needed = needed.max(count(load.div_ceil(WHOLE)));
        }
        needed.max(u32::from(sight.wanted || load > 0))
    }

    /// How many there were as the present step began. In one step the count at most doubles, or halves.
    fn step_from(&mut self, now: Duration) -> u32 {
        match self.step {
            Some((began, from)) if now.saturating_sub(began) < LOOK_EVERY => from,
            _ => {
                self.step = Some((now, self.replicas));
                self.replicas
            }
        }
    }
}

fn stable(bounds: &Bounds) -> Duration {
    bounds.idle.min(STABLE_MAX)
}

/// Replicas that have so much to do if each is as busy as it shall be.
fn for_load(load: u64) -> u32 {
    count(load.saturating_mul(100).div_ceil(WHOLE * u64::from(TARGET_PERCENT)))
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
