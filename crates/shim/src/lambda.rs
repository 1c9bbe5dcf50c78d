//! `runtime = "lambda"`: functions for AWS Lambda, as they are.
//!
//! ```text
//!   task of a request ── Job ──▶ Desk ◀── GET next ─────────── connection's thread ◀── program
//!         ▲                       │  ◀── POST response, error ─┘                         ▲
//!         └──── Delivery ── Slot ◀┘  ◀── how it ended, what is overdue ── Keeper ── starts, kills
//! ```
//! The Runtime API (2018-06-01) is on loopback, for this replica's own program. One event is given at a time, the next when the
//! program asks. The program is as little trusted as every function: a request of its that cannot be meant is answered with 400,
//! and all that it sends is bounded. What becomes of an event is said to its caller as AWS does: by an error's type, message and trace.

mod desk;
mod environment;
mod gateway;
mod keeper;
mod outcome;
mod output;
mod server;
mod task;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use serde::Deserialize;

use self::desk::Desk;
use self::keeper::Keeper;

/// Exit status where the Runtime API cannot be served.
const EXIT_START: u8 = 1;

/// What the manifest says of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LambdaConfig {
    /// The runtime's name, such as `python3.11`.
    pub(crate) language: String,
    /// The handler, as Lambda names it.
    #[serde(default)]
    pub(crate) handler: String,
    /// The interpreter that the manifest names, which is first on `PATH`.
    #[serde(default)]
    pub(crate) python: Option<String>,
    /// The function's name.
    pub(crate) function: String,
    /// How long the program may take until it asks for its first event, milliseconds.
    pub(crate) within_ms: u64,
    /// How much memory it has, MiB.
    pub(crate) memory_mib: u64,
    /// Whether the limits of AWS hold.
    #[serde(default)]
    pub(crate) aws_limits: bool,
    /// Whether answers may come in parts.
    #[serde(default)]
    pub(crate) stream: bool,
}

/// Runs such a function until the node says that it is enough.
pub(crate) fn run(config: LambdaConfig) -> ExitCode {
    let desk = Arc::new(Desk::default());
    let port = match server::start(&desk) {
        Ok(port) => port,
        Err(error) => {
            eprintln!("baton-shim: the Lambda Runtime API cannot be served: {error}");
            return ExitCode::from(EXIT_START);
        }
    };
    let config: &'static LambdaConfig = Box::leak(Box::new(config));
    let keeper = Keeper::start(config, port, &desk);
    if let Err(error) = keeper {
        eprintln!("baton-shim: {error}");
        return ExitCode::from(EXIT_START);
    }
    let served = Arc::clone(&desk);
    let code =
        baton::serve(async move |context, request| task::serve(config, &served, &context, request).await);
    desk.end();
    code
}
