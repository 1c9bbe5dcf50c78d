//! Responses.

use baton_abi::head::{Field, record_bytes, write_record};

use crate::call::Payload;
use crate::error::Error;

/// What a function answers: a status, headers, and a payload that is moved or shared.
#[derive(Debug)]
#[must_use]
pub struct Response {
    pub(crate) status: u32,
    pub(crate) head: Vec<u8>,
    pub(crate) payload: Payload<'static>,
    head_overflow: bool,
}

impl Response {
    /// Status 200 with `body`.
    pub fn ok(body: impl Into<Payload<'static>>) -> Response {
        Response { status: 200, head: Vec::new(), payload: body.into(), head_overflow: false }
    }

    /// Status 204 without a body.
    pub fn empty() -> Response {
        Response { status: 204, ..Response::ok(()) }
    }

    /// Sets the status.
    pub fn status(mut self, status: u16) -> Response {
        self.status = u32::from(status);
        self
    }

    /// Adds a header; `name` in lower case. A header that cannot be encoded fails the response.
    pub fn header(mut self, name: &str, value: &str) -> Response {
        let at = self.head.len();
        self.head.resize(at + record_bytes(name, value.as_bytes()), 0);
        if write_record(&mut self.head, at, Field::Header, name, value.as_bytes()).is_err() {
            self.head.truncate(at);
            self.head_overflow = true;
        }
        self
    }

    /// Whether all headers could be encoded.
    #[inline]
    pub(crate) fn check_head(&self) -> Result<(), Error> {
        if self.head_overflow {
            return Err(Error::new(500, "a response header is longer than 65,535 bytes"));
        }
        Ok(())
    }
}
