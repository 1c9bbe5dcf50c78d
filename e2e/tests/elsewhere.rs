//! Functions that call each other from node to node.

use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::members::{Load, SOON, all_at_rest, deploy, members, network, payload};
use baton_e2e::{App, Nats, Node, need_sandbox, wait_until};
use serde_json::Value;

/// A node that vanishes is out of the routes within three seconds.
const OUT_WITHIN: Duration = Duration::from_secs(3);

/// A chain from node a to node b, and an echo on c.
fn chain(name: &str) -> App {
    App::new(name)
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"5s\"")
        .function("c", "last", "nodes = [\"b\"]\ntimeout = \"5s\"")
        .function("echo", "echo", "nodes = [\"c\"]\ntimeout = \"5s\"")
}

#[test]
fn payloads_of_every_size_go_from_node_to_node_by_every_way() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = chain("ways");
    let nodes = members(&nats, &app, &["a", "b", "c"]);
    for len in [1, 8, 9, 4096, 65_536, 65_537, 3_000_000] {
        let sent = payload(len);
        for node in &nodes {
            let echoed = node.post("/echo", &sent);
            assert_eq!((echoed.status, echoed.body == sent), (200, true), "{len} bytes");
            assert_eq!(node.post("/a?move", &sent).body, sent, "{len} bytes");
            for how in ["lend", "share"] {
                let answer = node.post(&format!("/a?{how}"), &sent);
                assert_eq!((answer.status, answer.text()), (200, len.to_string()), "{how}");
            }
        }
    }
    assert_eq!(nodes[2].get("/echo").status, 200);
    all_at_rest(&nodes);
}

#[test]
fn a_receipt_says_what_crossed_and_how() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = chain("crossings");
    let nodes = members(&nats, &app, &["a", "b", "c"]);
    let recording = nodes[0].cli(["receipt", "--help"]);
    assert_eq!(recording.code, 0);
    let hop_of = |len: usize| -> Value {
        nodes[0].put("/v1/recording", "{\"on\":true}");
        assert_eq!(nodes[0].post("/a?move", &payload(len)).status, 200);
        let mut found = Value::Null;
        wait_until(SOON, "the hop is told", || {
            let receipt = nodes[0].cli(["receipt", "last", "--json"]).json();
            let hops = receipt["hops"].as_array().cloned().unwrap_or_default();
            found = hops.into_iter().find(|hop| hop["function"] == "c").unwrap_or(Value::Null);
            !found.is_null()
        });
        found
    };
    let small = hop_of(1000);
    assert_eq!((small["node"].as_str(), small["caller"].as_str()), (Some("b"), Some("a")), "{small}");
    assert_eq!(small["carried"]["inline_bytes"], 2000, "there and back: {small}");
    let large = hop_of(1 << 20);
    assert_eq!(large["carried"]["referenced_bytes"], 2 << 20, "{large}");
    assert_eq!((large["copies"].as_u64(), large["carried"]["inline_bytes"].as_u64()), (Some(0), Some(0)));
    let shown = nodes[0].cli(["receipt", "last"]).stdout;
    assert!(shown.contains("c@b") && shown.contains("2 MiB pulled"), "{shown}");
    all_at_rest(&nodes);
}

