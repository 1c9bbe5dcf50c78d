//! Requests of functions to the network: what the manifest allows, what comes back, and what becomes of those that fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod server;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use baton_e2e::{App, Client, Node, Response, need_sandbox, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use server::{Server, pattern};

const MIB: usize = 1 << 20;
const REST: Duration = Duration::from_secs(5);

/// An app whose function `out` may ask these hosts.
fn app(hosts: &[&str], more: &str) -> App {
    let hosts = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
    let scale = "scale = { min = 1, max = 1, concurrency = 16 }";
    App::new("outside").function("out", "fetcher", &format!("network = [{hosts}]\n{scale}\n{more}")).function(
        "in",
        "fetcher",
        "timeout = \"5s\"",
    )
}

fn start(server: &Server) -> Node {
    Node::start(&app(&[&server.address.to_string()], "timeout = \"10s\""))
}

fn ask(node: &Node, headers: &[(&str, &str)], body: &[u8]) -> Response {
    node.http().request("POST", "/out", headers, body).unwrap()
}

fn network(node: &Node) -> (u64, u64, u64) {
    let network = &node.function("out")["network"];
    let count = |name: &str| network[name].as_u64().unwrap();
    (count("answered"), count("denied"), count("failed"))
}

#[test]
fn a_function_asks_and_gets_status_headers_and_body() {
    need_sandbox!();
    let server = Server::start();
    let node = start(&server);
    let url = server.url("/echo/x?q=%20");
    let headers = [("x-url", url.as_str()), ("x-how", "move"), ("out-accept", "*/*"), ("out-x-twice", "1")];
    let answer = ask(&node, &headers, b"hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("in-x-echo"), Some("yes"));
    let seen = server.last();
    assert_eq!(seen.line, "POST /echo/x?q=%20 HTTP/1.1");
    assert_eq!(seen.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!((seen.header("accept"), seen.header("x-twice")), (Some("*/*"), Some("1")));
    assert_eq!(seen.header("content-length"), Some("5"));
    // Any status is an answer; redirects are not followed.
    for (path, status) in [("/teapot", 418), ("/redirect", 302), ("/empty", 204), ("/none", 404)] {
        let answer = ask(&node, &[("x-url", &server.url(path))], b"");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(server.last().line.starts_with("GET "), "{path}");
    }
    let put = ask(&node, &[("x-url", &server.url("/echo")), ("x-method", "DELETE")], b"");
    assert_eq!(put.status, 200, "{}", put.text());
    assert!(server.last().line.starts_with("DELETE /echo "));
    // One connection for all of them, since each was answered before the next.
    assert_eq!((server.connections(), network(&node)), (1, (6, 0, 0)));
    node.wait_at_rest(REST);
}

#[test]
fn bodies_go_out_however_they_are_handed_over_and_come_back_whole() {
    need_sandbox!();
    let server = Server::start();
    for trust in ["app", "buffer"] {
        let app = app(&[&server.address.to_string()], "timeout = \"20s\"").trust(trust);
        let node = Node::start(&app.pool("128MiB"));
        let url = server.url("/echo");
        for how in ["move", "lend", "lend-own", "share", "bytes"] {
            for len in [1, 100, 5000, 8 * MIB] {
                let body = pattern(len);
                let answer = ask(&node, &[("x-url", &url), ("x-how", how)], &body);
                assert!(
                    answer.status == 200 && answer.body == body,
                    "{trust} {how} {len}: {} {}",
                    answer.status,
                    answer.body.len()
                );
                assert_eq!(server.last().body_len, len);
            }
        }
        for kind in ["sized", "chunked"] {
            for len in [0, 1, 70_000, 8 * MIB] {
                let answer = ask(&node, &[("x-url", &server.url(&format!("/{kind}/{len}")))], b"");
                assert!(
                    answer.status == 200 && answer.body == pattern(len),
                    "{kind} {len}: {}",
                    answer.status
                );
                assert_eq!(answer.header("in-x-trailer"), None);
            }
        }
        node.wait_at_rest(REST);
    }
}

#[test]
fn many_requests_at_once_are_answered_each_with_its_own() {
    need_sandbox!();
    let server = Server::start();
    let node = start(&server);
    let threads: Vec<_> = (1..=8usize)
        .map(|mark| {
            let (mut client, url) = (node.http(), server.url("/echo"));
            std::thread::spawn(move || {
                for round in 0..40 {
                    let body = vec![u8::try_from(mark).unwrap(); mark * 1000 + round];
                    let how = ["move", "lend", "share", "bytes"][round % 4];
                    let headers = [("x-url", url.as_str()), ("x-how", how)];
                    let answer = client.request("POST", "/out", &headers, &body).unwrap();
                    assert!(answer.status == 200 && answer.body == body, "{mark} {how}: {}", answer.status);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(network(&node), (320, 0, 0));
    // Connections are used again: at most as many as were ever needed at once.
    assert!(server.connections() <= 8, "{} connections for 320 requests", server.connections());
    node.wait_at_rest(REST);
}

#[test]
fn hosts_that_the_manifest_does_not_name_are_refused() {
    need_sandbox!();
    let (server, other) = (Server::start(), Server::start());
    let node = start(&server);
    let port = server.address.port();
    for url in [
        other.url("/echo"),
        format!("http://localhost:{port}/echo"),
        format!("http://127.1:{port}/echo"),
        format!("http://127.0.0.1.:{port}/echo"),
        "https://example.com/".to_owned(),
    ] {
        let answer = ask(&node, &[("x-url", &url)], b"");
        let text = answer.text();
        assert_eq!(answer.status, 403, "{url}: {text}");
        assert!(text.contains("network") && text.contains("`out`") && text.contains("baton.toml"), "{text}");
    }
    // A function whose manifest names nothing.
    let answer = node.http().request("POST", "/in", &[("x-url", &server.url("/echo"))], b"").unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("network"), "{}", answer.text());
    for url in ["", "/echo", "ftp://127.0.0.1/", "http://", "http://u@127.0.0.1/"] {
        assert_eq!(ask(&node, &[("x-url", url)], b"").status, 400, "{url}");
    }
    assert_eq!((server.connections(), other.connections(), network(&node)), (0, 0, (0, 5, 5)));
    let token = format!("Bearer {}", node.token);
    let mut admin = Client::connect(node.admin).unwrap();
    let metrics = admin.request("GET", "/metrics", &[("authorization", &token)], b"").unwrap().text();
    let line = "baton_function_network_requests_total{app=\"outside\",function=\"out\",outcome=\"denied\"} 5";
    assert!(metrics.contains(line), "{metrics}");
    node.wait_at_rest(REST);
}

#[test]
fn headers_of_a_connection_are_not_the_functions_to_say() {
    need_sandbox!();
    let server = Server::start();
    let node = start(&server);
    let url = server.url("/echo");
    let headers = [
        ("x-url", url.as_str()),
        ("x-how", "move"),
        ("out-host", "elsewhere"),
        ("out-connection", "x-secret"),
        ("out-x-secret", "1"),
        ("out-transfer-encoding", "chunked"),
        ("out-content-length", "999"),
        ("out-upgrade", "h2c"),
        ("out-te", "trailers"),
        ("out-expect", "100-continue"),
        ("out-x-kept", "1"),
    ];
    let answer = ask(&node, &headers, b"12345");
    assert_eq!((answer.status, answer.text().as_str()), (200, "12345"));
    let seen = server.last();
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "traceparent", "x-kept"], "{seen:?}");
    assert_eq!(seen.header("host"), Some(server.address.to_string().as_str()));
    node.wait_at_rest(REST);
}

#[test]
fn a_host_that_is_dead_or_talks_nonsense_is_a_bad_gateway() {
    need_sandbox!();
    let server = Server::start();
    // A port that nobody listens on.
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let hosts = [server.address.to_string(), dead.to_string()];
    let node = Node::start(&app(&[&hosts[0], &hosts[1]], "timeout = \"5s\""));
    let refused = ask(&node, &[("x-url", &format!("http://{dead}/"))], b"");
    let text = refused.text();
    assert_eq!(refused.status, 502, "{text}");
    assert!(text.contains(&dead.to_string()) && text.contains("refused"), "{text}");
    for path in ["/cut", "/nonsense", "/many-headers/200", "/many-headers/99"] {
        let answer = ask(&node, &[("x-url", &server.url(path))], b"");
        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert!(answer.text().contains(&server.address.to_string()), "{path}: {}", answer.text());
    }
    // Speaking TLS to one that does not.
    let answer = ask(&node, &[("x-url", &format!("https://{}/", server.address))], b"");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(network(&node), (0, 0, 6));
    node.wait_at_rest(REST);
}

#[test]
fn a_slow_host_ends_with_the_request_and_its_connection_with_it() {
    need_sandbox!();
    let server = Server::start();
    let node = Node::start(&app(&[&server.address.to_string()], "timeout = \"600ms\""));
    let url = server.url("/slow");
    let began = Instant::now();
    let late = ask(&node, &[("x-url", &url), ("x-how", "lend")], &pattern(100_000));
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    wait_until(REST, "the host sees the connection end", || server.gone() == 1);
    node.wait_at_rest(REST);
    // A wish for less time is the function's own to see.
    let late = ask(&node, &[("x-url", &url), ("x-timeout", "100")], b"");
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(late.text().contains("did not answer in time"), "{}", late.text());
    wait_until(REST, "the host sees the connection end", || server.gone() == 2);
    // A client that leaves takes its request along.
    let mut client = node.http();
    client.send("POST", "/out", &[("x-url", &url)], b"").unwrap();
    wait_until(REST, "the request is out", || server.seen().len() == 3);
    drop(client);
    wait_until(REST, "the host sees the connection end", || server.gone() == 3);
    node.wait_at_rest(REST);
    assert_eq!(ask(&node, &[("x-url", &server.url("/echo"))], b"").status, 200);
}

#[test]
fn an_answer_that_does_not_fit_into_the_pool_is_refused() {
    need_sandbox!();
    let server = Server::start();
    let app = app(&[&server.address.to_string()], "timeout = \"5s\"").pool("4MiB");
    let node = Node::start(&app);
    let sized = ask(&node, &[("x-url", &server.url("/sized/5000000"))], b"");
    assert_eq!(sized.status, 507, "{}", sized.text());
    assert!(sized.text().contains("pool.size"), "{}", sized.text());
    // Without a length it shows on the way, when there is no room to grow into.
    let chunked = ask(&node, &[("x-url", &server.url("/chunked/5000000"))], b"");
    assert!([503, 507].contains(&chunked.status), "{}: {}", chunked.status, chunked.text());
    node.wait_at_rest(REST);
    assert_eq!(ask(&node, &[("x-url", &server.url("/sized/1000000"))], b"").body, pattern(1_000_000));
    node.wait_at_rest(REST);
}

#[test]
fn receipts_show_what_was_asked_and_where() {
    need_sandbox!();
    let server = Server::start();
    let app = app(&[&server.address.to_string()], "timeout = \"5s\"");
    let node = Node::start_with(&app, &["--receipts"]);
    let answer = ask(&node, &[("x-url", &server.url("/echo")), ("x-how", "move")], &pattern(10_000));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut hops = Vec::new();
    wait_until(REST, "both hops are in the receipt", || {
        let receipt = node.cli(["receipt", "last", "--json"]).json();
        hops = receipt["hops"].as_array().cloned().unwrap_or_default();
        hops.len() == 2
    });
    let origin = format!("http://{}", server.address);
    let hop = hops.iter().find(|hop| hop["function"] == origin.as_str()).expect("the request's own hop");
    assert_eq!((&hop["caller"], &hop["status"]), (&"out".into(), &200.into()), "{hop}");
    assert_eq!((&hop["bytes_handed"], &hop["copies"]), (&20_000.into(), &0.into()), "{hop}");
    let shown = node.cli(["ps"]).stdout;
    assert!(shown.contains("outside/out asked the network: 1 answered, 0 denied, 0 failed"), "{shown}");
    node.wait_at_rest(REST);
}

/// An authority, and a server that it vouches for.
fn certified() -> (String, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own_key, &issuer);
    let chain = vec![CertificateDer::from(own.unwrap().der().to_vec())];
    let key = PrivateKeyDer::try_from(own_key.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    (authority, config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

#[test]
fn tls_is_spoken_to_those_whom_an_authority_vouches_for() {
    need_sandbox!();
    let (authority, config) = certified();
    let server = Server::start_tls(config);
    let url = format!("https://{}/echo", server.address);
    let app = app(&[&server.address.to_string()], "timeout = \"10s\"");
    let file = app.directory().join("authority.pem");
    fs::write(&file, authority).unwrap();
    let node = Node::start_with(&app, &["--network-ca", file.to_str().unwrap()]);
    for len in [5, MIB] {
        let answer = ask(&node, &[("x-url", &url), ("x-how", "move")], &pattern(len));
        assert!(answer.status == 200 && answer.body == pattern(len), "{len}: {}", answer.status);
    }
    assert_eq!(server.connections(), 1);
    node.wait_at_rest(REST);
    drop(node);
    // Nobody else believes it.
    let node = Node::start(&app);
    let answer = ask(&node, &[("x-url", &url)], b"");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("certificate"), "{}", answer.text());
}
