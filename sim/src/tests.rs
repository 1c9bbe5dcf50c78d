//! What holds in every simulated cluster, whatever its seed, its policy and its router.

use super::*;
use crate::measure::Summary;

fn small(seed: u64) -> Settings {
    Settings {
        nodes: 40,
        apps: 60,
        policy: Policy::Spread,
        router: Router::Baton,
        minds_cores: true,
        bounces: 0,
        load: 0.6,
        warm_up: 3 * SECOND,
        window: 12 * SECOND,
        deaths: 4,
        drains: 4,
        report_every: SECOND,
        late_one_of: 1_000,
        seed,
    }
}

fn check(settings: &Settings) -> Summary {
    let summary = run::run(settings);
    assert_eq!(summary.violations, Vec::<String>::new(), "{settings:?}");
    let ends = summary.answered + summary.refused + summary.lost + summary.nowhere;
    assert_eq!(ends, summary.invocations, "an invocation has one end: {settings:?}");
    assert_eq!(summary.nowhere, 0, "a node that lives hosts what is not pinned: {settings:?}");
    assert!(summary.invocations > 100, "{settings:?}");
    summary
}

#[test]
fn every_invocation_ends_once_and_no_dead_node_is_called() {
    for seed in 1..=6 {
        for policy in [Policy::Spread, Policy::Pack] {
            let summary = check(&Settings { policy, ..small(seed) });
            assert_eq!(summary.plans, 8);
        }
    }
}

#[test]
fn the_rules_hold_for_every_router() {
    for router in
        [Router::BatonAllHosts, Router::Random, Router::Two, Router::Least, Router::Stay, Router::Omniscient]
    {
        check(&Settings { router, ..small(3) });
    }
}

#[test]
fn a_drain_loses_nothing() {
    for seed in 1..=6 {
        for policy in [Policy::Spread, Policy::Pack] {
            let summary = check(&Settings { deaths: 0, drains: 12, policy, load: 0.3, ..small(seed) });
            assert_eq!(summary.lost, 0);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    assert_eq!(check(&small(5)), check(&small(5)));
    assert_ne!(check(&small(5)), check(&small(6)));
}

#[test]
fn a_report_that_comes_late_brings_no_dead_node_back() {
    for seed in 1..=6 {
        check(&Settings { deaths: 20, drains: 0, late_one_of: 2, ..small(seed) });
    }
}
