//! A running node, and the command line that talks to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use baton_netns::Net;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::App;
use crate::http::{Client, Response};
use crate::machine::{NODES, baton, nodes};
use crate::members::deploy;
use crate::nats::Nats;
use crate::process;

/// How long a node may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long a verb may take, unless it builds.
const VERB_LIMIT: Duration = Duration::from_secs(150);
/// How often something is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A node that runs in the foreground of a process of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    child: Child,
    home: TempDir,
    app: String,
    /// The other nodes of its cluster, and the server between them, where the test's app is on several.
    pub(crate) others: Vec<Node>,
    _servers: Option<Nats>,
    /// The network that it is in, and its place there, if that is not everybody's.
    seat: Option<(Arc<Net>, usize)>,
    /// Where requests go.
    pub gateway: SocketAddr,
    /// The admin API on TCP.
    pub admin: SocketAddr,
    /// The Lambda API, if it was started with one.
    pub lambda: Option<SocketAddr>,
    /// What the admin API wants to be shown.
    pub token: String,
}

/// What a verb left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Finished {
    /// Its output, one JSON value.
    pub fn json(&self) -> Value {
        let Self { code, stdout, stderr } = self;
        serde_json::from_str(stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}), code {code}: {stdout}\n{stderr}"))
    }

    /// Its output, one JSON value a line.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// Runs the command line with a state directory, to its end or the limit's.
pub fn cli<S: AsRef<OsStr>>(home: &Path, args: impl IntoIterator<Item = S>) -> Finished {
    let mut command = Command::new(baton());
    command.args(args).env("BATON_HOME", home).env_remove("CARGO_TARGET_DIR");
    let (out, err) = (home.join(".stdout"), home.join(".stderr"));
    // Files, not pipes: nothing that stays behind can keep this waiting.
    let unique = format!("{:?}-{:?}", thread::current().id(), Instant::now());
    let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
    let (out, err) = (out.with_extension(&unique), err.with_extension(&unique));
    let file = |path: &Path| File::create(path).expect("the state directory can be written");
    let child = command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err)).spawn();
    let mut child = child.expect("the program starts");
    let status = wait(&mut child, VERB_LIMIT);
    let read = |path: &PathBuf| {
        let text = fs::read(path).unwrap_or_default();
        let _ = fs::remove_file(path);
        String::from_utf8_lossy(&text).into_owned()
    };
    Finished { code: status.code().unwrap_or(-1), stdout: read(&out), stderr: read(&err) }
}

/// Waits for the end; kills and panics when the limit ends first.
fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            panic!("still running after {limit:?}");
        }
        thread::sleep(POLL);
    }
}

/// Looks until it is so, or panics with what was waited for.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < until, "not so within {limit:?}: {what}");
        thread::sleep(POLL);
    }
}

impl Node {
    /// `baton up` with a state directory of its own.
    pub fn start(app: &App) -> Self {
        Self::start_with(app, &[])
    }

    /// `baton up` with more arguments.
    pub fn start_with(app: &App, args: &[&str]) -> Self {
        if nodes() > 1 {
            return Self::start_several(app, args);
        }
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        let directory = app.directory().as_os_str().to_owned();
        let mut all = vec!["up".into(), directory, "--no-build".into()];
        all.extend(args.iter().map(|arg| arg.into()));
        Self::launch(home, app.name(), &all)
    }

    /// As [`Node::start`], by a program that goes on as the one that follows its arguments.
    pub fn start_under(wrapper: &[&str], app: &App) -> Self {
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        let mut command = Command::new(wrapper.first().expect("a program"));
        command.args(wrapper.iter().skip(1)).arg(baton()).arg("up").arg(app.directory());
        let args = ["--no-build", "--port", "0", "--json"].map(Into::into);
        Self::launch_by(command, home, app.name(), &args, None)
    }

