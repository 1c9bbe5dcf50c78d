//! `baton ps` and `baton caps ls`: what runs, and who holds what.

use std::path::Path;

use baton_catalog::Percent;
use baton_control::protocol::{FailedApp, Refusal, UndoneRow};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;

use super::talk;
use crate::cli::{CapsArgs, JsonArgs};
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{Style, bytes, bytes_out, line_out, print_table, table};

#[derive(Debug, Deserialize)]
struct Apps {
    apps: Vec<App>,
    failed: Vec<FailedApp>,
    beside: Vec<App>,
    versions: Vec<Version>,
    refused: Vec<Refusal>,
    undone: Vec<UndoneRow>,
}

/// A version of an app that runs.
#[derive(Debug, Deserialize)]
struct Version {
    app: String,
    version: u64,
    state: String,
    share: u16,
    requests: u64,
    failures: u64,
}

#[derive(Debug, Deserialize)]
struct App {
    app: String,
    version: u64,
    functions: Vec<Function>,
    pool: Pool,
    wake: String,
    wake_because: String,
}

#[derive(Debug, Deserialize)]
struct Function {
    function: String,
    runs_as: String,
    queued: u64,
    calls: u64,
    errors: u64,
    faults: u64,
    network: Network,
    replicas: Vec<Replica>,
}

/// Requests that went, or were to go, out of the node.
#[derive(Debug, Deserialize)]
struct Network {
    answered: u64,
    denied: u64,
    failed: u64,
}

#[derive(Debug, Deserialize)]
struct Replica {
    holder: u16,
    pid: u32,
    cell: Option<u32>,
    state: String,
    in_flight: u32,
    restarts: u32,
    up_s: u64,
}

#[derive(Debug, Deserialize)]
struct Pool {
    pool_bytes: u64,
    free_bytes: u64,
    buffers_in_use: u32,
}

pub(super) fn run(home: &Path, args: &JsonArgs) -> Result<(), Failure> {
    let answer = talk(home, async |client| client.call(Method::GET, "/v1/apps", Bytes::new()).await)?;
    if args.json {
        bytes_out(&answer)?;
        return line_out("");
    }
    let Apps { apps, failed, beside, versions, refused, undone } = parse(&answer)?;
    if apps.is_empty() && failed.is_empty() {
        return line_out("nothing is deployed; `baton deploy DIR` deploys an app");
    }
    let style = Style::stdout();
    for app in &apps {
        let Pool { pool_bytes, free_bytes, buffers_in_use } = &app.pool;
        line_out(&format!(
            "{} version {}, pool {} of {} free, {buffers_in_use} buffers in use, wake {} ({})",
            style.green(&app.app),
            app.version,
            bytes(*free_bytes),
            bytes(*pool_bytes),
            app.wake,
            app.wake_because,
        ))?;
    }
    for FailedApp { app, error } in &failed {
        line_out(&format!("{} could not be started: {error}", style.red(app)))?;
    }
    tell_versions(&apps, &versions)?;
    for Refusal { app, version, error, .. } in &refused {
        line_out(&format!("{} {error}", style.red(&format!("{app} version {version} was not deployed:"))))?;
    }
    for UndoneRow { app, version, why, .. } in &undone {
        line_out(&format!("{} {why}", style.red(&format!("{app} version {version} was rolled back:"))))?;
    }
    let leading = apps.iter().map(|app| (app.app.clone(), app));
    let next = beside.iter().map(|app| (format!("{} v{}", app.app, app.version), app));
    let named = leading.chain(next);
    let rows =
        named.flat_map(|(name, app)| app.functions.iter().flat_map(move |function| rows(&name, function)));
    let head = [
        "FUNCTION",
        "RUNS AS",
        "REPLICA",
        "CELL",
        "PID",
        "STATE",
        "IN FLIGHT",
        "QUEUED",
        "CALLS",
        "ERRORS",
        "FAULTS",
        "RESTARTS",
        "UP",
    ];
    line_out("")?;
    print_table(&table(&head, rows))?;
    let functions = apps.iter().flat_map(|app| app.functions.iter().map(|function| (&app.app, function)));
    for (app, Function { function, network: Network { answered, denied, failed }, .. }) in functions {
        if answered + denied + failed > 0 {
            let denied = if *denied > 0 { style.red(&denied.to_string()) } else { denied.to_string() };
            line_out(&format!(
                "{app}/{function} asked the network: {answered} answered, {denied} denied, {failed} failed"
            ))?;
        }
    }
    Ok(())
}

