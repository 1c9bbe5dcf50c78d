//! Both ends of call lanes, on the data thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::endpoint::Inner;
use super::lane::End;
use super::{Peer, Shared};
use crate::call::{CallError, Callee, CalleeEvent, Caller, CallerEvent, Violation};
use crate::counts::Counted;
use crate::limits::{HEAD_MAX, HELD_BEYOND, INLINE_MAX};
use crate::nudge::Nudge;
use crate::payload::{Answer, AnswerKind, Arrived, Incoming, Outcome, Payload};
use crate::vault::{Now, Terms};
use crate::wire::call::{to_callee, to_caller};
use crate::wire::{Header, Road};

type Waiting = oneshot::Sender<Result<Answer, CallError>>;

/// A lane to a peer.
pub(crate) struct Calling {
    peer: Peer,
    shared: std::sync::Arc<Shared>,
    inner: Weak<Inner>,
    caller: RefCell<Caller>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    pub(crate) wake: Nudge,
}

impl Calling {
    pub(crate) fn new(inner: &Rc<Inner>, peer: &Peer) -> Rc<Calling> {
        let shared = std::sync::Arc::clone(&inner.shared);
        Rc::new(Calling {
            peer: peer.clone(),
            caller: RefCell::new(Caller::new(shared.now(), shared.limits())),
            shared,
            inner: Rc::downgrade(inner),
            waiting: RefCell::default(),
            wake: Nudge::default(),
        })
    }

    /// Calls, and waits. Dropping this cancels at the peer.
    pub(crate) async fn call(self: Rc<Self>, call: Incoming) -> Result<Answer, CallError> {
        let id = self.caller.borrow_mut().begin(self.shared.now(), call)?;
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.wake.give();
        let _out = OnDrop(|| {
            if self.waiting.borrow_mut().remove(&id).is_some() {
                self.caller.borrow_mut().cancel(id);
                self.wake.give();
            }
        });
        // Without an answer the lane's owner is gone.
        answer.await.unwrap_or(Err(CallError::Lost { sent: true }))
    }

    /// The lane is no more.
    pub(crate) fn lost(&self) {
        for (id, error) in self.caller.borrow_mut().lost() {
            self.end(id, Err(error));
        }
    }

