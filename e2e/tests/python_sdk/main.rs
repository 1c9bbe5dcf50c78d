//! Functions in Python: payloads in place, chains with Rust, errors, streams, asyncio.

mod arrays;
mod faults;
mod wheel;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use baton_e2e::{App, Node, need_one_node, need_processes, python_interpreter, source_root, wait_until};
use serde_json::json;

const REST: Duration = Duration::from_secs(10);

/// An app with the modules of `app/`; functions are added by [`python`].
pub(crate) fn app(name: &str) -> App {
    let app = App::new(name);
    let (from, to) = (source_root().join("e2e/tests/python_sdk/app"), app.directory().join("app"));
    fs::create_dir_all(&to).expect("a directory");
    for file in ["plain.py", "frames.py"] {
        fs::copy(from.join(file), to.join(file)).expect("the module can be copied");
    }
    app
}

/// One more function in Python, with more lines for its table; it answers `/NAME` and `/NAME/{name}`.
pub(crate) fn python(app: App, name: &str, handler: &str, more: &str) -> App {
    let python = python_interpreter().unwrap_or_default();
    let venv = python.parent().and_then(|bin| bin.parent()).unwrap_or(&python).display().to_string();
    let table = format!(
        "runtime = \"python\"\nfiles = \"app\"\nhandler = \"{handler}\"\npython = \"{venv}\"\ntimeout = \"20s\"\n{more}"
    );
    app.written(name, &table).route(&format!("/{name}"), name, "").route(
        &format!("/{name}/{{name}}"),
        name,
        "",
    )
}

fn start(app: &App) -> Option<Node> {
    python_interpreter()?;
    Some(Node::start_with(app, &["--receipts"]))
}

#[test]
fn the_package_passes_its_own_tests() {
    need_processes!();
    need_one_node!();
    let Some(python) = python_interpreter() else { return };
    let beside = || baton_e2e::baton().with_file_name("python");
    let package = env::var_os("BATON_PYTHON").map_or_else(beside, PathBuf::from);
    let mut tests = Command::new(python);
    tests.args(["-m", "unittest", "discover", "-s"]).arg(source_root().join("sdk/python/tests"));
    let output = tests.env("PYTHONPATH", package).env("PYTHONDONTWRITEBYTECODE", "1").output();
    let output = output.expect("the interpreter starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
}

#[test]
fn a_handler_answers_in_every_way_that_python_people_know() {
    need_processes!();
    need_one_node!();
    let app =
        python(app("ways"), "answer", "plain:answer", "calls = [\"rust\"]").function("rust", "echo", "");
    let Some(node) = start(&app) else { return };
    let ask = |what: &str, body: &[u8]| node.post(&format!("/answer/{what}"), body);
    let text = ask("text", b"");
    assert_eq!((text.status, text.text().as_str()), (200, "grüße\n"));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    for len in [0, 1, 8, 9, 5000, 300_000, 3 << 20] {
        let body: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let echoed = ask("echo", &body);
        assert!(echoed.status == 200 && echoed.body == body, "{len}: {}", echoed.status);
    }
    let about = node.get("/answer/about?q=1");
    let about: serde_json::Value = serde_json::from_slice(&about.body).expect("JSON");
    assert_eq!(
        (&about["method"], &about["query"], &about["left"], &about["calls"]),
        (&json!("GET"), &json!("q=1"), &json!(true), &json!(["rust"]))
    );
    let short = ask("status", b"");
    assert_eq!((short.status, short.header("x-kind")), (418, Some("teapot")));
    assert_eq!(ask("nothing", b"").status, 204);
    assert_eq!(ask("gathered", b"").text(), "0\n1\n2\n", "a function that may not stream answers whole");
    assert_eq!(ask("log", b"").text(), "logged\n");
    for line in ["shop: sold 3", "seen", "printed"] {
        wait_until(REST, line, || node.log_of("answer").iter().any(|there| there.trim_end() == line));
    }
    node.wait_at_rest(REST);
}

#[test]
fn an_async_handler_waits_for_calls_timers_threads_and_sockets() {
    need_processes!();
    need_one_node!();
    let more = "calls = [\"rust\"]\nscale = { min = 1, max = 1, concurrency = 16 }";
    let app = python(app("later"), "later", "plain:later", more).function("rust", "echo", "");
    let Some(node) = start(&app) else { return };
    let all = node.get("/later");
    assert_eq!((all.status, all.text().as_str()), (200, "[\"0\",\"1\",\"2\",\"3\",\"4\",2]"));
    assert_eq!(node.get("/later/thread").text(), "from a thread\n");
    assert_eq!(node.get("/later/socket").text(), "by socket\n");
    // One replica has them all in hand at a time, and calls go on once the loop waits for descriptors.
    let sleeping: Vec<_> = (0..8).map(|_| node.in_background("/later/sleep", b"")).collect();
    assert_eq!(node.get("/later").status, 200);
    for slept in sleeping {
        assert_eq!(slept.join().expect("an answer").text(), "slept\n");
    }
    node.wait_at_rest(REST);
}

#[test]
fn generators_stream_and_a_failure_breaks_the_stream_off() {
    need_processes!();
    need_one_node!();
    let app = python(app("lines"), "lines", "plain:lines", "stream = true");
    let app = python(app, "ticks", "plain:ticks", "stream = true");
    let Some(node) = start(&app) else { return };
    assert_eq!(node.get("/lines").text(), "one\ntwo\nthree\n");
    assert_eq!(node.get("/ticks").text(), "0\n1\n2\n");
    assert_eq!(node.post("/lines/body", &vec![7; 400_000]).text(), "400000\n");
    // Whoever calls otherwise gets it whole.
    let whole = node.cli(["invoke", "lines/lines"]);
    assert!(whole.stdout.contains("one\ntwo\nthree"), "{whole:?}");
    let mut client = node.http();
    let broken = client.request("GET", "/lines/broken", &[], b"").map(|answer| answer.text());
    assert!(broken.is_err(), "a stream that broke off has no proper end: {broken:?}");
    wait_until(REST, "the traceback", || {
        node.log_of("lines").iter().any(|line| line.contains("ValueError: in the middle"))
    });
    assert_eq!(node.get("/lines").status, 200);
    node.wait_at_rest(REST);
}

#[test]
fn references_are_put_and_got_once() {
    need_processes!();
    need_one_node!();
    let app = python(app("refs"), "references", "plain:references", "references = true");
    let Some(node) = start(&app) else { return };
    let body = vec![3; 100_000];
    let got = node.post("/references", &body);
    assert!(got.status == 200 && got.body == body, "{}", got.text());
    node.wait_at_rest(REST);
}
