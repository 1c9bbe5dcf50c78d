//! Limits: what does not fit, what takes too long, what takes too much, and clients that leave.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::{App, Node, need_processes, need_sandbox, wait_until};

const MIB: usize = 1 << 20;
const REST: Duration = Duration::from_secs(5);

fn small() -> App {
    App::new("limits").pool("4MiB").function("echo", "echo", "").function(
        "sleeper",
        "sleeper",
        "timeout = \"10s\"\nscale = { min = 1, max = 1, concurrency = 1, queue = 64 }",
    )
}

#[test]
fn a_body_larger_than_the_pool_is_413() {
    need_sandbox!();
    let node = Node::start(&small());
    let mut client = node.http();
    // The length says it all: the body is not waited for.
    client.write(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000000\r\n\r\n").unwrap();
    let refused = client.response("POST").unwrap();
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("pool.size"), "{}", refused.text());
    // Without a length it shows on the way. The answer may overtake what is still being sent.
    match node.http().chunked("POST", "/echo", &vec![0; 5 * MIB], 60_000) {
        Ok(refused) => assert!([413, 503].contains(&refused.status), "{}", refused.text()),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        }
    }
    node.wait_at_rest(REST);
    assert_eq!(node.post("/echo", &[0; MIB]).status, 200);
    node.wait_at_rest(REST);
}

#[test]
fn a_full_pool_is_503_until_it_drains() {
    need_sandbox!();
    let node = Node::start(&small());
    let requests: Vec<_> =
        (0..8).map(|_| node.in_background("/sleeper?ms=200", &vec![1; MIB - 4096])).collect();
    let answers: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    let (full, served): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
    assert!(!full.is_empty(), "eight megabytes found room in four");
    assert!(!served.is_empty() && served.iter().all(|answer| answer.status == 200));
    for answer in full {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.text().contains("memory is full"), "{}", answer.text());
    }
    node.wait_at_rest(REST);
    assert_eq!(node.post("/sleeper?ms=1", &vec![1; MIB]).status, 200);
    let pool = node.ask("/v1/apps/limits/pool");
    assert_eq!(pool["pool_bytes"], 4 << 20, "{pool}");
    node.wait_at_rest(REST);
}

#[test]
fn a_full_queue_is_429() {
    need_sandbox!();
    let queue = "timeout = \"5s\"\nscale = { min = 1, max = 1, concurrency = 1, queue = 1 }";
    let node = Node::start(&App::new("queue").function("sleeper", "sleeper", queue));
    let requests: Vec<_> = (0..6).map(|_| node.in_background("/sleeper?ms=400", b"")).collect();
    let answers: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(
        (count(200), count(429)),
        (2, 4),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(node.get("/sleeper?ms=1").status, 200);
    node.wait_at_rest(REST);
}

#[test]
fn a_late_function_is_504_in_its_time_and_usable_afterwards() {
    need_sandbox!();
    let app = App::new("late").function("sleeper", "sleeper", "timeout = \"300ms\"");
    let node = Node::start(&app);
    let pid = node.replica("sleeper");
    let begun = Instant::now();
    let late = node.post("/sleeper?ms=700", &[1; 5000]);
    let took = begun.elapsed();
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(late.text().contains("300ms") && late.text().contains("timeout"), "{}", late.text());
    assert!(took >= Duration::from_millis(295) && took < Duration::from_millis(500), "{took:?}");
    node.wait_at_rest(REST);
    assert_eq!(node.get("/sleeper?ms=1").status, 200);
    assert_eq!(node.replica("sleeper"), pid, "it was late, not stuck");
}

#[test]
fn a_caller_does_not_wait_longer_than_its_own_time() {
    need_sandbox!();
    let app = App::new("deadlines")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }\ntimeout = \"300ms\"")
        .function("c", "last", "timeout = \"10s\"");
    let node = Node::start(&app);
    let begun = Instant::now();
    let late = node.post("/a?stall", b"x");
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    node.wait_at_rest(REST);
    assert_eq!(node.post("/c", b"x").status, 200);
}

