//! `/metrics`: both forms, and what Prometheus itself says of them.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton_e2e::{App, Client, Node, Response, need_one_node, need_sandbox, wait_until};

fn page(node: &Node, accept: &str) -> Response {
    let token = format!("Bearer {}", node.token);
    let mut client = Client::connect(node.admin).expect("the admin API is there");
    let headers = [("authorization", token.as_str()), ("accept", accept)];
    client.request("GET", "/metrics", &headers, b"").expect("an answer")
}

fn app() -> App {
    app_with("")
}

fn app_with(policies: &str) -> App {
    App::new("metered")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", policies)
}

/// Policies with a limit that is met, and a breaker.
const POLICIES: &str = r#"
[[policy.handlers]]
use = "log"

[[functions.c.policy.handlers]]
use = "rate-limit"
key = "all"
rate = "1/h"

[[functions.c.policy.handlers]]
use = "breaker"

[[functions.c.policy.handlers]]
use = "retry"
"#;

#[test]
fn ways_of_requests_are_counted_and_promtool_agrees() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app_with(POLICIES));
    let statuses: Vec<u16> = (0..3).map(|_| node.post("/c", b"x").status).collect();
    assert_eq!(statuses, [200, 429, 429]);
    let sent = node.cli(["invoke", "metered/a", "--event", "--path", "/a?move", "--data", "x"]);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    let wanted = [
        "baton_policy_requests_total{app=\"metered\",handler=\"log\",outcome=\"passed\"} 4",
        "baton_policy_requests_total{app=\"metered\",function=\"c\",handler=\"rate-limit\",outcome=\"refused\"} 2",
        "baton_policy_breaker_state{app=\"metered\",function=\"c\",state=\"closed\"} 1",
        "baton_policy_breaker_state{app=\"metered\",function=\"c\",state=\"open\"} 0",
        "baton_policy_retries_total{app=\"metered\",function=\"c\",outcome=\"made\"} 0",
        "baton_version{app=\"metered\",state=\"serving\"} 1",
        "baton_version_share{app=\"metered\",state=\"serving\"} 1.0",
        "baton_events_total{app=\"metered\",function=\"a\",outcome=\"done\"} 1",
        "baton_events_waiting{app=\"metered\",function=\"a\"} 0",
    ];
    let text = || page(&node, "text/plain").text();
    let has = |text: &str, line: &str| text.lines().any(|found| found == line);
    wait_until(Duration::from_secs(15), "the event is done", || has(&text(), wanted[7]));
    let text = text();
    for line in wanted {
        assert!(has(&text, line), "no {line} in\n{text}");
    }
    complain_about(&text);
}

/// Has promtool look at a page, where it is installed.
fn complain_about(text: &str) {
    if !is_there("promtool") {
        println!("SKIP: promtool is missing: cargo xtask test installs Debian's prometheus");
        return;
    }
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let out = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn what_passed_is_in_both_forms() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app());
    for _ in 0..3 {
        assert_eq!(node.post("/a?move", b"12345").status, 200);
    }
    let open = page(&node, "application/openmetrics-text; version=1.0.0");
    assert!(open.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(open.text().ends_with("# EOF\n"));
    let plain = page(&node, "text/plain");
    assert!(plain.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    for text in [open.text(), plain.text()] {
        for line in [
            "baton_edge_calls_total{app=\"metered\",caller=\"a\",callee=\"c\"} 3",
            "baton_edge_bytes_total{app=\"metered\",caller=\"a\",callee=\"c\"} 30",
            "baton_function_responses_total{app=\"metered\",function=\"a\",class=\"2xx\"} 3",
            "baton_function_duration_seconds_count{app=\"metered\",function=\"a\"} 3",
            "baton_function_duration_seconds_bucket{le=\"+Inf\",app=\"metered\",function=\"a\"} 3",
            "baton_function_request_bytes_total{app=\"metered\",function=\"a\"} 15",
            "baton_function_replicas{app=\"metered\",function=\"c\",state=\"ready\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        for name in ["baton_replica_cpu_seconds_total", "baton_cpu_seconds_total", "baton_build_info"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
        }
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start_with(&app(), &["--receipts"]);
    assert_eq!(node.post("/a?move", b"x").status, 200);
    complain_about(&page(&node, "text/plain").text());
}

/// Ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_it() {
    need_sandbox!();
    need_one_node!();
    if !is_there("prometheus") {
        println!("SKIP: prometheus is missing: cargo xtask test installs Debian's prometheus");
        return;
    }
    let node = Node::start(&app());
    assert_eq!(node.post("/a?move", b"x").status, 200);
    let directory = tempfile::tempdir().expect("a directory");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: baton\n    authorization: {{ credentials: {} }}\n    static_configs: [{{ targets: ['{}'] }}]\n",
        node.token, node.admin
    );
    fs::write(directory.path().join("prometheus.yml"), config).expect("a file");
    let mut command = Command::new("prometheus");
    command.current_dir(&directory).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=."]);
    command.arg(format!("--web.listen-address={port}"));
    let _prometheus = Prometheus(command.spawn().expect("prometheus starts"));
    let ask = |query: &str| {
        let mut client = Client::connect(port).ok()?;
        Some(client.request("GET", &format!("/api/v1/query?query={query}"), &[], b"").ok()?.text())
    };
    wait_until(Duration::from_secs(30), "the scrape is there", || {
        ask("baton_edge_calls_total").is_some_and(|text| text.contains("\"callee\":\"c\""))
    });
    let up = ask("up").unwrap_or_default();
    assert!(up.contains("\"baton\"") && up.contains(",\"1\"]"), "{up}");
}
