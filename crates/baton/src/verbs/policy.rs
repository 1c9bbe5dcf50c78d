//! `baton policy`: what requests of an app pass.

use std::collections::BTreeMap;
use std::path::Path;

use baton_catalog::policy::{PolicyFile, parse_policies};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::talk;
use crate::app::{inline_schemas, report};
use crate::cli::{JsonArgs, PolicyArgs, PolicySetArgs, PolicyVerb};
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out, print_table, table};

/// Random bytes of a key: more than anyone can try.
const KEY_BYTES: usize = 24;

#[derive(Debug, Deserialize)]
struct Status {
    is_set: bool,
    functions: BTreeMap<String, Vec<Handler>>,
}

#[derive(Debug, Deserialize)]
struct Handler {
    #[serde(rename = "use")]
    kind: String,
    passed: u64,
    refused: u64,
    failed: u64,
    mean_ns: u64,
    #[serde(default)]
    state: String,
    outcomes: Option<Outcomes>,
}

#[derive(Debug, Deserialize)]
struct Outcomes {
    succeeded: u64,
    client_errors: u64,
    server_errors: u64,
    p50_us_at_most: u64,
    p99_us_at_most: u64,
}

pub(super) fn run(home: &Path, verb: &PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Show(args) => show(home, args),
        PolicyVerb::Set(args) => set(home, args),
        PolicyVerb::Reset(args) => reset(home, args),
        PolicyVerb::Key(args) => key(args),
    }
}

fn path(app: &str) -> String {
    format!("/v1/apps/{}/policy", escaped(app))
}

fn show(home: &Path, args: &PolicyArgs) -> Result<(), Failure> {
    let answer = talk(home, async |client| client.call(Method::GET, &path(&args.app), Bytes::new()).await)?;
    if args.output.json {
        return json_out(&parse::<Value>(&answer)?);
    }
    let Status { is_set, functions } = parse(&answer)?;
    let from = if is_set { "set by `baton policy set`" } else { "of the manifest" };
    if functions.is_empty() {
        return line_out(&format!("{}: no policies ({from})", args.app));
    }
    line_out(&format!("{}: policies {from}", args.app))?;
    let mut rows = Vec::new();
    for (function, handlers) in &functions {
        for handler in handlers {
            let state = handler.outcomes.as_ref().map_or_else(|| handler.state.clone(), outcomes);
            rows.push(vec![
                function.clone(),
                handler.kind.clone(),
                handler.passed.to_string(),
                handler.refused.to_string(),
                handler.failed.to_string(),
                format!("{} ns", handler.mean_ns),
                state,
            ]);
        }
    }
    let head = ["FUNCTION", "HANDLER", "PASSED", "REFUSED", "FAILED", "MEAN", "STATE"];
    print_table(&table(&head, rows))
}

fn outcomes(outcomes: &Outcomes) -> String {
    let Outcomes { succeeded, client_errors, server_errors, p50_us_at_most, p99_us_at_most } = outcomes;
    format!(
        "{succeeded} ok, {client_errors} 4xx, {server_errors} 5xx; p50 ≤ {p50_us_at_most} µs, p99 ≤ {p99_us_at_most} µs"
    )
}

fn set(home: &Path, args: &PolicySetArgs) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::bad_input(
            format_args!("cannot read {}: {error}", args.file.display()),
            "name a file with [policy] and [functions.NAME.policy] as in a manifest",
        )
    })?;
    let policies = parse_policies(PolicyFile { text: &text, file: &args.file });
    let mut policies = policies.map_err(|error| Failure::manifest(report(error, text)))?;
    let directory = args.file.parent().unwrap_or(Path::new("."));
    inline_schemas(policies.schemas_mut(), directory)?;
    let body = serde_json::to_vec(&policies)
        .map_err(|error| Failure::failed(format_args!("the policies cannot be sent: {error}"), ""))?;
    let answer =
        talk(home, async |client| client.call(Method::PUT, &path(&args.app), Bytes::from(body)).await)?;
    done(&answer, &args.app, "set", &args.output)
}

fn reset(home: &Path, args: &PolicyArgs) -> Result<(), Failure> {
    let answer =
        talk(home, async |client| client.call(Method::DELETE, &path(&args.app), Bytes::new()).await)?;
    done(&answer, &args.app, "reset", &args.output)
}

fn done(answer: &[u8], app: &str, what: &str, output: &JsonArgs) -> Result<(), Failure> {
    if output.json {
        return json_out(&parse::<Value>(answer)?);
    }
    let Status { functions, .. } = parse(answer)?;
    let handlers: usize = functions.values().map(Vec::len).sum();
    let functions = functions.len();
    let done = Style::stdout().green(what);
    line_out(&format!("{done} policies of {app}: {handlers} handlers of {functions} functions"))
}

fn key(output: &JsonArgs) -> Result<(), Failure> {
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format_args!("no random numbers: {error}"), ""))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = blake3::hash(key.as_bytes()).to_hex().to_string();
    if output.json {
        return json_out(&json!({ "key": key, "hash": hash }));
    }
    line_out(&format!("key   {key}"))?;
    line_out(&format!("hash  {hash}"))
}
