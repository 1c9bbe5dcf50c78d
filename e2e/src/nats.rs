//! Servers of NATS, as a cluster of nodes needs them.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton_netns::Net;
use tempfile::TempDir;

use crate::http::Client;
use crate::node::wait_until;

/// How long a server, or three that find together, may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A server with JetStream, its files in a directory of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    directory: TempDir,
    name: String,
    host: Ipv4Addr,
    port: u16,
    monitor: u16,
    scheme: &'static str,
    login: String,
    child: Option<Child>,
}

/// The program: `BATON_NATS_SERVER`, or `nats-server` on `PATH`. Says loudly that there is none, or that it is too old.
fn program() -> Option<PathBuf> {
    let named = env::var_os("BATON_NATS_SERVER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        env::split_paths(&path).map(|place| place.join("nats-server")).find(|path| path.is_file())
    });
    let Some(program) = found else {
        println!("SKIP: there is no nats-server on PATH, nor does BATON_NATS_SERVER name one");
        return None;
    };
    let output = Command::new(&program).arg("--version").output().expect("nats-server says its version");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    // As `nats-server: v2.9.10`.
    let minor = version.split_once("v2.").and_then(|(_, rest)| rest.split('.').next()?.trim().parse().ok());
    if minor.is_some_and(|minor: u32| minor < 10) {
        println!("SKIP: {} is too old: {version}", program.display());
        return None;
    }
    Some(program)
}

/// A port of loopback that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("loopback has free ports").port()
}

impl Nats {
    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One server; `None` where there is no program.
    pub fn start() -> Option<Self> {
        let mut server = Self::prepare(program()?, "alone", "");
        server.restart();
        Some(server)
    }

    /// One server that talks to nobody without a certificate of its authority; files in PEM.
    pub fn start_encrypted(cert: &Path, key: &Path, ca: &Path) -> Option<Self> {
        let tls = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            cert.display(),
            key.display(),
            ca.display()
        );
        let mut server = Self::prepare(program()?, "alone", &tls);
        server.scheme = "tls";
        server.restart();
        Some(server)
    }

    /// One server that asks for a user and a password.
    pub fn start_guarded(user: &str, password: &str) -> Option<Self> {
        let guard = format!("authorization {{ user: {user}, password: \"{password}\" }}\n");
        let mut server = Self::prepare(program()?, "alone", &guard);
        server.login = format!("{user}:{password}@");
        server.restart();
        Some(server)
    }

    /// Three servers that keep three copies; `None` where there is no program.
    pub fn three() -> Option<[Self; 3]> {
        let program = program()?;
        let ports = [free_port(), free_port(), free_port()];
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let member = |number: usize| {
            let cluster = format!(
                "cluster {{ name: three, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                ports[number],
                routes.join(", ")
            );
            let mut server = Self::prepare(program.clone(), &format!("s{number}"), &cluster);
            server.launch();
            server
        };
        let mut servers = [member(0), member(1), member(2)];
        servers.iter_mut().for_each(Self::wait_ready);
        Some(servers)
    }

    /// One server in the hub of a network; `None` where there is no program. The calling thread is in that hub.
    pub fn start_in_hub(net: &Net) -> Option<Self> {
        let mut server = Self::prepare_at(program()?, "alone", "", net.hub_address());
        server.restart();
        Some(server)
    }

    fn prepare(program: PathBuf, name: &str, cluster: &str) -> Self {
        Self::prepare_at(program, name, cluster, Ipv4Addr::LOCALHOST)
    }

    fn prepare_at(program: PathBuf, name: &str, cluster: &str, host: Ipv4Addr) -> Self {
        let directory = tempfile::Builder::new().prefix("baton-nats-").tempdir().expect("a directory");
        let (port, monitor) = (free_port(), free_port());
        let store = directory.path().join("jetstream");
        let config = format!(
            "server_name: {name}\nlisten: \"{host}:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always, max_mem: 64MB, max_file: 1GB }}\n{cluster}",
            store.display()
        );
        fs::write(directory.path().join("server.conf"), config).expect("the configuration can be written");
        Self {
            program,
            directory,
            name: name.to_owned(),
            host,
            port,
            monitor,
            scheme: "nats",
            login: String::new(),
            child: None,
        }
    }

    fn launch(&mut self) {
        let at = self.directory.path();
        let log = File::options().append(true).create(true).open(at.join("server.log"));
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(at.join("server.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log file"));
        self.child = Some(command.spawn().expect("nats-server starts"));
    }

    fn wait_ready(&mut self) {
        let monitor = SocketAddr::from(([127, 0, 0, 1], self.monitor));
        wait_until(READY_WITHIN, "nats-server is healthy", || {
            let child = self.child.as_mut().expect("it was started");
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "nats-server ended: {ended:?}");
            let answer = Client::connect(monitor).ok().map(|mut client| {
                client.request("GET", "/healthz", &[], b"").is_ok_and(|answer| answer.status == 200)
            });
            answer == Some(true)
        });
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("{}://{}{}:{}", self.scheme, self.login, self.host, self.port)
    }

    /// Its name among the servers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it with the files that it left, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
        self.wait_ready();
    }

    /// Throws its files away. It must not run.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "the server runs");
        fs::remove_dir_all(self.directory.path().join("jetstream")).expect("it had files");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("---- {}'s words, the last first ----\n{}", self.name, tail.join("\n"));
        }
        self.kill();
    }
}
