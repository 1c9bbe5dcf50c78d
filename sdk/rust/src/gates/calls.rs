//! Calls through the gate, and those that were not answered during it.

use std::task::{Poll, Waker};
use std::time::Duration;

use baton_abi::gate::{PENDING, Parcel};
use baton_abi::{Flags, Kind as Message};

use super::receive::{code_of, flags_of, tag_of, word};
use super::send::{clear, first_word, put_lent};
use super::{Gates, errno};
use crate::call::{Call, Payload, Reply, Step};
use crate::error::Error;
use crate::executor::Wakeup;

/// Who answers, in a parcel that the runtime itself made.
const BY_RUNTIME: u32 = 0;

/// `CLOCK_MONOTONIC` nanoseconds at which `timeout` is over.
fn deadline_after(timeout: Duration) -> u64 {
    let ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    crate::clock::now_ns().saturating_add(ns)
}

/// Whether two names are the same. Those of most functions are compared by a few words.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        4..=8 => ends::<4>(one) == ends::<4>(other),
        9..=16 => ends::<8>(one) == ends::<8>(other),
        _ => one == other,
    }
}

/// First and last bytes.
#[inline(always)]
fn ends<const N: usize>(of: &[u8]) -> (Option<&[u8; N]>, Option<&[u8; N]>) {
    (of.first_chunk(), of.last_chunk())
}

enum State {
    Waiting(Wakeup),
    Done(Result<Reply, Error>),
}

struct Pending {
    /// The runtime's number of the call.
    tag: u32,
    /// Position of the called function.
    callee: usize,
    state: State,
}

/// Calls whose answers come as events. There are few: a list is searched faster than a table.
#[derive(Default)]
pub(super) struct Calls {
    pending: Vec<Pending>,
}

impl Calls {
    fn position(&self, tag: u32) -> Option<usize> {
        self.pending.iter().position(|call| call.tag == tag)
    }

    fn remove(&mut self, tag: u32) -> Option<Pending> {
        self.position(tag).map(|at| self.pending.swap_remove(at))
    }
}

impl Gates {
    /// Makes a call. Often it is answered by the time that the gate returns.
    #[inline]
    pub(crate) fn start_call(&'static self, call: &mut Call<'_>, waker: &Waker) -> Step {
        let Some(callee) = self.find_callee(call.function) else {
            return call.failed(Error::NoEdge { function: call.function.to_owned() });
        };
        let deadline_ns = call.timeout.map_or(0, deadline_after);
        let flags = if call.is_parallel { Flags::PARALLEL } else { Flags::MOVE };
        // By the tag of its own request the runtime knows the invocation, its deadline and its receipt.
        let first = first_word(Message::Request, flags, call.operation, self.current.tag());
        let mut parcel = Parcel::EMPTY;
        clear(&mut parcel, first, deadline_ns);
        let is_put = !call.has_head() && put_lent(&call.payload, &mut parcel);
        if !is_put && let Err(error) = self.put_call(call, &mut parcel) {
            return call.failed(error);
        }
        self.next_epoch();
        let gate = self.page.call(callee as u64, &mut parcel);
        if gate != 0 {
            return self.not_answered(gate, callee, call, &parcel, waker);
        }
        let first = word(&parcel, 0);
        if flags_of(first).has(Flags::ERROR) {
            return call.failed(self.read_failure(callee, &parcel));
        }
        call.answered(code_of(first), self.accept(&parcel))
    }

    #[inline(never)]
    fn put_call(&'static self, call: &mut Call<'_>, parcel: &mut Parcel) -> Result<(), Error> {
        let (payload, head) = call.parts()?;
        self.put(payload, head, true, parcel)
    }

    /// Whether a function is among those that may be called.
    pub(crate) fn declares(&self, function: &str) -> bool {
        self.callees.iter().any(|name| name == function)
    }

    /// The position of a function in the manifest's `calls`.
    #[inline]
    fn find_callee(&self, function: &str) -> Option<usize> {
        let last = self.callee.get();
        if self.callees.get(last).is_some_and(|name| is_same(name.as_bytes(), function.as_bytes())) {
            return Some(last);
        }
        let found = self.callees.iter().position(|name| name == function)?;
        self.callee.set(found);
        Some(found)
    }

