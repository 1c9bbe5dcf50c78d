//! Calls from guest to guest: made, waited for, given up.

use baton_abi::gate::{PENDING, Parcel};
use baton_abi::{Descriptor, Flags, Kind as Message, Rights};

use super::{
    CANCELLED, DEPTH_MAX, EACCES, EAGAIN, EFAULT, EHOSTUNREACH, ELOOP, ESTALE, ETIMEDOUT, leave, stay,
};
use crate::arch::Verdict;
use crate::guest::LEFT_IDLE;
use crate::roads::push_over;
use crate::runtime::Runtime;
use crate::seat::{Call, Event, Origin, Request, Seat, Stage, State, Target};
use crate::sys;

/// How long a call waits for the first replica of its callee, nanoseconds.
const ROAD_WITHIN_NS: u64 = 2_000_000_000;

impl Runtime {
    pub(super) fn gate_call(&self, seat: &Seat, index: u64, at: u64) -> i64 {
        let Some((d, lend)) = self.read_parcel(seat, at) else { return EFAULT };
        // What a lent payload may be used for: the guest says so in the parcel.
        let lend = if lend == Rights::NONE { Rights::FROZEN } else { lend };
        let callee = usize::try_from(index).ok().and_then(|index| seat.facts.callees.get(index));
        let Some(callee) = callee else { return EACCES };
        let (invocation, inherited, limit, depth, record) = {
            let requests = seat.requests.borrow();
            requests.get(d.tag).map_or((0, 0, 0, 0, false), |request| {
                let record = request.hop.is_some();
                (request.invocation, request.deadline_ns, request.limit_ns, request.depth, record)
            })
        };
        if depth >= DEPTH_MAX {
            return ELOOP;
        }
        let own = own_deadline(callee.timeout_ns, seat.facts.timeout_ns, (inherited, limit));
        let deadline_ns = earliest([own, d.deadline_ns, inherited]);
        // A caller may wish to wait for less than that. It does not decide by its wish when its callee is stopped.
        let limit_ns = earliest([own, limit]);
        let flags = if record { d.flags.with(Flags::RECORD) } else { d.flags };
        let mut d = Descriptor { kind: Message::Request as u8, invocation, deadline_ns, flags, ..d };
        let Some(id) = callee.seat else {
            return match self.find_road(seat, &callee.name, deadline_ns) {
                Ok(Some(road)) => self.call_away(seat, road, (&d, lend), at),
                Ok(None) => EAGAIN,
                Err(()) => EHOSTUNREACH,
            };
        };
        let Some(to) = self.seat(id) else { return EHOSTUNREACH };
        let is_parallel = d.flags.has(Flags::PARALLEL);
        if is_parallel && let Some(road) = self.road_elsewhere(seat, callee) {
            let called = self.call_away(seat, road, (&d, lend), at);
            // Its callee begins now, not when this cell has nothing more to do.
            self.flush();
            return called;
        }
        let began = is_parallel.then(sys::now_ns);
        let called = self.call_inside(seat, to, (&mut d, lend), (depth, limit_ns), at);
        if let Some(began) = began {
            callee.parallel.note(sys::now_ns().saturating_sub(began));
        }
        called
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

    #[inline(always)]
    fn call_inside(
        &self,
        seat: &Seat,
        to: &Seat,
        (d, lend): (&mut Descriptor, Rights),
        (depth, limit_ns): (u16, u64),
        at: u64,
    ) -> i64 {
        self.copied.set((0, 0));
        self.handed.set(0);
        let bytes = d.body.len;
        // The room for both sides first: from then on only the hand-over can fail, and that changes nothing when it does.
        let Some(call) = seat.calls.borrow_mut().reserve() else { return EAGAIN };
        let Some(tag) = to.requests.borrow_mut().reserve() else {
            seat.calls.borrow_mut().unreserve(call);
            return EAGAIN;
        };
        let mut parcel = Parcel::EMPTY;
        // Set in place: a copy would be made before its parts have reached memory.
        let on_behalf_of = core::mem::replace(&mut d.tag, tag);
        let lent = match self.hand(seat, to, (d, lend), &mut parcel) {
            Ok(lent) => lent,
            Err(error) => {
                seat.calls.borrow_mut().unreserve(call);
                to.requests.borrow_mut().unreserve(tag);
                return error.errno();
            }
        };
        let made = Call {
            lent,
            deadline_ns: d.deadline_ns,
            to: Target::Seat(to.id),
            stage: Stage::InGate { at },
            request: tag,
            on_behalf_of,
        };
        seat.calls.borrow_mut().fill(call, made);
        let request = Request {
            origin: Origin::Seat { seat: seat.id, call },
            invocation: d.invocation,
            deadline_ns: d.deadline_ns,
            limit_ns,
            depth: depth + 1,
            hop: d.flags.has(Flags::RECORD).then(|| self.begin_hop(seat, d)),
        };
        to.requests.borrow_mut().fill(tag, request);
        seat.note_call(Target::Seat(to.id), call, bytes);
        self.run_callee(to, &parcel);
        self.finish_call(seat, call, at)
    }

    /// Lets the callee work on a call at once if it waits for work, else later.
    fn run_callee(&self, to: &Seat, parcel: &Parcel) {
        self.note_turn();
        if to.state.get() == State::Cold {
            self.warm(to);
        }
        let is_free = to.state.get() == State::Waiting && to.has_room() && to.inbox.borrow().is_empty();
        if !is_free {
            to.inbox.borrow_mut().push_back(Event::Request(*parcel));
            self.mark_ready(to);
            if to.state.get() == State::Waiting {
                let outer = self.is_answered.replace(false);
                self.feed(to);
                self.is_answered.set(outer);
            }
            return;
        }
        self.note_start(to, parcel);
        let outer = self.is_answered.replace(false);
        self.deliver(to, parcel);
        self.settle(to);
        self.is_answered.set(outer);
    }

    /// The call gate's result: the answer, if it is there.
    fn finish_call(&self, seat: &Seat, tag: u32, at: u64) -> i64 {
        let mut calls = seat.calls.borrow_mut();
        let Some(call) = calls.get_mut(tag) else { return ESTALE };
        if let Stage::Answered(result) = call.stage {
            calls.discard(tag);
            return result;
        }
        call.stage = Stage::Pending;
        drop(calls);
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

/// When a callee's own time is over; 0 for never, or where that is no earlier than what the caller's request is bound by already.
/// A request is stopped within its function's time from its beginning: a callee that has as long, or longer, ends no earlier. Then
/// no clock is read.
#[inline]
fn own_deadline(callee_ns: u64, caller_ns: u64, (inherited, limit): (u64, u64)) -> u64 {
    /// What a coarse clock may be behind.
    const COARSE_NS: u64 = 10_000_000;
    let is_bound = limit != 0 && inherited != 0 && inherited <= limit.saturating_add(COARSE_NS);
    if callee_ns == 0 || is_bound && caller_ns != 0 && callee_ns >= caller_ns {
        return 0;
    }
    sys::coarse_now_ns().saturating_add(callee_ns)
}

/// The earliest of several times, of which 0 is none.
fn earliest<const N: usize>(times: [u64; N]) -> u64 {
    times.into_iter().filter(|&at| at != 0).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callees_own_time_counts_where_it_may_end_first() {
        assert_eq!(own_deadline(0, 60, (1_000, 1_000)), 0, "it has none");
        assert_eq!(own_deadline(60, 60, (1_000, 1_000)), 0, "the caller's request ends no later");
        let now = sys::coarse_now_ns();
        for (callee, caller, bounds) in [
            (59, 60, (1_000, 1_000)),
            (60, 0, (1_000, 1_000)),
            (60, 60, (0, 1_000)),
            (60, 60, (1_000, 0)),
            (60, 60, (1_000 + 20_000_000, 1_000)),
        ] {
            let own = own_deadline(callee, caller, bounds);
            assert!(own >= now + callee, "{callee} in {caller}, bound by {bounds:?}");
        }
    }
}
