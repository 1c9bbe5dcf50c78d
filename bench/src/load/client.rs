//! A blocking client for single requests: the admin API, probes, commands over HTTP.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::response::{Progress, ReadError, ResponseReader};

/// The longest answer that is kept.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a request had no usable answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection failed or ended early.
    Io(SocketAddr, io::Error),
    /// The answer is not HTTP.
    Malformed(SocketAddr, ReadError),
    /// The answer is larger than [`BODY_BYTES_MAX`].
    TooLarge(SocketAddr),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(address, error) => write!(f, "request to {address} failed: {error}"),
            Self::Malformed(address, error) => write!(f, "answer of {address} is malformed: {error}"),
            Self::TooLarge(address) => write!(f, "answer of {address} exceeds {BODY_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A status and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, chunk framing left out.
    pub body: Vec<u8>,
}

/// Sends `GET path`, with a bearer token if there is one.
pub fn get(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    ask("GET", address, path, token, timeout)
}

/// Sends `POST path` without a body, with a bearer token if there is one.
pub fn post(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    ask("POST", address, path, token, timeout)
}

fn ask(
    method: &str,
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = if method == "GET" { "" } else { "content-length: 0\r\n" };
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}{length}connection: close\r\n\r\n"
    );
    request(address, text.as_bytes(), timeout)
}

/// Sends a whole request on a connection of its own and reads the answer.
pub fn request(address: SocketAddr, request: &[u8], timeout: Duration) -> Result<Answer, ClientError> {
    Caller::connect(address, timeout)?.request(request)
}

/// One connection for requests one after the other.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Caller {
    /// Connects; `timeout` is for that, and for each wait later.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Self, ClientError> {
        let broken = |error| ClientError::Io(address, error);
        let socket = TcpStream::connect_timeout(&address, timeout).map_err(broken)?;
        socket.set_nodelay(true).map_err(broken)?;
        socket.set_read_timeout(Some(timeout)).map_err(broken)?;
        socket.set_write_timeout(Some(timeout)).map_err(broken)?;
        Ok(Self { address, socket, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a whole request and reads its answer.
    pub fn request(&mut self, request: &[u8]) -> Result<Answer, ClientError> {
        let address = self.address;
        let broken = |error| ClientError::Io(address, error);
        self.socket.write_all(request).map_err(broken)?;
        let mut reader = ResponseReader::default();
        let mut body = Vec::new();
        loop {
            let count = self.socket.read(&mut self.buffer).map_err(broken)?;
            if count == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            let progress = reader.feed(&self.buffer[..count], &mut |part| body.extend_from_slice(part));
            if body.len() > BODY_BYTES_MAX {
                return Err(ClientError::TooLarge(address));
            }
            if let Progress::Done { response, .. } =
                progress.map_err(|error| ClientError::Malformed(address, error))?
            {
                return Ok(Answer { status: response.status, body });
            }
        }
    }
}
