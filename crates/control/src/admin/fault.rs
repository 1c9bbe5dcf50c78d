//! Errors to HTTP: one table for the admin API.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use baton_flow::{DeployError, InvokeError, PlaneGone};

use super::versions::no_app;
use crate::artifacts::ArtifactError;
use crate::cluster::ClusterError;
use crate::deploy::{DeployFault, RolloutError};
use crate::modules::ModuleError;
use crate::protocol::ErrorBody;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    body: ErrorBody,
}

impl Fault {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), hint: hint.into(), unreachable: false } }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(super) async fn unknown_path() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "the admin API has no such path", "see GET /v1/node and /v1/apps")
}

pub(super) async fn wrong_method() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method", "")
}

impl From<PlaneGone> for Fault {
    fn from(gone: PlaneGone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone.to_string(), "start the node again")
    }
}

impl From<ArtifactError> for Fault {
    fn from(error: ArtifactError) -> Self {
        let status = match error {
            ArtifactError::Missing { .. } => StatusCode::CONFLICT,
            ArtifactError::Mismatch { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            ArtifactError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ArtifactError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            ArtifactError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string(), error.hint())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::of_store(&error)
    }
}

impl Fault {
    pub(super) fn of_store(error: &StoreError) -> Self {
        let status = match error {
            StoreError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Damaged { .. }
            | StoreError::Unintelligible { .. }
            | StoreError::Newer { .. }
            | StoreError::Io { .. }
            | StoreError::Encode(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string(), error.hint())
    }
}

impl From<ClusterError> for Fault {
    fn from(error: ClusterError) -> Self {
        let status = match error {
            ClusterError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ClusterError::Conflict { .. } | ClusterError::NameTaken { .. } => StatusCode::CONFLICT,
            ClusterError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ClusterError::NoNode { .. } => StatusCode::NOT_FOUND,
            ClusterError::Refused { .. } => StatusCode::BAD_GATEWAY,
            ClusterError::Absent { .. }
            | ClusterError::Artifact(_)
            | ClusterError::File { .. }
            | ClusterError::NoSecretsKey
            | ClusterError::NotSealed
            | ClusterError::Encode(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut fault = Self::new(status, error.to_string(), error.hint());
        fault.body.unreachable = matches!(error, ClusterError::Unreachable { .. });
        fault
    }
}

impl From<RolloutError> for Fault {
    fn from(error: RolloutError) -> Self {
        let status = match error {
            RolloutError::Unknown { .. } => StatusCode::NOT_FOUND,
            RolloutError::Sum { .. } | RolloutError::Versions { .. } | RolloutError::Terms => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            RolloutError::NoCanary { .. } | RolloutError::NoOlder { .. } | RolloutError::Routes { .. } => {
                StatusCode::CONFLICT
            }
        };
        Self::new(status, error.to_string(), error.hint())
    }
}

impl From<SecretError> for Fault {
    fn from(error: SecretError) -> Self {
        let status = match &error {
            SecretError::Unknown { .. } => StatusCode::CONFLICT,
            SecretError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            SecretError::Store(source) => return Self::of_store(source),
            SecretError::Key { .. }
            | SecretError::KeyMissing { .. }
            | SecretError::KeyDamaged { .. }
            | SecretError::OtherKey { .. }
            | SecretError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let hint = error.hint();
        Self::new(status, error.to_string(), hint)
    }
}

impl From<DeployFault> for Fault {
    fn from(fault: DeployFault) -> Self {
        let text = fault.to_string();
        match fault {
            DeployFault::NoArtifact { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                "name an uploaded artifact for each function",
            ),
            DeployFault::StrayArtifact { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                "declare the function, or leave its artifact out",
            ),
            DeployFault::Artifact { source, .. } => {
                Self { body: Self::body(text, source.hint()), ..source.into() }
            }
            DeployFault::NoFiles { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                "name an uploaded bundle for each function whose manifest has `files`",
            ),
            DeployFault::StrayFiles { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                "add `files` to the function, or leave the bundle out",
            ),
            DeployFault::Files { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, text, "let `baton deploy` make the bundle")
            }
            DeployFault::Module { .. }
            | DeployFault::Compile(
                ModuleError::Refused { .. }
                | ModuleError::Ended { .. }
                | ModuleError::Panicked { .. }
                | ModuleError::TooLarge,
            )
            | DeployFault::ModuleMemory { .. }
            | DeployFault::ModuleSetting { .. }
            | DeployFault::Unfit { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, text, "what ran before runs on")
            }
            DeployFault::Refused(DeployError::Routes { .. }) => Self::new(
                StatusCode::CONFLICT,
                text,
                "change the path, remove the other app (`baton rm APP` while a node runs, `baton ps` lists them), or \
                 keep other apps in another BATON_HOME",
            ),
            DeployFault::Refused(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                "`baton logs` may say more; what ran before runs on",
            ),
            DeployFault::Secret { source, .. } | DeployFault::Shared(source) => {
                Self { body: Self::body(text, &source.hint()), ..source.into() }
            }
            DeployFault::Rollout(error) => error.into(),
            DeployFault::NoApp { app } => no_app(&app),
            DeployFault::Gone(gone) => gone.into(),
            DeployFault::Cluster(source) => source.into(),
            DeployFault::Store(source) => source.into(),
            DeployFault::Artifacts(source) => source.into(),
            DeployFault::Unreadable(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text, "deploy the app again")
            }
            DeployFault::Compile(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, text, ""),
            DeployFault::Ending => Self::new(StatusCode::SERVICE_UNAVAILABLE, text, ""),
        }
    }
}

impl Fault {
    fn body(error: String, hint: &str) -> ErrorBody {
        ErrorBody { error, hint: hint.to_owned(), unreachable: false }
    }
}

impl From<InvokeError> for Fault {
    fn from(error: InvokeError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.to_string(), "")
    }
}
