//! The body of a request on its way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use baton_flow::{Moved, OutgoingBody, Pieces, Revoked};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// The bytes of a request, taken from it as the socket has room.
pub(super) enum OutBody {
    /// In one piece.
    Whole(Option<Piece>),
    /// In several; so many bytes are left.
    Pieces(Pieces, u64),
}

/// Some bytes of a request.
pub(super) enum Piece {
    /// In memory of their own.
    Copied(Bytes),
    /// In the pool.
    Moved(Moved),
}

impl From<OutgoingBody> for OutBody {
    fn from(body: OutgoingBody) -> Self {
        match body {
            OutgoingBody::Empty => OutBody::Whole(None),
            OutgoingBody::Copied(bytes) => OutBody::Whole(Some(Piece::Copied(bytes))),
            OutgoingBody::Moved(moved) => OutBody::Whole(Some(Piece::Moved(moved))),
            OutgoingBody::Pieces(pieces) => {
                let len = pieces.len;
                OutBody::Pieces(pieces, len)
            }
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Piece::Copied(bytes) => bytes.remaining(),
            Piece::Moved(moved) => moved.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Piece::Copied(bytes) => bytes.chunk(),
            Piece::Moved(moved) => moved.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Copied(bytes) => bytes.advance(count),
            Piece::Moved(moved) => moved.advance(count),
        }
    }
}

impl Body for OutBody {
    type Data = Piece;
    type Error = Revoked;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Revoked>>> {
        match &mut *self {
            OutBody::Whole(piece) => Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece)))),
            OutBody::Pieces(_, 0) => Poll::Ready(None),
            OutBody::Pieces(Pieces { pieces, .. }, left) => {
                // Whoever feeds it ends early only with the data plane.
                let piece = ready!(pieces.poll_recv(context)).unwrap_or(Err(Revoked));
                Poll::Ready(Some(piece.map(|bytes| {
                    *left = left.saturating_sub(bytes.len() as u64);
                    Frame::data(Piece::Copied(bytes))
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, OutBody::Whole(None) | OutBody::Pieces(_, 0))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            OutBody::Whole(piece) => piece.as_ref().map_or(0, |piece| piece.remaining() as u64),
            OutBody::Pieces(_, left) => *left,
        })
    }
}
