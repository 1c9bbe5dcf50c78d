//! Endpoints about the versions of an app: which there are, and which answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use baton_catalog::{AppName, Percent};
use baton_flow::status::VersionStatus;

use super::Api;
use super::fault::Fault;
use super::writes::{collect, finished, json};
use crate::deploy::Change;
use crate::limits;
use crate::protocol::{RollbackRequest, TrafficReply, TrafficRequest, UndoneRow, VersionRow, Versions};
use crate::store::{Deployment, Kept};

fn named(app: &str) -> Result<AppName, Fault> {
    AppName::new(app).map_err(|_| no_app(app))
}

pub(super) fn no_app(app: &str) -> Fault {
    Fault::new(StatusCode::NOT_FOUND, format!("no app {app} is deployed"), "`baton ps` lists what is")
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<Versions>, Fault> {
    let kept = api.deployer.kept(&named(&app)?).await?;
    if kept.is_empty() {
        return Err(no_app(&app));
    }
    let running = api.plane.versions().await?;
    let versions = kept.into_iter().map(|kept| row(kept, &running)).collect();
    Ok(Json(Versions { app, versions }))
}

fn row(Kept { deployment, undone }: Kept, running: &[VersionStatus]) -> VersionRow {
    let app = deployment.app().to_string();
    // Of two with one number, the one that is on its way out tells less.
    let runs = running.iter().filter(|runs| runs.app == app && runs.version == deployment.version);
    let runs = runs.min_by_key(|runs| runs.state == "draining");
    let stored = if undone.is_some() { "undone" } else { "stored" };
    // What is not native has its code in its files.
    let mut made_of = deployment.files;
    made_of.extend(deployment.artifacts);
    let functions = made_of.into_iter();
    VersionRow {
        version: deployment.version,
        functions: functions.map(|(name, hash)| (name, hash.to_string())).collect(),
        state: runs.map_or(stored, |runs| runs.state.as_str()).to_owned(),
        share: runs.and_then(|runs| Percent::from_hundredths(runs.share)).unwrap_or_default(),
        deployed_ms: deployment.made.at_ms,
        deployed_by: deployment.made.by,
        undone,
        requests: runs.map_or(0, |runs| runs.requests),
        failures: runs.map_or(0, |runs| runs.failures),
        replicas: runs.map_or(0, |runs| runs.replicas),
    }
}

async fn change(api: Arc<Api>, app: String, change: Change) -> Result<Json<TrafficReply>, Fault> {
    let name = named(&app)?;
    // On a task of its own: a client that leaves must not stop a change half way.
    let work = tokio::spawn(async move { api.deployer.change(&name, change).await });
    let row = finished(work.await)??;
    Ok(Json(TrafficReply { app, shares: shares(&row) }))
}

fn shares(row: &Deployment) -> BTreeMap<u64, Percent> {
    match row.beside.as_deref() {
        None => BTreeMap::from([(row.version, Percent::ALL)]),
        Some(beside) => {
            BTreeMap::from([(row.version, beside.share.rest()), (beside.next.version, beside.share)])
        }
    }
}

pub(super) async fn promote(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<TrafficReply>, Fault> {
    change(api, app, Change::Promote).await
}

pub(super) async fn rollback(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    body: Body,
) -> Result<Json<TrafficReply>, Fault> {
    let bytes = collect(body, limits::DEPLOY_BYTES_MAX).await?;
    let RollbackRequest { version } = match bytes.is_empty() {
        true => RollbackRequest::default(),
        false => serde_json::from_slice(&bytes).map_err(|error| {
            let text = format!("the body is not as it should be: {error}");
            Fault::new(StatusCode::UNPROCESSABLE_ENTITY, text, "send nothing, or {\"version\": 3}")
        })?,
    };
    change(api, app, Change::Rollback { to: version }).await
}

pub(super) async fn traffic(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    body: Body,
) -> Result<Json<TrafficReply>, Fault> {
    let TrafficRequest { shares, sticky } = json(body).await?;
    change(api, app, Change::Traffic { shares, sticky }).await
}

/// What was undone of apps that run.
pub(super) fn undone(api: &Api) -> Vec<UndoneRow> {
    let placed = api.deployer.placed();
    let rows = placed.values().filter_map(|placed| {
        let undone = placed.deployment.undone.as_ref()?;
        let (app, why) = (placed.deployment.app().to_string(), undone.why.clone());
        Some(UndoneRow { app, version: undone.version, why, at_ms: undone.at_ms })
    });
    rows.collect()
}
