//! Versions of an app under load: deployed, split, promoted, rolled back, and not one request lost or run twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use baton_e2e::members::members;
use baton_e2e::{App, Client, Nats, Node, need_one_node, need_sandbox, wait_until};
use serde_json::Value;

/// Connections that ask all the time: the first with slow bodies, the last over HTTP/2.
const CLIENTS: u64 = 5;
/// Most requests of one of them: what the node keeps of an app's log holds all of them.
const REQUESTS_MAX: u64 = 1500;
/// Requests at once on the connection that has several.
const STREAMS: u64 = 4;

/// An app whose one function logs the number of each request that it runs.
fn app(version: &str, more: &str) -> App {
    let env = format!("env = {{ VERSION = \"{version}\"{more} }}\nscale = {{ queue = 1024 }}");
    App::new("shop").function("count", "counted", &env)
}

/// Deploys the app's next version from the directory of another.
fn deploy(node: &Node, app: &App, flags: &[&str]) -> baton_e2e::Finished {
    let directory = app.directory().to_str().expect("as a test wants it").to_owned();
    let args = ["deploy".to_owned(), directory, "--json".to_owned()];
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    baton_e2e::cli(node.home(), args.into_iter().chain(flags))
}

#[track_caller]
fn deployed(node: &Node, app: &App, flags: &[&str]) -> u64 {
    let done = deploy(node, app, flags);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    done.json()["version"].as_u64().expect("as a test wants it")
}

fn versions(node: &Node) -> Vec<(u64, String, String)> {
    let listed = node.cli(["versions", "shop", "--json"]).json();
    let rows = listed["versions"].as_array().expect("as a test wants it").clone();
    let text = |row: &Value, key: &str| row[key].as_str().expect("as a test wants it").to_owned();
    rows.iter()
        .map(|row| {
            (row["version"].as_u64().expect("as a test wants it"), text(row, "state"), text(row, "share"))
        })
        .collect()
}

/// What answers, and how much of it.
fn shares(node: &Node) -> BTreeMap<u64, String> {
    versions(node)
        .into_iter()
        .filter(|(_, _, share)| share != "0%")
        .map(|(version, _, share)| (version, share))
        .collect()
}

fn expect_shares(node: &Node, expect: &[(u64, &str)]) {
    let expect: BTreeMap<u64, String> =
        expect.iter().map(|(version, share)| (*version, (*share).to_owned())).collect();
    assert_eq!(shares(node), expect);
}

fn ask(client: &mut Client, number: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut all = vec![("x-number", number)];
    all.extend(headers);
    let answer = client.request("GET", "/count", &all, b"").expect("an answer");
    (answer.status, answer.text())
}

/// Requests that go on until it is ended.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<(u64, Vec<String>)>>,
    sent: Arc<AtomicU64>,
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let (is_over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |client: u64| {
            let (is_over, sent) = (Arc::clone(&is_over), Arc::clone(&sent));
            thread::spawn(move || {
                let mut connection = Client::connect(gateway).expect("the gateway accepts connections");
                let mut wrong = Vec::new();
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) && count < REQUESTS_MAX {
                    let number = format!("{client}-{count}");
                    // One of four keeps its body open for a while: it is in flight when versions change.
                    let answer = if client == 0 {
                        slowly(&mut connection, &number)
                    } else {
                        quickly(&mut connection, &number)
                    };
                    if let Err(why) = answer {
                        wrong.push(format!("{number}: {why}"));
                    }
                    count += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(4));
                }
                (count, wrong)
            })
        };
        let mut clients: Vec<_> = (0..CLIENTS - 1).map(client).collect();
        let counts = (Arc::clone(&is_over), Arc::clone(&sent));
        clients.push(thread::spawn(move || over_http2(gateway, &counts)));
        Self { is_over, clients, sent }
    }

    /// Waits until some more were answered.
    fn goes_on(&self) {
        let from = self.sent.load(Ordering::Relaxed);
        wait_until(Duration::from_secs(30), "more requests are answered", || {
            self.sent.load(Ordering::Relaxed) > from + 40
        });
    }

    /// The numbers of all requests that were sent; each of them was answered as it should.
    fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut numbers = Vec::new();
        for (client, thread) in self.clients.into_iter().enumerate() {
            let (count, wrong) = thread.join().expect("a client that ends");
            assert!(
                wrong.is_empty(),
                "{} of {count} went wrong: {:?}",
                wrong.len(),
                &wrong[..wrong.len().min(3)]
            );
            numbers.extend((0..count).map(|number| format!("{client}-{number}")));
        }
        numbers
    }
}

