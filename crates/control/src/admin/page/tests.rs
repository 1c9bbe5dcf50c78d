//! The dashboard's files, the doors round them, and what they look at.

use std::collections::BTreeSet;

use super::*;
use crate::admin::tests::{Server, TOKEN, check, request};
use crate::artifacts::ArtifactHash;
use crate::deploy::tests::{hashes, manifest};
use crate::protocol::DeployRequest;

fn text(name: &str) -> &'static str {
    let (.., bytes) = FILES.iter().find(|(known, ..)| *known == name).expect("a file of the page");
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn the_page_needs_no_token_and_has_a_strict_policy() {
    let server = Server::start().await;
    let page = server.send_with("GET", "/", "", b"").await;
    check(&page, 200, "<title>Baton</title>");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self';",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "referrer-policy: no-referrer",
    ] {
        check(&page, 200, header);
    }
    assert!(!page.contains(TOKEN));
    for (name, kind, _) in FILES {
        let file = server.send_with("GET", &format!("/page/{name}"), "", b"").await;
        check(&file, 200, &format!("content-type: {kind}"));
    }
    check(&server.send_with("GET", "/page/nothing.js", "", b"").await, 404, "no such path");
    check(&server.send_with("GET", "/page/..%2fguard.rs", "", b"").await, 404, "no such path");
    check(&server.send_with("POST", "/", "", b"").await, 405, "method");
}

#[tokio::test]
async fn a_file_that_is_still_the_same_is_not_sent_again() {
    let server = Server::start().await;
    let first = server.send_with("GET", "/page/main.js", "", b"").await;
    let tag = first.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
    let again = server.send_with("GET", "/page/main.js", &format!("if-none-match: {tag}\r\n"), b"").await;
    check(&again, 304, "");
    assert!(!again.contains("import"), "{again}");
    check(
        &server.send_with("GET", "/page/main.js", "if-none-match: \"other\"\r\n", b"").await,
        200,
        "import",
    );
}

#[test]
fn the_page_is_whole_and_asks_nobody_else() {
    let names: BTreeSet<&str> = FILES.iter().map(|(name, ..)| *name).collect();
    for (name, ..) in FILES {
        let text = text(name);
        for part in text.split("from \"./").skip(1).chain(text.split("=\"/page/").skip(1)) {
            let wanted = part.split('"').next().unwrap_or_default();
            assert!(names.contains(wanted), "{name} wants {wanted}");
        }
        // The name of a vocabulary, which nobody asks for.
        let rest = text.replace("http://www.w3.org/2000/svg", "");
        for far in ["http://", "https://", "//cdn", "url(", "@import"] {
            assert!(!rest.contains(far), "{name} has {far}");
        }
    }
}

#[test]
fn no_text_becomes_markup() {
    let markup = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
    ];
    for (name, ..) in FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
        for way in markup {
            assert!(!text(name).contains(way), "{name} uses {way}");
        }
    }
    let page = text("index.html");
    assert!(!page.contains("style=") && !page.contains(" on"), "the policy would refuse it");
}

#[tokio::test]
async fn writes_need_the_token_and_the_same_origin() {
    let server = Server::start().await;
    let writes = [
        ("POST", "/v1/drain"),
        ("POST", "/v1/apps/shop/evict"),
        ("DELETE", "/v1/apps/shop"),
        ("PUT", "/v1/recording"),
        ("POST", "/v1/nodes/a/drain"),
        ("PUT", "/v1/apps/shop/functions/hello/scale"),
        ("POST", "/v1/apps/shop/rollback"),
    ];
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    for (method, path) in writes {
        check(&server.send_with(method, path, "", b"{}").await, 401, "token");
        // A form of another site, with all that a browser would send along.
        let foreign = format!(
            "{token}origin: http://evil.example\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n"
        );
        check(&server.send_with(method, path, &foreign, b"{}").await, 403, "another origin");
        // Another port of this machine is another origin too.
        let beside = format!("{token}origin: http://127.0.0.1:1\r\nsec-fetch-site: same-site\r\n");
        check(&server.send_with(method, path, &beside, b"{}").await, 403, "another origin");
    }
    assert!(!server.fixture.plane.recording.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn a_link_from_elsewhere_opens_the_page_and_nothing_else() {
    let server = Server::start().await;
    let arrives = "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    check(&server.send_with("GET", "/", arrives, b"").await, 200, "<title>");
    let token = format!("authorization: Bearer {TOKEN}\r\n{arrives}");
    check(&server.send_with("GET", "/v1/overview", &token, b"").await, 403, "another origin");
    check(&server.send_with("GET", "/page/main.js", arrives, b"").await, 403, "another origin");
    let framed = arrives.replace("document", "iframe");
    check(&server.send_with("GET", "/", &framed, b"").await, 403, "another origin");
    let rebound = request("GET", "/", &format!("host: evil.example\r\n{arrives}"), b"");
    check(&server.raw(&rebound).await, 403, "another site");
}

#[tokio::test]
async fn the_overview_and_graphs_tell_what_runs() {
    let server = Server::start().await;
    check(&server.send("GET", "/v1/apps/shop/graph", b"").await, 404, "baton ps");
    server.fixture.upload(b"program");
    let deploy = DeployRequest {
        artifacts: hashes(b"program"),
        ..serde_json::from_value(serde_json::json!({
            "manifest": manifest("shop"), "artifacts": {}
        }))
        .expect("a request")
    };
    let deploy = serde_json::to_vec(&deploy).expect("JSON");
    check(
        &server.send("PUT", &format!("/v1/artifacts/{}", ArtifactHash::of(b"program")), b"program").await,
        201,
        "",
    );
    check(&server.send("POST", "/v1/apps/shop", &deploy).await, 200, "\"changed\":true");
    let overview = server.send("GET", "/v1/overview", b"").await;
    for part in [
        "\"app\":\"shop\"",
        "\"invocations\":7",
        "\"recording\":false",
        "\"at_ms\":",
        "\"processes\":[{\"pid\":",
    ] {
        check(&overview, 200, part);
    }
    let graph = server.send("GET", "/v1/apps/shop/graph", b"").await;
    check(&graph, 200, "\"name\":\"hello\",\"gateway\":false");
    check(&graph, 200, "\"declared\":{\"isolation\":");
    check(&server.send_with("GET", "/v1/overview", "", b"").await, 401, "token");
}
