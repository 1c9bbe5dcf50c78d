//! The socket as hyper sees it: counts bytes, notes where the connection is, tells HTTP/1 and HTTP/2 apart.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::conn::{Conn, Order};
use crate::wire::Wire;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client with prior knowledge of HTTP/2 sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// A connection's socket.
pub(crate) struct Io {
    stream: Wire,
    /// The first bytes, read to tell the version, then given to hyper.
    first: [u8; PREFACE.len()],
    filled: usize,
    given: usize,
    conn: Rc<Conn>,
}

impl Io {
    pub(crate) fn new(stream: Wire, conn: Rc<Conn>) -> Self {
        Self { stream, first: [0; PREFACE.len()], filled: 0, given: 0, conn }
    }

    pub(crate) fn into_stream(self) -> Wire {
        self.stream
    }

    /// Reads until the version is clear. An order ends it early.
    pub(crate) async fn version(&mut self) -> Result<Version, Order> {
        poll_fn(|cx| self.poll_version(cx)).await
    }

    fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<Result<Version, Order>> {
        loop {
            self.conn.park(cx);
            match self.conn.take_order() {
                Some(Order::HeadTimeout) => return Poll::Ready(Err(Order::HeadTimeout)),
                Some(Order::Cut | Order::Finish) => return Poll::Ready(Err(Order::Cut)),
                None => {}
            }
            let Some(room) = self.first.get_mut(self.filled..) else { return Poll::Ready(Err(Order::Cut)) };
            let mut buf = ReadBuf::new(room);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)).is_err() {
                return Poll::Ready(Err(Order::Cut));
            }
            let read = buf.filled().len();
            if read == 0 {
                return Poll::Ready(Err(Order::Cut));
            }
            self.conn.received(read);
            self.filled += read;
            if self.first.get(..self.filled) != PREFACE.get(..self.filled) {
                return Poll::Ready(Ok(Version::Http1));
            }
            if self.filled == PREFACE.len() {
                return Poll::Ready(Ok(Version::Http2));
            }
        }
    }

    fn give_first(&mut self, buf: &mut ReadBuf<'_>) {
        let end = self.filled.min(self.given + buf.remaining());
        if let Some(bytes) = self.first.get(self.given..end) {
            buf.put_slice(bytes);
            self.given = end;
        }
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.conn.sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.conn.block(),
        }
        written
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < this.filled {
            this.give_first(buf);
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read == 0 {
            // No waker is left behind: the end of the answer wakes the task, and hyper reads again.
            return if this.conn.hides_end() { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        this.conn.received(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        // TLS takes in what the socket does not take yet.
        match &flushed {
            Poll::Ready(Ok(())) => this.conn.sent(0),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.conn.block(),
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
