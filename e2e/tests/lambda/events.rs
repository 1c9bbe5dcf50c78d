//! Calls without an answer, and a node that dies with many of them.

use std::time::Duration;

use baton_e2e::{need_one_node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

use super::place::Place;

const LONG: Duration = Duration::from_secs(180);
/// As many events as may wait for a function (`events.queue`).
const QUEUE: u64 = 10_000;
/// More than that are sent, by 32 at once, before the node is killed.
const COUNT: u64 = 10_240;

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
fn ten_thousand_queued_events_survive_a_node_that_is_killed_and_more_are_refused() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    let told: Value = serde_json::from_str(&place.python("queue", &[("COUNT", &COUNT.to_string())])).unwrap();
    let (taken, refused) = (told["202"].as_u64(), told["429 TooManyRequestsException"].as_u64());
    let (taken, refused) = (taken.unwrap_or(0), refused.unwrap_or(0));
    let done = queue(&place)["done"].as_u64().unwrap();
    // What was done by then made room.
    assert!(taken + refused == COUNT && (QUEUE..=QUEUE + done).contains(&taken), "{told}, {done} done");
    assert!(refused > 0, "{told}");
    let place = Place::again(place.node.kill()).unwrap();
    assert!(queue(&place)["waiting"].as_u64() >= Some(taken - done - 16), "{}", queue(&place));
    place.python("quicken", &[]);
    wait_until(LONG, "nothing waits", || queue(&place)["waiting"] == 0);
    let after = queue(&place);
    // What was done just before the end may be done twice, and nothing is lost.
    assert_eq!(after["dead"], 0);
    assert!(done + after["done"].as_u64().unwrap() >= taken, "{taken} taken, {done} done before, {after}");
}
