//! The body of an answer: one piece, handed to the socket from where it lies.

use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::conn::Flight;

/// The bytes of an answer.
pub(crate) enum Piece<B> {
    /// A function's, where it left them.
    Reply(B),
    /// The gateway's own.
    Text(Bytes),
}

/// An answer's body. It ends its request when it is dropped.
pub(crate) struct AnswerBody<B> {
    piece: Option<Piece<B>>,
    _flight: Flight,
}

impl<B: Buf> AnswerBody<B> {
    pub(crate) fn new(piece: Option<Piece<B>>, flight: Flight) -> Self {
        Self { piece: piece.filter(|piece| piece.has_remaining()), _flight: flight }
    }
}

impl<B: Buf> Buf for Piece<B> {
    fn remaining(&self) -> usize {
        match self {
            Self::Reply(body) => body.remaining(),
            Self::Text(body) => body.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Reply(body) => body.chunk(),
            Self::Text(body) => body.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Reply(body) => body.chunks_vectored(to),
            Self::Text(body) => body.chunks_vectored(to),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Reply(body) => body.advance(count),
            Self::Text(body) => body.advance(count),
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
