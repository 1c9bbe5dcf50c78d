//! Chains of functions: payloads handed on, errors that name the step, receipts, capabilities.

use std::time::Duration;

use baton_e2e::{App, Node, need_one_node, need_sandbox, wait_until};
use serde_json::Value;

const REST: Duration = Duration::from_secs(3);

fn app() -> App {
    App::new("chains")
        .function("a", "relay", "calls = [\"b\"]\nenv = { NEXT = \"b\" }\ntimeout = \"5s\"")
        .function("b", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }\ntimeout = \"5s\"")
        .function("c", "last", "timeout = \"5s\"")
        .function("d", "last", "timeout = \"5s\"")
        .function("fan", "fan", "calls = [\"c\", \"d\"]\nenv = { NEXT = \"c,d,c\" }\ntimeout = \"5s\"")
        .function("sharer", "sharer", "")
}

#[test]
fn payloads_travel_down_a_chain_and_back() {
    need_sandbox!();
    let node = Node::start(&app());
    for length in [0, 1, 4096, 1 << 20] {
        let body = vec![7; length];
        let moved = node.post("/a?move", &body);
        let expected = if length == 0 { b"nothing".to_vec() } else { body.clone() };
        assert!(
            moved.status == 200 && moved.body == expected,
            "{length}: {} {}",
            moved.status,
            moved.body.len()
        );
        if length > 0 {
            for mode in ["lend", "share"] {
                let answer = node.post(&format!("/a?{mode}"), &body);
                assert_eq!((answer.status, answer.text()), (200, length.to_string()), "{mode}");
            }
            assert!(node.post("/a?lend-and-echo", &body).body == body, "{length} lent and echoed");
        }
        node.wait_at_rest(REST);
    }
}