/// Which versions answer, of apps of which there are several.
fn tell_versions(apps: &[App], versions: &[Version]) -> Result<(), Failure> {
    for app in apps {
        let of_app: Vec<&Version> = versions.iter().filter(|version| version.app == app.app).collect();
        if of_app.len() < 2 {
            continue;
        }
        for Version { app, version, state, share, requests, failures } in of_app {
            let share = Percent::from_hundredths(*share).unwrap_or_default();
            line_out(&format!(
                "  {app} v{version}: {state}, {share} of the requests, {requests} answered, {failures} failed"
            ))?;
        }
    }
    Ok(())
}

/// A row a replica; a function's own figures stand in its first row.
fn rows(app: &str, function: &Function) -> Vec<Vec<String>> {
    let name = format!("{app}/{}", function.function);
    let figures = |first: bool| match first {
        true => [function.queued, function.calls, function.errors, function.faults].map(|n| n.to_string()),
        false => Default::default(),
    };
    if function.replicas.is_empty() {
        let [queued, calls, errors, faults] = figures(true);
        let none = String::new;
        let row = [
            name,
            function.runs_as.clone(),
            none(),
            none(),
            none(),
            "idle".to_owned(),
            none(),
            queued,
            calls,
            errors,
            faults,
        ];
        return vec![row.to_vec()];
    }
    let row = |(number, replica): (usize, &Replica)| {
        let [queued, calls, errors, faults] = figures(number == 0);
        vec![
            name.clone(),
            function.runs_as.clone(),
            format!("#{}", replica.holder),
            replica.cell.map(|cell| cell.to_string()).unwrap_or_default(),
            replica.pid.to_string(),
            replica.state.clone(),
            replica.in_flight.to_string(),
            queued,
            calls,
            errors,
            faults,
            replica.restarts.to_string(),
            format!("{} s", replica.up_s),
        ]
    };
    function.replicas.iter().enumerate().map(row).collect()
}

#[derive(Debug, Deserialize)]
struct Capabilities {
    capabilities: Vec<Capability>,
}

#[derive(Debug, Deserialize)]
struct Capability {
    app: String,
    capability: String,
    buffer: u32,
    holder: String,
    state: String,
    rights: String,
    offset: u64,
    len: u64,
    parent: Option<String>,
    invocation: Option<String>,
}

pub(super) fn capabilities(home: &Path, args: &CapsArgs) -> Result<(), Failure> {
    let path = match &args.app {
        Some(app) => format!("/v1/caps?app={}", escaped(app)),
        None => "/v1/caps".to_owned(),
    };
    let answer = talk(home, async |client| client.call(Method::GET, &path, Bytes::new()).await)?;
    if args.output.json {
        bytes_out(&answer)?;
        return line_out("");
    }
    let Capabilities { capabilities } = parse(&answer)?;
    if capabilities.is_empty() {
        return line_out("nobody holds a payload");
    }
    let rows = capabilities.into_iter().map(|row| {
        vec![
            row.app,
            row.capability,
            row.buffer.to_string(),
            row.holder,
            row.state,
            row.rights,
            format!("{}..{}", row.offset, row.offset.saturating_add(row.len)),
            row.parent.unwrap_or_default(),
            row.invocation.unwrap_or_default(),
        ]
    });
    let head = ["APP", "CAPABILITY", "BUFFER", "HOLDER", "STATE", "RIGHTS", "RANGE", "FROM", "INVOCATION"];
    print_table(&table(&head, rows))
}
