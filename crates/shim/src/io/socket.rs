//! One connection: a stream socket that does not block.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::reactor::{Reactor, Registration, Way};

/// How long a look whether somebody accepts connections may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Where a program listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// On the loopback interface.
    Port(u16),
    /// At a path.
    Path(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Port(port) => write!(f, "127.0.0.1:{port}"),
            Address::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Address {
    /// A connection that blocks. On one machine a connection is made at once, or refused at once; only a program that does not
    /// accept those that wait lets one wait.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        match self {
            Address::Port(port) => {
                let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port);
                let stream = TcpStream::connect_timeout(&to.into(), CONNECT_WITHIN)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Path(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }
}

impl Stream {
    pub(crate) fn set_nonblocking(&self, is_on: bool) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(is_on),
            Stream::Unix(stream) => stream.set_nonblocking(is_on),
        }
    }

    /// How long reads and writes of a connection that blocks may take.
    pub(crate) fn set_patience(&self, time: Duration) -> io::Result<()> {
        let time = Some(time);
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(into),
            Stream::Unix(stream) => (&mut &*stream).read(into),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(pieces),
            Stream::Unix(stream) => (&mut &*stream).write_vectored(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that tasks wait for. One may read while another writes.
#[derive(Debug)]
pub(crate) struct Socket {
    registration: Registration,
    stream: Stream,
}

impl Socket {
    pub(crate) fn new(reactor: &Reactor, stream: Stream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        Ok(Socket { registration: reactor.register(&stream)?, stream })
    }

    /// The stream itself: for whoever frames what is on it by itself.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether nothing came and the other end is there still: what a connection must be that is used again.
    pub(crate) fn is_at_rest(&self) -> bool {
        let source = self.registration.source();
        if !source.is_stirred() {
            return true;
        }
        // It may be that the last read was as long as what there was.
        source.take(Way::Read);
        let nothing = (&self.stream).read(&mut [0]);
        matches!(nothing, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until reading is worth a try.
    pub(crate) async fn readable(&self) {
        poll_fn(|context| self.registration.source().poll_take(Way::Read, context)).await;
    }

    /// Waits until writing is worth a try.
    pub(crate) async fn writable(&self) {
        poll_fn(|context| self.registration.source().poll_take(Way::Write, context)).await;
    }

    /// Something may be left to be read.
    pub(crate) fn keep_readable(&self) {
        self.registration.source().put_back(Way::Read);
    }

    /// Reads by `read`, which is given the stream; `full` is how much it takes at most.
    pub(crate) async fn read_by(
        &self,
        full: usize,
        mut read: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            self.readable().await;
            match read(&self.stream) {
                Ok(count) => {
                    if count == full {
                        self.keep_readable();
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => self.keep_readable(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is there, at least one byte; none at the end.
    pub(crate) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let full = into.len();
        self.read_by(full, |mut stream| stream.read(into)).await
    }

    /// Writes `first`, and `second` behind it, from where they lie.
    pub(crate) async fn write_all(&self, first: &[u8], second: &[u8]) -> io::Result<()> {
        let (mut first, mut second) = (first, second);
        while !first.is_empty() || !second.is_empty() {
            let pieces = [IoSlice::new(first), IoSlice::new(second)];
            let skip = usize::from(first.is_empty());
            match (&self.stream).write_vectored(pieces.get(skip..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let of_first = count.min(first.len());
                    first = first.get(of_first..).unwrap_or_default();
                    second = second.get(count - of_first..).unwrap_or_default();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