    /// Nodes of one cluster with the app's functions laid over them; requests go to the first.
    fn start_several(app: &App, args: &[&str]) -> Self {
        let servers = Nats::start().expect("nodes need a nats-server between them");
        let member = |(number, name): (usize, &&str)| {
            Self::member_with(&servers.url(), name, &format!("127.0.0.{}", number + 1), app.name(), args)
        };
        let mut members: Vec<Node> = NODES.iter().take(nodes()).enumerate().map(member).collect();
        deploy(&members, app);
        let mut first = members.remove(0);
        first.others = members;
        first._servers = Some(servers);
        first
    }

    /// `baton up` as a person runs it in a project: it builds first.
    pub fn up(project: &Path, app: &str) -> Self {
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        Self::launch(home, app, &["up".into(), project.as_os_str().to_owned()])
    }

    /// `baton node` with nothing deployed, and more arguments.
    pub fn bare(app: &str, args: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        Self::restart_with(home, app, args)
    }

    /// `baton node` with the state directory of one that has ended, and more arguments.
    pub fn restart_with(home: TempDir, app: &str, args: &[&str]) -> Self {
        let all = std::iter::once(&"node").chain(args).map(Into::into).collect::<Vec<_>>();
        Self::launch(home, app, &all)
    }

    /// `baton node` with the state directory of one that has ended.
    pub fn restart(home: TempDir, app: &str) -> Self {
        Self::launch(home, app, &["node".into()])
    }

    /// `baton node` as one of several, known to the others by `name` and at an address of loopback.
    pub fn member(servers: &str, name: &str, address: &str, app: &str) -> Self {
        Self::member_with(servers, name, address, app, &[])
    }

    /// The same with more arguments.
    pub fn member_with(servers: &str, name: &str, address: &str, app: &str, more: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        let listen = format!("{address}:0");
        let mut args = vec!["node", "--cluster", servers, "--name", name, "--cluster-listen", &listen];
        args.extend(more);
        Self::launch(home, app, &args.into_iter().map(Into::into).collect::<Vec<_>>())
    }

    /// The same with the state directory of one that has ended.
    pub fn member_again(home: TempDir, servers: &str, name: &str, address: &str, app: &str) -> Self {
        let listen = format!("{address}:0");
        let args = ["node", "--cluster", servers, "--name", name, "--cluster-listen", &listen];
        Self::launch(home, app, &args.map(Into::into))
    }

    /// A member of a cluster in a network of the test's own. Requests reach it from the network's hub.
    pub fn member_in(net: &Arc<Net>, seat: usize, servers: &str, name: &str, app: &str) -> Self {
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        Self::member_in_again(home, (net, seat), servers, name, app)
    }

    /// The same with the state directory of one that has ended.
    pub fn member_in_again(
        home: TempDir,
        (net, seat): (&Arc<Net>, usize),
        servers: &str,
        name: &str,
        app: &str,
    ) -> Self {
        let listen = format!("{}:0", net.address(seat));
        let args =
            ["node", "--cluster", servers, "--name", name, "--cluster-listen", &listen, "--listen", &listen];
        let args = args.iter().chain(&["--admin", "127.0.0.1:0", "--insecure-plaintext", "--json"]);
        let args: Vec<std::ffi::OsString> = args.map(Into::into).collect();
        Self::launch_by(net.command(seat, baton()), home, app, &args, Some((Arc::clone(net), seat)))
    }

    fn launch(home: TempDir, app: &str, args: &[std::ffi::OsString]) -> Self {
        let mut all = args.to_vec();
        all.extend(["--port", "0", "--json"].map(Into::into));
        Self::launch_by(Command::new(baton()), home, app, &all, None)
    }

