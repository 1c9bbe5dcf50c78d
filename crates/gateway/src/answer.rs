//! The body of an answer: one piece, handed to the socket from where it lies.

use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::conn::{Flight, Held};

/// The bytes of an answer.
pub(crate) enum Content<B> {
    /// A function's, where it left them.
    Reply(B),
    /// The gateway's own.
    Text(Bytes),
}

/// The bytes of an answer on their way to the socket.
pub(crate) struct Piece<B> {
    content: Content<B>,
    /// HTTP/2 only: there a client can hold an answer back without ever blocking the socket.
    held: Option<Held>,
}

/// An answer's body. It ends its request when it is dropped.
pub(crate) struct AnswerBody<B> {
    piece: Option<Piece<B>>,
    _flight: Flight,
}

impl<B: Buf> AnswerBody<B> {
    pub(crate) fn new(content: Option<Content<B>>, flight: Flight) -> Self {
        let piece = content.map(|content| Piece { content, held: None }).filter(Buf::has_remaining);
        let piece = piece.map(|piece| Piece { held: flight.hold(), ..piece });
        Self { piece, _flight: flight }
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

// Nothing in it is ever pinned: the piece is taken out whole.
impl<B> Unpin for AnswerBody<B> {}

impl<B: Buf> Body for AnswerBody<B> {
    type Data = Piece<B>;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece<B>>, Infallible>>> {
        Poll::Ready(self.get_mut().piece.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.piece.as_ref().map_or(0, |piece| piece.remaining() as u64))
    }
}
