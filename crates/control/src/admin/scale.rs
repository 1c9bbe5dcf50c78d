//! How many replicas a function has at least and at most, changed while it runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use baton_flow::ScaleError;
use bytes::Bytes;

use super::Api;
use super::fault::Fault;
use crate::protocol::{ScaleReply, ScaleWish};

pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Path((app, function)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<ScaleReply>, Fault> {
    let hint = "send {\"min\": N, \"max\": N}, or one of the two";
    let wish: ScaleWish = serde_json::from_slice(&body).map_err(|error| {
        Fault::new(StatusCode::BAD_REQUEST, format!("the body is no wish for a scale: {error}"), hint)
    })?;
    if wish == ScaleWish::default() {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "neither min nor max is given", hint));
    }
    let set = api.plane.scale(app.clone(), function.clone(), wish).await?;
    let scale = set.map_err(|error| {
        let status = match error {
            ScaleError::Unknown => StatusCode::NOT_FOUND,
            ScaleError::Elsewhere | ScaleError::NoRoom { .. } => StatusCode::CONFLICT,
            ScaleError::MinAboveMax { .. } | ScaleError::OutOfRange { .. } => StatusCode::BAD_REQUEST,
        };
        Fault::new(status, format!("{app}/{function}: {error}"), "")
    })?;
    Ok(Json(ScaleReply { app, function, min: scale.min, max: scale.max, wanted: scale.wanted }))
}
