//! An incremental reader of HTTP/1.1 responses, just strict enough for a load generator.
//!
//! It keeps the status, the framing and the length, and hands body bytes to a sink (which usually drops them).
//! Bytes may arrive in pieces of any size; a head that is not complete is kept until it is.
//!
//! ```text
//!        ┌── Content-Length ──▶ Body(n) ───────────────────────────┐
//! Head ──┤                                                         ├──▶ done, back to Head
//!        └── chunked ──▶ Size ─▶ Data(n) ─▶ End ─▶ Size … Trailer ─┘
//! ```
//! Bodies that end with the connection are refused: none of the measured servers sends them.

use std::fmt;

/// The longest response head that is read.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why bytes are not a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The first line is not `HTTP/1.x NNN …`.
    StatusLine,
    /// A header line has no colon, or a length that is no number.
    Header,
    /// The head is longer than [`HEAD_BYTES_MAX`].
    HeadTooLong,
    /// Neither a length nor chunks: the body's end would be the connection's.
    NoLength,
    /// A chunk's size or end is not what it should be.
    Chunk,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "the status line is malformed",
            Self::Header => "a header line is malformed",
            Self::HeadTooLong => "the response head is too long",
            Self::NoLength => "the response states neither a length nor chunks",
            Self::Chunk => "a chunk is malformed",
        })
    }
}

/// One complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The length of the body, chunk framing left out.
    pub body_bytes: u64,
    /// Whether the server closes the connection after it.
    pub close: bool,
}

/// What became of the bytes that were fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes are taken, the response goes on.
    More,
    /// The response is complete; `used` bytes of the input belong to it.
    Done {
        /// How many of the fed bytes were taken.
        used: usize,
        /// The response.
        response: Response,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    Size { value: u64, digits: u8, extension: bool },
    Data(u64),
    End { seen_cr: bool },
    Trailer { line_bytes: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

struct Head {
    bytes: usize,
    status: u16,
    framing: Framing,
    close: bool,
}

/// Reads one response after another from one connection.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    partial_head: Vec<u8>,
    status: u16,
    close: bool,
    body_bytes: u64,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self { state: State::Head, partial_head: Vec::new(), status: 0, close: false, body_bytes: 0 }
    }
}

