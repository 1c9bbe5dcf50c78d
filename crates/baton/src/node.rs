//! `baton up` and `baton node`: a node in the foreground, from its start to its end.

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use baton_catalog::AppName;
use baton_control::{Home, Restored, Wish};
use baton_flow::Sampling;
use baton_gateway::{Authorities, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::build::{self, Executables};
use crate::cli::{NodeArgs, Receipts, TelemetryArgs, UpArgs};
use crate::client::Client;
use crate::cores;
use crate::failure::Failure;
use crate::logging;
use crate::otlp::{OtlpSettings, traces_ppm};
use crate::output::{Style, json_out, line_out};
use crate::verbs::{block_on, deploy_built, described};
use crate::watch::Sources;
use crate::wiring::{self, Running, Settings};

/// An app that is deployed at the start.
struct First {
    app: App,
    built: Executables,
    sources: Option<Sources>,
}

/// `baton up`.
pub(crate) fn up(home: &Path, args: &UpArgs) -> Result<ExitCode, Failure> {
    let app = App::load(&args.dir)?;
    // Before the build: a second node should know at once.
    let home = Home::open(home)?;
    let sources = args.watch.then(|| Sources::of(&app));
    let built = if args.no_build { build::find(&app) } else { build::build(&app) }?;
    serve(home, &args.node, Some(First { app, built, sources }))
}

/// `baton node`.
pub(crate) fn run(home: &Path, args: &NodeArgs) -> Result<ExitCode, Failure> {
    serve(Home::open(home)?, args, None)
}

/// As many descriptors as the machine lets a node have: thousands of functions need tens of thousands.
fn open_up() {
    let limit = getrlimit(Resource::Nofile);
    // With fewer it works as well: fewer cells are there at once.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn serve(home: Home, args: &NodeArgs, first: Option<First>) -> Result<ExitCode, Failure> {
    let telemetry = &args.telemetry;
    logging::start(telemetry.log_format, telemetry.log.as_deref())?;
    open_up();
    if let Some(cores) = &args.cores {
        cores.keep_to()?;
    }
    let authorities = match &args.network_ca {
        Some(path) => Authorities::read(path).map_err(|error| {
            Failure::failed(&error, "name a file with certificates in PEM, or leave --network-ca out")
        })?,
        None => Authorities::default(),
    };
    let otlp = OtlpSettings::read(telemetry.otlp.as_deref(), variable)?;
    let tls = args.tls.open()?;
    let except: Vec<AppName> = first.iter().map(|first| first.app.manifest.app.name.clone()).collect();
    let settings = Settings {
        listen: args.gateway_address(),
        admin: args.admin_address(),
        lambda: args.lambda.lambda,
        cores: cores::allowed(),
        sampling: sampling(telemetry, otlp.is_some())?,
        otlp,
        authorities,
        tls: tls.clone(),
        insecure_no_sandbox: args.insecure_no_sandbox,
        cluster: args.cluster.settings()?,
        except,
    };
    let running = wiring::start(home, settings)?;
    block_on(foreground(running, args.json, first, tls))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How much is recorded of invocations; traces only where somebody takes them.
fn sampling(args: &TelemetryArgs, has_collector: bool) -> Result<Sampling, Failure> {
    if args.trace_sample.is_some() && !has_collector {
        return Err(Failure::bad_input(
            "--trace-sample says how much is traced, and nothing says where to",
            "add --otlp http://HOST:PORT, or set OTEL_EXPORTER_OTLP_ENDPOINT",
        ));
    }
    let traces_ppm = has_collector.then(|| traces_ppm(args.trace_sample, variable)).transpose()?;
    let receipts = args.receipts();
    let receipts_every = match receipts {
        Some(Receipts::Every(every)) => every,
        Some(Receipts::OnDemand) | None => 0,
    };
    Ok(Sampling { receipts_every, on_demand: receipts.is_some(), traces_ppm })
}

/// Deploys, says that the node is ready, and stays until it is told to end.
async fn foreground(
    mut running: Running,
    json: bool,
    first: Option<First>,
    tls: Option<Tls>,
) -> Result<ExitCode, Failure> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut signals = Signals::new(tls)?;
    for Restored { app, result } in &running.restored {
        if let Err(fault) = result {
            eprintln!("{} {app} was not restored: {fault}", Style::stderr().yellow("warning:"));
        }
    }
    let client = Client::new(&running.root);
    let started = async {
        if let Some(First { app, built, .. }) = &first {
            let reply = deploy_built(&client, app, built, Wish::default()).await?;
            if !json {
                line_out(&described(&client, &reply).await?)?;
            }
        }
        ready(&running, &client, json, scheme).await
    };
    let result = tokio::select! {
        result = started => result,
        () = signals.next() => {
            running.end(signals.next()).await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Err(failure) = result {
        running.end(std::future::ready(())).await;
        return Err(failure);
    }
    if let Some(First { app, sources: Some(sources), .. }) = first {
        watch(app, sources, client)?;
    }
    let drain = std::sync::Arc::clone(&running.drain);
    tokio::select! {
        () = signals.next() => eprintln!("finishing what is in flight; once more ends it at once"),
        () = drain.notified() => {}
        failure = running.failed() => return Err(failure),
    }
    running.end(signals.next()).await;
    Ok(ExitCode::SUCCESS)
}

/// The one line of `--json`.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    gateway: String,
    /// What the gateway speaks: `http` or `https`.
    scheme: &'static str,
    admin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda: Option<String>,
    token: &'a str,
    apps: Vec<String>,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Apps {
    apps: Vec<NamedApp>,
}

#[derive(Debug, Deserialize)]
struct NamedApp {
    app: String,
}

async fn ready(running: &Running, client: &Client, json: bool, scheme: &'static str) -> Result<(), Failure> {
    let Apps { apps } = client.get("/v1/apps").await?;
    let apps: Vec<String> = apps.into_iter().map(|named| named.app).collect();
    let (gateway, admin) = (running.gateway.to_string(), running.admin.to_string());
    if json {
        let lambda = running.lambda.map(|address| address.to_string());
        let (token, pid) = (running.token.as_str(), std::process::id());
        let name = running.seat.as_ref().map(|(name, _)| name.as_str());
        let cluster = running.seat.as_ref().map(|(_, address)| address.to_string());
        return json_out(&Ready { gateway, scheme, admin, lambda, token, apps, pid, name, cluster });
    }
    let style = Style::stdout();
    line_out(&format!("{} {scheme}://{gateway}/", style.green("ready")))?;
    line_out(&style.faint(&format!(
        "dashboard and admin API on http://{admin}/, token in {}",
        running.root.join("token").display()
    )))?;
    if let Some(address) = running.lambda {
        line_out(&style.faint(&format!("Lambda API on http://{address}, for keys of `baton lambda keys`")))?;
    }
    if let Some((name, address)) = &running.seat {
        line_out(&style.faint(&format!("node {name} of a cluster, for other nodes on {address}")))?;
    }
    if apps.is_empty() {
        return line_out("nothing is deployed yet; `baton deploy DIR` deploys an app");
    }
    Ok(())
}

/// Builds and deploys on every change of a source, on a thread of its own. What runs goes on if that fails.
fn watch(mut app: App, mut sources: Sources, client: Client) -> Result<(), Failure> {
    let directory = app.directory.clone();
    let again = move || loop {
        sources.settle(&app);
        sources.changed();
        let attempt = || {
            let changed = App::load(&directory)?;
            let sources = Sources::of(&changed);
            let built = build::build(&changed)?;
            let reply = block_on(async {
                let reply = deploy_built(&client, &changed, &built, Wish::default()).await?;
                described(&client, &reply).await
            })?;
            Ok((changed, sources, reply))
        };
        match attempt() {
            Ok((changed, seen, reply)) => {
                (app, sources) = (changed, seen);
                eprintln!("{reply}");
            }
            Err(failure) => {
                Failure::print(&failure);
                eprintln!("what ran before runs on");
            }
        }
    };
    let thread = thread::Builder::new().name("baton-watch".to_owned()).spawn(again);
    thread.map(|_| ()).map_err(|error| Failure::failed(format_args!("cannot watch the sources: {error}"), ""))
}

/// The signals that ask a node to end. With TLS, a hang-up asks for new certificates instead.
struct Signals {
    tls: Option<Tls>,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new(tls: Option<Tls>) -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format_args!("cannot wait for signals: {error}"), ""))
        };
        Ok(Self {
            tls,
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => match &self.tls {
                    Some(tls) => tls.reload(),
                    None => return,
                },
            }
        }
    }
}