/// Several requests at once on one connection of HTTP/2, as the last of the clients.
fn over_http2(gateway: SocketAddr, counts: &(Arc<AtomicBool>, Arc<AtomicU64>)) -> (u64, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway).await.expect("the gateway accepts connections");
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(stream))
                .await
                .expect("the gateway speaks HTTP/2");
        tokio::spawn(connection);
        let (mut count, mut wrong) = (0, Vec::new());
        while !counts.0.load(Ordering::Relaxed) && count < REQUESTS_MAX {
            let numbers = (count..count + STREAMS).map(|number| format!("{}-{number}", CLIENTS - 1));
            let asked = numbers.map(|number| tokio::spawn(one_over_http2(sender.clone(), gateway, number)));
            for asked in asked.collect::<Vec<_>>() {
                wrong.extend(asked.await.expect("no panic").err());
            }
            count += STREAMS;
            counts.1.fetch_add(STREAMS, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(16)).await;
        }
        (count, wrong)
    })
}

type Sender = hyper::client::conn::http2::SendRequest<http_body_util::Empty<bytes::Bytes>>;

async fn one_over_http2(mut sender: Sender, gateway: SocketAddr, number: String) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("{number}: {error}");
    let request = hyper::Request::get(format!("http://{gateway}/count")).header("x-number", &number);
    let request = request.body(http_body_util::Empty::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status();
    http_body_util::BodyExt::collect(answer.into_body()).await.map_err(failed)?;
    if status == 200 { Ok(()) } else { Err(format!("{number}: {status}")) }
}

fn quickly(connection: &mut Client, number: &str) -> Result<(), String> {
    let answer = connection.request("GET", "/count", &[("x-number", number)], b"");
    answered(answer.map_err(|error| error.to_string())?, 0)
}

/// Sends a body whose second half comes later.
fn slowly(connection: &mut Client, number: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let head = format!(
        "POST /count HTTP/1.1\r\nhost: localhost\r\nx-number: {number}\r\ncontent-length: 2000\r\n\r\n"
    );
    connection.write(head.as_bytes()).map_err(failed)?;
    connection.write(&[b'a'; 1000]).map_err(failed)?;
    thread::sleep(Duration::from_millis(150));
    connection.write(&[b'b'; 1000]).map_err(failed)?;
    answered(connection.response("POST").map_err(failed)?, 2000)
}

fn answered(answer: baton_e2e::Response, bytes: u64) -> Result<(), String> {
    let is_whole = answer.header("x-bytes") == Some(bytes.to_string().as_str());
    if answer.status == 200 && is_whole {
        Ok(())
    } else {
        Err(format!("{} {}", answer.status, answer.text()))
    }
}

/// How often each request was run, as the functions of all versions logged it.
fn runs(node: &Node) -> BTreeMap<String, u64> {
    let mut runs = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = node.ask(&format!("/v1/logs?app=shop&function=count&after={after}"));
        let lines = page["lines"].as_array().expect("as a test wants it");
        for line in lines {
            if let Some(number) = line["message"].as_str().and_then(|message| message.strip_prefix("ran ")) {
                *runs.entry(number.to_owned()).or_default() += 1;
            }
        }
        if lines.is_empty() {
            return runs;
        }
        after = page["next"].as_u64().expect("as a test wants it");
    }
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_whatever_versions_do() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    let load = Load::start(node.gateway);
    load.goes_on();
    assert_eq!(deployed(&node, &app("2", ""), &[]), 2);
    load.goes_on();
    assert_eq!(deployed(&node, &app("3", ""), &["--canary", "30%"]), 3);
    expect_shares(&node, &[(2, "70%"), (3, "30%")]);
    load.goes_on();
    assert_eq!(node.cli(["traffic", "shop", "v2=50", "v3=50"]).code, 0);
    load.goes_on();
    assert_eq!(node.cli(["promote", "shop"]).code, 0);
    expect_shares(&node, &[(3, "100%")]);
    load.goes_on();
    assert_eq!(node.cli(["rollback", "shop"]).code, 0);
    expect_shares(&node, &[(2, "100%")]);
    load.goes_on();
    // Back and forth between two that run.
    assert_eq!(deployed(&node, &app("4", ""), &["--canary", "10%"]), 4);
    assert_eq!(node.cli(["rollback", "shop"]).code, 0);
    load.goes_on();
    let sent = load.end();
    let mut ran = BTreeMap::new();
    wait_until(Duration::from_secs(20), "all of them are in the log", || {
        ran = runs(&node);
        ran.len() >= sent.len()
    });
    let lost: Vec<_> = sent.iter().filter(|number| !ran.contains_key(*number)).collect();
    let twice: Vec<_> = ran.iter().filter(|(_, count)| **count != 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "of {}: lost {lost:?}, twice {twice:?}", sent.len());
    assert_eq!(ran.len(), sent.len(), "nothing else ran");
    println!("{} requests, each of them run once", sent.len());
}

