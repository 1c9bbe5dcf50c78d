//! The context of one request: allocation, calls, logs.

use core::fmt::Display;
#[cfg(not(target_arch = "wasm32"))]
use std::io::Write as _;
use std::rc::Rc;

use zerocopy::{Immutable, IntoBytes};

use crate::body::{Body, Shared};
use crate::buffer::Buffer;
use crate::call::{Aside, Call, Payload, Reply};
use crate::error::Error;
use crate::executor::Ticket;
use crate::fetch::Fetch;
use crate::head::Heading;
use crate::put::{Put, Reference};
use crate::runtime::Runtime;

/// The header of W3C's trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Whether a trace's spans are recorded: the lowest bit of its flags, the last of its digits.
#[inline]
fn is_sampled(traceparent: &str) -> bool {
    let last = traceparent.bytes().next_back().and_then(|digit| char::from(digit).to_digit(16));
    last.is_some_and(|digit| digit & 1 == 1)
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may fail soon.
    Warn,
    /// Worth knowing.
    Info,
    /// Worth knowing while looking for a fault.
    Debug,
}

impl Level {
    const fn letter(self) -> char {
        match self {
            Level::Error => 'E',
            Level::Warn => 'W',
            Level::Info => 'I',
            Level::Debug => 'D',
        }
    }
}

/// What a handler can do beside answering. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    runtime: Runtime,
    invocation: u64,
    deadline_ns: u64,
    traceparent: Option<Rc<str>>,
    /// What is called learns of the trace.
    is_sampled: bool,
}

