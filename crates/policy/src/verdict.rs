//! What a handler says when it does not let a request pass.

use std::borrow::Cow;

/// A request that is not let through: what its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, and what to do.
    pub message: Cow<'static, str>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
    /// What the client has to show, as `WWW-Authenticate` says it.
    pub challenge: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), retry_after: None, challenge: None }
    }

    pub(crate) fn after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    pub(crate) fn challenging(self, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// A handler that panicked: its request ends, the node does not.
    pub(crate) fn panicked() -> Self {
        Self::new(500, "a policy of this function failed; the node's log says more")
    }
}
