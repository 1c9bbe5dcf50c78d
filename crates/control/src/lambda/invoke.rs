//! Calls: with an answer, without one, in parts, or only to see whether they could be made.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton_flow::{DirectCall, DirectReply};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::fault::{Came, Fault, came_of};
use super::names::{self, Named};
use super::record::Record;
use super::{Api, Reply, frames, versions};
use crate::events::Event;
use crate::limits::LAMBDA_LOG_WAIT_MAX;

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

async fn answered(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Answered, Fault> {
    let Target { record, version, call: direct, wants_log } = call.target(api, body)?;
    let (app, function) = (names::app_of(&record.name), names::function_of(&version));
    let since = if wants_log { api.newest_line(&app, &function).await? } else { 0 };
    let DirectReply { headers, body, .. } =
        match api.plane.invoke(app.clone(), function.clone(), direct).await? {
            Ok(reply) => reply,
            Err(error) => match came_of(&error) {
                Came::Refused(fault) => return Err(fault),
                Came::Failed { kind, message } => {
                    let message = format!("RequestId: {} Error: {message}", call.request_id);
                    let body = json!({ "errorType": kind, "errorMessage": message }).to_string().into_bytes();
                    let error = Some("Unhandled".to_owned());
                    return Ok(Answered { version, body, error, content_type: None, log: None });
                }
            },
        };
    let find = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    let error = find(FUNCTION_ERROR.as_str()).map(|value| String::from_utf8_lossy(&value).into_owned());
    let log = if wants_log { Some(api.log_of(&app, &function, since, call.request_id).await?) } else { None };
    Ok(Answered { version, body, error, content_type: find("content-type"), log })
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
    let events = std::sync::Arc::clone(&api.events);
    // On a task of its own: a client that leaves must not leave half an event.
    let accepted = tokio::spawn(async move { events.accept(event).await }).await;
    accepted.map_err(|_| Fault::service("the event was not taken; see the node's output"))??;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// `InvokeWithResponseStream`. The function's answer goes out in parts once it is complete.
pub(super) async fn stream(api: &Api, call: &Call<'_>, body: Vec<u8>) -> Result<Reply, Fault> {
    match call.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => {}
        Some("DryRun") => {
            let target = call.target(api, body)?;
            return Ok(Reply::empty(StatusCode::NO_CONTENT).with(EXECUTED_VERSION, &target.version));
        }
        Some(other) => return Err(Fault::invalid(format!("InvocationType {other:?} has no stream"))),
    }
    let Answered { version, body, error, content_type, log } = answered(api, call, body).await?;
    let body = Bytes::from(body);
    let end = match &error {
        Some(kind) => frames::complete(Some((kind, &String::from_utf8_lossy(&body))), log.as_deref()),
        None => frames::complete(None, log.as_deref()),
    };
    let parts = if error.is_some() { Bytes::new() } else { body };
    let count = parts.len().div_ceil(frames::CHUNK_BYTES);
    let chunk = move |index: usize| {
        let from = index * frames::CHUNK_BYTES;
        frames::chunk(&parts.slice(from..parts.len().min(from + frames::CHUNK_BYTES)))
    };
    let all = (0..count).map(chunk).chain(std::iter::once(end)).map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(futures_util::stream::iter(all)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
        headers.insert(HeaderName::from_static("x-amzn-remapped-content-type"), value);
    }
    Ok(Reply(response).with(EXECUTED_VERSION, &version))
}

impl Api {
    /// The number of the newest line of a function's log.
    async fn newest_line(&self, app: &str, function: &str) -> Result<u64, Fault> {
        let lines = self.plane.logs_after(0, Some(app.to_owned()), Some(function.to_owned())).await?;
        Ok(lines.last().map_or(0, |line| line.number))
    }

    /// The end of what a call wrote, in base64. Lines come on their own way: they are waited for, up to the runtime's last word.
    async fn log_of(&self, app: &str, function: &str, since: u64, request_id: &str) -> Result<String, Fault> {
        let until = Instant::now() + LAMBDA_LOG_WAIT_MAX;
        let (start, end) =
            (format!("START RequestId: {request_id}"), format!("REPORT RequestId: {request_id}"));
        let lines = loop {
            let lines = self.plane.logs_after(since, Some(app.to_owned()), Some(function.to_owned())).await?;
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
