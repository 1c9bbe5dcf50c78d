use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bounds(min: u32, max: u32, idle: Duration) -> Bounds {
    Bounds { min, max, idle }
}

/// A function whose replicas start in no time, with `load` in thousandths of a replica, from `from` on for `span`.
fn run(scaler: &mut Scaler, bounds: &Bounds, load: u64, from: Duration, span: Duration) -> Vec<u32> {
    let mut now = from;
    let mut seen = Vec::new();
    while now < from + span {
        let room = u64::from(scaler.replicas()) * 1_000;
        let sight = Sight {
            running: load.min(room),
            waiting: load.saturating_sub(room),
            wanted: load > 0,
            ready: scaler.replicas(),
        };
        let decision = scaler.look(bounds, &sight, now);
        seen.push(decision.replicas);
        now += decision.again.unwrap_or(LOOK_EVERY);
    }
    seen
}

#[test]
fn the_first_call_brings_one_replica_at_once() {
    let bounds = bounds(0, 8, SECOND);
    let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
    let sight = Sight { waiting: 15, wanted: true, ..Sight::default() };
    assert_eq!(scaler.look(&bounds, &sight, SECOND).replicas, 1);
}

#[test]
fn load_is_met_at_seven_tenths() {
    let check = |load, expect| {
        let bounds = bounds(0, 64, 60 * SECOND);
        let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
        let seen = run(&mut scaler, &bounds, load, SECOND, 120 * SECOND);
        assert_eq!(seen.last(), Some(&expect), "load {load}");
    };
    check(1, 1);
    check(700, 1);
    check(701, 2);
    check(1_400, 2);
    check(7_000, 10);
    check(1_000_000, 64);
}

#[test]
fn a_burst_doubles_step_by_step() {
    let bounds = bounds(0, 64, 60 * SECOND);
    let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
    let seen = run(&mut scaler, &bounds, 40_000, SECOND, SECOND);
    assert_eq!(seen[..7], [1, 2, 4, 8, 16, 32, 58]);
}

#[test]
fn within_one_step_looks_add_up_to_one_doubling() {
    let bounds = bounds(1, 64, 60 * SECOND);
    let mut scaler = Scaler::new(1, &bounds, Duration::ZERO);
    let sight = Sight { running: 1_000, waiting: 50_000, wanted: true, ready: 1 };
    let looks: Vec<u32> = (0..5)
        .map(|look| scaler.look(&bounds, &sight, SECOND + Duration::from_millis(look)).replicas)
        .collect();
    assert_eq!(looks, [2; 5]);
}

#[test]
fn the_last_one_goes_after_idle_and_not_before() {
    let bounds = bounds(0, 4, 8 * SECOND);
    let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
    run(&mut scaler, &bounds, 500, Duration::ZERO, SECOND);
    let quiet = Sight { ready: 1, ..Sight::default() };
    assert_eq!(scaler.look(&bounds, &quiet, SECOND).replicas, 1);
    let almost = 8 * SECOND + Duration::from_millis(890);
    assert_eq!(scaler.look(&bounds, &quiet, almost), Decision { replicas: 1, again: Some(SECOND) });
    let last = scaler.look(&bounds, &quiet, 8 * SECOND + Duration::from_millis(900));
    assert_eq!(last, Decision { replicas: 0, again: None });
}

#[test]
fn calls_too_short_to_be_seen_keep_one() {
    let bounds = bounds(0, 4, 2 * SECOND);
    let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
    for tenth in 0..600 {
        let sight = Sight { wanted: tenth % 15 == 0, ready: scaler.replicas(), ..Sight::default() };
        let decision = scaler.look(&bounds, &sight, tenth * LOOK_EVERY);
        assert_eq!(decision.replicas, 1, "at {tenth}");
    }
}

#[test]
fn bounds_that_change_hold_at_once() {
    let wide = bounds(0, 64, 60 * SECOND);
    let mut scaler = Scaler::new(0, &wide, Duration::ZERO);
    run(&mut scaler, &wide, 20_000, SECOND, 5 * SECOND);
    let sight = Sight { running: 20_000, wanted: true, ready: scaler.replicas(), ..Sight::default() };
    assert_eq!(scaler.look(&bounds(0, 3, SECOND), &sight, 7 * SECOND).replicas, 3);
    assert_eq!(scaler.look(&bounds(5, 9, SECOND), &sight, 8 * SECOND).replicas, 6);
    assert_eq!(scaler.look(&bounds(40, 64, SECOND), &sight, 8 * SECOND).replicas, 40);
}

