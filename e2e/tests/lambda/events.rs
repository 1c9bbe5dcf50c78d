//! Calls without an answer: a full queue, and a node that dies with many of them.

use std::time::Duration;

use baton_e2e::{need_one_node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

use super::place::Place;

const LONG: Duration = Duration::from_secs(90);
/// Events that may wait for a function.
const BOUND: u64 = 10_000;

fn queue(place: &Place) -> Value {
    let events = place.node.ask("/v1/events");
    let queues = events["queues"].as_array().cloned().unwrap_or_default();
    queues.into_iter().find(|queue| queue["app"] == "lambda-queue").unwrap_or(Value::Null)
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
fn a_full_queue_refuses_and_what_is_in_it_survives_a_node_that_is_killed() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    let told: Value = serde_json::from_str(&place.python("queue", &[])).unwrap();
    let (taken, refused) = (told["202"].as_u64().unwrap(), told["429"].as_u64().unwrap());
    assert!(taken >= BOUND && refused > 0 && taken + refused == 32 * 330, "{told}");
    let done = queue(&place)["done"].as_u64().unwrap();
    let place = Place::again(place.node.kill()).unwrap();
    place.python("quicken", &[]);
    wait_until(LONG, "nothing waits", || queue(&place)["waiting"] == 0);
    let after = queue(&place);
    // What was done just before the end may be done twice, and nothing is lost.
    assert_eq!(after["dead"], 0);
    assert!(done + after["done"].as_u64().unwrap() >= taken, "{taken} taken, {done} done before, {after}");
}
