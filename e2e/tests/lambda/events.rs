//! Calls without an answer, and a node that dies with many of them.

use std::time::Duration;

use baton_e2e::{need_one_node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

use super::place::Place;

const LONG: Duration = Duration::from_secs(90);
/// Events that are queued when the node is killed.
const COUNT: &str = "1280";

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
fn queued_events_survive_a_node_that_is_killed() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    let told: Value = serde_json::from_str(&place.python("queue", &[("COUNT", COUNT)])).unwrap();
    let taken = told["202"].as_u64().unwrap();
    assert_eq!(taken.to_string(), COUNT, "{told}");
    let done = queue(&place)["done"].as_u64().unwrap();
    let place = Place::again(place.node.kill()).unwrap();
    assert!(queue(&place)["waiting"].as_u64() >= Some(taken - done - 16), "{}", queue(&place));
    place.python("quicken", &[]);
    wait_until(LONG, "nothing waits", || queue(&place)["waiting"] == 0);
    let after = queue(&place);
    // What was done just before the end may be done twice, and nothing is lost.
    assert_eq!(after["dead"], 0);
    assert!(done + after["done"].as_u64().unwrap() >= taken, "{taken} taken, {done} done before, {after}");
}
