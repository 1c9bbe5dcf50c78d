//! Nodes of a cluster with an app on them, as tests want them, and a stream of requests of which each is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_netns::Net;

use crate::App;
use crate::http::Client;
use crate::machine::isolation;
use crate::nats::Nats;
use crate::node::{Node, wait_until};

/// How long nodes may take to come to the same end.
pub const SOON: Duration = Duration::from_secs(20);
/// How long buffers may take to be back.
const REST: Duration = Duration::from_secs(8);
/// How long a stream of requests lasts at most.
const LOAD_MAX: Duration = Duration::from_secs(60);

/// So many bytes that differ.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap_or(0)).collect()
}

/// Nodes on loopback that know each other, with an app on them.
pub fn members(nats: &Nats, app: &App, names: &[&str]) -> Vec<Node> {
    let address = |number: usize| format!("127.0.0.{}", number + 1);
    let nodes: Vec<Node> = (names.iter().enumerate())
        .map(|(number, name)| Node::member(&nats.url(), name, &address(number), app.name()))
        .collect();
    deploy(&nodes, app);
    nodes
}

/// Deploys an app on all of them, and waits until all say so.
pub fn deploy(nodes: &[Node], app: &App) {
    for node in nodes {
        wait_until(SOON, "the nodes know each other", || {
            node.ask("/v1/nodes")["nodes"].as_array().map(Vec::len) == Some(nodes.len())
        });
    }
    let deployed = nodes[0].cli(["deploy", app.directory().to_str().expect("as a test wants it")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    wait_until(SOON, "all nodes run what they are to run, and all know it", || {
        nodes.iter().all(|node| settled(node, nodes.len(), 1))
    });
}

/// Whether so many nodes run a version of the app, as far as this one knows.
fn settled(node: &Node, nodes: usize, version: u64) -> bool {
    let status = node.cli(["cluster", "status", "--json"]).json();
    let parts = status["apps"][0]["nodes"].as_array().cloned().unwrap_or_default();
    parts.len() == nodes
        && parts.iter().all(|part| part["wanted"] == part["hosted"] && part["version"] == version)
}

impl Node {
    /// Waits until the other nodes of its cluster run a version too: they follow a deployment a moment later.
    pub fn wait_followed(&self, version: u64) {
        let nodes = self.others.len() + 1;
        if nodes > 1 {
            wait_until(SOON, "the other nodes follow", || settled(self, nodes, version));
        }
    }
}

/// Waits until every buffer of the app is back on every node.
pub fn all_at_rest(nodes: &[Node]) {
    nodes.iter().for_each(|node| node.wait_at_rest(REST));
}

/// Answers of the nodes' gateways to a stream of requests, each counted.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU32>,
    bad: Arc<AtomicU32>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// One client for each gateway, one request after the other.
    pub fn start(gateways: &[SocketAddr], target: &'static str) -> Load {
        let (stop, good, bad) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let threads = gateways.iter().map(|&gateway| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            thread::spawn(move || Load::run(gateway, target, &stop, &good, &bad))
        });
        let threads = threads.collect();
        Load { stop, good, bad, threads }
    }

    fn run(gateway: SocketAddr, target: &str, stop: &AtomicBool, good: &AtomicU32, bad: &AtomicU32) {
        let until = Instant::now() + LOAD_MAX;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            let answer = Client::connect(gateway)
                .and_then(|mut client| client.request("POST", target, &[], b"payload"));
            let is_good = answer.is_ok_and(|answer| answer.status == 200 && answer.body == b"payload");
            let counter = if is_good { good } else { bad };
            counter.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it; how many answers were as they should be, and how many not.
    pub fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("as a test wants it"));
        (self.good.load(Ordering::Relaxed), self.bad.load(Ordering::Relaxed))
    }
}

/// Nodes a, b and c in a network of their own, and the calling thread in its hub.
pub fn network(name: &str, functions: impl FnOnce(App) -> App) -> Option<(Arc<Net>, Nats, Vec<Node>)> {
    network_of(&["a", "b", "c"], name, functions)
}

/// The same with nodes of other names.
pub fn network_of(
    names: &[&str],
    name: &str,
    functions: impl FnOnce(App) -> App,
) -> Option<(Arc<Net>, Nats, Vec<Node>)> {
    if isolation() != "process" {
        println!("SKIP: faults of the network are tried with functions in processes");
        return None;
    }
    let net = match Net::star(names.len()) {
        Ok(net) => Arc::new(net),
        Err(error) => {
            println!("SKIP: no networks of a test's own here: {error}");
            return None;
        }
    };
    net.enter_hub().expect("the hub is there");
    let nats = Nats::start_in_hub(&net)?;
    let app = functions(App::new(name));
    let nodes: Vec<Node> = (names.iter().enumerate())
        .map(|(seat, name)| Node::member_in(&net, seat, &nats.url(), name, app.name()))
        .collect();
    deploy(&nodes, &app);
    Some((net, nats, nodes))
}
