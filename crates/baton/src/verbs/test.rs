//! `baton test`: an app's own cases, on a node of their own.

mod cases;
mod check;
mod report;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use baton_control::Home;
use baton_flow::Sampling;
use baton_gateway::Authorities;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::cases::Ready;
use self::check::Came;
use self::report::Outcome;
use super::{block_on, deploy_built};
use crate::app::App;
use crate::build;
use crate::cli::TestArgs;
use crate::client::Client;
use crate::cores;
use crate::failure::Failure;
use crate::logging::{self, Format};
use crate::wiring::{self, Running, Settings};

/// The cases of an app, beside its manifest.
const CASES: &str = "baton.test.toml";
/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 256 << 20;
/// A receipt is complete a moment after its answer: how long that is waited for, and how long it must not change.
const RECEIPT_WITHIN: Duration = Duration::from_secs(2);
const RECEIPT_QUIET: Duration = Duration::from_millis(30);
const INVOCATION: &str = "x-baton-invocation";

pub(super) fn run(args: &TestArgs) -> Result<ExitCode, Failure> {
    let app = App::load(&args.dir)?;
    let file = args.cases.clone().unwrap_or_else(|| app.directory.join(CASES));
    let mut cases = cases::read(&file)?;
    if let Some(filter) = &args.filter {
        cases.retain(|ready| ready.case.name.contains(filter.as_str()));
        if cases.is_empty() {
            return Err(Failure::bad_input(format_args!("no case's name contains `{filter}`"), ""));
        }
    }
    let built = if args.no_build { build::find(&app) } else { build::build(&app) }?;
    logging::start(Format::Text, Some("warn,async_nats=off,function=off"))?;
    let scratch = Scratch::make()?;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        lambda: None,
        listen: loopback,
        admin: loopback,
        cores: cores::allowed(),
        sampling: Sampling { receipts_every: 1, ..Sampling::default() },
        otlp: None,
        authorities: Authorities::default(),
        tls: None,
        insecure_no_sandbox: args.insecure_no_sandbox,
        cluster: None,
        except: Vec::new(),
    };
    let running = wiring::start(Home::open(&scratch.0)?, settings)?;
    let name = app.manifest.app.name.to_string();
    block_on(async {
        let client = Client::new(&running.root);
        let tested = async {
            deploy_built(&client, &app, &built, baton_control::Wish::default()).await?;
            all(&running, &client, &cases, args.output.json).await
        };
        let outcomes = tokio::select! {
            outcomes = tested => outcomes,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted", "")),
        };
        running.end(sleep(Duration::from_secs(5))).await;
        let (outcomes, took) = outcomes?;
        report::sum(&name, &outcomes, args.output.json, took)?;
        if let Some(file) = &args.junit {
            report::junit(file, &name, &outcomes)?;
        }
        let passed = outcomes.iter().all(|outcome| outcome.passed);
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// A state directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Scratch, Failure> {
        let path = std::env::temp_dir().join(format!("baton-test-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Failure::failed(format_args!("cannot make {}: {error}", path.display()), "set TMPDIR")
        })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is in the directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn all(
    running: &Running,
    client: &Client,
    cases: &[Ready],
    json: bool,
) -> Result<(Vec<Outcome>, Duration), Failure> {
    let began = Instant::now();
    let mut outcomes = Vec::new();
    for ready in cases {
        let outcome = one(running.gateway, client, ready).await;
        if !json {
            report::show(&outcome)?;
        }
        outcomes.push(outcome);
    }
    Ok((outcomes, began.elapsed()))
}

async fn one(gateway: SocketAddr, client: &Client, ready: &Ready) -> Outcome {
    let began = Instant::now();
    let asked = timeout(ready.timeout, ask(gateway, ready)).await;
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut invocation = None;
    let differences = match asked {
        Err(_) => vec![format!("no answer within {:?}", ready.timeout)],
        Ok(Err(why)) => vec![format!("no answer: {why}")],
        Ok(Ok(mut came)) => {
            let named = came.headers.get(INVOCATION).and_then(|value| value.to_str().ok());
            invocation = named.map(str::to_owned);
            if let Some(invocation) = invocation.as_deref().filter(|_| !ready.receipt.is_empty()) {
                came.receipt = receipt(client, invocation).await;
            }
            check::differences(ready, &came)
        }
    };
    let name = ready.case.name.clone();
    Outcome { name, passed: differences.is_empty(), millis, differences, invocation }
}

/// One request, over a connection of its own.
async fn ask(gateway: SocketAddr, ready: &Ready) -> Result<Came, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(gateway).await.map_err(|error| said(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(ready.method.clone()).uri(&ready.case.request.path);
    if !ready.headers.iter().any(|(name, _)| name == HOST) {
        request = request.header(HOST, gateway.to_string());
    }
    for (name, value) in &ready.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(ready.body.clone()));
    let request = request.body(body).map_err(|error| said(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| said(&error))?;
    connection.abort();
    let body = body.to_bytes().to_vec();
    Ok(Came { status: head.status.as_u16(), headers: head.headers, body, receipt: None })
}

/// The receipt of an invocation, once it changes no more.
async fn receipt(client: &Client, invocation: &str) -> Option<Value> {
    let path = format!("/v1/receipts/{invocation}");
    let until = Instant::now() + RECEIPT_WITHIN;
    let mut last: Option<Value> = None;
    while Instant::now() < until {
        let body = client.call(Method::GET, &path, Bytes::new()).await.ok()?;
        let now: Value = serde_json::from_slice(&body).ok()?;
        if last.as_ref() == Some(&now) {
            break;
        }
        last = Some(now);
        sleep(RECEIPT_QUIET).await;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_with_its_test() {
        let scratch = Scratch::make().unwrap();
        let path = scratch.0.as_path();
        assert!(path.is_dir());
        let path = path.to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
