//! Endpoints of policies.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use baton_catalog::policy::AppPolicies;
use baton_flow::{PolicyError, PolicyStatus};

use super::Api;
use super::fault::Fault;
use super::reads::no_app;
use super::writes::{finished, json};
use crate::deploy::PolicyFault;

/// `GET /v1/apps/{app}/policy`.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<PolicyStatus>, Fault> {
    api.plane.policies(app.clone()).await?.map(Json).ok_or_else(|| no_app(&app))
}

/// `PUT /v1/apps/{app}/policy`.
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    body: Body,
) -> Result<Json<PolicyStatus>, Fault> {
    let policies: AppPolicies = json(body).await?;
    change(api, app, Some(policies)).await
}

/// `DELETE /v1/apps/{app}/policy`: what the manifest declares holds again.
pub(super) async fn reset(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<PolicyStatus>, Fault> {
    change(api, app, None).await
}

async fn change(
    api: Arc<Api>,
    app: String,
    policies: Option<AppPolicies>,
) -> Result<Json<PolicyStatus>, Fault> {
    // On a task of its own: a client that leaves must not stop a change half way.
    let (worker, name) = (Arc::clone(&api), app.clone());
    let work = tokio::spawn(async move { worker.deployer.set_policies(&name, policies).await });
    finished(work.await)?.map_err(|fault| match fault {
        PolicyFault::Refused(PolicyError::Unknown) => no_app(&app),
        PolicyFault::Refused(PolicyError::Bad(why)) => Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the policies are not as they may be: {why}"),
            "docs/policy.md has an example of each handler; what held before holds",
        ),
        PolicyFault::Store(error) => error.into(),
        PolicyFault::Gone => baton_flow::PlaneGone.into(),
    })?;
    show(State(api), Path(app)).await
}
