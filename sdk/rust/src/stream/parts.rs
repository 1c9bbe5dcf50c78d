//! The client's side of a stream.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use baton_abi::stream::{NEXT, OFFER_BODY, STATUS_END, STATUS_OVER, STREAMS};

use super::told;
use crate::body::Body;
use crate::call::{Call, Payload, Reply};
use crate::error::Error;
use crate::request::Request;
use crate::runtime::Runtime;

/// The body of a request, in parts.
#[derive(Debug)]
pub struct Parts(From);

#[derive(Debug)]
enum From {
    Client(Next),
    Whole(Option<Body>),
}

impl Parts {
    pub(super) fn new(runtime: Runtime, request: Request) -> Parts {
        if request.offers(OFFER_BODY) {
            return Parts(From::Client(Next::new(runtime)));
        }
        Parts(From::Whole(request.into_body().ok().filter(|body| !body.is_empty())))
    }

    pub(super) fn beside(runtime: Runtime, request: &Request) -> Option<Parts> {
        request.offers(OFFER_BODY).then(|| Parts(From::Client(Next::new(runtime))))
    }

    /// All that is left, in one.
    ///
    /// # Errors
    /// [`Error::Handler`] with status 413 where it is more than `max` bytes; as [`Parts::next`].
    pub async fn gather(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            if all.len().saturating_add(part.len()) > max {
                return Err(Error::new(413, format!("the body is larger than {max} bytes")));
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    /// The next part; `None` at the body's end. What is waited for is kept: dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::ClientGone`] where the client left in the middle of its body.
    pub async fn next(&mut self) -> Result<Option<Body>, Error> {
        match &mut self.0 {
            From::Whole(body) => Ok(body.take()),
            From::Client(next) => loop {
                let Some(reply) = next.get().await? else { return Ok(None) };
                // What carries nothing is passed over.
                if let Ok(body) = reply.into_body() {
                    return Ok(Some(body));
                }
            },
        }
    }
}

/// Asks for what comes next, once at a time.
pub(super) struct Next {
    runtime: Runtime,
    /// Stays when whoever waits for it is dropped: the node has let go of what it brings.
    call: Option<Call<'static>>,
    last: Option<Reply>,
    has_ended: bool,
}

impl Next {
    pub(super) fn new(runtime: Runtime) -> Next {
        Next { runtime, call: None, last: None, has_ended: false }
    }

    /// What comes next; `None` at the end, whose own words are in [`Next::last_words`].
    pub(super) async fn get(&mut self) -> Result<Option<Reply>, Error> {
        if self.has_ended {
            return Ok(None);
        }
        let runtime = self.runtime;
        let call =
            self.call.get_or_insert_with(|| Call::new(runtime, STREAMS, Payload::Empty).operation(NEXT));
        let outcome = poll_fn(|cx| Pin::new(&mut *call).poll(cx)).await;
        self.call = None;
        match outcome {
            Ok(reply) if reply.status() == STATUS_END => {
                self.has_ended = true;
                self.last = Some(reply);
                Ok(None)
            }
            Ok(reply) => Ok(Some(reply)),
            Err(error) => {
                self.has_ended = matches!(error, Error::Function { status: STATUS_OVER, .. });
                Err(told(error))
            }
        }
    }

    pub(super) fn last_words(&self) -> &[u8] {
        self.last.as_ref().map_or(&[], Reply::body)
    }
}

impl core::fmt::Debug for Next {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Next").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}
