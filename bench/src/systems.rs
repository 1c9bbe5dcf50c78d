//! The systems under test, started the way a comparison needs them: all of one system's processes on one core.

mod deploy;
mod nginx;
mod workerd;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use baton_netns::NetError;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::app::{App, AppError};
use crate::load::get;
use crate::locate;
use crate::proc::{self, ProcError, Server, ServerSpec, StartError, Usage};

pub use self::workerd::start_workerd;
pub(crate) use deploy::deploy_at;
pub use deploy::{deploy, deploy_beside, deploy_directory};
pub(crate) use nginx::{free_addresses, start_nginx};

/// How long a server may take to be ready; apps are built before.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The state directory of a node, below the directory that is made for it.
const HOME: &str = "home";

/// How long a node may take to say what it runs.
const STATUS_WITHIN: Duration = Duration::from_secs(10);

/// The boutique's services in the order of their start: each is told the addresses of those before it.
pub(crate) const BOUTIQUE_SERVICES: [&str; 10] = [
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
    /// Further words for `baton up`.
    pub more: Vec<OsString>,
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
            more: Vec::new(),
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
    /// Another variant was not deployed.
    Deploy {
        /// The app.
        app: String,
        /// What `baton deploy` said.
        status: String,
    },
    /// The app's manifest is not usable.
    App(AppError),
    /// Its state directory could not be made.
    State(io::Error),
    /// There is no network of the suite's own.
    Net(NetError),
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(program) => write!(f, "{} is not installed; build it first", program.display()),
            Self::Build { app, status } => write!(f, "`baton build {}` failed: {status}", app.display()),
            Self::Deploy { app, status } => write!(f, "`baton deploy` of {app} failed: {status}"),
            Self::App(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::State(error) => write!(f, "no state directory: {error}"),
            Self::Net(error) => error.fmt(f),
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
    state: Option<TempDir>,
    /// What a server in front keeps.
    beside: Option<TempDir>,
}

impl Fleet {
    /// Servers that keep their state elsewhere.
    pub(crate) fn of(system: &str, address: SocketAddr, admin: Option<Admin>, servers: Vec<Server>) -> Self {
        Self { system: system.into(), address, admin, servers, state: None, beside: None }
    }

    /// The same behind another server, which keeps its state in `state`.
    pub(crate) fn behind(mut self, address: SocketAddr, server: Server, state: TempDir) -> Self {
        self.address = address;
        self.servers.push(server);
        self.beside = Some(state);
        self
    }

    /// What the node says about its apps; nothing where the system is not Baton, or does not say.
    #[must_use]
    pub fn apps(&self) -> Vec<Value> {
        let Some(admin) = &self.admin else { return Vec::new() };
        let answer = get(admin.address, "/v1/apps", Some(&admin.token), STATUS_WITHIN);
        let list: Value =
            answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default();
        list["apps"].as_array().cloned().unwrap_or_default()
    }

    /// How often a replica was replaced after its death or a compartment reset after a fault.
    #[must_use]
    pub fn losses(&self) -> u64 {
        let apps = self.apps();
        let functions = apps.iter().filter_map(|app| app["functions"].as_array()).flatten();
        functions.map(losses_of).sum()
    }

    /// The process that was started first.
    #[must_use]
    pub fn root(&self) -> Option<u32> {
        self.servers.first().map(Server::pid)
    }

    /// All threads of all its processes.
    #[must_use]
    pub fn threads(&self) -> Vec<u32> {
        let roots = self.servers.iter().map(Server::pid);
        let all = roots.flat_map(|root| std::iter::once(root).chain(proc::descendants(root)));
        all.flat_map(proc::threads).collect()
    }

    /// The node's state directory, where the system is Baton.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|state| state.path().join(HOME))
    }

    /// What all servers have used so far.
    pub fn usage(&self) -> Result<Usage, ProcError> {
        let mut sum = Usage::default();
        for server in &self.servers {
            let usage = server.usage()?;
            sum.cpu += usage.cpu;
            sum.root_cpu += usage.root_cpu;
            sum.rss_kib += usage.rss_kib;
            sum.root_rss_kib += usage.root_rss_kib;
            sum.processes += usage.processes;
            sum.switches += usage.switches;
        }
        Ok(sum)
    }
}

/// What `baton build --json` prints.
#[derive(Deserialize)]
struct BuildLine {
    artifacts: BTreeMap<String, PathBuf>,
}

fn losses_of(function: &Value) -> u64 {
    // All replicas of a function show the same counter.
    let restarts =
        function["replicas"].as_array().into_iter().flatten().filter_map(|r| r["restarts"].as_u64());
    restarts.max().unwrap_or(0) + function["faults"].as_u64().unwrap_or(0)
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

pub(crate) fn node_ready(line: &str) -> Option<(SocketAddr, Admin)> {
    let ready: ReadyLine = serde_json::from_str(line).ok()?;
    let admin = Admin { address: resolve(&ready.admin)?, token: ready.token };
    Some((resolve(&ready.gateway)?, admin))
}

pub(crate) fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening ").and_then(resolve)
}

/// Builds an app on all cores, before anything is placed or timed.
pub fn build(setup: &Setup, directory: &Path) -> Result<App, SystemError> {
    let artifacts = artifacts(setup, directory)?;
    App::read(directory, &artifacts).map_err(SystemError::App)
}

