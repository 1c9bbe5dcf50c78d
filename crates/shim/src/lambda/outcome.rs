//! What becomes of an event, as AWS says it.

use std::time::Duration;

use serde_json::json;

/// An error of a function: what its caller gets in the place of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// JSON: `errorType`, `errorMessage`, often `stackTrace`.
    pub(crate) body: Vec<u8>,
    /// Whether it ran out of time.
    pub(crate) is_late: bool,
}

impl Failure {
    /// What the program says itself.
    pub(crate) fn told(body: Vec<u8>) -> Failure {
        Failure { body, is_late: false }
    }

    pub(crate) fn new(kind: &str, message: &str) -> Failure {
        let body = json!({ "errorType": kind, "errorMessage": message }).to_string().into_bytes();
        Failure { body, is_late: false }
    }

    pub(crate) fn exited(id: &str, how: &str) -> Failure {
        Failure::new("Runtime.ExitError", &format!("RequestId: {id} Error: Runtime exited with error: {how}"))
    }

    pub(crate) fn late(id: &str, after: Duration) -> Failure {
        let message =
            format!("RequestId: {id} Error: Task timed out after {:.2} seconds", after.as_secs_f64());
        Failure { is_late: true, ..Failure::new("Sandbox.Timedout", &message) }
    }

    /// An answer beyond what AWS allows.
    pub(crate) fn oversized(bytes: usize) -> Failure {
        let message = format!(
            "Response payload size ({bytes} bytes) exceeded maximum allowed payload size (6291556 bytes)."
        );
        Failure::new("Function.ResponseSizeTooLarge", &message)
    }
}

/// What comes of an event, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The whole answer, and its content type.
    Whole(Vec<u8>, Option<String>),
    /// An answer begins that comes in parts, of this content type.
    Begin(Option<String>),
    /// A part.
    Part(Vec<u8>),
    /// It was the last.
    End,
    /// It came to nothing; after [`Delivery::Begin`], what went out was not all.
    Failed(Failure),
}

impl Delivery {
    /// Whether nothing comes behind it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Delivery::Whole(..) | Delivery::End | Delivery::Failed(_))
    }
}
