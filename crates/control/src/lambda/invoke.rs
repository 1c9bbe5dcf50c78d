//! Calls: with an answer, without one, in parts, or only to see whether they could be made.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton_flow::{DirectCall, DirectParts, DirectReply, InvokeError};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::fault::{Came, Fault, came_of};
use super::names::{self, Named};
use super::record::Record;
use super::{Api, Reply, frames, versions};
use crate::events::Event;
use crate::limits::LAMBDA_LOG_WAIT_MAX;
use crate::plane::Plane;

/// What a runtime says went wrong, beside its answer.
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
/// Bytes of the log that are shown, as with AWS.
const LOG_BYTES_MAX: usize = 4096;
/// Headers by which the runtime learns about a call; only this API and functions of the app can set them on a call without a
/// path.
const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const ARN: &str = "lambda-runtime-invoked-function-arn";
const CLIENT_CONTEXT: &str = "lambda-runtime-client-context";
const TIMEOUT_MS: &str = "x-baton-lambda-timeout-ms";
const WANTS_LOG: &str = "x-amz-log-type";
/// Says that the answer may come in parts.
const IN_PARTS: &str = "x-baton-lambda-in-parts";
/// Longest client context, bytes, as with AWS.
const CONTEXT_BYTES_MAX: usize = 3583;

/// A call as a client wants it.
pub(super) struct Call<'a> {
    pub(super) named: &'a Named,
    pub(super) region: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) request_id: &'a str,
}

/// Where a call goes, and as what.
struct Target {
    record: Record,
    version: String,
    call: DirectCall,
    wants_log: bool,
}

impl Call<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn target(&self, api: &Api, body: Vec<u8>) -> Result<Target, Fault> {
        let record = api.existing(&self.named.name)?;
        let version = versions::resolve(&record, self.region, self.named, api.next_turn())?;
        let body = if body.is_empty() { b"{}".to_vec() } else { body };
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
            return Err(Fault::content(format!("Could not parse request body into json: {error}")));
        }
        let arn = names::arn(self.region, &record.name, self.named.qualifier.as_deref());
        let timeout_s = record.revision(&version).map_or(0, |revision| revision.timeout_s);
        let timeout_ms = (u64::from(timeout_s) * 1000).to_string();
        let mut headers = vec![
            (REQUEST_ID.to_owned(), self.request_id.as_bytes().to_vec()),
            (ARN.to_owned(), arn.into_bytes()),
            (TIMEOUT_MS.to_owned(), timeout_ms.into_bytes()),
        ];
        if let Some(context) = self.header("x-amz-client-context") {
            // The runtime is handed JSON, the API base64 of it.
            let plain = STANDARD.decode(context).ok().filter(|plain| {
                plain.len() <= CONTEXT_BYTES_MAX
                    && !plain.iter().any(u8::is_ascii_control)
                    && serde_json::from_slice::<serde::de::IgnoredAny>(plain).is_ok()
            });
            let plain = plain.ok_or_else(|| {
                Fault::content(format!(
                    "Client context must be a valid Base64-encoded JSON object of at most {CONTEXT_BYTES_MAX} bytes"
                ))
            })?;
            headers.push((CLIENT_CONTEXT.to_owned(), plain));
        }
        if let Some(trace) = self.header("x-amzn-trace-id") {
            headers.push(("x-amzn-trace-id".to_owned(), trace.as_bytes().to_vec()));
        }
        let wants_log = match self.header(WANTS_LOG) {
            None | Some("None") => false,
            Some("Tail") => true,
            Some(other) => return Err(Fault::invalid(format!("LogType {other:?} is neither None nor Tail"))),
        };
        if wants_log {
            headers.push((WANTS_LOG.to_owned(), b"Tail".to_vec()));
        }
        // No path: no request of HTTP, but the payload itself.
        let call = DirectCall { method: "POST".to_owned(), path: String::new(), headers, body };
        Ok(Target { record, version, call, wants_log })
    }
}

/// What a function answered.
struct Answered {
    version: String,
    body: Vec<u8>,
    /// `Unhandled`, mostly.
    error: Option<String>,
    content_type: Option<Vec<u8>>,
    log: Option<String>,
}

