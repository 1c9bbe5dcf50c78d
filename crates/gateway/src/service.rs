//! One request from its head to its answer.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use baton_catalog::Match;
use baton_flow::ClientFacts;
use bytes::Buf;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::answer::{Answer, AnswerBody, Content};
use crate::conn::{Conn, Flight};
use crate::feeding::feed;
use crate::headers::{Facts, Forwarded, is_ours, vet};
use crate::limits::{DISCARD_BYTES_MAX, Limits};
use crate::refusal::Refusal;
use crate::seam::{Backend, Parts, Reply, RequestHead, Upload};
use crate::socket::{self, Ask, Upgrade};
use crate::trace::Tracer;
use crate::upload::receive;

/// The parts of a backend's answers.
type ReplyParts<B> = <<<B as Backend>::Upload as Upload>::Reply as Reply>::Parts;
/// The client's side of a backend's requests.
type FeedOf<B> = <<B as Backend>::Upload as Upload>::Feed;

/// What the requests of one connection share.
pub(crate) struct Session<B: Backend> {
    pub(crate) backend: B,
    pub(crate) conn: Rc<Conn>,
    pub(crate) tracer: Rc<Tracer>,
    /// Who is at its other end.
    pub(crate) client: ClientFacts,
    /// What the connection goes on as.
    pub(crate) upgrade: RefCell<Option<Upgrade<FeedOf<B>, ReplyParts<B>>>>,
}

/// What is kept of a request's head until its answer is written.
struct Asked {
    /// `HEAD`: the answer has a length and no body.
    head_only: bool,
    json: bool,
}

/// A request that its target takes.
struct Admitted<U> {
    upload: U,
    /// The largest body.
    limit: u64,
    /// The client asks for a WebSocket, and could have one.
    ask: Option<Ask>,
}

impl<B: Backend> Session<B> {
    pub(crate) fn new(backend: B, conn: Rc<Conn>, tracer: Rc<Tracer>, client: ClientFacts) -> Self {
        Self { backend, conn, tracer, client, upgrade: RefCell::new(None) }
    }
}

