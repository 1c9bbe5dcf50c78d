//! Endpoints that change something.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Api;
use super::fault::Fault;
use super::reads::no_app;
use crate::artifacts::{ArtifactError, ArtifactHash, HashFault};
use crate::deploy::{Outcome, Submission};
use crate::limits;
use crate::protocol::{DeployReply, DeployRequest, EvictReply, Recording, RemoveReply};

/// The next bytes of a body; `None` at its end.
async fn next_bytes(body: &mut Body) -> Result<Option<Bytes>, Fault> {
    loop {
        match timeout(limits::BODY_PAUSE_MAX, body.frame()).await {
            Err(_) => {
                return Err(Fault::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body stopped coming",
                    "send it again",
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Fault::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"), ""));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// A whole body, if it is small enough.
pub(super) async fn collect(mut body: Body, most: usize) -> Result<Vec<u8>, Fault> {
    let mut collected = Vec::new();
    while let Some(bytes) = next_bytes(&mut body).await? {
        if collected.len() + bytes.len() > most {
            return Err(Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {} KiB", most >> 10),
                "",
            ));
        }
        collected.extend_from_slice(&bytes);
    }
    Ok(collected)
}

pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Fault> {
    let bytes = collect(body, limits::DEPLOY_BYTES_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body is not as it should be: {error}"), "")
    })
}

pub(super) async fn deploy(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    body: Body,
) -> Result<Json<DeployReply>, Fault> {
    let DeployRequest { manifest, artifacts, files, rollout, mut by } = json(body).await?;
    if let Some((end, _)) = by.char_indices().nth(limits::DEPLOYED_BY_CHARS_MAX) {
        by.truncate(end);
    }
    if manifest.app.name.as_str() != app {
        return Err(Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the path names app {app}, the manifest names {}", manifest.app.name),
            "use the same name in both",
        ));
    }
    // On a task of its own: a client that leaves must not stop a change half way.
    let submission = Submission { manifest, artifacts, files, wish: rollout, by };
    let work = tokio::spawn(async move { api.deployer.deploy(submission).await });
    let outcome = finished(work.await)??;
    Ok(Json(match outcome {
        Outcome::Unchanged { version } => {
            DeployReply { app, version, replicas: None, changed: false, share: None, before: None }
        }
        Outcome::Running { version, replicas } => {
            DeployReply { app, version, replicas: Some(replicas), changed: true, share: None, before: None }
        }
        Outcome::Beside { version, replicas, before, share } => {
            let (share, before) = (Some(share), Some(before));
            DeployReply { app, version, replicas: Some(replicas), changed: true, share, before }
        }
    }))
}

pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<RemoveReply>, Fault> {
    let name = app.clone();
    let work = tokio::spawn(async move {
        let removed = api.deployer.remove(&name).await;
        if matches!(removed, Ok(true)) {
            api.deployer.forget_policies(&name);
        }
        removed
    });
    if finished(work.await)?? {
        return Ok(Json(RemoveReply { removed: app }));
    }
    Err(Fault::new(StatusCode::NOT_FOUND, format!("no app {app} is deployed"), "`baton ps` lists what is"))
}

pub(super) async fn evict(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<EvictReply>, Fault> {
    match api.plane.evict(app.clone()).await? {
        Some(evicted) => Ok(Json(EvictReply { evicted })),
        None => Err(no_app(&app)),
    }
}

pub(super) fn finished<T>(joined: Result<T, tokio::task::JoinError>) -> Result<T, Fault> {
    joined.map_err(|_| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the change broke off", "see the node's output")
    })
}

pub(super) async fn upload(
    State(api): State<Arc<Api>>,
    Path(hash): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<StatusCode, Fault> {
    let hash: ArtifactHash = hash
        .parse()
        .map_err(|fault: HashFault| Fault::new(StatusCode::BAD_REQUEST, fault.to_string(), ""))?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|len: u64| len > limits::ARTIFACT_BYTES_MAX) {
        return Err(ArtifactError::TooLarge.into());
    }
    let Ok(_slot) = api.bounds.uploads.try_acquire() else {
        return Err(Fault::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many uploads at once",
            "try again in a moment",
        ));
    };
    let mut incoming = api.deployer.artifacts().receive(hash)?;
    while let Some(bytes) = next_bytes(&mut body).await? {
        incoming.write(&bytes)?;
    }
    // Off this thread: it waits for the disk.
    finished(tokio::task::spawn_blocking(move || incoming.finish()).await)??;
    Ok(StatusCode::CREATED)
}

pub(super) async fn compile(
    State(api): State<Arc<Api>>,
    Path(hash): Path<String>,
) -> Result<StatusCode, Fault> {
    let hash: ArtifactHash = hash
        .parse()
        .map_err(|fault: HashFault| Fault::new(StatusCode::BAD_REQUEST, fault.to_string(), ""))?;
    // On a task of its own: a client that leaves has the compiler finish, and what it made is kept for the next.
    finished(tokio::spawn(async move { api.deployer.compile(hash).await }).await)??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn recording(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Recording>, Fault> {
    let recording: Recording = json(body).await?;
    api.plane.record(recording.on).await?;
    Ok(Json(recording))
}

pub(super) async fn drain(State(api): State<Arc<Api>>) -> StatusCode {
    api.drain.notify_one();
    StatusCode::ACCEPTED
}
