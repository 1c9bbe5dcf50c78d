//! The admin API over real sockets, with a stand-in for the data plane.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::artifacts::ArtifactHash;
use crate::deploy::tests::{Fixture, hashes, manifest};

pub(super) struct Server {
    pub(super) fixture: Fixture,
    address: SocketAddr,
    api: Arc<Api>,
}

fn figures() -> Vec<Figure> {
    let answers = vec![(Some("2xx"), 5), (Some("5xx"), 1)];
    vec![
        Figure { name: "answers", help: "Answers", counts: true, values: answers },
        Figure { name: "connections", help: "Connections", counts: false, values: vec![(None, 3)] },
    ]
}

pub(super) const TOKEN: &str = "00112233445566778899aabbccddeeff";

impl Server {
    pub(super) async fn start() -> Self {
        let fixture = Fixture::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Arc::new(Api {
            plane: fixture.plane.clone(),
            deployer: Arc::clone(&fixture.deployer),
            cluster: None,
            events: fixture.events(),
            token: TOKEN.to_owned(),
            node: Node {
                version: "1.2.3",
                gateway: address,
                admin: address,
                home: fixture.dir.path().to_owned(),
                started: Instant::now(),
            },
            drain: Arc::default(),
            gateway: Some(Arc::new(|| Box::pin(async { Ok(figures()) }))),
            usage: None,
            bounds: Bounds::default(),
        });
        tokio::spawn(serve_tcp(listener, Arc::clone(&api)));
        Self { fixture, address, api }
    }

    /// Sends text as it is and returns all that comes back.
    pub(super) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        exchange(&mut stream, request).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &[u8]) -> String {
        self.send_with(method, path, &format!("authorization: Bearer {TOKEN}\r\n"), body).await
    }

    pub(super) async fn send_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        self.raw(&request(method, path, &format!("host: {}\r\n{headers}", self.address), body)).await
    }
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\n{headers}{length}connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> String {
    // The server may answer and close before it has read a body that it refuses.
    let _ = stream.write_all(request).await;
    let mut reply = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut reply)).await.unwrap();
    String::from_utf8(reply).unwrap()
}

pub(super) fn check(reply: &str, status: u16, contains: &str) {
    assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected, got {reply}");
    assert!(reply.contains(contains), "{contains:?} expected, got {reply}");
}