#[test]
fn who_is_known_stays_and_shares_are_met() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    assert_eq!(deployed(&node, &app("2", ""), &["--canary", "20%", "--sticky", "cookie:sid"]), 2);
    let mut client = node.http();
    let mut side = |user: u32| {
        let cookie = format!("theme=dark; sid=user-{user}");
        ask(&mut client, "-", &[("cookie", &cookie)]).1
    };
    let first: Vec<String> = (0..200).map(&mut side).collect();
    let newer = first.iter().filter(|version| *version == "2").count();
    assert!((20..=60).contains(&newer), "{newer} of 200 at 20 %");
    let again: Vec<String> = (0..200).map(&mut side).collect();
    assert_eq!(first, again, "the same user meets the same version");
    // A node that is killed comes back with the same split.
    let home = node.kill();
    let node = Node::restart(home, "shop");
    expect_shares(&node, &[(1, "80%"), (2, "20%")]);
    let mut client = node.http();
    let mut side = |user: u32| {
        let cookie = format!("sid=user-{user}");
        ask(&mut client, "-", &[("cookie", &cookie)]).1
    };
    assert_eq!((0..200).map(&mut side).collect::<Vec<_>>(), first, "and the same users in it");
    // More of them, and none goes back.
    assert_eq!(node.cli(["traffic", "shop", "v1=50", "v2=50"]).code, 0);
    let more: Vec<String> = (0..200).map(&mut side).collect();
    assert!(first.iter().zip(&more).all(|(before, after)| before == "1" || after == "2"));
    assert!(more.iter().filter(|version| *version == "2").count() > newer);
}

#[test]
fn a_canary_that_fails_is_rolled_back_and_the_reason_is_shown() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    let terms = ["--canary", "50%", "--rollback", "errors=5%,after=10,window=30s"];
    assert_eq!(deployed(&node, &app("2", ", FAILS = \"yes\""), &terms), 2);
    let mut client = node.http();
    wait_until(Duration::from_secs(20), "the canary is rolled back", || {
        ask(&mut client, "-", &[]);
        shares(&node).len() == 1
    });
    expect_shares(&node, &[(1, "100%")]);
    let statuses = (0..20).map(|_| ask(&mut client, "-", &[]).0);
    assert!(statuses.into_iter().all(|status| status == 200));
    let rows = versions(&node);
    assert!(
        rows.iter().any(|(version, state, _)| *version == 2 && (state == "undone" || state == "draining")),
        "{rows:?}"
    );
    let shown = node.cli(["ps"]).stdout;
    assert!(
        shown.contains("shop version 2 was rolled back:") && shown.contains("requests failed"),
        "{shown}"
    );
    assert!(node.cli(["versions", "shop"]).stdout.contains("v2 was rolled back:"));
}

#[test]
fn a_watched_deployment_is_rolled_back_or_takes_over() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    let terms = ["--rollback", "errors=5%,after=10,window=2s"];
    assert_eq!(deployed(&node, &app("2", ", FAILS = \"yes\""), &terms), 2);
    let mut client = node.http();
    wait_until(Duration::from_secs(20), "it is rolled back", || ask(&mut client, "-", &[]).0 == 200);
    expect_shares(&node, &[(1, "100%")]);
    assert_eq!(deployed(&node, &app("3", ""), &terms), 3);
    assert_eq!(ask(&mut client, "-", &[]).1, "3");
    wait_until(Duration::from_secs(20), "it has taken over", || {
        versions(&node).iter().all(|(_, state, _)| state != "standby")
    });
    expect_shares(&node, &[(3, "100%")]);
}

