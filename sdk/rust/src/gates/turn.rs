//! A turn: an event, and the tasks that can go on by it.

use std::future::Future;

use baton_abi::gate::Parcel;
use baton_abi::{Flags, Kind as Message};

use super::Gates;
use super::receive::{code_of, flags_of, tag_of, word};
use super::send::{clear, first_word};
use crate::call::Payload;
use crate::context::Context;
use crate::error::Error;
use crate::executor::{Finished, Origin, Outcome, Tasks, Ticket};
use crate::held::Kind;
use crate::request::Request;
use crate::response::Response;
use crate::runtime::Runtime;

/// Answers on their way to the runtime: the latest waits for what else the turn brings.
pub(super) struct Replies {
    pub(super) gates: &'static Gates,
    pub(super) parcel: Parcel,
    pub(super) is_waiting: bool,
    /// Bytes that the parcel points to.
    bytes: Payload<'static>,
}

/// What turns work on.
pub(super) struct Loop<M, F> {
    gates: &'static Gates,
    /// Makes a task of a request.
    make: M,
    pub(super) tasks: Tasks<F>,
    pub(super) replies: Replies,
}

impl<M, F> Loop<M, F>
where
    M: Fn(Context, Request) -> F,
    F: Future<Output = Outcome>,
{
    pub(super) fn new(gates: &'static Gates, make: M) -> Loop<M, F> {
        let replies = Replies { gates, parcel: Parcel::EMPTY, is_waiting: false, bytes: Payload::Empty };
        Loop { gates, make, tasks: Tasks::new(&gates.current, None), replies }
    }

    /// Takes an event and goes on until nothing can, but for an answer that may wait. Whether the event says that it is enough.
    #[inline]
    pub(super) fn turn(&mut self, event: &Parcel) -> bool {
        let is_over = self.take(event);
        if !self.tasks.is_quiet() {
            self.go_on();
        }
        is_over
    }

    #[inline]
    fn take(&mut self, event: &Parcel) -> bool {
        let first = word(event, 0);
        let [kind, ..] = first.to_le_bytes();
        let tag = tag_of(first);
        if kind == Message::Request as u8 {
            self.start(event, tag, code_of(first));
            return false;
        }
        self.take_other(kind, event)
    }

    #[inline(never)]
    fn take_other(&mut self, kind: u8, event: &Parcel) -> bool {
        let tag = tag_of(word(event, 0));
        match Message::from_u8(kind) {
            Some(Message::Reply) => self.gates.take_answer(event),
            Some(Message::Cancel) => {
                for mut finished in self.tasks.cancel(|ticket| ticket.tag == tag) {
                    self.replies.finish(&mut finished);
                }
            }
            // There is nothing to do for a while: others may use what is only kept for later.
            Some(Message::Free) => self.gates.clear_stash(),
            Some(Message::Shutdown) => return true,
            _ => {}
        }
        false
    }

    #[inline]
    fn start(&mut self, event: &Parcel, tag: u32, operation: u32) {
        let gates = self.gates;
        let incarnation = gates.page.incarnation();
        if gates.incarnation.replace(incarnation) != incarnation {
            crate::random::restored();
        }
        let (invocation, deadline_ns) = (word(event, 1), word(event, 2));
        // The runtime measures what hops cost.
        let ticket = Ticket { origin: Origin::Link, tag, invocation, deadline_ns, record: false };
        let make = || {
            let request = Request::new(operation, gates.accept(event));
            let context = Context::new(Runtime::Gates(gates), &ticket, request.traceparent());
            (self.make)(context, request)
        };
        if let Some(finished) = self.tasks.spawn(make, ticket, None) {
            self.replies.finish_at_once(finished);
        }
    }

    /// Runs the tasks that can go on until none can. An answer that is there already does not wait for them.
    fn go_on(&mut self) {
        while !self.tasks.is_quiet() {
            self.replies.flush();
            let replies = &mut self.replies;
            self.tasks.run_ready(|finished| replies.finish(finished));
        }
    }
}