    /// The gate brought no answer. A refused parcel is as it was, one that is pending has its tag.
    #[inline(never)]
    fn not_answered(
        &'static self,
        gate: i64,
        callee: usize,
        call: &mut Call<'_>,
        parcel: &Parcel,
        waker: &Waker,
    ) -> Step {
        if gate == PENDING {
            let tag = tag_of(word(parcel, 0));
            let state = State::Waiting(self.current.wakeup(waker));
            self.calls.borrow_mut().pending.push(Pending { tag, callee, state });
            return call.sent(tag);
        }
        self.give_up(parcel.words);
        let error = self.refused_call(callee, gate, call);
        call.failed(error)
    }

    #[cold]
    fn refused_call(&self, callee: usize, gate: i64, call: &Call<'_>) -> Error {
        let function = self.name(callee);
        match i32::try_from(-gate).unwrap_or(0) {
            errno::EAGAIN => Error::Overloaded { function },
            errno::ETIMEDOUT => Error::DeadlineExceeded { function },
            errno::EHOSTUNREACH => Error::Unavailable { function },
            _ => match (super::refused(gate), &call.payload) {
                (Error::PoolFull { .. }, Payload::Bytes(bytes)) => Error::PoolFull { wanted: bytes.len() },
                (error, _) => error,
            },
        }
    }

    fn name(&self, callee: usize) -> String {
        self.callees.get(callee).cloned().unwrap_or_default()
    }

    /// The answer in a parcel.
    fn read_answer(&'static self, callee: usize, parcel: &Parcel) -> Result<Reply, Error> {
        let first = word(parcel, 0);
        if flags_of(first).has(Flags::ERROR) {
            return Err(self.read_failure(callee, parcel));
        }
        Ok(Reply { status: code_of(first), message: self.accept_late(parcel) })
    }

    #[cold]
    fn read_failure(&'static self, callee: usize, parcel: &Parcel) -> Error {
        let function = self.name(callee);
        let message = self.accept_late(parcel);
        let status = u16::try_from(code_of(word(parcel, 0))).unwrap_or(u16::MAX);
        match (parcel.from, status) {
            // Not the callee's words: it is late, or it is gone.
            (BY_RUNTIME, 429) => Error::Overloaded { function },
            (BY_RUNTIME, 504) => Error::DeadlineExceeded { function },
            (BY_RUNTIME, 502 | 503) => Error::Unavailable { function },
            _ => {
                let message = String::from_utf8_lossy(message.body()).into_owned();
                Error::Function { function, status, message }
            }
        }
    }

    /// An event: the answer to a call.
    pub(super) fn take_answer(&'static self, parcel: &Parcel) {
        let tag = tag_of(word(parcel, 0));
        let before = {
            let mut calls = self.calls.borrow_mut();
            let call = calls.pending.iter_mut().find(|call| call.tag == tag);
            // Read in any case: what an unexpected answer carries is given back by being dropped.
            let answer = self.read_answer(call.as_ref().map_or(usize::MAX, |call| call.callee), parcel);
            let Some(call) = call else { return };
            core::mem::replace(&mut call.state, State::Done(answer))
        };
        if let State::Waiting(wakeup) = before {
            self.current.wake(wakeup);
        }
    }

    /// Whether a call has its answer.
    pub(crate) fn poll_call(&self, tag: u32, waker: &Waker) -> Poll<Result<Reply, Error>> {
        let mut calls = self.calls.borrow_mut();
        let Some(at) = calls.position(tag) else {
            return Poll::Ready(Err(Error::Protocol { what: "a call that does not exist" }));
        };
        match calls.pending.get_mut(at).map(|call| &mut call.state) {
            Some(State::Waiting(wakeup)) => {
                *wakeup = self.current.wakeup(waker);
                Poll::Pending
            }
            _ => match calls.pending.swap_remove(at).state {
                State::Done(answer) => Poll::Ready(answer),
                State::Waiting(_) => Poll::Pending,
            },
        }
    }

    /// Nobody waits for a call any more: what was lent ends now, the callee is told, its answer meets nobody.
    pub(crate) fn abandon_call(&self, tag: u32) {
        let removed = self.calls.borrow_mut().remove(tag);
        match removed.map(|call| call.state) {
            Some(State::Waiting(_)) => {
                self.next_epoch();
                // A call that ended meanwhile has told so by an event that finds nobody.
                let _ = self.page.cancel(tag);
            }
            // Dropping an answer gives its buffers back.
            Some(State::Done(answer)) => drop(answer),
            None => {}
        }
    }
}
