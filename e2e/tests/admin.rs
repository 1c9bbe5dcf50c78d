//! The admin API's doors, and the metrics.

use baton_e2e::{App, Client, Node, Response, need_sandbox};

fn ask(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(node.admin).expect("the admin API is there");
    client.request("GET", path, headers, b"").expect("an answer")
}

#[test]
fn the_tcp_door_wants_the_token_and_no_strangers() {
    need_sandbox!();
    let node = Node::start(&App::new("admin").function("hello", "hello", ""));
    let token = format!("Bearer {}", node.token);
    let authorized = ("authorization", token.as_str());
    assert_eq!(ask(&node, "/healthz", &[]).status, 200);
    assert_eq!(ask(&node, "/v1/apps", &[authorized]).status, 200);

    for headers in [&[][..], &[("authorization", "Bearer guess")], &[("authorization", node.token.as_str())]]
    {
        for path in ["/v1/apps", "/metrics", "/v1/logs", "/v1/caps"] {
            let refused = ask(&node, path, headers);
            assert_eq!(refused.status, 401, "{path} {headers:?}: {}", refused.text());
            assert!(!refused.text().contains(&node.token) && refused.header("www-authenticate").is_some());
        }
    }
    for stranger in [
        ("host", "evil.example"),
        ("host", "evil.example:8081"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let refused = ask(&node, "/v1/apps", &[authorized, stranger]);
        assert_eq!(refused.status, 403, "{stranger:?}: {}", refused.text());
    }
    // Nobody but the owner may come in by the other door.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &node.home().join("admin.sock").metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&node.home().join("token").metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// The name that a line's type is told by.
fn family(name: &str) -> &str {
    let suffixes = ["_total", "_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[test]
fn metrics_are_in_the_exposition_format() {
    need_sandbox!();
    let node = Node::start(&App::new("admin").function("hello", "hello", ""));
    for _ in 0..7 {
        assert_eq!(node.get("/hello").status, 200);
    }
    let token = format!("Bearer {}", node.token);
    let headers = [("authorization", token.as_str()), ("accept", "application/openmetrics-text")];
    let page = ask(&node, "/metrics", &headers);
    assert_eq!(page.status, 200);
    let text = page.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
        let bare = name.split('{').next().unwrap();
        assert!(bare.starts_with("baton_") && name.contains('{') == name.ends_with('}'), "{line:?}");
        assert!(text.contains(&format!("# TYPE {}", family(bare))), "{line:?} has no type");
    }
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let calls = text.lines().find(|line| line.contains("calls_total") && line.contains("function=\"hello\""));
    assert!(calls.is_some_and(|line| line.ends_with(" 7")), "{text}");
}

#[test]
fn wrong_questions_get_clear_answers() {
    need_sandbox!();
    let node = Node::start(&App::new("admin").function("hello", "hello", ""));
    let token = format!("Bearer {}", node.token);
    for (path, status) in [
        ("/v1/nothing", 404),
        ("/v1/apps/nobody/pool", 404),
        ("/v1/receipts/last", 404),
        ("/v1/caps?app=nobody", 404),
        ("/v1/logs?after=soon", 400),
        ("/v1/invoke/admin/nobody", 404),
    ] {
        let answer = ask(&node, path, &[("authorization", &token)]);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let fault: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(!fault["error"].as_str().unwrap().is_empty(), "{path}: {fault}");
    }
}
