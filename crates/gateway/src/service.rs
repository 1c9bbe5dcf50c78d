//! One request from its head to its answer.

use std::convert::Infallible;
use std::rc::Rc;

use baton_catalog::Match;
use bytes::Buf;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::answer::{AnswerBody, Content};
use crate::conn::{Conn, Flight};
use crate::headers::{Facts, Forwarded, vet};
use crate::limits::{DISCARD_BYTES_MAX, Limits};
use crate::refusal::Refusal;
use crate::seam::{Backend, Reply, RequestHead, Upload};
use crate::trace::Tracer;
use crate::upload::receive;

/// The bytes of a backend's answers.
pub(crate) type ReplyBody<B> = <<<B as Backend>::Upload as Upload>::Reply as Reply>::Body;

/// What the requests of one connection share.
pub(crate) struct Session<B> {
    pub(crate) backend: B,
    pub(crate) conn: Rc<Conn>,
    pub(crate) tracer: Rc<Tracer>,
}

/// What is kept of a request's head until its answer is written.
struct Asked {
    /// `HEAD`: the answer has a length and no body.
    head_only: bool,
    json: bool,
}

/// Answers a request; a failure becomes an answer too.
pub(crate) async fn answer<B: Backend>(
    session: Rc<Session<B>>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody<ReplyBody<B>>>, Infallible> {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let flight = session.conn.begin(has_body);
    let facts = Facts::of(&parts.headers);
    let asked = Asked { head_only: parts.method == Method::HEAD, json: facts.json };
    let admitted = admit(&session, &parts, &facts, body.size_hint().exact());
    // The request's map becomes the answer's, and hyper makes the next request's of that: no map is ever allocated
    // but the first.
    let mut headers = parts.headers;
    headers.clear();
    let outcome = match admitted {
        Ok((upload, limit)) => run(&session, upload, has_body.then_some(body), limit, &flight).await,
        Err(refusal) => Err(turn_away(&session, has_body.then_some(body), facts.expects, refusal).await),
    };
    let written = outcome.and_then(|reply| write_reply(reply, &asked, &mut headers));
    let (status, content) = match written {
        Ok(written) => written,
        Err(refusal) => write_refusal(&session.conn, &refusal, &asked, &mut headers),
    };
    Ok(finish(&session.conn, status, headers, content, flight))
}

/// Checks the head, finds the route, asks the backend.
fn admit<B: Backend>(
    session: &Session<B>,
    parts: &request::Parts,
    facts: &Facts,
    body_len: Option<u64>,
) -> Result<(B::Upload, u64), Refusal> {
    let limits = &session.conn.desk().limits;
    check_head(parts, facts, limits)?;
    let routes = session.backend.routes();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let (target, params) = match routes.find(method, path) {
        Match::Found { target, params, .. } => (target, params),
        Match::MethodNotAllowed { allow } => return Err(Refusal::method_not_allowed(allow)),
        Match::NotFound => return Err(Refusal::no_route()),
    };
    let limit = session.backend.body_limit(target).min(limits.body_bytes);
    if body_len.is_some_and(|len| len > limit) {
        return Err(Refusal::too_large(limit));
    }
    let traceparent = facts.trace.unwrap_or_else(|| session.tracer.fresh());
    let head = RequestHead {
        method,
        path,
        query: parts.uri.query(),
        params: params.as_slice(),
        traceparent: traceparent.as_str(),
        is_traced: facts.trace.is_some(),
        forwarded: Forwarded::new(&parts.headers, facts),
    };
    let upload = session.backend.begin(target, &head, body_len)?;
    Ok((upload, limit))
}

/// What hyper lets pass and HTTP, or the limits, do not.
fn check_head(parts: &request::Parts, facts: &Facts, limits: &Limits) -> Result<(), Refusal> {
    if parts.version < Version::HTTP_2 {
        if facts.hosts > 1 || (facts.hosts == 0 && parts.version == Version::HTTP_11) {
            return Err(Refusal::malformed("a request has exactly one Host header"));
        }
        let brings_body = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if parts.version < Version::HTTP_11 && brings_body && !facts.measured {
            let message =
                "how long the body is stays open without Content-Length; send it, or speak HTTP 1.1";
            return Err(Refusal { close: true, ..Refusal::new(StatusCode::LENGTH_REQUIRED, message) });
        }
    }
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes {
        let message =
            format!("the path is longer than {} bytes; send the rest in a body", limits.target_bytes);
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, message));
    }
    if parts.headers.len() > limits.headers {
        let message = format!("more than {} headers; send fewer", limits.headers);
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    }
    Ok(())
}

