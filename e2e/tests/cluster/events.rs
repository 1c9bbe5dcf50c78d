//! Events of a cluster: they lie in its store, and any node does them.

use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::members::members;
use baton_e2e::{App, Client, Nats, Node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// How long many events may take, one node killed among them.
const LONG: Duration = Duration::from_secs(60);

fn send(client: &mut Client, node: &Node, function: &str, body: &[u8]) -> (u16, Value) {
    let (path, token) = (format!("/v1/events/{}/{function}", node.app()), format!("Bearer {}", node.token));
    let answer = client.request("POST", &path, &[("authorization", token.as_str())], body);
    let answer = answer.expect("the admin API answers");
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

fn queue(node: &Node, function: &str) -> Value {
    let events = node.ask("/v1/events");
    let queues = events["queues"].as_array().cloned().unwrap_or_default();
    queues.into_iter().find(|queue| queue["function"] == function).unwrap_or(Value::Null)
}

fn dead(node: &Node) -> Vec<String> {
    let events = node.ask("/v1/events");
    let dead = events["dead"].as_array().cloned().unwrap_or_default();
    dead.iter().map(|dead| dead["event"].as_str().expect("a name").to_owned()).collect()
}

/// Opens a tally on a node that hosts it, and says whether it did.
fn open(node: &Node, function: &str) -> bool {
    node.cli(["invoke", &format!("{}/{function}", node.app()), "--path", "/open"]).stdout == "open"
}

#[test]
fn a_cluster_does_the_events_of_a_killed_node() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let count = 2_000_u32;
    let app = App::new("spread").function(
        "doer",
        "tally",
        "timeout = \"5s\"\nevents = { attempts = 100, pause = \"50ms\", concurrency = 4, queue = 2000 }",
    );
    let mut nodes = members(&nats, &app, &["a", "b", "c"]);
    thread::scope(|scope| {
        for part in 0..4 {
            let node = &nodes[0];
            scope.spawn(move || {
                let mut client = Client::connect(node.admin).expect("the admin API accepts connections");
                for number in (part..count).step_by(4) {
                    let (status, reply) = send(&mut client, node, "doer", number.to_string().as_bytes());
                    assert_eq!(status, 202, "{reply}");
                }
            });
        }
    });
    // As many as may wait do, whoever is asked.
    wait_until(SOON, "another node knows of them", || queue(&nodes[1], "doer")["waiting"] == count);
    let mut client = Client::connect(nodes[1].admin).expect("the admin API accepts connections");
    let (status, reply) = send(&mut client, &nodes[1], "doer", b"1");
    assert_eq!(status, 429, "{reply}");
    // The one that took them all dies while it works at some.
    let first = nodes.remove(0);
    assert!(queue(&first, "doer")["running"].as_u64() > Some(0), "{}", queue(&first, "doer"));
    drop(first.kill());
    wait_until(SOON, "both others are open", || nodes.iter().all(|node| open(node, "doer")));
    wait_until(LONG, "all are done", || {
        for node in &nodes {
            open(node, "doer");
        }
        nodes.iter().all(|node| queue(node, "doer")["waiting"] == 0)
    });
    let done: Vec<u64> = nodes.iter().map(|node| queue(node, "doer")["done"].as_u64().unwrap_or(0)).collect();
    assert!(done.iter().all(|done| *done > 0), "one node did nothing: {done:?}");
    assert_eq!(done.iter().sum::<u64>(), u64::from(count), "{done:?}");
    assert!(dead(&nodes[0]).is_empty());
}

#[test]
fn what_comes_to_nothing_in_a_cluster_is_seen_from_any_node() {
    need_sandbox!();
    need_processes!();
    let Some(mut nats) = Nats::start() else { return };
    let app = App::new("letters")
        .function("mailer", "tally", "events = { attempts = 2, pause = \"50ms\", dead_letter = \"attic\" }")
        .function("attic", "last", "")
        .function("picky", "tally", "events = { attempts = 2, pause = \"50ms\" }");
    let nodes = members(&nats, &app, &["a", "b"]);
    let mut client = Client::connect(nodes[0].admin).expect("the admin API accepts connections");
    // Closed: it is tried twice, and then told to the function of last resort.
    assert_eq!(send(&mut client, &nodes[0], "mailer", b"1").0, 202);
    wait_until(SOON, "the letter is done", || {
        nodes.iter().any(|node| queue(node, "attic")["done"].as_u64() > Some(0))
    });
    let (status, reply) = send(&mut client, &nodes[0], "picky", b"no number");
    assert_eq!(status, 202, "{reply}");
    let event = reply["event"].as_str().expect("a name").to_owned();
    wait_until(SOON, "it came to nothing, and both know", || {
        nodes.iter().all(|node| dead(node) == [event.as_str()])
    });
    let again = nodes[1].cli(["events", "retry", &event, "--json"]).json();
    let again = again["event"].as_str().expect("a name").to_owned();
    wait_until(SOON, "it came to nothing again", || dead(&nodes[0]) == [again.as_str()]);
    assert_eq!(nodes[0].cli(["events", "drop", &again]).code, 0);
    assert!(dead(&nodes[1]).is_empty());
    assert_eq!(nodes[1].cli(["events", "drop", &again]).code, 1);
    // Without the store a node keeps on its own disk what comes, and does it. What is too long for the store as well.
    let long = vec![b' '; 3 << 20];
    assert_eq!(send(&mut client, &nodes[0], "attic", &long).0, 202);
    nats.kill();
    let (status, reply) = send(&mut client, &nodes[0], "attic", b"alone");
    assert_eq!(status, 202, "{reply}");
    wait_until(SOON, "it is done here", || queue(&nodes[0], "attic")["done"].as_u64() >= Some(2));
}

#[test]
fn the_clock_of_a_cluster_calls_once() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let cron = "[[cron]]\nschedule = \"* * * * * *\"\nfunction = \"tick\"\nbody = \"7\"\n";
    let app = App::new("clock").function("tick", "last", cron);
    let nodes = members(&nats, &app, &["a", "b"]);
    let done = || nodes.iter().map(|node| queue(node, "tick")["done"].as_u64().unwrap_or(0)).sum::<u64>();
    wait_until(SOON, "the clock has called", || done() > 0);
    let (before, began) = (done(), Instant::now());
    wait_until(SOON, "the clock has called more", || done() >= before + 3);
    let most = began.elapsed().as_secs() + 2;
    assert!(done() - before <= most, "{} of {most}", done() - before);
}
