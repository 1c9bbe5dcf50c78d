//! One request and its answer.
//!
//! Both ways go at once: while the body is being sent, the answer may come already, and end it. What the answer's length is known of
//! comes whole, read from the socket into a buffer of that size; what has none grows a buffer, or goes on in parts where the manifest
//! says `stream = true`.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use baton::{Buffer, Context, Error, Parts, Request, Response};

use super::body::Framed;
use super::connection::{Connection, Fault, Inbox};
use super::head::{self, Framing, Head, Length};
use super::idle::Idle;
use super::websocket;
use crate::io::{Address, Reactor, Socket};

/// The first buffer of an answer without a length.
const GROWING_BYTES: usize = 16 * 1024;
/// One part of an answer.
const PART_BYTES: usize = 64 * 1024;
/// Where parts are possible, answers that are longer than this go in parts.
const WHOLE_BYTES_MAX: u64 = 256 * 1024;

/// What stands between the node and the program.
#[derive(Debug)]
pub(crate) struct Front {
    address: Address,
    reactor: Reactor,
    pub(super) streams: bool,
    idle: Idle,
}

/// A request on its way to the program.
struct Ask<'a> {
    context: &'a Context,
    request: &'a Request,
    method: &'a str,
    head: &'a [u8],
    length: Length,
}

/// What sending a request came to, once it has.
type Sent = Option<Result<(), Fault>>;

impl Front {
    pub(crate) fn new(address: Address, reactor: Reactor, streams: bool) -> Front {
        Front { address, reactor, streams, idle: Idle::default() }
    }

    /// A new connection.
    pub(super) fn connect(&self) -> Result<Connection, Error> {
        let made = self.address.connect().and_then(|stream| Socket::new(&self.reactor, stream));
        made.map(Connection::new).map_err(|error| {
            Error::new(502, format!("the program does not accept connections at {}: {error}", self.address))
        })
    }

    /// Answers one request.
    pub(crate) async fn serve(&self, context: Context, request: Request) -> Result<Response, Error> {
        if self.streams && request.wants_websocket() {
            return websocket::pass(self, &context, &request).await;
        }
        let mut parts = context.parts_beside(&request);
        let has_body = parts.is_some() || !request.body().is_empty();
        let method = head::method_of(&request, has_body)?;
        let length = length_of(&request, method, parts.is_some())?;
        let head = head::write_request(&request, method, length, "")?;
        let ask = Ask { context: &context, request: &request, method, head: &head, length };
        // What was read of the client's body cannot be sent once more.
        let is_repeatable = parts.is_none() && is_idempotent(method);
        if let Some(connection) = self.idle.take(is_repeatable) {
            match self.exchange(&ask, connection, parts.take()).await {
                Err(Fault::Silent) if is_repeatable => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(self.exchange(&ask, self.connect()?, parts.take()).await?)
    }

    async fn exchange(
        &self,
        ask: &Ask<'_>,
        connection: Connection,
        parts: Option<Parts>,
    ) -> Result<Response, Fault> {
        let Connection { socket, mut inbox } = connection;
        let mut sending = pin!(send(&socket, ask, parts));
        let mut sent: Sent = None;
        let head = alongside(sending.as_mut(), &mut sent, inbox.head(ask.method, false)).await?;
        let mut framed = Framed::new(head.framing);
        let keeps_alive = head.keeps_alive;
        let answer = answer(self.streams, ask, head, &mut inbox, &mut framed);
        let response = alongside(sending.as_mut(), &mut sent, answer).await?;
        if keeps_alive && framed == Framed::Done && matches!(sent, Some(Ok(()))) && inbox.rest().is_empty() {
            self.idle.put(Connection { socket: Rc::clone(&socket), inbox });
        }
        Ok(response)
    }
}

/// Sending one request twice is as good as once (RFC 9110, section 9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
}

/// How long the body is that the program is told of.
fn length_of(request: &Request, method: &str, in_parts: bool) -> Result<Length, Error> {
    if !in_parts {
        return Ok(match request.body().len() {
            // Who sends none where one is usual says so.
            0 if matches!(method, "POST" | "PUT" | "PATCH") => Length::Of(0),
            0 => Length::None,
            bytes => Length::Of(bytes as u64),
        });
    }
    match request.header("content-length") {
        Some(text) => match text.parse() {
            Ok(bytes) => Ok(Length::Of(bytes)),
            Err(_) => Err(Error::new(400, "content-length is no number")),
        },
        None => Ok(Length::Unknown),
    }
}

/// Runs `main`, and what is being sent beside it for as long as that takes. A body that ends wrongly ends both; a program that does
/// not read on may have answered.
async fn alongside<T>(
    mut sending: Pin<&mut impl Future<Output = Result<(), Fault>>>,
    sent: &mut Sent,
    main: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let mut main = pin!(main);
    poll_fn(|context| {
        if sent.is_none()
            && let Poll::Ready(outcome) = sending.as_mut().poll(context)
        {
            if let Err(fault @ Fault::Own(_)) = outcome {
                return Poll::Ready(Err(fault));
            }
            *sent = Some(outcome);
        }
        main.as_mut().poll(context)
    })
    .await
}

/// Sends head and body.
async fn send(socket: &Socket, ask: &Ask<'_>, parts: Option<Parts>) -> Result<(), Fault> {
    let Some(mut parts) = parts else {
        return socket.write_all(ask.head, ask.request.body()).await.map_err(Fault::Broken);
    };
    let mut prefix = ask.head.to_vec();
    let mut sent = 0u64;
    while let Some(part) = parts.next().await.map_err(Fault::Own)? {
        sent += part.len() as u64;
        match ask.length {
            Length::Unknown => prefix.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes()),
            Length::Of(all) if sent <= all => {}
            _ => return Err(Fault::Own(Error::new(400, "the body is longer than content-length"))),
        }
        socket.write_all(&prefix, &part).await.map_err(Fault::Broken)?;
        prefix.clear();
        if ask.length == Length::Unknown {
            prefix.extend_from_slice(b"\r\n");
        }
    }
    match ask.length {
        Length::Unknown => prefix.extend_from_slice(b"0\r\n\r\n"),
        Length::Of(all) if sent != all => {
            return Err(Fault::Own(Error::new(400, "the body is shorter than content-length")));
        }
        _ => {}
    }
    socket.write_all(&prefix, &[]).await.map_err(Fault::Broken)
}

