//! Who hands payloads over between processes: the choice, what becomes of it without privileges, and what the kernel counts.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::process::kill;
use baton_e2e::{
    App, Client, Node, baton, kernel_hands_over, need_one_node, need_processes, need_sandbox, wait_until,
};
use serde_json::Value;

const REST: Duration = Duration::from_secs(10);
/// Takes from a node what loading programs into the kernel needs.
const UNPRIVILEGED: [&str; 2] = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin,-net_admin"];

fn pair(name: &str) -> App {
    App::new(name)
        .function("a", "relay", "calls = [\"b\"]\nenv = { NEXT = \"b\" }\ntimeout = \"5s\"")
        .function("b", "last", "timeout = \"5s\"")
}

/// The row of an edge, as the admin API has it.
fn edge(node: &Node, caller: &str, callee: &str) -> Value {
    let edges = node.status()["edges"].as_array().cloned().unwrap_or_default();
    edges.into_iter().find(|edge| edge["caller"] == caller && edge["callee"] == callee).unwrap_or_default()
}

/// A sample of the metrics by the beginning of its line.
fn sample(node: &Node, begins: &str) -> Option<f64> {
    let token = format!("Bearer {}", node.token);
    let mut client = Client::connect(node.admin).expect("the admin API accepts connections");
    let answer = client.request("GET", "/metrics", &[("authorization", &token)], b"").expect("an answer");
    let text = answer.text();
    let line = text.lines().find(|line| line.starts_with(begins))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn the_kernel_hands_over_where_it_is_asked_to() {
    need_sandbox!();
    need_processes!();
    need_one_node!();
    if !kernel_hands_over() {
        return;
    }
    for (app, wake, why) in [
        (pair("named").wake("ebpf"), "ebpf", "the manifest says so"),
        (pair("strict").trust("buffer").wake("auto"), "ebpf", "the manifest says trust = \"buffer\""),
        (pair("lenient").wake("auto"), "ring", "the manifest does not say trust = \"buffer\""),
        (pair("rings").trust("buffer").wake("ring"), "ring", "the manifest says so"),
    ] {
        let node = Node::start(&app);
        let status = node.status();
        assert_eq!((&status["wake"], &status["wake_because"]), (&wake.into(), &why.into()));
        let shown = node.cli(["ps"]);
        assert!(shown.stdout.contains(&format!("wake {wake} ({why})")), "{}", shown.stdout);
        let said = node.log_of("node").iter().any(|line| line.contains("hand over by the kernel"));
        assert_eq!(said, wake == "ebpf", "{:?}", node.log_of("node"));
        for length in [1, 5000, 1 << 20] {
            let body = vec![7; length];
            assert!(node.post("/a?move", &body).body == body, "{length} over {wake}");
        }
        let row = edge(&node, "a", "b");
        assert_eq!((&row["calls"], &row["by_kernel"]), (&3.into(), &(wake == "ebpf").into()), "{row}");
        assert_eq!(
            sample(&node, &format!("baton_app_wake{{app=\"{}\",wake=\"{wake}\"}}", node.app())),
            Some(1.0)
        );
        node.wait_at_rest(REST);
    }
}

#[test]
fn without_privileges_rings_take_over_and_everybody_is_told_why() {
    need_sandbox!();
    need_processes!();
    need_one_node!();
    if !kernel_hands_over() {
        return;
    }
    let doctor =
        Command::new(UNPRIVILEGED[0]).arg(UNPRIVILEGED[1]).arg(baton()).args(["doctor", "--json"]).output();
    let doctor: Value = serde_json::from_slice(&doctor.expect("doctor runs").stdout).expect("JSON");
    assert_eq!(doctor["wake"]["ebpf"], false);
    assert_eq!(doctor["wake"]["auto"], "\"auto\" is \"ring\"");
    assert!(doctor["wake"]["why"].as_str().expect("a reason").contains("CAP_BPF"), "{doctor}");
    if doctor["isolation"][0]["available"] != true {
        eprintln!("SKIP: without these privileges there are no sandboxes here either");
        return;
    }
    let node = Node::start_under(&UNPRIVILEGED, &pair("poor").wake("ebpf"));
    let status = node.status();
    assert_eq!(status["wake"], "ring");
    let why = status["wake_because"].as_str().expect("a reason");
    assert!(why.contains("the kernel does not take the program") && why.contains("CAP_BPF"), "{why}");
    let told = node
        .log_of("node")
        .iter()
        .any(|line| line.contains("hand over by rings") && line.contains("CAP_BPF"));
    assert!(told, "{:?}", node.log_of("node"));
    assert_eq!(node.post("/a?move", b"by rings").text(), "by rings");
    assert_eq!(edge(&node, "a", "b")["by_kernel"], false);
}

#[test]
fn cells_and_the_kernel_do_not_go_together() {
    need_one_node!();
    let app = App::new("cells").artifact("cell", "guest", "compartment", "").wake("ebpf");
    let node = Node::bare("cells", &[]);
    let refused = node.cli(["deploy", &app.directory().display().to_string()]);
    assert_ne!(refused.code, 0, "{}", refused.stderr);
    // It is laid out in lines.
    let words = refused.stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["wake = \"ebpf\" is for processes", "isolation = \"compartment\"", "or remove wake"] {
        assert!(words.contains(part), "{words}");
    }
}

/// So many clients at once, so many requests each. Gives how many were answered.
fn load(node: &Node, clients: usize, each: usize) -> usize {
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let gateway = node.gateway;
            thread::spawn(move || {
                let mut http = Client::connect(gateway).expect("the gateway is there");
                let answered = |number: &usize| {
                    let body = vec![u8::try_from(number % 251).expect("small"); 100 + client * 977 + number];
                    let answer = http.request("POST", "/a?move", &[], &body).expect("an answer");
                    match answer.status {
                        200 => {
                            assert!(answer.body == body, "someone else's answer");
                            true
                        }
                        _ => false,
                    }
                };
                (0..each).filter(answered).count()
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().expect("a client")).sum()
}

#[test]
fn every_request_is_counted_while_replicas_come_and_go() {
    need_sandbox!();
    need_processes!();
    need_one_node!();
    if !kernel_hands_over() {
        return;
    }
    let scale =
        |max| format!("timeout = \"5s\"\nscale = {{ min = 1, max = {max}, concurrency = 8, idle = \"1s\" }}");
    let app = App::new("tides")
        .wake("ebpf")
        .function("a", "relay", &format!("calls = [\"b\"]\nenv = {{ NEXT = \"b\" }}\n{}", scale(1)))
        .function("b", "last", &scale(4));
    let node = Node::start(&app);
    let answered = thread::scope(|scope| {
        let load = scope.spawn(|| load(&node, 6, 150));
        for count in [3, 1, 4, 2, 1, 3] {
            node.put("/v1/apps/tides/functions/b/scale", &format!("{{\"min\":{count},\"max\":{count}}}"));
            thread::sleep(Duration::from_millis(120));
        }
        load.join().expect("the load")
    });
    assert_eq!(answered, 900, "no request is lost where replicas come and go");
    let row = edge(&node, "a", "b");
    assert_eq!(
        (&row["calls"], &row["errors"], &row["refusals"]),
        (&900.into(), &0.into(), &0.into()),
        "{row}"
    );
    let labels = "{app=\"tides\",caller=\"a\",callee=\"b\"}";
    assert_eq!(sample(&node, &format!("baton_edge_calls_total{labels}")), Some(900.0));
    assert_eq!(sample(&node, &format!("baton_edge_refusals_total{labels}")), Some(0.0));
    node.wait_at_rest(REST);
    // One that is killed takes its own calls along, and no others.
    let victim = node.replica("b").expect("there is one");
    let load = thread::scope(|scope| {
        let load = scope.spawn(|| load(&node, 4, 100));
        thread::sleep(Duration::from_millis(100));
        assert!(kill(victim));
        load.join().expect("the load")
    });
    assert!(load >= 400 - 4 * 8, "{load} of 400 were answered");
    node.wait_for_replica("b", victim, REST);
    node.wait_at_rest(REST);
    let answered = node.post("/a?move", b"after").text();
    assert_eq!(answered, "after");
}

#[test]
fn a_receipt_shows_the_kernels_hop() {
    need_sandbox!();
    need_processes!();
    need_one_node!();
    if !kernel_hands_over() {
        return;
    }
    let node = Node::start_with(&pair("hops").wake("ebpf"), &["--receipts"]);
    assert_eq!(node.post("/a?move", b"some bytes").text(), "some bytes");
    let mut receipt = Value::Null;
    wait_until(REST, "the receipt has both hops", || {
        receipt = node.cli(["receipt", "last", "--json"]).json();
        receipt["hops"].as_array().is_some_and(|hops| hops.len() == 2)
    });
    let hop = |function: &str| {
        let hops = receipt["hops"].as_array().expect("hops");
        hops.iter().find(|hop| hop["function"] == function).expect("a hop").clone()
    };
    assert_eq!(hop("b")["via"], "kernel", "{receipt}");
    assert_eq!(hop("b")["copies"], 0, "{receipt}");
    assert!(hop("a")["via"].is_null(), "{receipt}");
}

/// Processor time that a process has used, ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

#[test]
fn who_waits_for_the_kernel_uses_no_processor() {
    need_sandbox!();
    need_processes!();
    need_one_node!();
    if !kernel_hands_over() {
        return;
    }
    let node = Node::start(&pair("idle").wake("ebpf"));
    assert_eq!(node.post("/a?move", b"awake").text(), "awake");
    node.wait_at_rest(REST);
    let replicas = node.replicas();
    let used = || replicas.iter().map(|pid| ticks(*pid)).sum::<u64>();
    thread::sleep(Duration::from_millis(300));
    let (before, began) = (used(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    assert!(used() - before <= 1, "{} ticks within {:?}", used() - before, began.elapsed());
    assert_eq!(node.post("/a?move", b"again").text(), "again");
}