#[tokio::test]
async fn tcp_needs_the_token_for_all_but_health() {
    let server = Server::start().await;
    check(&server.send_with("GET", "/healthz", "", b"").await, 200, "ok");
    for path in ["/metrics", "/v1/node", "/v1/apps", "/v1/logs", "/v1/receipts", "/nowhere"] {
        check(&server.send_with("GET", path, "", b"").await, 401, "www-authenticate: Bearer");
    }
    for wrong in ["Bearer", "Bearer x", &format!("Basic {TOKEN}"), &format!("Bearer {TOKEN}0"), TOKEN] {
        let header = format!("authorization: {wrong}\r\n");
        check(&server.send_with("GET", "/v1/node", &header, b"").await, 401, "\"hint\"");
    }
    check(&server.send("GET", "/v1/node", b"").await, 200, "\"version\":\"1.2.3\"");
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out() {
    let server = Server::start().await;
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    let rebound = request("GET", "/v1/node", &format!("host: evil.example\r\n{token}"), b"");
    check(&server.raw(&rebound).await, 403, "another site");
    check(&server.raw(&request("GET", "/healthz", "", b"")).await, 400, "Host");
    for header in ["origin: http://evil.example", "origin: null", "sec-fetch-site: cross-site"] {
        let reply = server.send_with("GET", "/v1/node", &format!("{token}{header}\r\n"), b"").await;
        check(&reply, 403, "another origin");
    }
    let own = format!("{token}origin: http://{}\r\nsec-fetch-site: same-origin\r\n", server.address);
    check(&server.send_with("GET", "/v1/node", &own, b"").await, 200, "pid");
}

#[tokio::test]
async fn the_socket_needs_no_token() {
    let server = Server::start().await;
    let path = server.fixture.dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(serve_unix(listener, Arc::clone(&server.api)));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    check(&exchange(&mut stream, &request("GET", "/v1/apps", "", b"")).await, 200, "\"apps\":[]");
}

#[tokio::test]
async fn an_app_is_uploaded_deployed_and_removed() {
    let server = Server::start().await;
    let hash = ArtifactHash::of(b"program");
    let artifact = format!("/v1/artifacts/{hash}");
    let deploy = serde_json::json!({ "manifest": manifest("shop"), "artifacts": hashes(b"program") });
    let deploy = serde_json::to_vec(&deploy).unwrap();
    check(&server.send("HEAD", &artifact, b"").await, 404, "");
    check(&server.send("POST", "/v1/apps/shop", &deploy).await, 409, "not on the node");
    check(&server.send("PUT", &artifact, b"programme").await, 422, "damaged");
    check(&server.send("PUT", &artifact, b"program").await, 201, "");
    check(&server.send("HEAD", &artifact, b"").await, 200, "");
    check(&server.send("POST", "/v1/apps/other", &deploy).await, 422, "the manifest names shop");
    check(&server.send("POST", "/v1/apps/shop", &deploy).await, 200, "\"changed\":true");
    check(&server.send("POST", "/v1/apps/shop", &deploy).await, 200, "\"changed\":false");
    check(&server.send("GET", "/v1/apps", b"").await, 200, "\"app\":\"shop\",\"version\":1");
    check(&server.send("GET", "/v1/apps/shop/pool", b"").await, 200, "\"buffers_in_use\":2");
    check(&server.send("POST", "/v1/apps/shop/evict", b"").await, 200, "\"evicted\":2");
    check(&server.send("POST", "/v1/apps/nobody/evict", b"").await, 404, "baton ps");
    let scale = "/v1/apps/shop/functions/cart/scale";
    check(&server.send("PUT", scale, b"{\"max\": 4}").await, 200, "\"min\":1,\"max\":4");
    check(&server.send("PUT", scale, b"{\"min\": 5}").await, 400, "min is 5, above max");
    check(&server.send("PUT", scale, b"{}").await, 400, "neither min nor max");
    check(&server.send("PUT", scale, b"{\"least\": 5}").await, 400, "unknown field");
    check(
        &server.send("PUT", "/v1/apps/shop/functions/x/scale", b"{\"max\": 4}").await,
        404,
        "no such function",
    );
    check(&server.send("DELETE", "/v1/apps/shop", b"").await, 200, "\"removed\":\"shop\"");
    check(&server.send("DELETE", "/v1/apps/shop", b"").await, 404, "no app shop");
    check(&server.send("GET", "/v1/apps/shop/pool", b"").await, 404, "baton ps");
    server.fixture.plane.refuse.store(true, Ordering::Relaxed);
    server.fixture.upload(b"program");
    check(&server.send("POST", "/v1/apps/shop", &deploy).await, 422, "died at its start");
}

#[tokio::test]
async fn bodies_that_are_wrong_are_refused_with_json() {
    let server = Server::start().await;
    check(&server.send("POST", "/v1/apps/shop", b"{").await, 422, "\"error\"");
    check(&server.send("PUT", "/v1/recording", b"{\"on\":1}").await, 422, "\"error\"");
    check(&server.send("PUT", "/v1/artifacts/..%2f..%2fetc", b"x").await, 400, "hexadecimal");
    check(&server.send("GET", "/v1/logs?after=x", b"").await, 400, "\"error\"");
    check(&server.send("GET", "/v1/logs?until=1", b"").await, 400, "\"error\"");
    check(&server.send("GET", "/nowhere", b"").await, 404, "\"error\"");
    check(&server.send("PATCH", "/v1/apps", b"").await, 405, "\"error\"");
    let large = vec![b' '; limits::DEPLOY_BYTES_MAX + 1];
    check(&server.send("POST", "/v1/apps/shop", &large).await, 413, "larger");
    let hash = ArtifactHash::of(b"");
    let announced = format!(
        "PUT /v1/artifacts/{hash} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        server.address,
        limits::ARTIFACT_BYTES_MAX + 1
    );
    check(&server.raw(announced.as_bytes()).await, 413, "MiB");
}

#[tokio::test]
async fn invocations_pass_head_and_body_through() {
    let server = Server::start().await;
    check(&server.send("GET", "/v1/invoke/shop/hello", b"").await, 404, "baton ps");
    server.fixture.plane.apps.lock().unwrap().insert("shop".to_owned(), 1);
    let headers = format!("authorization: Bearer {TOKEN}\r\nx-baton-path: /a?b=c\r\nx-mine: 1\r\n");
    let reply = server.send_with("PUT", "/v1/invoke/shop/hello", &headers, b"payload").await;
    check(&reply, 201, "x-line: PUT /a?b=c hello\r\n");
    check(&reply, 201, "x-baton-invocation: 00ff\r\n");
    check(&reply, 201, "x-mine: 1\r\n");
    check(&reply, 201, "\r\n\r\npayload");
    assert!(!reply.contains(TOKEN), "the function saw the token");
}

#[tokio::test]
async fn metrics_name_what_is_counted() {
    let server = Server::start().await;
    server.fixture.plane.apps.lock().unwrap().insert("shop".to_owned(), 1);
    let page = server.send("GET", "/metrics", b"").await;
    for line in [
        "baton_invocations_total 7",
        "baton_failures_total 1",
        "baton_pool_bytes{app=\"shop\"} 4096",
        "baton_pool_buffers{app=\"shop\",kind=\"in_use\"} 2",
        "baton_gateway_answers_total{class=\"2xx\"} 5",
        "baton_gateway_connections 3",
        "baton_resident_bytes ",
        "baton_pool_held_buffers{app=\"shop\",holder=\"hello\"} 2",
        "baton_receipts_total 9",
        "baton_build_info{version=",
        "# TYPE baton_invocations_total counter",
    ] {
        check(&page, 200, line);
    }
}

#[tokio::test]
async fn logs_are_paged_and_waited_for() {
    let server = Server::start().await;
    check(&server.send("GET", "/v1/logs?after=1", b"").await, 200, "\"next\":3");
    let before = Instant::now();
    check(&server.send("GET", "/v1/logs?after=3&wait_ms=150", b"").await, 200, "\"lines\":[],\"next\":3");
    assert!(before.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn recording_and_draining_reach_the_node() {
    let server = Server::start().await;
    check(&server.send("PUT", "/v1/recording", b"{\"on\":true}").await, 200, "true");
    assert!(server.fixture.plane.recording.load(Ordering::Relaxed));
    check(&server.send("GET", "/v1/receipts", b"").await, 200, "\"receipts\":[]");
    check(&server.send("GET", "/v1/receipts/00ff", b"").await, 404, "--receipts");
    check(&server.send("POST", "/v1/drain", b"").await, 202, "");
    tokio::time::timeout(Duration::from_secs(1), server.api.drain.notified()).await.unwrap();
}

#[tokio::test]
async fn a_huge_head_is_cut_off() {
    let server = Server::start().await;
    let huge = format!("x-huge: {}\r\n", "x".repeat(16 * limits::HEAD_BYTES_MAX));
    let reply = server.send_with("GET", "/healthz", &huge, b"").await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn modules_are_compiled_ahead_or_told_why_not() {
    let server = Server::start().await;
    let answer = server.send("POST", "/v1/modules/short", b"").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let hash = ArtifactHash::of(b"\0asm");
    let answer = server.send("POST", &format!("/v1/modules/{hash}"), b"").await;
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("upload it first"), "{answer}");
    server.fixture.upload(b"\0asm");
    let answer = server.send("POST", &format!("/v1/modules/{hash}"), b"").await;
    // The programs lie beside a node, and not beside this test.
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("baton-wasmc"), "{answer}");
}

#[tokio::test]
async fn events_are_taken_shown_and_refused() {
    let server = Server::start().await;
    check(&server.send("POST", "/v1/events/shop/hello", b"x").await, 404, "no function shop/hello");
    server.fixture.deploy("shop", b"a").await.unwrap();
    check(&server.send("POST", "/v1/events/shop/nobody", b"x").await, 404, "shop/nobody");
    check(&server.send("POST", "/v1/events/shop/hello", b"x").await, 202, "\"event\":\"");
    check(&server.send("GET", "/v1/events", b"").await, 200, "\"function\":\"hello\",\"waiting\":1");
    check(&server.send("DELETE", "/v1/dead/0000000000000001", b"").await, 404, "no event");
    check(&server.send("POST", "/v1/dead/x", b"").await, 404, "no event x");
    check(&server.send_with("POST", "/v1/events/shop/hello", "", b"x").await, 401, "");
    tokio::spawn(Arc::clone(&server.api.events).run());
    while !server.send("GET", "/v1/events", b"").await.contains("\"waiting\":0,\"running\":0,\"done\":1") {
        tokio::task::yield_now().await;
    }
}
