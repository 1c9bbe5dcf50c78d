//! The chain as two gRPC services, each alone or behind an nginx of its own.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::load::get;
use crate::proc::{self, Server};
use crate::suites::SuiteError;
use crate::systems::{self, Fleet, Setup, SystemError};

use super::chain::{Beside, Chain, Client};

/// The name of its rows.
pub(super) const BARE: &str = "grpc";
/// … behind nginx.
pub(super) const NGINX: &str = "grpc-nginx";

/// Heads that a codec's message comes with: one that is read or written.
const HEADS_OF_MESSAGE: u64 = 1;
/// Heads of a request through a proxy: read and written there, read and written back.
const HEADS_OF_PROXY: u64 = 4;
const WITHIN: Duration = Duration::from_secs(10);

/// Two services, and what stands before them.
pub(super) struct Services {
    fleet: Fleet,
    grpc: PathBuf,
    client_core: usize,
    /// Where the services themselves listen, with a comma between.
    servers: String,
    /// Where proxies tell how many requests they had.
    statuses: Vec<SocketAddr>,
    /// How often they were asked: each time they count the question as well.
    looks: Cell<u64>,
    _states: Vec<TempDir>,
}

/// Starts both services, from the last to the first.
pub(super) fn start(setup: &Setup, is_behind_nginx: bool) -> Result<Services, SystemError> {
    let system = if is_behind_nginx { NGINX } else { BARE };
    let mut started =
        Started { setup, is_behind_nginx, servers: Vec::new(), statuses: Vec::new(), states: Vec::new() };
    let (back, back_at) = started.service("chain-back", None)?;
    let (front, front_at) = started.service("chain-front", Some(back))?;
    let Started { servers, statuses, states, .. } = started;
    Ok(Services {
        fleet: Fleet::of(system, front, None, servers),
        grpc: setup.grpc.clone(),
        client_core: setup.load_core,
        servers: format!("{back_at},{front_at}"),
        statuses,
        looks: Cell::new(0),
        _states: states,
    })
}

struct Started<'a> {
    setup: &'a Setup,
    is_behind_nginx: bool,
    servers: Vec<Server>,
    statuses: Vec<SocketAddr>,
    states: Vec<TempDir>,
}

impl Started<'_> {
    /// Where a service is reached, and where it listens itself.
    fn service(
        &mut self,
        role: &str,
        next: Option<SocketAddr>,
    ) -> Result<(SocketAddr, SocketAddr), SystemError> {
        let next = next.map(|at| at.to_string());
        let mut args = vec![role, "--listen", "127.0.0.1:0"];
        args.extend(next.iter().flat_map(|next| ["--peer", next.as_str()]));
        let (server, at) = systems::start_yardstick(self.setup, role, &args)?;
        self.servers.push(server);
        if !self.is_behind_nginx {
            return Ok((at, at));
        }
        let state = tempfile::tempdir().map_err(SystemError::State)?;
        let [before, status] = systems::free_addresses().map_err(SystemError::State)?;
        let config = configuration(state.path(), before, at, status);
        let server = systems::start_nginx(self.setup, role, state.path(), &config, before)?;
        self.servers.push(server);
        self.statuses.push(status);
        self.states.push(state);
        Ok((before, at))
    }
}

/// As lean as a sidecar can be: no log, connections kept.
fn configuration(state: &Path, at: SocketAddr, service: SocketAddr, status: SocketAddr) -> String {
    let state = state.display();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "daemon off;\n{user}worker_processes 1;\npid {state}/nginx.pid;\nerror_log stderr notice;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n access_log off;\n tcp_nodelay on;\n keepalive_requests 100000000;\n \
         keepalive_timeout 1h;\n client_max_body_size 0;\n client_body_temp_path {state}/bodies;\n \
         upstream service {{\n  server {service};\n  keepalive 16;\n  keepalive_requests 100000000;\n }}\n \
         server {{\n  listen {at} http2;\n  location / {{ grpc_pass grpc://service; grpc_socket_keepalive on; }}\n }}\n \
         server {{\n  listen {status};\n  location / {{ stub_status; }}\n }}\n}}\n"
    )
}

impl Services {
    fn failed(&self, problem: String) -> SuiteError {
        SuiteError::Answer { system: self.fleet.system.clone(), problem }
    }

