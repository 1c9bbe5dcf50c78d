//! Whether a call runs now, waits or is refused.

use crate::choice::{Load, choose};

/// The calls that wait for a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many wait.
    pub queued: u32,
    /// How many may wait.
    pub bound: u32,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes to this replica.
    Run(usize),
    /// It waits until a replica has room.
    Queue,
    /// It is refused: as many calls wait as may.
    Refuse,
}

/// Decides on a call that arrives.
///
/// A call never overtakes one that waits: while any does, a newcomer queues even if a replica just got room. The
/// caller gives freed room to its queue first, with `queued` as zero for the call at the head.
#[must_use]
pub fn admit(loads: &[Load], cursor: usize, waiting: Waiting) -> Admission {
    if waiting.queued == 0
        && let Some(replica) = choose(loads, cursor)
    {
        return Admission::Run(replica);
    }
    if waiting.queued < waiting.bound { Admission::Queue } else { Admission::Refuse }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FREE: Load = Load { in_flight: 0, concurrency: 1, ready: true };
    const FULL: Load = Load { in_flight: 1, concurrency: 1, ready: true };

    fn check(loads: &[Load], queued: u32, bound: u32, expect: Admission) {
        assert_eq!(admit(loads, 0, Waiting { queued, bound }), expect, "{loads:?} {queued}/{bound}");
    }

    #[test]
    fn a_call_runs_waits_or_is_refused() {
        check(&[FULL, FREE], 0, 2, Admission::Run(1));
        check(&[FULL, FULL], 0, 2, Admission::Queue);
        check(&[FULL, FULL], 1, 2, Admission::Queue);
        check(&[FULL, FULL], 2, 2, Admission::Refuse);
        check(&[], 0, 2, Admission::Queue);
    }

    #[test]
    fn a_function_without_a_queue_still_runs_what_fits() {
        check(&[FREE], 0, 0, Admission::Run(0));
        check(&[FULL], 0, 0, Admission::Refuse);
    }

    #[test]
    fn nobody_overtakes_a_waiting_call() {
        check(&[FREE], 1, 2, Admission::Queue);
        check(&[FREE], 2, 2, Admission::Refuse);
    }

    proptest! {
        /// Arrivals and completions in any order: the queue keeps its bound, no call is lost, none idles beside room.
        #[test]
        fn the_queue_keeps_its_bound(
            events in prop::collection::vec(prop_oneof![Just(None), (0..3_usize).prop_map(Some)], 0..200),
            bound in 0..5_u32,
        ) {
            let mut loads = [Load { in_flight: 0, concurrency: 2, ready: true }; 3];
            let (mut queued, mut arrived, mut refused, mut done) = (0, 0, 0, 0);
            for (cursor, event) in events.into_iter().enumerate() {
                match event {
                    None => {
                        arrived += 1;
                        match admit(&loads, cursor, Waiting { queued, bound }) {
                            Admission::Run(replica) => loads[replica].in_flight += 1,
                            Admission::Queue => queued += 1,
                            Admission::Refuse => refused += 1,
                        }
                    }
                    Some(replica) if loads[replica].in_flight > 0 => {
                        loads[replica].in_flight -= 1;
                        done += 1;
                        if queued > 0 {
                            let next = admit(&loads, cursor, Waiting { queued: 0, bound });
                            prop_assert_eq!(next, Admission::Run(replica));
                            loads[replica].in_flight += 1;
                            queued -= 1;
                        }
                    }
                    Some(_) => {}
                }
                let running: u32 = loads.iter().map(|load| load.in_flight).sum();
                prop_assert!(queued <= bound);
                prop_assert!(queued == 0 || running == 6);
                prop_assert_eq!(arrived, running + queued + refused + done);
            }
        }
    }
}
