//! An answer on its way out, and what became of a request.

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status that its client sees; 499 if the client has left.
    pub status: u16,
    /// Whether the function failed: it gave no answer, or one of 500 and above.
    pub has_failed: bool,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The invocation, 0 if none began.
    pub invocation: u64,
}

/// The headers of an answer, as handlers may change them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Names as the function wrote them, and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Answer {
    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        self.headers.push((name.to_owned(), value.to_vec()));
    }
}
