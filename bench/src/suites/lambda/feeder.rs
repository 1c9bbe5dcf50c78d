//! The smallest server of the Runtime API: one event, over and over, for one program.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

const HEAD_BYTES_MAX: usize = 16 << 10;
const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n";

/// The server.
#[derive(Debug)]
pub(super) struct Feeder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_open: Mutex<bool>,
    changed: Condvar,
    answered: AtomicU64,
}

impl Feeder {
    /// Listens from now on, and gives no event yet.
    pub(super) fn start(body: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let event = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\n\
             Lambda-Runtime-Deadline-Ms: 9999999999999\r\nLambda-Runtime-Invoked-Function-Arn: arn\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (event, serving): (Arc<[u8]>, _) = (Arc::from(event.into_bytes()), Arc::clone(&shared));
        thread::Builder::new().name("feeder".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (event, shared) = (Arc::clone(&event), Arc::clone(&serving));
                let serve = move || drop(serve(&stream, &event, &shared));
                if thread::Builder::new().name("feeder".to_owned()).spawn(serve).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, shared })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Events that were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) {
        *self.shared.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
    }

    pub(super) fn close(&self) {
        *self.shared.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

fn serve(mut stream: &TcpStream, event: &[u8], shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut bytes, mut piece) = (Vec::new(), [0; HEAD_BYTES_MAX]);
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let count = stream.read(&mut piece)?;
            if count == 0 || bytes.len() > HEAD_BYTES_MAX {
                return Ok(());
            }
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
        bytes.drain(..end);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while bytes.len() < length {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
        bytes.drain(..length);
        if head.starts_with("get ") {
            let mut is_open = shared.is_open.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_open {
                is_open = shared.changed.wait(is_open).unwrap_or_else(PoisonError::into_inner);
            }
            drop(is_open);
            stream.write_all(event)?;
        } else {
            shared.answered.fetch_add(1, Ordering::Relaxed);
            stream.write_all(ACCEPTED)?;
        }
    }
}