    fn launch_by(
        mut command: Command,
        home: TempDir,
        app: &str,
        args: &[std::ffi::OsString],
        seat: Option<(Arc<Net>, usize)>,
    ) -> Self {
        let log = File::options().append(true).create(true).open(home.path().join("node.log"));
        command.args(args).env("BATON_HOME", home.path());
        command.env_remove("CARGO_TARGET_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.expect("a log file"));
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::sync_channel(1);
        // The pipe stays open as long as the node: a node that prints to a closed one would fail.
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                let _ = sender.try_send(std::mem::take(&mut line));
            }
        });
        let Ok(line) = receiver.recv_timeout(READY_WITHIN) else {
            let _ = child.kill();
            let status = child.wait();
            let log = fs::read_to_string(home.path().join("node.log")).unwrap_or_default();
            panic!("the node did not become ready ({status:?}):\n{log}");
        };
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        let address = |name: &str| {
            let text = ready[name].as_str().unwrap_or_default();
            text.parse().unwrap_or_else(|_| panic!("no address {name} in {line}"))
        };
        assert_eq!(ready["pid"], child.id());
        let token = ready["token"].as_str().expect("a token").to_owned();
        let (gateway, admin) = (address("gateway"), address("admin"));
        let lambda = ready["lambda"].as_str().and_then(|text| text.parse().ok());
        let (others, _servers) = (Vec::new(), None);
        Self { gateway, admin, lambda, token, child, home, app: app.to_owned(), others, _servers, seat }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The app that it was started with.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Its state directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it said so far on standard error.
    pub fn words(&self) -> String {
        fs::read_to_string(self.home.path().join("node.log")).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(process::signal(self.pid(), signal), "the node is gone");
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait(&mut self.child, limit)
    }

    /// Kills it without warning and gives the state directory that it leaves behind.
    pub fn kill(mut self) -> TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let empty = tempfile::tempdir().expect("a directory");
        std::mem::replace(&mut self.home, empty)
    }

    /// Runs the command line against it.
    pub fn cli<const N: usize>(&self, args: [&str; N]) -> Finished {
        cli(self.home.path(), args)
    }

    // ---- requests -------------------------------------------------------------------------------------------

    /// A new connection to the gateway.
    pub fn http(&self) -> Client {
        Client::connect(self.gateway).expect("the gateway accepts connections")
    }

    /// A request on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        self.http().request("GET", target, &[], b"").expect("an answer")
    }

    /// A request with a body on a connection of its own.
    pub fn post(&self, target: &str, body: &[u8]) -> Response {
        self.http().request("POST", target, &[], body).expect("an answer")
    }

    /// Sends a request from a thread of its own.
    pub fn in_background(&self, target: &str, body: &[u8]) -> thread::JoinHandle<Response> {
        let (gateway, target, body) = (self.gateway, target.to_owned(), body.to_vec());
        thread::spawn(move || {
            let mut client = Client::connect(gateway).expect("the gateway accepts connections");
            client.request("POST", &target, &[], &body).expect("an answer")
        })
    }

    /// As [`Node::in_background`] for a node that may not live to answer.
    pub fn in_background_lossy(&self, target: &str, body: &[u8]) -> thread::JoinHandle<Option<Response>> {
        let (gateway, target, body) = (self.gateway, target.to_owned(), body.to_vec());
        thread::spawn(move || Client::connect(gateway).ok()?.request("POST", &target, &[], &body).ok())
    }

    /// Tells the admin API something.
    pub fn put(&self, path: &str, body: &str) {
        let token = format!("Bearer {}", self.token);
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let mut client = Client::connect(self.admin).expect("the admin API accepts connections");
        let answer = client.request("PUT", path, &headers, body.as_bytes()).expect("an answer");
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
    }

    /// Asks the admin API.
    pub fn ask(&self, path: &str) -> Value {
        let token = format!("Bearer {}", self.token);
        let ask = || {
            let mut client = Client::connect(self.admin).expect("the admin API accepts connections");
            client.request("GET", path, &[("authorization", &token)], b"").expect("an answer")
        };
        let answer = match &self.seat {
            Some((net, seat)) => net.inside(*seat, ask).expect("a thread there"),
            None => ask(),
        };
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    // ---- what there is to know ------------------------------------------------------------------------------

    /// Its own app, as `ps` shows it.
    pub fn status(&self) -> Value {
        let apps = self.ask("/v1/apps");
        let apps = apps["apps"].as_array().expect("a list of apps");
        apps.iter().find(|app| app["app"] == self.app.as_str()).expect("the app runs").clone()
    }

    /// One function, as `ps` shows it on a node that hosts it.
    pub fn function(&self, name: &str) -> Value {
        let own = |node: &Node| {
            let status = node.status();
            let functions = status["functions"].as_array().expect("a list of functions");
            functions.iter().find(|function| function["function"] == name).expect("the function runs").clone()
        };
        let mut all = self.all().map(own);
        let first = all.next().expect("there is one node at least");
        if first["runs_as"] != "elsewhere" {
            return first;
        }
        all.find(|function| function["runs_as"] != "elsewhere").unwrap_or(first)
    }

    /// It and the others of its cluster that the test's app is on.
    fn all(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(self).chain(&self.others)
    }

    /// The process of a function's only replica; `None` while it is down.
    pub fn replica(&self, function: &str) -> Option<u32> {
        let function = self.function(function);
        let replica = function["replicas"].as_array()?.iter().find(|replica| replica["state"] == "ready")?;
        u32::try_from(replica["pid"].as_u64()?).ok().filter(|&pid| pid != 0)
    }

    /// All processes of replicas.
    pub fn replicas(&self) -> Vec<u32> {
        let functions: Vec<Value> = (self.all())
            .flat_map(|node| node.status()["functions"].as_array().cloned().unwrap_or_default())
            .collect();
        let replicas = functions.iter().flat_map(|f| f["replicas"].as_array().cloned().unwrap_or_default());
        let pids = replicas.filter_map(|replica| u32::try_from(replica["pid"].as_u64()?).ok());
        pids.filter(|&pid| pid != 0).collect()
    }

    /// Times that a function's replicas were replaced.
    pub fn restarts(&self, function: &str) -> u64 {
        let function = self.function(function);
        let replicas = function["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().filter_map(|replica| replica["restarts"].as_u64()).max().unwrap_or(0)
    }

    /// Faults of a function that its cell outlived.
    pub fn faults(&self, function: &str) -> u64 {
        self.function(function)["faults"].as_u64().unwrap_or(0)
    }

    /// Buffers that carry something.
    pub fn buffers_in_use(&self) -> u64 {
        self.all().map(Node::own_buffers_in_use).sum()
    }

    fn own_buffers_in_use(&self) -> u64 {
        let pool = self.ask(&format!("/v1/apps/{}/pool", self.app));
        assert_eq!(pool["buffers_in_use"].as_u64().map(|n| n < 1 << 30), Some(true), "{pool}");
        pool["buffers_in_use"].as_u64().expect("a number") + pool["orphans"].as_u64().expect("a number")
    }

    /// Waits until every buffer is back.
    #[track_caller]
    pub fn wait_at_rest(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.buffers_in_use() != 0 {
            let late =
                || format!("{}\n{}", self.ask("/v1/caps"), self.ask(&format!("/v1/apps/{}/pool", self.app)));
            assert!(Instant::now() < until, "buffers are not back within {limit:?}: {}", late());
            thread::sleep(POLL);
        }
    }

    /// Waits until a function answers again; gives its new replica.
    #[track_caller]
    pub fn wait_for_replica(&self, function: &str, other_than: u32, limit: Duration) -> u32 {
        let mut found = 0;
        wait_until(limit, "another replica is ready", || match self.replica(function) {
            Some(pid) if pid != other_than => {
                found = pid;
                true
            }
            _ => false,
        });
        found
    }

    /// Every log line's message of a function, or of the node's about the app.
    pub fn log_of(&self, function: &str) -> Vec<String> {
        let own = |node: &Node| {
            let (mut lines, mut after) = (Vec::new(), 0);
            loop {
                let page = node.ask(&format!("/v1/logs?app={}&after={after}", node.app));
                let more = page["lines"].as_array().cloned().unwrap_or_default();
                if more.is_empty() {
                    return lines;
                }
                lines.extend(more);
                after = page["next"].as_u64().unwrap_or(u64::MAX);
            }
        };
        let of = self.all().flat_map(own).filter(|line| line["function"] == function);
        of.filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- the node's words ----\n{}", self.words());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