impl Replies {
    /// Sends the answer that waits.
    #[inline]
    pub(super) fn flush(&mut self) {
        if core::mem::take(&mut self.is_waiting) {
            self.send();
        }
    }

    #[inline(never)]
    fn send(&mut self) {
        let replied = self.gates.page.reply(&self.parcel);
        self.forget_bytes();
        if replied < 0 {
            self.refused(replied);
        }
    }

    /// The answer that waited, if any, went out with a receive, which gave `gate`. Whether it was refused: no event came then.
    #[inline]
    pub(super) fn sent(&mut self, gate: i64) -> bool {
        if !core::mem::take(&mut self.is_waiting) {
            return false;
        }
        self.forget_bytes();
        if gate < 0 {
            self.refused(gate);
        }
        gate < 0
    }

    #[inline]
    fn forget_bytes(&mut self) {
        if !matches!(self.bytes, Payload::Empty) {
            self.bytes = Payload::Empty;
        }
    }

    /// Puts a task's end on the way to whoever waits for it.
    #[inline(never)]
    fn finish(&mut self, finished: &mut Finished) {
        self.finish_at_once(finished);
    }

    #[inline(always)]
    fn finish_at_once(&mut self, finished: &mut Finished) {
        self.flush();
        let tag = finished.ticket.tag;
        match &mut finished.outcome {
            Some(Ok(response)) => {
                if let Err(error) = self.answer(tag, response) {
                    self.fail(tag, &error);
                }
            }
            Some(Err(error)) => self.fail(tag, error),
            None => {}
        }
        finished.outcome = None;
    }

    #[inline]
    fn answer(&mut self, tag: u32, response: &mut Response) -> Result<(), Error> {
        response.head.check()?;
        clear(&mut self.parcel, first_word(Message::Reply, Flags::MOVE, response.status, tag), 0);
        self.gates.put(&mut response.payload, response.head.bytes(), false, &mut self.parcel)?;
        self.is_waiting = true;
        match &response.payload {
            // Goes out before its sender's own hold on it ends.
            Payload::Shared(_) => self.flush(),
            Payload::Body(body) if body.held.kind != Kind::Owned => self.flush(),
            Payload::Bytes(_) => self.bytes = core::mem::replace(&mut response.payload, Payload::Empty),
            _ => {}
        }
        Ok(())
    }

    /// Answers with a failure and its text.
    #[cold]
    fn fail(&mut self, tag: u32, error: &Error) {
        let mut text = Payload::from(error.to_string());
        clear(&mut self.parcel, failure(error.status().into(), tag), 0);
        // Without a text, if there is no memory for it: the status alone has to do.
        let _ = self.gates.put(&mut text, &[], false, &mut self.parcel);
        self.is_waiting = true;
        self.bytes = text;
    }

    /// The runtime did not take the answer in the parcel: what moved with it is given up. Whoever waits hears of it.
    #[cold]
    fn refused(&mut self, gate: i64) {
        self.gates.give_up(self.parcel.words);
        let refused = word(&self.parcel, 0);
        if !flags_of(refused).has(Flags::ERROR) {
            self.fail(tag_of(refused), &super::refused(gate));
            self.is_waiting = false;
            let replied = self.gates.page.reply(&self.parcel);
            self.forget_bytes();
            if replied >= 0 {
                return;
            }
        }
        // A text may be more than this function may send; its status alone is not. If that is refused, nobody waits.
        let first = word(&self.parcel, 0);
        clear(&mut self.parcel, failure(code_of(first), tag_of(first)), 0);
        let _ = self.gates.page.reply(&self.parcel);
    }
}

/// The first word of an answer that is a failure.
const fn failure(status: u32, tag: u32) -> u64 {
    first_word(Message::Reply, Flags::ERROR, status, tag)
}
