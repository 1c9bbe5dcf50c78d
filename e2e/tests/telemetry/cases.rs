//! `baton test`: an app's own cases.

use std::fs;

use baton_e2e::{App, Finished, cli, need_one_node, need_sandbox};

fn app() -> App {
    App::new("tested")
        .function("hello", "hello", "")
        .function("tell", "inspect", "")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", "")
}

fn run(app: &App, cases: &str, more: &[&str]) -> Finished {
    let directory = app.directory();
    fs::write(directory.join("baton.test.toml"), cases).expect("a file");
    let home = tempfile::tempdir().expect("a directory");
    let directory = directory.to_str().expect("a path");
    let args = ["test", directory, "--no-build"];
    cli(home.path(), args.iter().chain(more))
}

const GOOD: &str = r#"
[[cases]]
name = "greets"
request = { path = "/hello" }
expect = { status = 200, body = "hello, world\n", headers = { content-type = "text/plain", x-none = "" } }

[[cases]]
name = "tells what it saw"
request = { path = "/tell/x?q=1", method = "PUT", headers = { x-mine = "1" }, body = "abc" }
expect = { status = 201, contains = ["method=PUT", "body=3", "header:x-mine=1"] }

[[cases]]
name = "hands on without a copy"
request = { path = "/a?move", file = "payload.bin" }
expect = { status = 200, file = "payload.bin", receipt = ["copies == 0", "hops <= 2", "cpu_ns > 0"] }
"#;

#[test]
fn cases_that_hold_pass() {
    need_sandbox!();
    need_one_node!();
    let app = app();
    fs::write(app.directory().join("payload.bin"), vec![7; 100_000]).expect("a file");
    let junit = app.directory().join("out.xml");
    let passed = run(&app, GOOD, &["--junit", junit.to_str().expect("a path")]);
    assert_eq!(passed.code, 0, "{}{}", passed.stdout, passed.stderr);
    assert!(passed.stdout.contains("3 passed, 0 failed"), "{}", passed.stdout);
    let xml = fs::read_to_string(&junit).expect("a file");
    assert!(xml.contains("tests=\"3\" failures=\"0\""), "{xml}");
    let one = run(&app, GOOD, &["--filter", "greets", "--json"]).json();
    assert_eq!((&one["passed"], &one["app"]), (&1.into(), &"tested".into()), "{one}");
}

#[test]
fn cases_that_do_not_hold_say_what_came() {
    need_sandbox!();
    need_one_node!();
    let app = app();
    let cases = r#"
[[cases]]
name = "wrong"
request = { path = "/hello" }
expect = { status = 404, body = "hello, moon\n", receipt = ["hops >= 9"] }

[[cases]]
name = "nowhere"
request = { path = "/nowhere" }
expect = { status = 404, receipt = ["copies == 0"] }
"#;
    let failed = run(&app, cases, &["--json"]);
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    let report = failed.json();
    assert_eq!(report["failed"], 2, "{report}");
    let said = report["cases"].to_string();
    for word in ["expected 404, got 200", "- hello, moon", "+ hello, world", "hops is 1", "no receipt"] {
        assert!(said.contains(word), "no {word} in {said}");
    }
}

#[test]
fn faulty_cases_are_bad_usage() {
    need_sandbox!();
    let app = app();
    for cases in ["", "[[cases]]\nname = \"x\"\nrequest = { path = \"/\" }\nexpects = 1\n"] {
        let refused = run(&app, cases, &[]);
        assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("baton.test.toml"), "{}", refused.stderr);
    }
}
