//! Calls to other functions: payloads by capability, replies as futures.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as PollContext, Poll, Waker};
use std::time::Duration;

use baton_abi::Rights;
use baton_abi::head::Field;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::body::{Body, Shared};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::head::Heading;
use crate::held::{Held, Kind};
#[cfg(not(target_arch = "wasm32"))]
use crate::link::Wait;
use crate::message::Message;
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
    /// Lent, with these rights. Made by `From`; there is no other way to get at what is lent.
    #[doc(hidden)]
    Lend(&'a Held, Rights),
    /// Shared.
    Shared(Shared),
    /// Copied into the pool.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Payload<'a> {
    /// Bytes that sending this as a response copies, if it does.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn copied_bytes(&self) -> Option<usize> {
        match self {
            Payload::Bytes(bytes) => Some(bytes.len()).filter(|&len| len > 0),
            Payload::Body(body) if body.held.kind == Kind::Lent => Some(body.len()),
            _ => None,
        }
    }

    /// The bytes, where they can be read as they are.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bytes_here(&self) -> Option<&[u8]> {
        match self {
            Payload::Empty => None,
            Payload::Buffer(buffer) => Some(buffer),
            Payload::Body(body) => Some(body),
            Payload::Lend(held, _) => Some(held.bytes()),
            Payload::Shared(shared) => shared.bytes().ok(),
            Payload::Bytes(bytes) => Some(bytes),
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
        buffer.describe();
        Payload::Lend(&buffer.held, Rights::FROZEN)
    }
}

impl<'a> From<&'a mut Buffer> for Payload<'a> {
    #[inline]
    fn from(buffer: &'a mut Buffer) -> Self {
        buffer.describe();
        Payload::Lend(&buffer.held, Rights::ALL)
    }
}

impl<'a> From<&'a Body> for Payload<'a> {
    #[inline]
    fn from(body: &'a Body) -> Self {
        match body.held.kind {
            Kind::Inline => Payload::Bytes(Cow::Borrowed(body)),
            _ => Payload::Lend(&body.held, Rights::FROZEN),
        }
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

/// A call to another function. Nothing happens until it is awaited; dropping it on its way takes back what was lent and
/// tells the callee that nobody waits.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<'a> {
    runtime: Runtime,
    pub(crate) function: &'a str,
    /// Taken out when it is sent.
    pub(crate) payload: Payload<'a>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) operation: u32,
    /// One of several at once.
    pub(crate) is_parallel: bool,
    state: State,
    /// Where it waits for a road to its callee.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) wait: Option<Box<Wait>>,
    /// What most calls do without.
    aside: Option<Box<Aside>>,
}

/// What few calls have.
#[derive(Default)]
pub(crate) struct Aside {
    /// What the callee is told beside the payload.
    head: Heading,
    /// What the call came to, if it failed.
    error: Option<Error>,
}

impl Aside {
    pub(crate) fn of(head: Heading) -> Box<Aside> {
        Box::new(Aside { head, error: None })
    }
}

#[derive(Clone, Copy)]
enum State {
    Fresh,
    Sent(u32),
    Done,
}

/// How far a call has come.
pub(crate) enum Step {
    Pending,
    Answered {
        status: u32,
        message: Message,
    },
    /// The error is there.
    Failed,
}

