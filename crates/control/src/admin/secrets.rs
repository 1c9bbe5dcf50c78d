//! Endpoints of secrets. Values come in by bodies and go out by none.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use baton_catalog::limits::SECRET_BYTES_MAX;
use baton_catalog::{AppName, SecretName};

use super::Api;
use super::fault::Fault;
use super::writes::{collect, finished};
use crate::deploy::{DeployFault, SecretFault};
use crate::protocol::SecretReply;
use crate::secrets::{SecretReport, SecretValue};

/// `GET /v1/secrets`.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Vec<SecretReport>>, Fault> {
    Ok(Json(api.deployer.secrets()?))
}

/// `PUT /v1/secrets/{app}/{name}`: the body is the value.
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Path((app, name)): Path<(String, String)>,
    body: Body,
) -> Result<Json<SecretReply>, Fault> {
    let (app, name) = names(&app, &name)?;
    let value = SecretValue::new(collect(body, SECRET_BYTES_MAX + 1).await?).map_err(|fault| {
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, fault.to_string(), "send the value as the body")
    })?;
    let reply = (app.to_string(), name.to_string());
    // On a task of its own: a client that leaves must not stop a change half way.
    let work = tokio::spawn(async move { api.deployer.set_secret(app, name, value).await });
    let change = finished(work.await)?.map_err(refused)?;
    let (app, name) = reply;
    Ok(Json(SecretReply {
        app,
        name,
        revision: change.revision,
        changed: change.changed,
        started: change.started,
        shared: change.shared,
    }))
}

/// `DELETE /v1/secrets/{app}/{name}`.
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path((app, name)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let (app, name) = names(&app, &name)?;
    let work = tokio::spawn(async move { api.deployer.remove_secret(&app, &name).await });
    finished(work.await)?.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

fn names(app: &str, name: &str) -> Result<(AppName, SecretName), Fault> {
    let bad = |what: &str, fault: baton_catalog::NameFault| {
        let hint = "use lower-case letters, digits and `-`, a letter first";
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{what} cannot be so named: {fault}"), hint)
    };
    let app = AppName::new(app).map_err(|fault| bad("an app", fault))?;
    Ok((app, SecretName::new(name).map_err(|fault| bad("a secret", fault))?))
}

fn refused(fault: SecretFault) -> Fault {
    match fault {
        SecretFault::Secret(error) => error.into(),
        SecretFault::Refused(DeployFault::Cluster(error)) => error.into(),
        SecretFault::Refused(fault) => Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the app does not start with the new value: {fault}"),
            "the value of before holds; `baton logs` may say more",
        ),
        SecretFault::InUse { functions } => Fault::new(
            StatusCode::CONFLICT,
            format!("it is granted to {}, which run", functions.join(", ")),
            "take it out of the manifest and deploy that first, or set another value",
        ),
    }
}
