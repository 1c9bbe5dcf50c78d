//! `sidecar`: what policies cost in the path of a request, against the same function behind nginx as its sidecar.
//!
//! The function is the hello of `http`. `baton` has no policies, `baton-sidecar` has log, span, metrics, time-out, rate limit, token
//! and headers, `baton-sidecar-equal` those that nginx has too, and `nginx-sidecar` is `baton` behind nginx with those.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::app::App;
use crate::load::{Plan, Step};
use crate::proc;
use crate::report::{Key, Promise, Report, Series};
use crate::systems::{self, Fleet, SystemError};

use super::sampling::{Lanes, at_each};
use super::{Options, SuiteError, or_note};

const APP: &str = "bench/apps/hello";
const CASE: &str = "all-policies";
const CONCURRENCY: [u32; 3] = [1, 16, 64];
/// Where processor time is compared: the core of the system is busy then.
const BUSY: u32 = 16;
const QUICK_TOTAL: Duration = Duration::from_secs(25);

/// The policies that nginx has too: access log, time-out, rate limit, headers.
const EQUAL: &str = r#"
[[policy.handlers]]
use = "log"
[[policy.handlers]]
use = "timeout"
after = "1s"
[[policy.handlers]]
use = "rate-limit"
rate = "1000000/s"
burst = 100000
[[policy.handlers]]
use = "forwarded"
[[policy.handlers]]
use = "headers"
response = { set = { x-frame-options = "DENY" } }
"#;

/// What nginx has not, or not in Debian's build.
const MORE: &str = r#"
[[policy.handlers]]
use = "span"
[[policy.handlers]]
use = "metrics"
[[policy.handlers]]
use = "jwt"
jwks = "JWKS"
algorithms = ["HS256"]
audiences = ["shop"]
"#;

const KEYS: &str =
    r#"{"keys":[{"kty":"oct","kid":"k1","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;
/// Good until 2100.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wIiwiZXhwIjo0MTAyNDQ0ODAwLCJzY29wZSI6InNob3A6cmVhZCJ9.05IU2Hs0dL-efnL3uYB2ybQnbxFPhiTulIyABoUExfc";

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("sidecar", options.quick, options.rounds);
    let app = options.build(APP)?;
    let files = tempfile::tempdir().map_err(SystemError::State)?;
    let jwks = files.path().join("jwks.json");
    fs::write(&jwks, KEYS).map_err(SystemError::State)?;
    let all = format!("{EQUAL}{}", MORE.replace("JWKS", &jwks.display().to_string()));
    let with = |text: &str| app.clone().with_policies(text).map_err(SystemError::App);
    let start = |system: &str, app: &App| systems::start_app(&options.setup, system, app);
    let mut fleets = vec![
        start("baton", &app)?,
        start("baton-sidecar", &with(&all)?)?,
        start("baton-sidecar-equal", &with(EQUAL)?)?,
    ];
    let behind = nginx(options, &app, files.path());
    fleets.extend(or_note(behind, "nginx-sidecar", &mut report.notes)?);
    let series = proc::pinned(Some(options.setup.load_core), || {
        let entries = fleets.iter().map(|fleet| (CASE, fleet)).collect();
        let lanes = Lanes { entries, concurrencies: &CONCURRENCY, total: QUICK_TOTAL };
        at_each(options, &lanes, &mut report, |fleet| plan(fleet.address))
    })??;
    report.take_rows(&series);
    super::note_losses(&mut report, &fleets);
    relate(&series, &mut report);
    Ok(report)
}

/// The same request for all: who has no use for the token carries it too.
fn plan(address: SocketAddr) -> Plan {
    let request =
        format!("GET / HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\r\n").into_bytes();
    let step = Arc::new(Step { request, expect: &[200], counted: true });
    Plan { setup: Vec::new(), cycle: vec![step] }
}

fn relate(series: &Series, report: &mut Report) {
    let key = |system: &str, concurrency| Key::new(system, CASE, concurrency);
    let rows = [
        ("baton-sidecar", "", Some(Promise::AtMost(1.0))),
        ("baton-sidecar-equal", "_equal", None),
        ("nginx-sidecar", "_nginx", None),
    ];
    for (system, suffix, promise) in rows {
        let alone = [&key(system, 1), &key("baton", 1)];
        report.difference(&format!("added_us{suffix}"), series, "p50_us", alone, None);
        let busy = [&key(system, BUSY), &key("baton", BUSY)];
        report.difference(&format!("added_cpu_us{suffix}"), series, "cpu_us_per_req", busy, promise);
    }
    let added = |system: &str| {
        let (with, without) = (key(system, BUSY), key("baton", BUSY));
        let (with, without) =
            (series.figure(&with, "cpu_us_per_req")?, series.figure(&without, "cpu_us_per_req")?);
        Some(with.iter().zip(&without).map(|(with, without)| with - without).collect::<Vec<_>>())
    };
    if let (Some(own), Some(nginx)) = (added("baton-sidecar-equal"), added("nginx-sidecar")) {
        let shares: Vec<f64> = own.iter().zip(&nginx).map(|(own, nginx)| own / nginx).collect();
        report.of_rounds("added_cpu_equal_over_nginx", &shares, Some(Promise::AtMost(0.02)));
    }
}

/// The function without policies, behind nginx: both on the core of the system.
fn nginx(options: &Options, app: &App, files: &Path) -> Result<Fleet, SystemError> {
    let backend = systems::start_app(&options.setup, "nginx-sidecar", app)?;
    let [at] = systems::free_addresses().map_err(SystemError::State)?;
    // Its log goes to memory, as Baton's does.
    let memory: TempDir = tempfile::Builder::new()
        .prefix("baton-sidecar-")
        .tempdir_in("/dev/shm")
        .map_err(SystemError::State)?;
    let config = configuration(memory.path(), at, backend.address);
    let server = systems::start_nginx(&options.setup, "nginx-sidecar", files, &config, at)?;
    Ok(backend.behind(at, server, memory))
}

fn configuration(memory: &Path, at: SocketAddr, backend: SocketAddr) -> String {
    let memory = memory.display();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {memory}/nginx.pid;\nerror_log stderr notice;\n         events {{ worker_connections 4096; }}\nhttp {{\n access_log {memory}/access.log combined buffer=64k;\n          tcp_nodelay on;\n keepalive_requests 100000000;\n keepalive_timeout 1h;\n          limit_req_zone $binary_remote_addr zone=all:10m rate=1000000r/s;\n limit_req_log_level info;\n          upstream function {{\n  server {backend};\n  keepalive 256;\n  keepalive_requests 100000000;\n }}\n          server {{\n  listen {at};\n  location / {{\n   limit_req zone=all burst=100000 nodelay;\n            proxy_pass http://function;\n   proxy_http_version 1.1;\n   proxy_set_header Connection \"\";\n            proxy_set_header Host $host;\n   proxy_set_header X-Forwarded-For $remote_addr;\n            proxy_set_header X-Forwarded-Proto $scheme;\n   proxy_set_header X-Forwarded-Host $host;\n            proxy_set_header Forwarded \"for=$remote_addr;proto=$scheme\";\n   proxy_read_timeout 1s;\n            proxy_send_timeout 1s;\n   add_header X-Frame-Options DENY;\n  }}\n }}\n}}\n"
    )
}
