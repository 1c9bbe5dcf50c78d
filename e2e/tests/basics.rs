//! What every client relies on: requests reach their function and answers come back unharmed.

use std::process::Command;
use std::time::Duration;

use baton_e2e::{App, Node, need_sandbox, wait_until};

fn app() -> App {
    App::new("basics")
        .pool("256MiB")
        .function("hello", "hello", "")
        .function("echo", "echo", "scale = { min = 1, max = 1, concurrency = 16 }\ntimeout = \"20s\"")
        .function("inspect", "inspect", "")
        .function("inline", "inline", "pool = \"none\"")
        .function("asks", "relay", "calls = [\"inline\"]\nenv = { NEXT = \"inline\" }")
        .function("reader", "inline", "pool = \"read\"")
        .route("/only-get", "hello", "methods = [\"GET\"]")
        .route("/put-or-post", "hello", "methods = [\"POST\", \"PUT\"]")
}

/// Bytes that show where they come from.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect()
}

#[test]
fn a_request_reaches_its_function_with_all_that_it_carries() {
    need_sandbox!();
    let node = Node::start(&app());
    let hello = node.get("/hello");
    assert_eq!((hello.status, hello.text().as_str()), (200, "hello, world\n"));
    assert_eq!(hello.header("content-type"), Some("text/plain"));
    assert_eq!(hello.header("x-baton-invocation").map(str::len), Some(16));

    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("X-Colour", "green"), ("traceparent", trace)];
    let seen = node.http().request("PUT", "/inspect/a%20b?x=1&y=2", &headers, b"12345").unwrap();
    assert_eq!((seen.status, seen.header("x-from-guest")), (201, Some("yes")));
    for (name, value) in [
        ("method", "PUT"),
        ("path", "/inspect/a%20b"),
        ("query", "x=1&y=2"),
        ("name", "a%20b"),
        ("body", "5"),
        ("header:x-colour", "green"),
    ] {
        assert_eq!(seen.line(name).as_deref(), Some(value), "{}", seen.text());
    }
    // The trace goes on, in a span of the gateway's or the client's own.
    let passed_on = seen.line("traceparent").unwrap();
    assert_eq!(passed_on.len(), trace.len());
    assert_eq!(passed_on.get(..35), trace.get(..35), "the trace's id changed");
    assert_eq!(node.get("/inspect/x").line("query").as_deref(), Some("-"));
    wait_until(Duration::from_secs(2), "the log line", || {
        node.log_of("inspect").iter().any(|line| line == "inspected /inspect/a%20b")
    });
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn bodies_of_every_size_come_back_as_they_went() {
    need_sandbox!();
    let node = Node::start(&app());
    for length in [0, 1, 8, 255, 1 << 20, 64 << 20] {
        let body = pattern(length);
        let declared = node.http().request("POST", "/echo", &[], &body).unwrap();
        assert_eq!(declared.status, 200, "{length} declared: {}", declared.text());
        assert!(declared.body == body, "{length} declared came back as {}", declared.body.len());
        let chunked = node.http().chunked("POST", "/echo", &body, 50_000).unwrap();
        assert_eq!(chunked.status, 200, "{length} chunked: {}", chunked.text());
        assert!(chunked.body == body, "{length} chunked came back as {}", chunked.body.len());
        node.wait_at_rest(Duration::from_secs(2));
    }
}

#[test]
fn http2_in_clear_text_works() {
    need_sandbox!();
    let has_http2 = |out: std::process::Output| String::from_utf8_lossy(&out.stdout).contains("HTTP2");
    if !Command::new("curl").arg("--version").output().is_ok_and(has_http2) {
        eprintln!("SKIP: HTTP/2: there is no curl that speaks it");
        return;
    }
    let node = Node::start(&app());
    let file = node.home().join("body");
    std::fs::write(&file, pattern(3 << 20)).unwrap();
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--http2-prior-knowledge", "--silent", "--show-error", "--max-time", "20"]);
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let url = |path: &str| format!("http://{}{path}", node.gateway);
    let version = curl(&["--write-out", "%{http_version} %{http_code}", &url("/hello")]);
    assert_eq!(String::from_utf8_lossy(&version), "hello, world\n2 200");
    let data = format!("@{}", file.display());
    let body = curl(&["--data-binary", &data, &url("/echo")]);
    assert!(body == pattern(3 << 20), "{} bytes came back", body.len());
    let missing = curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url("/nowhere")]);
    assert_eq!(missing, b"404");
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn wrong_paths_and_methods_are_told_apart() {
    need_sandbox!();
    let node = Node::start(&app());
    let missing = node.get("/nowhere");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("baton ps"), "{}", missing.text());
    let wrong = node.post("/only-get", b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")), "{}", wrong.text());
    let wrong = node.get("/put-or-post");
    assert_eq!(wrong.status, 405);
    let allow = wrong.header("allow").unwrap();
    assert!(allow.contains("POST") && allow.contains("PUT") && !allow.contains("GET"), "{allow}");
    let json = node.http().request("GET", "/nowhere", &[("accept", "application/json")], b"").unwrap();
    assert_eq!(json.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert!(json["error"].as_str().unwrap().contains("route"), "{json}");
}

#[test]
fn head_is_get_without_the_body() {
    need_sandbox!();
    let node = Node::start(&app());
    let mut client = node.http();
    let head = client.request("HEAD", "/hello", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("13"));
    // Nothing of a body is left on the connection.
    assert_eq!(client.request("GET", "/hello", &[], b"").unwrap().text(), "hello, world\n");
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn one_connection_carries_many_requests_and_pipelines() {
    need_sandbox!();
    let node = Node::start(&app());
    let mut client = node.http();
    for round in 0..200_usize {
        let body = pattern(round * 7);
        let answer = client.request("POST", "/echo", &[], &body).unwrap();
        assert!(answer.status == 200 && answer.body == body, "round {round}");
    }
    for _ in 0..10 {
        client.send("GET", "/hello", &[], b"").unwrap();
    }
    for _ in 0..10 {
        assert_eq!(client.response("GET").unwrap().text(), "hello, world\n");
    }
    let last = client.request("GET", "/hello", &[("connection", "close")], b"").unwrap();
    assert_eq!(last.status, 200);
    assert_eq!(client.rest().unwrap(), b"");
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn functions_without_the_pool_answer_in_eight_bytes() {
    need_sandbox!();
    let node = Node::start(&app());
    assert_eq!(node.get("/asks").text(), "inline");
    assert_eq!(node.get("/reader").text(), "inline");
    let read = node.cli(["invoke", "basics/reader", "--path", "/sum", "--data", "abc", "--json"]).json();
    assert_eq!(read["body"], "294");
    // What such a function may not do is refused, and it lives on.
    let pid = node.replica("inline").unwrap();
    for query in ["alloc", "long"] {
        let refused = node.get(&format!("/asks?{query}"));
        assert_eq!(refused.status, 502, "{query}: {}", refused.text());
        assert_eq!(node.get("/asks").text(), "inline", "{query}");
    }
    // A request of HTTP's lies in the pool, which such a function does not have: no route may lead to it.
    let routed = App::new("routed").function("inline", "inline", "pool = \"none\"").route("/", "inline", "");
    let refused = node.cli(["deploy", &routed.directory().to_string_lossy()]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("a route leads to it"), "{}", refused.stderr);
    assert_eq!(node.replica("inline"), Some(pid));
    node.wait_at_rest(Duration::from_secs(2));
}
