//! What is recorded of invocations, as others set it and read it.

use baton_abi::head::Field;
use baton_transfer::Counted;

use super::{ADMITTED_HEADER, DirectCall, Flow};
use crate::error::InvokeError;
use crate::invoke::Head;
use crate::status::{LogLine, Observed, TracesStatus};
use crate::traces::Span;
use crate::watch::{RECEIPT_HEADER, Sampling, TraceContext, Traced, Wish};

/// What passes between nodes, as it is called outside.
const TRANSFERS: [(&str, Counted); 12] = [
    ("calls_out", Counted::CallsOut),
    ("calls_in", Counted::CallsIn),
    ("calls_failed", Counted::CallsFailed),
    ("pulls", Counted::Pulls),
    ("pulls_failed", Counted::PullsFailed),
    ("pulls_served", Counted::PullsServed),
    ("bytes_inline", Counted::BytesInline),
    ("bytes_sent", Counted::BytesSent),
    ("bytes_pulled", Counted::BytesPulled),
    ("connections", Counted::Connections),
    ("violations", Counted::Violations),
    ("untrusted", Counted::Untrusted),
];

impl Flow {
    /// Turns receipts of all invocations on or off.
    pub fn record(&self, on: bool) {
        let sampling = Sampling { receipts_every: u32::from(on), ..self.sampling() };
        self.set_sampling(sampling);
    }

    /// How much is recorded.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.inner.node.watch.sampling()
    }

    /// From now on so much is recorded.
    pub fn set_sampling(&self, sampling: Sampling) {
        self.inner.node.watch.set(sampling);
    }

    /// The trace that a request becomes part of, if it is to be traced. `given`: the context that its client sent.
    #[must_use]
    pub fn trace(&self, given: Option<TraceContext>) -> Option<Traced> {
        self.inner.node.watch.trace(given)
    }

    /// Takes spans that are complete, `max` at most. `at_once`: those too of which hops may still be missing.
    #[must_use]
    pub fn take_spans(&self, max: usize, at_once: bool) -> Vec<Span> {
        let node = &self.inner.node;
        node.traces.borrow_mut().take(max, || node.watch.draw(), at_once)
    }

    /// The first `max` lines of functions behind `number`, oldest first.
    #[must_use]
    pub fn logs_batch(&self, number: u64, max: usize) -> Vec<LogLine> {
        self.inner.node.logs.borrow().batch(number, max)
    }

    /// An exporter says what became of what it took.
    pub fn note_exported(&self, outcome: &TracesStatus) {
        let mut traces = self.inner.node.traces.borrow_mut();
        let status = &mut traces.status;
        status.exported += outcome.exported;
        status.dropped += outcome.dropped;
        status.lines_exported += outcome.lines_exported;
        status.lines_dropped += outcome.lines_dropped;
        status.failures += outcome.failures;
    }

    /// What is recorded, and what came of it so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        let node = &self.inner.node;
        let counts = node.endpoint.borrow().as_ref().map(|endpoint| endpoint.counts());
        let transfers = counts.map(|counts| TRANSFERS.map(|(name, what)| (name, counts.of(what))).to_vec());
        Observed {
            traces: node.traces.borrow().status,
            receipts: node.receipts.borrow().begun,
            transfers: transfers.unwrap_or_default(),
        }
    }

    /// Buffers of an app by who holds them, most first: `node`, a function, or both ends of the way that they are on.
    #[must_use]
    pub fn holders(&self, app: &str) -> Vec<(String, u64)> {
        self.app(app).map_or_else(Vec::new, |app| crate::inspect::holders(&app))
    }

    /// The head of a call of the admin API, and what it wants to be recorded.
    pub(super) fn direct_head(&self, call: &DirectCall) -> Result<(Head, Wish), InvokeError> {
        let mut head = Head::new();
        head.add(Field::Method, "", call.method.as_bytes())?;
        let (path, query) = match call.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (call.path.as_str(), None),
        };
        head.add(Field::Path, "", path.as_bytes())?;
        if let Some(query) = query {
            head.add(Field::Query, "", query.as_bytes())?;
        }
        let mut given = None;
        let mut wish = Wish::default();
        for (name, value) in &call.headers {
            match name.as_str() {
                "traceparent" => given = std::str::from_utf8(value).ok().and_then(TraceContext::parse),
                RECEIPT_HEADER => wish.receipt = value == b"1",
                _ => {}
            }
        }
        wish.trace = self.trace(given);
        let traceparent = wish.trace.map(|traced| traced.context.text());
        let is_own = |name: &str| name == RECEIPT_HEADER || name == ADMITTED_HEADER;
        let is_told = |name: &str| !is_own(name) && (name != "traceparent" || traceparent.is_none());
        for (name, value) in call.headers.iter().filter(|(name, _)| is_told(name)) {
            head.add(Field::Header, name, value)?;
        }
        if let Some(traceparent) = &traceparent {
            head.add(Field::Header, "traceparent", traceparent.as_bytes())?;
        }
        Ok((head, wish))
    }
}
