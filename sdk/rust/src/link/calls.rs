//! Calls that this replica made and has no answer to yet.

use std::task::{Poll, Waker};
use std::time::Duration;

use baton_abi::boot::NODE_PEER;
use baton_abi::{Descriptor, Flags, Kind as Message64};
use baton_pool::capability::{Handle, State};

use super::Link;
use super::edge::{self, Road};
use super::receive::accept;
use super::send::{Sent, To, Way, send};
use crate::call::{Call, Reply};
use crate::error::Error;
use crate::executor::Wakeup;
use crate::message::Message;

enum Pending {
    Free,
    /// The task to wake, and what it will get.
    Waiting(Option<Wakeup>),
    Done(Result<Reply, Error>),
    /// Its own time is over; the task does not know yet.
    Expired,
    /// Nobody waits; the answer is thrown away when it comes.
    Abandoned,
}

struct Slot {
    generation: u16,
    road: usize,
    pending: Pending,
    lent: Option<Handle>,
    deadline_ns: u64,
    /// The caller set a time of its own: it is met to the precision of a timer, others to that of the node's ticks.
    exact: bool,
    /// When it was sent, if it is one that is timed; else 0.
    sent_ns: u64,
}

/// A call that was just sent.
struct NewCall {
    road: usize,
    deadline_ns: u64,
    exact: bool,
    lent: Option<Handle>,
    wakeup: Wakeup,
}

/// The table of pending calls. A tag is an index and a generation: an answer to another call finds nothing.
#[derive(Default)]
pub(crate) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Calls with a time-out of their own.
    timed: u32,
}

/// Answers of one edge that one turn takes before it looks at everything else again: a peer that never stops sending
/// does not stop the others.
const REPLIES_PER_TURN: u32 = 512;
/// Most calls that one replica can have on their way.
const CALLS_MAX: usize = u16::MAX as usize;

fn tag_of(index: u16, generation: u16) -> u32 {
    u32::from(generation) << 16 | u32::from(index)
}

impl Calls {
    #[inline]
    fn add(&mut self, call: NewCall) -> Option<u32> {
        let NewCall { road, deadline_ns, exact, lent, wakeup } = call;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < CALLS_MAX => {
                let pending = Pending::Free;
                self.slots.push(Slot {
                    generation: 0,
                    road,
                    pending,
                    lent: None,
                    deadline_ns: 0,
                    exact: false,
                    sent_ns: 0,
                });
                u16::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.road = road;
        slot.pending = Pending::Waiting(Some(wakeup));
        slot.lent = lent;
        slot.deadline_ns = deadline_ns;
        slot.exact = exact;
        slot.sent_ns = 0;
        self.timed += u32::from(exact);
        Some(tag_of(index, slot.generation))
    }

    /// `tag` is one of the calls that are timed.
    #[cold]
    fn time(&mut self, tag: u32) {
        if let Some(slot) = self.get(tag) {
            slot.sent_ns = crate::clock::now_ns();
        }
    }

    fn get(&mut self, tag: u32) -> Option<&mut Slot> {
        let [i0, i1, g0, g1] = tag.to_le_bytes();
        let slot = self.slots.get_mut(usize::from(u16::from_le_bytes([i0, i1])))?;
        let fits = slot.generation == u16::from_le_bytes([g0, g1]) && !matches!(slot.pending, Pending::Free);
        fits.then_some(slot)
    }

    /// The tags of the slots that `picks` says yes to.
    fn tags(&self, picks: impl Fn(&Slot) -> bool) -> Vec<u32> {
        let picked = (0u16..).zip(&self.slots).filter(|(_, slot)| picks(slot));
        picked.map(|(index, slot)| tag_of(index, slot.generation)).collect()
    }

    /// Ends a call and gives what it was last.
    #[inline]
    fn retire(&mut self, tag: u32) -> Pending {
        let Some(slot) = self.get(tag) else { return Pending::Free };
        slot.generation = slot.generation.wrapping_add(1);
        let pending = core::mem::replace(&mut slot.pending, Pending::Free);
        let exact = core::mem::take(&mut slot.exact);
        self.timed -= u32::from(exact);
        let [i0, i1, ..] = tag.to_le_bytes();
        self.free.push(u16::from_le_bytes([i0, i1]));
        pending
    }

    /// Ends the wait for `tag`; gives the task to wake.
    #[inline]
    fn complete(&mut self, tag: u32, result: Result<Reply, Error>) -> Option<Wakeup> {
        let slot = self.get(tag)?;
        match &mut slot.pending {
            Pending::Waiting(waker) => {
                let waker = waker.take();
                slot.pending = Pending::Done(result);
                waker
            }
            Pending::Expired => {
                slot.pending = Pending::Done(result);
                None
            }
            Pending::Abandoned => {
                self.retire(tag);
                None
            }
            Pending::Free | Pending::Done(_) => None,
        }
    }

    /// The earliest time-out of a single call.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.timed == 0 {
            return None;
        }
        let waiting =
            self.slots.iter().filter(|slot| slot.exact && matches!(slot.pending, Pending::Waiting(_)));
        waiting.map(|slot| slot.deadline_ns).filter(|&deadline| deadline != 0).min()
    }
}

