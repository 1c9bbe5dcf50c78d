//! HTTP/1.1 as the Runtime API needs it: requests of the program, read by a thread that waits.

use std::io::{self, Read};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// Longest line of a chunk's size, and of trailers together.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Trailers carry an error's type and body, in base64.
const TRAILER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of one body.
pub(super) const BODY_BYTES_MAX: u64 = 1 << 32;
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// What a request wants to do to its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    #[default]
    Other,
}

/// A request's head, as far as the Runtime API looks at it.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path: String,
    /// How its body is framed, if that can be said.
    pub(super) framing: Option<Framing>,
    /// Whether its client sends the body only when it is told to go on.
    pub(super) awaits_continue: bool,
    pub(super) content_type: Option<String>,
    /// Whether the answer comes in parts.
    pub(super) is_streaming: bool,
    pub(super) error_type: Option<String>,
}

impl Head {
    fn of(request: &httparse::Request<'_, '_>) -> Head {
        let text = |value: &[u8]| Some(String::from_utf8_lossy(value).into_owned());
        let mut head = Head {
            method: match request.method {
                Some("GET") => Method::Get,
                Some("POST") => Method::Post,
                _ => Method::Other,
            },
            path: request.path.unwrap_or_default().to_owned(),
            framing: Some(Framing::Length(0)),
            ..Head::default()
        };
        for header in &*request.headers {
            let (name, value) = (header.name, header.value);
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let says = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
            match name.len() {
                6 if is("expect") => head.awaits_continue = says("100-continue"),
                12 if is("content-type") => head.content_type = text(value),
                14 if is("content-length") && head.framing != Some(Framing::Chunked) => {
                    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    head.framing = length.filter(|length| *length <= BODY_BYTES_MAX).map(Framing::Length);
                }
                17 if is("transfer-encoding") && says("chunked") => head.framing = Some(Framing::Chunked),
                34 if is("lambda-runtime-function-error-type") => head.error_type = text(value),
                37 if is("lambda-runtime-function-response-mode") => head.is_streaming = says("streaming"),
                _ => {}
            }
        }
        head
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

pub(super) fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What came and was not taken yet: `bytes[taken..filled]`. What lies behind was zeroed once, and is read into again and again.
#[derive(Debug)]
pub(super) struct Inbox<R> {
    from: R,
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl<R: Read> Inbox<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, bytes: Vec::new(), taken: 0, filled: 0 }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..self.filled).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.rest().get(..count).unwrap_or_default().to_vec();
        self.skip(taken.len());
        taken
    }

    fn skip(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.filled);
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
    }

    /// Reads more; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.bytes.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        // After a long body the room is given back.
        if self.filled == 0 && self.bytes.len() > 4 * PIECE_BYTES {
            self.bytes = Vec::new();
        }
        if self.bytes.len() < self.filled + PIECE_BYTES {
            self.bytes.resize(self.filled + PIECE_BYTES, 0);
        }
        loop {
            match self.from.read(self.bytes.get_mut(self.filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.filled += count;
                    return Ok(count > 0);
                }
            }
        }
    }

    /// The next request's head; `None` when the connection ends in between.
    pub(super) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(self.rest()) {
                Ok(httparse::Status::Complete(len)) => {
                    let head = Head::of(&request);
                    self.skip(len);
                    return Ok(Some(head));
                }
                Ok(httparse::Status::Partial) if self.rest().len() < HEAD_BYTES_MAX => {
                    let has_begun = !self.rest().is_empty();
                    if !self.fill()? {
                        return if has_begun { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
                    }
                }
                Ok(httparse::Status::Partial) => return Err(bad("a head that does not end")),
                Err(_) => return Err(bad("a head that is none")),
            }
        }
    }

    /// A whole body, at most `most` bytes, its trailers left out.
    pub(super) fn body(&mut self, framing: Framing, most: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.parts(framing, |part| {
            if (body.len() + part.len()) as u64 > most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            body.extend_from_slice(part);
            Ok(())
        })?;
        Ok(body)
    }

    /// A body as it comes; gives its trailers.
    pub(super) fn parts(
        &mut self,
        framing: Framing,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Vec<(String, String)>> {
        match framing {
            Framing::Length(length) => {
                self.exactly(length, &mut each)?;
                Ok(Vec::new())
            }
            Framing::Chunked => {
                let mut total: u64 = 0;
                loop {
                    let line = self.line()?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size =
                        u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk's size that is none"))?;
                    total = total.saturating_add(size);
                    if total > BODY_BYTES_MAX {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    if size == 0 {
                        return self.trailers();
                    }
                    self.exactly(size, &mut each)?;
                    if !self.line()?.is_empty() {
                        return Err(bad("a chunk that is longer than it says"));
                    }
                }
            }
        }
    }

    fn exactly(&mut self, length: u64, each: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.rest().is_empty() && !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = self.rest().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            each(self.rest().get(..count).unwrap_or_default())?;
            self.skip(count);
            left -= count as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.rest().windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end);
                self.skip(2);
                return String::from_utf8(line).map_err(|_| bad("a line that is no text"));
            }
            if self.rest().len() > TRAILER_BYTES_MAX {
                return Err(bad("a line that does not end"));
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn trailers(&mut self) -> io::Result<Vec<(String, String)>> {
        let (mut trailers, mut bytes) = (Vec::new(), 0);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            bytes += line.len();
            if bytes > TRAILER_BYTES_MAX + LINE_BYTES_MAX || trailers.len() >= HEADERS_MAX {
                return Err(bad("trailers that do not end"));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a trailer that is none"))?;
            trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives bytes one at a time, as a network may.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1).min(into.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn requests_come_one_behind_the_other() {
        let wire = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\nPOST /r HTTP/1.1\r\nContent-Length: 3\r\ncontent-Type: text/x\r\n\
            Lambda-Runtime-Function-Response-Mode: Streaming\r\nLambda-Runtime-Function-Error-Type: E\r\n\r\nabc\
            POST /s HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\nError-Type: x\r\n\r\n";
        let mut inbox = Inbox::new(Dripping(wire));
        let head = inbox.head().unwrap().unwrap();
        assert_eq!((head.method, head.path.as_str()), (Method::Get, "/next"));
        assert_eq!(head.framing, Some(Framing::Length(0)));
        let head = inbox.head().unwrap().unwrap();
        assert!(head.method == Method::Post && head.is_streaming && !head.awaits_continue);
        assert_eq!((head.content_type.as_deref(), head.error_type.as_deref()), (Some("text/x"), Some("E")));
        assert_eq!(inbox.body(head.framing.unwrap(), 3).unwrap(), b"abc");
        let head = inbox.head().unwrap().unwrap();
        let mut body: Vec<u8> = Vec::new();
        assert_eq!(head.framing, Some(Framing::Chunked));
        let trailers = inbox.parts(head.framing.unwrap(), |part| {
            body.extend(part);
            Ok(())
        });
        assert_eq!(body, b"def");
        assert_eq!(trailers.unwrap(), [("error-type".to_owned(), "x".to_owned())]);
        assert!(inbox.head().unwrap().is_none());
    }

    #[test]
    fn what_is_too_long_or_no_http_is_refused() {
        let read = |wire: &'static [u8]| {
            let mut inbox = Inbox::new(wire);
            let head = inbox.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            inbox.body(head.framing.ok_or_else(|| bad("no framing"))?, 4)
        };
        for wire in [
            &b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabcde"[..],
            b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"\x00\x01\x02\r\n\r\n",
        ] {
            assert!(read(wire).is_err(), "{}", String::from_utf8_lossy(wire));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_forever(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut inbox = Inbox::new(&bytes[..]);
            while let Ok(Some(head)) = inbox.head() {
                let Some(framing) = head.framing else { break };
                if inbox.body(framing, 100).is_err() { break }
            }
        }
    }
}
