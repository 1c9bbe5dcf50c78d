//! Requests, read where they lie.

use std::rc::Rc;

use baton_abi::head::Field;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::body::Body;
use crate::error::Error;
use crate::message::Message;

/// What a function is asked. Method, path and headers are there when the request came through the gateway, or when its
/// caller set them.
#[derive(Debug)]
pub struct Request {
    operation: u32,
    message: Message,
}

impl Request {
    pub(crate) fn new(operation: u32, message: Message) -> Request {
        Request { operation, message }
    }

    /// The W3C trace context, if the request has one.
    #[inline]
    pub(crate) fn traceparent(&self) -> Option<Rc<str>> {
        if self.message.has_head() { self.find_traceparent() } else { None }
    }

    fn find_traceparent(&self) -> Option<Rc<str>> {
        self.header("traceparent").map(Rc::from)
    }

    /// The operation that the caller chose; 0 for requests from the gateway.
    #[must_use]
    pub fn operation(&self) -> u16 {
        u16::try_from(self.operation).unwrap_or(u16::MAX)
    }

    /// The HTTP method; empty on calls that have none.
    #[must_use]
    pub fn method(&self) -> &str {
        self.message.text(Field::Method, "").unwrap_or_default()
    }

    /// The path as the client sent it, percent-encoded; empty on calls that have none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.message.text(Field::Path, "").unwrap_or_default()
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.message.text(Field::Query, "")
    }

    /// The path parameter `name` of the route, percent-encoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.message.text(Field::Param, name)
    }

    /// The values of its route's parameters, by name.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message.params()
    }

    /// The first header `name` (lower case), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.text(Field::Header, name)
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.message.headers()
    }

    /// Who the client is, by a certificate that the node's gateway verified: a URI, `dns:NAME` or `cn:NAME`. No header can be taken
    /// for it.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.message.text(Field::Identity, "")
    }

    /// Whether the client asks for a WebSocket, and can have one.
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        self.offers(baton_abi::stream::OFFER_SOCKET)
    }

    /// Whether whoever asks can do with that much of a stream.
    pub(crate) fn offers(&self, bit: u8) -> bool {
        let bits = self.message.find(Field::Stream, "").and_then(<[u8]>::first).copied();
        bits.is_some_and(|bits| bits & bit == bit)
    }

    /// The payload, in place; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.message.body()
    }

    /// The payload as a value of `T`, in place.
    ///
    /// # Errors
    /// [`Error::Layout`] unless size and alignment fit.
    pub fn value<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T, Error> {
        crate::body::value(self.body())
    }

    /// The payload as a slice of `T`, in place.
    ///
    /// # Errors
    /// [`Error::Layout`] unless size and alignment fit.
    pub fn values<T: FromBytes + Immutable>(&self) -> Result<&[T], Error> {
        crate::body::values(self.body())
    }

    /// The payload itself, to be kept or handed on. Head and headers end here.
    ///
    /// # Errors
    /// [`Error::Layout`] if the request carries none.
    pub fn into_body(self) -> Result<Body, Error> {
        self.message.into_body()
    }
}
