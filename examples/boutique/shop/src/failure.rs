//! What a step that failed tells the step that asked: an HTTP status and a sentence for a person.

use core::fmt;

/// A failed step. Travels between functions as status and message, whatever carries the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status that fits: 4xx is the visitor's to mend, 5xx the shop's.
    pub status: u16,
    /// One sentence: what was wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this status and message.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A peer sent a body that does not have the layout agreed on.
    pub fn layout(what: &'static str) -> Self {
        Self::new(400, format!("The body is not a {what}."))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status)
    }
}

impl core::error::Error for Failure {}

/// A page or a mail did not fit into its buffer. The sizes asked for are upper bounds, so this is a bug of the shop.
impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::new(500, "The answer did not fit into its buffer.")
    }
}
