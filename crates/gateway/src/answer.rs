//! The body of an answer: one piece, handed to the socket from where it lies; or parts, each as soon as it is there.

use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::conn::{Flight, Held};
use crate::seam::Parts;

/// The bytes of an answer.
pub(crate) enum Content<B> {
    /// A function's, where it left them.
    Reply(B),
    /// The gateway's own.
    Text(Bytes),
}

/// What an answer consists of.
pub(crate) enum Answer<P: Parts> {
    /// Nothing but its head.
    Empty,
    /// All of it.
    Whole(Content<P::Body>),
    /// What comes when it comes.
    Parts(P),
}

/// The bytes of an answer on their way to the socket.
pub(crate) struct Piece<B> {
    content: Content<B>,
    /// HTTP/2 only: there a client can hold an answer back without ever blocking the socket.
    held: Option<Held>,
}

/// A stream was broken off: the client is shown no proper end.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the function failed in the middle of its answer")
    }
}

impl std::error::Error for Broken {}

/// An answer's body. It ends its request when it is dropped.
pub(crate) struct AnswerBody<P: Parts> {
    piece: Option<Piece<P::Body>>,
    parts: Option<P>,
    /// Not there once the connection goes on as something else.
    flight: Option<Flight>,
}

impl<P: Parts> AnswerBody<P> {
    pub(crate) fn new(answer: Answer<P>, flight: Flight) -> Self {
        let (content, parts) = match answer {
            Answer::Empty => (None, None),
            Answer::Whole(content) => (Some(content), None),
            Answer::Parts(parts) => {
                flight.go_live();
                (None, Some(parts))
            }
        };
        let piece = content.map(|content| Piece { content, held: None }).filter(Buf::has_remaining);
        let piece = piece.map(|piece| Piece { held: flight.hold(), ..piece });
        Self { piece, parts, flight: Some(flight) }
    }

    /// Of an answer with which the connection becomes something else.
    pub(crate) fn none() -> Self {
        Self { piece: None, parts: None, flight: None }
    }
}

impl<B: Buf> Buf for Piece<B> {
    fn remaining(&self) -> usize {
        match &self.content {
            Content::Reply(body) => body.remaining(),
            Content::Text(body) => body.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.content {
            Content::Reply(body) => body.chunk(),
            Content::Text(body) => body.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        match &self.content {
            Content::Reply(body) => body.chunks_vectored(to),
            Content::Text(body) => body.chunks_vectored(to),
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.content {
            Content::Reply(body) => body.advance(count),
            Content::Text(body) => body.advance(count),
        }
        if let Some(held) = &self.held {
            held.moved();
        }
    }
}

// Nothing in it is ever pinned: pieces are taken out whole.
impl<P: Parts> Unpin for AnswerBody<P> {}

impl<P: Parts> Body for AnswerBody<P> {
    type Data = Piece<P::Body>;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece<P::Body>>, Broken>>> {
        let this = self.get_mut();
        let Some(parts) = &mut this.parts else {
            return Poll::Ready(this.piece.take().map(|piece| Ok(Frame::data(piece))));
        };
        let next = loop {
            match ready!(parts.poll_next(cx)) {
                Some(Ok((_, body))) if !body.has_remaining() => {}
                next => break next,
            }
        };
        Poll::Ready(match next {
            Some(Ok((_, body))) => {
                let held = this.flight.as_ref().and_then(Flight::hold);
                Some(Ok(Frame::data(Piece { content: Content::Reply(body), held })))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a stream is broken off");
                this.parts = None;
                Some(Err(Broken))
            }
            None => {
                this.parts = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none() && self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.parts {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.piece.as_ref().map_or(0, |piece| piece.remaining() as u64)),
        }
    }
}
