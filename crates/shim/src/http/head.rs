//! Heads: of requests as the program gets them, of answers as it gives them.

use baton::{Error, Request};

/// Most headers of an answer, and longest head of one.
pub(crate) const HEADERS_MAX: usize = 100;
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What only the node says.
const OURS: &str = "x-baton-";
/// Who the client is, by a certificate that the gateway verified.
const IDENTITY: &str = "x-baton-identity";

/// How much of a body follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    None,
    Of(u64),
    /// In chunks.
    Unknown,
}

/// How much of a body follows an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Until the program closes the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Names in lower case; without those of the connection.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(crate) keeps_alive: bool,
    /// To what the connection is upgraded.
    pub(crate) upgrade: Option<String>,
    /// The proof that a WebSocket was understood.
    pub(crate) accept: Option<Vec<u8>>,
}

/// Why an answer's head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHead(pub(crate) &'static str);

/// Whether a header belongs to one connection, or is this side's to say.
fn is_of_connection(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-version",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Whether `Connection` names it.
fn is_named(connection: &[u8], name: &str) -> bool {
    let mut tokens = connection.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tokens.any(|token| !token.is_empty() && token.eq_ignore_ascii_case(name.as_bytes()))
}

fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

/// The method: a call that names none reads something, or brings something.
pub(crate) fn method_of(request: &Request, has_body: bool) -> Result<&str, Error> {
    match request.method() {
        "" if has_body => Ok("POST"),
        "" => Ok("GET"),
        method if is_token(method) => Ok(method),
        _ => Err(Error::new(400, "the method is none")),
    }
}

/// The head of `request`; `extra` are whole lines.
pub(crate) fn write_request(
    request: &Request,
    method: &str,
    length: Length,
    extra: &str,
) -> Result<Vec<u8>, Error> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let path = match request.path() {
        "" => "/",
        path => path,
    };
    let query = request.query();
    if !is_plain(path) || !path.starts_with(['/', '*']) || !query.is_none_or(is_plain) {
        return Err(Error::new(400, "the path has characters that must be percent-encoded"));
    }
    let mut out = Vec::with_capacity(512);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[method.as_bytes(), b" ", path.as_bytes()]);
    if let Some(query) = query {
        put(&[b"?", query.as_bytes()]);
    }
    put(&[b" HTTP/1.1\r\n"]);
    let connection = request.header("connection").unwrap_or_default().as_bytes();
    let mut has_host = false;
    for (name, value) in request.headers() {
        let is_ours = name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS));
        if is_ours || is_of_connection(name) || is_named(connection, name) {
            continue;
        }
        if !is_token(name) || value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Error::new(400, "a header has characters that cannot be sent"));
        }
        has_host |= name.eq_ignore_ascii_case("host");
        put(&[name.as_bytes(), b": ", value, b"\r\n"]);
    }
    if !has_host {
        put(&[b"host: localhost\r\n"]);
    }
    if let Some(identity) = request.identity().filter(|identity| !identity.contains(['\r', '\n', '\0'])) {
        put(&[IDENTITY.as_bytes(), b": ", identity.as_bytes(), b"\r\n"]);
    }
    match length {
        Length::None => {}
        Length::Of(bytes) => put(&[b"content-length: ", bytes.to_string().as_bytes(), b"\r\n"]),
        Length::Unknown => put(&[b"transfer-encoding: chunked\r\n"]),
    }
    put(&[extra.as_bytes(), b"\r\n"]);
    Ok(out)
}

/// The status of an answer, once its head is complete.
pub(crate) fn status_of(bytes: &[u8]) -> Result<Option<u16>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => Ok(answer.code),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(()),
    }
}

/// Reads the head at the start of `bytes`, an answer to a request with `method`; gives how long it is. `None`: more must come.
pub(crate) fn read_answer(bytes: &[u8], method: &str) -> Result<Option<(Head, usize)>, BadHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(BadHead("its head is longer than 64 KiB")),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead("it has more than 100 headers")),
        Err(_) => return Err(BadHead("it is no HTTP/1")),
    };
    let status = answer.code.filter(|status| (100..600).contains(status));
    let status = status.ok_or(BadHead("its status is none"))?;
    let is_first_version = answer.version == Some(0);
    let mut facts = Facts { keeps_alive: !is_first_version, ..Facts::default() };
    answer.headers.iter().try_for_each(|header| facts.add(header.name, header.value))?;
    let framing = facts.framing(method, status)?;
    // Of what has no body, the length is only a word about what `GET` would give.
    let tells_length = method == "HEAD" && !facts.is_chunked;
    let is_told = |name: &str| tells_length && name.eq_ignore_ascii_case("content-length");
    let passes =
        |name: &str| (!is_of_connection(name) || is_told(name)) && !is_named(&facts.connection, name);
    let passed = answer.headers.iter().filter(|header| passes(header.name));
    let head = Head {
        status,
        headers: passed.map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec())).collect(),
        framing,
        keeps_alive: facts.keeps_alive
            && framing != Framing::Close
            && !(facts.is_chunked && facts.length.is_some()),
        upgrade: facts.upgrade,
        accept: facts.accept,
    };
    Ok(Some((head, len)))
}

