//! Calls from guest to guest: made, waited for, given up.

use core::mem::MaybeUninit;

use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{PENDING, Parcel};
use baton_abi::{Descriptor, Flags, Kind as Message, Rights};

use super::terms::{Terms, earliest};
use super::{
    CANCELLED, DEPTH_MAX, EACCES, EAGAIN, EFAULT, EHOSTUNREACH, ELOOP, ESTALE, ETIMEDOUT, leave, stay,
    stay_in_time,
};
use crate::arch::Verdict;
use crate::guest::LEFT_IDLE;
use crate::hand::{Dispatch, HandError, Sent, few, or_frozen};
use crate::links::tag_of;
use crate::roads::push_over;
use crate::runtime::Runtime;
use crate::seat::{Call, Callee, Event, Origin, Request, Seat, Stage, State, Target};
use crate::sys;

/// How long a call waits for the first replica of its callee, nanoseconds.
const ROAD_WITHIN_NS: u64 = 2_000_000_000;

impl Runtime {
    #[inline(never)]
    pub(super) fn gate_call(&self, seat: &Seat, index: u64, at: u64) -> Verdict {
        stay_in_time(seat, self.call(seat, index, at))
    }

    #[inline(always)]
    fn call(&self, seat: &Seat, index: u64, at: u64) -> i64 {
        let mut words = MaybeUninit::uninit();
        let Some(words) = seat.reach.read_line(at, &mut words) else { return EFAULT };
        let sent = Sent::new(at, words);
        // Two roads, which have nothing in common but what was copied: what both needed would be kept in memory all the way.
        match self.call_at_once(seat, index, sent) {
            Some(result) => result,
            None => self.call_in_turn(seat, index, (at, words)),
        }
    }

    /// Calls a function of this cell that waits for a request, with a few bytes at most. `None` for any other call, of which nothing has
    /// happened then.
    #[inline(always)]
    fn call_at_once(&self, seat: &Seat, index: u64, sent: Sent<'_>) -> Option<i64> {
        let callee = seat.callee(index)?;
        let to = self.seat(callee.seat?).filter(|to| to.takes_at_once())?;
        let few = few(seat, to, sent).filter(|_| !sent.flags().has(Flags::PARALLEL))?;
        let terms = Terms::of(seat, callee, sent)?;
        if terms.record || terms.depth > DEPTH_MAX {
            return None;
        }
        let Some((call, request)) = make(seat, to, sent, terms) else { return Some(EAGAIN) };
        if !self.put_few(seat, (to, to.recv_at.get()), (sent, few), &terms.request(request)) {
            unmake(seat, to, (call, request));
            return None;
        }
        seat.note_call(Target::Seat(to.id), call, few.bytes);
        self.note_turn();
        match terms.limit_ns {
            0 => self.note_start(to, request),
            limit_ns => self.begin(to, request, limit_ns),
        }
        let outer = self.is_answered.replace(false);
        to.leave_receive();
        self.enter_from(Some(seat), to);
        self.is_answered.set(outer);
        Some(self.finish_call(seat, call, sent.at))
    }

    /// Makes any call.
    #[inline(never)]
    fn call_in_turn(&self, seat: &Seat, index: u64, (at, words): (u64, &[u64; DESCRIPTOR_WORDS])) -> i64 {
        let sent = Sent::new(at, words);
        let Some(callee) = seat.callee(index) else { return EACCES };
        let terms = Terms::of(seat, callee, sent).unwrap_or_else(|| Terms::for_nobody(seat, callee, sent));
        if terms.depth > DEPTH_MAX {
            return ELOOP;
        }
        let to = callee.seat.and_then(|id| self.seat(id));
        match to.filter(|_| !sent.flags().has(Flags::PARALLEL)) {
            Some(to) => self.call_inside(seat, to, sent, terms),
            None => self.call_anywhere(seat, callee, sent, terms),
        }
    }

