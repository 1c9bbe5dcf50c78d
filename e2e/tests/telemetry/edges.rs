//! Figures of what passes between functions, which never passes the node; and receipts of some invocations only.

use std::time::Duration;

use baton_e2e::{App, Node, need_one_node, need_sandbox, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn app() -> App {
    App::new("edges")
        .function("a", "relay", "calls = [\"b\"]\nenv = { NEXT = \"b\" }")
        .function("b", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", "")
}

fn edge(node: &Node, caller: &str, callee: &str) -> Value {
    let status = node.status();
    let edges = status["edges"].as_array().expect("a list of edges");
    edges
        .iter()
        .find(|edge| edge["caller"] == caller && edge["callee"] == callee)
        .cloned()
        .unwrap_or_default()
}

#[test]
fn every_edge_says_what_passed_over_it() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app());
    let body = vec![7; 1000];
    for _ in 0..20 {
        assert_eq!(node.post("/a?move", &body).status, 200);
    }
    for (caller, callee) in [("gateway", "a"), ("a", "b"), ("b", "c")] {
        let edge = edge(&node, caller, callee);
        assert_eq!((&edge["calls"], &edge["errors"]), (&20.into(), &0.into()), "{caller} {callee}: {edge}");
        // Both ways.
        assert_eq!(edge["bytes_handed"], 40_000, "{caller} {callee}: {edge}");
        assert!(edge["busy_ns"].as_u64().is_some_and(|ns| ns > 0), "{caller} {callee}: {edge}");
    }
    assert_eq!(node.post("/a?fail", b"x").status, 502);
    assert_eq!(edge(&node, "b", "c")["errors"], 1);
    assert_eq!(edge(&node, "gateway", "a")["errors"], 1);
    let a = node.function("a");
    assert_eq!((&a["by_class"][2], &a["by_class"][5]), (&20.into(), &1.into()), "{a}");
    assert_eq!((&a["bytes_in"], &a["latency"]["count"]), (&20_001.into(), &21.into()), "{a}");
    assert!(a["latency"]["p50_ns"].as_u64() <= a["latency"]["p99_ns"].as_u64(), "{a}");
}

#[test]
fn figures_outlive_a_replica() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app());
    for _ in 0..5 {
        assert_eq!(node.post("/a?move", b"x").status, 200);
    }
    let before = node.replica("b").expect("a replica");
    baton_e2e::process::signal(before, rustix::process::Signal::KILL);
    node.wait_for_replica("b", before, SOON);
    node.wait_for_replica("a", 0, SOON);
    wait_until(SOON, "calls pass again", || node.post("/a?move", b"x").status == 200);
    let calls = |caller, callee| edge(&node, caller, callee)["calls"].as_u64().unwrap_or(0);
    wait_until(SOON, "the edges that are gone count", || calls("b", "c") == 6 && calls("a", "b") >= 6);
}

fn receipts(node: &Node) -> usize {
    node.ask("/v1/receipts")["receipts"].as_array().expect("a list").len()
}

#[test]
fn receipts_are_of_some_or_of_those_who_ask() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start_with(&app(), &["--receipts=1/5"]);
    for _ in 0..11 {
        assert_eq!(node.post("/a?move", b"x").status, 200);
    }
    assert_eq!(receipts(&node), 3);
    drop(node);

    let node = Node::start_with(&app(), &["--receipts=on-demand"]);
    let ask = |headers: &[(&str, &str)]| {
        let answer = node.http().request("POST", "/a?move", headers, b"x").expect("an answer");
        assert_eq!(answer.status, 200);
        answer.header("x-baton-invocation").expect("an invocation").to_owned()
    };
    ask(&[]);
    let wanted = ask(&[("x-baton-receipt", "1")]);
    assert_eq!(receipts(&node), 1);
    let mut found = Value::Null;
    wait_until(SOON, "the receipt is complete", || {
        found = node.ask(&format!("/v1/receipts/{wanted}"));
        found["hops"].as_array().is_some_and(|hops| hops.len() == 3)
    });
    // What is not known is not said to be nothing.
    assert!(found.get("sidecar_ns").is_none(), "{found}");
    drop(node);

    // Whoever may use the admin API may ask whatever the node records.
    let node = Node::start(&app());
    let printed = node.cli(["invoke", "edges/c", "--data", "x", "--receipt"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("edges/c status 200"), "{}", printed.stdout);
    assert_eq!(receipts(&node), 1);
    let answer =
        node.http().request("POST", "/a?move", &[("x-baton-receipt", "1")], b"x").expect("an answer");
    assert_eq!((answer.status, receipts(&node)), (200, 1), "nobody said that requests may ask");
}
