//! Calls through the gate, and those that were not answered during it.

use std::task::{Poll, Waker};

use baton_abi::gate::{PENDING, Parcel};
use baton_abi::{Descriptor, Flags, Kind as Message};

use super::Gates;
use crate::call::{Call, Payload, Reply, Started};
use crate::error::Error;
use crate::executor::Wakeup;
use crate::message::Accepted;

/// Who answers, in a parcel that the runtime itself made.
const BY_RUNTIME: u32 = 0;

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
    pub(crate) fn start_call(&'static self, call: &mut Call<'_>, waker: &Waker) -> Result<Started, Error> {
        let callee = self.find_callee(call.function)?;
        let deadline_ns = match call.timeout {
            None => 0,
            Some(timeout) => {
                let ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                crate::clock::now_ns().saturating_add(ns)
            }
        };
        let mut d = Descriptor {
            flags: if call.is_parallel { Flags::PARALLEL } else { Flags::MOVE },
            code: call.operation,
            // By this the runtime knows the invocation, its deadline and its receipt.
            tag: self.current.ticket().tag,
            deadline_ns,
            ..Descriptor::new(Message::Request)
        };
        let rights = self.put(&mut call.payload, &[], true, &mut d)?;
        let mut parcel = Parcel { words: d.to_words(), rights: u32::from(rights.0), ..Parcel::EMPTY };
        self.next_epoch();
        match self.page.call(callee as u64, &mut parcel) {
            0 => self.read_answer(callee, &parcel).map(Started::Answered),
            PENDING => Ok(self.expect(callee, call, &parcel, waker)),
            gate => {
                self.give_up(&d);
                Err(self.refused_call(callee, gate, call))
            }
        }
    }

    /// The position of a function in the manifest's `calls`.
    #[inline]
    fn find_callee(&self, function: &str) -> Result<usize, Error> {
        let last = self.callee.get();
        if self.callees.get(last).is_some_and(|name| name == function) {
            return Ok(last);
        }
        let found = self.callees.iter().position(|name| name == function);
        let found = found.ok_or_else(|| Error::NoEdge { function: function.to_owned() })?;
        self.callee.set(found);
        Ok(found)
    }

    fn expect(&self, callee: usize, call: &mut Call<'_>, parcel: &Parcel, waker: &Waker) -> Started {
        // What is left of the payload is not needed for the answer.
        call.payload = Payload::Empty;
        let tag = Descriptor::from_words(parcel.words).tag;
        let state = State::Waiting(self.current.wakeup(waker));
        self.calls.borrow_mut().pending.push(Pending { tag, callee, state });
        Started::Sent(tag)
    }

    #[cold]
    fn refused_call(&self, callee: usize, gate: i64, call: &Call<'_>) -> Error {
        let function = self.name(callee);
        match i32::try_from(-gate).unwrap_or(0) {
            libc::EAGAIN => Error::Overloaded { function },
            libc::ETIMEDOUT => Error::DeadlineExceeded { function },
            libc::EHOSTUNREACH => Error::Unavailable { function },
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
    #[inline]
    fn read_answer(&'static self, callee: usize, parcel: &Parcel) -> Result<Reply, Error> {
        let d = Descriptor::from_words(parcel.words);
        let message = self.accept(parcel, &d)?;
        if d.flags.has(Flags::ERROR) {
            return Err(self.read_failure(callee, d.code, parcel.from, &message));
        }
        Ok(Reply { status: d.code, message })
    }

    #[cold]
    fn read_failure(&self, callee: usize, status: u16, from: u32, message: &Accepted) -> Error {
        let function = self.name(callee);
        match (from, status) {
            // Not the callee's words: it is late, or it is gone.
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
        let tag = Descriptor::from_words(parcel.words).tag;
        let callee = {
            let calls = self.calls.borrow();
            calls.position(tag).and_then(|at| calls.pending.get(at)).map(|call| call.callee)
        };
        // Read in any case: what an unexpected answer carries is given back by being dropped.
        let answer = self.read_answer(callee.unwrap_or(usize::MAX), parcel);
        let before = {
            let mut calls = self.calls.borrow_mut();
            let at = calls.position(tag);
            let Some(call) = at.and_then(|at| calls.pending.get_mut(at)) else { return };
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
