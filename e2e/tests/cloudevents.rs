//! CloudEvents over HTTP: in all three modes, to functions and into their queues, from raw requests and from a client that knows
//! nothing of Baton.

use std::process::Command;
use std::time::Duration;

use baton_e2e::{App, Node, Response, cli, need_one_node, need_sandbox, source_root, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn app(name: &str, more: &str) -> App {
    App::new(name).function("first", "listener", "").function("second", "listener", more)
}

/// A manifest with subscriptions behind an app's own.
fn start(app: &App, subscriptions: &str) -> Node {
    let manifest = std::fs::read_to_string(app.directory().join("baton.toml")).expect("it is written");
    let directory = app.manifest(&format!("{manifest}\n{subscriptions}")).to_owned();
    let home = tempfile::tempdir().expect("a directory");
    let node = Node::restart(home, app.name());
    let deployed = node.cli(["deploy", directory.to_str().expect("UTF-8")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    node
}

fn post(node: &Node, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    node.http().request("POST", path, headers, body).expect("it is answered")
}

fn event(id: &str, kind: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": kind, "subject": "Euro €", "data": { "n": 1 } })
}

fn heard(node: &Node, function: &str) -> Vec<String> {
    node.log_of(function).into_iter().filter(|line| line.contains("heard ")).collect()
}

const ASK: &str = "[[subscriptions]]\npath = \"/ask\"\nfunction = \"second\"\ntype = [\"special.*\"]\nsource = \"/shop\"\n\
                   [[subscriptions]]\npath = \"/ask\"\nfunction = \"first\"\nsource = [\"/shop\", \"/store*\"]\n";

#[test]
fn an_event_is_answered_in_the_mode_in_which_it_came() {
    need_sandbox!();
    need_one_node!();
    let node = start(&app("asked", ""), ASK);
    // Binary: as it is.
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop"),
        ("ce-type", "order"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("content-type", "text/plain"),
    ];
    let answer = post(&node, "/ask", &binary, b"hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("ce-id"), Some("re%201"));
    assert_eq!(answer.header("ce-type"), Some("answer"));
    assert!(
        heard(&node, "first")
            .iter()
            .any(|line| line.contains("heard order 1 of /shop about Euro €: text/plain hello"))
    );
    // Structured: the function sees it as if it had come in binary mode, and the answer is an object again.
    let answer = post(
        &node,
        "/ask",
        &[("content-type", STRUCTURED)],
        event("2", "special.one").to_string().as_bytes(),
    );
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(STRUCTURED)));
    assert_eq!((answer.header("x-kept"), answer.header("ce-id")), (Some("yes"), None));
    let reply: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(
        (&reply["id"], &reply["subject"], &reply["data"]),
        (&json!("re 2"), &json!("Euro €"), &json!({ "n": 1 }))
    );
    assert!(
        heard(&node, "second").iter().any(|line| line.contains("heard special.one 2")),
        "the first that takes it"
    );
    // What is no event goes out as it is.
    let answer =
        post(&node, "/ask", &[("content-type", STRUCTURED)], event("3", "plain").to_string().as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, "heard"));
    // Batch: answers in one batch, in order.
    let batch = json!([event("4", "order"), event("5", "special.two"), event("6", "plain")]).to_string();
    let answer = post(&node, "/ask", &[("content-type", BATCH)], batch.as_bytes());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(BATCH)));
    let replies: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let ids: Vec<&str> =
        replies.as_array().expect("a list").iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, ["re 4", "re 5"]);
    assert_eq!(post(&node, "/ask", &[("content-type", BATCH)], b"[]").status, 204);
    // One that fails does not keep the others from their work, and is named.
    let batch = json!([event("7", "bad"), event("8", "order")]).to_string();
    let answer =
        post(&node, "/ask", &[("content-type", BATCH), ("accept", "application/json")], batch.as_bytes());
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((answer.status, &told["done"], &told["failed"][0]["id"]), (422, &json!(1), &json!("7")));
    node.wait_at_rest(SOON);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    need_sandbox!();
    need_one_node!();
    let node = start(&app("strict", ""), ASK);
    let binary = |more: &[(&str, &str)]| {
        let plain = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order")];
        let headers: Vec<_> = plain
            .iter()
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == name))
            .chain(more.iter().filter(|(_, value)| *value != "-"))
            .copied()
            .collect();
        post(&node, "/ask", &headers, b"x")
    };
    for (headers, status, said) in [
        (&[("ce-id", "-")][..], 400, "id is missing"),
        (&[("ce-specversion", "0.3")], 400, "0.3"),
        (&[("ce-time", "soon")], 400, "time"),
        (&[("ce-source", "/elsewhere")], 404, "no subscription"),
        (&[("content-type", "application/cloudevents+avro")], 415, "avro"),
    ] {
        let answer = binary(headers);
        assert!(
            answer.status == status && answer.text().contains(said),
            "{headers:?}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let json = |kind: &str, body: &str| post(&node, "/ask", &[("content-type", kind)], body.as_bytes());
    let one = event("1", "order").to_string();
    for (kind, body, status, said) in [
        (STRUCTURED, "", 400, "JSON"),
        (STRUCTURED, "{\"specversion\":\"1.0\"}", 400, "id is missing"),
        (STRUCTURED, "[]", 400, "`{`"),
        (BATCH, "[{}]", 400, "event 0 of the batch"),
        (BATCH, one.as_str(), 400, "`[`"),
    ] {
        let answer = json(kind, body);
        assert!(
            answer.status == status && answer.text().contains(said),
            "{body}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let many = format!("[{}]", vec![one; 257].join(","));
    let answer = json(BATCH, &many);
    assert!(answer.status == 413 && answer.text().contains("257"), "{}", answer.text());
    let large = (16 << 20) + 1;
    let head = format!(
        "POST /ask HTTP/1.1\r\nHost: x\r\nContent-Type: {STRUCTURED}\r\nContent-Length: {large}\r\n\r\n"
    );
    let mut client = node.http();
    client.write(head.as_bytes()).expect("it is written");
    assert_eq!(client.response("POST").expect("it is answered").status, 413);
    assert_eq!(node.get("/ask").status, 405);
    assert!(heard(&node, "first").is_empty());
    node.wait_at_rest(SOON);
}

const QUEUED: &str = "[[subscriptions]]\npath = \"/events\"\nfunction = \"first\"\ntype = \"order.*\"\ndurable = true\n\
                      [[subscriptions]]\npath = \"/events\"\nfunction = \"second\"\ndurable = true\n";

#[test]
fn durable_events_are_on_the_disk_first_and_go_to_all_who_subscribe() {
    need_sandbox!();
    need_one_node!();
    let node = start(&app("kept", "events = { attempts = 2, pause = \"10ms\" }"), QUEUED);
    let batch = json!([event("1", "order.made"), event("2", "other")]).to_string();
    let answer = post(&node, "/events", &[("content-type", BATCH)], batch.as_bytes());
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((answer.status, told["accepted"].as_array().map(Vec::len)), (202, Some(3)), "{told}");
    wait_until(SOON, "all are heard", || {
        heard(&node, "first").len() == 1 && heard(&node, "second").len() == 2
    });
    assert!(
        heard(&node, "first")[0]
            .contains("heard order.made 1 of /shop about Euro €: application/json {\"n\":1}")
    );
    // Nothing of a batch is taken if one of it is none.
    let batch = json!([event("3", "order.made"), { "id": "4" }]).to_string();
    assert_eq!(post(&node, "/events", &[("content-type", BATCH)], batch.as_bytes()).status, 400);
    let binary = [("ce-specversion", "1.0"), ("ce-id", "5"), ("ce-source", "/x"), ("ce-type", "other")];
    assert_eq!(post(&node, "/events", &binary, &[0, 159, 146, 150]).status, 202);
    wait_until(SOON, "it is heard", || heard(&node, "second").len() == 3);
    assert_eq!(heard(&node, "first").len(), 1);
    node.wait_at_rest(SOON);
}

#[test]
fn who_may_not_send_events_sends_none() {
    need_sandbox!();
    need_one_node!();
    let home = tempfile::tempdir().expect("a directory");
    let made = cli(home.path(), ["policy", "key", "--json"]).json();
    let (key, hash) = (made["key"].as_str().expect("a key"), made["hash"].as_str().expect("a hash"));
    let more = format!(
        "[[functions.second.policy.handlers]]\nuse = \"api-key\"\nheader = \"x-shop-key\"\nkeys = [{{ name = \"shop\", hash = \"{hash}\" }}]\n"
    );
    let node = start(&app("shut", &more), &QUEUED.replace("first", "second"));
    let body = event("1", "order.made").to_string();
    let send = |headers: &[(&str, &str)]| post(&node, "/events", headers, body.as_bytes()).status;
    assert_eq!(send(&[("content-type", STRUCTURED)]), 401);
    assert_eq!(
        send(&[
            ("content-type", STRUCTURED),
            ("x-shop-key", key),
            ("authorization", key),
            ("x-baton-admitted", "1")
        ]),
        202
    );
    assert_eq!(send(&[("content-type", STRUCTURED), ("x-baton-admitted", "1")]), 401);
    // It is admitted once and for all, and the key is not kept for that.
    wait_until(SOON, "it is heard", || heard(&node, "second").len() == 1);
    assert!(heard(&node, "second")[0].ends_with("false"), "{:?}", heard(&node, "second"));
    let waiting = std::fs::read(node.home().join("events.redb")).expect("it is there");
    assert!(!waiting.windows(key.len()).any(|window| window == key.as_bytes()));
}

/// Posts events as its documentation says, and reads the answers by it.
const CLIENT: &str = r#"
import sys, urllib.request
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

def send(message):
    request = urllib.request.Request(sys.argv[1], data=message.body, headers=message.headers, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return from_http_event(HTTPMessage(headers=dict(answer.getheaders()), body=answer.read()))

for make in (to_binary_event, to_structured_event):
    attributes = {"type": "order", "source": "/shop", "subject": "a subject \u20ac", "id": make.__name__,
                  "specversion": "1.0", "datacontenttype": "application/json"}
    event = CloudEvent(attributes, {"n": [1, 2.5, "three"]})
    reply = send(make(event))
    assert reply.get_id() == "re " + event.get_id(), reply.get_id()
    assert reply.get_type() == "answer" and reply.get_subject() == "a subject \u20ac", reply.get_subject()
    assert reply.get_data() == event.get_data(), reply.get_data()
print("both modes")
"#;

#[test]
fn an_unmodified_client_in_python_is_understood_and_understands() {
    need_sandbox!();
    need_one_node!();
    let python = source_root().join("target/tools/python/bin/python3");
    let has_client = Command::new(&python).args(["-c", "import cloudevents.core"]).output();
    if !has_client.is_ok_and(|output| output.status.success()) {
        println!("SKIP: {} has no package cloudevents: cargo xtask test --only tools", python.display());
        return;
    }
    let node = start(&app("python", ""), ASK);
    let url = format!("http://{}/ask", node.gateway);
    let output = Command::new(&python).args(["-c", CLIENT, &url]).output().expect("python runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("both modes"), "{said}");
}
