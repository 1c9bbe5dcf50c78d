//! Policies in the path of real requests: what passes, what does not, and that changing them loses nothing.

mod tokens;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use baton_e2e::{App, Node, need_sandbox, wait_until};
use serde_json::Value;

use crate::tokens::{EXPIRED, GOOD, KEYS, OTHER_AUDIENCE, UNKNOWN_KEY, UNSIGNED};

/// One handler of a function, as its table in the manifest.
fn handler(function: &str, lines: &str) -> String {
    format!("[[functions.{function}.policy.handlers]]\n{lines}\n")
}

fn with_token(node: &Node, path: &str, token: &str) -> (u16, String) {
    let bearer = format!("Bearer {token}");
    let answer =
        node.http().request("GET", path, &[("authorization", &bearer)], b"").expect("as a test wants it");
    (answer.status, answer.text())
}

/// What `baton policy show` says of one handler of a function.
fn shown(node: &Node, app: &str, function: &str, kind: &str) -> Value {
    let status = node.ask(&format!("/v1/apps/{app}/policy"));
    let handlers = status["functions"][function].as_array().cloned().unwrap_or_default();
    handlers.into_iter().find(|handler| handler["use"] == kind).unwrap_or_default()
}

fn replace(file: &Path, text: &str) {
    let next = file.with_extension("next");
    fs::write(&next, text).expect("as a test wants it");
    fs::rename(&next, file).expect("as a test wants it");
}

#[test]
fn tokens_are_good_or_not_and_keys_may_come_and_go() {
    need_sandbox!();
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("jwks.json");
    fs::write(&file, KEYS).unwrap();
    let jwt = format!(
        "use = \"jwt\"\njwks = \"{}\"\nalgorithms = [\"HS256\"]\naudiences = [\"shop\"]\nsize = \"1KiB\"",
        file.display()
    );
    let guarded = handler("inspect", &jwt)
        + &handler(
            "inspect",
            "use = \"authorize\"\nonly = { paths = [\"/inspect/admin\"] }\nscopes = [\"shop:admin\"]",
        )
        + &handler(
            "inspect",
            "use = \"headers\"\nrequest = { set = { x-user = \"{claim:sub}\" }, remove = [\"authorization\"] }",
        );
    let node = Node::start(&App::new("tokens").function("inspect", "inspect", &guarded));
    let good = node.http().request(
        "GET",
        "/inspect/x",
        &[("authorization", &format!("Bearer {GOOD}")), ("x-user", "eve"), ("x-baton-identity", "root")],
        b"",
    );
    let good = good.unwrap();
    assert_eq!(good.status, 201, "{}", good.text());
    assert_eq!(good.line("header:x-user").as_deref(), Some("ada"), "{}", good.text());
    assert!(!good.text().contains("x-baton-identity"), "a client forged a header: {}", good.text());
    assert!(!good.text().contains("authorization"), "{}", good.text());
    for (token, why) in [
        (EXPIRED, "expired"),
        (OTHER_AUDIENCE, "another service"),
        (UNKNOWN_KEY, "key is not known"),
        (UNSIGNED, "malformed"),
        ("a.b.c", "malformed"),
        (&"x".repeat(2000), "larger"),
        (&format!("{}x", GOOD.get(..GOOD.len() - 1).unwrap()), "signature"),
    ] {
        let (status, text) = with_token(&node, "/inspect/x", token);
        assert!(status == 401 && text.contains(why), "{token}: {status} {text}");
    }
    let none = node.get("/inspect/x");
    assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(with_token(&node, "/inspect/admin", GOOD).0, 403);
    // Garbage and a file that vanishes leave the keys that were good.
    replace(&file, "{ not json");
    let says = |what: &'static str| {
        wait_until(Duration::from_secs(10), what, || {
            shown(&node, "tokens", "inspect", "jwt")["state"]
                .as_str()
                .is_some_and(|state| state.contains(what))
        });
    };
    says("no JSON Web Key Set");
    assert_eq!(with_token(&node, "/inspect/x", GOOD).0, 201);
    fs::remove_file(&file).unwrap();
    says("cannot be read");
    assert_eq!(with_token(&node, "/inspect/x", GOOD).0, 201);
    // A good file without the key takes it away, from those tokens too that were good a moment ago.
    replace(&file, &KEYS.replace("\"k1\"", "\"k2\""));
    wait_until(Duration::from_secs(10), "the key to go", || with_token(&node, "/inspect/x", GOOD).0 == 401);
}

