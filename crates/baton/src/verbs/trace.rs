//! `baton doctor --trace-syscalls`: what a program asks for in a compartment and does not get.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use baton_control::vet;
use baton_replica::template;
use baton_replica::trace::{Reached, RefusedCall, Subject, Trace, trace};
use serde::Deserialize;
use serde_json::{Value, json};

use super::talk;
use crate::cli::{DoctorArgs, Target};
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out, print_table, table};

pub(super) fn run(home: &Path, program: &str, args: &DoctorArgs) -> Result<(), Failure> {
    let executable = find(home, program)?;
    let cannot = |error: std::io::Error| {
        Failure::bad_input(
            format_args!("cannot read {}: {error}", executable.display()),
            "name an executable",
        )
    };
    let bytes = fs::read(&executable).map_err(cannot)?;
    // What the cell would refuse anyway is told with its place, by whoever can read the symbols.
    let vetted = vet(&bytes).map_err(|error| Failure::failed(&error, "it runs as a process"))?;
    let cell = template::program().map_err(|path| {
        Failure::failed(format_args!("there is no {}", path.display()), "install baton-cell beside baton")
    })?;
    let cell = File::open(&cell)
        .map_err(|error| Failure::failed(format_args!("cannot open {}: {error}", cell.display()), ""))?;
    let mut words: Vec<&[u8]> = vec![program.as_bytes()];
    words.extend(args.args.iter().map(|arg| arg.as_bytes()));
    let subject = Subject {
        cell,
        executable: File::open(&executable).map_err(cannot)?,
        patches: &vetted.patches,
        args: &words,
        env: &[],
    };
    let found = trace(subject).map_err(|error| {
        Failure::failed(
            format_args!("cannot load it into a compartment: {error}"),
            "`baton doctor` says more",
        )
    })?;
    if args.output.json { json_out(&object(&executable, &found)) } else { print(&found) }
}

#[derive(Debug, Deserialize)]
struct Apps {
    apps: Vec<App>,
}

#[derive(Debug, Deserialize)]
struct App {
    app: String,
    functions: Vec<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    function: String,
    artifact: PathBuf,
}

/// A file of that name, or else the executable of a deployed function.
fn find(home: &Path, program: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(program);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let neither = || {
        Failure::bad_input(
            format_args!("{program} is neither a file nor a deployed function"),
            "name an executable, or APP/FUNCTION as `baton ps` lists it",
        )
    };
    let target: Target = program.parse().map_err(|_| neither())?;
    let Apps { apps } = talk(home, async |client| client.get("/v1/apps").await)?;
    let of_app = apps.into_iter().filter(|app| app.app == target.app).flat_map(|app| app.functions);
    let found = of_app.into_iter().find(|function| function.function == target.function);
    found.map(|function| function.artifact).ok_or_else(neither)
}

fn verdict(reached: &Reached) -> (bool, String) {
    match reached {
        Reached::FirstRequest => (true, "it came to its first request: it runs in a compartment".to_owned()),
        Reached::Failure(why) => (false, format!("it did not come to its first request: {why}")),
        Reached::Nothing => (false, "it did not ask for a request in its time".to_owned()),
    }
}

fn object(executable: &Path, found: &Trace) -> Value {
    let (runs, verdict) = verdict(&found.reached);
    let refused: Vec<Value> = found
        .refused
        .iter()
        .map(|call| json!({ "number": call.number, "name": call.name, "times": call.times }))
        .collect();
    json!({
        "executable": executable,
        "runs": runs,
        "verdict": verdict,
        "refused": refused,
        "output": found.output,
    })
}

fn print(found: &Trace) -> Result<(), Failure> {
    let style = Style::stdout();
    for line in &found.output {
        line_out(&style.faint(line))?;
    }
    if found.refused.is_empty() {
        line_out("it asked for no system call that it did not get")?;
    } else {
        let row = |RefusedCall { number, name, times }: &RefusedCall| {
            vec![name.clone(), number.to_string(), times.to_string()]
        };
        print_table(&table(&["SYSTEM CALL", "NUMBER", "TIMES"], found.refused.iter().map(row)))?;
    }
    let (runs, verdict) = verdict(&found.reached);
    line_out(&if runs { style.green(&verdict) } else { style.yellow(&verdict) })
}
