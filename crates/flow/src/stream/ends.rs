//! The gateway's two ends of a stream.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use baton_abi::stream::PARTS_AHEAD;
use bytes::Buf;

use super::{Arrived, Closing, End, PartKind, Stream};
use crate::error::InvokeError;
use crate::invoke::{Account, Body, Closed, Waiting};
use crate::landing::Landing;

/// One part of an answer, or a message to a client.
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Its bytes, where they lie.
    pub body: Body,
}

/// An answer that comes in parts. Dropping it tells the function that nobody reads on.
pub struct Parts {
    closing: Closing,
    waiting: Waiting,
    /// Whom to tell of the end, and what was begun with.
    account: Option<(Account, u16)>,
    /// Bytes of the parts that were taken.
    bytes_out: u64,
    /// What the end was, once it was seen behind parts that were not taken yet.
    end: Option<Result<(), InvokeError>>,
    is_done: bool,
}

/// The client's side of a stream, on its way in. Dropping it before its end says that the client has left.
pub struct Feed {
    stream: Rc<Stream>,
    has_ended: bool,
}

/// Nobody takes any more: the request is answered, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl Parts {
    pub(super) fn new(closing: Closing, waiting: Waiting, account: Option<(Account, u16)>) -> Box<Parts> {
        Box::new(Parts { closing, waiting, account, bytes_out: 0, end: None, is_done: false })
    }

    /// The next part; `None` at the end. An error breaks the stream off.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, InvokeError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let stream = &self.closing.0;
        *stream.reader.borrow_mut() = Some(cx.waker().clone());
        // Before the parts: what was sent before the end is there by the time that the end is.
        if self.end.is_none()
            && let Poll::Ready(outcome) = Pin::new(&mut self.waiting).poll(cx)
        {
            self.end = Some(outcome.and_then(|raw| {
                stream.app.give_up(&raw);
                if raw.is_error {
                    Err(InvokeError::BadReply { what: "it failed in the middle" })
                } else {
                    Ok(())
                }
            }));
        }
        let next = stream.outward.borrow_mut().pop_front();
        if let Some(part) = next {
            stream.room.notify_one();
            stream.move_deadline();
            self.bytes_out = self.bytes_out.saturating_add(part.body.remaining() as u64);
            return Poll::Ready(Some(Ok(part)));
        }
        let Some(end) = self.end.take() else { return Poll::Pending };
        self.is_done = true;
        if let Some((account, status)) = self.account.take() {
            let closed = Closed {
                is_error: end.is_err(),
                is_failure: end.as_ref().err().is_some_and(InvokeError::is_failure),
                bytes_out: self.bytes_out,
            };
            account.close(if end.is_ok() { status } else { 500 }, &closed);
        }
        Poll::Ready(end.err().map(Err))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // A client that leaves is no failure of the function's.
        if let Some((account, status)) = self.account.take() {
            let closed = Closed { is_error: false, is_failure: false, bytes_out: self.bytes_out };
            account.close(status, &closed);
        }
    }
}

impl Feed {
    pub(crate) fn new(stream: &Rc<Stream>) -> Feed {
        Feed { stream: Rc::clone(stream), has_ended: false }
    }

    /// Whether another part may come.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let stream = &self.stream;
        if stream.is_over.get() {
            return Poll::Ready(Err(Over));
        }
        // Also with room: whoever goes on to wait for the client hears of the end.
        *stream.writer.borrow_mut() = Some(cx.waker().clone());
        if stream.inward.borrow().len() < PARTS_AHEAD { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Has `bytes` wait for the function.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`], [`InvokeError::TooLarge`].
    pub fn put(&mut self, kind: PartKind, bytes: &[u8]) -> Result<(), InvokeError> {
        let stream = &self.stream;
        if stream.is_over.get() {
            return Ok(());
        }
        let landing = match bytes {
            [] => None,
            bytes => Some(Landing::of(&stream.app, bytes)?),
        };
        stream.inward.borrow_mut().push_back(Arrived { kind, landing });
        stream.move_deadline();
        stream.arrived.notify_one();
        Ok(())
    }

    /// The client has said all; a WebSocket's last words are `close`.
    pub fn end(mut self, close: &[u8]) {
        self.finish(End::Complete(close.to_vec()));
    }

    fn finish(&mut self, end: End) {
        self.has_ended = true;
        let stream = &self.stream;
        stream.end.borrow_mut().get_or_insert(end);
        if !stream.is_over.get() {
            stream.move_deadline();
            stream.arrived.notify_one();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish(End::Broken);
        }
    }
}
