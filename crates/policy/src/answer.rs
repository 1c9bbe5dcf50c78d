//! What became of a request.

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status that its client sees; 499 if the client has left.
    pub status: u16,
    /// Whether the function failed: it gave no answer, or one of 500 and above. `None` if it had no say.
    pub has_failed: Option<bool>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
}
