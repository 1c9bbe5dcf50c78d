//! The node's own log as JSON, with functions' lines in it.

use std::time::Duration;

use baton_e2e::{App, Node, cli, need_one_node, need_sandbox, wait_until};
use serde_json::Value;

#[test]
fn functions_lines_are_json_with_everything_that_is_known() {
    need_sandbox!();
    need_one_node!();
    let app = App::new("spoken").function("tell", "inspect", "");
    let node = Node::start_with(&app, &["--log-format", "json"]);
    let answer = node.get("/tell");
    let invocation = answer.header("x-baton-invocation").expect("an invocation").to_owned();
    let lines = || -> Vec<Value> {
        let words = node.words();
        let lines = words.lines().map(serde_json::from_str);
        lines.map(|line| line.unwrap_or_else(|error| panic!("{error}: {words}"))).collect()
    };
    let mut found = Value::Null;
    wait_until(Duration::from_secs(10), "the line is there", || {
        let line = lines().into_iter().find(|line| line["function"] == "tell");
        found = line.unwrap_or_default();
        !found.is_null()
    });
    assert_eq!((&found["app"], &found["level"]), (&"spoken".into(), &"INFO".into()), "{found}");
    assert_eq!(found["invocation"], invocation, "{found}");
    assert_eq!(
        (&found["message"], found["replica"].is_number()),
        (&"inspected /tell".into(), true),
        "{found}"
    );
}

#[test]
fn faulty_settings_are_refused_at_the_start() {
    need_sandbox!();
    let home = tempfile::tempdir().expect("a directory");
    for (args, word) in [
        (&["--log", "=="][..], "filter"),
        (&["--otlp", "127.0.0.1:4318"], "http://"),
        (&["--otlp", "https://collector"], "collector"),
        (&["--trace-sample", "5%"], "--otlp"),
        (&["--trace-sample", "200%", "--otlp", "http://c:1"], "100%"),
        (&["--receipts=2/3"], "1/100"),
        (&["--receipts-every", "0"], "0"),
    ] {
        let all = ["node", "--port", "0"].iter().chain(args);
        let refused = cli(home.path(), all);
        assert_eq!(refused.code, 2, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(word), "{args:?}: {}", refused.stderr);
    }
}
