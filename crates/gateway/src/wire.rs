//! A connection's bytes: plain, or out of and into TLS; and the handshake in front of the latter.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::conn::{Conn, Order};
use crate::limits::HANDSHAKES_MAX;
use crate::tls::{Tls, identity_of};

/// The first byte of every TLS handshake.
const HANDSHAKE: u8 = 22;

/// Where a connection's bytes go.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What became of a connection that was to begin with a handshake.
pub(crate) enum Greeted {
    /// It can be spoken on.
    Well(Wire),
    /// Its client speaks, and not TLS.
    InPlain(TcpStream),
    /// It failed, took too long, or the client left.
    Not,
}

/// Shakes hands.
pub(crate) struct Doorman {
    tls: Tls,
    /// Handshakes under way; others wait, as long as a handshake may take.
    places: Semaphore,
}

impl Doorman {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, places: Semaphore::new(HANDSHAKES_MAX) }
    }

    /// From the connection's start to the end of its handshake. An order ends it: its time is that of a head.
    pub(crate) async fn greet(&self, stream: TcpStream, conn: &Conn) -> Greeted {
        let mut handshake = pin!(self.shake(stream, conn));
        let greeted = poll_fn(|cx| {
            conn.park(cx);
            if conn
                .take_order()
                .is_some_and(|order| matches!(order, Order::HeadTimeout | Order::Cut | Order::Finish))
            {
                return Poll::Ready(Greeted::Not);
            }
            handshake.as_mut().poll(cx)
        })
        .await;
        conn.desk().counters.greeted(matches!(greeted, Greeted::Well(_)));
        greeted
    }

    async fn shake(&self, stream: TcpStream, conn: &Conn) -> Greeted {
        let mut first = [0];
        // A client that says nothing takes no place from others.
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return Greeted::Not,
            Ok(_) => {}
        }
        let [first] = first;
        if first != HANDSHAKE {
            return if first.is_ascii_alphabetic() { Greeted::InPlain(stream) } else { Greeted::Not };
        }
        // The semaphore is never closed.
        let Ok(_place) = self.places.acquire().await else { return Greeted::Not };
        match TlsAcceptor::from(self.tls.config()).accept(stream).await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                if let Some(identity) = shown.and_then(|certificate| identity_of(certificate)) {
                    conn.identify(identity);
                }
                Greeted::Well(Wire::Tls(Box::new(stream)))
            }
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                Greeted::Not
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