    /// Calls a function that may be elsewhere.
    #[inline(never)]
    fn call_anywhere(&self, seat: &Seat, callee: &Callee, sent: Sent<'_>, terms: Terms) -> i64 {
        let to = match callee.seat {
            None => match self.find_road(seat, &callee.name, terms.deadline_ns) {
                Ok(Some(road)) => Err(road),
                Ok(None) => return EAGAIN,
                Err(()) => return EHOSTUNREACH,
            },
            Some(id) => match (self.road_elsewhere(seat, callee), self.seat(id)) {
                (Some(road), _) => Err(road),
                (None, Some(to)) => Ok(to),
                (None, None) => return EHOSTUNREACH,
            },
        };
        match to {
            Err(road) => {
                let called = match self.describe(seat, sent) {
                    Some((d, lend)) => {
                        self.call_away(seat, road, (&terms.request(0).of(&d), or_frozen(lend)), sent.at)
                    }
                    None => EFAULT,
                };
                if callee.seat.is_some() {
                    // Its callee begins now, not when this cell has nothing more to do.
                    self.flush();
                }
                called
            }
            Ok(to) => {
                let began = sys::now_ns();
                let called = self.call_inside(seat, to, sent, terms);
                callee.parallel.note(sys::now_ns().saturating_sub(began));
                called
            }
        }
    }

    /// A road to a function outside. Its replicas may be asleep, and started since the request came that leads there: the first
    /// one's road is waited for, while others run.
    fn find_road(&self, seat: &Seat, name: &str, deadline_ns: u64) -> Result<Option<u32>, ()> {
        let found = self.choose_road(seat, name);
        if found.is_ok() {
            return found;
        }
        let until = earliest([sys::now_ns().saturating_add(ROAD_WITHIN_NS), deadline_ns]);
        while sys::now_ns() < until {
            self.wait_turn(until);
            let found = self.choose_road(seat, name);
            if found.is_ok() {
                return found;
            }
        }
        Err(())
    }

    /// Calls a function of this cell, whatever it is doing, with whatever it is.
    #[inline(never)]
    fn call_inside(&self, seat: &Seat, to: &Seat, sent: Sent<'_>, terms: Terms) -> i64 {
        self.copied.set((0, 0));
        self.handed.set(0);
        // The room for both sides first: from then on only the hand-over can fail, and that changes nothing when it does.
        let Some((call, request)) = make(seat, to, sent, terms) else { return EAGAIN };
        let as_what = terms.request(request);
        let mut parcel = Parcel::EMPTY;
        let handed = match self.hand_plain(seat, to, sent, &as_what, &mut parcel) {
            Ok(true) => Ok(()),
            Ok(false) => self.hand_more(seat, to, (call, sent), &as_what, &mut parcel),
            Err(error) => Err(error),
        };
        if let Err(error) = handed {
            unmake(seat, to, (call, request));
            return error.errno();
        }
        seat.note_call(Target::Seat(to.id), call, sent.word(5));
        self.run_callee(to, terms.limit_ns, &parcel);
        self.finish_call(seat, call, sent.at)
    }