    fn end(&self, id: u64, result: Result<Answer, CallError>) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
            let _ = waiting.send(result);
        }
    }

    /// Whether calls can be made: the callee has said how many it takes.
    pub(crate) fn ready(&self) -> bool {
        self.caller.borrow().ready()
    }

    /// What is known of the peer: calls out, round trip, draining.
    pub(crate) fn state(&self) -> (usize, Option<Now>, bool) {
        let caller = self.caller.borrow();
        (caller.in_flight(), caller.round_trip(), caller.away())
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

impl End for Calling {
    const ROAD: Road = Road::Answers;

    fn receive(&self, now: Now, header: &Header, body: &Bytes) -> Result<(), Violation> {
        let frame = to_caller(header, body)?;
        let before = self.ready();
        self.caller.borrow_mut().receive(now, header.id, frame)?;
        if self.ready() != before
            && let Some(inner) = self.inner.upgrade()
        {
            inner.changed.notify_one();
        }
        Ok(())
    }

    fn heard(&self, now: Now) {
        self.caller.borrow_mut().heard(now);
    }

    fn turn(&self, now: Now) -> bool {
        let heard = self.caller.borrow_mut().tick(now);
        loop {
            let Some(event) = self.caller.borrow_mut().event() else { return heard };
            match event {
                CallerEvent::Answered(id, answer) => {
                    count_inline(&self.shared, &answer.body);
                    self.end(id, Ok(answer));
                }
                CallerEvent::Late(id) => self.end(id, Err(CallError::Late)),
                CallerEvent::Unwanted(Answer { body: Arrived::Referenced(reference), .. }) => {
                    if let Some(inner) = self.inner.upgrade() {
                        inner.release(&self.peer.name, reference);
                    }
                }
                CallerEvent::Unwanted(_) => {}
            }
        }
    }

    fn wake_at(&self) -> Now {
        self.caller.borrow().wake_at()
    }

    fn transmit(&self, now: Now, out: &mut Vec<u8>, enough: usize) {
        self.caller.borrow_mut().transmit(now, out, enough);
    }

    fn may_read(&self) -> bool {
        true
    }
}

fn count_inline(shared: &Shared, body: &Arrived) {
    if let Arrived::Inline(bytes) = body {
        shared.counters.add(Counted::BytesInline, bytes.len() as u64);
    }
}

/// A lane from a peer.
pub(crate) struct Called {
    peer: Peer,
    name: Rc<str>,
    inner: Rc<Inner>,
    callee: RefCell<Callee>,
    running: RefCell<BTreeMap<u64, AbortHandle>>,
    wake: Nudge,
    over: Cell<bool>,
}

impl Called {
    pub(crate) fn new(inner: &Rc<Inner>, peer: Peer) -> Rc<Called> {
        let callee = RefCell::new(Callee::new(inner.shared.now(), inner.shared.limits()));
        let name = Rc::from(peer.name.as_str());
        let (running, wake) = (RefCell::default(), Nudge::default());
        Rc::new(Called { peer, name, inner: Rc::clone(inner), callee, running, wake, over: Cell::new(false) })
    }

    pub(crate) fn wake(&self) -> &Nudge {
        &self.wake
    }

    pub(crate) fn drain(&self) {
        self.callee.borrow_mut().drain();
        self.wake.give();
    }

    /// Calls whose answer is not on its way.
    pub(crate) fn in_flight(&self) -> usize {
        self.callee.borrow().in_flight()
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer.name
    }

    /// Whether its peer is still one.
    pub(crate) fn wanted(&self) -> bool {
        self.inner.shared.knows(&self.peer)
    }

    /// The lane is to end: another has taken its place, or its peer is none any more.
    pub(crate) fn hang_up(&self) {
        self.over.set(true);
        self.wake.give();
    }

    /// The lane is no more: what runs for it is dropped, what it held is released.
    pub(crate) fn lost(&self) {
        self.over.set(true);
        self.running.take().into_values().for_each(|task| task.abort());
        let unsent: Vec<Answer> = self.callee.borrow_mut().lost().collect();
        for answer in unsent {
            self.withdraw(&answer);
        }
    }

    fn withdraw(&self, answer: &Answer) {
        if let Arrived::Referenced(reference) = answer.body {
            self.inner.revoke_token(reference.token);
        }
    }

    fn begin(self: &Rc<Self>, id: u64, call: Incoming) {
        self.inner.shared.counters.one(Counted::CallsIn);
        count_inline(&self.inner.shared, &call.body);
        let until = self.inner.shared.now().saturating_add(call.timeout);
        let served = self.inner.service().serve(Rc::clone(&self.name), call);
        let lane = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            let outcome = served.await;
            lane.running.borrow_mut().remove(&id);
            let answer = lane.answer(outcome, until);
            if lane.over.get() || !lane.callee.borrow_mut().answer(id, answer.clone()) {
                lane.withdraw(&answer);
            }
            lane.wake.give();
        });
        self.running.borrow_mut().insert(id, task.abort_handle());
    }

    /// What goes over the wire for an outcome of a call that its caller waits for `until` then. The function has run: what
    /// does not fit is told as its death.
    fn answer(&self, outcome: Outcome, until: Now) -> Answer {
        let Outcome { status, kind, load, head, body } = outcome;
        let died = |status| Answer { status, kind: AnswerKind::Died, load, ..Answer::default() };
        let body = match body {
            _ if head.len() > HEAD_MAX => return died(500),
            Payload::Empty => Arrived::Empty,
            Payload::Inline(bytes) if bytes.len() > INLINE_MAX => return died(500),
            Payload::Inline(bytes) => Arrived::Inline(bytes),
            Payload::Held(held) => {
                let shared = &self.inner.shared;
                let now = shared.now();
                // The answer may be lost with its lane: then nobody ever pulls.
                let wanted = until.saturating_sub(now).saturating_add(HELD_BEYOND);
                let terms = Terms { expires: wanted.min(shared.limits().answer_held), retrievals: 1 };
                match shared.vault().hold(now, &self.name, held, terms) {
                    Ok(reference) => Arrived::Referenced(reference),
                    Err(error) => {
                        tracing::warn!(peer = %self.name, %error, "an answer cannot be held for its caller");
                        return died(503);
                    }
                }
            }
        };
        count_inline(&self.inner.shared, &body);
        Answer { status, kind, load, head, body }
    }
}

impl End for Rc<Called> {
    const ROAD: Road = Road::Calls;

    fn receive(&self, now: Now, header: &Header, body: &Bytes) -> Result<(), Violation> {
        let frame = to_callee(header, body)?;
        self.callee.borrow_mut().receive(now, header.id, frame)
    }

    fn heard(&self, now: Now) {
        self.callee.borrow_mut().heard(now);
    }

    fn turn(&self, now: Now) -> bool {
        loop {
            let Some(event) = self.callee.borrow_mut().event() else { break };
            match event {
                CalleeEvent::Begin(id, call) => self.begin(id, call),
                CalleeEvent::Cancel(id) => {
                    if let Some(task) = self.running.borrow_mut().remove(&id) {
                        task.abort();
                    }
                }
            }
        }
        !self.over.get() && self.callee.borrow_mut().tick(now)
    }

    fn wake_at(&self) -> Now {
        self.callee.borrow().wake_at()
    }

    fn transmit(&self, _: Now, out: &mut Vec<u8>, enough: usize) {
        self.callee.borrow_mut().transmit(out, enough);
    }

    fn may_read(&self) -> bool {
        self.callee.borrow().may_read()
    }
}
