//! A small collector: takes OTLP over HTTP, and decodes it by the messages that OpenTelemetry publishes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// Requests that one collector takes.
const REQUESTS_MAX: usize = 10_000;

/// How a collector treats those who send it something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It takes everything.
    Takes,
    /// It takes everything but what comes first: that it asks to send again.
    RefusesFirst,
    /// It reads and never answers.
    Hangs,
}

#[derive(Debug, Default)]
struct Got {
    requests: usize,
    spans: Vec<Span>,
    lines: Vec<LogRecord>,
    services: Vec<String>,
    headers: Vec<String>,
}

/// A collector on loopback.
#[derive(Clone)]
pub(crate) struct Collector {
    url: String,
    got: Arc<Mutex<Got>>,
}

impl Collector {
    pub(crate) fn start(manner: Manner) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let got = Arc::new(Mutex::new(Got::default()));
        let kept = Arc::clone(&got);
        thread::spawn(move || {
            for stream in listener.incoming().take(REQUESTS_MAX).map_while(Result::ok) {
                let got = Arc::clone(&kept);
                thread::spawn(move || serve(stream, manner, &got));
            }
        });
        Collector { url, got }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn requests(&self) -> usize {
        self.got.lock().expect("as a test wants it").requests
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.got.lock().expect("as a test wants it").spans.clone()
    }

    pub(crate) fn lines(&self) -> Vec<LogRecord> {
        self.got.lock().expect("as a test wants it").lines.clone()
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.got.lock().expect("as a test wants it").services.clone()
    }

    /// Every header of every request, as `name: value`, names in lower case.
    pub(crate) fn headers(&self) -> Vec<String> {
        self.got.lock().expect("as a test wants it").headers.clone()
    }
}

/// The text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn serve(stream: TcpStream, manner: Manner, got: &Mutex<Got>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_owned();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.trim().parse().ok()?;
        }
        headers.push(format!("{name}: {}", value.trim()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let is_first = {
        let mut got = got.lock().expect("as a test wants it");
        got.requests += 1;
        got.headers.extend(headers);
        got.requests == 1
    };
    if manner == Manner::Hangs {
        // Until the other side gives up.
        let _ = reader.read_to_end(&mut body);
        return None;
    }
    let mut stream = stream;
    if manner == Manner::RefusesFirst && is_first {
        return stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").ok();
    }
    let mut got = got.lock().expect("as a test wants it");
    match path.as_str() {
        "/v1/traces" => {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("spans");
            for of in request.resource_spans {
                let resource = of.resource.expect("a resource");
                got.services.push(text(&resource.attributes, "service.name"));
                got.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        "/v1/logs" => {
            let request = ExportLogsServiceRequest::decode(body.as_slice()).expect("lines");
            let scopes = request.resource_logs.into_iter().flat_map(|of| of.scope_logs);
            got.lines.extend(scopes.flat_map(|scope| scope.log_records));
        }
        other => panic!("nothing is sent to {other}"),
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        .ok()
}