impl Link {
    /// The earliest of: the callee's time, the caller's own wish, and when whoever asked the running task stops waiting.
    #[inline]
    fn call_deadline(&self, callee_ns: u64, timeout: Option<Duration>, inherited_ns: u64) -> u64 {
        let own_ns = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let ns = own_ns.map_or(callee_ns, |own_ns| own_ns.min(callee_ns));
        // It is later now than when the clock was last read: often that is enough to know which one is the earliest.
        if inherited_ns != 0 && self.clock_seen_ns.get().saturating_add(ns) >= inherited_ns {
            return inherited_ns;
        }
        let now_ns = crate::clock::coarse_now_ns();
        self.clock_seen_ns.set(now_ns);
        let own = now_ns.saturating_add(ns).max(1);
        if inherited_ns == 0 { own } else { own.min(inherited_ns) }
    }

    /// Sends a call, if it need not wait for a road; gives its tag.
    #[inline]
    pub(crate) fn start_call(
        &'static self,
        call: &mut Call<'_>,
        waker: &Waker,
    ) -> Result<Option<u32>, Error> {
        // Without credit the payload stays where it is, untouched, until an answer frees some.
        let Some(road) = self.choose_road(call.function, waker, &mut call.wait)? else {
            // Its time runs while it waits for a road, too.
            let since_ns = call.wait.get_or_insert_default().since_ns();
            if call.timeout.is_some_and(|timeout| crate::clock::is_over(since_ns, timeout)) {
                self.stop_waiting(&mut call.wait);
                return Err(Error::DeadlineExceeded { function: call.function.to_owned() });
            }
            return Ok(None);
        };
        call.wait = None;
        self.send_call(road, call, waker).map(Some)
    }

    /// Sends a call over `road`; gives its tag. Its answer wakes `waker`.
    #[inline]
    fn send_call(&'static self, road: usize, call: &mut Call<'_>, waker: &Waker) -> Result<u32, Error> {
        let about = |road: &Road| (road.id, self.way_over(road), road.own.timeout_ns);
        let (id, to, callee_ns) = self.outgoing.borrow().get(road).map_or((0, To::Node, 0), about);
        let current = &self.current;
        let way = Way { to, invocation: current.invocation(), can_lend: true };
        let (payload, head) = call.parts()?;
        let mut sent = send(self, payload, head, way)?;
        let deadline_ns = self.call_deadline(callee_ns, call.timeout, current.deadline_ns());
        let mut calls = self.calls.borrow_mut();
        let wakeup = self.current.wakeup(waker);
        let new = NewCall { road, deadline_ns, exact: call.timeout.is_some(), lent: sent.lent, wakeup };
        let Some(tag) = calls.add(new) else {
            drop(calls);
            self.unsend(to, &sent);
            return Err(Error::Denied { what: "more calls at a time" });
        };
        let record = if current.is_recording() { Flags::RECORD } else { Flags::MOVE };
        let descriptor = Descriptor {
            flags: sent.flags.with(record),
            code: u16::try_from(call.operation).unwrap_or(u16::MAX),
            tag,
            invocation: current.invocation(),
            deadline_ns,
            body: sent.body,
            head: sent.head,
            ..Descriptor::new(Message64::Request)
        };
        let is_handed = to == To::Kernel;
        if is_handed {
            self.hand_over(id, &descriptor, &mut sent);
            if let Some(slot) = calls.get(tag) {
                // Only now it is there.
                slot.lent = sent.lent;
            }
        }
        let mut roads = self.outgoing.borrow_mut();
        if let Some(road) = roads.get_mut(road)
            && (is_handed || road.push(&descriptor).is_ok())
        {
            road.outstanding += 1;
            if road.note_call(&descriptor) {
                calls.time(tag);
            }
            return Ok(tag);
        }
        calls.retire(tag);
        Err(Error::Protocol { what: "the callee broke its ring" })
    }

