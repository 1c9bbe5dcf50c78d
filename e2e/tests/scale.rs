//! Replicas that come and go: from none and back under load, within their bounds, without a lost or doubled request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baton_e2e::process::{is_alive, kill};
use baton_e2e::{App, Client, Node, in_cells, need_one_node, need_processes, need_sandbox, wait_until};
use serde_json::Value;

const REST: Duration = Duration::from_secs(10);

/// Which processes a function's replicas are.
fn pids(node: &Node, function: &str) -> BTreeSet<u64> {
    let function = node.function(function);
    let replicas = function["replicas"].as_array().cloned().unwrap_or_default();
    replicas.iter().filter_map(|replica| replica["pid"].as_u64()).filter(|pid| *pid != 0).collect()
}

fn wait_for(node: &Node, function: &str, count: usize) {
    wait_until(REST, &format!("{function} has {count}"), || pids(node, function).len() == count);
}

/// Watches how many replicas a function has, until told to stop: gives the most.
struct Watch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
}

impl Watch {
    /// Looks while `during` runs.
    fn most<R>(node: &Node, function: &str, during: impl FnOnce() -> R) -> (usize, R) {
        let watch = Watch { stop: Arc::default(), most: Arc::default() };
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                while !watch.stop.load(Ordering::Relaxed) {
                    watch.most.fetch_max(pids(node, function).len(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let result = during();
            watch.stop.store(true, Ordering::Relaxed);
            result
        });
        (watch.most.load(Ordering::Relaxed), result)
    }
}

/// Clients that send numbers, each once, and take the answers.
struct Load {
    next: Arc<AtomicUsize>,
}

impl Load {
    fn new() -> Self {
        Load { next: Arc::default() }
    }

    /// So many clients at once for so long. Gives the statuses of those that were not answered by 200 and their number.
    fn run(&self, node: &Node, target: &str, clients: usize, span: Duration, pause: Duration) -> Vec<u16> {
        let until = Instant::now() + span;
        let client = |_| {
            let (gateway, target, next) = (node.gateway, target.to_owned(), Arc::clone(&self.next));
            thread::spawn(move || {
                let mut client = Client::connect(gateway).expect("the gateway is there");
                let mut failed = Vec::new();
                while Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed).to_string();
                    let answer = client.request("POST", &target, &[], number.as_bytes()).expect("an answer");
                    match answer.status {
                        200 => assert_eq!(answer.text(), number, "someone else's answer"),
                        status => {
                            eprintln!("{status}: {}", answer.text());
                            failed.push(status);
                        }
                    }
                    thread::sleep(pause);
                }
                failed
            })
        };
        let clients: Vec<JoinHandle<Vec<u16>>> = (0..clients).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    }

    fn sent(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Every number was worked on once.
    fn check(&self, node: &Node, function: &str) {
        let mut stamped: Vec<usize> = Vec::new();
        wait_until(REST, "all lines are there", || {
            let lines = node.log_of(function);
            stamped = lines.iter().filter_map(|line| line.strip_prefix("stamped ")?.parse().ok()).collect();
            stamped.len() >= self.sent()
        });
        stamped.sort_unstable();
        let all: Vec<usize> = (0..self.sent()).collect();
        assert_eq!(stamped, all, "lost or doubled");
    }
}

/// Nobody died: all that went were let go.
fn check_no_deaths(node: &Node) {
    let deaths: Vec<String> =
        node.log_of("node").into_iter().filter(|line| line.contains("again in")).collect();
    assert!(deaths.is_empty(), "{deaths:?}");
}

fn stamp(name: &str, scale: &str) -> App {
    let more = format!("timeout = \"10s\"\nenv = {{ WORKS_MS = \"10\" }}\nscale = {{ {scale} }}");
    App::new(name).function("stamp", "stamp", &more)
}