impl Context {
    pub(crate) fn new(runtime: Runtime, ticket: &Ticket, traceparent: Option<Rc<str>>) -> Context {
        let &Ticket { invocation, deadline_ns, .. } = ticket;
        let is_sampled = traceparent.as_deref().is_some_and(is_sampled);
        Context { runtime, invocation, deadline_ns, traceparent, is_sampled }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// An empty payload with room for `capacity` bytes, to be appended to.
    ///
    /// # Errors
    /// [`Error::PoolFull`] when the app's pool has no room now.
    #[inline]
    pub fn alloc(&self, capacity: usize) -> Result<Buffer, Error> {
        self.runtime.alloc(capacity)
    }

    /// A payload of `len` zero bytes, to be written in place.
    ///
    /// # Errors
    /// As [`Context::alloc`].
    #[inline]
    pub fn zeroed(&self, len: usize) -> Result<Buffer, Error> {
        let mut buffer = self.runtime.alloc(len)?;
        buffer.grow_zeroed(len)?;
        Ok(buffer)
    }

    /// A payload that holds `value` as it lies in memory.
    ///
    /// # Errors
    /// As [`Context::alloc`].
    #[inline]
    pub fn value<T: IntoBytes + Immutable + ?Sized>(&self, value: &T) -> Result<Buffer, Error> {
        Buffer::copied(self.runtime, value.as_bytes())
    }

    /// A call to `function`, which the manifest's `calls` must name. Nothing happens until it is awaited.
    ///
    /// Where the request that this function serves is traced, the callee finds its `traceparent` among the headers.
    #[inline]
    pub fn call<'a>(&self, function: &'a str, payload: impl Into<Payload<'a>>) -> Call<'a> {
        // A call is made once, and in its place: what is changed afterwards is copied first.
        let head = if self.is_sampled { self.head_of_calls() } else { None };
        Call::with_aside(self.runtime, function, payload.into(), head)
    }

    /// What is called learns of the trace.
    #[inline(never)]
    fn head_of_calls(&self) -> Option<Box<Aside>> {
        let mut head = Heading::EMPTY;
        head.header(TRACEPARENT, self.traceparent()?.as_bytes());
        Some(Aside::of(head))
    }

    /// A request to a host that the manifest's `network` names, by its whole URL. Nothing happens until it is awaited.
    ///
    /// It carries the `traceparent` of the request that this function serves, unless it is given another.
    pub fn fetch<'a>(&self, url: &str) -> Fetch<'a> {
        let fetch = Fetch::new(self.runtime, url);
        match &self.traceparent {
            Some(traceparent) => fetch.header(TRACEPARENT, traceparent.as_bytes()),
            None => fetch,
        }
    }

    /// Puts a payload up for functions that are given the reference, on whatever node of the cluster they run. It stays where
    /// it is; what is only lent is copied once. Nothing happens until it is awaited.
    ///
    /// The manifest gives the right by `references = true`.
    pub fn put<'a>(&self, payload: impl Into<Payload<'a>>) -> Put<'a> {
        Put::new(self.runtime, payload.into())
    }

    /// What is behind a reference: read where it lies, if it was put up on this node, or pulled out of the other node's memory.
    ///
    /// # Errors
    /// [`Error::Gone`] if nothing is there any more, [`Error::Unavailable`] if its node is not to be reached.
    pub async fn get(&self, reference: &Reference) -> Result<Body, Error> {
        crate::put::get(self.runtime, reference).await
    }

    /// Takes a payload down that was put up. `false` if nothing was there any more. Who is reading it reads it to the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if its node is not to be reached.
    pub async fn forget(&self, reference: &Reference) -> Result<bool, Error> {
        crate::put::forget(self.runtime, reference).await
    }

    /// Calls `function` once for each of `parts` of a payload, all at once; answers in the order of the parts. Nothing is
    /// copied on this node, whoever reads whatever part; a part goes to another node once.
    ///
    /// # Errors
    /// [`Error::Denied`] when a part does not lie inside; then nothing is called.
    pub async fn scatter(
        &self,
        function: &str,
        payload: &Shared,
        parts: impl IntoIterator<Item = core::ops::Range<usize>>,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        let parts: Vec<Shared> =
            parts.into_iter().map(|part| payload.narrow(part)).collect::<Result<_, _>>()?;
        Ok(self.join(parts.into_iter().map(|part| self.call(function, part))).await)
    }

    /// Calls every one of `functions` with the same payload, all at once; answers in their order. Nothing is copied on this
    /// node.
    pub async fn broadcast<'a>(
        &self,
        functions: impl IntoIterator<Item = &'a str>,
        payload: &Shared,
    ) -> Vec<Result<Reply, Error>> {
        self.join(functions.into_iter().map(|function| self.call(function, payload))).await
    }

    /// The answers' payloads one behind the other, in one.
    ///
    /// # Errors
    /// The first error among the answers; [`Error::PoolFull`].
    pub fn gather(&self, answers: impl IntoIterator<Item = Result<Reply, Error>>) -> Result<Buffer, Error> {
        let answers: Vec<Reply> = answers.into_iter().collect::<Result<_, _>>()?;
        let mut all = self.alloc(answers.iter().map(|answer| answer.body().len()).sum())?;
        answers.iter().try_for_each(|answer| all.extend_from_slice(answer.body()))?;
        Ok(all)
    }

    /// Makes all `calls` at once and waits for all answers, in the order of the calls.
    pub async fn join<'a>(&self, calls: impl IntoIterator<Item = Call<'a>>) -> Vec<Result<Reply, Error>> {
        let mut pending: Vec<Call<'a>> = calls.into_iter().collect();
        // The last is made while the others run: if they run elsewhere, it is best made here.
        if let Some((_, others)) = pending.split_last_mut() {
            others.iter_mut().for_each(Call::in_parallel);
        }
        crate::join::JoinAll::new(pending).await
    }

    /// Writes a line to the node's log, with the invocation that it belongs to.
    pub fn log(&self, level: Level, message: impl Display) {
        match self.runtime {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(_) => {
                // One write a line: lines of several replicas do not mix. A log that cannot be written is lost.
                let line = format!("\u{1}{}{:016x} {message}\n", level.letter(), self.invocation);
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Runtime::Gates(gates) => gates.log(level.letter(), &message.to_string()),
        }
    }

    /// The invocation's number, as receipts and logs show it.
    #[must_use]
    pub fn invocation(&self) -> u64 {
        self.invocation
    }

    /// How long whoever asked still waits; `None` if that is not known. Calls that this function makes end by then.
    #[must_use]
    pub fn remaining(&self) -> Option<std::time::Duration> {
        let left = self.deadline_ns.saturating_sub(crate::clock::now_ns());
        (self.deadline_ns != 0).then(|| std::time::Duration::from_nanos(left))
    }

    /// The W3C trace context of the request that came through the gateway.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context").field("invocation", &self.invocation).finish()
    }
}
