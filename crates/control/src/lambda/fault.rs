//! Errors as AWS clients know them: a kind in `x-amzn-errortype`, and a JSON body with `Type` and `Message`.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use baton_flow::{InvokeError, PlaneGone};
use serde_json::json;

use super::package::PackageError;
use crate::artifacts::ArtifactError;
use crate::deploy::DeployFault;
use crate::events::EventFault;
use crate::store::StoreError;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Fault {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, kind, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", message)
    }

    pub(super) fn content(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidRequestContentException", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "ResourceConflictException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFoundException", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestTooLargeException", message)
    }

    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequestsException", message)
    }

    pub(super) fn service(message: impl Into<String>) -> Self {
        Self::new(500, "ServiceException", message)
    }

    /// What this API does not do, of what AWS does.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::invalid(format!("{what} is not supported by Baton; docs/lambda.md lists what is"))
    }

    pub(super) fn unknown_operation(method: &str, path: &str) -> Self {
        let message =
            format!("Baton has no operation {method} {path}; docs/lambda.md lists those that it has");
        Self::new(404, "UnknownOperationException", message)
    }

    pub(super) fn denied(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(403, kind, message)
    }

    /// Stale `RevisionId`.
    pub(super) fn precondition() -> Self {
        Self::new(
            412,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to \
             retrieve the latest Revision Id",
        )
    }

    pub(super) fn response(&self) -> Response<Body> {
        let side = if self.status.is_server_error() { "Service" } else { "User" };
        let mut body = json!({ "Type": side, "Message": self.message, "message": self.message });
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            body["Reason"] = "ConcurrentInvocationLimitExceeded".into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<PlaneGone> for Fault {
    fn from(gone: PlaneGone) -> Self {
        Self::service(gone.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::service(error.to_string())
    }
}

impl From<ArtifactError> for Fault {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::TooLarge => Self::too_large(error.to_string()),
            _ => Self::service(error.to_string()),
        }
    }
}

impl From<PackageError> for Fault {
    fn from(error: PackageError) -> Self {
        Self::invalid(format!("Could not unzip uploaded file: {error}. {}", error.hint()))
    }
}

impl From<DeployFault> for Fault {
    fn from(fault: DeployFault) -> Self {
        match fault {
            DeployFault::Gone(_) | DeployFault::Store(_) | DeployFault::Cluster(_) | DeployFault::Ending => {
                Self::service(fault.to_string())
            }
            _ => Self::invalid(fault.to_string()),
        }
    }
}

impl From<EventFault> for Fault {
    fn from(fault: EventFault) -> Self {
        let text = fault.to_string();
        match fault {
            EventFault::Unknown { .. } | EventFault::Absent { .. } => Self::not_found(text),
            EventFault::QueueFull { .. } | EventFault::NoRoom | EventFault::Busy => Self::too_many(text),
            EventFault::TooLarge => Self::too_large(text),
            EventFault::Disk(_) | EventFault::Store(_) => Self::service(text),
        }
    }
}

/// What an invocation that came to nothing is to its caller: an error of the service, or one of the function, which AWS tells
/// with a success and `X-Amz-Function-Error`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Refused(Fault),
    Failed { kind: &'static str, message: String },
}

pub(super) fn came_of(error: &InvokeError) -> Came {
    let text = error.to_string();
    let failed = |kind| Came::Failed { kind, message: text.clone() };
    match error {
        InvokeError::Unknown => Came::Refused(Fault::not_found(text)),
        InvokeError::TooLarge { .. } => Came::Refused(Fault::too_large(text)),
        InvokeError::PoolFull | InvokeError::QueueFull => Came::Refused(Fault::too_many(text)),
        InvokeError::Refused(refusal) if refusal.status == 429 => Came::Refused(Fault::too_many(text)),
        InvokeError::Refused(_) => Came::Refused(Fault::denied("AccessDeniedException", text)),
        InvokeError::HeadTooLarge => Came::Refused(Fault::content(text)),
        InvokeError::NoReplica { .. }
        | InvokeError::NoNode { .. }
        | InvokeError::NodeLost { .. }
        | InvokeError::NotKept { .. }
        | InvokeError::Draining => Came::Refused(Fault::service(text)),
        InvokeError::DeadlineExceeded { .. } => failed("Sandbox.Timedout"),
        InvokeError::ReplicaDied { .. } => failed("Runtime.ExitError"),
        InvokeError::BadReply { .. } => failed("Runtime.InvalidResponse"),
        InvokeError::Function { .. } => failed("Runtime.Unknown"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_finds_no_room_is_too_many_requests() {
        let full = Fault::from(EventFault::QueueFull { queue: 10_000 });
        let response = full.response();
        assert_eq!((response.status().as_u16(), full.kind), (429, "TooManyRequestsException"));
        assert_eq!(response.headers()[ERROR_TYPE], full.kind);
        assert_eq!(response.headers()["retry-after"], "1");
        for error in [InvokeError::QueueFull, InvokeError::PoolFull] {
            assert!(matches!(came_of(&error), Came::Refused(fault) if fault.status == 429));
        }
    }

    #[test]
    fn what_went_wrong_in_the_function_is_told_as_its_error() {
        let late = InvokeError::DeadlineExceeded { after: Duration::from_secs(1) };
        assert!(matches!(came_of(&late), Came::Failed { kind: "Sandbox.Timedout", .. }));
        let died = InvokeError::ReplicaDied { function: "f".to_owned(), how: "signal 9".to_owned() };
        assert!(
            matches!(came_of(&died), Came::Failed { kind: "Runtime.ExitError", message } if message.contains("signal 9"))
        );
        assert!(matches!(came_of(&InvokeError::Unknown), Came::Refused(fault) if fault.status == 404));
    }
}
