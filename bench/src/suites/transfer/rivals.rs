//! How payloads go between machines today: stores on the consumer's machine, and couriers that use them. And `iperf3`.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::place::{Place, Site};
use crate::courier::Road;
use crate::locate;
use crate::proc::{self, Server};
use crate::suites::{SuiteError, or_note};
use crate::systems::{self, SystemError};
use crate::yardstick::RoundTrips;

const REDIS_PORT: u16 = 6379;
const S3_PORT: u16 = 8014;
const DAV_PORT: u16 = 8080;
const IPERF_PORT: u16 = 5201;
/// A directory in memory.
const TMPFS: &str = "/dev/shm";
/// How long nginx, which says nothing, may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A store with its consumer, or the consumer alone.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) system: &'static str,
    pub(super) case: &'static str,
    road: Road,
    consumer: SocketAddr,
    // The consumer first: it has a connection to the store.
    _servers: Vec<Server>,
    _files: Option<TempDir>,
}

/// Starts what is installed, notes what is not.
pub(super) fn start(place: &Place, notes: &mut Vec<String>) -> Result<Vec<Rival>, SuiteError> {
    let mut rivals = vec![Rival::of(place, ("tcp", "ping-pong"), Road::Tcp, None)?];
    rivals.extend(or_note(redis(place), "redis", notes)?);
    rivals.extend(or_note(s3(place), "s3", notes)?);
    rivals.extend(or_note(nginx(place), "nginx", notes)?);
    Ok(rivals)
}

fn this_program() -> Result<PathBuf, SystemError> {
    std::env::current_exe().map_err(SystemError::State)
}

impl Rival {
    fn of(
        place: &Place,
        (system, case): (&'static str, &'static str),
        road: Road,
        store: Option<(Server, Option<TempDir>)>,
    ) -> Result<Self, SystemError> {
        let listen = place.socket(Site::B, 0).to_string();
        let args =
            ["courier", "consume", "--listen", &listen, "--road", &road.to_string()].map(OsString::from);
        let program = this_program()?;
        let consumer = place.start((Site::B, true), system, (&program, args.to_vec()), systems::listening)?;
        let (consumer, address) = consumer;
        let (store, files) = store.map_or((None, None), |(store, files)| (Some(store), files));
        let servers = [consumer].into_iter().chain(store).collect();
        Ok(Self { system, case, road, consumer: address, _servers: servers, _files: files })
    }

    /// Has payloads carried, one after the other.
    pub(super) fn trips(
        &self,
        place: &Place,
        payload: u64,
        iterations: u64,
    ) -> Result<RoundTrips, SuiteError> {
        let more = ["--consumer".into(), self.consumer.to_string()];
        produce(place, self.system, &self.road, &more, (payload, iterations))
    }
}

/// Posts payloads to a function by HTTP.
pub(super) fn post(
    place: &Place,
    gateway: SocketAddr,
    payload: u64,
    iterations: u64,
) -> Result<RoundTrips, SuiteError> {
    produce(place, "baton", &Road::Function(gateway), &[], (payload, iterations))
}

fn produce(
    place: &Place,
    system: &str,
    road: &Road,
    more: &[String],
    (payload, iterations): (u64, u64),
) -> Result<RoundTrips, SuiteError> {
    let mut command = place.command(Site::A, &this_program()?);
    command.args(["courier", "produce", "--road", &road.to_string()]).args(more);
    command.args(["--payload", &payload.to_string(), "--iterations", &iterations.to_string()]);
    let printed = run(place, system, command)?;
    serde_json::from_slice(&printed).map_err(|error| answer(system, error.to_string()))
}

fn answer(system: &str, problem: String) -> SuiteError {
    SuiteError::Answer { system: system.to_owned(), problem }
}

/// Runs a client on the first machine's core; gives what it printed.
fn run(place: &Place, system: &str, mut command: Command) -> Result<Vec<u8>, SuiteError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = proc::pinned(place.core(Site::A), || command.output())?;
    let output = output.map_err(|error| SuiteError::Program { system: system.to_owned(), error })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stderr, output.stdout].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
    Err(answer(system, said.join(" ")))
}

fn redis(place: &Place) -> Result<Rival, SystemError> {
    let at = place.socket(Site::B, REDIS_PORT);
    let directory = place.directory("redis")?;
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let words =
        ["--bind", &address, "--port", &port, "--save", "", "--appendonly", "no", "--protected-mode", "no"];
    let mut args: Vec<OsString> = words.map(OsString::from).to_vec();
    args.extend(["--dir".into(), directory.into()]);
    let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
    let (server, ()) = place.start((Site::B, true), "redis", (Path::new("redis-server"), args), ready)?;
    Rival::of(place, ("redis", "put-get"), Road::Redis(at), Some((server, None)))
}