    /// Hands over what is more than a few bytes, and begins the account of a call that has one.
    #[inline(always)]
    fn hand_more(
        &self,
        seat: &Seat,
        to: &Seat,
        (call, sent): (u32, Sent<'_>),
        as_what: &Dispatch,
        parcel: &mut Parcel,
    ) -> Result<(), HandError> {
        let note = |lent| {
            if let Some(call) = seat.calls.borrow_mut().get_mut(call) {
                call.lent = Some(lent);
            }
        };
        if let Some(lent) = self.hand_lent(seat, to, sent, as_what, parcel)? {
            note(lent);
            return Ok(());
        }
        let (d, lend) = self.describe(seat, sent).ok_or(HandError::Fault)?;
        let d = as_what.of(&d);
        if let Some(lent) = self.hand(seat, to, (&d, or_frozen(lend)), parcel)? {
            note(lent);
        }
        if d.flags.has(Flags::RECORD)
            && let Some(request) = to.requests.borrow_mut().get_mut(as_what.tag)
        {
            request.hop = Some(self.begin_hop(seat, &d));
        }
        Ok(())
    }

    /// Lets the callee work on a call at once if it waits for work, else later.
    fn run_callee(&self, to: &Seat, limit_ns: u64, parcel: &Parcel) {
        self.note_turn();
        if to.state.get() == State::Cold {
            self.warm(to);
        }
        let is_free = to.state.get() == State::Waiting && to.has_room() && to.inbox.borrow().is_empty();
        if !is_free {
            self.run_callee_later(to, parcel);
            return;
        }
        if limit_ns != 0 {
            self.begin(to, tag_of(parcel), limit_ns);
        } else {
            self.note_start(to, tag_of(parcel));
        }
        let outer = self.is_answered.replace(false);
        self.deliver(to, parcel);
        self.settle(to);
        self.is_answered.set(outer);
    }

    #[inline(never)]
    fn run_callee_later(&self, to: &Seat, parcel: &Parcel) {
        to.inbox.borrow_mut().push_back(Event::Request(*parcel));
        self.mark_ready(to);
        if to.state.get() == State::Waiting {
            let outer = self.is_answered.replace(false);
            self.feed(to);
            self.is_answered.set(outer);
        }
    }

    /// The call gate's result: the answer, if it is there.
    #[inline(always)]
    fn finish_call(&self, seat: &Seat, tag: u32, at: u64) -> i64 {
        let answered = seat.calls.borrow_mut().take_if(tag, |call| match call.stage {
            Stage::Answered(result) => Some(result),
            _ => None,
        });
        answered.unwrap_or_else(|| self.leave_pending(seat, tag, at))
    }

    #[inline(never)]
    fn leave_pending(&self, seat: &Seat, tag: u32, at: u64) -> i64 {
        match seat.calls.borrow_mut().get_mut(tag) {
            Some(call) => call.stage = Stage::Pending,
            None => return ESTALE,
        }
        self.write_pending(seat, tag, at)
    }

    fn write_pending(&self, seat: &Seat, tag: u32, at: u64) -> i64 {
        let words = Descriptor { tag, ..Descriptor::new(Message::Request) }.to_words();
        if self.write_parcel(seat, at, &Parcel { words, ..Parcel::EMPTY }) { PENDING } else { EFAULT }
    }

    fn call_away(&self, seat: &Seat, road: u32, (d, lend): (&Descriptor, Rights), at: u64) -> i64 {
        let call = Call {
            lent: None,
            deadline_ns: d.deadline_ns,
            to: Target::Outside(road),
            stage: Stage::Pending,
            request: 0,
            on_behalf_of: 0,
        };
        let added = seat.calls.borrow_mut().add(call);
        let Some(tag) = added else { return EAGAIN };
        match self.call_outside(seat, road, &Descriptor { tag, ..*d }, lend) {
            Ok(lent) => {
                if let Some(call) = seat.calls.borrow_mut().get_mut(tag) {
                    call.lent = lent;
                }
                seat.note_call(Target::Outside(road), tag, d.body.len);
                self.write_pending(seat, tag, at)
            }
            Err(error) => {
                seat.calls.borrow_mut().remove(tag);
                error.errno()
            }
        }
    }

    pub(super) fn gate_cancel(&self, seat: &Seat, tag: u64) -> i64 {
        match u32::try_from(tag) {
            Ok(tag) if self.abandon(seat, tag) => 0,
            _ => ESTALE,
        }
    }

    /// Nobody waits for a call any more: what was lent ends, the callee is told, its answer meets nobody.
    pub(crate) fn abandon(&self, seat: &Seat, tag: u32) -> bool {
        let removed = seat.calls.borrow_mut().remove(tag);
        let Some(call) = removed else {
            // Its answer may wait in the inbox.
            let late = seat.take_answer(tag);
            late.inspect(|parcel| self.drop_parcel(seat, parcel));
            return late.is_some();
        };
        let waiter = seat.threads.borrow_mut().take_waiter(tag);
        if let Some(waiter) = waiter {
            self.wake_waiter(seat, waiter.thread, ESTALE);
        }
        if let Some(lent) = call.lent {
            self.take_back(seat, lent);
        }
        match call.to {
            Target::Seat(id) => {
                if let Some(to) = self.seat(id) {
                    self.withdraw(to, call.request);
                }
            }
            Target::Outside(road) => {
                push_over(&seat.outgoing, road, &Descriptor { tag, ..Descriptor::new(Message::Cancel) });
            }
        }
        true
    }

    /// A request whose caller gave it up: one that was not begun never was, of any other its guest is told.
    fn withdraw(&self, seat: &Seat, tag: u32) {
        if let Some(parcel) = seat.take_unbegun(tag) {
            self.drop_parcel(seat, &parcel);
            let request = seat.requests.borrow_mut().remove(tag);
            if let Some(request) = request {
                self.report_hop(seat, &request, CANCELLED);
            }
            return;
        }
        seat.inbox.borrow_mut().push_back(Event::Cancel(tag));
        self.mark_ready(seat);
    }

    /// For guests without an event loop: runs others until the answer is there.
    #[inline(never)]
    pub(super) fn gate_wait(&self, seat: &Seat, tag: u64, at: u64) -> Verdict {
        let Ok(tag) = u32::try_from(tag) else { return stay(ESTALE) };
        loop {
            if let Some(parcel) = seat.take_answer(tag) {
                return stay(self.give_answer(seat, at, &parcel));
            }
            let deadline = seat.calls.borrow().get(tag).map(|call| call.deadline_ns);
            let Some(deadline_ns) = deadline else { return stay(ESTALE) };
            if deadline_ns != 0 && sys::now_ns() >= deadline_ns {
                self.abandon(seat, tag);
                return stay(ETIMEDOUT);
            }
            if self.park_for(seat, (tag, at), deadline_ns) {
                return leave(LEFT_IDLE);
            }
            self.wait_turn(deadline_ns);
        }
    }

    #[inline(always)]
    pub(super) fn give_answer(&self, seat: &Seat, at: u64, parcel: &Parcel) -> i64 {
        if self.write_parcel(seat, at, parcel) {
            return 0;
        }
        self.drop_parcel(seat, parcel);
        EFAULT
    }

    /// Calls whose time is over get an error as their answer.
    pub(crate) fn expire_calls(&self) {
        let now = sys::coarse_now_ns();
        for seat in &self.seats {
            let tags = seat.calls.borrow().tags();
            for tag in tags {
                let is_over = seat.calls.borrow().get(tag).is_some_and(|call| {
                    call.stage == Stage::Pending && call.deadline_ns != 0 && call.deadline_ns <= now
                });
                if is_over {
                    self.complete_with_error(seat, tag, 504, b"the called function did not answer in time");
                }
            }
        }
    }
}

/// Notes a call with its caller and with its callee; their tags. `None` if one of them has as many as it may have.
#[inline(always)]
fn make(seat: &Seat, to: &Seat, sent: Sent<'_>, terms: Terms) -> Option<(u32, u32)> {
    let mut calls = seat.calls.borrow_mut();
    let mut requests = to.requests.borrow_mut();
    let call = calls.vacancy()?;
    let request = requests.vacancy()?;
    let tags = (call.tag(), request.tag());
    let Terms { invocation, deadline_ns, limit_ns, depth, .. } = terms;
    call.fill(Call {
        lent: None,
        deadline_ns,
        to: Target::Seat(to.id),
        stage: Stage::InGate { at: sent.at },
        request: tags.1,
        on_behalf_of: sent.tag(),
    });
    let origin = Origin::Seat { seat: seat.id, call: tags.0 };
    request.fill(Request { origin, invocation, deadline_ns, limit_ns, depth, hop: None });
    Some(tags)
}

/// Forgets a call whose payload was refused.
#[cold]
fn unmake(seat: &Seat, to: &Seat, (call, request): (u32, u32)) {
    seat.calls.borrow_mut().remove(call);
    to.requests.borrow_mut().remove(request);
}
