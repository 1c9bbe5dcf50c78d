//! Requests to the network, which the node sends for the function.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as PollContext, Poll};
use std::time::Duration;

use crate::call::{Call, Payload, Reply};
use crate::error::Error;
use crate::runtime::Runtime;

/// The callee that is the node: `baton_abi::boot::NETWORK`.
const NETWORK: &str = baton_abi::boot::NETWORK;

/// A request to the network. Nothing happens until it is awaited; dropping it on its way ends it.
///
/// Its answer is a [`Reply`] whatever its status; an [`Error::Network`] says that there is none.
#[must_use = "a request does nothing until it is awaited"]
pub struct Fetch<'a> {
    call: Call<'a>,
    has_method: bool,
}

impl<'a> Fetch<'a> {
    pub(crate) fn new(runtime: Runtime, url: &str) -> Fetch<'a> {
        Fetch { call: Call::new(runtime, NETWORK, Payload::Empty).path(url), has_method: false }
    }

    /// The method; without it `GET`, or `POST` if there is a body.
    pub fn method(self, method: &str) -> Fetch<'a> {
        Fetch { call: self.call.method(method), has_method: true }
    }

    /// Adds a header. Those of the connection, `Host` and `Content-Length` are the node's to say.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Fetch<'a> {
        Fetch { call: self.call.header(name, value), ..self }
    }

    /// The body. What moves is sent from where it lies; what is lent or shared is copied on its way.
    pub fn body(self, payload: impl Into<Payload<'a>>) -> Fetch<'a> {
        let Fetch { mut call, has_method } = self;
        call.payload = payload.into();
        if !has_method {
            call = call.method("POST");
        }
        Fetch { call, has_method }
    }

    /// At most this long, if that is less than what the request has left.
    pub fn timeout(self, timeout: Duration) -> Fetch<'a> {
        Fetch { call: self.call.timeout(timeout), ..self }
    }
}

impl Future for Fetch<'_> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.call).poll(context).map_err(told)
    }
}

/// What is said of functions, said of the network.
#[cold]
fn told(error: Error) -> Error {
    let network = |status, message: &str| Error::Network { status, message: message.to_owned() };
    match error {
        Error::Function { status, message, .. } if message.is_empty() => {
            network(status, "the node did not send it, and has no room to say why")
        }
        Error::Function { status, message, .. } => Error::Network { status, message },
        Error::NoEdge { .. } => {
            network(403, "this function's `network` names no host; add the host to `network` in baton.toml")
        }
        Error::DeadlineExceeded { .. } => network(504, "the host did not answer in time"),
        Error::Unavailable { .. } => network(503, "the node sends nothing out now"),
        Error::Overloaded { .. } => network(429, "too many requests of this function are out"),
        other => other,
    }
}

impl core::fmt::Debug for Fetch<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}
