//! Calls: sent when there is a road, told when they are over.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Kind as Message64};

use super::messages::Load;
use super::{Outgoing, Outside, Refusal};
use crate::call::{Call, Payload, Reply};
use crate::error::Error;
use crate::executor::Ticket;
use crate::head::Heading;
use crate::hop::Hop;
use crate::link::Wait;
use crate::runtime::Runtime;

/// Who answered, where it is not said more precisely.
const BY_NODE: u32 = 0;
const BY_FUNCTION: u32 = 1;

/// A call that was made and whose end was not told yet.
pub(super) struct OutCall {
    request: u32,
    callee: usize,
    operation: u16,
    timeout: Option<Duration>,
    load: Load,
    head: Heading,
    wait: Option<Box<Wait>>,
    state: State,
    waker: Waker,
}

enum State {
    Fresh,
    /// The link's own number.
    Sent(u32),
    Over(Result<Reply, Error>),
}

/// Says which call can go on.
struct Ready {
    tag: u32,
    list: Arc<Mutex<Vec<u32>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Ok(mut list) = self.list.lock() {
            list.push(self.tag);
        }
    }
}

impl Outside {
    /// Calls a function, by its position in the manifest's `calls`, on behalf of the request that the parcel's tag names (0 for
    /// none). Gives the call's tag: its end is an event, or told by [`Outside::wait`].
    ///
    /// # Errors
    /// What is wrong with the message; then nothing has happened. What comes of the call is told by its end.
    pub fn call(&self, callee: usize, message: Outgoing<'_>) -> Result<u32, Refusal> {
        let words = Descriptor::from_words(message.parcel.words);
        if self.link.callee(callee).is_none() {
            return Err(Refusal::Unknown);
        }
        if words.tag != 0 && !self.requests.borrow().contains_key(&words.tag) {
            return Err(Refusal::Stale);
        }
        let (load, head) = self.load(message, true)?;
        let tag = self.next_call();
        let list = Arc::clone(&self.ready);
        let timeout = (words.deadline_ns != 0)
            .then(|| Duration::from_nanos(words.deadline_ns.saturating_sub(crate::clock::now_ns())));
        let call = OutCall {
            request: words.tag,
            callee,
            operation: words.code,
            timeout,
            load,
            head,
            wait: None,
            state: State::Fresh,
            waker: Waker::from(Arc::new(Ready { tag, list })),
        };
        self.calls.borrow_mut().insert(tag, call);
        self.advance(tag);
        Ok(tag)
    }

    fn next_call(&self) -> u32 {
        let calls = self.calls.borrow();
        loop {
            self.last_call.set(self.last_call.get().wrapping_add(1));
            let number = self.last_call.get();
            if number != 0 && !calls.contains_key(&number) {
                return number;
            }
        }
    }

    /// Goes on with the calls that can.
    pub(super) fn advance_calls(&self) {
        let ready = self.ready.lock().map(|mut ready| core::mem::take(&mut *ready)).unwrap_or_default();
        ready.into_iter().for_each(|tag| self.advance(tag));
    }

    /// Sends a call, or looks for its answer.
    fn advance(&self, tag: u32) {
        let Some(mut call) = self.calls.borrow_mut().remove(&tag) else { return };
        let state = match core::mem::replace(&mut call.state, State::Fresh) {
            State::Fresh => self.send(&mut call),
            State::Sent(sent) => match self.link.poll_call(sent, &call.waker) {
                Poll::Pending => State::Sent(sent),
                Poll::Ready(end) => State::Over(end),
            },
            over @ State::Over(_) => over,
        };
        if matches!(state, State::Over(_)) {
            if let Load::Lent(key, _) = call.load {
                self.payloads.borrow_mut().come_back(key);
                call.load = Load::Own(Payload::Empty);
            }
            self.over.borrow_mut().push_back(tag);
        }
        call.state = state;
        self.calls.borrow_mut().insert(tag, call);
    }