impl Answered {
    /// Of a call that came to nothing; or why it is refused.
    fn failed(version: String, call: &Call<'_>, error: &InvokeError) -> Result<Self, Fault> {
        match came_of(error) {
            Came::Refused(fault) => Err(fault),
            Came::Failed { kind, message } => {
                let message = format!("RequestId: {} Error: {message}", call.request_id);
                let body = json!({ "errorType": kind, "errorMessage": message }).to_string().into_bytes();
                Ok(Self { version, body, error: Some("Unhandled".to_owned()), content_type: None, log: None })
            }
        }
    }
}

fn value_of(headers: &[(String, Vec<u8>)], name: &str) -> Option<Vec<u8>> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
}

fn error_of(headers: &[(String, Vec<u8>)]) -> Option<String> {
    value_of(headers, FUNCTION_ERROR.as_str()).map(|value| String::from_utf8_lossy(&value).into_owned())
}

async fn answered(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Answered, Fault> {
    let Target { record, version, call: direct, wants_log } = call.target(api, body)?;
    let (app, function) = (names::app_of(&record.name), names::function_of(&version));
    let log = match wants_log {
        true => Some(Log::begin(&api.plane, &app, &function, call.request_id).await?),
        false => None,
    };
    let DirectReply { headers, body, .. } = match api.plane.invoke(app, function, direct).await? {
        Ok(reply) => reply,
        Err(error) => return Answered::failed(version, call, &error),
    };
    let (error, content_type) = (error_of(&headers), value_of(&headers, "content-type"));
    let log = match log {
        Some(log) => Some(log.end().await?),
        None => None,
    };
    Ok(Answered { version, body, error, content_type, log })
}

/// `Invoke`.
pub(super) async fn invoke(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Reply, Fault> {
    match call.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => {}
        Some("Event") => return accept(api, call, body).await,
        Some("DryRun") => {
            let target = call.target(api, body)?;
            return Ok(Reply::empty(StatusCode::NO_CONTENT).with(EXECUTED_VERSION, &target.version));
        }
        Some(other) => {
            return Err(Fault::invalid(format!(
                "InvocationType {other:?} is none of RequestResponse, Event and DryRun"
            )));
        }
    }
    let Answered { version, body, error, content_type, log } = answered(api, call, body).await?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let content_type = content_type.and_then(|value| HeaderValue::from_bytes(&value).ok());
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(json));
    let mut reply = Reply(response).with(EXECUTED_VERSION, &version);
    if let Some(error) = error {
        reply = reply.with(FUNCTION_ERROR, &error);
    }
    if let Some(log) = log {
        reply = reply.with(LOG_RESULT, &log);
    }
    Ok(reply)
}

