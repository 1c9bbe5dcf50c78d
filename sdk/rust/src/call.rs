//! Calls to other functions: payloads by capability, replies as futures.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as PollContext, Poll};
use std::time::Duration;

use baton_abi::Rights;
use baton_abi::boot::PoolAccess;
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

    /// Brings the payload into a form that can be sent: copies what must be copied.
    pub(crate) fn settle(self, runtime: &Rc<Runtime>, can_lend: bool) -> Result<Payload<'a>, Error> {
        let copy = |bytes: &[u8]| -> Result<Payload<'a>, Error> {
            runtime.executor.count(|hop| hop.add_copy(bytes.len()));
            let mut buffer = runtime.alloc(bytes.len())?;
            buffer.extend_from_slice(bytes)?;
            Ok(Payload::Body(buffer.into_body()))
        };
        match self {
            Payload::Buffer(buffer) => Ok(Payload::Body(buffer.into_body())),
            Payload::Bytes(bytes) if bytes.is_empty() => Ok(Payload::Empty),
            Payload::Bytes(bytes) if runtime.memory.access != PoolAccess::Write => {
                let mut inline = [0u8; 8];
                let space = inline.get_mut(..bytes.len()).ok_or(Error::Denied {
                    what: "more than 8 bytes from a function whose manifest does not say `pool = \"write\"`",
                })?;
                space.copy_from_slice(&bytes);
                Ok(Payload::Inline(inline, bytes.len() as u64))
            }
            Payload::Bytes(bytes) => copy(&bytes),
            Payload::Body(body) => match body.capability().kind {
                Kind::Owned => Ok(Payload::Body(body)),
                Kind::Shared => Ok(Payload::Shared(Shared::freeze(body))),
                // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
                Kind::Lent => copy(&body),
            },
            Payload::Lend(..) if !can_lend => {
                Err(Error::Denied { what: "a response cannot lend what its handler owns: move or share it" })
            }
            other => Ok(other),
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
    match buffer.capability() {
        Some(capability) => Payload::Lend(capability.handle, buffer.range(), rights),
        None => Payload::Empty,
    }
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
    runtime: Rc<Runtime>,
    function: &'a str,
    payload: Payload<'a>,
    operation: u16,
    timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(runtime: Rc<Runtime>, function: &'a str, payload: Payload<'a>) -> Call<'a> {
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

    fn into_future(self) -> CallFuture<'a> {
        CallFuture {
            runtime: Rc::clone(&self.runtime),
            state: State::Fresh(Some(self)),
            parked: None,
            since_ns: None,
        }
    }
}

enum State<'a> {
    Fresh(Option<Call<'a>>),
    Sent(u32),
    Done,
}

/// A call on its way. Dropping it takes back what was lent and tells the callee that nobody waits.
pub struct CallFuture<'a> {
    runtime: Rc<Runtime>,
    state: State<'a>,
    parked: Option<Parked>,
    /// When it was first polled.
    since_ns: Option<u64>,
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let State::Fresh(call) = &mut this.state {
            let function = call.as_ref().map(|call| call.function).unwrap_or_default();
            let timeout = call.as_ref().and_then(|call| call.timeout);
            let since_ns = *this.since_ns.get_or_insert_with(crate::wire::now_ns);
            // Without credit the payload stays here, untouched, until an answer frees some.
            let road = match this.runtime.choose_road(function, context.waker(), &mut this.parked) {
                Ok(Some(road)) => road,
                // Its time runs while it waits for a road, too.
                Ok(None) if timeout.is_some_and(|timeout| crate::wire::is_over(since_ns, timeout)) => {
                    let function = function.to_owned();
                    this.unpark();
                    this.state = State::Done;
                    return Poll::Ready(Err(Error::DeadlineExceeded { function }));
                }
                Ok(None) => return Poll::Pending,
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Err(error));
                }
            };
            this.parked = None;
            let Some(call) = call.take() else { return Poll::Pending };
            match this.runtime.start_call(road, call.payload, call.operation, call.timeout) {
                Ok(tag) => this.state = State::Sent(tag),
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Err(error));
                }
            }
        }
        let State::Sent(tag) = this.state else { return Poll::Pending };
        let polled = this.runtime.poll_call(tag, context.waker());
        if polled.is_ready() {
            this.state = State::Done;
        }
        polled
    }
}

impl CallFuture<'_> {
    fn unpark(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.runtime.unpark(parked);
        }
    }
}

impl Drop for CallFuture<'_> {
    fn drop(&mut self) {
        match self.state {
            State::Sent(tag) => self.runtime.abandon_call(tag),
            State::Fresh(_) => self.unpark(),
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
