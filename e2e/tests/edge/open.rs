//! A client that reads an answer as it comes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use baton_e2e::http::PATIENCE;

/// An answer that is being read.
pub(crate) struct Open {
    stream: BufReader<TcpStream>,
    /// Its status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// A connection.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the gateway listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("an option");
    stream
}

impl Open {
    /// Asks for `target`, and reads the answer's head.
    pub(crate) fn get(to: SocketAddr, target: &str) -> Open {
        Open::ask(to, &format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// Sends a head, and reads the answer's.
    pub(crate) fn ask(to: SocketAddr, head: &str) -> Open {
        let mut stream = connect(to);
        stream.write_all(head.as_bytes()).expect("the gateway reads");
        Open::answer(stream).expect("an answer")
    }

    /// Reads the head of an answer.
    pub(crate) fn answer(stream: TcpStream) -> io::Result<Open> {
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no HTTP: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut stream)?;
            if line.is_empty() {
                return Ok(Open { stream, status, headers });
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next chunk; `None` behind the last. An error where the answer is broken off.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = line(&mut self.stream)?;
        let size =
            usize::from_str_radix(&size, 16).map_err(|_| io::Error::other(format!("no size: {size:?}")))?;
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// All chunks that follow.
    pub(crate) fn chunks(&mut self) -> io::Result<Vec<Vec<u8>>> {
        std::iter::from_fn(|| self.chunk().transpose()).collect()
    }

    /// A server-sent event.
    pub(crate) fn event(&mut self) -> String {
        String::from_utf8(self.chunk().expect("an event").expect("no end")).expect("text")
    }

    /// Sends more.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the gateway reads");
    }

    /// The connection, and what was read of it already.
    pub(crate) fn into_stream(self) -> BufReader<TcpStream> {
        self.stream
    }

    /// Leaves.
    pub(crate) fn leave(self) {
        let _ = self.stream.into_inner().shutdown(Shutdown::Both);
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
