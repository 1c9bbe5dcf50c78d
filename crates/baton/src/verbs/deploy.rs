//! `baton deploy`: build, upload what is new, switch.

use std::collections::BTreeMap;
use std::path::Path;

use baton_catalog::{Canary, FunctionName, Isolation};
use baton_control::protocol::{DeployReply, DeployRequest};
use baton_control::{ArtifactHash, Wish};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::talk;
use crate::app::App;
use crate::build::{self, Executables};
use crate::cli::{DeployArgs, RolloutArgs};
use crate::client::{Client, parse};
use crate::code;
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out};

/// Compilations that are asked for at once; the node runs as many of them as it has cores.
const COMPILATIONS_MAX: usize = 16;

pub(super) fn run(home: &Path, args: &DeployArgs) -> Result<(), Failure> {
    // A build may be heavy, and the node that this is for may be on the same cores.
    baton_replica::turns::step_back();
    // Asked first: a build takes long, and is for nothing without a node.
    talk(home, async |client| client.call(Method::GET, "/healthz", Bytes::new()).await)?;
    let app = App::load(&args.dir)?;
    let built = build::build(&app)?;
    talk(home, async |client| {
        let reply = deploy_built(&client, &app, &built, wish(&args.rollout)).await?;
        if args.output.json {
            return json_out(&reply);
        }
        line_out(&described(&client, &reply).await?)
    })
}

/// What the options say of how a new version takes over.
fn wish(args: &RolloutArgs) -> Wish {
    let canary = args.canary.map(|share| Canary { share, sticky: args.sticky.clone() });
    Wish { canary, rollback: args.rollback }
}

/// Who deploys, as far as the environment says.
fn deployer() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let program = concat!("baton ", env!("CARGO_PKG_VERSION"));
    user.map_or_else(|| program.to_owned(), |user| format!("{user}, {program}"))
}

/// What came of a deployment, for people.
pub(crate) async fn described(client: &Client, reply: &DeployReply) -> Result<String, Failure> {
    let style = Style::stdout();
    let DeployReply { app, version, .. } = reply;
    let Some(replicas) = reply.replicas else {
        return Ok(format!("{app} version {version} runs already, nothing has changed"));
    };
    let plural = if replicas == 1 { "" } else { "s" };
    let Apps { apps, beside } = client.get("/v1/apps").await?;
    let running =
        apps.into_iter().chain(beside).filter(|found| found.app == *app && found.version == *version);
    let functions = running.flat_map(|found| found.functions);
    let hosting = hosting(functions.map(|function| function.runs_as));
    let deployed = style.green("deployed");
    let share = match (&reply.share, reply.before) {
        (Some(share), Some(before)) => {
            format!("; it has {share} of the requests, version {before} stands beside it")
        }
        _ => String::new(),
    };
    Ok(format!("{deployed} {app} version {version}, {replicas} replica{plural} ready, {hosting}{share}"))
}

#[derive(Debug, Deserialize)]
struct Apps {
    apps: Vec<RunningApp>,
    beside: Vec<RunningApp>,
}

#[derive(Debug, Deserialize)]
struct RunningApp {
    app: String,
    version: u64,
    functions: Vec<RunningFunction>,
}

#[derive(Debug, Deserialize)]
struct RunningFunction {
    runs_as: String,
}

/// How many functions run how: `compartment: 10`, `compartment: 3, process (no memory keys): 1`.
fn hosting(functions: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for runs_as in functions {
        *counts.entry(runs_as).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(runs_as, count)| format!("{runs_as}: {count}")).collect();
    parts.join(", ")
}

/// Uploads what the node lacks and switches to it.
pub(crate) async fn deploy_built(
    client: &Client,
    app: &App,
    built: &Executables,
    rollout: Wish,
) -> Result<DeployReply, Failure> {
    let mut artifacts = BTreeMap::new();
    for (function, path) in built {
        let hash = ArtifactHash::of_file(path).map_err(|error| {
            Failure::failed(format_args!("cannot read {}: {error}", path.display()), "build again")
        })?;
        client.upload(&hash.to_string(), path).await?;
        artifacts.insert(function.clone(), hash);
    }
    compile(client, app, &artifacts).await?;
    let files = upload_files(client, app).await?;
    let name = app.manifest.app.name.clone();
    let request = DeployRequest { manifest: app.manifest.clone(), artifacts, files, rollout, by: deployer() };
    let body = serde_json::to_vec(&request).map_err(|error| {
        Failure::failed(format_args!("cannot write JSON: {error}"), "report this as a bug")
    })?;
    parse(&client.call(Method::POST, &format!("/v1/apps/{name}"), Bytes::from(body)).await?)
}

/// Has the node compile the app's modules, several at once: what takes long is seen to go on, and what is wrong with a
/// module is told before anything else of the deployment is tried.
async fn compile(
    client: &Client,
    app: &App,
    artifacts: &BTreeMap<FunctionName, ArtifactHash>,
) -> Result<(), Failure> {
    let is_module = |name: &FunctionName| {
        app.manifest.function(name.as_str()).is_some_and(|function| function.isolation == Isolation::Wasm)
    };
    let modules = artifacts.iter().filter(|(name, _)| is_module(name));
    let modules: BTreeMap<ArtifactHash, FunctionName> =
        modules.map(|(name, hash)| (*hash, name.clone())).collect();
    let progress = build::progress();
    let count = modules.len();
    let (mut asked, mut done) = (JoinSet::new(), 0);
    for (hash, function) in modules {
        if asked.len() == COMPILATIONS_MAX {
            done += compiled(&mut asked).await?;
        }
        progress.set_message(format!("compiling modules: {done} of {count} done, now {function}"));
        let client = client.clone();
        asked.spawn(async move {
            let answer = client.call(Method::POST, &format!("/v1/modules/{hash}"), Bytes::new()).await;
            answer.map(|_| ()).map_err(|failure| failure.of(&function))
        });
    }
    while !asked.is_empty() {
        done += compiled(&mut asked).await?;
        progress.set_message(format!("compiling modules: {done} of {count} done"));
    }
    progress.finish_and_clear();
    Ok(())
}

/// Waits for one more module.
async fn compiled(asked: &mut JoinSet<Result<(), Failure>>) -> Result<usize, Failure> {
    match asked.join_next().await {
        None => Ok(0),
        Some(Ok(result)) => result.map(|()| 1),
        Some(Err(_)) => Err(Failure::failed("a compilation broke off", "report this as a bug")),
    }
}

/// Bundles the files and the code of functions and uploads those that the node lacks.
async fn upload_files(client: &Client, app: &App) -> Result<BTreeMap<FunctionName, ArtifactHash>, Failure> {
    let mut files = BTreeMap::new();
    for (function, spec) in &app.manifest.functions {
        let Some(bundle) = code::bundle(app, function, spec)? else { continue };
        let hash = ArtifactHash::of(&bundle);
        client.upload_bytes(&hash.to_string(), Bytes::from(bundle)).await?;
        files.insert(function.clone(), hash);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_by_how_they_run() {
        let counted = |words: &[&str]| hosting(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(counted(&["compartment", "process", "compartment"]), "compartment: 2, process: 1");
        assert_eq!(counted(&[]), "");
    }
}