#[test]
fn failures_of_functions_elsewhere_are_as_those_here() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = App::new("failures")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]")
        .function("c", "last", "nodes = [\"b\"]\ntimeout = \"600ms\"")
        .function("sleeper", "sleeper", "nodes = [\"b\"]\ntimeout = \"300ms\"\nscale = { queue = 1 }");
    let nodes = members(&nats, &app, &["a", "b"]);
    let a = &nodes[0];
    for (how, status, words) in [
        ("refuse", 422, "that is no order"),
        ("fail", 502, "the shelf is empty"),
        ("die", 502, ""),
        ("stall", 504, ""),
    ] {
        let answer = a.post(&format!("/a?{how}"), b"payload");
        assert_eq!(answer.status, status, "{how}: {}", answer.text());
        assert!(answer.text().contains(words), "{how}: {}", answer.text());
        wait_until(SOON, "the chain works again", || a.post("/a?move", b"x").status == 200);
    }
    let late = a.get("/sleeper?ms=900");
    assert_eq!(late.status, 504, "{}", late.text());
    // One runs, one waits, the third is refused: over there.
    wait_until(SOON, "the sleeper is there again", || a.get("/sleeper?ms=1").status == 200);
    let busy: Vec<_> = (0..6).map(|_| a.in_background("/sleeper?ms=200", b"")).collect();
    let statuses: Vec<u16> = busy.into_iter().map(|one| one.join().unwrap().status).collect();
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429, 504].contains(status)), "{statuses:?}");
    all_at_rest(&nodes);
}

/// With a function on `a` that has parts of its payload added up on `b`.
fn scattering(app: App) -> App {
    app.function(
        "scatterer",
        "scatterer",
        "calls = [\"adder\"]\nenv = { NEXT = \"adder\" }\nnodes = [\"a\"]\ntimeout = \"10s\"",
    )
    .function("adder", "adder", "nodes = [\"b\"]\nscale = { queue = 256 }\ntimeout = \"10s\"")
}

#[test]
fn references_lead_to_payloads_on_other_nodes() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let more = |node: &str| format!("references = true\nnodes = [\"{node}\"]");
    let app = scattering(App::new("referenced"))
        .function("keeper", "keeper", &more("a"))
        .function("getter", "getter", &more("b"))
        .function("forgetter", "forgetter", &more("b"));
    let nodes = members(&nats, &app, &["a", "b"]);
    let total = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    for len in [3, 5000, 2 << 20] {
        let sent = payload(len);
        for how in ["moved", "lent", "shared"] {
            let reference = nodes[1].post(&format!("/keeper/{how}?readers=2"), &sent).text();
            assert_eq!(nodes[0].post("/getter/whole", reference.as_bytes()).body, sent, "{how}");
            let got = nodes[1].post("/getter", reference.as_bytes());
            assert_eq!(got.text(), format!("{len} {}", total(&sent)), "{how}");
            assert_eq!(nodes[1].post("/getter", reference.as_bytes()).status, 410, "{how}");
        }
    }
    let forgotten = nodes[0].post("/keeper/moved", &payload(5000)).text();
    assert_eq!(nodes[0].post("/forgetter", forgotten.as_bytes()).text(), "true");
    assert_eq!(nodes[0].post("/getter", forgotten.as_bytes()).status, 410);
    // Ranges of one payload, each pulled once.
    let sent = payload(40 * 100_000);
    let answer = nodes[0].post("/scatterer?parts=40", &sent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sums: Vec<u64> =
        answer.body.chunks_exact(8).map(|sum| u64::from_le_bytes(sum.try_into().unwrap())).collect();
    assert_eq!(sums, sent.chunks_exact(100_000).map(total).collect::<Vec<_>>());
    all_at_rest(&nodes);
}

#[test]
fn parts_of_one_payload_go_to_another_node_and_none_is_copied() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let (parts, each) = (40, 100_000);
    let app = scattering(App::new("parts"));
    let nodes = members(&nats, &app, &["a", "b"]);
    nodes[0].put("/v1/recording", "{\"on\":true}");
    let answer = nodes[0].post(&format!("/scatterer?parts={parts}"), &payload(parts * each));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut hops = Vec::new();
    wait_until(SOON, "all hops are told", || {
        let receipt = nodes[0].cli(["receipt", "last", "--json"]).json();
        hops = receipt["hops"].as_array().cloned().unwrap_or_default();
        hops.retain(|hop| hop["function"] == "adder");
        hops.len() == parts
    });
    for hop in &hops {
        assert_eq!(hop["carried"]["referenced_bytes"], each, "{hop}");
        // The sum, which travels inside its answer.
        assert_eq!(
            (hop["bytes_copied"].as_u64(), hop["carried"]["inline_bytes"].as_u64()),
            (Some(8), Some(8)),
            "{hop}"
        );
    }
    all_at_rest(&nodes);
}