    /// Requests that all proxies together have had, those that ask left out.
    fn proxied(&self) -> Result<u64, SuiteError> {
        self.looks.set(self.looks.get() + 1);
        let mut sum = 0;
        for &status in &self.statuses {
            let answer = get(status, "/", None, WITHIN)?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let requests = requests_in(&text);
            let requests = requests.ok_or_else(|| self.failed(format!("nginx says of itself: {text}")))?;
            sum += requests.saturating_sub(self.looks.get());
        }
        Ok(sum)
    }
}

/// Requests in what nginx says of itself.
fn requests_in(status: &str) -> Option<u64> {
    let (_, counts) = status.split_once("requests")?;
    counts.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// What a codec has handled.
#[derive(Deserialize)]
struct Handled {
    encoded: u64,
    decoded: u64,
}

impl Chain for Services {
    fn system(&self) -> &str {
        &self.fleet.system
    }

    fn how(&self) -> &'static str {
        if self.statuses.is_empty() {
            "encodes and decodes: a codec that counts, in both services; heads: one of HTTP/2 for each of these messages"
        } else {
            "encodes and decodes: a codec that counts, in both services; heads: one of HTTP/2 for each of these messages, and four \
             for each request that nginx' stub_status counted"
        }
    }

    fn threads(&self) -> Vec<u32> {
        self.fleet.threads()
    }

    fn client(&self, payload: u64) -> Result<Box<dyn Client>, SuiteError> {
        let mut command = Command::new(&self.grpc);
        command.args(["chain-client", "--peer", &self.fleet.address.to_string()]);
        command.args(["--payload", &payload.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = proc::pinned(Some(self.client_core), || command.spawn())?;
        let mut child =
            child.map_err(|error| SuiteError::Program { system: self.fleet.system.clone(), error })?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(self.failed("its client has no pipes".into()));
        };
        let mut client = Calls {
            system: self.fleet.system.clone(),
            child,
            orders: Some(orders),
            answers: BufReader::new(answers),
        };
        client.answer("ready")?;
        Ok(Box::new(client))
    }

    fn beside(&self, _: u64) -> Result<Beside, SuiteError> {
        let mut command = Command::new(&self.grpc);
        command.args(["chain-counts", "--peer", &self.servers]).stdin(Stdio::null());
        let output = command.output();
        let output =
            output.map_err(|error| SuiteError::Program { system: self.fleet.system.clone(), error })?;
        let told: Option<Handled> = serde_json::from_slice(&output.stdout).ok();
        let handled = told.ok_or_else(|| {
            self.failed(format!("its services do not count: {}", String::from_utf8_lossy(&output.stderr)))
        })?;
        let messages = (handled.encoded + handled.decoded) * HEADS_OF_MESSAGE;
        Ok(Beside {
            encoded: handled.encoded,
            decoded: handled.decoded,
            heads: messages + self.proxied()? * HEADS_OF_PROXY,
            ..Beside::default()
        })
    }
}

/// A client program, of one thread.
struct Calls {
    system: String,
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Calls {
    /// Waits for a line that holds this.
    fn answer(&mut self, expected: &str) -> Result<(), SuiteError> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(|error| SuiteError::Program { system: self.system.clone(), error })?;
        if line.contains(expected) {
            return Ok(());
        }
        Err(SuiteError::Answer { system: self.system.clone(), problem: format!("its client said: {line:?}") })
    }
}

impl Client for Calls {
    fn thread(&self) -> u32 {
        self.child.id()
    }

    fn send(&mut self, count: u64) -> Result<(), SuiteError> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        let sent = writeln!(orders, "{count}");
        sent.map_err(|error| SuiteError::Program { system: self.system.clone(), error })?;
        self.answer("p50_ns")
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // It ends with its standard input.
        self.orders = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_says_how_many_requests_it_had() {
        let status = "Active connections: 2 \nserver accepts handled requests\n 3 3 1007 \nReading: 0 Writing: 1 Waiting: 1 \n";
        assert_eq!(requests_in(status), Some(1007));
        assert_eq!(requests_in("404 Not Found"), None);
    }

    #[test]
    fn a_sidecar_passes_calls_on_to_its_service() {
        let [at, service, status] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = configuration(Path::new("/state"), at, service, status);
        assert!(text.contains("listen 127.0.0.1:1 http2;") && text.contains("server 127.0.0.1:2;"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
