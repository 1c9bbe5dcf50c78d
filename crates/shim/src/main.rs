//! `baton-shim`: the first process of a replica whose program knows nothing of Baton. A node starts it.
//!
//! ```text
//!   node ══ link ══ baton-shim (process 1 of the sandbox) ── loopback or a Unix socket ── program
//!                     tasks, sockets: one thread     sockets' readiness: another     children: a third
//! ```
//! It is a function like others, written with the SDK. What it does by request is the runtime's ([`Runtime`]); what all runtimes need is
//! in [`program`] (start, end, children), [`loopback`], and [`io`] (sockets that tasks of the SDK can wait for).
#![forbid(unsafe_code)]

mod config;
mod http;
mod io;
mod lambda;
mod loopback;
mod program;

use std::process::ExitCode;

use config::{Config, ENV, Runtime};

/// Exit status where it cannot even begin.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    // Nobody that this process starts may look into its memory, where the app's pool is, nor reach its descriptors.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    baton::keep_control();
    let config = match Config::read(std::env::var_os(ENV)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("baton-shim: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    loopback::bring_up();
    match config.runtime {
        Runtime::Http(http) => http::run(&http),
        Runtime::Lambda(lambda) => lambda::run(lambda),
    }
}
