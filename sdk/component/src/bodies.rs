//! Payloads of the pool as bodies of HTTP messages, and back.
//!
//! A payload that a component passes on as it came is handed over by capability: its bytes are known again by where they lie.
//! Everything else is copied into a buffer of the pool once.

use core::future::poll_fn;
use core::pin::Pin;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use baton::{Body, Buffer, Context, Error, Payload};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full};
use wasmtime_wasi_http::WasiBody;

use crate::single::Single;

/// Bytes of a body that are kept outside of the pool until it is known how many there are.
const GATHERED_BYTES: usize = 64 << 10;
/// The smallest buffer for more than that.
const BUFFER_BYTES_MIN: usize = 256 << 10;

thread_local! {
    /// Payloads that the component can have bytes of.
    static GIVEN: RefCell<Vec<Weak<Body>>> = const { RefCell::new(Vec::new()) };
}

/// A payload whose bytes are in use as a body.
struct Given(Single<Rc<Body>>);

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A payload as the body of a message that the component receives.
pub(crate) fn given(payload: Option<Body>) -> WasiBody {
    let Some(payload) = payload.filter(|payload| !payload.is_empty()) else {
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    };
    let payload = Rc::new(payload);
    GIVEN.with_borrow_mut(|given| {
        given.retain(|payload| payload.strong_count() > 0);
        given.push(Rc::downgrade(&payload));
    });
    let bytes = Bytes::from_owner(Given(Single(payload)));
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The payload that `bytes` are all of, if the component has let go of it otherwise.
fn recognised(bytes: Bytes) -> Result<Body, Bytes> {
    let is_it = |payload: &Rc<Body>| payload.as_ptr() == bytes.as_ptr() && payload.len() == bytes.len();
    let found = GIVEN.with_borrow(|given| given.iter().filter_map(Weak::upgrade).find(is_it));
    let Some(payload) = found else { return Err(bytes) };
    // `bytes` and `payload` hold it; whoever else does could still read it.
    if Rc::strong_count(&payload) != 2 {
        return Err(bytes);
    }
    drop(bytes);
    Rc::try_unwrap(payload).map_err(|payload| Bytes::from_owner(Given(Single(payload))))
}

/// A component's status as one that a response can have.
pub(crate) fn status(status: u16) -> u16 {
    if (100..=999).contains(&status) { status } else { 502 }
}

/// Why a body could not be gathered.
pub(crate) enum GatherError {
    /// The component ended it by an error.
    Component(wasmtime_wasi_http::Error),
    /// The pool has no room.
    Pool(Error),
}

impl From<Error> for GatherError {
    fn from(error: Error) -> Self {
        GatherError::Pool(error)
    }
}

/// A body as a payload, when all of it is there.
pub(crate) async fn gather(
    context: &Context,
    mut body: WasiBody,
    expected: Option<usize>,
) -> Result<Payload<'static>, GatherError> {
    let mut gathered = Gathered::new(expected);
    loop {
        let frame = poll_fn(|poll| Pin::new(&mut body).poll_frame(poll)).await;
        match frame {
            None => break,
            Some(Err(error)) => return Err(GatherError::Component(error)),
            // Trailers have no place in a payload.
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    gathered.add(context, bytes)?;
                }
            }
        }
    }
    // What it came from may hold the payload that it was.
    drop(body);
    gathered.end(context)
}

/// What there is of a body.
struct Gathered {
    expected: Option<usize>,
    /// Parts that are in no buffer yet.
    parts: Vec<Bytes>,
    len: usize,
    buffer: Option<Buffer>,
}

impl Gathered {
    fn new(expected: Option<usize>) -> Gathered {
        Gathered { expected, parts: Vec::new(), len: 0, buffer: None }
    }

    fn add(&mut self, context: &Context, bytes: Bytes) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let whole = self.len.saturating_add(bytes.len());
        self.len = whole;
        if let Some(last) = self.parts.last_mut()
            && let Some(joined) = join(last, &bytes)
        {
            *last = joined;
            return Ok(());
        }
        if self.buffer.is_none() && (self.parts.is_empty() || whole <= GATHERED_BYTES) {
            self.parts.push(bytes);
            return Ok(());
        }
        self.parts.push(bytes);
        self.put_into_buffer(context, whole.saturating_mul(2).max(BUFFER_BYTES_MIN))
    }

    /// Moves all parts into the buffer, which has room for `wanted` bytes if it has to be made and the pool has as many.
    fn put_into_buffer(&mut self, context: &Context, wanted: usize) -> Result<(), Error> {
        let missing: usize = self.parts.iter().map(Bytes::len).sum();
        let there = self.buffer.take().filter(|buffer| !buffer.is_empty());
        let mut buffer = match there {
            Some(buffer) if buffer.remaining() >= missing => buffer,
            small => {
                let needed = missing + small.as_ref().map_or(0, |small| small.len());
                let spacious = wanted.max(self.expected.unwrap_or(0));
                let larger = context.alloc(spacious.max(needed));
                let mut larger = larger.or_else(|_| context.alloc(needed))?;
                larger.extend_from_slice(small.as_deref().unwrap_or_default())?;
                larger
            }
        };
        for part in self.parts.drain(..) {
            buffer.extend_from_slice(&part)?;
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    fn end(mut self, context: &Context) -> Result<Payload<'static>, GatherError> {
        if self.len == 0 {
            return Ok(Payload::Empty);
        }
        if self.buffer.is_none()
            && self.parts.len() == 1
            && let Some(only) = self.parts.pop()
        {
            match recognised(only) {
                Ok(payload) => return Ok(Payload::Body(payload)),
                Err(bytes) => self.parts.push(bytes),
            }
        }
        let len = self.len;
        self.expected = None;
        self.put_into_buffer(context, len)?;
        Ok(self.buffer.map_or(Payload::Empty, Payload::Buffer))
    }
}

/// Two parts as one, where the second lies behind the first in the same payload.
fn join(first: &Bytes, second: &Bytes) -> Option<Bytes> {
    let behind = first.as_ptr().wrapping_add(first.len());
    if behind != second.as_ptr() {
        return None;
    }
    let whole = first.len() + second.len();
    let inside = |payload: &Rc<Body>| {
        let from = (first.as_ptr() as usize).checked_sub(payload.as_ptr() as usize);
        from.filter(|from| from + whole <= payload.len())
    };
    let (payload, from) = GIVEN.with_borrow(|given| {
        given
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|payload| inside(&payload).map(|from| (payload, from)))
    })?;
    let all = Bytes::from_owner(Given(Single(payload)));
    Some(all.slice(from..from + whole))
}
