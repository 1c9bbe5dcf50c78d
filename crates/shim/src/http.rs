//! `runtime = "http"`: any program that listens, on a loopback port or a Unix socket.
//!
//! ```text
//!   start the program ─▶ wait until it answers `ready`, or accepts connections ─▶ say so to the node ─▶ serve
//!   request ─▶ idle connection or a new one ─▶ head, body from the pool's buffer ─▶ head of the answer ─▶ body into a buffer
//! ```
//! The program is as little trusted as every function: what it says is checked before it is passed on, and what it says wrongly is a
//! 502. Times are the node's to keep: it cancels a request that takes too long, which drops the task here and its connection.

mod body;
mod connection;
mod exchange;
mod head;
mod idle;
mod ready;
mod websocket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use crate::io::{Address, Reactor};
use crate::program::Program;
use exchange::Front;

/// Exit status where the program does not come up.
const EXIT_START: u8 = 1;
/// The variable by which many servers are told their port.
const PORT_ENV: &str = "PORT";

/// What the manifest says of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HttpConfig {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Where it listens: this port of 127.0.0.1, or else `socket`.
    pub(crate) port: Option<u16>,
    pub(crate) socket: Option<PathBuf>,
    /// A path that answers with a status below 400 once requests can come.
    pub(crate) ready: Option<String>,
    /// Milliseconds until then.
    pub(crate) within_ms: u64,
    /// Whether bodies and answers may come in parts.
    #[serde(default)]
    pub(crate) stream: bool,
}

/// Runs such a function until the node says that it is enough.
pub(crate) fn run(config: &HttpConfig) -> ExitCode {
    let front = match start(config) {
        Ok(front) => front,
        Err(error) => {
            eprintln!("baton-shim: {error}");
            return ExitCode::from(EXIT_START);
        }
    };
    let (program, front) = front;
    let front: &'static Front = Box::leak(Box::new(front));
    let code = baton::serve(async move |context, request| front.serve(context, request).await);
    program.stop();
    code
}

fn start(config: &HttpConfig) -> Result<(Program, Front), String> {
    let address = match (config.port, &config.socket) {
        (Some(port), None) => Address::Port(port),
        (None, Some(path)) => Address::Path(path.clone()),
        _ => return Err("a program listens on one `port` or one `socket`".to_owned()),
    };
    let port = config.port.map(|port| port.to_string());
    let more: Vec<(&str, &str)> = port.iter().map(|port| (PORT_ENV, port.as_str())).collect();
    let program = Program::start(&config.command, &more).map_err(|error| error.to_string())?;
    let within = Duration::from_millis(config.within_ms);
    ready::wait(&address, config.ready.as_deref(), within).map_err(|error| error.to_string())?;
    let reactor = Reactor::start().map_err(|error| format!("no thread for sockets: {error}"))?;
    Ok((program, Front::new(address, reactor, config.stream)))
}
