//! `GET /v1/usage`: what functions used.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::Api;
use super::fault::Fault;
use crate::usage::UsageReport;

/// Which accounts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    app: Option<String>,
    /// How far back, in seconds; everything that is kept without it.
    since_s: Option<u64>,
}

pub(super) async fn report(
    State(api): State<Arc<Api>>,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<UsageReport>, Fault> {
    let Query(UsageQuery { app, since_s }) = query.map_err(|rejection| {
        let hint = "it takes `app` and `since_s`";
        Fault::new(StatusCode::BAD_REQUEST, rejection.body_text(), hint)
    })?;
    let Some(usage) = &api.usage else {
        let hint = "the node's own output says why, where it started";
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, "this node keeps no accounts", hint));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = since_s.map_or(0, |back| now.saturating_sub(back));
    Ok(Json(usage.report(app.as_deref(), since)))
}
