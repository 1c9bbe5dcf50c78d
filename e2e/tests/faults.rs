//! Processes that die: replicas in the middle of calls, at random under load, and the node itself.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baton_e2e::process::{is_alive, kill};
use baton_e2e::{App, Client, Node, need_processes, need_sandbox, wait_until};
use rustix::process::Signal;

const REST: Duration = Duration::from_secs(5);

fn chain() -> App {
    let scale = "timeout = \"5s\"\nscale = { min = 1, max = 1, concurrency = 8 }";
    App::new("faults")
        .function("a", "relay", &format!("calls = [\"b\"]\nenv = {{ NEXT = \"b\" }}\n{scale}"))
        .function("b", "relay", &format!("calls = [\"c\"]\nenv = {{ NEXT = \"c\" }}\n{scale}"))
        .function("c", "last", scale)
        .function("sleeper", "sleeper", "timeout = \"20s\"")
}

#[test]
fn every_way_to_die_fails_one_call_and_no_other() {
    need_sandbox!();
    let app = App::new("crashes").function("crasher", "crasher", "").route("/crash/{how}", "crasher", "");
    let node = Node::start(&app);
    // The first process of a namespace is deaf to SIGABRT; `abort` then ends it by an illegal instruction.
    for (how, said) in [("abort", "killed by signal"), ("segv", "signal 11"), ("exit", "status 3")] {
        let pid = node.replica("crasher").unwrap();
        let dead = node.post(&format!("/crash/{how}"), &[1; 10_000]);
        assert_eq!(dead.status, 502, "{how}: {}", dead.text());
        assert!(
            !dead.text().contains("signal"),
            "what killed it is not the client's to know: {}",
            dead.text()
        );
        if baton_e2e::in_cells() {
            // It is reset in its cell, which goes on.
            assert_eq!(node.replica("crasher"), Some(pid), "{how}");
            continue;
        }
        node.wait_for_replica("crasher", pid, REST);
        assert!(
            node.log_of("node").iter().any(|line| line.contains(said)),
            "{how}: {:?}",
            node.log_of("node")
        );
        assert_eq!(node.get("/crasher").text(), "alive", "{how}");
        node.wait_at_rest(REST);
    }
    let died = if baton_e2e::in_cells() { node.faults("crasher") } else { node.restarts("crasher") };
    assert_eq!(died, 3);
    // A panic fails its own request; the replica lives on.
    let pid = node.replica("crasher");
    let panicked = node.post("/crash/panic", b"x");
    assert!((500..600).contains(&panicked.status), "{}", panicked.status);
    assert_eq!(node.get("/crasher").text(), "alive");
    assert_eq!(node.replica("crasher"), pid);
    node.wait_at_rest(REST);
}

#[test]
fn a_replica_killed_in_the_middle_of_a_call_is_replaced() {
    need_sandbox!();
    need_processes!();
    let node = Node::start(&chain());
    for (victim, mode) in [
        ("c", "stall"),
        ("b", "stall"),
        ("a", "stall"),
        ("c", "lend-and-stall"),
        ("b", "lend-and-stall"),
        ("a", "lend-and-stall"),
    ] {
        let what = format!("{victim} killed during {mode}");
        let request = node.in_background(&format!("/a?{mode}"), &[9; 20_000]);
        wait_until(REST, "c has the payload", || node.ask("/v1/caps").to_string().contains("\"c#"));
        let (pid, restarts) = (node.replica(victim).unwrap(), node.restarts(victim));
        assert!(kill(pid));
        let answer = request.join().unwrap();
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        node.wait_for_replica(victim, pid, REST);
        assert_eq!(node.restarts(victim), restarts + 1, "{what}");
        let ps = node.cli(["ps", "--json"]).json().to_string();
        assert!(ps.contains(&format!("\"restarts\":{}", restarts + 1)), "{what}: {ps}");
        wait_until(REST, &what, || node.post("/a", b"again").text() == "again");
        node.wait_at_rest(REST);
    }
}

