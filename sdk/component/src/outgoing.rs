//! Requests that the component makes.
//!
//! `http://NAME.baton/path` is a call to function NAME of the app, if the manifest's `calls` names it: its body is handed over by
//! capability, and no connection is opened. Any other host is the node's business (`network` in the manifest).

use core::future::Future;
use core::time::Duration;

use baton::{Context, Error, Payload, Reply};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use crate::bodies::{GatherError, gather, given};
use crate::drive::called;
use crate::single::Single;

/// What a function's name ends with, as a host.
pub(crate) const DOMAIN: &str = ".baton";

/// The request that the component works on, for what it asks others.
#[derive(Default)]
pub(crate) struct Outgoing {
    context: Option<Single<Context>>,
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl Outgoing {
    pub(crate) fn begin(&mut self, context: &Context) {
        self.context = Some(Single(context.clone()));
    }

    /// What goes on behind a request's answer asks nobody on its behalf.
    pub(crate) fn end(&mut self) {
        self.context = None;
    }

    pub(crate) fn context(&self) -> Option<Context> {
        self.context.as_ref().map(|context| context.0.clone())
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        let context = self.context();
        Box::new(Single(async move {
            let context = context.ok_or(HttpError::HttpRequestDenied)?;
            let response = send(&context, request, options.and_then(|options| longest(&options))).await?;
            let done: Box<dyn Future<Output = _> + Send> = Box::new(core::future::ready(Ok(())));
            Ok((response, done))
        }))
    }

    fn default_scheme(&mut self) -> Option<http::uri::Scheme> {
        Some(http::uri::Scheme::HTTP)
    }
}

/// How long the component waits for an answer, all in all.
fn longest(options: &RequestOptions) -> Option<Duration> {
    let parts = [options.connect_timeout, options.first_byte_timeout];
    let total = parts.into_iter().flatten().fold(Duration::ZERO, Duration::saturating_add);
    (!total.is_zero()).then_some(total)
}

async fn send(
    context: &Context,
    request: Request<WasiBody>,
    timeout: Option<Duration>,
) -> Result<Response<WasiBody>, HttpError> {
    let (parts, body) = request.into_parts();
    let payload = gather(context, body, None).await.map_err(|error| match error {
        GatherError::Component(error) => error,
        GatherError::Pool(error) => failed(&error),
    })?;
    let reply = match function(&parts.uri) {
        Some(name) => call(context, name, &parts, payload, timeout).await,
        None => fetch(context, &parts, payload, timeout).await,
    };
    answered(reply.map_err(|error| failed(&error))?)
}

/// The function that a host's name means.
fn function(uri: &Uri) -> Option<&str> {
    uri.host()?.strip_suffix(DOMAIN)
}

async fn call(
    context: &Context,
    name: &str,
    parts: &http::request::Parts,
    payload: Payload<'static>,
    timeout: Option<Duration>,
) -> Result<Reply, Error> {
    let path = if parts.uri.path().is_empty() { "/" } else { parts.uri.path() };
    let mut call = context.call(name, payload).method(parts.method.as_str()).path(path);
    if let Some(query) = parts.uri.query() {
        call = call.query(query);
    }
    // How long the body is says the payload.
    for (header, value) in parts.headers.iter().filter(|(header, _)| *header != http::header::CONTENT_LENGTH)
    {
        call = call.header(header.as_str(), value);
    }
    if let Some(timeout) = timeout {
        call = call.timeout(timeout);
    }
    called(call).await
}

/// A function's answer as a response that the component gets.
fn answered(reply: Reply) -> Result<Response<WasiBody>, HttpError> {
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(reply.status()).map_err(|_| HttpError::HttpProtocolError)?;
    for (name, value) in reply.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HttpError::HttpProtocolError)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| HttpError::HttpProtocolError)?;
        response.headers_mut().append(name, value);
    }
    Ok(response.map(|()| given(reply.into_body().ok())))
}

/// A request that the node sends, if the manifest's `network` names the host.
async fn fetch(
    context: &Context,
    parts: &http::request::Parts,
    payload: Payload<'static>,
    timeout: Option<Duration>,
) -> Result<Reply, Error> {
    let url = parts.uri.to_string();
    let mut fetch = context.fetch(&url).body(payload).method(parts.method.as_str());
    for (header, value) in &parts.headers {
        fetch = fetch.header(header.as_str(), value);
    }
    if let Some(timeout) = timeout {
        fetch = fetch.timeout(timeout);
    }
    called(fetch).await
}

/// What went wrong with a call, in the words of `wasi:http`.
fn failed(error: &Error) -> HttpError {
    match error {
        Error::NoEdge { .. } | Error::Network { status: 403, .. } => {
            // The component may not pass the reason on: it is for whoever wrote the manifest.
            eprintln!("{error}");
            HttpError::HttpRequestDenied
        }
        Error::Network { status: 400, .. } => HttpError::HttpRequestUriInvalid,
        Error::Network { status: 429 | 503, .. } => HttpError::ConnectionLimitReached,
        Error::Network { status: 504, .. } => HttpError::ConnectionReadTimeout,
        Error::Network { status: 507, .. } => HttpError::HttpResponseBodySize(None),
        Error::Network { .. } => HttpError::DestinationUnavailable,
        Error::Unavailable { .. } => HttpError::DestinationUnavailable,
        Error::Overloaded { .. } => HttpError::ConnectionLimitReached,
        Error::DeadlineExceeded { .. } => HttpError::HttpResponseTimeout,
        _ => HttpError::InternalError(Some(error.to_string())),
    }
}
