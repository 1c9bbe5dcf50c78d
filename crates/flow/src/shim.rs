//! Functions whose program knows nothing of Baton: a program of the node stands in front of it, as the replica's first process.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use baton_catalog::{Function, FunctionName, Http, Lambda, Listen, Runtime};
use serde_json::{Value, json};

/// The variable that names the program, where it is not beside the running one.
pub(crate) const PROGRAM_ENV: &str = "BATON_SHIM_PROGRAM";
/// The program's name.
pub(crate) const PROGRAM: &str = "baton-shim";
/// The variable by which it is told what to do.
pub(crate) const CONFIG_ENV: &str = "BATON_SHIM";
/// The program behind it may take a little less than a replica may until it is ready, so that the reason is heard: a tenth, at most this.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// The program in front of others: what [`PROGRAM_ENV`] names, or [`PROGRAM`] beside the running executable.
pub(crate) fn program() -> Result<PathBuf, String> {
    let named = env::var_os(PROGRAM_ENV).map(PathBuf::from);
    let beside = || Some(env::current_exe().ok()?.with_file_name(PROGRAM));
    let path = named.or_else(beside).unwrap_or_else(|| PathBuf::from(PROGRAM));
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "the program in front of others is not at {}; install {PROGRAM} beside the node, or name it in {PROGRAM_ENV}",
        path.display()
    ))
}

/// What it is told; nothing for functions that need none.
pub(crate) fn configuration(name: &FunctionName, function: &Function) -> Option<Value> {
    match &function.runtime {
        Runtime::Http(http) => Some(of_http(http, function)),
        Runtime::Lambda(lambda) => Some(of_lambda(name, lambda, function)),
        Runtime::Native | Runtime::Python(_) => None,
    }
}

fn of_http(http: &Http, function: &Function) -> Value {
    let (port, socket) = match &http.listen {
        Listen::Port(port) => (Some(port), None),
        Listen::Socket(path) => (None, Some(path)),
    };
    let start = function.start_within().duration();
    json!({
        "runtime": "http",
        "command": http.command,
        "port": port,
        "socket": socket,
        "ready": http.ready,
        "within_ms": (start - HEARD_WITHIN.min(start / 10)).as_millis(),
        "stream": function.stream,
    })
}

fn of_lambda(name: &FunctionName, lambda: &Lambda, function: &Function) -> Value {
    json!({
        "runtime": "lambda",
        "language": lambda.runtime.as_str(),
        "handler": lambda.handler.as_deref().unwrap_or_default(),
        "python": lambda.python,
        "function": name.as_str(),
        "within_ms": function.start_within().millis(),
        "memory_mib": function.memory.bytes() >> 20,
        "aws_limits": lambda.aws_limits,
        "stream": function.stream,
    })
}