#[test]
fn limits_hold_and_say_when_to_come_again() {
    need_sandbox!();
    let limit = "use = \"rate-limit\"\nkey = \"header:x-tenant\"\nrate = \"1/m\"\nburst = 2";
    let once = "use = \"concurrency\"\nmax = 1";
    let late = "use = \"timeout\"\nafter = \"150ms\"";
    let app = App::new("limits").function("hello", "hello", &handler("hello", limit)).function(
        "sleep",
        "sleeper",
        &(format!("timeout = \"10s\"\n{}", handler("sleep", once)) + &handler("sleep", late)),
    );
    let node = Node::start(&app);
    let as_tenant =
        |tenant: &str| node.http().request("GET", "/hello", &[("x-tenant", tenant)], b"").unwrap();
    assert_eq!((as_tenant("a").status, as_tenant("a").status), (200, 200));
    let refused = as_tenant("a");
    assert_eq!(refused.status, 429);
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert_eq!(as_tenant("b").status, 200);
    let slow = node.get("/sleep?ms=800");
    assert!(slow.status == 504 && slow.text().contains("150ms"), "{} {}", slow.status, slow.text());
    assert_eq!(shown(&node, "limits", "hello", "rate-limit")["refused"], 1);
    wait_until(Duration::from_secs(5), "the place to be free", || {
        shown(&node, "limits", "sleep", "concurrency")["passed"].as_u64() >= Some(1)
    });
}

