//! What becomes of an event after it was tried: pure, so that it can be tested without a clock.

use std::time::Duration;

use baton_catalog::Events;
use baton_flow::InvokeError;
use serde::{Deserialize, Serialize};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Between two tries of what could not begin.
const NOT_BEGUN_PAUSE: Duration = Duration::from_millis(500);

/// What is known of an event's tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tries {
    /// Times that a function began with it.
    pub attempts: u32,
    /// When it is to be tried next, milliseconds since the epoch.
    pub due_ms: u64,
    /// What the last try came to.
    pub error: String,
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The function answered with this status.
    Answer(u16),
    /// It did not.
    Nothing(InvokeError),
    /// Nothing of that name is deployed, or the node is about to end.
    NotBegun(String),
}

/// What is done with the event now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It is tried again.
    Again(Tries),
    /// It has come to nothing.
    Dead(Tries),
}

/// Judges a try that ended at `now_ms`. `share` (0 to 1) spreads what failed together over the pause.
pub(crate) fn judge(
    settings: &Events,
    accepted_ms: u64,
    before: &Tries,
    came: &Came,
    (now_ms, share): (u64, f64),
) -> Fate {
    let (error, is_for_good, has_begun) = match came {
        Came::Answer(status) if *status < 400 => return Fate::Done,
        Came::Answer(status) => (format!("the function answered {status}"), is_final(*status), true),
        Came::Nothing(error) => (error.to_string(), is_hopeless(error), has_begun(error)),
        Came::NotBegun(why) => (why.clone(), false, false),
    };
    let attempts = before.attempts.saturating_add(u32::from(has_begun));
    let pause = if has_begun { pause_after(settings, attempts, share) } else { NOT_BEGUN_PAUSE };
    let due_ms = now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    let tries = Tries { attempts, due_ms, error };
    let is_too_old = due_ms.saturating_sub(accepted_ms) > settings.age.millis();
    // Nodes that died or left with an event may have used its attempts up: it is tried all the same before it is given up.
    let is_enough = has_begun && attempts >= settings.attempts;
    if is_for_good || is_too_old || is_enough { Fate::Dead(tries) } else { Fate::Again(tries) }
}

/// Twice as long after each attempt, and by up to a half shorter.
fn pause_after(settings: &Events, attempts: u32, share: f64) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1).min(30));
    let whole = settings.pause.duration().saturating_mul(factor).min(PAUSE_MAX);
    whole.mul_f64(1.0 - share.clamp(0.0, 1.0) / 2.0)
}

/// Whether another try would be answered the same: the request itself is at fault.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && ![408, 409, 423, 425, 429].contains(&status)
}

fn is_hopeless(error: &InvokeError) -> bool {
    match error {
        InvokeError::TooLarge { .. } | InvokeError::HeadTooLarge => true,
        InvokeError::Function { status, .. } => is_final(*status),
        InvokeError::Refused(refusal) => is_final(refusal.status),
        _ => false,
    }
}

/// Whether the function may have begun with it.
fn has_begun(error: &InvokeError) -> bool {
    match error {
        InvokeError::Unknown
        | InvokeError::PoolFull
        | InvokeError::QueueFull
        | InvokeError::NoReplica { .. }
        | InvokeError::NoNode { .. }
        | InvokeError::NotKept { .. }
        | InvokeError::Refused(_)
        | InvokeError::Draining => false,
        InvokeError::TooLarge { .. }
        | InvokeError::HeadTooLarge
        | InvokeError::DeadlineExceeded { .. }
        | InvokeError::ReplicaDied { .. }
        | InvokeError::NodeLost { .. }
        | InvokeError::BadReply { .. }
        | InvokeError::Function { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(attempts: u32, came: &Came, age_ms: u64) -> Fate {
        let before = Tries { attempts, ..Tries::default() };
        judge(&Events::default(), 1_000, &before, came, (1_000 + age_ms, 0.0))
    }

    #[test]
    fn what_is_answered_is_done_and_what_is_refused_is_dead() {
        assert_eq!(judged(0, &Came::Answer(204), 0), Fate::Done);
        assert_eq!(judged(0, &Came::Answer(302), 0), Fate::Done);
        assert!(matches!(judged(0, &Came::Answer(422), 0), Fate::Dead(tries) if tries.attempts == 1));
        assert!(matches!(judged(0, &Came::Nothing(InvokeError::HeadTooLarge), 0), Fate::Dead(_)));
    }

    #[test]
    fn failures_are_tried_again_later_and_later_until_there_were_enough() {
        let failed = Came::Answer(503);
        let Fate::Again(first) = judged(0, &failed, 0) else { panic!() };
        assert_eq!((first.attempts, first.due_ms), (1, 2_000));
        let Fate::Again(second) = judged(1, &failed, 0) else { panic!() };
        assert_eq!((second.attempts, second.due_ms), (2, 3_000));
        assert!(matches!(judged(2, &failed, 0), Fate::Dead(tries) if tries.error.contains("503")));
    }

    #[test]
    fn what_could_not_begin_costs_no_attempt_but_grows_old() {
        let full = Came::Nothing(InvokeError::QueueFull);
        let Fate::Again(tries) = judged(2, &full, 0) else { panic!() };
        assert_eq!(tries.attempts, 2);
        assert!(matches!(judged(0, &full, Events::default().age.millis()), Fate::Dead(_)));
        // All of them lost with nodes that had it: it waits until it is tried.
        assert!(matches!(judged(3, &full, 0), Fate::Again(tries) if tries.attempts == 3));
        assert!(matches!(judged(3, &Came::Answer(503), 0), Fate::Dead(tries) if tries.attempts == 4));
        let gone = Came::NotBegun("nothing is deployed".to_owned());
        assert!(matches!(judged(0, &gone, 0), Fate::Again(tries) if tries.error.contains("deployed")));
    }

    proptest! {
        #[test]
        fn every_event_ends(statuses in proptest::collection::vec(400..600u16, 1..200), share in 0.0..1.0f64) {
            let settings = Events { attempts: 100, ..Events::default() };
            let (mut tries, mut now) = (Tries::default(), 0);
            for status in statuses.iter().cycle().take(300) {
                match judge(&settings, 0, &tries, &Came::Answer(*status), (now, share)) {
                    Fate::Again(next) => {
                        prop_assert!(next.due_ms > now && next.due_ms - now <= 3_600_000);
                        now = next.due_ms;
                        tries = next;
                    }
                    Fate::Dead(_) => return Ok(()),
                    Fate::Done => prop_assert!(false),
                }
            }
            prop_assert!(false, "it never ended");
        }
    }
}
