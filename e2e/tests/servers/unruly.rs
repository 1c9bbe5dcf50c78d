//! A program that does everything wrong that a server can: the client gets the right status, and nothing is left behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use baton_e2e::{Node, need_processes, need_sandbox, wait_until};

use super::REST;
use super::places::Server;

fn get(node: &Node, path: &str) -> (u16, String) {
    let answer = node.get(path);
    (answer.status, answer.text())
}

#[test]
fn what_is_no_answer_is_a_502_and_what_is_one_is_passed_on() {
    need_processes!();
    need_sandbox!();
    let server = Server::raw("scale = { min = 1, max = 1, concurrency = 4 }");
    let node = server.start();
    let fine = || assert_eq!(get(&node, "/fine"), (200, "fine\n".to_owned()));
    let wrong = [
        ("/garbage", "no HTTP"),
        ("/half-head", "in the middle"),
        ("/short", "in the middle"),
        ("/two-lengths", "two lengths"),
        ("/bad-chunk", "no number"),
        ("/half-chunk", "in the middle"),
        ("/switch", "none that were asked for"),
        ("/interims", "none that were asked for"),
        ("/huge-head", "longer than 64 KiB"),
        ("/silent", "without an answer"),
        ("/reset", ""),
    ];
    for (path, expect) in wrong {
        fine();
        let (status, said) = get(&node, path);
        assert!(status == 502 && said.contains(expect), "{path}: {status} {said}");
    }
    for (path, status, body) in [
        ("/long", 200, "four"),
        ("/chunks", 200, "fourfive\n"),
        ("/until-close", 200, "all of it\n"),
        ("/interim", 200, "late\n"),
        ("/nothing", 204, ""),
        ("/unchanged", 304, ""),
        ("/late-close", 200, "fine\n"),
    ] {
        fine();
        assert_eq!(get(&node, path), (status, body.to_owned()), "{path}");
    }
    // Of what was behind the answer nobody hears, and what only the node says no function says.
    fine();
    let evil = node.get("/evil");
    assert_eq!((evil.status, evil.header("x-hop"), evil.header("x-baton-evil")), (200, None, None));
    let huge = get(&node, "/huge");
    assert!(huge.0 == 503 || huge.0 == 507, "{huge:?}");
    // An answer before the body is read.
    let refused = node.post("/refuse", &vec![b'x'; 8 << 20]);
    assert_eq!((refused.status, refused.text().as_str()), (413, "big\n"));
    fine();
    assert_eq!(node.restarts("web"), 0);
    node.wait_at_rest(REST);
}

#[test]
fn a_program_that_hangs_is_given_up_in_time_and_clients_that_leave_leave_nothing() {
    need_processes!();
    need_sandbox!();
    let server = Server::raw("timeout = \"700ms\"\nscale = { min = 1, max = 1, concurrency = 2 }")
        .without("timeout = \"10s\"\n");
    let node = server.start();
    let began = Instant::now();
    assert_eq!(get(&node, "/hang").0, 504);
    assert!(began.elapsed() < Duration::from_secs(5));
    for _ in 0..4 {
        let mut leaver = TcpStream::connect(node.gateway).unwrap();
        leaver.write_all(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        drop(leaver);
    }
    wait_until(Duration::from_secs(10), "there is room again", || get(&node, "/fine").0 == 200);
    node.wait_at_rest(REST);
}

#[test]
fn streams_that_break_off_are_seen_to_break_off() {
    need_processes!();
    need_sandbox!();
    let server = Server::raw("stream = true\nscale = { min = 1, max = 1, concurrency = 4 }");
    let node = server.start();
    for path in ["/half-chunk", "/bad-chunk"] {
        let mut socket = TcpStream::connect(node.gateway).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).unwrap();
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.1 200") && !said.ends_with("0\r\n\r\n"), "{path}: {said}");
    }
    assert_eq!(get(&node, "/chunks"), (200, "fourfive\n".to_owned()));
    assert_eq!(get(&node, "/until-close"), (200, "all of it\n".to_owned()));
    // Few enough bytes that the client has sent them all before it hears of it.
    assert_eq!(node.post("/refuse", &[b'x'; 50_000]).status, 413);
    assert_eq!(get(&node, "/fine").0, 200);
    node.wait_at_rest(REST);
}

#[test]
fn a_program_that_ends_in_a_request_fails_it_and_comes_again() {
    need_processes!();
    need_sandbox!();
    let server = Server::raw("");
    let node = server.start();
    let (status, said) = get(&node, "/exit");
    assert_eq!(status, 502, "{said}");
    wait_until(Duration::from_secs(20), "it is up again", || get(&node, "/fine").0 == 200);
    let log = node.log_of("web").join("\n");
    assert!(log.contains("the last words") && log.contains("ended with status 3"), "{log}");
    assert_eq!(node.restarts("web"), 1);
    node.wait_at_rest(REST);
}
