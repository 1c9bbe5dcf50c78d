//! WebSockets: the node speaks with the client, this with the program; whole messages go between.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::pin;
use std::rc::Rc;

use baton::{Context, Error, Received, Request, Response, WebSocket};
use futures_util::future::{Either, select};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error as SocketError, Message};

use super::body::Framed;
use super::connection::{Connection, Fault, Inbox};
use super::exchange::{Front, growing, respond, whole};
use super::head::{self, Framing, Head, Length};
use crate::io::Socket;

/// Longest message, as the gateway has it.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// No code was given; never sent.
const NO_CODE: u16 = 1005;

/// The socket as a stream of bytes that does not wait.
struct Bytes(Rc<Socket>);

impl Read for Bytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.stream().read(into)
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.stream().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The program's side.
struct Program {
    socket: Rc<Socket>,
    frames: tungstenite::WebSocket<Bytes>,
}

/// What happened next.
enum Event {
    FromClient(Result<Option<Received>, Error>),
    FromProgram,
}

/// Asks the program for a WebSocket, and passes messages until one side ends it. A program that refuses is passed on as it answers.
pub(super) async fn pass(front: &Front, context: &Context, request: &Request) -> Result<Response, Error> {
    let key = generate_key();
    let extra = format!(
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n"
    );
    let asked = head::write_request(request, "GET", Length::None, &extra)?;
    let Connection { socket, mut inbox } = front.connect()?;
    socket.write_all(&asked, &[]).await.map_err(Fault::Broken)?;
    let head = inbox.head("GET", true).await?;
    if head.status != 101 {
        return refused(context, head, &mut inbox).await;
    }
    let is_proved = head.accept.as_deref() == Some(derive_accept_key(key.as_bytes()).as_bytes());
    if !is_proved || head.upgrade.as_deref() != Some("websocket") {
        return Err(Error::new(
            502,
            "the program agreed to a WebSocket, and did not prove that it knows what that is",
        ));
    }
    let client = context.websocket(request, respond(&head).status(204)).await?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let stream = Bytes(Rc::clone(&socket));
    let came = inbox.rest().to_vec();
    let frames = tungstenite::WebSocket::from_partially_read(stream, came, Role::Client, Some(limits));
    // What came along with the head is heard of by nobody else.
    socket.keep_readable();
    go_between(client, Program { socket, frames }).await
}

async fn refused(context: &Context, head: Head, inbox: &mut Inbox) -> Result<Response, Error> {
    let mut framed = Framed::new(head.framing);
    let response = respond(&head);
    Ok(match head.framing {
        Framing::None => response,
        Framing::Length(length) => response.body(whole(context, length, inbox, &mut framed).await?),
        Framing::Chunked | Framing::Close => response.body(growing(context, inbox, &mut framed).await?),
    })
}

async fn go_between(mut client: WebSocket, mut program: Program) -> Result<Response, Error> {
    loop {
        let event = {
            let (from_client, from_program) = (pin!(client.receive()), pin!(program.socket.readable()));
            match select(from_client, from_program).await {
                Either::Left((message, _)) => Event::FromClient(message),
                Either::Right(_) => Event::FromProgram,
            }
        };
        match event {
            Event::FromClient(message) => match message? {
                Some(message) => program.send(copied(&message)).await?,
                None => {
                    program.end(client.close_code()).await;
                    return client.end();
                }
            },
            Event::FromProgram => {
                while let Some(message) = program.receive()? {
                    match message {
                        Message::Text(text) => client.send_text(&text).await?,
                        Message::Binary(bytes) => client.send(&bytes[..]).await?,
                        Message::Close(frame) => return ended(client, frame).await,
                        // Answered by what frames them.
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                program.flush().await?;
            }
        }
    }
}

fn copied(message: &Received) -> Message {
    match message.text() {
        Some(text) => Message::text(text),
        None => Message::binary(message.bytes().to_vec()),
    }
}

/// The program closed: the client is told its code where a function may use it.
async fn ended(client: WebSocket, frame: Option<CloseFrame>) -> Result<Response, Error> {
    let Some(frame) = frame else { return client.end() };
    match u16::from(frame.code) {
        NO_CODE => client.end(),
        code @ (1000 | 3000..=4999) => client.close(code, &frame.reason).await,
        code => Err(Error::new(502, format!("the program closed its WebSocket with {code}"))),
    }
}

impl Program {
    /// The next message, if one is there whole.
    fn receive(&mut self) -> Result<Option<Message>, Error> {
        match self.frames.read() {
            Ok(message) => Ok(Some(message)),
            Err(SocketError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        match self.frames.send(message) {
            Ok(()) => Ok(()),
            Err(SocketError::Io(error)) if error.kind() == ErrorKind::WouldBlock => self.flush().await,
            Err(error) => Err(broken(&error)),
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        loop {
            match self.frames.flush() {
                Ok(()) => return Ok(()),
                Err(SocketError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.writable().await;
                }
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Tells it that the client has closed, and hears its answer; the node does not wait for ever.
    async fn end(&mut self, code: Option<u16>) {
        let frame = code.map(|code| CloseFrame { code: CloseCode::from(code), reason: "".into() });
        if self.frames.close(frame).is_err() || self.flush().await.is_err() {
            return;
        }
        loop {
            match self.receive() {
                Ok(Some(_)) => {}
                Ok(None) => self.socket.readable().await,
                Err(_) => return,
            }
        }
    }
}

fn broken(error: &SocketError) -> Error {
    Error::new(502, format!("the program's WebSocket broke: {error}"))
}
