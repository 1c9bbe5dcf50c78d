//! Components by tools that know nothing of Baton: they serve by `wasi:http`, and call functions and hosts by URLs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use baton_e2e::{App, Node, baton, component, machine_runs, need_sandbox, source_root, wait_until};
use serde_json::Value;

const REST: Duration = Duration::from_secs(5);
/// What an interpreter and its libraries take.
const MEMORY: &str = "memory = \"256MiB\"\ntimeout = \"10s\"";

/// A component as an app by itself: `baton up FILE`, without a manifest.
fn up(file: &str, app: &str) -> Option<Node> {
    let path = component(file)?;
    machine_runs("wasm").then(|| Node::up(&path, app))
}

/// Asks twice, and checks that nothing of the first request is left for the second.
fn asked(node: &Node, language: &str) -> [Value; 2] {
    [1, 2].map(|_| {
        let answer = node.get("/some/where?x=1");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let told: Value = serde_json::from_str(&answer.text()).expect("the answer is JSON");
        assert_eq!(told["hello"], language);
        assert_eq!(told["path"], "/some/where?x=1");
        assert_eq!(told["requests"], 1, "each request begins anew");
        told
    })
}

#[test]
fn a_component_in_python_serves_without_a_manifest() {
    need_sandbox!();
    let Some(node) = up("hello-py.wasm", "hello-py") else { return };
    let [first, second] = asked(&node, "python");
    assert_eq!((&first["method"], &first["app"]), (&"Method_Get".into(), &"hello-py".into()));
    assert_ne!(first["random"], second["random"], "copies have random numbers of their own");
    wait_until(REST, "what it prints is in the log", || {
        node.log_of("hello-py").iter().any(|line| line.contains("asked for /some/where?x=1"))
    });
    let home = node.kill();
    // From the snapshot that the first node left.
    let node = Node::restart(home, "hello-py");
    asked(&node, "python");
    node.wait_at_rest(REST);
}

#[test]
fn a_component_in_javascript_serves_without_a_manifest() {
    need_sandbox!();
    let Some(node) = up("hello-js.wasm", "hello-js") else { return };
    asked(&node, "javascript");
    node.wait_at_rest(REST);
}

#[test]
fn one_payload_goes_through_four_languages() {
    need_sandbox!();
    // The tools are there if these are.
    if component("hello-py.wasm").is_none() || component("hello-js.wasm").is_none() || !machine_runs("wasm") {
        return;
    }
    let mut example = Command::new(source_root().join("examples/polyglot/try"));
    let shown = example.env("BATON_BIN", baton()).output().expect("the example runs");
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{text}\n{}", String::from_utf8_lossy(&shown.stderr));
    for part in [
        "x-kind: ",
        "x-sample-crc32: ",
        "x-stamped: yes",
        "stamped by baton",
        "0 copies of payload between functions",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_component_reads_its_files_and_nothing_else() {
    need_sandbox!();
    let Some(path) = component("hello-py.wasm") else { return };
    if !machine_runs("wasm") {
        return;
    }
    let app = App::new("noted");
    fs::copy(path, app.directory().join("hello.wasm")).expect("the component can be copied");
    fs::create_dir(app.directory().join("notes")).expect("a directory");
    fs::write(app.directory().join("notes/note.txt"), "as bundled").expect("a file");
    let node = Node::start(
        &app.artifact("hello", "hello.wasm", "wasm", &format!("{MEMORY}\nfiles = \"notes\""))
            .route("/", "hello", ""),
    );
    let told: Value = serde_json::from_str(&node.get("/").text()).expect("the answer is JSON");
    assert_eq!(told["note"], "as bundled");
}

/// A component that relays to URLs, and a function beside it.
fn relay(network: &str) -> Option<App> {
    let path = component("relay-py.wasm")?;
    if !machine_runs("wasm") {
        return None;
    }
    let app = App::new("relaying");
    fs::copy(path, app.directory().join("relay.wasm")).expect("the component can be copied");
    let more = format!("{MEMORY}\ncalls = [\"echo\"]\nnetwork = [{network}]");
    Some(
        app.artifact("relay", "relay.wasm", "wasm", &more)
            .route("/relay", "relay", "")
            .function("echo", "echo", ""),
    )
}

fn relayed(node: &Node, to: &str, body: &[u8]) -> baton_e2e::Response {
    node.http().request("POST", "/relay", &[("x-to", to)], body).expect("the node answers")
}

#[test]
fn a_url_of_a_function_is_a_call_to_it() {
    need_sandbox!();
    let Some(app) = relay("") else { return };
    let node = Node::start(&app);
    for len in [0, 1, 5000, 8 << 20] {
        let body: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
        let answer = relayed(&node, "http://echo.baton/some/where?x=1", &body);
        assert!(
            answer.status == 200 && answer.body == body,
            "{len}: {} {:?}",
            answer.status,
            answer.header("x-error")
        );
        assert_eq!(answer.header("x-status"), Some("200"));
    }
    // Not an edge of the manifest's, and no function at all.
    for to in ["http://relay.baton/", "http://nobody.baton/", "http://127.0.0.1:9/"] {
        let answer = relayed(&node, to, b"x");
        assert_eq!(
            (answer.status, answer.header("x-error")),
            (502, Some("ErrorCode_HttpRequestDenied")),
            "{to}"
        );
    }
    wait_until(REST, "the reason is in the log", || {
        node.log_of("relay").iter().any(|line| line.contains("`network`") || line.contains("network"))
    });
    node.wait_at_rest(REST);
}

#[test]
fn another_host_is_asked_by_the_node() {
    need_sandbox!();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let host = listener.local_addr().expect("it has an address").to_string();
    let Some(app) = relay(&format!("\"{host}\"")) else { return };
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the node connects");
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line comes");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the body comes");
        let answer =
            format!("HTTP/1.1 203 So\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.get_mut().write_all(answer.as_bytes()).expect("the node reads");
        stream.get_mut().write_all(&body).expect("the node reads");
        head
    });
    let node = Node::start(&app);
    let answer = relayed(&node, &format!("http://{host}/over/there?y=2"), b"to the world and back");
    assert_eq!((answer.status, answer.text().as_str()), (200, "to the world and back"));
    assert_eq!(answer.header("x-status"), Some("203"));
    let head = server.join().expect("the server has seen a request");
    assert_eq!(head.first().map(String::as_str), Some("post /over/there?y=2 http/1.1"));
    assert!(
        head.contains(&format!("host: {host}")) && head.contains(&"x-relayed: yes".to_owned()),
        "{head:?}"
    );
    node.wait_at_rest(REST);
}