/// Clients that send to `target` until told to stop, and count the statuses that they get.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<u16>>>,
}

impl Load {
    fn start(node: &Node, target: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let (gateway, target, stop) = (node.gateway, target.to_owned(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut statuses = Vec::new();
                let mut client = Client::connect(gateway).expect("the gateway is there");
                let body = vec![1; 1000 + number * 3000];
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.request("POST", &target, &[], &body).expect("an answer");
                    assert!(answer.status != 200 || answer.body == body, "someone else's answer");
                    statuses.push(answer.status);
                    if answer.status != 200 {
                        assert!([502, 503].contains(&answer.status), "{}: {}", answer.status, answer.text());
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                statuses
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, clients }
    }

    fn finish(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client's count")).collect()
    }
}

#[test]
fn random_kills_under_load_cost_only_what_was_in_flight() {
    need_sandbox!();
    let node = Node::start(&chain());
    let mut seen = node.replicas();
    let load = Load::start(&node, "/a?move", 6);
    // A fixed seed: the order of victims is the same in every run, their moments are not.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..12 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        thread::sleep(Duration::from_millis(100 + random % 250));
        let victims: Vec<u32> = ["a", "b", "c"].iter().filter_map(|name| node.replica(name)).collect();
        if let Some(&victim) = victims.get(usize::try_from(random >> 32).unwrap() % victims.len().max(1)) {
            kill(victim);
        }
        seen.extend(node.replicas());
    }
    let all_up = || ["a", "b", "c"].iter().all(|name| node.replica(name).is_some());
    wait_until(Duration::from_secs(15), "every replica is back", all_up);
    wait_until(REST, "the chain works again", || node.post("/a", b"x").status == 200);
    let statuses = load.finish();
    for round in 0..200 {
        assert_eq!(node.post("/a", b"x").status, 200, "{round} after every replica was back");
    }
    let count = |status| statuses.iter().filter(|&&seen| seen == status).count();
    let (good, allowed) = (count(200), count(200) + count(502) + count(503));
    assert_eq!(allowed, statuses.len(), "{:?}", statuses.iter().collect::<std::collections::BTreeSet<_>>());
    assert!(good > 500 && count(502) > 0, "200: {good}, 502: {}, 503: {}", count(502), count(503));
    node.wait_at_rest(REST);
    let up = node.replicas();
    for pid in seen.into_iter().filter(|pid| !up.contains(pid)) {
        wait_until(REST, "a replaced replica is gone", || !is_alive(pid));
    }
    assert!(is_alive(node.pid()));
}

#[test]
fn a_function_that_keeps_dying_is_held_back_and_the_others_go_on() {
    need_sandbox!();
    need_processes!();
    let app = App::new("loop")
        .function("crasher", "crasher", "")
        .route("/crash/{how}", "crasher", "")
        .function("hello", "hello", "");
    let node = Node::start(&app);
    let begun = Instant::now();
    while node.restarts("crasher") < 6 && begun.elapsed() < Duration::from_secs(10) {
        let status = node.get("/crash/abort").status;
        assert!([502, 503].contains(&status), "{status}");
        assert_eq!(node.get("/hello").status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    let restarts = node.restarts("crasher");
    // Without back-off it would be hundreds.
    assert!((3..30).contains(&restarts), "{restarts} in {:?}", begun.elapsed());
    assert!(node.log_of("node").iter().any(|line| line.contains("starting it again in")));
    node.wait_at_rest(REST);
}

#[test]
fn a_killed_node_leaves_no_process_and_comes_back_with_its_apps() {
    need_sandbox!();
    let node = Node::start(&chain());
    assert_eq!(node.post("/a", b"before").text(), "before");
    let load = Load::start(&node, "/sleeper?ms=5000", 0);
    let replicas = node.replicas();
    assert_eq!(replicas.len(), 4);
    load.finish();
    let home = node.kill();
    for &pid in &replicas {
        wait_until(REST, "a replica dies with its node", || !is_alive(pid));
    }
    let node = Node::restart(home, "faults");
    assert_eq!(node.post("/a", b"after").text(), "after");
    assert_eq!(node.status()["version"], 1);
    // And once more, in the middle of calls.
    let mut client = node.http();
    client.send("POST", "/a?stall", &[], &[1; 50_000]).unwrap();
    thread::sleep(Duration::from_millis(100));
    let replicas = node.replicas();
    let home = node.kill();
    for &pid in &replicas {
        wait_until(REST, "a replica dies with its node", || !is_alive(pid));
    }
    let node = Node::restart(home, "faults");
    assert_eq!(node.post("/a", b"after").text(), "after");
    node.wait_at_rest(REST);
}

/// What became of one client's requests while the node went down.
fn send_until_refused(gateway: std::net::SocketAddr) -> (usize, usize) {
    let (mut served, mut refused) = (0, 0);
    let body = vec![3; 2000];
    'connection: while let Ok(mut client) = Client::connect(gateway) {
        let mut fresh = true;
        loop {
            match client.request("POST", "/a?move", &[], &body) {
                Ok(answer) if answer.status == 200 => {
                    assert!(answer.body == body);
                    served += 1;
                    if answer.header("connection") == Some("close") {
                        continue 'connection;
                    }
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    refused += 1;
                    continue 'connection;
                }
                // The kernel completed the connection, the node never took it.
                Err(error) if fresh => {
                    let kind = error.kind();
                    let never_taken =
                        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
                    assert!(never_taken.contains(&kind), "{error}");
                    continue 'connection;
                }
                Err(error) => panic!("a request was lost after {served} served: {error}"),
            }
            fresh = false;
        }
    }
    (served, refused)
}

#[test]
fn sigterm_under_load_loses_nothing() {
    need_sandbox!();
    let mut node = Node::start(&chain());
    let gateway = node.gateway;
    let clients: Vec<_> = (0..6).map(|_| thread::spawn(move || send_until_refused(gateway))).collect();
    let slow = node.in_background("/sleeper?ms=1200", b"slow");
    thread::sleep(Duration::from_millis(600));
    let replicas = node.replicas();
    node.signal(Signal::TERM);
    let status = node.wait(Duration::from_secs(15));
    assert!(status.success(), "{status:?}\n{}", node.words());
    assert_eq!(slow.join().unwrap().text(), "slow", "what was in flight is finished");
    let served: usize = clients.into_iter().map(|client| client.join().unwrap().0).sum();
    assert!(served > 100, "{served}");
    for pid in replicas {
        wait_until(REST, "a replica ends with its node", || !is_alive(pid));
    }
    assert!(!node.home().join("admin.sock").exists());
}

#[test]
fn a_second_interrupt_ends_the_node_at_once() {
    need_sandbox!();
    let mut node = Node::start(&chain());
    let replicas = node.replicas();
    let gateway = node.gateway;
    let slow = thread::spawn(move || {
        let mut client = Client::connect(gateway).unwrap();
        client.request("POST", "/sleeper?ms=10000", &[], b"").map(|answer| answer.status)
    });
    wait_until(REST, "the call is out", || node.function("sleeper")["replicas"][0]["in_flight"] == 1);
    node.signal(Signal::INT);
    thread::sleep(Duration::from_millis(500));
    assert!(is_alive(node.pid()), "the first interrupt waits for what is in flight");
    assert!(node.words().contains("once more ends it at once"), "{}", node.words());
    let begun = Instant::now();
    node.signal(Signal::INT);
    node.wait(Duration::from_secs(5));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    for pid in replicas {
        wait_until(REST, "a replica ends with its node", || !is_alive(pid));
    }
    // Cut off, or told so.
    assert!(slow.join().unwrap().map_or(true, |status| status >= 500));
}
