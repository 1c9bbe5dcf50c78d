//! `baton-wasmc`: the compiler of Wasm modules, as a process of its own.
//!
//! ```text
//!   module ── standard input ──▶ check, compile ──▶ standard output: the artifact
//!                                     └ refused ──▶ standard error: why; exit code 1
//! ```
//! It bounds itself before it reads anything: a module that makes the compiler run wild ends this process and nothing else.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use baton_wasm::{MODULE_BYTES_MAX, compile};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Address space that a compilation may take.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Processor time that it may take, seconds.
const CPU_SECONDS_MAX: u64 = 120;
/// Bytes that it may write, where they go to a file.
const OUTPUT_BYTES_MAX: u64 = 512 << 20;
/// Descriptors: the three that it has, and what the C library opens.
const FILES_MAX: u64 = 16;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let bounds = [
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Nofile, FILES_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, OUTPUT_BYTES_MAX),
    ];
    for (resource, most) in bounds {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| format!("the compiler cannot bound itself: {error}"))?;
    }
    let mut module = Vec::new();
    let most = MODULE_BYTES_MAX as u64 + 1;
    io::stdin().take(most).read_to_end(&mut module).map_err(|error| format!("no module comes: {error}"))?;
    let artifact = compile(&module).map_err(|error| error.to_string())?;
    io::stdout()
        .write_all(&artifact)
        .map_err(|error| format!("the compiled module cannot be written: {error}"))
}
