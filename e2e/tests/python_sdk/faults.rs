//! What goes wrong in a handler is told: to its caller in a line, to the log with everything.

use std::fs;

use baton_e2e::{need_one_node, need_processes, python_interpreter, wait_until};
use serde_json::Value;

use super::{REST, app, python, start};

#[test]
fn a_failure_is_json_for_the_client_and_a_traceback_in_the_log() {
    need_processes!();
    need_one_node!();
    let app =
        python(app("fails"), "answer", "plain:answer", "calls = [\"rust\"]").function("rust", "echo", "");
    let Some(node) = start(&app) else { return };
    let ask = |what: &str| {
        let answered = node.post(&format!("/answer/{what}"), b"payload");
        assert_eq!(answered.header("content-type"), Some("application/json"), "{}", answered.text());
        let body: Value = serde_json::from_slice(&answered.body).expect("JSON");
        (answered.status, body["error"].as_str().expect("a message").to_owned(), body)
    };
    let (status, message, body) = ask("fail");
    assert_eq!((status, body["exception"].as_str()), (500, Some("KeyError")), "{body}");
    assert!(!message.contains("missing key"), "what is inside stays inside: {message}");
    wait_until(REST, "the traceback", || {
        let log = node.log_of("answer");
        let has = |what: &str| log.iter().any(|line| line.contains(what));
        has("Traceback (most recent call last)") && has("plain.py") && has("KeyError: 'missing key'")
    });
    let (status, message, body) = ask("refuse");
    assert!((status, message.as_str()) == (409, "not twice") && body.get("exception").is_none(), "{body}");
    let (status, message, _) = ask("object");
    assert!(status == 500 && message.contains("builtins.object cannot be sent"), "{message}");
    let (status, message, _) = ask("unnamed");
    assert!(status == 500 && message.contains("stranger") && message.contains("`calls`"), "{message}");
    // A view that is kept blocks the move, and says how to let go.
    let (status, message, _) = ask("keep");
    assert!(status == 500 && message.contains("1 view(s) of it are alive"), "{message}");
    assert_eq!(node.get("/answer/forget").text(), "gone\n");
    node.wait_at_rest(REST);
}

#[test]
fn what_was_handed_over_or_lent_is_not_touched_any_more() {
    need_processes!();
    need_one_node!();
    let app = python(app("moved"), "take", "plain:take", "calls = [\"rust\"]").function("rust", "echo", "");
    let app = python(app, "lender", "frames:lender", "calls = [\"keeper\"]");
    let app = python(app, "keeper", "frames:keeper", "");
    let Some(node) = start(&app) else { return };
    assert_eq!(node.get("/take").text(), "{\"length\":1000,\"type\":\"HandedOver\",\"is\":true}");
    let kept = node.get("/lender");
    assert!(kept.status == 502 && kept.text().contains("only lent"), "{} {}", kept.status, kept.text());
}

#[test]
fn a_handler_that_is_not_there_is_named_with_what_is() {
    need_processes!();
    need_one_node!();
    if python_interpreter().is_none() {
        return;
    }
    for (handler, expected) in [
        ("plain:anwser", "did you mean answer"),
        ("plane:answer", "did you mean plain"),
        ("broken", "ModuleNotFoundError: No module named 'nowhere'"),
    ] {
        let app = python(app("lost"), "lost", handler, "");
        fs::write(app.directory().join("app/broken.py"), "import nowhere\n").expect("a file");
        let home = tempfile::tempdir().expect("a directory");
        let place = app.directory().display().to_string();
        let refused = baton_e2e::cli(home.path(), ["up", &place, "--port", "0", "--json"]);
        let log = baton_e2e::cli(home.path(), ["logs", "lost"]);
        let told = format!("{}{}", refused.stderr, log.stdout);
        assert!(refused.code != 0 && told.contains(expected), "{handler}: {told}");
    }
}

#[test]
fn a_function_that_takes_all_memory_answers_or_dies_and_another_serves() {
    need_processes!();
    need_one_node!();
    let app = python(app("hungry"), "hungry", "plain:hungry", "memory = \"256MiB\"");
    let Some(node) = start(&app) else { return };
    let answered = node.get("/hungry");
    let says = answered.text();
    if answered.status == 502 {
        // The kernel was faster than the interpreter.
        assert!(says.contains("hungry died at this request"), "{says}");
        wait_until(REST, "the node says what it died of", || {
            node.log_of("hungry").iter().any(|line| line.contains("memory"))
        });
    } else {
        let told = says.contains("MemoryError");
        assert!(answered.status == 500 && told, "{} {says}", answered.status);
    }
    wait_until(REST, "it serves again", || node.get("/hungry/hello").text() == "hello\n");
}
