//! Talking to the node over its Unix socket: one connection a request.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use baton_control::admin_socket;
use baton_control::protocol::ErrorBody;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::failure::{Failure, Kind};

/// Bytes of a file that are sent at once.
const FILE_CHUNK_BYTES: usize = 256 << 10;

type RequestBody = BoxBody<Bytes, io::Error>;

/// The node of a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// What the node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(home: &Path) -> Self {
        Self { socket: admin_socket(home) }
    }

    /// Sends a request and takes the answer, whatever its status.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Result<Answer, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let lost = |error: hyper::Error| {
            Failure::new(
                Kind::Unreachable,
                format_args!("the node broke off: {error}"),
                "see the node's own output",
            )
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(lost)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(lost)?.to_bytes();
        connection.abort();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let message = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no node listens at {}", self.socket.display())
            }
            _ => format!("cannot reach the node at {}: {error}", self.socket.display()),
        };
        Failure::new(
            Kind::Unreachable,
            message,
            "start one with `baton up` or `baton node`; BATON_HOME must be the same for both",
        )
    }

    /// Sends a request that must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let answer = self.send(request(method, path, full(body))?).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(refusal(&answer)) }
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.call(Method::GET, path, Bytes::new()).await?)
    }

    /// Uploads a file under its hash unless the node has it.
    pub(crate) async fn upload(&self, hash: &str, file: &Path) -> Result<(), Failure> {
        if self.has(hash).await? {
            return Ok(());
        }
        let body = FileBody::open(file).map_err(|error| {
            Failure::failed(format_args!("cannot read {}: {error}", file.display()), "build again")
        })?;
        self.put(hash, BoxBody::new(body)).await
    }

    /// The same for bytes.
    pub(crate) async fn upload_bytes(&self, hash: &str, bytes: Bytes) -> Result<(), Failure> {
        if self.has(hash).await? { Ok(()) } else { self.put(hash, full(bytes)).await }
    }

    async fn has(&self, hash: &str) -> Result<bool, Failure> {
        let path = format!("/v1/artifacts/{hash}");
        let known = self.send(request(Method::HEAD, &path, full(Bytes::new()))?).await?;
        Ok(known.status.is_success())
    }

    async fn put(&self, hash: &str, body: RequestBody) -> Result<(), Failure> {
        let path = format!("/v1/artifacts/{hash}");
        let answer = self.send(request(Method::PUT, &path, body)?).await?;
        if answer.status.is_success() { Ok(()) } else { Err(refusal(&answer)) }
    }
}

/// Makes sense of the node's JSON.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::failed(
            format_args!("the node's answer is not understood: {error}"),
            "use the same version of baton for the node and the command line",
        )
    })
}

pub(crate) fn request(
    method: Method,
    path: &str,
    body: RequestBody,
) -> Result<Request<RequestBody>, Failure> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost").body(body);
    request.map_err(|error| Failure::bad_input(format_args!("{path} cannot be asked for: {error}"), ""))
}

pub(crate) fn full(bytes: Bytes) -> RequestBody {
    BoxBody::new(Full::new(bytes).map_err(|never| match never {}))
}

/// The node's error as a failure of the verb.
pub(crate) fn refusal(answer: &Answer) -> Failure {
    match serde_json::from_slice::<ErrorBody>(&answer.body) {
        Ok(ErrorBody { error, hint, unreachable: true }) => Failure::new(Kind::Unreachable, error, hint),
        Ok(ErrorBody { error, hint, .. }) => Failure::failed(error, hint),
        Err(_) => Failure::failed(format_args!("the node answered {}", answer.status), ""),
    }
}

/// Escapes a value for a query.
pub(crate) fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A file as a request's body, read a piece at a time.
struct FileBody {
    file: File,
    left: u64,
}

impl FileBody {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        Ok(Self { file, left })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let size = usize::try_from(self.left).unwrap_or(FILE_CHUNK_BYTES).min(FILE_CHUNK_BYTES);
        let mut chunk = vec![0; size];
        Poll::Ready(Some(self.file.read_exact(&mut chunk).map(|()| {
            self.left -= chunk.len() as u64;
            Frame::data(Bytes::from(chunk))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_node_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::new(dir.path()).get::<serde_json::Value>("/v1/node").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(format!("{error:?}").contains("baton up"));
    }

    #[tokio::test]
    async fn files_are_sent_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let content = vec![7; FILE_CHUNK_BYTES * 2 + 5];
        std::fs::write(&file, &content).unwrap();
        let body = FileBody::open(&file).unwrap();
        assert_eq!(body.size_hint().exact(), Some(content.len() as u64));
        assert_eq!(body.collect().await.unwrap().to_bytes(), content);
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escaped("shop-1"), "shop-1");
        assert_eq!(escaped("a&b=ü"), "a%26b%3D%C3%BC");
    }
}
