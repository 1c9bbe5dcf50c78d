//! Spans and lines as OTLP writes them.

use baton_flow::status::LogLine;
use baton_flow::{Span, Value};
use prost::Message as _;

use super::proto::{
    Any, AnyValue, CODE_ERROR, KIND_INTERNAL, KIND_SERVER, KeyValue, LogRecord, LogsRequest, Resource,
    ResourceLogs, ResourceSpans, Scope, ScopeLogs, ScopeSpans, Span as Record, Status, TraceRequest,
};

/// The flag of W3C's trace context: sampled.
const SAMPLED: u32 = 1;

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::Text(value.to_owned()))
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn number(value: u64) -> Any {
    Any::Number(i64::try_from(value).unwrap_or(i64::MAX))
}

fn scope() -> Scope {
    Scope { name: "baton".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn resource(attributes: &[(String, String)]) -> Resource {
    Resource { attributes: attributes.iter().map(|(key, value)| text(key, value)).collect() }
}

/// The request that exports `spans`.
pub(super) fn traces(spans: &[Span], of: &[(String, String)]) -> Vec<u8> {
    let spans = spans.iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans }];
    TraceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource(of)), scope_spans }] }
        .encode_to_vec()
}

fn id(number: u64) -> Vec<u8> {
    if number == 0 { Vec::new() } else { number.to_be_bytes().to_vec() }
}

fn span(span: &Span) -> Record {
    let value = |value: &Value| match value {
        Value::Text(text) => Any::Text(text.clone()),
        Value::Number(count) => number(*count),
    };
    Record {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: id(span.span),
        parent_span_id: id(span.parent),
        name: span.name.clone(),
        kind: if span.is_server { KIND_SERVER } else { KIND_INTERNAL },
        start_time_unix_nano: span.began_ns,
        end_time_unix_nano: span.ended_ns,
        attributes: span.attributes.iter().map(|(key, found)| attribute(key, value(found))).collect(),
        status: span.is_error.then_some(Status { code: CODE_ERROR }),
        flags: SAMPLED,
    }
}

/// The request that exports `lines`.
pub(super) fn logs(lines: &[LogLine], of: &[(String, String)]) -> Vec<u8> {
    let log_records = lines.iter().map(line).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records }];
    LogsRequest { resource_logs: vec![ResourceLogs { resource: Some(resource(of)), scope_logs }] }
        .encode_to_vec()
}

fn line(line: &LogLine) -> LogRecord {
    // As the standard's data model numbers them; plain output has no severity of its own.
    let severity_number = match line.level.as_str() {
        "error" => 17,
        "warn" => 13,
        "debug" => 5,
        _ => 9,
    };
    let mut attributes = vec![
        text("baton.app", &line.app),
        text("faas.name", &line.function),
        attribute("baton.replica", number(u64::from(line.holder))),
    ];
    attributes.extend(line.invocation.as_deref().map(|invocation| text("baton.invocation", invocation)));
    let bytes = |hex: &Option<String>| hex.as_deref().map(from_hex).unwrap_or_default();
    let time = line.time_ms.saturating_mul(1_000_000);
    LogRecord {
        time_unix_nano: time,
        severity_number,
        severity_text: line.level.clone(),
        body: Some(AnyValue { value: Some(Any::Text(line.message.clone())) }),
        attributes,
        trace_id: bytes(&line.trace),
        span_id: bytes(&line.span),
        observed_time_unix_nano: time,
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
    hex.as_bytes().chunks(2).map_while(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let one = Span {
            trace: 0x0102,
            span: 3,
            parent: 0,
            is_server: true,
            name: "shop/front".to_owned(),
            began_ns: 10,
            ended_ns: 20,
            is_error: true,
            attributes: vec![("a", Value::Text("b".to_owned())), ("n", Value::Number(u64::MAX))],
        };
        let bytes = traces(&[one], &[("service.name".to_owned(), "baton".to_owned())]);
        let read = TraceRequest::decode(bytes.as_slice()).unwrap();
        let span = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.trace_id.len(), span.span_id.as_slice()), (16, &[0, 0, 0, 0, 0, 0, 0, 3][..]));
        assert!(span.parent_span_id.is_empty() && span.status.is_some());
        assert_eq!(span.attributes[1], attribute("n", Any::Number(i64::MAX)));
    }

    #[test]
    fn hexadecimal_digits_become_bytes() {
        assert_eq!(from_hex("00ff1a"), [0, 255, 26]);
        assert!(from_hex("zz").is_empty());
    }
}
