//! Streams: answers and requests in parts.

mod events;
mod parts;
mod socket;

use std::time::Duration;

use baton_abi::stream::{
    BEGIN_FIRST, BEGIN_LAST, OFFER_ANSWER, PART, PAUSE, STATUS_NOT_NOW, STATUS_OVER, STREAMS, UPGRADE,
};

pub use self::events::{Event, Events};
pub use self::parts::Parts;
pub use self::socket::{Received, WebSocket};
use crate::call::{Call, Payload, Reply};
use crate::context::Context;
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::runtime::Runtime;

/// Most bytes of an answer that is gathered for a caller who does not take it in parts.
const GATHERED_BYTES_MAX: usize = 16 << 20;

/// An answer that is sent in parts, each as soon as it is there.
///
/// The handler ends it by returning what [`Sender::end`] gives. A handler that fails, or returns something else, breaks it off:
/// the client sees no proper end. When the client leaves, the handler is dropped where it waits.
#[derive(Debug)]
pub struct Sender {
    runtime: Runtime,
    to: To,
}

#[derive(Debug)]
enum To {
    /// To the client.
    Client,
    /// To a caller who takes it whole: a function, another node, `baton invoke`.
    Caller { head: Response, bytes: Vec<u8> },
}

impl Context {
    /// Begins the answer to `request` as a stream, with the status and the headers of `head`; if that has a payload, it is the first
    /// part. The manifest gives the right by `stream = true`.
    ///
    /// Whoever called this function otherwise than through the gateway of its node gets the answer whole, once it has ended, if it
    /// is no longer than 16 MiB.
    ///
    /// # Errors
    /// [`Error::ClientGone`]; [`Error::Denied`] where the manifest says no.
    pub async fn stream(&self, request: &Request, head: Response) -> Result<Sender, Error> {
        Sender::begin(self.runtime(), request, head, OFFER_ANSWER).await
    }

    /// The body of `request` in parts, as they come. A request that came whole has one part.
    #[must_use]
    pub fn parts(&self, request: Request) -> Parts {
        Parts::new(self.runtime(), request)
    }

    /// As [`Context::parts`], where the body comes in parts; the head stays readable beside it.
    #[must_use]
    pub fn parts_beside(&self, request: &Request) -> Option<Parts> {
        Parts::beside(self.runtime(), request)
    }

    /// Begins the answer to `request` as server-sent events.
    ///
    /// # Errors
    /// As [`Context::stream`].
    pub async fn events(&self, request: &Request) -> Result<Events, Error> {
        self.events_with(request, Response::ok(())).await
    }

    /// As [`Context::events`], with more headers.
    ///
    /// # Errors
    /// As [`Context::stream`].
    pub async fn events_with(&self, request: &Request, head: Response) -> Result<Events, Error> {
        let head = head.header("content-type", "text/event-stream").header("cache-control", "no-store");
        Ok(Events::new(self.stream(request, head).await?))
    }

    /// Grants the WebSocket that `request` asks for; the headers of `head`, such as `sec-websocket-protocol`, go with that.
    ///
    /// The gateway shakes hands for every origin: who is to be let in by a browser's `Origin` is this function's to decide before.
    ///
    /// # Errors
    /// [`Error::Handler`] with status 426 where the request asks for none; as [`Context::stream`].
    pub async fn websocket(&self, request: &Request, head: Response) -> Result<WebSocket, Error> {
        WebSocket::begin(self.runtime(), request, head).await
    }
}

impl Sender {
    async fn begin(runtime: Runtime, request: &Request, head: Response, offer: u8) -> Result<Sender, Error> {
        if !runtime.declares(STREAMS) {
            return Err(Error::Denied {
                what: "streams: set `stream = true` for this function in baton.toml",
            });
        }
        if !request.offers(offer) {
            return Ok(Sender { runtime, to: To::Caller { head, bytes: Vec::new() } });
        }
        let status = match u16::try_from(head.status) {
            Ok(status) if status == UPGRADE || (BEGIN_FIRST..=BEGIN_LAST).contains(&status) => status,
            _ => return Err(Error::new(500, "the status of an answer is 200 to 599")),
        };
        let Response { head, payload, .. } = head;
        ask(Call::new(runtime, STREAMS, Payload::Empty).operation(status).with_head(head)).await?;
        let mut sender = Sender { runtime, to: To::Client };
        if !matches!(payload, Payload::Empty) {
            sender.send(payload).await?;
        }
        Ok(sender)
    }

    /// Sends the next part, and waits until there is room for another: at most eight wait for the client.
    ///
    /// What moves goes from where it lies; what is lent or shared, and bytes, are copied once.
    ///
    /// # Errors
    /// [`Error::ClientGone`] once nobody reads on; [`Error::PoolFull`].
    pub async fn send<'a>(&mut self, part: impl Into<Payload<'a>>) -> Result<(), Error> {
        let part = part.into();
        match &mut self.to {
            To::Client => say(self.runtime, PART, part).await,
            To::Caller { bytes, .. } => gather(bytes, &part),
        }
    }

    /// Waits, as long as the stream lives. The thread goes on with other requests meanwhile.
    ///
    /// # Errors
    /// [`Error::ClientGone`] once nobody reads on.
    pub async fn pause(&mut self, time: Duration) -> Result<(), Error> {
        match &self.to {
            To::Client => pause(self.runtime, time).await,
            // Nobody sees how it comes about.
            To::Caller { .. } => Ok(()),
        }
    }

    /// What the handler is to return: the stream's end.
    ///
    /// # Errors
    /// None as it is; so that it can be the handler's last word.
    pub fn end(self) -> Result<Response, Error> {
        Ok(match self.to {
            To::Client => Response::empty(),
            To::Caller { head, bytes } => head.body(bytes),
        })
    }
}

fn gather(bytes: &mut Vec<u8>, part: &Payload<'_>) -> Result<(), Error> {
    let part: &[u8] = match part {
        Payload::Empty => &[],
        Payload::Buffer(buffer) => buffer,
        Payload::Body(body) => body,
        Payload::Lend(held, _) => held.bytes(),
        Payload::Shared(shared) => shared.bytes()?,
        Payload::Bytes(bytes) => bytes,
    };
    if bytes.len().saturating_add(part.len()) > GATHERED_BYTES_MAX {
        return Err(Error::new(507, "the answer is a stream, and too long to be gathered for its caller"));
    }
    bytes.extend_from_slice(part);
    Ok(())
}

async fn say(runtime: Runtime, operation: u16, payload: Payload<'_>) -> Result<(), Error> {
    ask(Call::new(runtime, STREAMS, payload).operation(operation)).await.map(|_| ())
}

async fn pause(runtime: Runtime, time: Duration) -> Result<(), Error> {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    say(runtime, PAUSE, Payload::from(&millis.to_le_bytes()[..])).await
}

async fn ask(call: Call<'_>) -> Result<Reply, Error> {
    call.await.map_err(told)
}

/// What is said of functions, said of streams.
#[cold]
fn told(error: Error) -> Error {
    match error {
        Error::Function { status: STATUS_OVER, .. } => Error::ClientGone,
        Error::Function { status: STATUS_NOT_NOW, message, .. } => Error::new(500, message),
        Error::Function { status: 503, .. } => Error::PoolFull { wanted: 0 },
        other => other,
    }
}