/// The answer behind `head`.
async fn answer(
    streams: bool,
    ask: &Ask<'_>,
    head: Head,
    inbox: &mut Inbox,
    framed: &mut Framed,
) -> Result<Response, Fault> {
    let framing = head.framing;
    let response = respond(&head);
    match framing {
        Framing::None => Ok(response),
        Framing::Length(length) if !streams || length <= WHOLE_BYTES_MAX => {
            whole(ask.context, length, inbox, framed).await.map(|buffer| response.body(buffer))
        }
        _ if !streams => growing(ask.context, inbox, framed).await.map(|buffer| response.body(buffer)),
        _ => in_parts(ask, response, inbox, framed).await,
    }
}

/// Status and headers.
pub(super) fn respond(head: &Head) -> Response {
    let bare = Response::ok(()).status(head.status);
    head.headers.iter().fold(bare, |response, (name, value)| response.header(name, value))
}

/// A body whose length is known.
pub(super) async fn whole(
    context: &Context,
    length: u64,
    inbox: &mut Inbox,
    framed: &mut Framed,
) -> Result<Buffer, Fault> {
    let bytes = usize::try_from(length).map_err(|_| Fault::Own(Error::PoolFull { wanted: usize::MAX }))?;
    let mut buffer = context.alloc(bytes).map_err(Fault::Own)?;
    while inbox.body(framed, &mut buffer).await? {}
    Ok(buffer)
}

/// A body that ends where it ends.
pub(super) async fn growing(
    context: &Context,
    inbox: &mut Inbox,
    framed: &mut Framed,
) -> Result<Buffer, Fault> {
    let mut buffer = context.alloc(GROWING_BYTES).map_err(Fault::Own)?;
    while inbox.body(framed, &mut buffer).await? {
        if buffer.remaining() == 0 {
            let mut larger = context.alloc(buffer.len().saturating_mul(2)).map_err(Fault::Own)?;
            larger.extend_from_slice(&buffer).map_err(Fault::Own)?;
            buffer = larger;
        }
    }
    Ok(buffer)
}

/// Each part as it comes.
async fn in_parts(
    ask: &Ask<'_>,
    head: Response,
    inbox: &mut Inbox,
    framed: &mut Framed,
) -> Result<Response, Fault> {
    let mut sender = ask.context.stream(ask.request, head).await.map_err(Fault::Own)?;
    loop {
        let mut part = ask.context.alloc(PART_BYTES).map_err(Fault::Own)?;
        if !inbox.body(framed, &mut part).await? {
            return sender.end().map_err(Fault::Own);
        }
        sender.send(part).await.map_err(Fault::Own)?;
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Broken(error)
    }
}
