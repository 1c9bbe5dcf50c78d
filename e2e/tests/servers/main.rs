//! Ordinary HTTP servers as functions: Flask, Express, Go, and one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod databases;
mod places;
mod ports;
mod streams;
mod unruly;

use std::time::Duration;

use baton_e2e::{need_processes, need_sandbox};
use places::Server;

const REST: Duration = Duration::from_secs(5);

/// Bytes of which no part is like another.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(len).collect()
}

#[test]
fn a_flask_app_runs_as_it_is() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::flask("scale = { min = 1, max = 1, concurrency = 4 }") else { return };
    let node = server.start();
    let mut client = node.http();
    let hello = client.request("GET", "/", &[], b"").unwrap();
    assert_eq!((hello.status, hello.text().as_str()), (200, "hello from flask\n"));
    for len in [0, 1, 1000, 5 << 20] {
        let body = pattern(len);
        let echo = client.request("POST", "/echo", &[], &body).unwrap();
        assert!(echo.status == 200 && echo.body == body, "{len}: {} {}", echo.status, echo.body.len());
    }
    let headers = [
        ("x-own", "a, b"),
        ("host", "shop.example"),
        ("te", "trailers"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-baton-identity", "me"),
    ];
    let seen = client.request("GET", "/seen?a=%20b&c", &headers, b"").unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    let header = |name: &str| seen["headers"][name].as_str();
    assert_eq!((header("x-own"), header("x-hop"), header("te")), (Some("a, b"), None, None));
    assert_eq!((header("x-baton-identity"), header("host")), (None, Some("shop.example")));
    assert!(header("traceparent").is_some());
    assert_eq!((&seen["query"]["a"], &seen["path"]), (&" b".into(), &"/seen".into()));
    // What the node tells the program in front is not told to the program behind.
    let own: Vec<&str> = seen["own"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(own, ["BATON_APP", "BATON_FILES", "BATON_FUNCTION"]);
    let cookies = client.request("GET", "/cookies", &[], b"").unwrap();
    assert_eq!(cookies.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    let whole = client.request("GET", "/stream?parts=1000", &[], b"").unwrap();
    assert!(whole.status == 200 && whole.text().ends_with("part 999\n"));
    let head = client.request("HEAD", "/", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("17"), "as long as what GET gives");
    assert_eq!(client.request("DELETE", "/", &[], b"").unwrap().status, 405);
    let cores = client.request("GET", "/cores", &[], b"").unwrap().text();
    assert_eq!(cores.trim_end(), baton_e2e::process::own_cores(), "every core that the node may use");
    node.wait_at_rest(REST);
}

#[test]
fn several_requests_are_in_one_replica_at_once() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::flask("scale = { min = 1, max = 1, concurrency = 4 }") else { return };
    let node = server.start();
    let began = std::time::Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut client = node.http();
            std::thread::spawn(move || client.request("GET", "/sleep?seconds=1", &[], b"").unwrap().status)
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 200));
    assert!(began.elapsed() < Duration::from_millis(3500), "one after the other: {:?}", began.elapsed());
    node.wait_at_rest(REST);
}

#[test]
fn a_go_server_is_waited_for_and_serves() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::go("") else { return };
    let node = server.start();
    let mut client = node.http();
    for _ in 0..20 {
        assert_eq!(client.request("GET", "/", &[], b"").unwrap().text(), "hello from go\n");
    }
    let body = vec![b'x'; 9 << 20];
    assert_eq!(client.request("POST", "/sum", &[], &body).unwrap().text(), format!("{} <nil>\n", body.len()));
    assert_eq!(client.request("GET", "/trailer", &[], b"").unwrap().text(), "with a trailer\n");
    let logs = node.cli(["logs", node.app()]);
    assert!(logs.stdout.contains("listening"), "{}", logs.stdout);
    node.wait_at_rest(REST);
}

#[test]
fn a_program_that_ends_is_started_again_and_says_why() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::flask("") else { return };
    let node = server.start();
    let mut client = node.http();
    let down = client.request("GET", "/down", &[], b"").unwrap();
    assert_eq!(down.status, 502, "{}", down.text());
    baton_e2e::wait_until(Duration::from_secs(20), "it is up again", || {
        node.http().request("GET", "/", &[], b"").is_ok_and(|answer| answer.status == 200)
    });
    let logs = node.cli(["logs", node.app()]).stdout;
    assert!(logs.contains("on my way out") && logs.contains("ended with status 7"), "{logs}");
}

#[test]
fn programs_that_do_not_come_up_are_refused_with_their_last_words() {
    need_processes!();
    need_sandbox!();
    let cases = [
        ("command = [\"nowhere-to-be-found\"]\nport = 8000", "neither in the function's files"),
        ("command = [\"sh\", \"-c\", \"echo cannot go on; exit 4\"]\nport = 8000", "cannot go on"),
        ("command = [\"sh\", \"-c\", \"exit 4\"]\nport = 8000", "ended with status 4"),
    ];
    for (lines, expect) in cases {
        let server = Server::of("broken", lines, |_| {});
        let told = server.refused();
        assert!(told.contains(expect), "{lines}: {told}");
    }
}
