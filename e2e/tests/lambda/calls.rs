//! Functions of manifests: by HTTP, by `baton invoke`, with and without `awslambdaric`, and executables.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use baton_e2e::{Node, need_processes, need_sandbox, python_interpreter};
use serde_json::{Value, json};
use tempfile::TempDir;

const REST: Duration = Duration::from_secs(5);
const PYTHON: &str = r#"
import json, sys
def main(event, context):
    return event
def web(event, context):
    if event["rawPath"].endswith("/plain"):
        return {"plain": True}
    if event["rawPath"].endswith("/fails"):
        raise RuntimeError("a secret")
    if event["rawPath"].endswith("/odd"):
        return {"statusCode": "odd"}
    cores = next(line.rstrip() for line in open("/proc/self/status") if line.startswith("Cpus_allowed_list"))
    return {"statusCode": 201, "headers": {"x-own": "yes"}, "cookies": ["a=1", "b=2"],
            "body": json.dumps({"event": event, "ric": "awslambdaric" in sys.modules, "cores": cores})}
"#;
/// A bootstrap in the simplest language that there is.
const BOOTSTRAP: &str = r#"#!/bin/bash
api="$AWS_LAMBDA_RUNTIME_API"
while true; do
    exec 3<>"/dev/tcp/${api%:*}/${api#*:}"
    printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n' >&3
    id=; length=0
    while IFS= read -r line <&3; do
        line="${line%$'\r'}"
        [ -z "$line" ] && break
        case "$line" in
            Lambda-Runtime-Aws-Request-Id:*) id="${line#*: }" ;;
            Content-Length:*) length="${line#*: }" ;;
        esac
    done
    [ -z "$id" ] && exit 0
    IFS= read -r -N "$length" event <&3
    body="{\"handler\": \"$_HANDLER\", \"event\": $event}"
    printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nhost: x\r\ncontent-length: %s\r\n\r\n%s' "$id" "${#body}" "$body" >&3
    IFS= read -r line <&3
    exec 3>&-
done
"#;

/// A node with an app of one function for Lambda.
fn node(files: &[(&str, &str)], handler: &str, (runtime, more): (&str, &str)) -> (Node, TempDir) {
    let directory = tempfile::Builder::new().prefix("baton-app-").tempdir().unwrap();
    let code = directory.path().join("code");
    fs::create_dir_all(&code).unwrap();
    for (name, text) in files {
        fs::write(code.join(name), text).unwrap();
        fs::set_permissions(code.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let lambda = if more.contains("lambda =") {
        String::new()
    } else {
        format!("lambda = {{ runtime = \"{runtime}\" }}")
    };
    let text = format!(
        "[app]\nname = \"web\"\n[functions.fn]\nruntime = \"lambda\"\nfiles = \"code\"\nhandler = \"{handler}\"\n\
         timeout = \"10s\"\n{lambda}\n{more}\n\
         [[routes]]\npath = \"/api/{{*rest}}\"\nmethods = [\"GET\", \"POST\"]\nfunction = \"fn\"\n"
    );
    fs::write(directory.path().join("baton.toml"), text).unwrap();
    (Node::up(directory.path(), "web"), directory)
}

#[test]
fn a_route_gives_events_of_api_gateway_and_takes_its_answers() {
    need_processes!();
    need_sandbox!();
    let (node, _app) = node(&[("app.py", PYTHON)], "app.web", ("python3.11", ""));
    let mut client = node.http();
    let headers = [("cookie", "s=1"), ("x-a", "b"), ("content-type", "text/plain")];
    let answer = client.request("POST", "/api/carts/7?q=1&q=2", &headers, "text é".as_bytes()).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    assert!(answer.headers.iter().any(|(name, value)| name == "x-own" && value == "yes"));
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    let event = &told["event"];
    assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/api/carts/7")));
    assert_eq!((&event["rawQueryString"], &event["cookies"]), (&json!("q=1&q=2"), &json!(["s=1"])));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("text é"), &json!(false)));
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(event["pathParameters"]["rest"], "carts/7");
    assert_eq!(told["ric"], false);
    assert_eq!(told["cores"], baton_e2e::process::own_cores(), "every core that the node may use");
    assert_eq!(client.request("GET", "/api/plain", &[], b"").unwrap().text(), "{\"plain\": true}");
    let failed = client.request("GET", "/api/fails", &[], b"").unwrap();
    assert_eq!((failed.status, failed.text().contains("secret")), (500, false));
    assert_eq!(client.request("GET", "/api/odd", &[], b"").unwrap().status, 502);
    // The payload itself, where no path is given.
    let called = node.cli(["invoke", "web/fn", "--data", "{\"rawPath\": \"/x/plain\"}"]);
    assert_eq!((called.code, called.stdout.as_str()), (0, "{\"plain\": true}"), "{}", called.stderr);
    let failed = node.cli(["invoke", "web/fn", "--data", "{\"rawPath\": \"/fails\"}"]);
    assert!(failed.code == 1 && failed.stdout.contains("RuntimeError"), "{}", failed.stdout);
    node.wait_at_rest(REST);
}