#[test]
fn a_call_that_is_lost_with_its_node_is_told_or_made_again() {
    need_sandbox!();
    for idempotent in [false, true] {
        let Some(nats) = Nats::start() else { return };
        let more = format!("nodes = [\"b\", \"c\"]\ntimeout = \"8s\"\nidempotent = {idempotent}");
        let app = App::new(if idempotent { "again" } else { "lost" })
            .function(
                "a",
                "relay",
                "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"8s\"",
            )
            .function("c", "last", &more);
        let mut nodes = members(&nats, &app, &["a", "b", "c"]);
        let calls_at = |node: &Node| node.function("c")["replicas"][0]["in_flight"].as_u64() == Some(1);
        let sent = payload(500_000);
        let waiting = nodes[0].in_background("/a?stall", &sent);
        let mut victim = 0;
        wait_until(SOON, "one of the two has the call", || {
            victim = if calls_at(&nodes[1]) {
                1
            } else if calls_at(&nodes[2]) {
                2
            } else {
                0
            };
            victim != 0
        });
        drop(nodes.remove(victim).kill());
        let answer = waiting.join().unwrap();
        if idempotent {
            assert_eq!((answer.status, answer.body == sent), (200, true), "{}", answer.text());
        } else {
            assert_eq!(answer.status, 502, "{}", answer.text());
        }
        // The other one serves what comes.
        wait_until(OUT_WITHIN, "the chain works again", || nodes[0].post("/a?move", &sent).body == sent);
        all_at_rest(&nodes);
    }
}

#[test]
fn a_caller_that_dies_leaves_nothing_behind() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = chain("orphans");
    let mut nodes = members(&nats, &app, &["a", "b", "c"]);
    let calls: Vec<_> = (0..2).map(|_| nodes[0].in_background_lossy("/a?stall", &payload(700_000))).collect();
    wait_until(SOON, "the call is there", || {
        nodes[1].function("c")["replicas"][0]["in_flight"].as_u64() == Some(1)
    });
    drop(nodes.remove(0).kill());
    calls.into_iter().for_each(|call| drop(call.join()));
    all_at_rest(&nodes);
    // Its functions have no other place to be; those of the others go on.
    assert_eq!(nodes[1].post("/c?move", b"x").body, b"x");
    let gone = nodes[1].post("/a?move", b"x");
    assert_eq!(gone.status, 503, "{}", gone.text());
    assert!(gone.header("retry-after").is_some());
}

fn durable(name: &str) -> App {
    App::new(name)
        .function(
            "a",
            "relay",
            "calls = [\"c\"]\ndurable = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"9s\"",
        )
        .function("c", "recorder", "nodes = [\"b\"]\ntimeout = \"9s\"")
}

fn spilled(node: &Node) -> usize {
    std::fs::read_dir(node.home().join("spill")).map_or(0, Iterator::count)
}

#[test]
fn a_durable_call_outlives_the_node_that_made_it() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = durable("durable");
    let mut nodes = members(&nats, &app, &["a", "b"]);
    let sent = payload(400_000);
    let recorded =
        format!("recorded {} {}", sent.len(), sent.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    // One that is answered leaves nothing.
    assert_eq!(nodes[0].post("/a?move", &sent).text(), "recorded");
    wait_until(SOON, "the disk is empty", || spilled(&nodes[0]) == 0);
    let before = nodes[1].log_of("c").iter().filter(|line| **line == recorded).count();
    let waiting = nodes[0].in_background_lossy("/a?move", &sent);
    wait_until(SOON, "the call is on the disk, and there", || {
        spilled(&nodes[0]) == 1 && nodes[1].function("c")["replicas"][0]["in_flight"].as_u64() == Some(1)
    });
    let home = nodes.remove(0).kill();
    drop(waiting.join());
    wait_until(SOON, "its name is free", || {
        nodes[0].ask("/v1/nodes")["nodes"].as_array().map(Vec::len) == Some(1)
    });
    let back = Node::member_again(home, &nats.url(), "a", "127.0.0.1", app.name());
    let told = "the durable call of a to c was made again: status 200";
    wait_until(SOON, "the call is made again", || back.log_of("node").iter().any(|line| line == told));
    let after = nodes[0].log_of("c").iter().filter(|line| **line == recorded).count();
    assert!(after > before, "it was recorded whole: {after} after {before}");
    wait_until(SOON, "the disk is empty", || spilled(&back) == 0);
    nodes.push(back);
    all_at_rest(&nodes);
}

