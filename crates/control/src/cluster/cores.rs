//! How busy the machine's cores are.

use std::time::{Duration, Instant};

/// Two looks that are closer than this say the same.
const APART: Duration = Duration::from_millis(500);

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Cores {
    seen: Option<(Instant, Ticks)>,
    busy: u32,
}

/// Time of all cores since the machine was started, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Cores {
    /// How busy they were since the last look, in thousandths; 0 where the kernel does not tell.
    pub(super) fn look(&mut self) -> u32 {
        let now = Instant::now();
        if self.seen.is_some_and(|(then, _)| now.duration_since(then) < APART) {
            return self.busy;
        }
        let Some(ticks) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(parse) else {
            return 0;
        };
        if let Some((_, before)) = self.seen.replace((now, ticks)) {
            self.busy = busy(before, ticks);
        }
        self.busy
    }
}

fn busy(before: Ticks, now: Ticks) -> u32 {
    let all = now.all.saturating_sub(before.all);
    let idle = now.idle.saturating_sub(before.idle).min(all);
    (all - idle).saturating_mul(1000).checked_div(all).and_then(|busy| u32::try_from(busy).ok()).unwrap_or(0)
}

/// The line of all cores: user, nice, system, idle, waiting for a device, …
fn parse(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
    Some(Ticks { idle, all: ticks.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_between_two_looks_counts() {
        let before = parse("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2\n").unwrap();
        assert_eq!(before, Ticks { idle: 850, all: 1000 });
        let now = parse("cpu  160 0 80 900 60 0 0 0 0 0\n").unwrap();
        assert_eq!(busy(before, now), 450);
        assert_eq!((busy(now, now), busy(now, before)), (0, 0));
        for nonsense in ["", "cpu", "cpu  a b c d e", "cpu  1 2 3"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_machine_says_how_busy_it_is_and_not_too_often() {
        let mut cores = Cores::default();
        assert_eq!(cores.look(), 0, "there was no look before");
        let seen = cores.seen;
        cores.look();
        assert_eq!(cores.seen.map(|(then, _)| then), seen.map(|(then, _)| then));
    }
}
