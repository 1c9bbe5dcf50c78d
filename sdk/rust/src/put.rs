//! Payloads put up for others, as XDT's `put` and `get`: a reference travels in any message, the bytes stay where they are.

use core::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context as PollContext, Poll};
use std::time::Duration;

use baton_abi::reference::{
    FORGET, GET, PUT, READERS_HEADER, REFERENCE_BYTES, REFERENCE_VERSION, REFERENCES, STATUS_NOTHING,
    TTL_HEADER,
};

use crate::body::Body;
use crate::call::{Call, Payload};
use crate::error::Error;
use crate::runtime::Runtime;

/// Names a payload that was put up, on whatever node that was. Functions of the same app can get it, and nobody else.
///
/// It is 96 bytes, to be sent along in any payload or header; as text it has 192 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reference([u8; REFERENCE_BYTES]);

impl Reference {
    /// Bytes of a reference.
    pub const BYTES: usize = REFERENCE_BYTES;

    /// A reference that came in a message. Whether anything is behind it, [`crate::Context::get`] finds out.
    ///
    /// # Errors
    /// [`Error::Layout`] if the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Reference, Error> {
        let wrong = Error::Layout { len: bytes.len(), expected: REFERENCE_BYTES };
        match <[u8; REFERENCE_BYTES]>::try_from(bytes) {
            Ok(bytes) if bytes[0] == REFERENCE_VERSION => Ok(Reference(bytes)),
            _ => Err(wrong),
        }
    }

    /// Its bytes, for a message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; REFERENCE_BYTES] {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It gives access: a log is no place for all of it.
        f.write_str("Reference(…)")
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        let wrong = || Error::Layout { len: text.len(), expected: 2 * REFERENCE_BYTES };
        let digits = text.as_bytes();
        if digits.len() != 2 * REFERENCE_BYTES {
            return Err(wrong());
        }
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; REFERENCE_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (value(pair[0]).ok_or_else(wrong)?, value(pair[1]).ok_or_else(wrong)?);
            *byte = high << 4 | low;
        }
        Reference::from_bytes(&bytes)
    }
}

/// A payload on its way to be put up. Nothing happens until it is awaited.
#[must_use = "nothing is put up until it is awaited"]
pub struct Put<'a> {
    call: Call<'a>,
}

impl<'a> Put<'a> {
    pub(crate) fn new(runtime: Runtime, payload: Payload<'a>) -> Put<'a> {
        Put { call: Call::new(runtime, REFERENCES, payload).operation(PUT) }
    }

    /// How often it may be got, 1 to 65,536; once if not said. With the last time it is gone.
    pub fn readers(self, readers: u32) -> Put<'a> {
        Put { call: self.call.header(READERS_HEADER, readers.to_string()) }
    }

    /// For how long, at most 15 minutes; a minute if not said.
    pub fn ttl(self, ttl: Duration) -> Put<'a> {
        Put { call: self.call.header(TTL_HEADER, ttl.as_millis().to_string()) }
    }
}

impl Future for Put<'_> {
    type Output = Result<Reference, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.call).poll(context);
        polled.map(|answer| Reference::from_bytes(answer.map_err(told)?.body()))
    }
}

pub(crate) async fn get(runtime: Runtime, reference: &Reference) -> Result<Body, Error> {
    let call = Call::new(runtime, REFERENCES, Payload::from(reference.0.as_slice())).operation(GET);
    call.await.map_err(told)?.into_body()
}

pub(crate) async fn forget(runtime: Runtime, reference: &Reference) -> Result<bool, Error> {
    let call = Call::new(runtime, REFERENCES, Payload::from(reference.0.as_slice())).operation(FORGET);
    match call.await.map_err(told) {
        Ok(_) => Ok(true),
        Err(Error::Gone) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is said of functions, said of references.
#[cold]
fn told(error: Error) -> Error {
    match error {
        Error::Function { status: STATUS_NOTHING, .. } => Error::Gone,
        Error::NoEdge { .. } => {
            Error::Denied { what: "references: set `references = true` for this function in baton.toml" }
        }
        other => other,
    }
}

impl fmt::Debug for Put<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_being_text_and_hides_in_logs() {
        let mut bytes = [7; REFERENCE_BYTES];
        bytes[0] = REFERENCE_VERSION;
        let reference = Reference::from_bytes(&bytes).unwrap();
        let text = reference.to_string();
        assert_eq!(text.len(), 192);
        assert_eq!(text.parse(), Ok(reference));
        assert!(!format!("{reference:?}").contains("07"));
        for wrong in [&text[1..], "", &text.replace("07", "zz")] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
        bytes[0] = REFERENCE_VERSION + 1;
        assert!(Reference::from_bytes(&bytes).is_err() && Reference::from_bytes(&bytes[1..]).is_err());
    }
}
