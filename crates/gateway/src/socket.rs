//! WebSockets (RFC 6455): the gateway shakes hands, frames and unframes, answers pings; the function sees messages.
//!
//! ```text
//!   client ──frames──▶ tungstenite ──message──▶ Feed  ──▶ function       read while the function has room for more
//!          ◀─────────             ◀────────── Parts ◀──                 taken while the socket takes more
//! ```
//!
//! | what happens | the client sees | the function sees |
//! |---|---|---|
//! | the client closes | its close answered | the end of its messages, with the code; it has [`CLOSE_WAIT`] to end |
//! | the function ends, or closes | 1000, or what the function said | – |
//! | the function fails, or its time is over | 1011 | a cancellation |
//! | the client breaks the protocol, sends no UTF-8, too much | 1002, 1007, 1009 | a client that left |
//! | the client answers no ping, takes nothing | the connection is cut | a client that left |
//! | the node goes down | 1001 | the end of the messages |

mod ask;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use baton_flow::InvokeError;
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

pub(crate) use self::ask::{Ask, accept};
use crate::conn::{Conn, Flight, Order};
use crate::io::Io;
use crate::limits::{
    CLOSE_REASON_BYTES_MAX, CLOSE_WAIT, PING_EVERY, SOCKET_MESSAGE_BYTES_MAX, SOCKET_WRITE_BYTES,
};
use crate::seam::{Feed, PartKind, Parts};
use crate::session::linger;

/// What a connection goes on as.
pub(crate) struct Upgrade<F, P> {
    pub(crate) feed: F,
    pub(crate) parts: P,
    pub(crate) flight: Flight,
}

/// One WebSocket.
struct Socket<F, P> {
    conn: Rc<Conn>,
    stream: WebSocketStream<Io>,
    /// Gone once the client has said its last.
    feed: Option<F>,
    /// Gone once the function has.
    parts: Option<P>,
    /// Our close is on its way, or there.
    has_closed: bool,
    /// When the client is to show that it is there; or, at the end, when waiting for it ends.
    timer: Pin<Box<Sleep>>,
    is_pinged: bool,
    /// The function has no room for more of the client's.
    is_held: bool,
    /// The client's close has come, or nothing more can be read.
    is_heard: bool,
    unflushed: bool,
    _flight: Flight,
}

/// What one look came to.
enum Step {
    /// Look again.
    Moved,
    /// Nothing to be had now.
    Still,
    /// The connection is over.
    Over,
}