    fn send(&self, out: &mut OutCall) -> State {
        let Some(function) = self.link.callee(out.callee) else {
            return State::Over(Err(Error::NoEdge { function: String::new() }));
        };
        let payloads = self.payloads.borrow();
        let sent = match core::mem::replace(&mut out.load, Load::Own(Payload::Empty)) {
            Load::Own(payload) => {
                let (sent, payload) = self.attempt(out, function, payload);
                out.load = Load::Own(payload);
                sent
            }
            Load::Lent(key, rights) => {
                out.load = Load::Lent(key, rights);
                match payloads.lent(key, rights) {
                    Some(payload) => self.attempt(out, function, payload).0,
                    None => Err(Error::Denied { what: "lending what is gone" }),
                }
            }
        };
        match sent {
            Ok(Some(sent)) => State::Sent(sent),
            Ok(None) => State::Fresh,
            Err(error) => State::Over(Err(error)),
        }
    }

    /// Tries to send a call; gives the payload back that it did not take.
    fn attempt<'p>(
        &self,
        out: &mut OutCall,
        function: &'p str,
        payload: Payload<'p>,
    ) -> (Result<Option<u32>, Error>, Payload<'p>) {
        let mut call = Call::new(Runtime::Link(self.link), function, payload).operation(out.operation);
        if !out.head.bytes().is_empty() {
            call = call.with_head(core::mem::replace(&mut out.head, Heading::EMPTY));
        }
        call.timeout = out.timeout;
        call.wait = out.wait.take();
        let sent = self.on_behalf(out.request, || self.link.start_call(&mut call, &out.waker));
        out.wait = call.wait.take();
        out.head = call.take_head();
        (sent, core::mem::replace(&mut call.payload, Payload::Empty))
    }

    /// Does something as if the request's own task did it: what is sent then belongs to its invocation.
    fn on_behalf<T>(&self, request: u32, work: impl FnOnce() -> T) -> T {
        let mut requests = self.requests.borrow_mut();
        let (ticket, hop): (Ticket, &mut Option<Box<Hop>>) = match requests.get_mut(&request) {
            Some(asked) => (asked.ticket, &mut asked.hop),
            None => return work(),
        };
        self.link.current.on_behalf(ticket, hop, work)
    }

    /// Waits for the end of one call, and tells it. Requests are not taken meanwhile.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if there is no such call.
    pub fn wait(&self, tag: u32) -> Result<Parcel, Refusal> {
        loop {
            match self.calls.borrow().get(&tag).map(|call| &call.state) {
                None => return Err(Refusal::Stale),
                Some(State::Over(_)) => break,
                Some(_) => {}
            }
            self.sleep(None, false);
            self.turn();
        }
        self.over.borrow_mut().retain(|&over| over != tag);
        self.take_answer(tag).ok_or(Refusal::Stale)
    }

    /// Whether a call is over: [`Outside::wait`] would not wait.
    #[must_use]
    pub fn is_over(&self, tag: u32) -> bool {
        let calls = self.calls.borrow();
        calls.get(&tag).is_none_or(|call| matches!(call.state, State::Over(_)))
    }

    /// Nobody waits for a call any more: what it lent ends now, the callee is told, its answer is thrown away.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if there is no such call.
    pub fn cancel_call(&self, tag: u32) -> Result<(), Refusal> {
        let mut call = self.calls.borrow_mut().remove(&tag).ok_or(Refusal::Stale)?;
        self.over.borrow_mut().retain(|&over| over != tag);
        if let State::Sent(sent) = call.state {
            self.link.abandon_call(sent);
        }
        self.link.stop_waiting(&mut call.wait);
        if let Load::Lent(key, _) = call.load {
            self.payloads.borrow_mut().come_back(key);
        }
        Ok(())
    }

    /// The end of a call, told once.
    pub(super) fn take_answer(&self, tag: u32) -> Option<Parcel> {
        let call = self.calls.borrow_mut().remove(&tag)?;
        let State::Over(end) = call.state else { return None };
        Some(match end {
            Ok(Reply { status, message }) => {
                let code = u16::try_from(status).unwrap_or(u16::MAX);
                let about = Descriptor { tag, code, ..Descriptor::new(Message64::Reply) };
                Parcel { from: BY_FUNCTION, ..self.parcel(about, message) }
            }
            Err(Error::Function { status, message, .. }) => self.failure(tag, status, BY_FUNCTION, &message),
            Err(error) => self.failure(tag, error.status(), BY_NODE, &error.to_string()),
        })
    }
}
