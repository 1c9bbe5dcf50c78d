//! The seam between HTTP and whatever answers: the node's flow, or an in-memory backend in tests.
//!
//! The life of a request: [`Backend::begin`] once its head is read and its route is known, [`Upload::write`] for
//! every piece of its body, [`Upload::finish`] for the answer. Dropping the upload, or the future of `finish`,
//! means that the client has left: whatever the request holds is to be given back at once.

use std::future::Future;
use std::rc::Rc;

use baton_catalog::RouteTable;
use baton_flow::InvokeError;
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

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// Says why there is no room for it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError>;

    /// The body is complete: waits for the answer.
    fn finish(self) -> impl Future<Output = Result<Self::Reply, InvokeError>>;
}

/// An answer.
pub trait Reply {
    /// The body where it lies; dropping it gives its memory back. Its remaining length is the answer's.
    type Body: Buf + 'static;

    /// The HTTP status.
    fn status(&self) -> u16;

    /// The headers, which the gateway does not trust: it vets each one.
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])>;

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
    pub(crate) forwarded: Forwarded<'a>,
}

impl<'a> RequestHead<'a> {
    /// The headers that are the function's to see, names in lower case: all but those that belong to the
    /// connection.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.forwarded.iter().chain(std::iter::once(("traceparent", self.traceparent.as_bytes())))
    }
}
