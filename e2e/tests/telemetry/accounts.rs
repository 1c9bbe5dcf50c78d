//! `baton usage`: over restarts of the node.

use std::time::Duration;

use baton_e2e::{App, Node, cli, need_one_node, need_sandbox};
use rustix::process::Signal;
use serde_json::Value;

fn row(report: &Value, function: &str) -> Value {
    let rows = report["rows"].as_array().expect("a list of rows");
    rows.iter().find(|row| row["function"] == function).cloned().unwrap_or_default()
}

#[test]
fn accounts_survive_a_restart() {
    need_sandbox!();
    need_one_node!();
    let app = App::new("used")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }")
        .function("c", "last", "");
    let mut node = Node::start(&app);
    for _ in 0..4 {
        assert_eq!(node.post("/a?move", b"12345").status, 200);
    }
    // What was used since the last look is written when the node ends.
    node.signal(Signal::TERM);
    assert!(node.wait(Duration::from_secs(20)).success());
    let node = Node::restart(node.kill(), "used");
    let used = node.cli(["usage", "used", "--json", "--since", "2h"]);
    assert_eq!(used.code, 0, "{}", used.stderr);
    let report = used.json();
    let (a, c) = (row(&report, "a"), row(&report, "c"));
    assert_eq!(
        (&a["invocations"], &a["bytes_in"], &a["errors"]),
        (&4.into(), &20.into(), &0.into()),
        "{report}"
    );
    assert_eq!((&c["invocations"], &c["bytes_handed"]), (&4.into(), &40.into()), "{report}");
    assert!(a.get("cold_starts").is_none_or(Value::is_number), "{report}");
    let shown = node.cli(["usage"]).stdout;
    assert!(shown.contains("CALLS") && shown.contains("used"), "{shown}");
    let other = node.cli(["usage", "nobody", "--json"]).json();
    assert_eq!(other["rows"].as_array().map(Vec::len), Some(0), "{other}");
    let wrong = cli(node.home(), ["usage", "--since", "soon"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}
