//! Two Python processes that hand an array over by a pickle, by Redis, by files in memory behind nginx.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::proc::{self, Server, ServerSpec};
use crate::suites::{Options, SuiteError, or_note};
use crate::systems::{self, Setup, SystemError};
use crate::yardstick::RoundTrips;

/// A directory in memory.
const TMPFS: &str = "/dev/shm";
const READY_WITHIN: Duration = Duration::from_secs(10);

/// One way without Baton.
#[derive(Debug)]
pub(in crate::suites) struct Rival {
    /// Its name in rows.
    pub(in crate::suites) system: &'static str,
    kind: &'static str,
    address: Option<OsString>,
    python: PathBuf,
    script: PathBuf,
    core: usize,
    _server: Option<Server>,
    _files: Option<TempDir>,
}

/// Starts what is installed, notes what is not.
pub(in crate::suites) fn start(
    options: &Options,
    python: &Path,
    script: &Path,
    notes: &mut Vec<String>,
) -> Result<Vec<Rival>, SuiteError> {
    let core = options.setup.server_core;
    let rival = |system, kind, address, server, files| Rival {
        system,
        kind,
        address,
        python: python.to_owned(),
        script: script.to_owned(),
        core,
        _server: server,
        _files: files,
    };
    let redis = redis(core).map(|(socket, server, files)| {
        rival("redis", "redis", Some(socket.into_os_string()), Some(server), Some(files))
    });
    let nginx = nginx(&options.setup).map(|(at, server, files)| {
        rival("s3", "dav", Some(at.port().to_string().into()), Some(server), Some(files))
    });
    let mut rivals = vec![rival("uds", "pickle", None, None, None)];
    rivals.extend(or_note(redis, "redis", notes)?);
    rivals.extend(or_note(nginx, "s3", notes)?);
    Ok(rivals)
}

impl Rival {
    /// Whether it hands over by a store, and not from one process to another.
    pub(in crate::suites) fn has_a_store(&self) -> bool {
        self.address.is_some()
    }

    /// Has another script of the same kind do it, which is told the address first.
    pub(in crate::suites) fn run(
        &self,
        script: &Path,
        payload: u64,
        iterations: u64,
    ) -> Result<RoundTrips, SuiteError> {
        let mut command = Command::new(&self.python);
        command.arg(script).arg(self.kind).args(&self.address);
        self.answer(command.args([payload.to_string(), iterations.to_string()]))
    }

    /// Hands arrays over, one after the other.
    pub(in crate::suites) fn trips(&self, payload: u64, iterations: u64) -> Result<RoundTrips, SuiteError> {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg(self.kind).args([payload.to_string(), iterations.to_string()]);
        self.answer(command.args(&self.address))
    }

    fn answer(&self, command: &mut Command) -> Result<RoundTrips, SuiteError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = proc::pinned(Some(self.core), || command.output())?;
        let output = output.map_err(|error| SuiteError::Program { system: self.system.to_owned(), error })?;
        serde_json::from_slice(&output.stdout).map_err(|error| SuiteError::Answer {
            system: self.system.to_owned(),
            problem: format!("{error}: {}", String::from_utf8_lossy(&output.stderr).trim()),
        })
    }
}

fn in_memory() -> Result<TempDir, SystemError> {
    tempfile::Builder::new().prefix("baton-python-").tempdir_in(TMPFS).map_err(SystemError::State)
}

fn server(name: &str, program: PathBuf, args: Vec<OsString>, core: usize) -> ServerSpec {
    ServerSpec {
        name: name.into(),
        program,
        args,
        env: Vec::new(),
        core: Some(core),
        ready_within: READY_WITHIN,
    }
}

fn redis(core: usize) -> Result<(PathBuf, Server, TempDir), SystemError> {
    let files = in_memory()?;
    let socket = files.path().join("redis.sock");
    let mut args: Vec<OsString> =
        ["--port", "0", "--save", "", "--appendonly", "no"].map(OsString::from).to_vec();
    args.extend(["--unixsocket".into(), socket.clone().into(), "--dir".into(), files.path().into()]);
    let spec = server("redis", "redis-server".into(), args, core);
    let ready = |line: &str| line.contains("eady to accept connections").then_some(());
    let (server, ()) = Server::start(&spec, ready)?;
    Ok((socket, server, files))
}

fn nginx(setup: &Setup) -> Result<(SocketAddr, Server, TempDir), SystemError> {
    let files = in_memory()?;
    let [at] = systems::free_addresses().map_err(SystemError::State)?;
    for directory in ["files", "parts"] {
        fs::create_dir(files.path().join(directory)).map_err(SystemError::State)?;
    }
    let config = nginx_config(files.path(), at);
    let server = systems::start_nginx(setup, "files", files.path(), &config, at)?;
    Ok((at, server, files))
}

fn nginx_config(files: &Path, at: SocketAddr) -> String {
    let files = files.display();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "daemon off;\n{user}worker_processes 1;\npid {files}/nginx.pid;\nerror_log stderr notice;\nevents {{}}\n\
         http {{\n access_log off;\n sendfile on;\n tcp_nodelay on;\n keepalive_requests 10000000;\n keepalive_timeout 1h;\n\
         client_max_body_size 256m;\n client_body_buffer_size 1m;\n client_body_temp_path {files}/parts;\n\
         server {{\n  listen {at};\n  root {files}/files;\n  dav_methods PUT;\n }}\n}}\n"
    )
}
