//! Payloads that functions put up for others, on one node.

use std::thread;
use std::time::Duration;

use baton_e2e::members::payload;
use baton_e2e::{App, Node, need_sandbox, wait_until};

const REST: Duration = Duration::from_secs(5);
const REFERENCES: &str = "references = true";

fn app(name: &str) -> App {
    App::new(name).function("keeper", "keeper", REFERENCES).function("getter", "getter", REFERENCES).function(
        "forgetter",
        "forgetter",
        REFERENCES,
    )
}

fn total(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn put(node: &Node, target: &str, payload: &[u8]) -> String {
    let answer = node.post(target, payload);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn what_is_put_up_is_got_as_often_as_it_may_and_is_gone_then() {
    need_sandbox!();
    let node = Node::start(&app("puts"));
    for len in [1usize, 8, 9, 300, 70_000, 3 << 20] {
        let payload = payload(len);
        for how in ["moved", "lent", "shared"] {
            let reference = put(&node, &format!("/keeper/{how}?readers=2"), &payload);
            for _ in 0..2 {
                let got = node.post("/getter", reference.as_bytes());
                assert_eq!((got.status, got.text()), (200, format!("{len} {}", total(&payload))), "{how}");
            }
            let gone = node.post("/getter", reference.as_bytes());
            assert_eq!(gone.status, 410, "{how}, {len} bytes: {}", gone.text());
        }
    }
    let reference = put(&node, "/keeper/moved", b"whole");
    assert_eq!(node.post("/getter/whole", reference.as_bytes()).body, b"whole");
    node.wait_at_rest(REST);
}

#[test]
fn what_nobody_gets_goes_with_its_time_or_when_it_is_forgotten() {
    need_sandbox!();
    let node = Node::start(&app("times"));
    let short = put(&node, "/keeper/moved?ttl=200", &[1; 5000]);
    let forgotten = put(&node, "/keeper/shared", &[1; 5000]);
    assert_eq!(node.post("/forgetter", forgotten.as_bytes()).text(), "true");
    assert_eq!(node.post("/forgetter", forgotten.as_bytes()).text(), "false");
    assert_eq!(node.post("/getter", forgotten.as_bytes()).status, 410);
    thread::sleep(Duration::from_millis(250));
    assert_eq!(node.post("/getter", short.as_bytes()).status, 410);
    // Also without anyone who asks.
    put(&node, "/keeper/moved?ttl=100", &[1; 5000]);
    node.wait_at_rest(REST);
}

#[test]
fn an_owner_takes_back_what_it_only_shared() {
    need_sandbox!();
    let node = Node::start(&app("revoked"));
    let reference = put(&node, "/keeper/revoked", &[1; 100_000]);
    assert_eq!(node.post("/getter", reference.as_bytes()).status, 410);
    node.wait_at_rest(REST);
}

#[test]
fn forged_and_foreign_references_lead_nowhere() {
    need_sandbox!();
    let node = Node::start(&app("forged"));
    let reference = put(&node, "/keeper/moved", b"secret");
    for place in [3, 110, 140, 150, 180] {
        let mut forged = reference.clone().into_bytes();
        forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
        let answer = node.post("/getter", &forged);
        assert!(
            [410, 502, 503].contains(&answer.status),
            "forged {place}: {} {}",
            answer.status,
            answer.text()
        );
    }
    for nonsense in ["", "zz", &reference[2..], &"0".repeat(192)] {
        assert_eq!(node.post("/getter", nonsense.as_bytes()).status, 400, "{nonsense}");
    }
    // Another app of the same node has another key.
    let other = app("foreign");
    let deployed = node.cli(["deploy", other.directory().to_str().unwrap(), "--no-build"]);
    assert_ne!(deployed.code, 0, "its routes are taken: {}", deployed.stdout);
    assert_eq!(node.post("/getter/whole", reference.as_bytes()).body, b"secret");
    node.wait_at_rest(REST);
}

#[test]
fn without_the_manifests_leave_there_are_none() {
    need_sandbox!();
    let node = Node::start(&App::new("denied").function("keeper", "keeper", ""));
    let denied = node.post("/keeper/moved", b"x");
    assert_eq!(denied.status, 500, "{}", denied.text());
    assert!(denied.text().contains("references = true"), "{}", denied.text());
    node.wait_at_rest(REST);
}

#[test]
fn what_is_put_up_leaves_room_in_the_pool() {
    need_sandbox!();
    let node = Node::start(&app("crowded").pool("8MiB"));
    let held: Vec<String> = (0..3).map(|_| put(&node, "/keeper/moved", &[7; 1 << 20])).collect();
    let refused = node.post("/keeper/moved", &[7; 2 << 20]);
    assert_eq!(refused.status, 502, "{}", refused.text());
    for reference in held {
        assert_eq!(node.post("/getter", reference.as_bytes()).status, 200);
    }
    put(&node, "/keeper/moved?ttl=100", &[7; 2 << 20]);
    node.wait_at_rest(REST);
}

#[test]
fn a_putter_that_dies_leaves_what_it_put_up() {
    need_sandbox!();
    let app = app("survives").function("crasher", "crasher", "");
    let node = Node::start(&app);
    let reference = put(&node, "/keeper/moved", &[9; 10_000]);
    if let Some(pid) = node.replica("keeper").filter(|_| !baton_e2e::in_cells()) {
        assert!(baton_e2e::process::signal(pid, rustix::process::Signal::KILL));
        node.wait_for_replica("keeper", pid, Duration::from_secs(4));
    }
    assert_eq!(node.post("/getter", reference.as_bytes()).text(), "10000 90000");
    node.wait_at_rest(REST);
}

#[test]
fn parts_of_one_payload_go_to_many_calls_without_a_copy() {
    need_sandbox!();
    let app = App::new("scatter")
        .function(
            "scatterer",
            "scatterer",
            "calls = [\"adder\"]\nenv = { NEXT = \"adder\" }\ntimeout = \"10s\"",
        )
        .function("adder", "adder", "scale = { queue = 256 }\ntimeout = \"10s\"");
    let node = Node::start_with(&app, &["--receipts"]);
    let payload = payload(100 * 4096);
    let answer = node.post("/scatterer?parts=100", &payload);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sums: Vec<u64> =
        answer.body.chunks_exact(8).map(|sum| u64::from_le_bytes(sum.try_into().unwrap())).collect();
    let expect: Vec<u64> = payload.chunks_exact(4096).map(total).collect();
    assert_eq!(sums, expect);
    let receipt = || node.cli(["receipt", "last", "--json"]).json();
    wait_until(REST, "all hops have told what they cost", || {
        receipt()["hops"].as_array().is_some_and(|hops| hops.len() == 101)
    });
    // Parts this small travel inside their calls where the adder is on another node.
    let copied = if baton_e2e::nodes() > 1 { 100 } else { 0 };
    assert_eq!(receipt()["copies"].as_u64(), Some(copied));
    node.wait_at_rest(REST);
}
