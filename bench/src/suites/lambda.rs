//! `lambda`: an unmodified Python function behind Baton's gateway against a bare `awslambdaric` loop.
//!
//! | system | who asks | what the program is fed by |
//! |---|---|---|
//! | `baton-process` | 16 connections over HTTP | `baton-shim`, from the node |
//! | `awslambdaric` | nobody: the event lies ready | the smallest server of the Runtime API, in this process |
//!
//! Both have one program, the same `awslambdaric` of the same interpreter, the same event (of API Gateway, around 1 KiB), and all cores. The bare loop has no gateway, no sandbox and no client
//! that waits: it is as fast as the program can be.

mod feeder;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::{Errors, Pace, Plan, Step};
use crate::proc::{Server, ServerSpec};
use crate::report::{Figures, Key, Promise, Report, Sample, Series};
use crate::systems::{self, Fleet, SystemError};

use self::feeder::Feeder;
use super::sampling::{Timing, take};
use super::{Options, SuiteError, say};

const APP: &str = "bench/apps/lambda";
const CASE: &str = "echo";
const BATON: &str = "baton-process";
const BARE: &str = "awslambdaric";
const CONCURRENCY: u32 = 16;
const PAYLOAD_BYTES: usize = 1024;
const QUICK_TOTAL: Duration = Duration::from_secs(20);
const READY_WITHIN: Duration = Duration::from_secs(30);
/// What the manifest has in the place of the interpreter.
const PYTHON_LINE: &str = "python  = \"python3\"";
/// Says that it is about to ask for the first event, and does what `python -m awslambdaric` does.
const LOOP: &str =
    "import sys; print('up', flush=True); from awslambdaric.__main__ import main; main(['', 'app.main'])";

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("lambda", options.quick, options.rounds);
    let directory = options.directory(APP)?;
    let Some(python) = interpreter() else {
        return Err(SystemError::Missing("python3 with awslambdaric".into()).into());
    };
    let app = laid_out(&directory, &python).map_err(SystemError::State)?;
    let fleet = systems::start_node(&options.setup, BATON)?;
    systems::deploy_directory(&options.setup, &fleet, app.path())?;
    let body = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2));
    let bare = Bare::start(&python, &directory.join("code"), &event(&body))?;
    let timing = Timing::new(options, options.rounds * 2, QUICK_TOTAL);
    let mut series = Series::default();
    let mut noisy = 0;
    for round in 1..=options.rounds {
        say(format_args!("round {round}: {BATON} {CASE}"));
        noisy += usize::from(!timing.settle());
        let plans = (0..CONCURRENCY).map(|_| plan(&fleet, &body)).collect();
        let key = |system: &str| Key::new(system, CASE, CONCURRENCY).payload(PAYLOAD_BYTES as u64);
        series.add(key(BATON), take(&fleet, plans, Pace::Closed, timing)?);
        say(format_args!("round {round}: {BARE} {CASE}"));
        noisy += usize::from(!timing.settle());
        series.add(key(BARE), bare.sample(timing)?);
    }
    super::note_noise(&mut report, noisy);
    report.take_rows(&series);
    let key = Key::new(BATON, CASE, CONCURRENCY).payload(PAYLOAD_BYTES as u64);
    let over = [&key, &key.of(BARE)];
    report.ratio("rps_lambda_over_awslambdaric", &series, "rps", over, Some(Promise::AtLeast(0.8)));
    super::note_losses(&mut report, [&fleet]);
    Ok(report)
}

/// The event that a route makes of such a request.
fn event(body: &str) -> String {
    let http = serde_json::json!({
        "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "",
    });
    serde_json::json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "content-length": "1024",
            "content-type": "text/plain",
            "host": "127.0.0.1:8080",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        },
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "baton",
            "domainName": "127.0.0.1:8080",
            "domainPrefix": "127",
            "http": http,
            "requestId": "00000000-0000-4000-8000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
    .to_string()
}

fn plan(fleet: &Fleet, body: &str) -> Plan {
    let (address, len) = (fleet.address, body.len());
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\ncontent-length: {len}\r\n\r\n{body}"
    );
    let step = Arc::new(Step { request: request.into_bytes(), expect: &[200], counted: true });
    Plan { setup: Vec::new(), cycle: vec![step] }
}

/// The interpreter that has `awslambdaric`: the one that `cargo xtask` installed, or the first of `PATH`.
fn interpreter() -> Option<PathBuf> {
    let has_it = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import awslambdaric"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let named = std::env::var_os("BATON_TEST_PYTHON").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from("target/tools/python/bin/python3"), "python3".into()]).find(has_it)
}

/// The app, with this interpreter in its manifest.
fn laid_out(directory: &Path, python: &Path) -> io::Result<TempDir> {
    let app = tempfile::tempdir()?;
    let text = fs::read_to_string(directory.join("baton.toml"))?;
    let python =
        if python.components().count() > 1 { std::path::absolute(python)? } else { python.to_owned() };
    let line = format!("python  = \"{}\"", python.display());
    fs::write(app.path().join("baton.toml"), text.replace(PYTHON_LINE, &line))?;
    fs::create_dir(app.path().join("code"))?;
    fs::copy(directory.join("code/app.py"), app.path().join("code/app.py"))?;
    Ok(app)
}

/// The program by itself.
struct Bare {
    feeder: Feeder,
    server: Server,
}

impl Bare {
    fn start(python: &Path, code: &Path, body: &str) -> Result<Self, SuiteError> {
        let feeder = Feeder::start(body).map_err(SystemError::State)?;
        let spec = ServerSpec {
            name: BARE.into(),
            program: python.to_owned(),
            args: ["-c", LOOP].map(Into::into).to_vec(),
            env: vec![
                ("AWS_LAMBDA_RUNTIME_API".into(), feeder.address().to_string().into()),
                ("PYTHONPATH".into(), code.into()),
                ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
            ],
            core: None,
            ready_within: READY_WITHIN,
        };
        let up = |line: &str| (line.trim() == "up").then_some(());
        let (server, ()) = Server::start(&spec, up).map_err(SystemError::Start)?;
        Ok(Self { feeder, server })
    }

    fn sample(&self, timing: Timing) -> Result<Sample, SuiteError> {
        self.feeder.open();
        std::thread::sleep(timing.warm_up);
        let (before, began) = (self.feeder.answered(), Instant::now());
        let cpu_before = self.server.usage()?.cpu;
        std::thread::sleep(timing.measured);
        let (answered, elapsed) = (self.feeder.answered() - before, began.elapsed().as_secs_f64());
        let cpu = self.server.usage()?.cpu.saturating_sub(cpu_before).as_secs_f64();
        self.feeder.close();
        if answered == 0 {
            let problem = "no event was answered".to_owned();
            return Err(SuiteError::Answer { system: BARE.to_owned(), problem });
        }
        let per_request = cpu * 1e6 / answered as f64;
        let figures: Figures = [("rps", answered as f64 / elapsed), ("cpu_us_per_req", per_request)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        Ok(Sample { figures, errors: Errors::default(), payload_bytes: PAYLOAD_BYTES as u64 })
    }
}