    /// What was prepared for the kernel is not sent.
    #[cold]
    fn unsend(&self, to: To, sent: &Sent) {
        if to == To::Kernel {
            let Sent { body, head, flags, .. } = *sent;
            self.recover(&Descriptor { body, head, flags, ..Descriptor::new(Message64::Request) });
            if sent.into != baton_abi::NONE {
                self.arena.borrow_mut().put(sent.into);
            }
        }
    }

    /// Whether the call has its answer.
    #[inline]
    pub(crate) fn poll_call(&self, tag: u32, waker: &Waker) -> Poll<Result<Reply, Error>> {
        let mut calls = self.calls.borrow_mut();
        let Some(slot) = calls.get(tag) else {
            return Poll::Ready(Err(Error::Protocol { what: "a call that does not exist" }));
        };
        match &mut slot.pending {
            Pending::Done(_) => {
                let Pending::Done(result) = calls.retire(tag) else { return Poll::Pending };
                Poll::Ready(result)
            }
            Pending::Waiting(kept) => {
                *kept = Some(self.current.wakeup(waker));
                Poll::Pending
            }
            Pending::Expired => {
                let road = slot.road;
                drop(calls);
                self.note_failure(road);
                self.abandon_call(tag);
                Poll::Ready(Err(Error::DeadlineExceeded { function: self.road_name(road) }))
            }
            Pending::Free | Pending::Abandoned => Poll::Pending,
        }
    }

    /// Nobody waits for `tag` any more: what was lent ends now, the callee is told, its answer is thrown away.
    pub(crate) fn abandon_call(&self, tag: u32) {
        let mut calls = self.calls.borrow_mut();
        let Some(slot) = calls.get(tag) else { return };
        let lent = slot.lent.take();
        let road = slot.road;
        if matches!(slot.pending, Pending::Done(_)) {
            let done = calls.retire(tag);
            drop(calls);
            // Dropping an answer gives its buffers back, which may look at the tables again.
            drop(done);
        } else {
            slot.pending = Pending::Abandoned;
            drop(calls);
            if let Some(road) = self.outgoing.borrow_mut().get_mut(road).filter(|road| !road.dead) {
                let cancel = Descriptor { tag, ..Descriptor::new(Message64::Cancel) };
                // Half the ring is kept for these, so there is room; a broken ring is noticed when it is read.
                match self.way_over(road) {
                    To::Kernel => self.hand_over(road.id, &cancel, &mut Sent::nothing()),
                    _ => drop(road.push(&cancel)),
                }
            }
        }
        if let Some(lent) = lent {
            self.take_back(lent);
        }
    }

    /// Ends a capability that was lent for a call.
    fn take_back(&self, lent: Handle) {
        if self.guard.is_some() {
            self.end_lent(lent);
            return;
        }
        let table = &self.memory.table;
        let released = table.hold(lent).is_some_and(|hold| hold.state == State::Released);
        if !released {
            // The callee did not give it up: it is taken, with whatever was derived from it.
            table.revoke(lent, self.memory.derived());
        }
        self.arena.borrow_mut().put(lent.index);
    }

    /// Takes all answers that came over the outgoing edge `index`.
    pub(super) fn poll_replies(&'static self, index: usize) {
        for _ in 0..REPLIES_PER_TURN {
            let (descriptor, from) = {
                let mut roads = self.outgoing.borrow_mut();
                let Some(road) = roads.get_mut(index).filter(|road| !road.dead) else { return };
                let closed = road.duplex.flags().is_closed();
                match edge::pop(road) {
                    Some(descriptor) => (descriptor, self.way_over(road)),
                    None if closed || road.dead => {
                        drop(roads);
                        self.bury_road(index);
                        return;
                    }
                    None => return,
                }
            };
            self.take_reply(index, from, &descriptor);
        }
    }

    #[inline]
    fn take_reply(&'static self, index: usize, from: To, descriptor: &Descriptor) {
        if Message64::from_u8(descriptor.kind) == Some(Message64::Reply) {
            self.take_answer(index, descriptor, from, false);
        }
    }

