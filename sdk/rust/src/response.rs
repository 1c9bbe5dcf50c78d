//! Responses.

use crate::call::Payload;
use crate::head::Heading;

/// What a function answers: a status, headers, and a payload that is moved or shared.
#[derive(Debug)]
#[must_use]
pub struct Response {
    pub(crate) status: u32,
    pub(crate) head: Heading,
    pub(crate) payload: Payload<'static>,
}

impl Response {
    /// Status 200 with `body`.
    pub fn ok(body: impl Into<Payload<'static>>) -> Response {
        Response { status: 200, head: Heading::EMPTY, payload: body.into() }
    }

    /// Status 204 without a body.
    pub fn empty() -> Response {
        Response { status: 204, ..Response::ok(()) }
    }

    /// Sets the payload.
    pub fn body(mut self, body: impl Into<Payload<'static>>) -> Response {
        self.payload = body.into();
        self
    }

    /// Sets the status.
    pub fn status(mut self, status: u16) -> Response {
        self.status = u32::from(status);
        self
    }

    /// Adds a header. One that cannot be encoded fails the response.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response {
        self.head.header(name, value.as_ref());
        self
    }
}
