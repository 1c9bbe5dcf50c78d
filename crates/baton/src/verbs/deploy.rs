//! `baton deploy`: build, upload what is new, switch.

use std::collections::BTreeMap;
use std::path::Path;

use baton_control::ArtifactHash;
use baton_control::protocol::{DeployReply, DeployRequest};
use bytes::Bytes;
use hyper::Method;

use super::talk;
use crate::app::App;
use crate::build::{self, Executables};
use crate::cli::DeployArgs;
use crate::client::{Client, parse};
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out};

pub(super) fn run(home: &Path, args: &DeployArgs) -> Result<(), Failure> {
    // Asked first: a build takes long, and is for nothing without a node.
    talk(home, async |client| client.call(Method::GET, "/healthz", Bytes::new()).await)?;
    let app = App::load(&args.dir)?;
    let built = build::build(&app)?;
    let reply = talk(home, async |client| deploy_built(&client, &app, &built).await)?;
    if args.output.json {
        return json_out(&reply);
    }
    line_out(&described(&reply))
}

/// What came of a deployment, for people.
pub(crate) fn described(reply: &DeployReply) -> String {
    let style = Style::stdout();
    let DeployReply { app, version, .. } = reply;
    match reply.replicas {
        Some(replicas) => {
            let plural = if replicas == 1 { "" } else { "s" };
            format!("{} {app} version {version}, {replicas} replica{plural} ready", style.green("deployed"))
        }
        None => format!("{app} version {version} runs already, nothing has changed"),
    }
}

/// Uploads what the node lacks and switches to it.
pub(crate) async fn deploy_built(
    client: &Client,
    app: &App,
    built: &Executables,
) -> Result<DeployReply, Failure> {
    let mut artifacts = BTreeMap::new();
    for (function, path) in built {
        let hash = ArtifactHash::of_file(path).map_err(|error| {
            Failure::failed(format_args!("cannot read {}: {error}", path.display()), "build again")
        })?;
        client.upload(&hash.to_string(), path).await?;
        artifacts.insert(function.clone(), hash);
    }
    let name = app.manifest.app.name.clone();
    let request = DeployRequest { manifest: app.manifest.clone(), artifacts };
    let body = serde_json::to_vec(&request).map_err(|error| {
        Failure::failed(format_args!("cannot write JSON: {error}"), "report this as a bug")
    })?;
    parse(&client.call(Method::POST, &format!("/v1/apps/{name}"), Bytes::from(body)).await?)
}
