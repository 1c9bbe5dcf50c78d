//! `baton bench`: hands over to `baton-bench`, which is a program of its own so that the node carries no load generator.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::cli::BenchArgs;
use crate::failure::Failure;

const PROGRAM: &str = "baton-bench";

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    // It replaces this process, so its signals and its exit code are its own.
    let error = Command::new(program()).args(&args.args).exec();
    let hint =
        "build it beside baton: `cargo xtask install --bench`, or `cargo build --release -p baton-bench`";
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::failed(format_args!("{PROGRAM} is neither beside baton nor on PATH"), hint)
        }
        _ => Failure::failed(format_args!("cannot start {PROGRAM}: {error}"), hint),
    })
}

/// The program beside this one; else the bare name, for `PATH` to find.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|here| Some(here.parent()?.join(PROGRAM)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}
