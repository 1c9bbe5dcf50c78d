//! The Baton binary: CLI and node.
#![forbid(unsafe_code)]

mod app;
mod build;
mod cli;
mod client;
mod code;
mod cores;
mod failure;
mod logging;
mod node;
mod otlp;
mod output;
mod overview;
mod picture;
mod scaffold;
mod top;
mod verbs;
mod watch;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match verbs::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}
