//! Calls that nobody waits for, and calls by the clock.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::http::Client;
use baton_e2e::{App, Node, need_one_node, need_sandbox, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// How long many events may take.
const LONG: Duration = Duration::from_secs(90);

fn send(node: &Node, client: &mut Client, function: &str, body: &[u8]) -> (u16, Value) {
    let (path, token) = (format!("/v1/events/{}/{function}", node.app()), format!("Bearer {}", node.token));
    let answer = client
        .request("POST", &path, &[("authorization", token.as_str())], body)
        .expect("as a test wants it");
    (answer.status, serde_json::from_slice(&answer.body).expect("as a test wants it"))
}

fn accept(node: &Node, function: &str, body: &[u8]) {
    let mut client = Client::connect(node.admin).expect("as a test wants it");
    let (status, reply) = send(node, &mut client, function, body);
    assert_eq!((status, reply["event"].as_str().map(str::len)), (202, Some(16)), "{reply}");
}

fn queue(node: &Node, function: &str) -> Value {
    let events = node.ask("/v1/events");
    let queues = events["queues"].as_array().cloned().unwrap_or_default();
    queues.into_iter().find(|queue| queue["function"] == function).unwrap_or(Value::Null)
}

/// How often a tally has done what.
fn done(node: &Node, function: &str) -> BTreeMap<u32, u32> {
    let answer = node.cli(["invoke", &format!("{}/{function}", node.app()), "--path", "/done"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let line = |line: &str| {
        let (number, times) = line.split_once(' ').expect("as a test wants it");
        (number.parse().expect("as a test wants it"), times.parse().expect("as a test wants it"))
    };
    answer.stdout.lines().map(line).collect()
}

fn open(node: &Node, function: &str) {
    let opened = node.cli(["invoke", &format!("{}/{function}", node.app()), "--path", "/open"]);
    assert_eq!(opened.stdout, "open", "{}", opened.stderr);
}

#[test]
fn an_event_is_tried_until_it_is_done_and_what_is_refused_goes_to_the_function_of_last_resort() {
    need_sandbox!();
    need_one_node!();
    let app = App::new("post")
        .function(
            "mailer",
            "tally",
            "scale = { queue = 16 }\nevents = { attempts = 50, pause = \"50ms\", dead_letter = \"attic\" }",
        )
        .function("attic", "last", "")
        .function("unheard", "last", "events = { attempts = 1 }");
    let node = Node::start(&app);
    for number in 0..5_u32 {
        accept(&node, "mailer", number.to_string().as_bytes());
    }
    wait_until(SOON, "one was tried in vain", || queue(&node, "mailer")["retried"].as_u64() > Some(0));
    assert_eq!(queue(&node, "mailer")["done"], 0);
    open(&node, "mailer");
    wait_until(SOON, "all are done", || queue(&node, "mailer")["waiting"] == 0);
    assert_eq!(done(&node, "mailer"), (0..5).map(|number| (number, 1)).collect());
    assert!(node.log_of("mailer").iter().any(|line| line.contains("of event 16;")));
    // One that is refused is not tried again.
    accept(&node, "mailer", b"no number");
    wait_until(SOON, "the letter is done", || queue(&node, "attic")["done"] == 1);
    assert_eq!((&queue(&node, "mailer")["dead"], &queue(&node, "mailer")["waiting"]), (&1.into(), &0.into()));
    assert!(node.ask("/v1/events")["dead"].as_array().unwrap().is_empty());
    node.wait_at_rest(SOON);
}

#[test]
fn what_came_to_nothing_is_kept_shown_and_tried_anew_by_hand() {
    need_sandbox!();
    need_one_node!();
    let app = App::new("dead").function("picky", "tally", "events = { attempts = 1 }");
    let node = Node::start(&app);
    open(&node, "picky");
    let sent = node.cli(["invoke", "--event", "dead/picky", "--data", "nonsense"]);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    let event = sent.stdout.trim().to_owned();
    let dead = || node.ask("/v1/events")["dead"].as_array().cloned().unwrap();
    wait_until(SOON, "it came to nothing", || dead().len() == 1);
    let shown = node.cli(["events"]);
    assert!(shown.stdout.contains(&event) && shown.stdout.contains("422"), "{}", shown.stdout);
    let again = node.cli(["events", "retry", &event, "--json"]).json();
    let again = again["event"].as_str().unwrap().to_owned();
    wait_until(SOON, "it came to nothing again", || {
        dead().iter().any(|dead| dead["event"] == again.as_str())
    });
    assert_eq!(node.cli(["events", "drop", &again]).code, 0);
    assert!(dead().is_empty());
    let gone = node.cli(["events", "drop", &again]);
    assert!(gone.code == 1 && gone.stderr.contains("there is no event"), "{}", gone.stderr);
    assert_eq!(node.cli(["events", "retry", "zz"]).code, 1);
    let stray = node.cli(["invoke", "--event", "dead/nobody"]);
    assert!(stray.code == 1 && stray.stderr.contains("dead/nobody"), "{}", stray.stderr);
}

#[test]
fn a_full_queue_refuses_and_the_others_stay_open() {
    need_sandbox!();
    need_one_node!();
    let app = App::new("full")
        .function("slow", "tally", "events = { queue = 3, attempts = 100, concurrency = 1 }")
        .function("quick", "last", "");
    let node = Node::start(&app);
    let mut client = Client::connect(node.admin).unwrap();
    let statuses: Vec<u16> = (0..5).map(|_| send(&node, &mut client, "slow", b"1").0).collect();
    assert_eq!(statuses, [202, 202, 202, 429, 429]);
    accept(&node, "quick", b"x");
    wait_until(SOON, "it is done", || queue(&node, "quick")["done"] == 1);
    let (status, reply) = send(&node, &mut client, "quick", &vec![0; (16 << 20) + 1]);
    assert_eq!(status, 413, "{reply}");
}

#[test]
fn ten_thousand_events_outlive_a_killed_node() {
    need_sandbox!();
    need_one_node!();
    let count = 10_000_u32;
    let app = App::new("many").function(
        "tally",
        "tally",
        "timeout = \"5s\"\nevents = { attempts = 100, pause = \"100ms\", concurrency = 4, queue = 20000 }",
    );
    let node = Node::start(&app);
    let per_client = count / 8;
    thread::scope(|scope| {
        for client in 0..8 {
            let node = &node;
            scope.spawn(move || {
                let mut connection = Client::connect(node.admin).unwrap();
                for number in client * per_client..(client + 1) * per_client {
                    let (status, reply) = send(node, &mut connection, "tally", number.to_string().as_bytes());
                    assert_eq!(status, 202, "{reply}");
                }
            });
        }
    });
    let home = node.kill();
    let node = Node::restart(home, app.name());
    assert_eq!(queue(&node, "tally")["waiting"], count);
    open(&node, "tally");
    wait_until(LONG, "all are done", || queue(&node, "tally")["waiting"] == 0);
    let done = done(&node, "tally");
    assert_eq!(done.len(), count as usize);
    assert!(node.ask("/v1/events")["dead"].as_array().unwrap().is_empty());
    node.wait_at_rest(SOON);
}

#[test]
fn the_clock_calls() {
    need_sandbox!();
    need_one_node!();
    let cron = "[[cron]]\nschedule = \"* * * * * *\"\nfunction = \"tick\"\npath = \"/open\"\n\
                [[cron]]\nschedule = \"*/2 * * * * *\"\nfunction = \"tick\"\nbody = \"7\"\n";
    let app = App::new("clock").function("tick", "tally", cron);
    let node = Node::start(&app);
    let began = Instant::now();
    wait_until(SOON, "the clock has called", || done(&node, "tick").get(&7).copied() >= Some(2));
    // Each time calls once.
    let times = done(&node, "tick").remove(&7).unwrap();
    let most = began.elapsed().as_secs() / 2 + 3;
    assert!(u64::from(times) <= most, "{times} of {most}");
}
