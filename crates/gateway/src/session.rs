//! One connection from its first byte to its close.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use baton_flow::ClientFacts;
use http::StatusCode;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::conn::{Conn, Order, Seat};
use crate::io::{Io, Version};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, LINGER_BYTES_MAX, LINGER_TIME, Limits, READ_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use crate::seam::Backend;
use crate::service::{Session, answer};
use crate::socket;
use crate::tls::Tls;
use crate::trace::Tracer;
use crate::wire::{Doorman, Greeted, Wire};

const HEAD_TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 53\r\n\r\n\
    the request's headers came too slowly; send it again\n";

const IN_PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 58\r\n\r\n\
    this port speaks TLS; send the request again with https://\n";

/// Runs an HTTP/2 connection's requests on the thread that it is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExec;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExec {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// How connections are spoken to.
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<LocalExec>,
    tracer: Rc<Tracer>,
    /// Only with TLS.
    doorman: Option<Doorman>,
}

impl Protocols {
    pub(crate) fn new(limits: &Limits, tls: Option<Tls>) -> Self {
        let mut http1 = http1::Builder::new();
        // Left off are: hyper's header time-out, which allocates a timer for every request (the sweep does that
        // work); `half_close`, with which hyper would not see a client that is gone (`Conn::hides_end`);
        // `pipeline_flush`, which copies every body.
        http1
            .header_read_timeout(None)
            .max_header_size(limits.head_bytes)
            .max_buf_size(READ_BYTES_MAX.max(limits.head_bytes));
        if limits.headers != Limits::HEADERS {
            // hyper allocates for every request once it is told a number; its own is the default here.
            http1.max_headers(limits.headers);
        }
        let mut http2 = http2::Builder::new(LocalExec);
        http2
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Self { http1, http2, tracer: Rc::new(Tracer::new()), doorman: tls.map(Doorman::new) }
    }
}

/// Why a connection ended.
enum End {
    Done(hyper::Result<()>),
    Ordered(Order),
}

/// Serves one connection to its end.
pub(crate) async fn serve<B: Backend>(stream: TcpStream, seat: Seat, backend: B, protocols: Rc<Protocols>) {
    let conn = seat.conn().clone();
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
    let wire = match &protocols.doorman {
        None => Wire::Plain(stream),
        Some(doorman) => match Box::pin(doorman.greet(stream, &conn)).await {
            Greeted::Well(wire) => wire,
            Greeted::InPlain(stream) => {
                conn.desk().counters.answered(StatusCode::BAD_REQUEST);
                return say_last(Wire::Plain(stream), IN_PLAIN_ANSWER).await;
            }
            Greeted::Not => return,
        },
    };
    let mut io = Io::new(wire, conn.clone());
    let client = ClientFacts {
        address,
        identity: conn.identity().map(Into::into),
        is_secure: protocols.doorman.is_some(),
    };
    let session = Rc::new(Session::new(backend, conn.clone(), protocols.tracer.clone(), client));
    match io.version().await {
        Ok(Version::Http1) => http1(io, session, &protocols).await,
        Ok(Version::Http2) => {
            conn.set_http2();
            http2(io, session, &protocols).await;
        }
        Err(Order::HeadTimeout) => time_out_head(io.into_stream(), &conn).await,
        Err(Order::Finish | Order::Cut) => {}
    }
}

async fn http1<B: Backend>(io: Io, session: Rc<Session<B>>, protocols: &Protocols) {
    let conn = session.conn.clone();
    let served = session.clone();
    let service = service_fn(move |request| answer(served.clone(), request));
    let mut link = protocols.http1.serve_connection(TokioIo::new(io), service);
    let end = poll_fn(|cx| {
        conn.park(cx);
        match conn.take_order() {
            Some(Order::Finish) => Pin::new(&mut link).graceful_shutdown(),
            Some(order) => return Poll::Ready(End::Ordered(order)),
            None => {}
        }
        Pin::new(&mut link).poll(cx).map(End::Done)
    })
    .await;
    // What was in flight goes with the parts that are dropped here.
    let parts = link.into_parts();
    if let (Some(upgrade), End::Done(Ok(()))) = (session.upgrade.take(), &end) {
        return Box::pin(socket::serve(parts.io.into_inner(), parts.read_buf, upgrade, conn)).await;
    }
    let stream = parts.io.into_inner().into_stream();
    match end {
        End::Done(Ok(())) if conn.has_unread() => Box::pin(linger(stream)).await,
        End::Done(Err(error)) if error.is_parse() => {
            let too_large = error.is_parse_too_large();
            let status =
                if too_large { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            conn.desk().counters.answered(status);
            Box::pin(linger(stream)).await;
        }
        End::Done(Err(_)) if conn.has_unread() => Box::pin(linger(stream)).await,
        End::Ordered(Order::HeadTimeout) => time_out_head(stream, &conn).await,
        End::Done(_) | End::Ordered(Order::Finish | Order::Cut) => {}
    }
}

async fn http2<B: Backend>(io: Io, session: Rc<Session<B>>, protocols: &Protocols) {
    let conn = session.conn.clone();
    let service = service_fn(move |request| answer(session.clone(), request));
    let mut link = protocols.http2.serve_connection(TokioIo::new(io), service);
    poll_fn(|cx| {
        conn.park(cx);
        match conn.take_order() {
            Some(Order::Finish) => Pin::new(&mut link).graceful_shutdown(),
            Some(Order::HeadTimeout | Order::Cut) => return Poll::Ready(()),
            None => {}
        }
        Pin::new(&mut link).poll(cx).map(|_| ())
    })
    .await;
}

/// Tells a client that began a head and did not end it; one that said nothing is told nothing.
async fn time_out_head(stream: Wire, conn: &Conn) {
    if !conn.has_spoken() || conn.is_blocked() {
        return;
    }
    conn.desk().counters.answered(StatusCode::REQUEST_TIMEOUT);
    say_last(stream, HEAD_TIMEOUT_ANSWER).await;
}

/// Gives an answer by hand, and closes.
async fn say_last(mut stream: Wire, words: &[u8]) {
    // The socket's buffer is empty, so it takes these few bytes at once, or the client is gone.
    if timeout(LINGER_TIME, stream.write_all(words)).await.is_ok_and(|written| written.is_ok()) {
        Box::pin(linger(stream)).await;
    }
}

/// Closes a connection whose client may still be sending, so that it can read its answer.
pub(crate) async fn linger(mut stream: Wire) {
    // Fails where hyper has shut it before, or the client is gone; the reads below notice the latter.
    let _ = stream.shutdown().await;
    let reading = async {
        let mut sink = vec![0; 8192];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    if timeout(LINGER_TIME, reading).await.is_err() {
        tracing::trace!("a refused client went on sending");
    }
}
