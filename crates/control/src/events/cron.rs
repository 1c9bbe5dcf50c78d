//! Events by the clock.
//!
//! Each schedule is looked at on its own: its next time is reckoned from now, never from a list of times that were missed. A
//! node that was down makes up for nothing; one that was held up for less than [`CRON_LATE_MAX`] still does what was due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use baton_catalog::Cron;
use baton_flow::DirectCall;
use tokio::time::sleep;

use super::shared::derived;
use super::{Event, Events, now_ms};
use crate::limits::CRON_LATE_MAX;

/// Longest nap: deployments and steps of the clock are seen within it.
const NAP_MAX: Duration = Duration::from_millis(500);
/// At which time an event is meant to have come about, milliseconds since the epoch.
const SCHEDULED_HEADER: &str = "x-baton-scheduled";

/// A schedule, as it is told apart from others: those of an app that are alike to the letter are one.
type Key = (String, Vec<u8>);

/// When each schedule comes next.
#[derive(Debug, Default)]
struct Calendar {
    next: BTreeMap<Key, Option<i64>>,
    /// What the clock showed last.
    last_ms: i64,
}

impl Calendar {
    /// What is due at `now_ms`, with the time at which it was; and notes when each comes next.
    fn due(&mut self, schedules: &[(String, Cron)], now_ms: i64) -> Vec<(String, Cron, i64)> {
        let late_max = i64::try_from(CRON_LATE_MAX.as_millis()).unwrap_or(i64::MAX);
        let is_set_back = now_ms < self.last_ms;
        self.last_ms = now_ms;
        let mut next = BTreeMap::new();
        let mut due = Vec::new();
        for (app, cron) in schedules {
            let key = (app.clone(), serde_json::to_vec(cron).unwrap_or_default());
            // What the clock showed before it was set back is reckoned anew.
            let known = self.next.get(&key).copied().filter(|_| !is_set_back);
            let at = known.unwrap_or_else(|| cron.next_after(now_ms));
            let at = match at {
                Some(at) if at <= now_ms => {
                    if now_ms - at <= late_max {
                        due.push((app.clone(), cron.clone(), at));
                    }
                    cron.next_after(now_ms)
                }
                at => at,
            };
            next.insert(key, at);
        }
        self.next = next;
        due
    }

    fn soonest(&self) -> Option<i64> {
        self.next.values().flatten().min().copied()
    }
}

impl Events {
    /// Makes events of schedules, until the future is dropped.
    pub(super) async fn keep_time(self: Arc<Self>) {
        let mut calendar = Calendar::default();
        loop {
            let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
            let due = calendar.due(&self.schedules(), now);
            for (app, cron, at) in due {
                self.fire(app, &cron, at).await;
            }
            let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
            let wait = calendar.soonest().map(|at| u64::try_from(at - now).unwrap_or(0));
            sleep(wait.map_or(NAP_MAX, |wait| Duration::from_millis(wait).min(NAP_MAX))).await;
        }
    }

    async fn fire(&self, app: String, cron: &Cron, at_ms: i64) {
        let function = cron.function.to_string();
        let call = DirectCall {
            method: cron.method.as_str().to_owned(),
            path: cron.path.clone(),
            headers: vec![(SCHEDULED_HEADER.to_owned(), at_ms.to_string().into_bytes())],
            body: cron.body.clone().into_bytes(),
        };
        let event = Event::new(app.clone(), function.clone(), call);
        // Every node of a cluster hands it in, under one name, so that a node that dies now costs nothing.
        let row = serde_json::to_vec(cron).unwrap_or_default();
        let id = derived(&[b"cron", app.as_bytes(), &row, &at_ms.to_le_bytes()]);
        let accepted = match self.accept_shared(id, &event).await {
            Some(accepted) => accepted,
            None if self.deployer.keeps_time() => self.accept_here(event).await,
            None => return,
        };
        if let Err(error) = accepted {
            tracing::error!(app, function, schedule = cron.schedule, %error, "a scheduled call is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_minute() -> Vec<(String, Cron)> {
        let cron = serde_json::json!({
            "schedule": "* * * * *", "function": "f", "method": "POST", "path": "/"
        });
        vec![("a".to_owned(), serde_json::from_value(cron).unwrap())]
    }

    #[test]
    fn each_time_comes_once() {
        let mut calendar = Calendar::default();
        let schedules = every_minute();
        let mut times = Vec::new();
        for now in (0..600_000).step_by(7_000) {
            times.extend(calendar.due(&schedules, now).into_iter().map(|(_, _, at)| at));
        }
        assert_eq!(times, (1..10).map(|minute| minute * 60_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_missed_for_long_is_not_made_up_for_and_a_clock_may_be_set_back() {
        let mut calendar = Calendar::default();
        let schedules = every_minute();
        assert!(calendar.due(&schedules, 0).is_empty());
        assert!(calendar.due(&schedules, 3_600_000).is_empty());
        assert_eq!(calendar.due(&schedules, 3_660_000).len(), 1);
        assert!(calendar.due(&schedules, 1_000).is_empty());
        assert_eq!(calendar.due(&schedules, 60_000).len(), 1);
        assert!(calendar.due(&[], 120_000).is_empty());
        assert!(calendar.next.is_empty());
    }
}
