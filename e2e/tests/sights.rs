//! `baton top` and `baton graph` against a node that has something to do, and against none.

use std::thread;
use std::time::Duration;

use baton_e2e::{App, Node, cli, need_one_node, need_sandbox};
use serde_json::Value;

/// A chain of two, called from outside.
fn start() -> (App, Node) {
    let app = App::new("sights")
        .function("front", "relay", "calls = [\"back\"]\nenv = { NEXT = \"back\" }")
        .function("back", "last", "")
        .function("idle", "hello", "");
    let node = Node::start(&app);
    (app, node)
}

/// Requests from another thread for as long as a verb looks.
fn load(node: &Node) -> thread::JoinHandle<()> {
    let mut client = node.http();
    thread::spawn(move || {
        for _ in 0..150 {
            let answer = client.request("POST", "/front", &[], b"baton").expect("an answer");
            assert!(answer.status < 500, "{answer:?}");
            thread::sleep(Duration::from_millis(15));
        }
    })
}

fn row<'a>(rates: &'a Value, name: &str) -> &'a Value {
    let rows = rates["functions"].as_array().expect("functions");
    rows.iter().find(|row| row["function"] == name).unwrap_or_else(|| panic!("no {name} in {rates}"))
}

#[test]
fn rates_are_told_to_scripts_and_people() {
    need_sandbox!();
    need_one_node!();
    let (_app, node) = start();
    let visitor = load(&node);
    let rates = node.cli(["top", "--json", "--once"]).json();
    let text = node.cli(["top", "--once"]);
    visitor.join().expect("the visitor");
    assert!(row(&rates, "front")["calls_per_s"].as_f64().expect("a rate") > 5.0, "{rates}");
    assert_eq!(row(&rates, "idle")["calls_per_s"], 0.0);
    assert!(rates["requests_per_s"].as_f64().expect("a rate") > 5.0, "{rates}");
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.contains("sights/front") && text.stdout.contains("requests/s"), "{}", text.stdout);
    // No terminal: one plain page, also without being asked for it.
    let plain = node.cli(["top", "sights"]);
    assert!(plain.code == 0 && !plain.stdout.contains('\u{1b}'), "{plain:?}");
    for (args, code, says) in [
        (["top", "nothing", "--once"], 1, "no app nothing runs"),
        (["top", "--every", "0"], 2, "--every"),
        (["top", "--sort", "luck"], 2, "luck"),
    ] {
        let refused = node.cli(args);
        assert!(refused.code == code && refused.stderr.contains(says), "{args:?}: {refused:?}");
    }
}

#[test]
fn an_app_is_drawn_in_three_ways() {
    need_sandbox!();
    need_one_node!();
    let (_app, node) = start();
    assert!(node.post("/front", b"baton").status < 500);
    let svg = node.cli(["graph", "--over", "0"]);
    assert!(svg.code == 0 && svg.stdout.starts_with("<svg ") && svg.stdout.ends_with("</svg>\n"), "{svg:?}");
    assert!(svg.stdout.contains(">front<") && svg.stdout.contains(">Gateway<"), "{}", svg.stdout);
    let dot = node.cli(["graph", "sights", "--format", "dot"]).stdout;
    assert!(dot.starts_with("digraph \"sights\" {") && dot.contains("label=\"back\\n"), "{dot}");
    let mermaid = node.cli(["graph", "sights", "--format", "mermaid"]).stdout;
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("-->"), "{mermaid}");
    let graph = node.cli(["graph", "--json"]).json();
    assert_eq!(graph["graph"]["nodes"].as_array().map(Vec::len), Some(4), "{graph}");
    let file = node.home().join("sights.svg");
    let written = node.cli(["graph", "-o", file.to_str().expect("a path in UTF-8")]);
    assert!(written.code == 0 && written.stdout.is_empty(), "{written:?}");
    assert!(std::fs::read_to_string(&file).expect("the file").contains("</svg>"));
    for (args, code, says) in [
        (["graph", "nothing", "--json"], 1, "no app nothing runs"),
        (["graph", "-o", "/nowhere/x.svg"], 1, "cannot write"),
        (["graph", "--over", "61"], 2, "--over"),
    ] {
        let refused = node.cli(args);
        assert!(refused.code == code && refused.stderr.contains(says), "{args:?}: {refused:?}");
    }
}

#[test]
fn without_a_node_there_is_nothing_to_look_at() {
    let home = tempfile::tempdir().expect("a directory");
    for verb in ["top", "graph"] {
        let refused = cli(home.path(), [verb]);
        assert!(refused.code == 3 && refused.stderr.contains("baton up"), "{verb}: {refused:?}");
    }
}