/// Builds an app, and says where the executables of its functions are.
pub(crate) fn artifacts(setup: &Setup, directory: &Path) -> Result<BTreeMap<String, PathBuf>, SystemError> {
    let failed = |status: String| SystemError::Build { app: directory.into(), status };
    let mut command = Command::new(&setup.baton);
    // It keeps no state there; it only wants to know where.
    command.arg("build").arg(directory).arg("--json").env("BATON_HOME", std::env::temp_dir());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return SystemError::Missing(setup.baton.clone());
        }
        failed(error.to_string())
    })?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let built: BuildLine =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    Ok(built.artifacts)
}

/// Starts a node with an app.
pub fn start_app(setup: &Setup, system: &str, app: &App) -> Result<Fleet, SystemError> {
    let state = tempfile::tempdir().map_err(SystemError::State)?;
    let directory = state.path().join("app");
    app.write(&directory).map_err(SystemError::App)?;
    up(setup, system, state, &["--no-build".as_ref(), directory.as_os_str()])
}

/// Starts a node with the app of a directory, as it is.
pub fn start_directory(setup: &Setup, system: &str, directory: &Path) -> Result<Fleet, SystemError> {
    let state = tempfile::tempdir().map_err(SystemError::State)?;
    up(setup, system, state, &[directory.as_os_str()])
}

fn up(setup: &Setup, system: &str, state: TempDir, more: &[&OsStr]) -> Result<Fleet, SystemError> {
    let mut args: Vec<OsString> = ["up", "--port", "0", "--json", "--cores"].map(OsString::from).to_vec();
    args.push(setup.server_core.to_string().into());
    args.extend(setup.receipts.then(|| "--receipts".into()));
    args.extend(setup.more.iter().cloned());
    args.extend(more.iter().map(OsString::from));
    let home = state.path().join(HOME);
    let spec = ServerSpec {
        name: system.into(),
        program: setup.baton.clone(),
        args,
        env: vec![("BATON_HOME".into(), home.into())],
        core: Some(setup.server_core),
        ready_within: READY_WITHIN,
    };
    node_fleet(system, &spec, state)
}

/// Starts a node without any app, on all cores.
pub fn start_node(setup: &Setup, system: &str) -> Result<Fleet, SystemError> {
    let state = tempfile::tempdir().map_err(SystemError::State)?;
    let spec = ServerSpec {
        name: system.into(),
        program: setup.baton.clone(),
        args: ["node", "--port", "0", "--json"].map(OsString::from).to_vec(),
        env: vec![("BATON_HOME".into(), state.path().join(HOME).into())],
        core: None,
        ready_within: READY_WITHIN,
    };
    node_fleet(system, &spec, state)
}

fn node_fleet(system: &str, spec: &ServerSpec, state: TempDir) -> Result<Fleet, SystemError> {
    let (server, (address, admin)) = Server::start(spec, node_ready)?;
    Ok(Fleet {
        system: system.into(),
        address,
        admin: Some(admin),
        servers: vec![server],
        state: Some(state),
        beside: None,
    })
}

pub(crate) fn start_yardstick(
    setup: &Setup,
    name: &str,
    args: &[&str],
) -> Result<(Server, SocketAddr), SystemError> {
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
    Ok(Fleet::of(system, address, None, vec![server]))
}

/// Starts another's server, which says where it listens by the first URL that it prints.
pub fn start_server(
    setup: &Setup,
    system: &str,
    program: &Path,
    args: Vec<OsString>,
) -> Result<Fleet, SystemError> {
    // A shell puts both of its outputs into one; it is not there any more when the server runs.
    let mut all: Vec<OsString> = vec!["-c".into(), "exec \"$0\" \"$@\" 2>&1".into(), program.into()];
    all.extend(args);
    let spec = ServerSpec {
        name: system.into(),
        program: "sh".into(),
        args: all,
        env: Vec::new(),
        core: Some(setup.server_core),
        ready_within: READY_WITHIN,
    };
    if !is_there(program) {
        return Err(SystemError::Missing(program.into()));
    }
    let (server, address) = Server::start(&spec, url_in)?;
    Ok(Fleet::of(system, address, None, vec![server]))
}

/// Whether a program is at its path, or on `PATH`.
pub(crate) fn is_there(program: &Path) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let bare = program.components().count() == 1;
    program.is_file() || bare && std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}

/// Where a server says that it listens: in a URL, or in workerd's `{"event":"listen","socket":"http","port":1234}`.
fn url_in(line: &str) -> Option<SocketAddr> {
    if let Some((_, rest)) = line.split_once("http://") {
        let end = rest.find(|letter: char| !(letter.is_ascii_digit() || ".:".contains(letter)));
        return resolve(rest.get(..end.unwrap_or(rest.len()))?);
    }
    let told: Value = serde_json::from_str(line).ok()?;
    let port = told.get("port")?.as_u64().filter(|_| told["event"] == "listen")?;
    Some(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?)))
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
    Ok(Fleet::of("grpc", address, None, servers))
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
    fn servers_of_others_say_where_they_listen() {
        assert_eq!(url_in("Serving HTTP on http://127.0.0.1:8123/").unwrap().port(), 8123);
        assert_eq!(url_in(r#"{"event":"listen","socket":"http","port":9}"#).unwrap().port(), 9);
        assert!(url_in("compiling").is_none() && url_in(r#"{"event":"listen-failed"}"#).is_none());
        assert!(is_there(Path::new("sh")) && !is_there(Path::new("no-such-program-here")));
    }

    #[test]
    fn deaths_count_once_a_function_and_faults_each() {
        let replica = serde_json::json!({"restarts": 2});
        let function = serde_json::json!({"replicas": [replica, replica], "faults": 3});
        assert_eq!(losses_of(&function), 5);
        assert_eq!(losses_of(&serde_json::json!({"replicas": []})), 0);
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