#[test]
fn a_full_disk_refuses_durable_calls_and_nothing_else() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = durable("full");
    let home = tempfile::Builder::new().prefix("baton-home-").tempdir().unwrap();
    let spill = home.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let mount = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .arg(&spill)
            .status()
            .is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs"]) {
        println!("SKIP: nothing can be mounted here");
        return;
    }
    let nodes = vec![
        Node::member_again(home, &nats.url(), "a", "127.0.0.1", app.name()),
        Node::member(&nats.url(), "b", "127.0.0.2", app.name()),
    ];
    deploy(&nodes, &app);
    let full = nodes[0].post("/a?move", &payload(1 << 20));
    assert!(full.status == 502 || full.status == 507, "{} {}", full.status, full.text());
    assert!(full.text().contains("the disk is full"), "{}", full.text());
    assert_eq!(nodes[0].post("/a?move", &payload(1000)).text(), "recorded");
    assert_eq!(nodes[1].post("/c", &payload(1 << 20)).text(), "recorded");
    wait_until(SOON, "the disk is empty", || spilled(&nodes[0]) == 0);
    all_at_rest(&nodes);
    let ends = nodes[0].pid();
    drop(nodes);
    assert!(!baton_e2e::process::is_alive(ends));
    assert!(mount("umount", &["-l"]));
}

#[test]
fn a_node_that_drains_hands_its_work_over_without_a_lost_request() {
    need_sandbox!();
    let Some(nats) = Nats::start() else { return };
    let app = App::new("handover")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", "nodes = [\"b\", \"c\"]");
    let nodes = members(&nats, &app, &["a", "b", "c"]);
    let gateways = [nodes[0].gateway, nodes[2].gateway];
    let load = Load::start(&gateways, "/a?move");
    thread::sleep(Duration::from_millis(500));
    let drained = nodes[0].cli(["drain", "b"]);
    assert_eq!(drained.code, 0, "{drained:?}");
    wait_until(SOON, "the node hosts nothing any more", || {
        let status = nodes[0].cli(["cluster", "status", "--json"]).json();
        let parts = status["apps"][0]["nodes"].as_array().cloned().unwrap_or_default();
        parts.iter().any(|part| part["node"] == "b" && part["hosted"].as_array().is_some_and(Vec::is_empty))
    });
    thread::sleep(Duration::from_millis(500));
    let (good, bad) = load.end();
    assert_eq!(bad, 0, "of {good}");
    assert!(good > 100, "{good}");
    all_at_rest(&nodes);
}

#[test]
fn a_node_that_vanishes_is_out_of_the_routes_in_three_seconds() {
    need_sandbox!();
    let Some((net, nats, nodes)) = network("vanish", |app| {
        app.function(
            "a",
            "relay",
            "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"1s\"",
        )
        .function("c", "last", "nodes = [\"b\", \"c\"]\ntimeout = \"1s\"")
    }) else {
        return;
    };
    assert_eq!(nodes[0].post("/a?move", b"payload").body, b"payload");
    // Its cable is pulled: nobody is told.
    net.set_cable(1, false).unwrap();
    let pulled = Instant::now();
    while pulled.elapsed() < OUT_WITHIN {
        let _ = nodes[0].post("/a?move", b"payload");
    }
    let load = Load::start(&[nodes[0].gateway, nodes[2].gateway], "/a?move");
    thread::sleep(Duration::from_secs(2));
    let (good, bad) = load.end();
    assert_eq!(bad, 0, "of {good}");
    net.set_cable(1, true).unwrap();
    wait_until(SOON, "it is back", || nodes[0].ask("/v1/nodes")["nodes"].as_array().map(Vec::len) == Some(3));
    all_at_rest(&nodes);
    drop(nats);
}

