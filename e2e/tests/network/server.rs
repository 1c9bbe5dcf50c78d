//! A server on loopback that functions ask, and that says what came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longest that a connection waits for bytes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a chunk.
const CHUNK: usize = 10_000;

/// What came in one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The request line.
    pub(crate) line: String,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body_len: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What all connections share.
#[derive(Default)]
struct State {
    connections: AtomicUsize,
    /// Connections whose peer went away before its answer.
    gone: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    over: AtomicBool,
}

/// The server. It ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Server {
    pub(crate) fn start() -> Server {
        Self::start_with(None)
    }

    /// A server that speaks TLS.
    pub(crate) fn start_tls(config: ServerConfig) -> Server {
        Self::start_with(Some(Arc::new(config)))
    }

    fn start_with(tls: Option<Arc<ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let _ = match tls {
                        None => serve(&shared, stream),
                        Some(tls) => {
                            serve(&shared, StreamOwned::new(ServerConnection::new(tls).unwrap(), stream))
                        }
                    };
                });
            }
        });
        Server { address, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn gone(&self) -> usize {
        self.state.gone.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request came")
    }
}

fn serve<S: Read + Write>(state: &State, stream: S) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(line) = read_line(&mut stream)? else { return Ok(()) };
        let mut headers = Vec::new();
        while let Some(line) = read_line(&mut stream)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut seen = Seen { line, headers, body_len: 0 };
        let len = seen.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        stream.read_exact(&mut body)?;
        seen.body_len = len;
        state.seen.lock().unwrap().push(seen.clone());
        if !answer(state, &mut stream, &seen, &body)? {
            return Ok(());
        }
    }
}

fn read_line<S: Read>(stream: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end().to_owned()))
}

/// Whether the connection goes on.
fn answer<S: Read + Write>(
    state: &State,
    stream: &mut BufReader<S>,
    seen: &Seen,
    body: &[u8],
) -> io::Result<bool> {
    let target = seen.line.split(' ').nth(1).unwrap_or_default();
    let (what, number) = match target.trim_start_matches('/').split_once('/') {
        Some((what, number)) => (what, number.parse().unwrap_or(0)),
        None => (target.trim_start_matches('/'), 0usize),
    };
    let to = stream.get_mut();
    match what {
        "echo" => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-echo: yes\r\n\r\n", body.len())?;
            to.write_all(body)?;
        }
        "sized" => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {number}\r\n\r\n")?;
            to.write_all(&pattern(number))?;
        }
        "chunked" => {
            to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            for chunk in pattern(number).chunks(CHUNK) {
                write!(to, "{:x}\r\n", chunk.len())?;
                to.write_all(chunk)?;
                to.write_all(b"\r\n")?;
            }
            to.write_all(b"0\r\nx-trailer: 1\r\n\r\n")?;
        }
        "redirect" => {
            to.write_all(b"HTTP/1.1 302 Found\r\nlocation: /echo\r\ncontent-length: 0\r\n\r\n")?;
        }
        "empty" => to.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
        "teapot" => to.write_all(b"HTTP/1.1 418 Teapot\r\ncontent-length: 5\r\n\r\nshort")?,
        "cut" => {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")?;
            to.flush()?;
            return Ok(false);
        }
        "nonsense" => {
            to.write_all(b"220 this is another protocol\r\n\r\n")?;
            to.flush()?;
            return Ok(false);
        }
        "many-headers" => {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n")?;
            for n in 0..number {
                write!(to, "x-{n}: {}\r\n", "v".repeat(1000))?;
            }
            to.write_all(b"\r\n")?;
        }
        "slow" => {
            // Nothing comes; when the other side goes, the read ends.
            let mut byte = [0];
            if matches!(stream.get_mut().read(&mut byte), Ok(0)) {
                state.gone.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(false);
        }
        _ => to.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?,
    }
    stream.get_mut().flush()?;
    Ok(true)
}

/// Bytes that are not all alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