#[test]
fn a_version_that_dies_at_its_start_leaves_the_old_one_and_says_why() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    let stillborn = App::new("shop").function("count", "stillborn", "");
    for flags in [&[][..], &["--canary", "10%"][..]] {
        let done = deploy(&node, &stillborn, flags);
        assert_eq!(done.code, 1, "{}", done.stdout);
        assert!(
            done.stderr.contains("did not become ready") && done.stderr.contains("status 7"),
            "{}",
            done.stderr
        );
        assert_eq!(ask(&mut node.http(), "-", &[]), (200, "1".to_owned()));
        expect_shares(&node, &[(1, "100%")]);
    }
    let shown = node.cli(["ps"]).stdout;
    assert!(shown.contains("shop version 2 was not deployed:") && shown.contains("status 7"), "{shown}");
}

#[test]
fn wrong_changes_are_refused_with_what_to_do() {
    need_sandbox!();
    need_one_node!();
    let node = Node::start(&app("1", ""));
    let check = |args: &[&str], code: i32, expect: &str| {
        let done = baton_e2e::cli(node.home(), args);
        assert_eq!(done.code, code, "{args:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(expect), "{args:?}: {}", done.stderr);
    };
    check(&["promote", "shop"], 1, "--canary");
    check(&["rollback", "shop"], 1, "no version before 1 is kept");
    check(&["rollback", "shop", "v7"], 1, "kept: v1");
    check(&["rollback", "nobody"], 1, "no app nobody is deployed");
    check(&["versions", "nobody"], 1, "no app nobody is deployed");
    check(&["traffic", "shop", "v1=90", "v1=10"], 2, "named twice");
    check(&["traffic", "shop", "v1=90"], 1, "add up to 90.00%");
    check(&["traffic", "shop", "v1=90", "v9=10"], 1, "version 9 is not kept");
    check(&["traffic", "shop", "v1=ninety"], 2, "percent");
    check(&["rollback", "shop", "first"], 2, "a version is a number");
    check(&["deploy", "--canary", "200%"], 2, "a share is 0 to 100");
    expect_shares(&node, &[(1, "100%")]);
}

/// The shares as a node of a cluster has them running.
fn shares_at(node: &Node) -> BTreeMap<u64, u64> {
    let apps = node.ask("/v1/apps");
    let rows = apps["versions"].as_array().expect("as a test wants it").clone();
    let pair = |row: &Value| {
        (
            row["version"].as_u64().expect("as a test wants it"),
            row["share"].as_u64().expect("as a test wants it"),
        )
    };
    rows.iter().map(pair).filter(|(_, share)| *share > 0).collect()
}

#[test]
fn nodes_of_a_cluster_split_alike_and_follow() {
    need_sandbox!();
    need_one_node!();
    let Some(nats) = Nats::start() else { return };
    let first = app("1", "");
    let mut nodes = members(&nats, &first, &["a", "b"]);
    assert_eq!(deployed(&nodes[0], &app("2", ""), &["--canary", "40%", "--sticky", "header:x-user"]), 2);
    let follow = |nodes: &[Node], expect: &[(u64, u64)]| {
        let expect: BTreeMap<u64, u64> = expect.iter().copied().collect();
        wait_until(Duration::from_secs(30), "all nodes have the same shares", || {
            nodes.iter().all(|node| shares_at(node) == expect)
        });
    };
    follow(&nodes, &[(1, 6000), (2, 4000)]);
    let sides = |node: &Node| -> Vec<String> {
        let mut client = node.http();
        (0..60).map(|user| ask(&mut client, "-", &[("x-user", &format!("user-{user}"))]).1).collect()
    };
    let of_a = sides(&nodes[0]);
    assert_eq!(of_a, sides(&nodes[1]), "a user meets the same version at every node");
    assert!(of_a.contains(&"1".to_owned()) && of_a.contains(&"2".to_owned()));
    // One that is killed comes back to the same split.
    let home = nodes.pop().unwrap().kill();
    nodes.push(Node::member_again(home, &nats.url(), "b", "127.0.0.2", "shop"));
    follow(&nodes, &[(1, 6000), (2, 4000)]);
    assert_eq!(of_a, sides(&nodes[1]));
    // Any node takes a change, and all follow.
    assert_eq!(nodes[1].cli(["promote", "shop"]).code, 0);
    follow(&nodes, &[(2, 10_000)]);
    assert_eq!(nodes[0].cli(["rollback", "shop"]).code, 0);
    follow(&nodes, &[(1, 10_000)]);
    assert_eq!(deployed(&nodes[1], &app("3", ""), &[]), 3);
}
