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
use crate::edge::Parked;
use crate::error::Error;
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
    /// In the descriptor itself.
    #[doc(hidden)]
    Inline([u8; 8], u64),
}

impl<'a> Payload<'a> {
    /// Bytes that sending this as a response copies, if it does.
    pub(crate) fn copied_bytes(&self) -> Option<usize> {
        match self {
            Payload::Bytes(bytes) => Some(bytes.len()).filter(|&len| len > 0),
            Payload::Body(body) if body.capability().kind == Kind::Lent => Some(body.len()),
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

fn lend<'a>(buffer: &Buffer, rights: Rights) -> Payload<'a> {
    buffer.describe();
    Payload::Lend(buffer.capability().handle, buffer.range(), rights)
}

impl<'a> From<&'a Buffer> for Payload<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        lend(buffer, Rights::FROZEN)
    }
}

impl<'a> From<&'a mut Buffer> for Payload<'a> {
    fn from(buffer: &'a mut Buffer) -> Self {
        lend(buffer, Rights::ALL)
    }
}

impl<'a> From<&'a Body> for Payload<'a> {
    fn from(body: &'a Body) -> Self {
        Payload::Lend(body.capability().handle, body.range(), Rights::FROZEN)
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
    runtime: &'static Runtime,
    function: &'a str,
    payload: Payload<'a>,
    operation: u16,
    timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(runtime: &'static Runtime, function: &'a str, payload: Payload<'a>) -> Call<'a> {
        Call { runtime, function, payload, operation: 0, timeout: None }
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
        CallFuture { call: self, state: State::Fresh, parked: None, since_ns: None }
    }
}

#[derive(Clone, Copy)]
enum State {
    Fresh,
    Sent(u32),
    Done,
}

/// A call on its way. Dropping it takes back what was lent and tells the callee that nobody waits.
pub struct CallFuture<'a> {
    /// Its payload is taken out when it is sent.
    call: Call<'a>,
    state: State,
    parked: Option<Parked>,
    /// When it first had to wait for a road.
    since_ns: Option<u64>,
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if matches!(this.state, State::Fresh) {
            match this.start(context.waker()) {
                Ok(Some(tag)) => this.state = State::Sent(tag),
                Ok(None) => {}
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Err(error));
                }
            }
            return Poll::Pending;
        }
        let State::Sent(tag) = this.state else { return Poll::Pending };
        let polled = this.call.runtime.poll_call(tag, context.waker());
        if polled.is_ready() {
            this.state = State::Done;
        }
        polled
    }
}

impl CallFuture<'_> {
    /// Sends the call, if it need not wait; gives its tag.
    #[inline]
    fn start(&mut self, waker: &Waker) -> Result<Option<u32>, Error> {
        let Call { runtime, function, timeout, operation, .. } = self.call;
        // Without credit the payload stays here, untouched, until an answer frees some.
        let Some(road) = runtime.choose_road(function, waker, &mut self.parked)? else {
            // Its time runs while it waits for a road, too.
            let since_ns = *self.since_ns.get_or_insert_with(crate::wire::now_ns);
            if timeout.is_some_and(|timeout| crate::wire::is_over(since_ns, timeout)) {
                self.unpark();
                return Err(Error::DeadlineExceeded { function: function.to_owned() });
            }
            return Ok(None);
        };
        self.parked = None;
        let tag = runtime.start_call(road, &mut self.call.payload, operation, timeout, waker)?;
        // What is left of it is not needed for the answer.
        self.call.payload = Payload::Empty;
        Ok(Some(tag))
    }

    fn unpark(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.call.runtime.unpark(parked);
        }
    }
}

impl Drop for CallFuture<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.state {
            State::Sent(tag) => self.call.runtime.abandon_call(tag),
            State::Fresh => self.unpark(),
            State::Done => {}
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
