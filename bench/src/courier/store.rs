//! Clients of stores, as lean as they can be: a payload is written from where it is and read to where it belongs.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Bytes of an answer that are read before it is known what they are.
const HEAD_BYTES: usize = 2048;

/// Keeps one payload under one name.
pub(super) trait Store {
    fn put(&mut self, payload: &[u8]) -> io::Result<()>;
    fn get(&mut self, into: &mut [u8]) -> io::Result<()>;
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends parts one behind the other, in one packet where they fit.
pub(super) fn send(socket: &mut TcpStream, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = slices.as_mut_slice();
    while left.iter().any(|slice| !slice.is_empty()) {
        let sent = socket.write_vectored(left)?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, sent);
    }
    Ok(())
}

/// The beginning of an answer, and the place of what follows it.
struct Head {
    bytes: [u8; HEAD_BYTES],
    len: usize,
    end: usize,
}

impl Head {
    /// Reads until `mark` has come.
    fn read(socket: &mut TcpStream, mark: &[u8], quick: bool) -> io::Result<Self> {
        let mut head = Self { bytes: [0; HEAD_BYTES], len: 0, end: 0 };
        loop {
            if quick {
                acknowledge_at_once(socket)?;
            }
            let count = socket.read(&mut head.bytes[head.len..])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.len += count;
            let found = head.bytes[..head.len].windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                head.end = at + mark.len();
                return Ok(head);
            }
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.end]).unwrap_or_default()
    }

    /// Reads what follows into `into`; what came with the head is copied there. Then come `after` bytes that nobody wants.
    fn read_body(
        &self,
        socket: &mut TcpStream,
        into: &mut [u8],
        (after, quick): (usize, bool),
    ) -> io::Result<()> {
        let came = &self.bytes[self.end..self.len];
        let first = came.len().min(into.len());
        into[..first].copy_from_slice(&came[..first]);
        let mut at = first;
        while at < into.len() {
            if quick {
                acknowledge_at_once(socket)?;
            }
            match socket.read(&mut into[at..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => at += count,
            }
        }
        let mut rest = [0; 2];
        let missing = after.saturating_sub(came.len() - first).min(rest.len());
        socket.read_exact(&mut rest[..missing])
    }
}

/// A server that waits for acknowledgements between two parts of an answer gets them without the usual delay.
fn acknowledge_at_once(socket: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_quickack(socket, true)?)
}

/// Redis, by its own protocol.
pub(super) struct Redis(TcpStream);

impl Redis {
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        super::connect(to).map(Self)
    }
}

impl Store for Redis {
    fn put(&mut self, payload: &[u8]) -> io::Result<()> {
        let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", payload.len());
        send(&mut self.0, &[head.as_bytes(), payload, b"\r\n"])?;
        let head = Head::read(&mut self.0, b"\r\n", false)?;
        if head.text() == "+OK\r\n" { Ok(()) } else { Err(malformed(head.text())) }
    }

    fn get(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.0.write_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")?;
        let head = Head::read(&mut self.0, b"\r\n", false)?;
        let len = head.text().strip_prefix('$').and_then(|text| text.trim_end().parse::<usize>().ok());
        if len != Some(into.len()) {
            return Err(malformed(head.text()));
        }
        head.read_body(&mut self.0, into, (2, false))
    }
}

/// A server by HTTP, one path.
pub(super) struct Http {
    socket: TcpStream,
    host: SocketAddr,
    path: &'static str,
    /// Whether the server sends answers in parts and waits between them.
    quick: bool,
}

impl Http {
    pub(super) fn connect(to: SocketAddr, path: &'static str, quick: bool) -> io::Result<Self> {
        Ok(Self { socket: super::connect(to)?, host: to, path, quick })
    }

    fn ask(&mut self, method: &str, payload: &[u8]) -> io::Result<(Head, usize)> {
        let (path, host) = (self.path, self.host);
        let length =
            if method == "GET" { String::new() } else { format!("content-length: {}\r\n", payload.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n");
        send(&mut self.socket, &[request.as_bytes(), payload])?;
        let head = Head::read(&mut self.socket, b"\r\n\r\n", self.quick)?;
        let mut lines = head.text().lines();
        let fine =
            lines.next().and_then(|line| line.split(' ').nth(1)).is_some_and(|code| code.starts_with('2'));
        let fields = lines.filter_map(|line| line.split_once(':'));
        let length = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
        if fine { Ok((head, length)) } else { Err(malformed(head.text())) }
    }

    /// Sends a payload and reads the answer, whose length is known.
    pub(super) fn post(&mut self, payload: &[u8], answer: &mut [u8]) -> io::Result<()> {
        let (head, length) = self.ask("POST", payload)?;
        if length != answer.len() {
            return Err(malformed("an answer of another length"));
        }
        head.read_body(&mut self.socket, answer, (0, self.quick))
    }
}

impl Store for Http {
    fn put(&mut self, payload: &[u8]) -> io::Result<()> {
        let (head, length) = self.ask("PUT", payload)?;
        let mut nothing = vec![0; length.min(HEAD_BYTES)];
        head.read_body(&mut self.socket, &mut nothing, (0, self.quick))
    }

    fn get(&mut self, into: &mut [u8]) -> io::Result<()> {
        let (head, length) = self.ask("GET", b"")?;
        if length != into.len() {
            return Err(malformed("a payload of another length"));
        }
        head.read_body(&mut self.socket, into, (0, self.quick))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers what is given to it, however the request came.
    fn answering(answers: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            for answer in answers {
                let mut request = [0; 4096];
                assert!(socket.read(&mut request).unwrap() > 0);
                // In two parts, as a network may deliver it.
                let (first, second) = answer.split_at(answer.len() / 2);
                socket.write_all(first).unwrap();
                thread::sleep(std::time::Duration::from_millis(5));
                socket.write_all(second).unwrap();
            }
        });
        address
    }

    #[test]
    fn redis_keeps_and_gives() {
        let answers = [&b"+OK\r\n"[..], b"$3\r\nabc\r\n", b"$3\r\ndef\r\n", b"-ERR no\r\n"];
        let mut redis = Redis::connect(answering(answers.map(<[u8]>::to_vec).to_vec())).unwrap();
        let mut into = [0; 3];
        redis.put(b"abc").unwrap();
        redis.get(&mut into).unwrap();
        assert_eq!(&into, b"abc");
        redis.get(&mut into).unwrap();
        assert_eq!(&into, b"def");
        assert!(redis.put(b"abc").is_err());
    }

    #[test]
    fn http_keeps_and_gives() {
        let answers = [
            &b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ];
        let at = answering(answers.map(<[u8]>::to_vec).to_vec());
        let mut http = Http::connect(at, "/payload", true).unwrap();
        let mut into = [0; 3];
        http.put(b"abc").unwrap();
        http.get(&mut into).unwrap();
        assert_eq!(&into, b"abc");
        assert!(http.get(&mut into).unwrap_err().to_string().contains("404"));
    }
}
