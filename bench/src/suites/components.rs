//! `components`: a hello by `wasi:http` in Baton against other servers of components, and against a worker of workerd.
//!
//! | system | case `hello` | case `hello-reuse` |
//! |---|---|---|
//! | `baton-wasm` | each request begins anew | `reuse = true` |
//! | `wasmtime-serve` | an instance for each request | instances serve many requests |
//! | `workerd` | – | a worker, which keeps its state |

use std::time::Duration;

use crate::app::App;
use crate::load::Plan;
use crate::locate;
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::systems::{self, Fleet, SystemError};

use super::sampling::{Lanes, at_each};
use super::{Options, SuiteError, or_note};

const COMPONENT: &str = "hello_component.wasm";
const CONCURRENCY: [u32; 2] = [1, 64];
const QUICK_TOTAL: Duration = Duration::from_secs(25);
const BATON: &str = "baton-wasm";
const WASMTIME: &str = "wasmtime-serve";
const WORKERD: &str = "workerd";
/// How many requests an instance of wasmtime's serves where it serves many.
const REUSE: &str = "1000000";

/// A server and what it is asked as.
struct Entry {
    case: &'static str,
    fleet: Fleet,
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("components", options.quick, options.rounds);
    let path = locate::components().join(COMPONENT);
    if !path.is_file() {
        return Err(SystemError::App(crate::app::AppError::NoModule { path }).into());
    }
    let (setup, file) = (&options.setup, path.as_os_str().to_owned());
    let mut entries = Vec::new();
    for (case, reuse) in [("hello", false), ("hello-reuse", true)] {
        let fleet = systems::start_app(setup, BATON, &App::of_component(&path, reuse))?;
        entries.push(Entry { case, fleet });
        let mut args: Vec<std::ffi::OsString> =
            ["serve", "-S", "cli", "--addr", "127.0.0.1:0"].map(Into::into).to_vec();
        let count = if reuse { REUSE } else { "1" };
        args.extend(["--max-instance-reuse-count".into(), count.into()]);
        args.push(file.clone());
        let serve = systems::start_server(setup, WASMTIME, &locate::program(WASMTIME_PROGRAM), args);
        let fleet = or_note(serve, WASMTIME, &mut report.notes)?;
        entries.extend(fleet.map(|fleet| Entry { case, fleet }));
    }
    let worker = systems::start_workerd(setup, WORKERD);
    let fleet = or_note(worker, WORKERD, &mut report.notes)?;
    entries.extend(fleet.map(|fleet| Entry { case: "hello-reuse", fleet }));

    let series = proc::pinned(Some(setup.load_core), || {
        let entries = entries.iter().map(|Entry { case, fleet }| (*case, fleet)).collect();
        let lanes = Lanes { entries, concurrencies: &CONCURRENCY, total: QUICK_TOTAL };
        at_each(options, &lanes, &mut report, |fleet| Plan::get(fleet.address, "/"))
    })??;
    report.take_rows(&series);
    super::note_losses(&mut report, entries.iter().map(|entry| &entry.fleet));
    relate(&series, &mut report);
    Ok(report)
}

const WASMTIME_PROGRAM: &str = "wasmtime";

fn relate(series: &Series, report: &mut Report) {
    for concurrency in CONCURRENCY {
        let key = |system: &str, case| Key::new(system, case, concurrency);
        let busiest = concurrency == CONCURRENCY[1];
        let mut ratio = |name: &str, over: [&Key; 2], least: f64| {
            let promise = busiest.then_some(Promise::AtLeast(least));
            report.ratio(&format!("rps_{name}_at_{concurrency}"), series, "rps", over, promise);
        };
        let (anew, reused) = (key(BATON, "hello"), key(BATON, "hello-reuse"));
        ratio("wasm_over_wasmtime_anew", [&anew, &key(WASMTIME, "hello")], 2.0);
        ratio("wasm_over_wasmtime_reuse", [&reused, &key(WASMTIME, "hello-reuse")], 1.0);
        ratio("wasm_over_workerd", [&reused, &key(WORKERD, "hello-reuse")], 2.0);
    }
}
