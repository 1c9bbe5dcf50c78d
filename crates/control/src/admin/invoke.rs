//! Calling a function through the admin API: for people and tests. Traffic goes through the gateway.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use baton_flow::{DirectCall, DirectReply};

use super::Api;
use super::fault::Fault;
use super::payload;
use super::writes::collect;
use crate::limits;
use crate::protocol::{INVOCATION_HEADER, PATH_HEADER};

/// Headers that speak of this connection or of the admin API, not of the function's request.
const OWN_HEADERS: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    PATH_HEADER,
];

pub(super) async fn call(
    State(api): State<Arc<Api>>,
    Path((app, function)): Path<(String, String)>,
    request: Request,
) -> Result<Response<Body>, Fault> {
    let Ok(_slot) = api.bounds.invokes.try_acquire() else {
        return Err(Fault::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many invocations through the admin API at once",
            "send traffic through the gateway",
        ));
    };
    let has_path = request.headers().contains_key(PATH_HEADER);
    let call = call_of(request, limits::INVOKE_BYTES_MAX).await?;
    let call = payload::as_meant(&api, (&app, &function), call, has_path);
    let reply = api.plane.invoke(app, function, call).await??;
    response(reply)
}

/// What is asked of a function, as a request to the admin API says it.
pub(super) async fn call_of(request: Request, body_max: usize) -> Result<DirectCall, Fault> {
    let (head, body) = request.into_parts();
    let path = match head.headers.get(PATH_HEADER) {
        None => "/",
        Some(path) => path.to_str().ok().filter(|path| path.starts_with('/')).ok_or_else(|| {
            Fault::new(StatusCode::BAD_REQUEST, "the function's path does not start with a slash", "")
        })?,
    };
    let headers = head
        .headers
        .iter()
        .filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    Ok(DirectCall {
        method: head.method.as_str().to_owned(),
        path: path.to_owned(),
        headers,
        body: collect(body, body_max).await?,
    })
}

fn response(reply: DirectReply) -> Result<Response<Body>, Fault> {
    let broken = |what: &str| {
        Fault::new(
            StatusCode::BAD_GATEWAY,
            format!("the function answered with {what}"),
            "correct the function",
        )
    };
    let DirectReply { status, headers, body, invocation } = reply;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| broken("an impossible status"))?;
    for (name, value) in headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken("an impossible header name"))?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| broken("an impossible header value"))?;
        if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    if let Ok(invocation) = HeaderValue::from_str(&invocation) {
        response.headers_mut().insert(INVOCATION_HEADER, invocation);
    }
    Ok(response)
}