#[test]
fn what_is_forgotten_makes_replicas_stay() {
    let mut peak = Peak::default();
    for step in 0..40u32 {
        peak.note(100 - step, 100 * SECOND, step * SECOND);
    }
    for step in 0..40u32 {
        let left = peak.within((40 - step) * SECOND, 39 * SECOND);
        assert!(left >= 100 - step, "{left} at {step}");
    }
}

fn loads() -> impl Strategy<Value = Vec<(u64, u64, bool, u64)>> {
    let load = prop_oneof![Just(0u64), 1..3_000u64, 0..200_000u64];
    prop::collection::vec((load.clone(), load, any::<bool>(), 0..3_000u64), 0..200)
}

proptest! {
    /// Whatever it sees: never below min, never above max, never more than doubled or halved in one step.
    #[test]
    fn bounds_and_rate_hold(
        events in loads(),
        min in 0..10u32,
        more in 0..55u32,
        idle_ms in 1_000..100_000u64,
    ) {
        let bounds = bounds(min, min + more, Duration::from_millis(idle_ms));
        let mut scaler = Scaler::new(min, &bounds, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut counts = vec![(now, min)];
        for (running, waiting, wanted, after_ms) in events {
            now += Duration::from_millis(after_ms);
            let ready = scaler.replicas();
            let count = scaler.look(&bounds, &Sight { running, waiting, wanted, ready }, now).replicas;
            prop_assert!((min..=min + more).contains(&count));
            let (_, from) = *counts.iter().rev().find(|(at, _)| now - *at >= LOOK_EVERY).unwrap_or(&counts[0]);
            prop_assert!(count <= from.max(1) * 4 && count >= from / 4, "{from} to {count}");
            counts.push((now, count));
        }
    }

    /// At a constant load it comes to what that asks for, and stays.
    #[test]
    fn constant_load_converges_and_does_not_flap(
        load in 0..100_000u64,
        start in 0..65u32,
        idle_s in 1..30u32,
    ) {
        let bounds = bounds(0, 64, idle_s * SECOND);
        let mut scaler = Scaler::new(start, &bounds, Duration::ZERO);
        run(&mut scaler, &bounds, load, Duration::ZERO, 4 * idle_s * SECOND + 5 * SECOND);
        let after = 4 * idle_s * SECOND + 6 * SECOND;
        let settled = run(&mut scaler, &bounds, load, after, 3 * idle_s * SECOND + 10 * SECOND);
        prop_assert!(settled.iter().all(|count| *count == settled[0]), "{settled:?}");
        prop_assert_eq!(settled[0], for_load(load).min(64));
    }

    /// Without anything to do, all that need not be there are gone after `idle` and a few steps.
    #[test]
    fn without_load_only_the_least_are_left(load in 0..100_000u64, min in 0..5u32, idle_s in 1..30u32) {
        let bounds = bounds(min, 64, idle_s * SECOND);
        let mut scaler = Scaler::new(min, &bounds, Duration::ZERO);
        run(&mut scaler, &bounds, load, Duration::ZERO, 5 * SECOND);
        // The last look may come an eighth later, and halving 64 takes seven.
        let seen = run(&mut scaler, &bounds, 0, 5 * SECOND, idle_s * SECOND + bounds.idle / 8 + SECOND);
        prop_assert_eq!(seen.last(), Some(&min));
    }

    /// A clock that steps back harms nobody.
    #[test]
    fn time_that_steps_back_is_borne(steps in prop::collection::vec((any::<u64>(), any::<u64>()), 0..50)) {
        let bounds = bounds(0, 8, SECOND);
        let mut scaler = Scaler::new(0, &bounds, Duration::ZERO);
        for (now, running) in steps {
            let sight = Sight { running, waiting: running, wanted: true, ready: 1 };
            let count = scaler.look(&bounds, &sight, Duration::from_nanos(now)).replicas;
            prop_assert!((1..=8).contains(&count));
        }
    }
}