/// From the first byte of the body to the reply. Dropped midway, it takes the upload with it.
async fn run<B: Backend>(
    session: &Session<B>,
    mut upload: B::Upload,
    body: Option<Incoming>,
    limit: u64,
    flight: &Flight,
) -> Result<<B::Upload as Upload>::Reply, Refusal> {
    if let Some(body) = body {
        let patience = session.conn.desk().limits.body_idle_timeout;
        // Whatever ends a body early leaves the rest of it unread.
        receive(body, limit, patience, |bytes| Ok(upload.write(bytes)?))
            .await
            .map_err(|refusal| Refusal { close: true, ..refusal })?;
        flight.await_answer();
    }
    Ok(upload.finish().await?)
}

/// A request is refused before its body is read. A small body is read and thrown away, so that the connection stays
/// of use; a large one, or one that the client asks about first (`Expect`), ends the connection.
async fn turn_away<B: Backend>(
    session: &Session<B>,
    body: Option<Incoming>,
    expects: bool,
    refusal: Refusal,
) -> Refusal {
    let Some(body) = body else { return refusal };
    let small = body.size_hint().exact().is_some_and(|len| len <= DISCARD_BYTES_MAX);
    if !small || expects || refusal.close {
        return Refusal { close: true, ..refusal };
    }
    let patience = session.conn.desk().limits.body_idle_timeout;
    let discarded = receive(body, DISCARD_BYTES_MAX, patience, |_| Ok(())).await;
    Refusal { close: discarded.is_err(), ..refusal }
}

type Written<B> = (StatusCode, Option<Content<B>>);

fn write_reply<R: Reply>(reply: R, asked: &Asked, to: &mut HeaderMap) -> Result<Written<R::Body>, Refusal> {
    // An interim status is no answer.
    let status = StatusCode::from_u16(reply.status())
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(Refusal::bad_reply)?;
    if let Err(bad) = vet(reply.headers(), to) {
        tracing::debug!(what = bad.0, "a function's answer is refused");
        return Err(Refusal::bad_reply());
    }
    let invocation = reply.invocation();
    if invocation != 0 {
        // As receipts, logs and the CLI write it.
        if let Ok(name) = HeaderValue::try_from(format!("{invocation:016x}")) {
            to.insert("x-baton-invocation", name);
        }
    }
    let body = reply.into_body();
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok((status, None));
    }
    if asked.head_only {
        to.insert(header::CONTENT_LENGTH, HeaderValue::from(body.remaining() as u64));
        return Ok((status, None));
    }
    Ok((status, Some(Content::Reply(body))))
}

fn write_refusal<B: Buf>(conn: &Conn, refusal: &Refusal, asked: &Asked, to: &mut HeaderMap) -> Written<B> {
    to.clear();
    refusal.write_headers(asked.json, to);
    if refusal.close && !conn.is_http2() {
        conn.leave_unread();
        to.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = refusal.body(asked.json);
    if asked.head_only {
        to.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
        return (refusal.status, None);
    }
    (refusal.status, Some(Content::Text(body)))
}

fn finish<B: Buf>(
    conn: &Conn,
    status: StatusCode,
    mut headers: HeaderMap,
    content: Option<Content<B>>,
    flight: Flight,
) -> Response<AnswerBody<B>> {
    let desk = conn.desk();
    desk.counters.answered(status);
    if desk.draining.get() && !conn.is_http2() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let mut response = Response::new(AnswerBody::new(content, flight));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
