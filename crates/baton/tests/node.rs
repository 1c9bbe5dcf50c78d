//! The binary as a node without apps: start, second node, restart after a kill, graceful end, exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A start, an end or an answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn baton(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.env("BATON_HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    baton(home).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node that is killed when a test fails.
struct Node {
    child: Child,
    ready: Value,
}

impl Node {
    fn start(home: &Path) -> Self {
        let mut child = baton(home)
            .args(["node", "--port", "0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ready }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node does not end");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(address: &str, request: &str) -> String {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_starts_serves_and_ends_gracefully() {
    let home = tempfile::tempdir().unwrap();
    let mut node = Node::start(home.path());
    assert_eq!(node.ready["pid"], node.child.id());
    assert_eq!(node.ready["apps"], Value::Array(Vec::new()));
    assert_eq!(node.ready["token"].as_str().unwrap().len(), 32);
    let gateway = node.ready["gateway"].as_str().unwrap();
    let admin = node.ready["admin"].as_str().unwrap();
    assert!(http(gateway, "GET /").starts_with("HTTP/1.1 404"));
    assert!(http(admin, "GET /healthz").starts_with("HTTP/1.1 200"));
    assert!(http(admin, "GET /v1/apps").starts_with("HTTP/1.1 401"));

    let ps = run(home.path(), &["ps", "--json"]);
    assert_eq!(code(&ps), 0, "{}", stderr(&ps));
    assert_eq!(serde_json::from_slice::<Value>(&ps.stdout).unwrap()["apps"], Value::Array(Vec::new()));
    for (args, expect) in [
        (&["invoke", "shop/cart"][..], "no such function"),
        (&["receipt", "last"], "--receipts"),
        (&["rm", "shop"], "no app shop"),
        (&["caps", "ls", "shop"], "no app shop"),
    ] {
        let output = run(home.path(), args);
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(stderr(&output).contains(expect), "{args:?}: {}", stderr(&output));
    }

    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait(), Some(0));
    assert!(!home.path().join("admin.sock").exists());
}

#[test]
fn a_second_node_is_refused_and_a_killed_one_leaves_no_lock() {
    let home = tempfile::tempdir().unwrap();
    let mut first = Node::start(home.path());
    let second = run(home.path(), &["node", "--port", "0"]);
    assert_eq!(code(&second), 1);
    assert!(stderr(&second).contains(&first.child.id().to_string()), "{}", stderr(&second));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert_eq!(code(&run(home.path(), &["ps"])), 3, "a dead node's socket is no node");
    let again = Node::start(home.path());
    assert_eq!(again.ready["token"], first.ready["token"]);
}

#[test]
fn a_damaged_store_is_an_error_with_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("state.redb"), b"not a database").unwrap();
    let output = run(home.path(), &["node", "--port", "0"]);
    assert_eq!(code(&output), 1);
    let text = stderr(&output);
    assert!(text.contains("damaged") && text.contains("hint:") && !text.contains("panicked"), "{text}");
}

#[test]
fn a_taken_address_is_an_error_with_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (args, option) in [
        (["node", "--listen", &address, "--admin", free], "--listen"),
        (["node", "--listen", free, "--admin", &address], "--admin"),
    ] {
        let output = run(home.path(), &args);
        let text = stderr(&output);
        assert_eq!(code(&output), 1, "{text}");
        assert!(text.contains(&address) && text.contains(option), "{text}");
    }
}

#[test]
fn exit_codes_tell_usage_from_an_absent_node() {
    let home = tempfile::tempdir().unwrap();
    for verb in [&["ps"][..], &["logs"], &["deploy"], &["rm", "x"], &["caps", "ls"], &["invoke", "a/b"]] {
        assert_eq!(code(&run(home.path(), verb)), 3, "{verb:?}");
    }
    assert_eq!(code(&run(home.path(), &["fly"])), 2);
    assert_eq!(code(&run(home.path(), &["build", "/no/such/directory"])), 2);
    assert_eq!(code(&run(home.path(), &["up", "/no/such/directory"])), 2);
    assert_eq!(code(&run(home.path(), &["completions", "fish"])), 0);
    assert_eq!(code(&run(home.path(), &["doctor", "--json"])), 0);
}
