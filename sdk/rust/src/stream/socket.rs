//! WebSockets: messages both ways. The gateway does the rest.

use std::time::Duration;

use baton_abi::stream::{CLOSE, OFFER_SOCKET, PART, STATUS_TEXT, TEXT, UPGRADE};

use super::parts::Next;
use super::{Sender, pause, say};
use crate::body::Body;
use crate::call::{Payload, Reply};
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::runtime::Runtime;

/// A WebSocket. The handler ends it by returning what [`WebSocket::end`] or [`WebSocket::close`] gives.
#[derive(Debug)]
pub struct WebSocket {
    runtime: Runtime,
    next: Next,
}

/// A message of the client's.
#[derive(Debug)]
pub struct Received(Reply);

impl Received {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.is_text().then(|| core::str::from_utf8(self.bytes()).ok())?
    }

    /// Whether it is a text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.0.status() == STATUS_TEXT
    }

    /// Its bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.body()
    }

    /// The payload itself, to be kept or handed on.
    ///
    /// # Errors
    /// [`Error::Layout`] if it is empty.
    pub fn into_body(self) -> Result<Body, Error> {
        self.0.into_body()
    }
}

impl WebSocket {
    pub(super) async fn begin(
        runtime: Runtime,
        request: &Request,
        head: Response,
    ) -> Result<WebSocket, Error> {
        if !request.wants_websocket() {
            return Err(Error::new(426, "this is a WebSocket: ask for one, through the gateway of its node"));
        }
        let head = head.body(()).status(UPGRADE);
        Sender::begin(runtime, request, head, OFFER_SOCKET).await?;
        Ok(WebSocket { runtime, next: Next::new(runtime) })
    }

    /// The next message; `None` once the client has closed. What is waited for is kept: dropping the future loses no message.
    ///
    /// # Errors
    /// [`Error::ClientGone`] where it left without a word.
    pub async fn receive(&mut self) -> Result<Option<Received>, Error> {
        Ok(self.next.get().await?.map(Received))
    }

    /// The code with which the client closed, if it did and gave one.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        self.next.last_words().first_chunk::<2>().map(|code| u16::from_be_bytes(*code))
    }

    /// Sends a binary message, and waits until there is room for another.
    ///
    /// # Errors
    /// [`Error::ClientGone`] once the client is gone; [`Error::PoolFull`].
    pub async fn send<'a>(&mut self, message: impl Into<Payload<'a>>) -> Result<(), Error> {
        say(self.runtime, PART, message.into()).await
    }

    /// Sends a text message, and waits until there is room for another.
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        say(self.runtime, TEXT, text.into()).await
    }

    /// As [`Sender::pause`].
    ///
    /// # Errors
    /// [`Error::ClientGone`] once the client is gone.
    pub async fn pause(&mut self, time: Duration) -> Result<(), Error> {
        pause(self.runtime, time).await
    }

    /// Closes with a code (1000, or 3000 to 4999, are the ones for functions) and a reason of at most 123 bytes. Gives what the
    /// handler is to return.
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn close(self, code: u16, reason: &str) -> Result<Response, Error> {
        let mut words = code.to_be_bytes().to_vec();
        words.extend_from_slice(reason.as_bytes());
        say(self.runtime, CLOSE, words.into()).await?;
        self.end()
    }

    /// What the handler is to return: the end, with code 1000 if nobody closed before.
    ///
    /// # Errors
    /// None as it is; so that it can be the handler's last word.
    pub fn end(self) -> Result<Response, Error> {
        Ok(Response::empty())
    }
}
