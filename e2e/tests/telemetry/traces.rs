//! Traces: one for each request, with a span for each hop, at whatever collector.

use std::time::{Duration, Instant};

use baton_e2e::{App, Node, need_one_node, need_sandbox, wait_until};
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::collector::{Collector, Manner, text};

const SOON: Duration = Duration::from_secs(15);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn app() -> App {
    app_with("")
}

fn app_with(policies: &str) -> App {
    App::new("traced")
        .function("a", "relay", "calls = [\"b\"]\nenv = { NEXT = \"b\" }")
        .function("b", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", policies)
        .function("tell", "inspect", "")
        .function("ask", "herald", "calls = [\"tell\"]\nenv = { NEXT = \"tell\" }")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(node: &Node, target: &str, flags: &str) -> baton_e2e::Response {
    let traceparent = format!("00-{TRACE}-{PARENT}-{flags}");
    let headers = [("traceparent", traceparent.as_str())];
    node.http().request("POST", target, &headers, b"payload").expect("an answer")
}

/// The spans of the test's own trace, once there are so many.
fn spans_of(collector: &Collector, count: usize) -> Vec<Span> {
    let own = || -> Vec<Span> {
        collector.spans().into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect()
    };
    wait_until(SOON, "the collector has every span", || own().len() >= count);
    own()
}

#[test]
fn a_chain_is_one_trace_with_the_right_parents() {
    need_sandbox!();
    need_one_node!();
    let collector = Collector::start(Manner::RefusesFirst);
    let node = Node::start_with(&app(), &["--otlp", collector.url(), "--trace-sample", "0%"]);
    assert_eq!(request(&node, "/a?move", "01").status, 200);
    let spans = spans_of(&collector, 4);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let named = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
    };
    let root = named("traced/a");
    assert_eq!(hex(&root.parent_span_id), PARENT);
    let mut outer = root;
    for name in ["a", "b", "c"] {
        let span = named(name);
        assert_eq!(span.parent_span_id, outer.span_id, "{name}: {spans:#?}");
        assert!(outer.start_time_unix_nano <= span.start_time_unix_nano, "{name}: {spans:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}: {spans:#?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{name}: {spans:#?}");
        assert_eq!(
            (text(&span.attributes, "faas.name"), text(&span.attributes, "baton.status")),
            (name.to_owned(), "200".to_owned())
        );
        outer = span;
    }
    assert_eq!(text(&root.attributes, "http.response.status_code"), "200");
    assert!(collector.services().iter().all(|service| service == "baton"));
    assert!(collector.headers().iter().any(|header| header == "content-type: application/x-protobuf"));
    // What nobody asked to be recorded is not, and a client's word counts.
    assert_eq!(request(&node, "/a?move", "00").status, 200);
    assert_eq!(node.post("/a?move", b"payload").status, 200);
    assert_eq!(request(&node, "/tell", "01").status, 201);
    let spans = spans_of(&collector, 6);
    assert_eq!(spans.len(), 6, "{spans:#?}");
}

#[test]
fn functions_see_the_trace_and_their_callees_too() {
    need_sandbox!();
    need_one_node!();
    let collector = Collector::start(Manner::Takes);
    let node = Node::start_with(&app(), &["--otlp", collector.url(), "--trace-sample", "0%"]);
    let seen = request(&node, "/tell", "01").line("traceparent").unwrap();
    let own = seen.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.strip_suffix("-01"));
    let own = own.unwrap_or_else(|| panic!("{seen}")).to_owned();
    assert_ne!(own, PARENT, "the function's parent is the node's span");
    let told = request(&node, "/ask?move", "01").text();
    assert!(told.contains(&format!("traceparent=00-{TRACE}-")), "{told}");
    let told = request(&node, "/ask?move", "00").text();
    assert!(told.contains("traceparent=-"), "what is not recorded costs no head: {told}");
    let spans = spans_of(&collector, 5);
    let root = spans.iter().find(|span| hex(&span.span_id) == own).expect("the span that the function saw");
    assert_eq!(root.name, "traced/tell");
    // Lines that functions wrote meanwhile name the trace, everywhere.
    wait_until(SOON, "the collector has the line", || {
        collector.lines().iter().any(|line| hex(&line.trace_id) == TRACE && hex(&line.span_id) == own)
    });
    let logs = node.cli(["logs", "traced/tell", "--json"]);
    let line = &logs.json_lines()[0];
    assert_eq!((line["trace"].as_str(), line["span"].as_str()), (Some(TRACE), Some(own.as_str())), "{line}");
}

