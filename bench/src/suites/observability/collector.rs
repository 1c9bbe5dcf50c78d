//! A collector of OTLP over HTTP that counts what it is sent and throws it away.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A request's head has no more bytes than this.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Connections at once; of further ones nothing is read.
const CONNECTIONS_MAX: u64 = 16;
const SILENT_MAX: Duration = Duration::from_secs(120);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    spans: AtomicU64,
    lines: AtomicU64,
}

/// It ends with the program.
#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    counts: Arc<Counts>,
}

impl Collector {
    /// Listens on a port of its own.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        let counted = Arc::clone(&counts);
        thread::Builder::new().name("collector".to_owned()).spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if counted.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    counted.open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let counts = Arc::clone(&counted);
                thread::spawn(move || {
                    // A connection that breaks off is the node's to mind.
                    let _ = serve(socket, &counts);
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        })?;
        Ok(Self { address, counts })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests with spans, and with lines.
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.counts.spans.load(Ordering::Relaxed), self.counts.lines.load(Ordering::Relaxed))
    }
}

fn serve(mut socket: TcpStream, counts: &Counts) -> io::Result<()> {
    socket.set_read_timeout(Some(SILENT_MAX))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut have = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = have.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if have.len() > HEAD_BYTES_MAX || more(&mut socket, &mut buffer, &mut have)? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(have.get(..end).unwrap_or_default()).to_ascii_lowercase();
        let Some(mut left) = body_len(&head) else { return Ok(()) };
        let count = if head.contains("/v1/traces") { &counts.spans } else { &counts.lines };
        have.drain(..end);
        loop {
            let gone = left.min(have.len());
            have.drain(..gone);
            left -= gone;
            if left == 0 {
                break;
            }
            if more(&mut socket, &mut buffer, &mut have)? == 0 {
                return Ok(());
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        socket.write_all(ANSWER)?;
    }
}

fn more(socket: &mut TcpStream, buffer: &mut [u8], have: &mut Vec<u8>) -> io::Result<usize> {
    let count = socket.read(buffer)?;
    have.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(count)
}

/// What the head declares; a client that declares nothing is not understood.
fn body_len(head: &str) -> Option<usize> {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_however_they_are_cut() {
        let collector = Collector::start().unwrap();
        let mut socket = TcpStream::connect(collector.address()).unwrap();
        let requests = b"POST /v1/traces HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345POST /v1/logs HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for part in requests.chunks(7) {
            socket.write_all(part).unwrap();
        }
        let mut answers = vec![0; ANSWER.len() * 2];
        socket.read_exact(&mut answers).unwrap();
        assert_eq!(collector.taken(), (1, 1));
    }
}