#[test]
fn policies_are_swapped_under_load_without_a_lost_request_and_outlive_the_node() {
    need_sandbox!();
    let app = App::new("swap").function("hello", "hello", "scale = { min = 1, max = 1, concurrency = 16 }");
    let node = Node::start(&app);
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("policy.toml");
    let path = file.to_str().unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (mut client, stop, answered) = (node.http(), Arc::clone(&stop), Arc::clone(&answered));
        thread::spawn(move || {
            // Bounded, should nobody say stop.
            for _ in 0..200_000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let answer = client.request("GET", "/hello", &[], b"").expect("a dropped request");
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for round in 0..10 {
        let text = format!(
            "[[policy.handlers]]\nuse = \"log\"\n[[policy.handlers]]\nuse = \"metrics\"\n[[functions.hello.policy.handlers]]\n\
             use = \"headers\"\nresponse = {{ set = {{ x-round = \"{round}\" }} }}\n"
        );
        fs::write(&file, text).unwrap();
        let set = node.cli(["policy", "set", "swap", path, "--json"]);
        assert_eq!(set.code, 0, "{}", set.stderr);
        assert_eq!(node.get("/hello").header("x-round"), Some(round.to_string().as_str()));
    }
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    assert!(answered.load(Ordering::Relaxed) > 10);
    let seen = shown(&node, "swap", "hello", "metrics")["outcomes"]["succeeded"].as_u64().unwrap();
    assert!(seen > 10, "a change of another handler took {seen}");
    // What is wrong is said with its place, and what held before holds.
    fs::write(&file, "[[policy.handlers]]\nuse = \"rate-limit\"\nrate = \"often\"\n").unwrap();
    let bad = node.cli(["policy", "set", "swap", path]);
    assert_eq!(bad.code, 2, "{}", bad.stderr);
    assert!(bad.stderr.contains("is no rate"), "{}", bad.stderr);
    fs::write(&file, "[[functions.other.policy.handlers]]\nuse = \"log\"\n").unwrap();
    let bad = node.cli(["policy", "set", "swap", path]);
    assert!(bad.code == 1 && bad.stderr.contains("no such function"), "{} {}", bad.code, bad.stderr);
    assert_eq!(node.get("/hello").header("x-round"), Some("9"));
    // A restart keeps them, and `reset` takes them back.
    let node = Node::restart(node.kill(), "swap");
    assert_eq!(node.get("/hello").header("x-round"), Some("9"));
    assert_eq!(node.cli(["policy", "reset", "swap"]).code, 0);
    assert_eq!(node.get("/hello").header("x-round"), None);
}

#[test]
fn bodies_are_checked_and_lead_elsewhere_and_functions_may_decide() {
    need_sandbox!();
    let schema = "use = \"schema\"\nonly = { methods = [\"POST\"] }\nschema = '{\"type\":\"object\",\"required\":[\"plan\"]}'";
    let fork = "use = \"route\"\nrules = [{ header = \"x-canary\", equals = \"1\", to = \"hello\" }, { field = \"/plan\", equals = \"gold\", to = \"hello\" }]";
    let app = App::new("bodies")
        .function("inspect", "inspect", &(handler("inspect", schema) + &handler("inspect", fork)))
        .function("hello", "hello", "")
        .function("guarded", "hello", &handler("guarded", "use = \"ask\"\nfunction = \"hello\""))
        .function("doomed", "hello", &handler("doomed", "use = \"ask\"\nfunction = \"crasher\""))
        .route("/crash/panic", "doomed", "")
        .function("looped", "hello", &handler("looped", "use = \"ask\"\nfunction = \"spinner\""))
        .function("crasher", "crasher", "")
        .function("spinner", "spinner", "timeout = \"300ms\"");
    let node = Node::start(&app);
    let bad = node.post("/inspect", b"{]");
    assert!(bad.status == 400 && bad.text().contains("no JSON"), "{} {}", bad.status, bad.text());
    let bad = node.post("/inspect", b"{\"a\":1}");
    assert!(bad.status == 422 && bad.text().contains("plan"), "{} {}", bad.status, bad.text());
    assert_eq!(node.post("/inspect", b"{\"plan\":\"silver\"}").line("method").as_deref(), Some("POST"));
    assert_eq!(node.post("/inspect", b"{\"plan\":\"gold\"}").text(), "hello, world\n");
    let canary = node.http().request("GET", "/inspect", &[("x-canary", "1")], b"").unwrap();
    assert_eq!(canary.text(), "hello, world\n");
    assert_eq!(node.get("/guarded").text(), "hello, world\n");
    // Handlers that die or never return end their request, and nothing else.
    let doomed = node.get("/crash/panic");
    assert_eq!(doomed.status, 500, "{}", doomed.text());
    let looped = node.get("/looped/forever");
    // Either its time is over first, or a cell has stopped it and says so.
    assert!([500, 504].contains(&looped.status), "{} {}", looped.status, looped.text());
    assert_eq!(shown(&node, "bodies", "doomed", "ask")["refused"], 1);
    assert_eq!(node.get("/guarded").status, 200, "the node and its other functions go on");
}

#[test]
fn only_what_does_no_harm_twice_is_made_again_and_a_breaker_opens_and_closes() {
    need_sandbox!();
    let again = handler("crash", "use = \"retry\"\nattempts = 3");
    let breaker = handler("frail", "use = \"breaker\"\nfailures = 50\nleast = 2\nopen = \"1s\"\nprobes = 1");
    let app = App::new("again")
        .function("crash", "crasher", &format!("timeout = \"10s\"\n{again}"))
        .function("frail", "crasher", &format!("timeout = \"10s\"\n{breaker}"))
        .route("/crash/{name}", "frail", "methods = [\"DELETE\"]");
    let node = Node::start(&app);
    let calls = || node.function("crash")["calls"].as_u64().unwrap();
    let ask = |method: &str, path: &str| node.http().request(method, path, &[], b"x").unwrap();
    assert_eq!(ask("POST", "/crash/exit").status, 502);
    assert_eq!(calls(), 1, "a POST was made twice");
    assert_eq!(ask("PUT", "/crash/exit").status, 502);
    assert_eq!(calls(), 4, "three attempts");
    assert_eq!(ask("PUT", "/crash/fine").text(), "alive");
    for _ in 0..2 {
        assert_eq!(ask("DELETE", "/crash/exit").status, 502);
    }
    let open = ask("DELETE", "/crash/fine");
    assert_eq!((open.status, open.header("retry-after")), (503, Some("1")));
    wait_until(Duration::from_secs(10), "the breaker to close", || {
        ask("DELETE", "/crash/fine").status == 200
    });
    let state = shown(&node, "again", "frail", "breaker")["state"].as_str().unwrap_or_default().to_owned();
    assert_eq!(state, "closed, opened 1 times");
}