fn s3(place: &Place) -> Result<Rival, SystemError> {
    let at = place.socket(Site::B, S3_PORT);
    let files = in_memory()?;
    fs::create_dir(files.path().join("bench")).map_err(SystemError::State)?;
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let program = locate::tool("s3s-fs");
    if !systems::is_there(&program) {
        return Err(SystemError::Missing(program));
    }
    // Otherwise it does not say when it is ready; it logs nothing else then.
    let mut args: Vec<OsString> = vec!["RUST_LOG=s3s_fs=info".into(), program.into()];
    args.extend(["--host", &address, "--port", &port].map(OsString::from));
    args.push(files.path().into());
    let ready = |line: &str| line.contains("running").then_some(());
    let (server, ()) = place.start((Site::B, true), "s3", (Path::new("env"), args), ready)?;
    Rival::of(place, ("s3", "put-get"), Road::S3(at), Some((server, Some(files))))
}

fn nginx(place: &Place) -> Result<Rival, SystemError> {
    let at = place.socket(Site::B, DAV_PORT);
    let files = in_memory()?;
    let config = files.path().join("nginx.conf");
    fs::write(&config, nginx_config(files.path(), at)).map_err(SystemError::State)?;
    for directory in ["files", "parts"] {
        fs::create_dir(files.path().join(directory)).map_err(SystemError::State)?;
    }
    // Here it says something before it listens.
    let ready = |line: &str| line.contains("start worker process").then_some(());
    let args = vec!["-e".into(), "stderr".into(), "-c".into(), config.into()];
    let (server, ()) = place.start((Site::B, true), "nginx", (&locate::nginx(), args), ready)?;
    let until = Instant::now() + LISTENS_WITHIN;
    let listens = || std::net::TcpStream::connect_timeout(&at, LISTENS_WITHIN).is_ok();
    while !place.on_a(listens)? && Instant::now() < until {
        thread::sleep(LOOK);
    }
    Rival::of(place, ("nginx", "put-get"), Road::Dav(at), Some((server, Some(files))))
}

fn in_memory() -> Result<TempDir, SystemError> {
    tempfile::Builder::new().prefix("baton-transfer-").tempdir_in(TMPFS).map_err(SystemError::State)
}

fn nginx_config(files: &Path, at: SocketAddr) -> String {
    let files = files.display();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {files}/nginx.pid;\nerror_log stderr notice;\n\
         events {{}}\nhttp {{\n access_log off;\n sendfile on;\n tcp_nodelay on;\n keepalive_requests 10000000;\n\
         keepalive_timeout 1h;\n client_max_body_size 256m;\n client_body_buffer_size 1m;\n\
         client_body_temp_path {files}/parts;\n server {{\n  listen {at};\n  root {files}/files;\n  dav_methods PUT;\n }}\n}}\n"
    )
}

/// What `iperf3` moves in one stream, once it is installed and runs.
#[derive(Debug)]
pub(super) struct Stream(Server);

impl Stream {
    pub(super) fn start(place: &Place) -> Result<Self, SystemError> {
        let port = IPERF_PORT.to_string();
        let args = ["--server", "--forceflush", "--port", &port].map(OsString::from).to_vec();
        let ready = |line: &str| line.contains("Server listening").then_some(());
        let (server, ()) = place.start((Site::B, true), "iperf3", (Path::new("iperf3"), args), ready)?;
        Ok(Self(server))
    }

    /// MiB a second when `bytes` are sent.
    pub(super) fn mib_per_s(&self, place: &Place, bytes: u64) -> Result<f64, SuiteError> {
        let mut command = place.command(Site::A, Path::new("iperf3"));
        let to = place.address(Site::B).to_string();
        command.args(["--client", &to, "--port", &IPERF_PORT.to_string(), "--json"]);
        command.args(["--bytes", &bytes.to_string(), "--connect-timeout", "5000"]);
        let printed = run(place, self.0.name(), command)?;
        let told: Value =
            serde_json::from_slice(&printed).map_err(|error| answer("iperf3", error.to_string()))?;
        let bits = told["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.map(|bits| bits / 8.0 / f64::from(1 << 20)).ok_or_else(|| answer("iperf3", told.to_string()))
    }
}