/// Answers a request; a failure becomes an answer too.
pub(crate) async fn answer<B: Backend>(
    session: Rc<Session<B>>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody<ReplyParts<B>>>, Infallible> {
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
        Ok(Admitted { upload, limit, ask: None }) => {
            run(&session, upload, has_body.then_some(body), limit, &flight).await
        }
        Ok(Admitted { upload, ask: Some(ask), .. }) => {
            match Box::pin(upgrade(&session, upload, ask, &mut headers)).await {
                Ok(Upgraded::To(feed, parts)) => {
                    *session.upgrade.borrow_mut() = Some(Upgrade { feed, parts, flight });
                    return Ok(switch(&session.conn, headers));
                }
                Ok(Upgraded::Not(reply)) => Ok(reply),
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(turn_away(&session, has_body.then_some(body), facts.expects, refusal).await),
    };
    let written = outcome.and_then(|reply| write_reply(reply, &asked, &mut headers));
    let (status, content) = match written {
        Ok(written) => written,
        Err(refusal) => write_refusal(&session.conn, &refusal, &asked, &mut headers),
    };
    Ok(finish(&session.conn, status, headers, content, flight))
}

/// What came of the wish for a WebSocket.
enum Upgraded<F, R: Reply> {
    /// The function grants it.
    To(F, R::Parts),
    /// It answers as it answers others.
    Not(R),
}

/// Asks the function for a WebSocket.
async fn upgrade<B: Backend>(
    session: &Session<B>,
    mut upload: B::Upload,
    ask: Ask,
    headers: &mut HeaderMap,
) -> Result<Upgraded<FeedOf<B>, <B::Upload as Upload>::Reply>, Refusal> {
    let feed = upload.feed();
    let mut reply = upload.finish().await?;
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
        return Ok(Upgraded::Not(reply));
    }
    let (Some(feed), Some(parts)) = (feed, reply.take_parts()) else { return Err(Refusal::bad_reply()) };
    write_headers(&reply, headers)?;
    let status = socket::accept(ask, headers);
    session.conn.desk().counters.answered(status);
    Ok(Upgraded::To(feed, parts))
}

fn switch<P: Parts>(conn: &Conn, headers: HeaderMap) -> Response<AnswerBody<P>> {
    debug_assert!(!conn.is_http2(), "there is an upgrade of HTTP/1.1 alone");
    let mut response = Response::new(AnswerBody::none());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Checks the head, finds the route, asks the backend.
fn admit<B: Backend>(
    session: &Session<B>,
    parts: &request::Parts,
    facts: &Facts,
    body_len: Option<u64>,
) -> Result<Admitted<B::Upload>, Refusal> {
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
    let ask = if facts.upgrades && session.backend.streams(target) { Ask::of(parts)? } else { None };
    let traceparent = facts.trace.unwrap_or_else(|| session.tracer.fresh());
    let head = RequestHead {
        method,
        path,
        query: parts.uri.query(),
        params: params.as_slice(),
        traceparent: traceparent.as_str(),
        is_traced: facts.trace.is_some(),
        client: &session.client,
        socket: ask.is_some(),
        forwarded: Forwarded::new(&parts.headers, facts),
    };
    let upload = session.backend.begin(target, &head, body_len)?;
    Ok(Admitted { upload, limit, ask })
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
        if let Some(fed) = upload.feed() {
            tokio::task::spawn_local(feed(body, fed, limit, flight.reading()));
            return Ok(upload.finish().await?);
        }
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

type Written<P> = (StatusCode, Answer<P>);

fn write_reply<R: Reply>(
    mut reply: R,
    asked: &Asked,
    to: &mut HeaderMap,
) -> Result<Written<R::Parts>, Refusal> {
    // An interim status is no answer.
    let status = StatusCode::from_u16(reply.status())
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(Refusal::bad_reply)?;
    write_headers(&reply, to)?;
    let has_none = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let Some(parts) = reply.take_parts() {
        let is_wanted = !has_none && !asked.head_only;
        return Ok((status, if is_wanted { Answer::Parts(parts) } else { Answer::Empty }));
    }
    let said = if asked.head_only { said_length(&reply) } else { None };
    let body = reply.into_body();
    if has_none {
        return Ok((status, Answer::Empty));
    }
    if asked.head_only {
        // A function that leaves the body out knows its length, or nobody does.
        let counted = Some(body.remaining() as u64).filter(|length| *length > 0);
        if let Some(length) = counted.or(said) {
            to.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Ok((status, Answer::Empty));
    }
    Ok((status, Answer::Whole(Content::Reply(body))))
}

/// How long the function says that the body is.
fn said_length(reply: &impl Reply) -> Option<u64> {
    let value =
        reply.headers().find(|(name, _)| name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str()))?.1;
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_plain)?.parse().ok()
}

/// The function's headers, vetted, and the invocation's number.
fn write_headers<R: Reply>(reply: &R, to: &mut HeaderMap) -> Result<(), Refusal> {
    if let Err(bad) = vet(reply.headers().filter(|(name, _)| !is_ours(name)), to) {
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
    Ok(())
}

fn write_refusal<P: Parts>(conn: &Conn, refusal: &Refusal, asked: &Asked, to: &mut HeaderMap) -> Written<P> {
    to.clear();
    refusal.write_headers(asked.json, to);
    if refusal.close && !conn.is_http2() {
        conn.leave_unread();
        to.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = refusal.body(asked.json);
    if asked.head_only {
        to.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
        return (refusal.status, Answer::Empty);
    }
    (refusal.status, Answer::Whole(Content::Text(body)))
}

fn finish<P: Parts>(
    conn: &Conn,
    status: StatusCode,
    mut headers: HeaderMap,
    content: Answer<P>,
    flight: Flight,
) -> Response<AnswerBody<P>> {
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