impl<'a> Call<'a> {
    #[inline]
    pub(crate) fn new(runtime: Runtime, function: &'a str, payload: Payload<'a>) -> Call<'a> {
        Call::with_aside(runtime, function, payload, None)
    }

    #[inline(always)]
    pub(crate) fn with_aside(
        runtime: Runtime,
        function: &'a str,
        payload: Payload<'a>,
        aside: Option<Box<Aside>>,
    ) -> Call<'a> {
        Call {
            runtime,
            function,
            payload,
            timeout: None,
            operation: 0,
            is_parallel: false,
            state: State::Fresh,
            #[cfg(not(target_arch = "wasm32"))]
            wait: None,
            aside,
        }
    }

    /// A number for the callee to tell its operations apart by.
    #[inline]
    pub fn operation(mut self, number: u16) -> Call<'a> {
        self.operation = u32::from(number);
        self
    }

    /// At most this long, if that is less than what the request has left.
    pub fn timeout(mut self, timeout: Duration) -> Call<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// A method for the callee, which finds it as [`crate::Request::method`].
    pub fn method(mut self, method: &str) -> Call<'a> {
        self.heading().set(Field::Method, method);
        self
    }

    /// A path for the callee, percent-encoded, which finds it as [`crate::Request::path`]. No route is looked up for it.
    pub fn path(mut self, path: &str) -> Call<'a> {
        self.heading().set(Field::Path, path);
        self
    }

    /// A query for the callee, without its question mark.
    pub fn query(mut self, query: &str) -> Call<'a> {
        self.heading().set(Field::Query, query);
        self
    }

    /// Adds a header for the callee. A call whose head cannot be encoded fails.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Call<'a> {
        self.heading().header(name, value.as_ref());
        self
    }

    /// With a head that is made already.
    pub(crate) fn with_head(mut self, head: Heading) -> Call<'a> {
        *self.heading() = head;
        self
    }

    /// The head of a call that was not sent.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn take_head(&mut self) -> Heading {
        self.aside.take().map_or(Heading::EMPTY, |aside| aside.head)
    }

    fn heading(&mut self) -> &mut Heading {
        &mut self.aside.get_or_insert_default().head
    }

    /// Payload and head, ready to be sent; for most calls the head is empty.
    ///
    /// # Errors
    /// As [`Heading::check`].
    #[inline]
    pub(crate) fn parts(&mut self) -> Result<(&mut Payload<'a>, &[u8]), Error> {
        match &self.aside {
            None => Ok((&mut self.payload, &[])),
            Some(aside) => {
                aside.head.check()?;
                Ok((&mut self.payload, aside.head.bytes()))
            }
        }
    }

    /// Whether the callee is told more than the payload.
    #[inline]
    pub(crate) fn has_head(&self) -> bool {
        self.aside.is_some()
    }

    /// Marks the call as one of several at once.
    pub(crate) fn in_parallel(&mut self) {
        self.is_parallel = true;
    }

    /// Makes the call, or looks for its answer.
    #[inline(never)]
    fn advance(&mut self, waker: &Waker) -> Step {
        match (self.state, self.runtime) {
            (State::Fresh, Runtime::Gates(gates)) => gates.start_call(self, waker),
            #[cfg(not(target_arch = "wasm32"))]
            (State::Fresh, Runtime::Link(link)) => match link.start_call(self, waker) {
                Ok(Some(tag)) => self.sent(tag),
                Ok(None) => Step::Pending,
                Err(error) => self.failed(error),
            },
            (State::Sent(tag), runtime) => {
                let polled = match runtime {
                    #[cfg(not(target_arch = "wasm32"))]
                    Runtime::Link(link) => link.poll_call(tag, waker),
                    Runtime::Gates(gates) => gates.poll_call(tag, waker),
                };
                match polled {
                    Poll::Pending => Step::Pending,
                    Poll::Ready(Ok(Reply { status, message })) => self.answered(status, message),
                    Poll::Ready(Err(error)) => self.failed(error),
                }
            }
            (State::Done, _) => Step::Pending,
        }
    }

    /// The call is on its way.
    pub(crate) fn sent(&mut self, tag: u32) -> Step {
        // What is left of the payload is not needed for the answer.
        self.payload = Payload::Empty;
        self.state = State::Sent(tag);
        Step::Pending
    }

    #[inline]
    pub(crate) fn answered(&mut self, status: u32, message: Message) -> Step {
        self.state = State::Done;
        Step::Answered { status, message }
    }

    #[cold]
    pub(crate) fn failed(&mut self, error: Error) -> Step {
        self.aside.get_or_insert_default().error = Some(error);
        self.state = State::Done;
        Step::Failed
    }
}

impl Future for Call<'_> {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.advance(context.waker()) {
            Step::Pending => Poll::Pending,
            Step::Answered { status, message } => Poll::Ready(Ok(Reply { status, message })),
            Step::Failed => {
                let error = this.aside.take().and_then(|aside| aside.error);
                Poll::Ready(Err(error.unwrap_or(Error::Protocol { what: "a call that does not exist" })))
            }
        }
    }
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.state {
            State::Done => {}
            #[cfg(not(target_arch = "wasm32"))]
            State::Fresh if self.wait.is_none() => {}
            #[cfg(target_arch = "wasm32")]
            State::Fresh => {}
            _ => self.abandon(),
        }
    }
}

impl Call<'_> {
    #[cold]
    fn abandon(&mut self) {
        match (self.state, self.runtime) {
            #[cfg(not(target_arch = "wasm32"))]
            (State::Sent(tag), Runtime::Link(link)) => link.abandon_call(tag),
            (State::Sent(tag), Runtime::Gates(gates)) => gates.abandon_call(tag),
            #[cfg(not(target_arch = "wasm32"))]
            (_, Runtime::Link(link)) => link.stop_waiting(&mut self.wait),
            (_, Runtime::Gates(_)) => {}
        }
    }
}

/// What a called function answered.
#[derive(Debug)]
pub struct Reply {
    pub(crate) status: u32,
    pub(crate) message: Message,
}

impl Reply {
    /// The status: 200 unless the function set another.
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::try_from(self.status).unwrap_or(u16::MAX)
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

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.message.headers()
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