#[test]
fn a_cable_that_is_pulled_in_a_transfer_and_put_back_costs_only_time() {
    need_sandbox!();
    const CALL: Duration = Duration::from_secs(15);
    let Some((net, _nats, nodes)) = network("cable", |app| {
        app.pool("512MiB")
            .function(
                "a",
                "relay",
                "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"15s\"",
            )
            .function("c", "last", "nodes = [\"b\"]\ntimeout = \"15s\"")
    }) else {
        return;
    };
    let sent = payload(64 << 20);
    assert_eq!(nodes[0].post("/a?move", &sent).body.len(), sent.len());
    let mut broken = 0;
    for pause in [1, 5, 10, 20, 40] {
        let waiting = nodes[0].in_background("/a?move", &sent);
        thread::sleep(Duration::from_millis(60 + pause));
        net.set_cable(1, false).unwrap();
        thread::sleep(Duration::from_millis(700));
        net.set_cable(1, true).unwrap();
        let answer = waiting.join().unwrap();
        // A cut shorter than what a node is given up after is only a delay.
        assert!([200, 502].contains(&answer.status), "{}", answer.text());
        broken += u32::from(answer.status != 200);
        assert!(answer.status != 200 || answer.body == sent);
        wait_until(SOON, "the chain works", || nodes[0].post("/a?move", b"x").status == 200);
    }
    assert!(broken < 5, "{broken} of 5");
    // An answer that was lost with its lane is held for as long as its caller could want it.
    nodes.iter().for_each(|node| node.wait_at_rest(CALL + SOON));
}

#[test]
fn a_node_that_hears_nothing_costs_its_callers_their_time_and_no_more() {
    need_sandbox!();
    let Some((net, _nats, nodes)) = network("deaf", |app| {
        app.function(
            "a",
            "relay",
            "calls = [\"c\"]\nenv = { NEXT = \"c\" }\nnodes = [\"a\"]\ntimeout = \"1s\"",
        )
        .function("c", "last", "nodes = [\"b\"]\ntimeout = \"1s\"")
    }) else {
        return;
    };
    assert_eq!(nodes[0].post("/a?move", &payload(1 << 20)).status, 200);
    net.set_deaf(1, true).unwrap();
    for _ in 0..4 {
        let began = Instant::now();
        let answer = nodes[0].post("/a?move", &payload(1 << 20));
        assert!([502, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.text());
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    }
    net.set_deaf(1, false).unwrap();
    wait_until(SOON, "the chain works again", || nodes[0].post("/a?move", b"x").status == 200);
    all_at_rest(&nodes);
}

#[test]
fn nodes_that_know_each_other_go_on_without_the_store() {
    need_sandbox!();
    let Some(mut nats) = Nats::start() else { return };
    let app = chain("storeless");
    let nodes = members(&nats, &app, &["a", "b", "c"]);
    nats.kill();
    // Longer than what members are remembered for.
    let until = Instant::now() + Duration::from_secs(5);
    let sent = payload(100_000);
    while Instant::now() < until {
        assert_eq!(nodes[0].post("/a?move", &sent).body, sent);
        assert_eq!(nodes[1].post("/echo", b"x").status, 200);
        thread::sleep(Duration::from_millis(50));
    }
    nats.restart();
    wait_until(SOON, "the store is back", || {
        nodes
            .iter()
            .all(|node| node.cli(["cluster", "status", "--json"]).json()["store"]["reachable"] == true)
    });
    assert_eq!(nodes[0].post("/a?move", &sent).body, sent);
    all_at_rest(&nodes);
}
