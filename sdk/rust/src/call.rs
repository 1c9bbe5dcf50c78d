//! Calls to other functions: payloads by capability, replies as futures.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context as PollContext, Poll, Waker};
use std::time::Duration;

use baton_abi::Rights;
use baton_abi::head::Field;
use baton_pool::capability::{Handle, Range};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::body::{Body, Shared};
use crate::buffer::Buffer;
use crate::capability::Kind;
use crate::error::Error;
use crate::link::Wait;
use crate::message::Accepted;
use crate::runtime::Runtime;

/// What a call or a response carries.
///
/// A [`Buffer`] or [`Body`] moves; a reference to a `Buffer` is lent for the duration of the call (read-only by `&`,
/// writable by `&mut`); a [`Shared`] is read by any number of functions at the same time. Byte slices and strings are
/// copied into the pool first.
#[derive(Debug)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// Moved.
    Buffer(Buffer),
    /// Moved on.
    Body(Body),
    /// Lent: handle, range, rights. Made by `From`; there is no other way to get a handle.
    #[doc(hidden)]
    Lend(Handle, Range, Rights),
    /// Shared.
    Shared(Shared),
    /// Copied into the pool.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Payload<'a> {
    /// Bytes that sending this as a response copies, if it does.
    pub(crate) fn copied_bytes(&self) -> Option<usize> {
        match self {
            Payload::Bytes(bytes) => Some(bytes.len()).filter(|&len| len > 0),
            Payload::Body(body) if body.kind() == Kind::Lent => Some(body.len()),
            _ => None,
        }
    }
}

impl From<()> for Payload<'_> {
    fn from((): ()) -> Self {
        Payload::Empty
    }
}

impl From<Buffer> for Payload<'_> {
    fn from(buffer: Buffer) -> Self {
        Payload::Buffer(buffer)
    }
}

impl From<Body> for Payload<'_> {
    fn from(body: Body) -> Self {
        Payload::Body(body)
    }
}

impl From<Shared> for Payload<'_> {
    fn from(shared: Shared) -> Self {
        Payload::Shared(shared)
    }
}

impl From<&Shared> for Payload<'_> {
    fn from(shared: &Shared) -> Self {
        Payload::Shared(shared.clone())
    }
}

impl<'a> From<&'a Buffer> for Payload<'a> {
    #[inline]
    fn from(buffer: &'a Buffer) -> Self {
        buffer.lend(Rights::FROZEN)
    }
}

impl<'a> From<&'a mut Buffer> for Payload<'a> {
    #[inline]
    fn from(buffer: &'a mut Buffer) -> Self {
        buffer.lend(Rights::ALL)
    }
}

impl<'a> From<&'a Body> for Payload<'a> {
    #[inline]
    fn from(body: &'a Body) -> Self {
        Payload::Lend(body.handle(), body.range(), Rights::FROZEN)
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Payload::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Payload::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Bytes(Cow::Owned(bytes))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Payload::Bytes(Cow::Owned(text.into_bytes()))
    }
}

/// A call that was not made yet. `.await` makes it.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<'a> {
    runtime: Runtime,
    pub(crate) function: &'a str,
    /// Taken out when it is sent.
    pub(crate) payload: Payload<'a>,
    pub(crate) operation: u16,
    pub(crate) timeout: Option<Duration>,
    /// One of several at once.
    pub(crate) is_parallel: bool,
}

impl<'a> Call<'a> {
    #[inline]
    pub(crate) fn new(runtime: Runtime, function: &'a str, payload: Payload<'a>) -> Call<'a> {
        Call { runtime, function, payload, operation: 0, timeout: None, is_parallel: false }
    }

    /// A number for the callee to tell its operations apart by.
    pub fn operation(mut self, number: u16) -> Call<'a> {
        self.operation = number;
        self
    }

    /// At most this long, if that is less than what the request has left.
    pub fn timeout(mut self, timeout: Duration) -> Call<'a> {
        self.timeout = Some(timeout);
        self
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Result<Reply, Error>;
    type IntoFuture = CallFuture<'a>;

    #[inline]
    fn into_future(self) -> CallFuture<'a> {
        CallFuture { call: self, state: State::Fresh, wait: Wait::default() }
    }
}

#[derive(Clone, Copy)]
enum State {
    Fresh,
    Sent(u32),
    Done,
}

/// What became of a call that was to be made.
pub(crate) enum Started {
    /// Not made yet: there is no way to the callee now.
    Waits,
    /// Its tag.
    Sent(u32),
    Answered(Reply),
}

/// A call on its way. Dropping it takes back what was lent and tells the callee that nobody waits.
pub struct CallFuture<'a> {
    call: Call<'a>,
    state: State,
    wait: Wait,
}

impl CallFuture<'_> {
    /// Marks the call as one of several at once.
    pub(crate) fn in_parallel(&mut self) {
        self.call.is_parallel = true;
    }

    #[inline]
    fn start(&mut self, waker: &Waker) -> Result<Started, Error> {
        match self.call.runtime {
            Runtime::Link(link) => link.start_call(&mut self.call, &mut self.wait, waker),
            Runtime::Gates(gates) => gates.start_call(&mut self.call, waker),
        }
    }
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = match this.state {
            State::Fresh => match this.start(context.waker()) {
                Ok(Started::Answered(reply)) => Poll::Ready(Ok(reply)),
                Ok(Started::Sent(tag)) => {
                    this.state = State::Sent(tag);
                    Poll::Pending
                }
                Ok(Started::Waits) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            State::Sent(tag) => match this.call.runtime {
                Runtime::Link(link) => link.poll_call(tag, context.waker()),
                Runtime::Gates(gates) => gates.poll_call(tag, context.waker()),
            },
            State::Done => Poll::Pending,
        };
        if polled.is_ready() {
            this.state = State::Done;
        }
        polled
    }
}

impl Drop for CallFuture<'_> {
    #[inline]
    fn drop(&mut self) {
        match (self.state, self.call.runtime) {
            (State::Done, _) | (State::Fresh, Runtime::Gates(_)) => {}
            (State::Fresh, Runtime::Link(link)) => link.stop_waiting(&mut self.wait),
            (State::Sent(tag), Runtime::Link(link)) => link.abandon_call(tag),
            (State::Sent(tag), Runtime::Gates(gates)) => gates.abandon_call(tag),
        }
    }
}

/// What a called function answered.
#[derive(Debug)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) message: Accepted,
}

impl Reply {
    /// The status: 200 unless the function set another.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The payload, in place; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.message.body()
    }

    /// The first header `name` (lower case), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.text(Field::Header, name)
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

    /// The payload itself, to be kept or handed on.
    ///
    /// # Errors
    /// [`Error::Layout`] if the reply carries none.
    pub fn into_body(self) -> Result<Body, Error> {
        self.message.into_body()
    }
}