/// Serves a connection as a WebSocket to its end. `early` is what was read of it already.
pub(crate) async fn serve<F: Feed, P: Parts>(io: Io, early: Bytes, upgrade: Upgrade<F, P>, conn: Rc<Conn>) {
    let Upgrade { feed, parts, flight } = upgrade;
    flight.go_live();
    let config = WebSocketConfig::default()
        .max_message_size(Some(SOCKET_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(SOCKET_MESSAGE_BYTES_MAX))
        .write_buffer_size(0)
        .max_write_buffer_size(SOCKET_WRITE_BYTES);
    let stream = WebSocketStream::from_partially_read(io, early.to_vec(), Role::Server, Some(config)).await;
    let timer = Box::pin(sleep_until(Instant::now() + PING_EVERY));
    let (feed, parts) = (Some(feed), Some(parts));
    let mut socket = Socket {
        conn,
        stream,
        feed,
        parts,
        has_closed: false,
        timer,
        is_pinged: false,
        is_held: false,
        is_heard: false,
        unflushed: false,
        _flight: flight,
    };
    poll_fn(|cx| socket.poll(cx)).await;
    if socket.has_closed {
        // Closing on unread bytes would reset the connection before the client sees why.
        drop((socket.feed, socket.parts));
        linger(socket.stream.into_inner().into_stream()).await;
    }
}

impl<F: Feed, P: Parts> Socket<F, P> {
    /// Ready once the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.conn.park(cx);
        match self.conn.take_order() {
            Some(Order::Finish) => self.go_away(),
            Some(Order::Cut | Order::HeadTimeout) => return Poll::Ready(()),
            None => {}
        }
        loop {
            let steps = [self.flush(cx), self.write(cx), self.read(cx), self.keep_time(cx)];
            if steps.iter().any(|step| matches!(step, Step::Over)) {
                return Poll::Ready(());
            }
            if steps.iter().all(|step| matches!(step, Step::Still)) {
                return Poll::Pending;
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.unflushed {
            return Step::Still;
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => Step::Still,
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Step::Still
            }
            Poll::Ready(Err(_)) => self.end_if_silent(),
        }
    }

    /// The peer answered our close, and so the connection is over; or it is not there any more.
    fn end_if_silent(&mut self) -> Step {
        self.unflushed = false;
        if self.parts.is_some() && self.feed.is_none() && self.has_closed { Step::Still } else { Step::Over }
    }

    /// From the function to the client.
    fn write(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(parts) = &mut self.parts else { return Step::Still };
        // What is left of a message that the socket did not take holds back the next.
        if self.unflushed {
            return Step::Still;
        }
        let Poll::Ready(next) = parts.poll_next(cx) else { return Step::Still };
        match next {
            Some(Ok((kind, body))) => self.pass(kind, body),
            None => {
                self.parts = None;
                self.close(CloseCode::Normal, "")
            }
            Some(Err(error)) => {
                self.parts = None;
                let late = matches!(error, InvokeError::DeadlineExceeded { .. });
                self.close(
                    CloseCode::Error,
                    if late { "the stream's time is over" } else { "the function failed" },
                )
            }
        }
    }

    fn pass(&mut self, kind: PartKind, mut body: P::Body) -> Step {
        let bytes = body.copy_to_bytes(body.remaining());
        // Behind a close there are no messages.
        if self.has_closed {
            return Step::Moved;
        }
        match kind {
            PartKind::Binary => self.say(Message::Binary(bytes)),
            PartKind::Text => match Utf8Bytes::try_from(bytes) {
                Ok(text) => self.say(Message::Text(text)),
                Err(_) => self.close(CloseCode::Error, "the function sent a text that is none"),
            },
            PartKind::Close => match close_of(&bytes) {
                Some((code, reason)) => self.close(code, &reason),
                None => self.close(CloseCode::Normal, ""),
            },
        }
    }

    fn say(&mut self, message: Message) -> Step {
        match Pin::new(&mut self.stream).start_send(message) {
            Ok(()) => {
                self.unflushed = true;
                Step::Moved
            }
            Err(_) => Step::Over,
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) -> Step {
        if self.has_closed {
            return Step::Moved;
        }
        self.has_closed = true;
        self.wait_for_the_end();
        let end =
            (0..=reason.len().min(CLOSE_REASON_BYTES_MAX)).rev().find(|end| reason.is_char_boundary(*end));
        let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
        let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
        // It was closed by the client in the same moment.
        let _ = self.say(Message::Close(Some(frame)));
        Step::Moved
    }

    fn wait_for_the_end(&mut self) {
        self.timer.as_mut().reset(Instant::now() + CLOSE_WAIT);
    }

    /// The node goes down.
    fn go_away(&mut self) {
        self.close(CloseCode::Away, "the node goes down");
        self.hear_last(&u16::from(CloseCode::Away).to_be_bytes());
    }

    /// The function hears no more of the client.
    fn hear_last(&mut self, close: &[u8]) {
        if let Some(feed) = self.feed.take() {
            feed.end(close);
            self.wait_for_the_end();
        }
    }

    /// From the client to the function.
    fn read(&mut self, cx: &mut Context<'_>) -> Step {
        if let Some(feed) = &mut self.feed {
            match feed.poll_room(cx) {
                Poll::Pending => {
                    self.is_held = true;
                    return Step::Still;
                }
                Poll::Ready(Ok(())) => {}
                // The function has ended; what follows of the client is only its close.
                Poll::Ready(Err(_)) => self.feed = None,
            }
        }
        self.is_held = false;
        let Poll::Ready(message) = Pin::new(&mut self.stream).poll_next(cx) else { return Step::Still };
        self.is_pinged = false;
        match message {
            Some(Ok(message)) => self.take(message),
            Some(Err(error)) => self.refuse(&error),
            None => {
                self.is_heard = true;
                self.end_if_silent()
            }
        }
    }

    fn take(&mut self, message: Message) -> Step {
        let put = match (&message, &mut self.feed) {
            (Message::Text(text), Some(feed)) => feed.put(PartKind::Text, text.as_bytes()),
            (Message::Binary(bytes), Some(feed)) => feed.put(PartKind::Binary, bytes),
            (Message::Close(frame), _) => {
                // The answer to it is on its way.
                self.unflushed = true;
                self.has_closed = true;
                self.is_heard = true;
                let mut close = Vec::new();
                if let Some(frame) = frame {
                    close.extend(u16::from(frame.code).to_be_bytes());
                    close.extend(frame.reason.as_bytes());
                }
                self.hear_last(&close);
                return Step::Moved;
            }
            (Message::Ping(_), _) => {
                self.unflushed = true;
                Ok(())
            }
            _ => Ok(()),
        };
        match put {
            Ok(()) => Step::Moved,
            Err(InvokeError::TooLarge { .. }) => {
                self.feed = None;
                self.close(CloseCode::Size, "larger than the app's memory")
            }
            Err(_) => {
                self.feed = None;
                self.close(CloseCode::Again, "the app's memory is full")
            }
        }
    }

    fn refuse(&mut self, error: &Error) -> Step {
        self.feed = None;
        self.parts = None;
        self.is_heard = true;
        if self.has_closed {
            return Step::Over;
        }
        match error {
            Error::Capacity(_) => self.close(CloseCode::Size, "a message is at most 16 MiB long"),
            Error::Utf8(_) => self.close(CloseCode::Invalid, "a text is UTF-8"),
            Error::Protocol(_) => self.close(CloseCode::Protocol, ""),
            _ => return Step::Over,
        };
        // Nothing that follows can be made sense of: the words are sent, and that is it.
        Step::Moved
    }

    fn keep_time(&mut self, cx: &mut Context<'_>) -> Step {
        // Both have said their last, and all of it is out.
        if self.has_closed && self.parts.is_none() && self.feed.is_none() && !self.unflushed && self.is_heard
        {
            return Step::Over;
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Step::Still;
        }
        if self.has_closed || (self.is_pinged && !self.is_held) {
            return Step::Over;
        }
        self.timer.as_mut().reset(Instant::now() + PING_EVERY);
        if self.is_held {
            return Step::Moved;
        }
        self.is_pinged = true;
        self.say(Message::Ping(Bytes::new()))
    }
}

/// A function's close: its code, if it may say that, and its reason.
fn close_of(bytes: &[u8]) -> Option<(CloseCode, String)> {
    let (code, reason) = bytes.split_first_chunk::<2>()?;
    let code = CloseCode::from(u16::from_be_bytes(*code));
    code.is_allowed().then(|| (code, String::from_utf8_lossy(reason).into_owned()))
}
