//! Spans: a request between its policies, as part of the trace that the node records of it.

/// The trace of a request whose spans are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace: u128,
    /// The request's own span: what is above its policies.
    pub span: u64,
    /// The span of whoever sent it; 0 if it said none.
    pub parent: u64,
}

/// A request that passed a `span` handler is over.
#[derive(Clone, Copy, Debug)]
pub struct SpanEnd<'a> {
    /// The trace, and the request's own span in it.
    pub trace: Trace,
    /// The handler's span, which functions see as theirs.
    pub span: u64,
    /// The function.
    pub function: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// What the client sees; 499 if it left.
    pub status: u16,
    /// How long it took.
    pub duration_ns: u64,
    /// The invocation, 0 if none began: then nobody else tells of the request.
    pub invocation: u64,
}

/// A `traceparent` of version 00 of a trace that is recorded.
pub(crate) fn traceparent(trace: u128, span: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(55);
    text.extend_from_slice(b"00-");
    hex(&trace.to_be_bytes(), &mut text);
    text.push(b'-');
    hex(&span.to_be_bytes(), &mut text);
    text.extend_from_slice(b"-01");
    text
}

fn hex(bytes: &[u8], to: &mut Vec<u8>) {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
    to.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_written_as_the_standard_has_it() {
        let text = traceparent(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0x00ff);
        assert_eq!(text, b"00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-01");
    }
}