#[test]
fn a_handler_that_never_returns_is_killed_and_replaced() {
    need_sandbox!();
    need_processes!();
    let app = App::new("stuck")
        .function("spinner", "spinner", "timeout = \"300ms\"")
        .function("a", "relay", "calls = [\"c\"]\nenv = { NEXT = \"c\" }\ntimeout = \"300ms\"")
        .function("c", "last", "timeout = \"300ms\"");
    let node = Node::start(&app);
    let pid = node.replica("spinner").unwrap();
    assert_eq!(node.post("/spinner/forever", b"payload").status, 504);
    node.wait_for_replica("spinner", pid, Duration::from_secs(4));
    assert!(!baton_e2e::process::is_alive(pid));
    assert_eq!(node.get("/spinner/quick").text(), "quick");
    assert_eq!(node.restarts("spinner"), 1);
    assert!(node.log_of("node").iter().any(|line| line.contains("did not return in its time")));
    node.wait_at_rest(REST);
    // The same where another function called it.
    let (caller, callee) = (node.replica("a").unwrap(), node.replica("c").unwrap());
    assert_eq!(node.post("/a?spin", b"payload").status, 504);
    node.wait_for_replica("c", callee, Duration::from_secs(4));
    assert_eq!(node.replica("a"), Some(caller), "the caller did nothing wrong");
    wait_until(Duration::from_secs(2), "the chain works again", || node.post("/a", b"x").status == 200);
    node.wait_at_rest(REST);
    // And where the caller gives up long before, so that nothing that the node waits for is ever late.
    let callee = node.replica("c").unwrap();
    assert_eq!(node.post("/a?give-up", b"payload").status, 504);
    node.wait_for_replica("c", callee, Duration::from_secs(4));
    assert_eq!(node.replica("a"), Some(caller), "the caller did nothing wrong");
    node.wait_at_rest(REST);
}

#[test]
fn a_function_that_takes_too_much_memory_dies_alone() {
    need_sandbox!();
    let app = App::new("hungry")
        .function("hog", "hog", "memory = \"32MiB\"\ntimeout = \"10s\"")
        .function("hello", "hello", "");
    let node = Node::start(&app);
    let (pid, other) = (node.replica("hog").unwrap(), node.replica("hello"));
    let dead = node.get("/hog/all");
    assert_eq!(dead.status, 502, "{}", dead.text());
    assert!(dead.text().contains("baton logs"), "{}", dead.text());
    if !baton_e2e::in_cells() {
        node.wait_for_replica("hog", pid, Duration::from_secs(4));
    }
    let log = node.log_of("node").join("\n");
    let lines = node.log_of("hog").join("\n");
    // What happens to a compartment is in its own log.
    assert!(baton_e2e::in_cells() || log.contains("hog: "), "{log}");
    assert!(log.contains("memory") || lines.contains("memory"), "{log}\n{lines}");
    assert_eq!(node.get("/hog/little").text(), "modest");
    assert_eq!(node.replica("hello"), other);
    node.wait_at_rest(REST);
}

#[test]
fn clients_that_leave_cost_nothing() {
    need_sandbox!();
    let node = Node::start(&small());
    // In the middle of a body, declared and chunked, by a reset and by a close.
    for reset in [true, false] {
        for head in ["content-length: 1000000", "transfer-encoding: chunked"] {
            let mut client = node.http();
            client
                .write(format!("POST /echo HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n").as_bytes())
                .unwrap();
            client.write(b"186a0\r\n").unwrap();
            client.write(&[b'x'; 50_000]).unwrap();
            wait_until(REST, "the body is on its way", || node.buffers_in_use() > 0);
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            node.wait_at_rest(REST);
        }
    }
    // While the function works.
    for reset in [true, false] {
        let mut client = node.http();
        client.send("POST", "/sleeper?ms=300", &[], &[1; 100_000]).unwrap();
        wait_until(REST, "the function has it", || node.function("sleeper")["replicas"][0]["in_flight"] == 1);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        node.wait_at_rest(REST);
        assert_eq!(node.get("/sleeper?ms=1").status, 200);
    }
    // While the answer is on its way: more of it than the sockets hold.
    let node = Node::start(&App::new("large").function("echo", "echo", ""));
    let mut client = node.http();
    client.send("POST", "/echo", &[], &vec![1; 24 * MIB]).unwrap();
    thread::sleep(Duration::from_millis(200));
    client.reset();
    node.wait_at_rest(REST);
    assert_eq!(node.post("/echo", b"still here").text(), "still here");
}
