//! The load generator against a small server whose misbehaviour is scripted by the path.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Load, Outcome, Pace, Plan, Step, Until, get};

/// A server with a thread per connection; it ends with the test process.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || answer_all(socket));
        }
    });
    address
}

fn answer_all(mut socket: TcpStream) {
    let mut kept = Vec::new();
    let mut buffer = [0; 65536];
    let mut answered = 0;
    loop {
        while let Some(end) = kept.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = kept.drain(..end + 4).collect();
            let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
            let Some(text) = answer(&path, answered) else { return };
            answered += 1;
            if socket.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => kept.extend_from_slice(&buffer[..count]),
        }
    }
}

fn answer(path: &str, answered: usize) -> Option<String> {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    match path {
        "/chunked" => {
            Some("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into())
        }
        "/close" => Some("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".into()),
        "/error" => Some("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into()),
        "/malformed" => Some("no HTTP at all\r\n\r\n".into()),
        "/reset" if answered % 3 == 2 => None,
        "/slow" => {
            thread::sleep(Duration::from_millis(20));
            Some(ok.into())
        }
        _ => Some(ok.into()),
    }
}

fn step(path: &str, counted: bool) -> Arc<Step> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    Arc::new(Step { request, expect: &[200], counted })
}

fn plan(path: &str) -> Plan {
    Plan { setup: Vec::new(), cycle: vec![step(path, true)] }
}

fn run_closed(path: &str, connections: usize, count: u64) -> Outcome {
    let mut load = Load::open(server(), vec![plan(path); connections]).unwrap();
    load.run(Pace::Closed, Until::Answered(count))
}

#[test]
fn keep_alive_and_chunked_answers_are_counted() {
    for (path, bytes) in [("/", 5), ("/chunked", 3)] {
        let outcome = run_closed(path, 4, 1000);
        assert_eq!(outcome.errors.total(), 0, "{path}: {:?}", outcome.errors);
        assert!((1000..1004).contains(&outcome.answered));
        assert_eq!(outcome.body_bytes, outcome.answered * bytes);
        assert_eq!(outcome.latencies.len(), outcome.answered);
        assert!(outcome.rate() > 100.0);
    }
}

#[test]
fn a_connection_that_the_server_closes_politely_is_made_anew_without_an_error() {
    let outcome = run_closed("/close", 2, 50);
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
    assert!(outcome.answered >= 50);
}

#[test]
fn errors_are_counted_by_kind() {
    let outcome = run_closed("/error", 2, 20);
    assert!(outcome.errors.status >= 20 && outcome.answered == 0);
    assert_eq!(outcome.last_status, Some(500));
    assert!(run_closed("/malformed", 1, 5).errors.malformed >= 5);
    let outcome = run_closed("/reset", 1, 30);
    assert!(outcome.errors.reset >= 9 && outcome.answered >= 18, "{outcome:?}");
}

#[test]
fn a_server_that_is_gone_is_a_connect_error_and_no_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut load = Load::open(address, vec![plan("/")]).unwrap();
    drop(listener);
    let begun = Instant::now();
    let outcome = load.run(Pace::Closed, Until::Elapsed(Duration::from_millis(300)));
    assert_eq!(outcome.answered, 0);
    assert!(outcome.errors.connect > 0, "{:?}", outcome.errors);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn uncounted_steps_are_sent_and_appear_in_no_figure() {
    let plan = Plan { setup: vec![step("/slow", false)], cycle: vec![step("/slow", false), step("/", true)] };
    let mut load = Load::open(server(), vec![plan]).unwrap();
    let outcome = load.run(Pace::Closed, Until::Answered(3));
    assert_eq!((outcome.answered, outcome.errors.total()), (3, 0));
    assert!(outcome.elapsed >= Duration::from_millis(80), "the set-up and three preparations are waited for");
    assert!(outcome.quantile_us(0.99) < 15_000.0, "preparations are taken out of the latency");
}

#[test]
fn open_loop_latency_counts_from_the_due_time() {
    let mut load = Load::open(server(), vec![plan("/slow")]).unwrap();
    // 100 requests a second at a server that manages fifty: the last of thirty waits some 300 ms.
    let outcome = load.run(Pace::Open(100.0), Until::Elapsed(Duration::from_millis(300)));
    assert_eq!((outcome.answered, outcome.errors.total()), (30, 0));
    assert!(outcome.quantile_us(1.0) > 250_000.0, "{}", outcome.quantile_us(1.0));
    let mut load = Load::open(server(), vec![plan("/"); 4]).unwrap();
    let outcome = load.run(Pace::Open(500.0), Until::Elapsed(Duration::from_millis(400)));
    assert_eq!(outcome.answered, 200);
    assert!((300..600).contains(&outcome.elapsed.as_millis()), "{:?}", outcome.elapsed);
}

#[test]
fn the_blocking_client_reads_whole_answers() {
    let address = server();
    let answer = get(address, "/chunked", Some("token"), Duration::from_secs(5)).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"abc".as_slice()));
    assert!(get(address, "/malformed", None, Duration::from_secs(5)).is_err());
}
