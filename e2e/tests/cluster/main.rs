//! Several nodes with real servers of NATS: what is deployed, who is alive, and what happens when the servers are not.

mod events;
mod guarded;
mod secrets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::{App, Client, Nats, Node, need_processes, need_sandbox, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// How long nodes may take to come to the same end.
const SOON: Duration = Duration::from_secs(15);
/// What a node that vanishes may take until it is out: three seconds, and what looking takes.
const OUT_WITHIN: Duration = Duration::from_millis(3200);

/// An app whose function says which version it is.
fn versioned(app: &App, version: u32) -> &std::path::Path {
    app.manifest(&format!(
        "[app]\nname = \"{}\"\n[pool]\nsize = \"16MiB\"\n[functions.version]\nartifact = \"guest\"\n\
         args = [\"version\"]\nenv = {{ VERSION = \"{version}\" }}\n[functions.sleeper]\nartifact = \"guest\"\n\
         args = [\"sleeper\"]\n[[routes]]\npath = \"/version\"\nmethods = [\"GET\"]\nfunction = \"version\"\n\
         [[routes]]\npath = \"/sleeper/{{name}}\"\nmethods = [\"POST\"]\nfunction = \"sleeper\"\n",
        app.name()
    ))
}

fn deploy(node: &Node, app: &App, version: u32) -> baton_e2e::Finished {
    let directory = versioned(app, version).to_str().expect("UTF-8").to_owned();
    node.cli(["deploy", &directory, "--json"])
}

fn deployed(node: &Node, app: &App, version: u32) -> u64 {
    let finished = deploy(node, app, version);
    assert_eq!(finished.code, 0, "{finished:?}");
    finished.json()["version"].as_u64().expect("a version")
}

/// Waits until every node answers as this version.
#[track_caller]
fn all_answer(nodes: &[&Node], version: u32) {
    for node in nodes {
        wait_until(SOON, "the node answers as the version", || {
            let answer = node.get("/version");
            answer.status == 200 && answer.text() == version.to_string()
        });
    }
}

fn members(node: &Node) -> Vec<String> {
    let nodes = node.ask("/v1/nodes");
    let rows = nodes["nodes"].as_array().expect("a list of nodes");
    rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

fn row(node: &Node, of: &str) -> Value {
    let nodes = node.ask("/v1/nodes");
    let rows = nodes["nodes"].as_array().expect("a list of nodes");
    rows.iter().find(|row| row["name"] == of).cloned().unwrap_or(Value::Null)
}

#[track_caller]
fn wait_for_members(node: &Node, names: &[&str]) {
    wait_until(SOON, "the members are these", || members(node) == names);
}

fn three(servers: &str, app: &str) -> [Node; 3] {
    let nodes = [("a", "127.0.0.1"), ("b", "127.0.0.2"), ("c", "127.0.0.3")]
        .map(|(name, address)| Node::member(servers, name, address, app));
    nodes.iter().for_each(|node| wait_for_members(node, &["a", "b", "c"]));
    nodes
}

fn metrics(node: &Node) -> String {
    let token = format!("Bearer {}", node.token);
    let mut client = Client::connect(node.admin).expect("the admin API accepts connections");
    client.request("GET", "/metrics", &[("authorization", &token)], b"").expect("an answer").text()
}

#[test]
fn what_is_deployed_on_one_node_runs_on_all() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let app = App::new("spread");
    let [a, b, c] = three(&nats.url(), "spread");
    assert_eq!(deployed(&a, &app, 1), 1);
    all_answer(&[&a, &b, &c], 1);
    assert_eq!(deployed(&b, &app, 2), 2);
    all_answer(&[&a, &b, &c], 2);
    let again = deploy(&c, &app, 2);
    assert_eq!((again.code, again.json()["changed"].as_bool()), (0, Some(false)), "{again:?}");
    let versions = c.ask("/v1/apps/spread/versions");
    let versions: Vec<_> =
        versions["versions"].as_array().unwrap().iter().map(|row| row["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [1, 2]);
    wait_until(SOON, "all nodes tell that version 2 runs on all", || {
        let status = c.cli(["cluster", "status", "--json"]).json();
        let parts = status["apps"][0]["nodes"].as_array().cloned().unwrap_or_default();
        status["store"]["reachable"] == true
            && parts.len() == 3
            && parts.iter().all(|part| part["version"] == 2 && part["wanted"] == part["hosted"])
    });
    // A node that comes later has all of it.
    let late = Node::member(&nats.url(), "d", "127.0.0.4", "spread");
    all_answer(&[&late], 2);
    let removed = b.cli(["rm", "spread"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    for node in [&a, &b, &c, &late] {
        wait_until(SOON, "the app is gone", || node.get("/version").status == 404);
    }
    assert_eq!(deployed(&a, &app, 3), 3, "numbers go on after a removal");
    all_answer(&[&a, &b, &c, &late], 3);
}

#[test]
fn a_killed_node_is_out_in_three_seconds_and_its_name_is_free_then() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let app = App::new("alive");
    let [a, b, mut c] = three(&nats.url(), "alive");
    deployed(&a, &app, 1);
    all_answer(&[&c], 1);
    // The name of a node that lives is refused, at once and in words.
    let home = tempfile::tempdir().unwrap();
    let taken = baton_e2e::cli(home.path(), ["node", "--port", "0", "--cluster", &nats.url(), "--name", "b"]);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.stderr.contains("a node named b is alive already"), "{}", taken.stderr);
    let home = b.kill();
    let killed = Instant::now();
    wait_for_members(&a, &["a", "c"]);
    let out = killed.elapsed();
    println!("out of the table after {out:?}");
    assert!(out <= OUT_WITHIN, "{out:?}");
    // It comes back under its name with what it had.
    let b = Node::member_again(home, &nats.url(), "b", "127.0.0.2", "alive");
    wait_for_members(&a, &["a", "b", "c"]);
    all_answer(&[&b], 1);
    // One that ends in order is out at once.
    c.signal(Signal::TERM);
    let told = Instant::now();
    wait_for_members(&a, &["a", "b"]);
    assert!(told.elapsed() < Duration::from_millis(1500), "{:?}", told.elapsed());
    assert!(c.wait(SOON).success());
}

/// Asks a node again and again from a thread of its own, and counts answers and what is none.
struct Asking {
    over: Arc<AtomicBool>,
    good: Arc<AtomicU32>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Asking {
    fn start(node: &Node) -> Self {
        let (over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (gateway, stop, count) = (node.gateway, Arc::clone(&over), Arc::clone(&good));
        let thread = thread::spawn(move || {
            let mut bad = Vec::new();
            let until = Instant::now() + Duration::from_secs(120);
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                let answer = Client::connect(gateway)
                    .and_then(|mut client| client.request("GET", "/version", &[], b""));
                match answer {
                    Ok(answer) if answer.status == 200 => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    other => bad.push(format!("{other:?}")),
                }
                thread::sleep(Duration::from_millis(5));
            }
            bad
        });
        Self { over, good, thread }
    }

    /// Ends it; gives what was no good answer.
    fn end(self) -> (u32, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let bad = self.thread.join().expect("it ends");
        (self.good.load(Ordering::Relaxed), bad)
    }
}

#[test]
fn while_the_store_is_away_what_runs_goes_on_and_changes_wait() {
    need_sandbox!();
    need_processes!();
    let Some(mut nats) = Nats::start() else { return };
    let app = App::new("away");
    let [a, b, c] = three(&nats.url(), "away");
    deployed(&a, &app, 1);
    all_answer(&[&a, &b, &c], 1);
    let asking = [&a, &b].map(Asking::start);
    nats.kill();
    for verb in [deploy(&a, &app, 2), a.cli(["rm", "away"]), b.cli(["drain", "c"])] {
        assert_eq!(verb.code, 3, "{verb:?}");
        assert!(verb.stderr.contains(&nats.url()) && verb.stderr.contains("is not reachable"), "{verb:?}");
    }
    let status = b.cli(["cluster", "status", "--json"]).json();
    assert_eq!(status["store"]["reachable"], false, "{status}");
    let metrics = metrics(&b);
    assert!(metrics.contains("\nbaton_cluster_store_connected 0\n"), "{metrics}");
    assert!(metrics.contains("\nbaton_cluster_members 3\n"), "{metrics}");
    // A node that starts meanwhile serves what it knew.
    let home = c.kill();
    let c = Node::member_again(home, &nats.url(), "c", "127.0.0.3", "away");
    all_answer(&[&c], 1);
    // Nobody is dropped for a silence that is everybody's.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(members(&a), ["a", "b", "c"]);
    nats.restart();
    let back = Instant::now();
    for node in [&a, &b, &c] {
        wait_for_members(node, &["a", "b", "c"]);
        wait_until(SOON, "the new start of c is known", || {
            row(node, "c")["gateway"] == c.gateway.to_string().as_str()
        });
    }
    println!("converged {:?} after the server was back", back.elapsed());
    assert_eq!(deployed(&b, &app, 2), 2);
    all_answer(&[&a, &b, &c], 2);
    for (good, bad) in asking.map(Asking::end) {
        assert!(good > 100 && bad.is_empty(), "{good} good answers, and {bad:?}");
    }
}

#[test]
fn a_store_of_three_servers_loses_its_leader_and_nobody_minds() {
    need_sandbox!();
    need_processes!();
    let Some(mut servers) = Nats::three() else { return };
    let urls = servers.each_ref().map(Nats::url).join(",");
    let app = App::new("led");
    let [a, b, c] = three(&urls, "led");
    deployed(&a, &app, 1);
    all_answer(&[&a, &b, &c], 1);
    let status = a.cli(["cluster", "status", "--json"]).json();
    let bucket = &status["store"]["buckets"][0];
    assert_eq!((bucket["replicas"].as_u64(), bucket["copies"].as_array().map(Vec::len)), (Some(3), Some(2)));
    let leader = bucket["leader"].as_str().expect("a leader").to_owned();
    let asking = Asking::start(&b);
    let led = servers.iter_mut().find(|server| server.name() == leader).expect("one of them leads");
    led.kill();
    let lost = Instant::now();
    // Nobody is taken for dead while the others agree on a new leader.
    while lost.elapsed() < Duration::from_secs(5) {
        assert_eq!(members(&a).len(), 3, "{:?} after the leader's death", lost.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    wait_until(SOON, "a deployment is taken", || deploy(&b, &app, 2).code == 0);
    println!("a deployment was taken {:?} after the leader's death", lost.elapsed());
    all_answer(&[&a, &b, &c], 2);
    servers.iter_mut().find(|server| server.name() == leader).expect("it is there").restart();
    assert_eq!(deployed(&c, &app, 3), 3);
    all_answer(&[&a, &b, &c], 3);
    let (good, bad) = asking.end();
    assert!(good > 100 && bad.is_empty(), "{good} good answers, and {bad:?}");
}

#[test]
fn a_node_that_drains_says_when_nothing_is_in_flight() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let app = App::new("drained");
    let [a, b, c] = three(&nats.url(), "drained");
    deployed(&a, &app, 1);
    all_answer(&[&a, &b, &c], 1);
    let none = a.cli(["drain", "nobody"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("no node named nobody is alive"), "{none:?}");
    let drained = a.cli(["drain", "b", "--json"]);
    assert_eq!(drained.code, 0, "{drained:?}");
    assert_eq!(drained.json()["in_flight"], 0);
    wait_until(SOON, "b hosts nothing", || {
        let row = row(&c, "b");
        row["draining"] == true
            && row["apps"]["drained"]["functions"].as_object().is_some_and(|f| f.is_empty())
    });
    assert!(row(&c, "a")["apps"]["drained"]["functions"].as_object().is_some_and(|f| f.len() == 2));
    let undone = c.cli(["drain", "b", "--undo"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    wait_until(SOON, "b hosts its part again", || {
        let row = row(&a, "b");
        row["draining"] == false
            && row["apps"]["drained"]["functions"].as_object().is_some_and(|f| f.len() == 2)
    });
    // People are shown the same.
    let nodes = a.cli(["nodes"]);
    assert!(nodes.stdout.lines().count() >= 4 && nodes.stdout.contains("drained v1"), "{nodes:?}");
}

#[test]
fn a_node_alone_says_that_it_is_alone() {
    need_sandbox!();
    need_processes!();
    let app = App::new("alone").function("hello", "hello", "");
    let node = Node::start(&app);
    for verb in [node.cli(["nodes"]), node.cli(["cluster", "status"]), node.cli(["drain", "a"])] {
        assert_eq!(verb.code, 1, "{verb:?}");
        assert!(verb.stderr.contains("is in no cluster") && verb.stderr.contains("--cluster"), "{verb:?}");
    }
}