#[test]
fn many_chains_at_once_do_not_mix() {
    need_sandbox!();
    let node = Node::start(&app());
    let threads: Vec<_> = (1..=8_u8)
        .map(|mark| {
            let mut client = node.http();
            std::thread::spawn(move || {
                for round in 0..100_usize {
                    let body = vec![mark; 100 + round * 13];
                    let answer = client.request("POST", "/a?move", &[], &body).unwrap();
                    assert!(answer.status == 200 && answer.body == body, "{mark}: {}", answer.text());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    node.wait_at_rest(REST);
}

#[test]
fn a_payload_is_shared_with_many_at_once() {
    need_sandbox!();
    let node = Node::start(&app());
    for _ in 0..20 {
        let answer = node.post("/fan", &[1; 5000]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "5000+5000+5000"));
    }
    node.wait_at_rest(REST);
}

#[test]
fn calls_that_are_made_at_once_run_in_several_processes() {
    need_sandbox!();
    let two = "scale = { min = 2, max = 2 }\ntimeout = \"5s\"";
    let app = App::new("crowd").function("crowd", "crowd", &format!("calls = [\"worker\"]\n{two}"));
    let node = Node::start(&app.function("worker", "worker", two));
    // The first few find out that it is worth it.
    wait_until(REST, "two processes worked on one request", || {
        let answer = node.post("/crowd", &[1; 5000]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let workers: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        assert!(workers.len() == 4 && workers.iter().all(|(_, bytes)| *bytes == "5000"), "{text}");
        workers.iter().any(|(process, _)| *process != workers[0].0)
    });
    node.wait_at_rest(REST);
}

#[test]
fn a_call_between_functions_carries_a_head_as_the_gateway_does() {
    need_sandbox!();
    for trust in ["app", "buffer"] {
        let app = App::new("heralds").trust(trust);
        let app = app.function("herald", "herald", "calls = [\"seer\"]\nenv = { NEXT = \"seer\" }");
        let node = Node::start(&app.function("seer", "inspect", ""));
        for (how, len) in [
            ("nothing", 0),
            ("move", 3),
            ("move", 100_000),
            ("lend", 3),
            ("lend", 100_000),
            ("lend-mutably", 3),
            ("lend-mutably", 5000),
            ("share", 3),
            ("share", 100_000),
            ("bytes", 3),
            ("bytes", 5000),
        ] {
            for _ in 0..3 {
                let answer = node.post(&format!("/herald?{how}"), &vec![1; len]);
                let expect = format!(
                    "method=PATCH\npath=/told/%20x\nquery=a=b\nname=-\nbody={len}\ntraceparent=-\n\
                     header:x-told=once\nheader:x-told=twice\nanswered:x-from-guest=yes\nstatus=201\nkept={len}\n"
                );
                assert_eq!((answer.status, answer.text()), (200, expect), "{trust} {how} {len}");
            }
        }
        node.wait_at_rest(REST);
    }
}

#[test]
fn errors_name_the_step_that_failed() {
    need_sandbox!();
    let node = Node::start(&app());
    let failed = node.post("/a?fail", b"x");
    assert_eq!(failed.status, 502, "{}", failed.text());
    let text = failed.text();
    let steps = [text.find("b:"), text.find("c:"), text.find("the shelf is empty")];
    assert!(steps.iter().all(Option::is_some) && steps.is_sorted(), "{text}");
    // A client's mistake stays the client's.
    let refused = node.post("/a?refuse", b"x");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("that is no order"), "{}", refused.text());
    let direct = node.post("/c?fail", b"x");
    assert_eq!((direct.status, direct.text().trim_end()), (500, "the shelf is empty"));
    node.wait_at_rest(REST);
}

#[test]
fn calls_that_are_not_declared_are_refused() {
    need_sandbox!();
    let node = Node::start(&app());
    let refused = node.post("/a?undeclared", b"x");
    assert_eq!(refused.status, 500, "{}", refused.text());
    let text = refused.text();
    assert!(text.contains("nobody") && text.contains("calls") && text.contains("baton.toml"), "{text}");
    assert_eq!(node.post("/a", b"x").status, 200);
    node.wait_at_rest(REST);
}

#[test]
fn a_kept_payload_is_read_again_and_given_back() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app());
    let keep =
        |path: &str| node.cli(["invoke", "chains/sharer", "--path", path, "--data", "keepsake", "--json"]);
    assert_eq!(keep("/keep").json()["body"], "kept");
    for _ in 0..3 {
        assert_eq!(keep("/read").json()["body"], "keepsake");
    }
    wait_until(REST, "only the kept payload is in use", || node.buffers_in_use() == 1);
    let caps = node.ask("/v1/caps?app=chains");
    let rows = caps["capabilities"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{caps}");
    let row = rows.first().unwrap();
    assert!(row["holder"].as_str().unwrap().starts_with("sharer#"), "{row}");
    assert!(!row["rights"].as_str().unwrap().contains('w'), "a frozen payload can be written: {row}");
    assert_eq!(keep("/keep").json()["body"], "kept");
    wait_until(REST, "the first keepsake went", || node.buffers_in_use() == 1);
    assert_eq!(keep("/forget").json()["body"], "gone");
    node.wait_at_rest(REST);
    assert_eq!(keep("/read").json()["status"], 404);
}

fn receipt(node: &Node, path: &str, body: &[u8]) -> Value {
    let answer = node.post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-baton-invocation").expect("an invocation").to_owned();
    let mut found = Value::Null;
    wait_until(REST, "every hop's row is in the receipt", || {
        found = node.cli(["receipt", &id, "--json"]).json();
        found["hops"].as_array().is_some_and(|hops| hops.len() == 3)
    });
    found
}

#[test]
fn receipts_count_copies_and_hops() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start_with(&app(), &["--receipts"]);
    let body = vec![1; 100_000];
    for mode in ["move", "lend", "share"] {
        let receipt = receipt(&node, &format!("/a?{mode}"), &body);
        assert_eq!(
            (&receipt["copies"], &receipt["bytes_copied"]),
            (&0.into(), &0.into()),
            "{mode}: {receipt}"
        );
        assert_eq!((&receipt["app"], &receipt["function"]), (&"chains".into(), &"a".into()));
        let hops = receipt["hops"].as_array().unwrap();
        let edge = |hop: &Value| format!("{} -> {}", hop["caller"], hop["function"]).replace('"', "");
        let mut edges: Vec<_> = hops.iter().map(edge).collect();
        // Each step reports over a link of its own: rows may overtake each other.
        edges.sort();
        assert_eq!(edges, ["a -> b", "b -> c", "gateway -> a"], "{mode}");
        assert!(receipt["bytes_handed"].as_u64().unwrap() >= 200_000, "{mode}: {receipt}");
        // Inside a cell only the way to the node and back crosses rings.
        let crossings = if baton_e2e::in_cells() { 2 } else { 6 };
        assert!(
            receipt["cpu_ns"].as_u64().unwrap() > 0 && receipt["crossings"].as_u64().unwrap() >= crossings,
            "{receipt}"
        );
    }
    // What is only lent cannot be moved back: each step that answers with it copies it.
    let receipt = receipt(&node, "/a?lend-and-echo", &body);
    assert_eq!((&receipt["copies"], &receipt["bytes_copied"]), (&1.into(), &100_000.into()), "{receipt}");
    let last = node.cli(["receipt", "last", "--json"]).json();
    assert_eq!(last["invocation"], receipt["invocation"]);
    node.wait_at_rest(REST);
}

/// Rows of everyone's capabilities, as `caps ls` shows them.
fn capabilities(node: &Node) -> Vec<Value> {
    let listed = node.cli(["caps", "ls", "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    listed.json()["capabilities"].as_array().expect("a list").clone()
}

fn find<'a>(rows: &'a [Value], holder: &str) -> Vec<&'a Value> {
    let of = |row: &&Value| row["holder"].as_str().is_some_and(|name| name.starts_with(holder));
    rows.iter().filter(of).collect()
}

#[test]
fn capabilities_of_a_stalled_call_say_who_holds_what() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app());
    assert_eq!(capabilities(&node), Vec::<Value>::new());

    let moved = node.in_background("/a?stall", &[5; 3000]);
    wait_until(REST, "the payload arrived at c", || find(&capabilities(&node), "c#").len() == 1);
    let rows = capabilities(&node);
    assert_eq!(rows.len(), 1, "a moved payload has one holder: {rows:?}");
    let row = rows.first().unwrap();
    assert_eq!(
        (&row["rights"], &row["len"], &row["state"]),
        (&"rwp".into(), &3000.into(), &"held".into()),
        "{row}"
    );
    assert_eq!((&row["app"], &row["parent"]), (&"chains".into(), &Value::Null), "{row}");
    let answer = moved.join().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(row["invocation"].as_str(), answer.header("x-baton-invocation"), "{row}");
    assert_eq!(capabilities(&node), Vec::<Value>::new());

    let lent = node.in_background("/a?lend-and-stall", &[5; 3000]);
    wait_until(REST, "the payload was lent to c", || find(&capabilities(&node), "c#").len() == 1);
    let rows = capabilities(&node);
    assert_eq!(rows.len(), 3, "a, b and c each hold their own: {rows:?}");
    let one = |holder| {
        let found = find(&rows, holder);
        assert_eq!(found.len(), 1, "{holder} in {rows:?}");
        (*found.first().unwrap()).clone()
    };
    let (a, b, c) = (one("a#"), one("b#"), one("c#"));
    assert!([&a, &b, &c].iter().all(|row| row["buffer"] == a["buffer"]), "{rows:?}");
    // The first step owns the buffer, the request's head included; it lent the body alone.
    assert_eq!((&a["rights"], &a["offset"]), (&"rwp".into(), &0.into()));
    assert!([&b, &c].iter().all(|row| row["len"] == 3000), "{rows:?}");
    for row in [&b, &c] {
        let rights = row["rights"].as_str().unwrap();
        assert!(rights.starts_with("r-"), "a lent payload can be written: {row}");
    }
    assert_eq!(b["parent"], a["capability"], "{rows:?}");
    assert_eq!(lent.join().unwrap().status, 200);
    assert_eq!(capabilities(&node), Vec::<Value>::new());
    node.wait_at_rest(REST);
}