impl ResponseReader {
    /// Takes bytes up to the end of the response; body bytes go to `sink`.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<Progress, ReadError> {
        let mut at = 0;
        if self.state == State::Head {
            match self.feed_head(bytes)? {
                Some(used) => at = used,
                None => return Ok(Progress::More),
            }
        }
        loop {
            if self.is_complete() {
                return Ok(Progress::Done { used: at, response: self.finish() });
            }
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else {
                return Ok(Progress::More);
            };
            at += self.feed_body(rest, sink)?;
        }
    }

    /// Takes the head; returns how many of `bytes` belong to it once it is complete.
    fn feed_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ReadError> {
        let kept = self.partial_head.len();
        let head = if kept == 0 {
            parse_head(bytes)?
        } else {
            self.partial_head.extend_from_slice(bytes);
            parse_head(&self.partial_head)?
        };
        let Some(head) = head else {
            if kept == 0 {
                self.partial_head.extend_from_slice(bytes);
            }
            return if self.partial_head.len() > HEAD_BYTES_MAX {
                Err(ReadError::HeadTooLong)
            } else {
                Ok(None)
            };
        };
        self.partial_head.clear();
        self.status = head.status;
        self.close = head.close;
        self.body_bytes = 0;
        let bodiless = matches!(head.status, 204 | 304);
        self.state = match head.framing {
            _ if bodiless => State::Body(0),
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Size { value: 0, digits: 0, extension: false },
            Framing::None => return Err(ReadError::NoLength),
        };
        Ok(Some(head.bytes - kept))
    }

    fn is_complete(&self) -> bool {
        self.state == State::Body(0)
    }

    fn finish(&mut self) -> Response {
        self.state = State::Head;
        Response { status: self.status, body_bytes: self.body_bytes, close: self.close }
    }

    /// Takes one step through the body; returns how many bytes it took (at least one).
    fn feed_body(&mut self, rest: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<usize, ReadError> {
        match self.state {
            State::Head => Ok(0),
            State::Body(left) => {
                let taken = self.take_data(rest, left, sink);
                self.state = State::Body(left - taken as u64);
                Ok(taken)
            }
            State::Data(left) => {
                let taken = self.take_data(rest, left, sink);
                let left = left - taken as u64;
                self.state = if left == 0 { State::End { seen_cr: false } } else { State::Data(left) };
                Ok(taken)
            }
            State::Size { value, digits, extension } => {
                self.state = chunk_size_byte(rest[0], value, digits, extension)?;
                Ok(1)
            }
            State::End { seen_cr } => {
                self.state = match (seen_cr, rest[0]) {
                    (false, b'\r') => State::End { seen_cr: true },
                    (true, b'\n') => State::Size { value: 0, digits: 0, extension: false },
                    _ => return Err(ReadError::Chunk),
                };
                Ok(1)
            }
            State::Trailer { line_bytes } => {
                self.state = match (rest[0], line_bytes) {
                    (b'\n', 0) => State::Body(0),
                    (b'\n', _) => State::Trailer { line_bytes: 0 },
                    (b'\r', n) => State::Trailer { line_bytes: n },
                    (_, n) => State::Trailer { line_bytes: n.saturating_add(1) },
                };
                Ok(1)
            }
        }
    }

    fn take_data(&mut self, rest: &[u8], left: u64, sink: &mut impl FnMut(&[u8])) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        sink(&rest[..taken]);
        self.body_bytes += taken as u64;
        taken
    }
}

fn chunk_size_byte(byte: u8, value: u64, digits: u8, extension: bool) -> Result<State, ReadError> {
    match byte {
        b'\n' if digits == 0 => Err(ReadError::Chunk),
        b'\n' if value == 0 => Ok(State::Trailer { line_bytes: 0 }),
        b'\n' => Ok(State::Data(value)),
        b'\r' => Ok(State::Size { value, digits, extension }),
        _ if extension => Ok(State::Size { value, digits, extension }),
        b';' => Ok(State::Size { value, digits, extension: true }),
        _ => {
            let digit = char::from(byte).to_digit(16).ok_or(ReadError::Chunk)?;
            if digits >= 15 {
                return Err(ReadError::Chunk);
            }
            Ok(State::Size { value: value * 16 + u64::from(digit), digits: digits + 1, extension })
        }
    }
}

/// Parses a head line by line; `None` if its end is not there yet.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ReadError> {
    let mut head = Head { bytes: 0, status: 0, framing: Framing::None, close: false };
    let mut at = 0;
    loop {
        let Some(end) = bytes[at..].iter().position(|&b| b == b'\n') else { return Ok(None) };
        let line = &bytes[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if at == 0 {
            head.status = parse_status(line)?;
        } else if line.is_empty() {
            head.bytes = at + end + 1;
            return Ok(Some(head));
        } else {
            parse_header(line, &mut head)?;
        }
        at += end + 1;
    }
}

fn parse_status(line: &[u8]) -> Result<u16, ReadError> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(ReadError::StatusLine)?;
    match rest {
        [b'0' | b'1', b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..]
            if rest.first().is_none_or(|&b| b == b' ') =>
        {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => Err(ReadError::StatusLine),
    }
}

fn parse_header(line: &[u8], head: &mut Head) -> Result<(), ReadError> {
    let colon = line.iter().position(|&b| b == b':').ok_or(ReadError::Header)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    match name.len() {
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            let text = std::str::from_utf8(value).map_err(|_| ReadError::Header)?;
            head.framing = Framing::Length(text.parse().map_err(|_| ReadError::Header)?);
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => {
            head.framing = Framing::Chunked;
        }
        10 if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close") => {
            head.close = true;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
