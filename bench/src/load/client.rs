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
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let text = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}connection: close\r\n\r\n");
    request(address, text.as_bytes(), timeout)
}

/// Sends a whole request on a connection of its own and reads the answer.
pub fn request(address: SocketAddr, request: &[u8], timeout: Duration) -> Result<Answer, ClientError> {
    let broken = |error| ClientError::Io(address, error);
    let mut socket = TcpStream::connect_timeout(&address, timeout).map_err(broken)?;
    socket.set_read_timeout(Some(timeout)).map_err(broken)?;
    socket.set_write_timeout(Some(timeout)).map_err(broken)?;
    socket.write_all(request).map_err(broken)?;
    let mut reader = ResponseReader::default();
    let mut body = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = socket.read(&mut buffer).map_err(broken)?;
        if count == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let progress = reader.feed(&buffer[..count], &mut |part| body.extend_from_slice(part));
        if body.len() > BODY_BYTES_MAX {
            return Err(ClientError::TooLarge(address));
        }
        if let Progress::Done { response, .. } = progress.map_err(|e| ClientError::Malformed(address, e))? {
            return Ok(Answer { status: response.status, body });
        }
    }
}
