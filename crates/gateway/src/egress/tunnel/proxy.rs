//! The door that HTTP clients know as a proxy: `CONNECT host:port`, and requests for whole `http://` URLs.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{Refused, Rules, pipe};
use crate::headers::of_answer;

/// How long a connection may wait for a request, and the head of one may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HTTP: u16 = 80;

/// Another server's answer, or one of the proxy's own.
type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// What a connection becomes once its last request is answered.
type Tunnel = Mutex<Option<(OnUpgrade, TcpStream)>>;

/// Serves the requests of one connection, and what it becomes.
pub(super) async fn serve(inside: TcpStream, rules: Arc<Rules>) {
    let tunnel: Arc<Tunnel> = Arc::default();
    let service = service_fn(|request| {
        let (rules, tunnel) = (Arc::clone(&rules), Arc::clone(&tunnel));
        async move { Ok::<Answer, Infallible>(answer(request, &rules, &tunnel).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(inside), service)
        .with_upgrades();
    if connection.await.is_err() {
        return;
    }
    let becomes = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((upgraded, outside)) = becomes
        && let Ok(inside) = upgraded.await
    {
        pipe::both(TokioIo::new(inside), outside).await;
    }
}

async fn answer(request: Request<Incoming>, rules: &Rules, tunnel: &Tunnel) -> Answer {
    if request.method() == Method::CONNECT {
        return connect(request, rules, tunnel).await;
    }
    if request.uri().scheme_str() != Some("http") {
        let what = "this is a proxy for CONNECT and for http:// URLs";
        return own(StatusCode::BAD_REQUEST, what);
    }
    pass(request, rules).await
}

async fn connect(request: Request<Incoming>, rules: &Rules, tunnel: &Tunnel) -> Answer {
    let authority = request.uri().authority();
    let Some((host, port)) =
        authority.and_then(|authority| Some((bare(authority.host()), authority.port_u16()?)))
    else {
        return own(StatusCode::BAD_REQUEST, "CONNECT needs a host and a port");
    };
    match rules.connect(host, port).await {
        Ok(outside) => {
            let becomes = (hyper::upgrade::on(request), outside);
            *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(becomes);
            Response::new(Either::Right(Full::default()))
        }
        Err(refused) => refusal(&refused, host, port),
    }
}

/// Passes a request on over a connection of its own.
async fn pass(request: Request<Incoming>, rules: &Rules) -> Answer {
    let (mut parts, body) = request.into_parts();
    let Some(authority) =
        parts.uri.authority().cloned().filter(|authority| !authority.as_str().contains('@'))
    else {
        return own(StatusCode::BAD_REQUEST, "the URL has no host, or a user in front of it");
    };
    let (host, port) = (bare(authority.host()), authority.port_u16().unwrap_or(HTTP));
    let outside = match rules.connect(host, port).await {
        Ok(outside) => outside,
        Err(refused) => return refusal(&refused, host, port),
    };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(outside)).await {
        Ok(made) => made,
        Err(error) => return own(StatusCode::BAD_GATEWAY, error),
    };
    // Ends with the answer's last byte, or when the client lets go of it.
    tokio::spawn(connection);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = path.parse::<Uri>() else { return own(StatusCode::BAD_REQUEST, "the path is none") };
    let Ok(said) = HeaderValue::from_str(authority.as_str()) else {
        return own(StatusCode::BAD_REQUEST, "the host is none");
    };
    parts.uri = uri;
    parts.headers = end_to_end(&parts.headers);
    parts.headers.insert(header::HOST, said);
    match sender.send_request(Request::from_parts(parts, body)).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers = end_to_end(&parts.headers);
            Response::from_parts(parts, Either::Left(body))
        }
        Err(error) => own(StatusCode::BAD_GATEWAY, error),
    }
}

/// Without what belongs to one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let passed = of_answer(headers).filter_map(|(name, value)| {
        Some((http::HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    passed.collect()
}

/// An address without brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn refusal(refused: &Refused, host: &str, port: u16) -> Answer {
    match refused {
        Refused::Denied => {
            own(StatusCode::FORBIDDEN, format_args!("{host}:{port} is not in `network` of this function"))
        }
        Refused::Failed(why) => {
            own(StatusCode::BAD_GATEWAY, format_args!("{host}:{port} cannot be reached: {why}"))
        }
    }
}

fn own(status: StatusCode, why: impl Display) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(format!("{why}\n"))));
    *answer.status_mut() = status;
    answer
}