/// What the headers of an answer say about its connection.
#[derive(Debug, Default)]
struct Facts {
    length: Option<u64>,
    is_chunked: bool,
    has_coding: bool,
    keeps_alive: bool,
    connection: Vec<u8>,
    upgrade: Option<String>,
    accept: Option<Vec<u8>>,
}

impl Facts {
    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), BadHead> {
        if name.eq_ignore_ascii_case("content-length") {
            let digits = value.trim_ascii();
            let text = core::str::from_utf8(digits).ok();
            let plain =
                text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let length =
                plain.and_then(|text| text.parse().ok()).ok_or(BadHead("its length is no number"))?;
            if self.length.is_some_and(|before| before != length) {
                return Err(BadHead("it has two lengths"));
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.has_coding || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(BadHead("its transfer coding is another than chunked"));
            }
            (self.has_coding, self.is_chunked) = (true, true);
        } else if name.eq_ignore_ascii_case("connection") {
            if !self.connection.is_empty() {
                self.connection.push(b',');
            }
            self.connection.extend_from_slice(value);
            if is_named(value, "close") {
                self.keeps_alive = false;
            } else if is_named(value, "keep-alive") {
                self.keeps_alive = true;
            }
        } else if name.eq_ignore_ascii_case("upgrade") {
            self.upgrade = core::str::from_utf8(value).ok().map(str::to_ascii_lowercase);
        } else if name.eq_ignore_ascii_case("sec-websocket-accept") {
            self.accept = Some(value.trim_ascii().to_vec());
        }
        Ok(())
    }

    /// RFC 9112, section 6.3.
    fn framing(&self, method: &str, status: u16) -> Result<Framing, BadHead> {
        Ok(match (self.is_chunked, self.length) {
            _ if method == "HEAD" || status < 200 || matches!(status, 204 | 304) => Framing::None,
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn read(text: &str, method: &str) -> Head {
        let (head, len) = read_answer(text.as_bytes(), method).unwrap().unwrap();
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn the_length_of_a_body_is_what_the_standard_says() {
        let framing = |text: &str, method: &str| {
            let head = read(&format!("HTTP/1.1 {text}\r\n\r\n"), method);
            (head.framing, head.keeps_alive)
        };
        assert_eq!(framing("200 OK\r\ncontent-length: 3", "GET"), (Framing::Length(3), true));
        assert_eq!(framing("200 OK\r\ncontent-length: 0", "GET"), (Framing::None, true));
        assert_eq!(
            framing("200 OK\r\ncontent-length: 3\r\ncontent-length: 3", "GET"),
            (Framing::Length(3), true)
        );
        assert_eq!(framing("200 OK\r\ncontent-length: 3", "HEAD"), (Framing::None, true));
        assert_eq!(framing("304 Not\r\ncontent-length: 3", "GET"), (Framing::None, true));
        assert_eq!(framing("204 No", "GET"), (Framing::None, true));
        assert_eq!(framing("200 OK\r\nTransfer-Encoding: Chunked", "GET"), (Framing::Chunked, true));
        // Whoever says both may mean to smuggle: the connection is not used again.
        let both = "200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3";
        assert_eq!(framing(both, "GET"), (Framing::Chunked, false));
        assert_eq!(framing("200 OK", "GET"), (Framing::Close, false));
        assert_eq!(
            framing("200 OK\r\nconnection: close\r\ncontent-length: 1", "GET"),
            (Framing::Length(1), false)
        );
        assert!(!read("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", "GET").keeps_alive);
        assert!(
            read("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n", "GET").keeps_alive
        );
    }

    #[test]
    fn a_length_is_passed_on_where_there_is_no_body_to_measure() {
        let told = |text: &str, method: &str| {
            let head = read(&format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n"), method);
            head.headers.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(told("Content-Length: 3", "HEAD"), ["3"]);
        assert!(told("Content-Length: 3", "GET").is_empty());
        assert!(told("Transfer-Encoding: chunked\r\nContent-Length: 3", "HEAD").is_empty());
    }

    #[test]
    fn what_belongs_to_the_connection_is_left_out() {
        let head = read(
            "HTTP/1.1 200 OK\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nKeep-Alive: 5\r\n\r\n",
            "GET",
        );
        let names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["set-cookie", "set-cookie"]);
    }

    #[test]
    fn lies_and_garbage_are_refused() {
        let told = |text: &str| read_answer(text.as_bytes(), "GET").unwrap_err().0;
        assert_eq!(told("SSH-2.0-OpenSSH_9.2\r\n"), "it is no HTTP/1");
        assert_eq!(
            told("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
            "it has two lengths"
        );
        for length in ["-1", "+1", "1x", "", "99999999999999999999"] {
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            assert_eq!(told(&text), "its length is no number", "{length}");
        }
        assert!(told("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n").contains("coding"));
        assert_eq!(told("HTTP/1.1 999 Odd\r\n\r\n"), "its status is none");
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(told(&many), "it has more than 100 headers");
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(told(&long), "its head is longer than 64 KiB");
        assert!(read_answer(b"HTTP/1.1 200 OK\r\na: b\r\n", "GET").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_answer(&bytes, "GET");
            let with_status = [&b"HTTP/1.1 200 OK\r\n"[..], &bytes].concat();
            let _ = read_answer(&with_status, "POST");
        }
    }
}