#[test]
fn awslambdaric_of_a_virtual_environment_runs_as_it_is() {
    need_processes!();
    need_sandbox!();
    let Some(python) = python_interpreter() else { return };
    let more = format!("python = \"{}\"", python.display());
    let (node, _app) = node(&[("app.py", PYTHON)], "app.web", ("python3.11", &more));
    let answer = node.http().request("GET", "/api/x", &[], b"").unwrap();
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["ric"], true, "{told}");
    node.wait_at_rest(REST);
}

#[test]
fn a_bootstrap_speaks_the_runtime_api_itself() {
    need_processes!();
    need_sandbox!();
    let (node, _app) = node(&[("bootstrap", BOOTSTRAP)], "own.thing", ("provided.al2023", ""));
    for number in 0..5 {
        let called = node.cli(["invoke", "web/fn", "--data", &format!("{{\"n\": {number}}}")]);
        let expected = format!("{{\"handler\": \"own.thing\", \"event\": {{\"n\": {number}}}}}");
        assert_eq!((called.code, called.stdout), (0, expected), "{}", called.stderr);
    }
    node.wait_at_rest(REST);
}

#[test]
fn a_bootstrap_that_lies_to_the_runtime_api_harms_nobody_else() {
    need_processes!();
    need_sandbox!();
    let lies = BOOTSTRAP.replace("invocation/%s/response", "invocation/x%s/response");
    let (node, _app) = node(&[("bootstrap", &lies)], "x", ("provided.al2023", ""));
    let called = node.cli(["invoke", "web/fn", "--data", "{}"]);
    assert_eq!(called.code, 1, "{}", called.stdout);
    let again = node.cli(["invoke", "web/fn", "--data", "{}"]);
    assert_eq!(again.code, 1, "{}", again.stdout);
    assert_eq!(node.cli(["ps"]).code, 0);
}

#[test]
fn the_limits_of_aws_hold_where_they_are_asked_for() {
    need_processes!();
    need_sandbox!();
    let more = "memory = \"1GiB\"\nlambda = { runtime = \"python3.11\", aws_limits = true }";
    let (node, _app) = node(&[("app.py", PYTHON)], "app.main", ("python3.11", more));
    let large = format!("\"{}\"", "x".repeat(6_400_000));
    let file = app_file(&node, large.as_bytes());
    let called = node.cli(["invoke", "web/fn", "--data", &file]);
    assert!(called.code == 1 && called.stdout.contains("RequestTooLarge"), "{:.300}", called.stdout);
    node.wait_at_rest(REST);
}

fn app_file(node: &Node, bytes: &[u8]) -> String {
    let path = node.home().join("payload.json");
    fs::write(&path, bytes).unwrap();
    format!("@{}", path.display())
}
