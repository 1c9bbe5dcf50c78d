//! Endpoints that only tell.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use baton_flow::status::{PoolStatus, Receipt};
use serde::Deserialize;
use tokio::time::Instant;

use super::Api;
use super::fault::Fault;
use super::versions::undone;
use crate::artifacts::ArtifactHash;
use crate::limits;
use crate::protocol::{Apps, Capabilities, LogPage, NodeInfo, Receipts};

type Given<T> = Result<Query<T>, QueryRejection>;

fn given<T>(query: Given<T>) -> Result<T, Fault> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Fault::new(
            StatusCode::BAD_REQUEST,
            rejection.body_text(),
            "check the query's names and values",
        )),
    }
}

pub(super) fn no_app(app: &str) -> Fault {
    Fault::new(StatusCode::NOT_FOUND, format!("no app {app} runs"), "`baton ps` lists what runs")
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn node(State(api): State<Arc<Api>>) -> Json<NodeInfo> {
    Json(api.info())
}

pub(super) async fn apps(State(api): State<Arc<Api>>) -> Result<Json<Apps>, Fault> {
    Ok(Json(Apps {
        apps: api.plane.status().await?,
        failed: api.deployer.failed(),
        beside: api.plane.status_beside().await?,
        versions: api.plane.versions().await?,
        refused: api.deployer.refusals(),
        undone: undone(&api),
    }))
}

pub(super) async fn pool(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<PoolStatus>, Fault> {
    api.plane.pool(app.clone()).await?.map(Json).ok_or_else(|| no_app(&app))
}

pub(super) async fn artifact(State(api): State<Arc<Api>>, Path(hash): Path<String>) -> StatusCode {
    match hash.parse::<ArtifactHash>() {
        Ok(hash) if api.deployer.artifacts().contains(&hash) => StatusCode::OK,
        Ok(_) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppQuery {
    app: Option<String>,
}

pub(super) async fn capabilities(
    State(api): State<Arc<Api>>,
    query: Given<AppQuery>,
) -> Result<Json<Capabilities>, Fault> {
    let AppQuery { app } = given(query)?;
    if let Some(app) = &app
        && api.plane.pool(app.clone()).await?.is_none()
    {
        return Err(no_app(app));
    }
    Ok(Json(Capabilities { capabilities: api.plane.capabilities(app).await? }))
}

pub(super) async fn receipts(State(api): State<Arc<Api>>) -> Result<Json<Receipts>, Fault> {
    Ok(Json(Receipts { receipts: api.plane.receipts().await? }))
}

pub(super) async fn receipt(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Receipt>, Fault> {
    api.plane.receipt(id.clone()).await?.map(Json).ok_or_else(|| {
        Fault::new(
            StatusCode::NOT_FOUND,
            format!("there is no receipt of invocation {id}"),
            "receipts are written while recording is on (`baton up --receipts`); the last 256 are kept",
        )
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    #[serde(default)]
    after: u64,
    app: Option<String>,
    function: Option<String>,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    query: Given<LogQuery>,
) -> Result<Json<LogPage>, Fault> {
    let LogQuery { after, app, function, wait_ms } = given(query)?;
    let until = Instant::now() + Duration::from_millis(wait_ms).min(limits::LOG_WAIT_MAX);
    loop {
        let mut lines = api.plane.logs_after(after, app.clone(), function.clone()).await?;
        if !lines.is_empty() || Instant::now() >= until {
            lines.truncate(limits::LOG_LINES_MAX);
            let next = lines.last().map_or(after, |line| line.number);
            return Ok(Json(LogPage { lines, next }));
        }
        tokio::time::sleep_until(until.min(Instant::now() + limits::LOG_POLL)).await;
    }
}
