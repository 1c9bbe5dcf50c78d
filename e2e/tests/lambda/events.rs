//! Calls without an answer: a full queue, and a node that dies with many of them.

use std::collections::BTreeSet;
use std::time::Duration;

use baton_e2e::{need_one_node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

use super::place::Place;

const LONG: Duration = Duration::from_secs(90);
/// Events that are queued when the node is killed.
const COUNT: usize = 300;

fn waiting(place: &Place, app: &str) -> u64 {
    let events = place.node.ask("/v1/events");
    let queues = events["queues"].as_array().cloned().unwrap_or_default();
    queues.iter().find(|queue| queue["app"] == app).and_then(|queue| queue["waiting"].as_u64()).unwrap_or(0)
}

#[test]
fn events_are_done_and_what_is_no_json_is_refused() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.python("events", &[]);
    wait_until(LONG, "all are done", || {
        let log = place.node.cli(["logs", "lambda-worker"]).stdout;
        (0..5).all(|number| log.contains(&format!("done {number}")))
    });
}

#[test]
fn a_full_queue_refuses_with_too_many_requests() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.python("slow", &[]);
    let told = place.python("queue_events", &[("COUNT", "1400"), ("FUNCTION", "slow")]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let (taken, refused) = (told["taken"].as_u64().unwrap(), &told["refused"]);
    let many = refused["TooManyRequestsException"].as_u64().unwrap();
    assert!(many > 0 && taken >= 1000 && taken + many == 1400, "{told}");
    assert_eq!(refused.as_object().unwrap().len(), 1, "{told}");
}

#[test]
fn events_survive_a_node_that_is_killed() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.python("counter", &[]);
    let count = COUNT.to_string();
    let told = place.python("queue_events", &[("COUNT", count.as_str()), ("FUNCTION", "counter")]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["taken"], COUNT);
    let done = |place: &Place| -> BTreeSet<usize> {
        let log = place.node.cli(["logs", "lambda-counter"]).stdout;
        let numbers = log.lines().filter_map(|line| line.rsplit_once("did ")?.1.trim().parse().ok());
        numbers.collect()
    };
    let before = done(&place);
    let home = place.node.kill();
    let place = Place::again(home).unwrap();
    wait_until(LONG, "nothing waits", || waiting(&place, "lambda-counter") == 0);
    wait_until(LONG, "each was done", || {
        let all: BTreeSet<usize> = before.union(&done(&place)).copied().collect();
        all == (0..COUNT).collect()
    });
}