#[test]
fn a_share_of_requests_is_traced_and_failures_are_marked() {
    need_sandbox!();
    need_one_node!();
    let collector = Collector::start(Manner::Takes);
    let node = Node::start_with(&app(), &["--otlp", collector.url(), "--trace-sample", "100%"]);
    assert_eq!(node.post("/a?fail", b"x").status, 502);
    wait_until(SOON, "the collector has the spans", || collector.spans().len() >= 4);
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id), "{spans:#?}");
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("a span of each hop");
    assert!(of("traced/a").parent_span_id.is_empty());
    assert!(of("c").status.as_ref().is_some_and(|status| status.code == 2), "{spans:#?}");
}

/// Sends requests for a while; gives the longest time that one took.
fn longest(node: &Node, count: usize) -> Duration {
    let mut client = node.http();
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let began = Instant::now();
        assert_eq!(client.request("POST", "/a?move", &[], b"payload").expect("an answer").status, 200);
        longest = longest.max(began.elapsed());
    }
    longest
}

#[test]
fn a_collector_that_is_dead_or_hangs_slows_nobody_and_loses_are_counted() {
    need_sandbox!();
    need_one_node!();
    let hanging = Collector::start(Manner::Hangs);
    // Nobody listens on port 1 of loopback.
    for url in ["http://127.0.0.1:1", hanging.url()] {
        let mut node = Node::start_with(&app(), &["--otlp", url, "--trace-sample", "100%"]);
        let longest = longest(&node, 300);
        assert!(longest < Duration::from_secs(2), "{url}: {longest:?}");
        let metrics = || {
            let token = format!("Bearer {}", node.token);
            let mut client = baton_e2e::Client::connect(node.admin).expect("the admin API is there");
            client.request("GET", "/metrics", &[("authorization", &token)], b"").expect("an answer").text()
        };
        if url != hanging.url() {
            wait_until(SOON, "its failures are counted", || {
                metrics()
                    .lines()
                    .any(|line| line.starts_with("baton_otlp_failures_total ") && !line.ends_with(" 0"))
            });
        } else {
            wait_until(SOON, "it was sent something", || hanging.requests() > 0);
        }
        assert!(metrics().contains("baton_traces_sampled_total 300\n"), "{}", metrics());
        // It holds up the end no more than requests.
        node.signal(rustix::process::Signal::TERM);
        assert!(node.wait(Duration::from_secs(10)).success());
    }
}

/// What the span handler, and a receipt, say of policies.
#[test]
fn policies_are_a_span_of_their_own_and_a_figure_of_receipts() {
    need_sandbox!();
    need_one_node!();
    let collector = Collector::start(Manner::Takes);
    let policies =
        "[[policy.handlers]]\nuse = \"span\"\n[[functions.c.policy.handlers]]\nuse = \"identity\"\n";
    let words = ["--otlp", collector.url(), "--trace-sample", "0%", "--receipts"];
    let node = Node::start_with(&app_with(policies), &words);
    let seen = request(&node, "/tell", "01");
    let own = seen.line("traceparent").expect("the function sees a trace");
    let spans = spans_of(&collector, 3);
    let named = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
    };
    let (root, policies, hop) = (named("traced/tell"), named("traced/tell policies"), named("tell"));
    assert_eq!(hex(&root.parent_span_id), PARENT);
    assert_eq!(policies.parent_span_id, root.span_id);
    assert_eq!(hop.parent_span_id, policies.span_id);
    assert_eq!(own, format!("00-{TRACE}-{}-01", hex(&policies.span_id)));
    assert_eq!(text(&policies.attributes, "url.path"), "/tell");
    // One that a policy refuses has no invocation, and is told of all the same.
    assert_eq!(request(&node, "/c", "01").status, 401);
    let spans = spans_of(&collector, 5);
    let refused = spans.iter().find(|span| span.name == "traced/c").expect("a span of the request");
    assert_eq!(text(&refused.attributes, "http.response.status_code"), "401");
    assert_eq!(hex(&refused.parent_span_id), PARENT);
    // One that is not traced is left as it came.
    let plain = request(&node, "/tell", "00").line("traceparent").expect("it is passed on");
    assert_eq!(plain, format!("00-{TRACE}-{PARENT}-00"));
    assert_eq!(spans_of(&collector, 5).len(), 5);
    let found = node.ask("/v1/receipts")["receipts"][0].clone();
    let total = found["sidecar_ns"].as_u64().unwrap_or_else(|| panic!("no sidecar_ns in {found}"));
    assert!((1..50_000_000).contains(&total), "{found}");
    wait_until(SOON, "the receipt has its hop", || {
        let found = node.ask("/v1/receipts")["receipts"][0].clone();
        found["hops"][0]["sidecar_ns"].as_u64() == Some(total)
    });
}