#[test]
fn from_none_to_max_and_back_no_request_is_lost_or_doubled() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&stamp("waves", "min = 0, max = 3, concurrency = 1, idle = \"1s\", queue = 256"));
    let load = Load::new();
    for _ in 0..2 {
        wait_for(&node, "stamp", 0);
        let none = Duration::ZERO;
        let (most, failed) = Watch::most(&node, "stamp", || {
            let failed = load.run(&node, "/stamp", 8, Duration::from_millis(800), none);
            // Those beyond the first go while requests still come.
            let trickle = Duration::from_millis(15);
            failed
                .into_iter()
                .chain(load.run(&node, "/stamp", 1, Duration::from_millis(2500), trickle))
                .collect::<Vec<_>>()
        });
        assert_eq!(failed, Vec::<u16>::new());
        assert_eq!(most, 3, "as many as may be, and not more");
        wait_until(REST, "those that are not needed go", || pids(&node, "stamp").len() <= 1);
    }
    let last = pids(&node, "stamp");
    wait_for(&node, "stamp", 0);
    wait_until(REST, "their processes end", || {
        !last.iter().any(|pid| is_alive(u32::try_from(*pid).unwrap()))
    });
    load.check(&node, "stamp");
    check_no_deaths(&node);
    let cold = node.function("stamp")["cold_starts"].clone();
    let count = |phase: &str| cold[phase]["count"].as_u64().unwrap_or(0);
    assert!(count("queue") > 0 && count("spawn") > 0 && count("init") > 0 && count("handler") > 0, "{cold}");
    node.wait_at_rest(REST);
}

#[test]
fn a_chain_is_woken_as_a_whole_and_drained_under_load() {
    need_sandbox!();
    need_one_node!();
    let scale = |max| {
        format!(
            "timeout = \"10s\"\nscale = {{ min = 0, max = {max}, concurrency = 4, idle = \"1s\", queue = 256 }}"
        )
    };
    let relay =
        |next: &str, max| format!("calls = [\"{next}\"]\nenv = {{ NEXT = \"{next}\" }}\n{}", scale(max));
    let app = App::new("chain")
        .function("a", "relay", &relay("b", 2))
        .function("b", "relay", &relay("c", 2))
        .function("c", "stamp", &format!("env = {{ WORKS_MS = \"4\" }}\n{}", scale(3)));
    let node = Node::start(&app);
    let load = Load::new();
    for _ in 0..2 {
        ["a", "b", "c"].iter().for_each(|function| wait_for(&node, function, 0));
        let none = Duration::ZERO;
        assert_eq!(load.run(&node, "/a", 12, Duration::from_millis(800), none), Vec::<u16>::new());
        ["a", "b", "c"].iter().for_each(|function| assert!(!pids(&node, function).is_empty(), "{function}"));
        let trickle = Duration::from_millis(10);
        assert_eq!(load.run(&node, "/a", 1, Duration::from_millis(2500), trickle), Vec::<u16>::new());
    }
    ["a", "b", "c"].iter().for_each(|function| wait_for(&node, function, 0));
    load.check(&node, "c");
    check_no_deaths(&node);
    node.wait_at_rest(REST);
}

#[test]
fn the_least_stay_and_the_rest_go() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&stamp("floor", "min = 2, max = 4, concurrency = 1, idle = \"1s\", queue = 256"));
    let first = pids(&node, "stamp");
    assert_eq!(first.len(), 2, "they are there from the start");
    let load = Load::new();
    let (most, failed) = Watch::most(&node, "stamp", || {
        load.run(&node, "/stamp", 8, Duration::from_millis(700), Duration::ZERO)
    });
    assert_eq!((failed, most), (Vec::new(), 4));
    wait_for(&node, "stamp", 2);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(pids(&node, "stamp").len(), 2);
    load.check(&node, "stamp");
    check_no_deaths(&node);
}

#[test]
fn a_function_that_crashes_as_it_starts_is_refused_though_none_has_to_be_there() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&stamp("crash", "min = 0, max = 2, idle = \"1s\""));
    let broken =
        App::new("crash").function("stamp", "stillborn", "scale = { min = 0, max = 2, idle = \"1s\" }");
    let directory = broken.directory().to_str().unwrap().to_owned();
    let refused = node.cli(["deploy", &directory]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("stamp"), "{}", refused.stderr);
    assert_eq!(node.post("/stamp", b"1").text(), "1", "what ran before goes on");
}

