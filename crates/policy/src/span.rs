//! Spans: the ids of W3C Trace Context, and the seam for whoever exports them.

/// Who a span is, and under which one it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// 16 bytes, shared by all spans of a trace.
    pub trace: [u8; 16],
    /// The span's own 8 bytes.
    pub span: [u8; 8],
    /// Those of the span around it; zero if there is none.
    pub parent: [u8; 8],
    /// The flags of `traceparent`; bit 0: whoever began the trace records it.
    pub flags: u8,
}

/// A span that is over.
#[derive(Clone, Copy, Debug)]
pub struct SpanEnd<'a> {
    /// Who it is.
    pub context: SpanContext,
    /// The app.
    pub app: &'a str,
    /// The function.
    pub function: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// What the client sees.
    pub status: u16,
    /// When it began, nanoseconds since the epoch, to a second's part as exact as the caller's clock.
    pub start_unix_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// The invocation, 0 if none began.
    pub invocation: u64,
}

/// Takes spans as they end. It must not wait: it runs in the request's path.
pub trait SpanSink {
    /// A span has begun.
    fn start(&self, context: SpanContext) {
        let _ = context;
    }

    /// A span is over.
    fn end(&self, span: SpanEnd<'_>);
}

impl SpanContext {
    /// A child of what a `traceparent` says; the gateway lets only well-formed ones through.
    pub(crate) fn under(traceparent: Option<&[u8]>, id: u64) -> Option<Self> {
        let text = std::str::from_utf8(traceparent?).ok()?;
        let mut parts = text.split('-');
        let (_, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mut context =
            Self { trace: [0; 16], span: id.max(1).to_be_bytes(), parent: [0; 8], flags: unhex(flags)? };
        fill(&mut context.trace, trace)?;
        fill(&mut context.parent, parent)?;
        Some(context)
    }

    /// As a header says it.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        hex(&self.trace, &mut text);
        text.push('-');
        hex(&self.span, &mut text);
        text.push('-');
        hex(&[self.flags], &mut text);
        text
    }
}

fn unhex(pair: &str) -> Option<u8> {
    (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok())?
}

fn fill(to: &mut [u8], text: &str) -> Option<()> {
    if text.len() != to.len() * 2 {
        return None;
    }
    for (place, byte) in to.iter_mut().enumerate() {
        *byte = unhex(text.get(place * 2..place * 2 + 2)?)?;
    }
    Some(())
}

fn hex(bytes: &[u8], to: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        to.extend(DIGITS.get(usize::from(byte >> 4)));
        to.extend(DIGITS.get(usize::from(byte & 15)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_hangs_under_the_one_that_came() {
        let came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let span = SpanContext::under(Some(came.as_bytes()), 0x00ff).unwrap();
        assert_eq!(span.traceparent(), "00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-01");
        assert_eq!(span.parent, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        for bad in ["", "00-1-2-3", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01"] {
            assert_eq!(SpanContext::under(Some(bad.as_bytes()), 1), None, "{bad}");
        }
    }
}