/// An event: it is on the disk when the client hears of it.
async fn accept(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Reply, Fault> {
    let Target { record, version, call: direct, .. } = call.target(api, body)?;
    let event = Event::new(names::app_of(&record.name), names::function_of(&version), direct);
    let events = Arc::clone(&api.events);
    // On a task of its own: a client that leaves must not leave half an event.
    let accepted = tokio::spawn(async move { events.accept(event).await }).await;
    accepted.map_err(|_| Fault::service("the event was not taken; see the node's output"))??;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// `InvokeWithResponseStream`: parts go out as the function makes them.
pub(super) async fn stream(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Reply, Fault> {
    match call.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => {}
        Some("DryRun") => {
            let target = call.target(api, body)?;
            return Ok(Reply::empty(StatusCode::NO_CONTENT).with(EXECUTED_VERSION, &target.version));
        }
        Some(other) => return Err(Fault::invalid(format!("InvocationType {other:?} has no stream"))),
    }
    let Target { record, version, call: mut direct, wants_log } = call.target(api, body)?;
    let (app, function) = (names::app_of(&record.name), names::function_of(&version));
    direct.headers.push((IN_PARTS.to_owned(), b"1".to_vec()));
    let log = match wants_log {
        true => Some(Log::begin(&api.plane, &app, &function, call.request_id).await?),
        false => None,
    };
    let (outcome, content_type, parts) = match api.plane.invoke_in_parts(app, function, direct).await? {
        Ok(DirectParts { headers, body, .. }) => {
            (error_of(&headers), value_of(&headers, "content-type"), Source::Parts(body))
        }
        Err(error) => {
            let Answered { body, error, .. } = Answered::failed(version.clone(), call, &error)?;
            (error, None, Source::Whole(body))
        }
    };
    let framed =
        Framed { parts, kind: outcome, log, rest: Bytes::new(), details: Vec::new(), has_ended: false };
    let all = futures_util::stream::unfold(framed, |mut framed| async move {
        let next = framed.next().await?;
        Some((Ok::<_, std::convert::Infallible>(next), framed))
    });
    let mut response = Response::new(Body::from_stream(all));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
        headers.insert(HeaderName::from_static("x-amzn-remapped-content-type"), value);
    }
    Ok(Reply(response).with(EXECUTED_VERSION, &version))
}

/// Where an answer's bytes come from.
enum Source {
    Parts(mpsc::Receiver<Result<Vec<u8>, InvokeError>>),
    Whole(Vec<u8>),
}

/// An answer as messages of an event stream.
struct Framed {
    parts: Source,
    /// What the function says went wrong: the bytes are about that then, and no part of the answer.
    kind: Option<String>,
    log: Option<Log>,
    /// What is left of a part that is longer than a message.
    rest: Bytes,
    details: Vec<u8>,
    has_ended: bool,
}

impl Framed {
    /// The next message; `None` after the last.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.rest.is_empty() {
                let len = self.rest.len().min(frames::CHUNK_BYTES);
                return Some(frames::chunk(&self.rest.split_to(len)));
            }
            if self.has_ended {
                return None;
            }
            let part = match &mut self.parts {
                Source::Whole(body) => Some(Ok(std::mem::take(body)))
                    .filter(|body| body.as_ref().is_ok_and(|body| !body.is_empty())),
                Source::Parts(parts) => parts.recv().await,
            };
            match part {
                Some(Ok(part)) if self.kind.is_some() => self.details.extend(part),
                Some(Ok(part)) => self.rest = part.into(),
                Some(Err(error)) => {
                    self.details = error.to_string().into_bytes();
                    self.kind = Some("Unhandled".to_owned());
                    return Some(self.end().await);
                }
                None => return Some(self.end().await),
            }
        }
    }

    async fn end(&mut self) -> Bytes {
        self.has_ended = true;
        // Without its log the answer is as good.
        let log = match self.log.take() {
            Some(log) => log.end().await.ok(),
            None => None,
        };
        let details = String::from_utf8_lossy(&self.details);
        frames::complete(self.kind.as_deref().map(|kind| (kind, &*details)), log.as_deref())
    }
}

/// What a call writes to the log.
struct Log {
    plane: Arc<dyn Plane>,
    app: String,
    function: String,
    request_id: String,
    /// The number of the newest line before it.
    since: u64,
}

impl Log {
    async fn begin(
        plane: &Arc<dyn Plane>,
        app: &str,
        function: &str,
        request_id: &str,
    ) -> Result<Self, Fault> {
        let (app, function) = (app.to_owned(), function.to_owned());
        let lines = plane.logs_after(0, Some(app.clone()), Some(function.clone())).await?;
        let since = lines.last().map_or(0, |line| line.number);
        Ok(Self { plane: Arc::clone(plane), app, function, request_id: request_id.to_owned(), since })
    }

    /// The end of what the call wrote, in base64. Lines come on their own way: they are waited for, up to the runtime's last word.
    async fn end(self) -> Result<String, Fault> {
        let until = Instant::now() + LAMBDA_LOG_WAIT_MAX;
        let Self { plane, app, function, request_id, since } = self;
        let (start, end) =
            (format!("START RequestId: {request_id}"), format!("REPORT RequestId: {request_id}"));
        let lines = loop {
            let lines = plane.logs_after(since, Some(app.clone()), Some(function.clone())).await?;
            let is_last = lines.iter().any(|line| line.message.starts_with(&end));
            if is_last || Instant::now() >= until {
                break lines;
            }
            sleep(Duration::from_millis(2)).await;
        };
        let invocation = lines.iter().find(|line| line.message.starts_with(&start));
        let invocation = invocation.and_then(|line| line.invocation.clone());
        let own = lines.iter().filter(|line| invocation.is_some() && line.invocation == invocation);
        let text: String = own.map(|line| format!("{}\n", line.message)).collect();
        let bytes = text.as_bytes();
        let tail = bytes.get(bytes.len().saturating_sub(LOG_BYTES_MAX)..).unwrap_or(bytes);
        Ok(STANDARD.encode(tail))
    }
}