#[test]
fn a_replica_killed_while_they_come_and_go_costs_its_own_calls_only() {
    need_sandbox!();
    need_one_node!();
    need_processes!();
    let node = Node::start(&stamp("killed", "min = 0, max = 3, concurrency = 1, idle = \"1s\", queue = 256"));
    let load = Load::new();
    let (killed, failed) = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(250));
                if let Some(pid) = pids(&node, "stamp").first() {
                    killed += usize::from(kill(u32::try_from(*pid).unwrap()));
                }
            }
            killed
        });
        let failed = load.run(&node, "/stamp", 6, Duration::from_millis(1400), Duration::from_millis(1));
        (killer.join().unwrap(), failed)
    });
    assert!(killed > 0 && failed.len() <= killed, "{killed} killed: {failed:?}");
    assert!(failed.iter().all(|status| *status == 502), "{failed:?}");
    wait_for(&node, "stamp", 0);
    assert_eq!(node.post("/stamp", b"again").text(), "again");
    node.wait_at_rest(REST);
}

#[test]
fn what_there_is_to_know_of_a_function_says_within_what_it_scales() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&stamp("status", "min = 0, max = 5, idle = \"1s\""));
    wait_for(&node, "stamp", 0);
    let scale = |node: &Node| -> Value { node.function("stamp")["scale"].clone() };
    assert_eq!(scale(&node), serde_json::json!({ "min": 0, "max": 5, "wanted": 0 }));
    assert_eq!(node.post("/stamp", b"7").text(), "7");
    assert_eq!(scale(&node)["wanted"], 1);
    assert!(in_cells() || node.replica("stamp").is_some());
}

#[test]
fn limits_can_be_changed_while_it_runs() {
    need_sandbox!();
    need_one_node!();
    need_processes!();
    let node = Node::start(&stamp("limits", "min = 1, max = 1, concurrency = 1, idle = \"1s\", queue = 256"));
    let load = Load::new();
    let crowd = |load: &Load| load.run(&node, "/stamp", 6, Duration::from_millis(500), Duration::ZERO);
    assert_eq!(Watch::most(&node, "stamp", || crowd(&load)), (1, Vec::new()));
    let told = node.cli(["scale", "limits/stamp", "--max", "3", "--json"]);
    assert_eq!((told.code, told.json()["max"].as_u64()), (0, Some(3)), "{}", told.stderr);
    assert_eq!(Watch::most(&node, "stamp", || crowd(&load)), (3, Vec::new()));
    assert_eq!(node.cli(["scale", "limits/stamp", "--min", "0"]).code, 0);
    wait_for(&node, "stamp", 0);
    assert_eq!(node.cli(["scale", "limits/stamp", "--min", "2"]).code, 0);
    wait_for(&node, "stamp", 2);
    load.check(&node, "stamp");
    check_no_deaths(&node);
    let told = node.cli(["scale", "limits/stamp", "--max", "7"]);
    assert!(told.stdout.contains("until it is deployed again"), "{}", told.stdout);
    // What lasts is in the manifest.
    let next = stamp("limits", "min = 1, max = 2, concurrency = 1, idle = \"1s\", queue = 256");
    assert_eq!(node.cli(["deploy", next.directory().to_str().expect("UTF-8")]).code, 0);
    let scale = node.function("stamp")["scale"].clone();
    assert_eq!((&scale["min"], &scale["max"]), (&Value::from(1), &Value::from(2)), "{scale}");
    for (args, status, said) in [
        (&["scale", "limits/stamp", "--min", "4"][..], 1, "above max"),
        (&["scale", "limits/stamp", "--max", "0"][..], 1, "max is 0"),
        (&["scale", "limits/nobody", "--max", "2"][..], 1, "no such function"),
        (&["scale", "limits/stamp"][..], 2, "--min"),
    ] {
        let refused = baton_e2e::cli(node.home(), args);
        assert_eq!(refused.code, status, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{args:?}: {}", refused.stderr);
    }
}
