//! The breaker: keeps requests from a function that fails, so that it can come to itself and its callers do not wait.
//!
//! ```text
//!            share of failures in the window ≥ `failures`, of `least` requests
//!   closed ───────────────────────────────────────────────────────────────────▶ open
//!     ▲                                                                          │ `open` later
//!     │ `probes` successes in a row                      a failure ┌─────────────▼
//!     └────────────────────────────────────────────────────────────┴──────── half open: one request at a time
//! ```

use baton_catalog::policy::Breaker;

use crate::request::Now;
use crate::verdict::Refusal;

/// Parts of the window: the oldest is forgotten as a whole.
const PARTS: usize = 10;

/// A request that is let through as a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Plain,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_ns: u64 },
    HalfOpen { succeeded: u32, probing: bool },
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Which part of time it is of.
    number: u64,
    all: u32,
    failed: u32,
}

/// A breaker.
#[derive(Debug)]
pub(crate) struct Circuit {
    part_ns: u64,
    open_ns: u64,
    share: u32,
    least: u32,
    probes: u32,
    state: State,
    parts: [Part; PARTS],
    /// Times that it opened.
    pub(crate) opened: u64,
}

impl Circuit {
    pub(crate) fn new(settings: &Breaker) -> Self {
        let ns = |millis: u64| millis.saturating_mul(1_000_000);
        Self {
            part_ns: (ns(settings.window.millis()) / PARTS as u64).max(1),
            open_ns: ns(settings.open.millis()),
            share: settings.failures,
            least: settings.least,
            probes: settings.probes,
            state: State::Closed,
            parts: [Part::default(); PARTS],
            opened: 0,
        }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    pub(crate) fn admit(&mut self, now: Now) -> Result<Pass, Refusal> {
        let refuse = |left_ns: u64| {
            let seconds = u32::try_from(left_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
            Refusal::new(503, "the function fails too often at the moment; send the request again later")
                .after(seconds)
        };
        match self.state {
            State::Closed => Ok(Pass::Plain),
            State::Open { until_ns } if now.ns < until_ns => Err(refuse(until_ns - now.ns)),
            State::Open { .. } => {
                self.state = State::HalfOpen { succeeded: 0, probing: true };
                Ok(Pass::Probe)
            }
            State::HalfOpen { probing: true, .. } => Err(refuse(1)),
            State::HalfOpen { succeeded, probing: false } => {
                self.state = State::HalfOpen { succeeded, probing: true };
                Ok(Pass::Probe)
            }
        }
    }

    /// What became of a request that was let through; `None` if nobody knows, since its client left.
    pub(crate) fn tell(&mut self, pass: Pass, has_failed: Option<bool>, now_ns: u64) {
        match (self.state, pass) {
            (State::Closed, _) => self.count(has_failed, now_ns),
            (State::HalfOpen { succeeded, .. }, Pass::Probe) => match has_failed {
                Some(true) => self.open(now_ns),
                Some(false) if succeeded + 1 >= self.probes => {
                    self.state = State::Closed;
                    self.parts = [Part::default(); PARTS];
                }
                Some(false) => self.state = State::HalfOpen { succeeded: succeeded + 1, probing: false },
                None => self.state = State::HalfOpen { succeeded, probing: false },
            },
            // One that began before it opened says nothing new.
            _ => {}
        }
    }

    fn open(&mut self, now_ns: u64) {
        self.state = State::Open { until_ns: now_ns.saturating_add(self.open_ns) };
        self.opened += 1;
    }

    fn count(&mut self, has_failed: Option<bool>, now_ns: u64) {
        let Some(has_failed) = has_failed else { return };
        let number = now_ns / self.part_ns;
        let place = usize::try_from(number % PARTS as u64).unwrap_or(0);
        let Some(part) = self.parts.get_mut(place) else { return };
        if part.number != number {
            *part = Part { number, all: 0, failed: 0 };
        }
        part.all = part.all.saturating_add(1);
        part.failed = part.failed.saturating_add(u32::from(has_failed));
        if !has_failed {
            return;
        }
        let oldest = number.saturating_sub(PARTS as u64 - 1);
        let current = self.parts.iter().filter(|part| part.number >= oldest);
        let (all, failed) = current.fold((0u64, 0u64), |(all, failed), part| {
            (all + u64::from(part.all), failed + u64::from(part.failed))
        });
        if all >= u64::from(self.least) && failed * 100 >= all * u64::from(self.share) {
            self.open(now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Now {
        Now { ns: (1000 + ms) * MS, unix_s: 0 }
    }

    fn circuit() -> Circuit {
        let text = r#"{"window":"1s","failures":50,"least":4,"open":"2s","probes":2}"#;
        Circuit::new(&serde_json::from_str(text).unwrap())
    }

    fn run(circuit: &mut Circuit, ms: u64, has_failed: bool) -> bool {
        match circuit.admit(at(ms)) {
            Ok(pass) => {
                circuit.tell(pass, Some(has_failed), at(ms).ns);
                true
            }
            Err(_) => false,
        }
    }

    #[test]
    fn it_opens_at_its_share_waits_probes_and_closes() {
        let mut circuit = circuit();
        for (failed, word) in [(true, "closed"), (false, "closed"), (false, "closed"), (true, "open")] {
            assert!(run(&mut circuit, 0, failed));
            assert_eq!(circuit.word(), word);
        }
        assert!(!run(&mut circuit, 1999, false));
        let refused = circuit.admit(at(500)).unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (503, Some(2)));
        assert!(run(&mut circuit, 2000, true), "a probe");
        assert_eq!((circuit.word(), circuit.opened), ("open", 2));
        assert!(run(&mut circuit, 4000, false));
        assert_eq!(circuit.word(), "half-open");
        assert!(run(&mut circuit, 4000, false));
        assert_eq!(circuit.word(), "closed");
        assert!(run(&mut circuit, 4000, true), "what was before is forgotten");
        assert_eq!(circuit.word(), "closed");
    }

    #[test]
    fn one_probe_at_a_time_and_a_client_that_leaves_decides_nothing() {
        let mut circuit = circuit();
        for _ in 0..4 {
            run(&mut circuit, 0, true);
        }
        let probe = circuit.admit(at(2000)).unwrap();
        assert!(circuit.admit(at(2000)).is_err());
        circuit.tell(probe, None, at(2001).ns);
        assert_eq!(circuit.word(), "half-open");
        assert!(circuit.admit(at(2001)).is_ok());
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let mut circuit = circuit();
        for ms in [0, 500, 1200, 1800, 2600] {
            assert!(run(&mut circuit, ms, true));
        }
        assert_eq!(circuit.word(), "closed");
    }
}
