//! The systems under test, started the way a comparison needs them: all of one system's processes on one core.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::locate;
use crate::proc::{ProcError, Server, ServerSpec, StartError, Usage};

/// How long a server may take to be ready; apps are built before.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The boutique's services in the order of their start: each is told the addresses of those before it.
const BOUTIQUE_SERVICES: [&str; 10] = [
    "catalog",
    "currency",
    "cart",
    "shipping",
    "payment",
    "email",
    "ad",
    "recommendation",
    "checkout",
    "frontend",
];

/// The programs and the placement of a run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The `baton` program.
    pub baton: PathBuf,
    /// The gRPC yardstick's program.
    pub grpc: PathBuf,
    /// The core of the systems under test.
    pub server_core: usize,
    /// The core of the load generator.
    pub load_core: usize,
    /// Whether Baton records receipts.
    pub receipts: bool,
}

impl Setup {
    /// Programs beside this one; the first two cores that this process may use.
    #[must_use]
    pub fn default_here() -> Self {
        let cores = crate::proc::affinity();
        let server_core = cores.first().copied().unwrap_or(0);
        Self {
            baton: locate::program("baton"),
            grpc: locate::program("baton-bench-grpc"),
            server_core,
            load_core: cores.get(1).copied().unwrap_or(server_core),
            receipts: false,
        }
    }
}

/// Why a system is not there.
#[derive(Debug)]
pub enum SystemError {
    /// A program is not installed.
    Missing(PathBuf),
    /// The app did not build.
    Build {
        /// The app.
        app: PathBuf,
        /// How `baton build` ended.
        status: String,
    },
    /// A server did not start.
    Start(StartError),
    /// Its state directory could not be made.
    State(io::Error),
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(program) => write!(f, "{} is not installed; build it first", program.display()),
            Self::Build { app, status } => write!(f, "`baton build {}` failed: {status}", app.display()),
            Self::Start(error) => error.fmt(f),
            Self::State(error) => write!(f, "no state directory: {error}"),
        }
    }
}

impl std::error::Error for SystemError {}

impl From<StartError> for SystemError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Spawn { program, error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Self::Missing(program)
            }
            error => Self::Start(error),
        }
    }
}

/// Where and how a node's admin API is reached.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Its address.
    pub address: SocketAddr,
    /// Its token.
    pub token: String,
}

/// The servers of one system; dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    /// The system's name in rows.
    pub system: String,
    /// Where requests go.
    pub address: SocketAddr,
    /// The node's admin API, where the system is Baton.
    pub admin: Option<Admin>,
    servers: Vec<Server>,
    _state: Option<TempDir>,
}

impl Fleet {
    /// What all servers have used so far.
    pub fn usage(&self) -> Result<Usage, ProcError> {
        let mut sum = Usage::default();
        for server in &self.servers {
            let usage = server.usage()?;
            sum.cpu += usage.cpu;
            sum.rss_kib += usage.rss_kib;
            sum.root_rss_kib += usage.root_rss_kib;
            sum.processes += usage.processes;
        }
        Ok(sum)
    }
}

#[derive(Deserialize)]
struct ReadyLine {
    gateway: String,
    admin: String,
    token: String,
}

fn resolve(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}

fn node_ready(line: &str) -> Option<(SocketAddr, Admin)> {
    let ready: ReadyLine = serde_json::from_str(line).ok()?;
    let admin = Admin { address: resolve(&ready.admin)?, token: ready.token };
    Some((resolve(&ready.gateway)?, admin))
}

fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening ").and_then(resolve)
}

/// Builds an app and starts a node with it.
pub fn start_baton(setup: &Setup, system: &str, app: &Path) -> Result<Fleet, SystemError> {
    let state = tempfile::tempdir().map_err(SystemError::State)?;
    build(setup, app, state.path())?;
    let mut args: Vec<OsString> = ["up", "--port", "0", "--json", "--cores"].map(OsString::from).to_vec();
    args.push(setup.server_core.to_string().into());
    if setup.receipts {
        args.push("--receipts".into());
    }
    args.push(app.into());
    let spec = ServerSpec {
        name: system.into(),
        program: setup.baton.clone(),
        args,
        env: vec![("BATON_HOME".into(), state.path().into())],
        core: Some(setup.server_core),
        ready_within: READY_WITHIN,
    };
    let (server, (address, admin)) = Server::start(&spec, node_ready)?;
    Ok(Fleet {
        system: system.into(),
        address,
        admin: Some(admin),
        servers: vec![server],
        _state: Some(state),
    })
}

/// Builds on all cores, before anything is placed or timed.
fn build(setup: &Setup, app: &Path, state: &Path) -> Result<(), SystemError> {
    let status = Command::new(&setup.baton)
        .arg("build")
        .arg(app)
        .env("BATON_HOME", state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(SystemError::Build { app: app.into(), status: status.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SystemError::Missing(setup.baton.clone()))
        }
        Err(error) => Err(SystemError::Build { app: app.into(), status: error.to_string() }),
    }
}

fn start_yardstick(setup: &Setup, name: &str, args: &[&str]) -> Result<(Server, SocketAddr), SystemError> {
    let spec = ServerSpec {
        name: name.into(),
        program: setup.grpc.clone(),
        args: args.iter().map(OsString::from).collect(),
        env: Vec::new(),
        core: Some(setup.server_core),
        ready_within: READY_WITHIN,
    };
    Ok(Server::start(&spec, listening)?)
}

/// Starts one sub-command of the yardsticks' program, such as `hyper` or `hop-server`.
pub fn start_single(setup: &Setup, system: &str, command: &str) -> Result<Fleet, SystemError> {
    let (server, address) = start_yardstick(setup, system, &[command, "--listen", "127.0.0.1:0"])?;
    Ok(Fleet { system: system.into(), address, admin: None, servers: vec![server], _state: None })
}

/// Starts the boutique as ten gRPC services.
pub fn start_grpc_boutique(setup: &Setup) -> Result<Fleet, SystemError> {
    let mut servers = Vec::new();
    let mut peers = Vec::new();
    let mut entry = None;
    for service in BOUTIQUE_SERVICES {
        let known = peers.join(",");
        let mut args = vec![service, "--listen", "127.0.0.1:0"];
        if !known.is_empty() {
            args.extend(["--peers", &known]);
        }
        let (server, address) = start_yardstick(setup, service, &args)?;
        servers.push(server);
        peers.push(format!("{service}={address}"));
        entry = Some(address);
    }
    let address = entry.ok_or_else(|| SystemError::Missing(setup.grpc.clone()))?;
    Ok(Fleet { system: "grpc".into(), address, admin: None, servers, _state: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_lines_are_understood() {
        let line = r#"{"gateway":"127.0.0.1:4000","admin":"127.0.0.1:4001","token":"t","apps":["x"]}"#;
        let (gateway, admin) = node_ready(line).unwrap();
        assert_eq!((gateway.port(), admin.address.port(), admin.token.as_str()), (4000, 4001, "t"));
        assert!(node_ready("building…").is_none());
        assert_eq!(listening("listening 127.0.0.1:9").unwrap().port(), 9);
        assert!(listening("hello").is_none());
    }

    #[test]
    fn a_missing_program_is_named() {
        let mut setup = Setup::default_here();
        setup.grpc = "no-such-yardstick".into();
        let error = start_single(&setup, "hyper", "hyper").unwrap_err();
        assert!(matches!(&error, SystemError::Missing(_)), "{error}");
        assert!(error.to_string().contains("no-such-yardstick"));
    }
}
