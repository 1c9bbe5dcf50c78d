//! The seam between HTTP and whatever answers: the node's flow, or an in-memory backend in tests.
//!
//! The life of a request: [`Backend::begin`] once its head is read and its route is known, [`Upload::write`] for
//! every piece of its body, [`Upload::finish`] for the answer. Dropping the upload, or the future of `finish`,
//! means that the client has left: whatever the request holds is to be given back at once.
//!
//! Where the target can do with streams, [`Upload::feed`] takes the client's side in parts while the answer is waited for, and
//! [`Reply::take_parts`] gives the answer as it comes.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{Context, Poll};

use baton_catalog::RouteTable;
use baton_flow::{ClientFacts, InvokeError};
pub use baton_flow::{Over, PartKind};
use bytes::Buf;

use crate::headers::Forwarded;

/// What answers requests. A clone is made for every connection, so it is cheap: an `Rc` inside.
pub trait Backend: Clone + 'static {
    /// What a route leads to.
    type Target: 'static;
    /// A request on its way in.
    type Upload: Upload;

    /// The routes as they are now. A deployment puts another table in its place; requests under way keep theirs.
    fn routes(&self) -> Rc<RouteTable<Self::Target>>;

    /// The largest body that the target takes, in bytes.
    fn body_limit(&self, target: &Self::Target) -> u64;

    /// Whether requests of the target may be streams.
    fn streams(&self, _: &Self::Target) -> bool {
        false
    }

    /// Takes a request whose head is read. `body_len` is the length that the client declared; a body without one
    /// comes in pieces until it ends.
    ///
    /// # Errors
    /// Says why the target does not take it.
    fn begin(
        &self,
        target: &Self::Target,
        head: &RequestHead<'_>,
        body_len: Option<u64>,
    ) -> Result<Self::Upload, InvokeError>;
}

/// A request on its way in.
pub trait Upload: 'static {
    /// The answer.
    type Reply: Reply;
    /// The client's side, in parts.
    type Feed: Feed;

    /// The way for the body, or for the messages of a WebSocket, where they do not go by [`write`](Upload::write).
    fn feed(&mut self) -> Option<Self::Feed> {
        None
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// Says why there is no room for it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError>;

    /// The body is complete: waits for the answer.
    fn finish(self) -> impl Future<Output = Result<Self::Reply, InvokeError>>;
}

/// The client's side of a request, on its way in. Dropping it before its end says that the client has left.
pub trait Feed: 'static {
    /// Whether the next part may come; [`Over`] if nobody takes any more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>>;

    /// Takes the next part. There must be room.
    ///
    /// # Errors
    /// Says why it cannot be kept.
    fn put(&mut self, kind: PartKind, bytes: &[u8]) -> Result<(), InvokeError>;

    /// The client has said all. On a WebSocket, `close` is the payload of its close frame.
    fn end(self, close: &[u8]);
}

/// Nothing is fed.
impl Feed for Infallible {
    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Over>> {
        match *self {}
    }

    fn put(&mut self, _: PartKind, _: &[u8]) -> Result<(), InvokeError> {
        match *self {}
    }

    fn end(self, _: &[u8]) {
        match self {}
    }
}

/// An answer in parts. Dropping it says that nobody reads on.
pub trait Parts: 'static {
    /// The bytes of one.
    type Body: Buf + 'static;

    /// The next one; `None` at the end. After an error the answer is broken off.
    #[expect(clippy::type_complexity, reason = "a stream's item")]
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(PartKind, Self::Body), InvokeError>>>;
}

/// The parts of answers that come whole.
#[derive(Debug)]
pub struct NoParts<B> {
    never: Infallible,
    of: PhantomData<B>,
}

impl<B: Buf + 'static> Parts for NoParts<B> {
    type Body = B;

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<(PartKind, B), InvokeError>>> {
        match self.never {}
    }
}

/// An answer.
pub trait Reply {
    /// The parts in which it may come.
    type Parts: Parts<Body = Self::Body>;

    /// The body where it lies; dropping it gives its memory back. Its remaining length is the answer's.
    type Body: Buf + 'static;

    /// The HTTP status.
    fn status(&self) -> u16;

    /// The headers, which the gateway does not trust: it vets each one.
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The parts in which its body comes, if it does; there is no other body then.
    fn take_parts(&mut self) -> Option<Self::Parts> {
        None
    }

    /// The id under which the invocation's receipt is found; 0 if there is none.
    fn invocation(&self) -> u64 {
        0
    }

    /// The body.
    fn into_body(self) -> Self::Body;
}

/// The head of a request, in the gateway's hands for as long as `begin` runs.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, percent-encoded as it came.
    pub path: &'a str,
    /// The query without its question mark.
    pub query: Option<&'a str>,
    /// What the route's parameters stand for, undecoded.
    pub params: &'a [(&'a str, &'a str)],
    /// The client's `traceparent` if it was well-formed, else a fresh one. It is among the headers too.
    pub traceparent: &'a str,
    /// Whether it is the client's.
    pub is_traced: bool,
    /// Who sent it, as the gateway knows it by the connection.
    pub client: &'a ClientFacts,
    /// The client asks for a WebSocket.
    pub socket: bool,
    pub(crate) forwarded: Forwarded<'a>,
}

impl<'a> RequestHead<'a> {
    /// The headers that are the function's to see, names in lower case: all but those that belong to the
    /// connection.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.forwarded.iter().chain(std::iter::once(("traceparent", self.traceparent.as_bytes())))
    }
}
