//! The front end's HTTP/1.1 server: the shop's front end with its calls carried by gRPC; and a bare hello server.

use std::convert::Infallible;
use std::rc::Rc;

use boutique_shop::Ids;
use boutique_shop::frontend::{Ask, respond};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderName, LOCATION, SET_COOKIE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::peers::Peers;

/// Largest body that is read; the shop itself refuses forms of more than 8 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Serves every connection on this thread, until the process ends.
async fn serve_http<F, R>(listener: TcpListener, handle: F) -> std::io::Result<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + 'static,
    R: Future<Output = Response<Full<Bytes>>> + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handle = handle.clone();
        let service = service_fn(move |request| {
            let answer = handle(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::task::spawn_local(async move {
            let mut server = http1::Builder::new();
            server.pipeline_flush(true).timer(TokioTimer::new());
            // A client that leaves is no fault of the server.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// The boutique's front end.
pub(crate) async fn shop(listener: TcpListener, peers: Peers) -> std::io::Result<()> {
    let state = Rc::new((peers, Ids::new()));
    serve_http(listener, move |request| page(Rc::clone(&state), request)).await
}

/// Answers `hello` to whatever is asked.
pub(crate) async fn hello(listener: TcpListener) -> std::io::Result<()> {
    serve_http(listener, |_| async { Response::new(Full::new(Bytes::from_static(b"hello"))) }).await
}

/// One request to the shop.
async fn page(state: Rc<(Peers, Ids)>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    let header = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let ask = Ask {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        cookie: header(COOKIE),
        accept: header(ACCEPT),
        content_type: header(CONTENT_TYPE),
        body: &body,
    };
    let mut page = String::new();
    let answer = respond(&state.0, &state.1, &ask, &mut page).await;
    let mut response = Response::new(Full::new(Bytes::from(page)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = answer.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(value) = answer.location.and_then(|path| HeaderValue::from_str(&path).ok()) {
        headers.insert(LOCATION, value);
    }
    for cookie in answer.cookies {
        HeaderValue::try_from(cookie).map(|value| headers.append(SET_COOKIE, value)).ok();
    }
    response
}

/// An answer without a body.
fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