    /// Ends a call. `is_refused`: by the node, because its request was not handed over.
    #[inline]
    pub(super) fn take_answer(
        &'static self,
        index: usize,
        descriptor: &Descriptor,
        from: To,
        is_refused: bool,
    ) {
        let (lent, sent_ns) = {
            let mut calls = self.calls.borrow_mut();
            let Some(slot) = calls.get(descriptor.tag).filter(|slot| slot.road == index) else {
                drop(calls);
                // An answer to a call that was never made, or answered before: whatever it carries is given up.
                self.discard(descriptor, from);
                return;
            };
            (slot.lent.take(), core::mem::take(&mut slot.sent_ns))
        };
        let took_ns = (sent_ns != 0).then(|| crate::clock::now_ns().saturating_sub(sent_ns));
        let waiter = self.outgoing.borrow_mut().get_mut(index).and_then(|road| {
            road.note_answer(descriptor, took_ns);
            road.outstanding = road.outstanding.saturating_sub(1);
            road.own.waiting.pop_front()
        });
        if let Some((_, waiter)) = waiter {
            waiter.wake();
        }
        let accepted = accept(self, descriptor.body, descriptor.head, descriptor.flags, from);
        let result = accepted.and_then(|accepted| self.read_reply(index, descriptor, accepted, is_refused));
        if let Some(lent) = lent {
            self.take_back(lent);
        }
        let waker = self.calls.borrow_mut().complete(descriptor.tag, result);
        if let Some(waker) = waker {
            self.current.wake(waker);
        }
    }

    #[inline]
    fn read_reply(
        &self,
        road: usize,
        descriptor: &Descriptor,
        accepted: Message,
        is_refused: bool,
    ) -> Result<Reply, Error> {
        if !descriptor.flags.has(Flags::ERROR) {
            return Ok(Reply { status: u32::from(descriptor.code), message: accepted });
        }
        let function = self.road_name(road);
        let by_node = is_refused || (descriptor.flags.has(Flags::REFUSED) && self.leads_to_node(road));
        Err(match (by_node, descriptor.code) {
            (true, 403) if is_refused => {
                Error::Denied { what: "handing on a payload that was revoked, or without the right to" }
            }
            (true, 429) => Error::Overloaded { function },
            (true, 502 | 503) => Error::Unavailable { function },
            (true, 504) => Error::DeadlineExceeded { function },
            (_, status) => {
                let message = String::from_utf8_lossy(accepted.body()).into_owned();
                Error::Function { function, status, message }
            }
        })
    }

    fn leads_to_node(&self, road: usize) -> bool {
        self.outgoing.borrow().get(road).is_some_and(|road| road.peer == NODE_PEER)
    }

    fn note_failure(&self, road: usize) {
        if let Some(road) = self.outgoing.borrow().get(road) {
            road.note_failure();
        }
    }

    fn road_name(&self, road: usize) -> String {
        self.outgoing.borrow().get(road).map(|road| road.name.to_string()).unwrap_or_default()
    }

    /// The peer of an outgoing edge is gone: its calls fail.
    fn bury_road(&self, index: usize) {
        let waiting = {
            let mut roads = self.outgoing.borrow_mut();
            let Some(road) = roads.get_mut(index) else { return };
            road.dead = true;
            road.outstanding = 0;
            road.duplex.flags().mark_drained();
            core::mem::take(&mut road.own.waiting)
        };
        let function = self.road_name(index);
        let mut wakeups = Vec::new();
        let mut lent = Vec::new();
        {
            let mut calls = self.calls.borrow_mut();
            let open = |slot: &Slot| !matches!(slot.pending, Pending::Free | Pending::Done(_));
            for tag in calls.tags(|slot| slot.road == index && open(slot)) {
                lent.extend(calls.get(tag).and_then(|slot| slot.lent.take()));
                let gone = Err(Error::Unavailable { function: function.clone() });
                self.note_failure(index);
                wakeups.extend(calls.complete(tag, gone));
            }
        }
        for lent in lent {
            self.take_back(lent);
        }
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        wakeups.into_iter().for_each(|wakeup| self.current.wake(wakeup));
    }

    /// Fails the calls whose time is over. Looks only when the node ticked, or a call has a time of its own.
    pub(super) fn expire_calls(&self, ticked: bool) {
        if ticked {
            // They look at the time by themselves.
            self.roadless.take().into_iter().for_each(Waker::wake);
        }
        let mut calls = self.calls.borrow_mut();
        if calls.timed == 0 && !ticked {
            return;
        }
        let now = crate::clock::now_ns();
        let is_late = |slot: &Slot| slot.deadline_ns != 0 && slot.deadline_ns <= now;
        for tag in calls.tags(|slot| matches!(slot.pending, Pending::Waiting(_)) && is_late(slot)) {
            let Some(slot) = calls.get(tag) else { continue };
            if let Pending::Waiting(Some(waker)) = core::mem::replace(&mut slot.pending, Pending::Expired) {
                self.current.wake(waker);
            }
        }
    }
}
