//! What gates do. Guests come here with three numbers; nothing is believed of them.

use baton_abi::boot::PoolAccess;
use baton_abi::gate::{self, Grant, PENDING, Pair, Parcel};
use baton_abi::{Descriptor, Flags, Kind as Message, NONE, Rights};
use baton_pool::capability::Range;

use crate::arch::Verdict;
use crate::guest::LEFT_IDLE;
use crate::hand::{HandError, pair_of};
use crate::links::{set_tag, tag_of};
use crate::runtime::{Runtime, runtime};
use crate::seat::{Call, Event, Origin, Request, Seat, Stage, State, Target};
use crate::sys;
use crate::threads::Waiter;

/// Calls of calls of calls that one invocation may come to.
const DEPTH_MAX: u16 = 64;
/// Buffers that one allocation may ask for.
const GRANTS_MAX: u64 = 64;
/// Handles that one gate may give back.
const PAIRS_MAX: u64 = 256;
/// Bytes of one line of the log.
const LOG_MAX: u64 = 8 * 1024;
/// Where a parcel names the map of what its guest keeps.
const KEPT_AT: u64 = core::mem::offset_of!(Parcel, kept_at) as u64;
/// Where a parcel's rights lie, in words.
const RIGHTS_WORD: usize = core::mem::offset_of!(Parcel, rights) / 8;
/// Random bytes at a time.
const RANDOM_MAX: u64 = 64 * 1024;

/// The status of a request that was not begun, in its receipt.
const CANCELLED: u16 = 504;

const EFAULT: i64 = -(libc::EFAULT as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EACCES: i64 = -(libc::EACCES as i64);
const EAGAIN: i64 = -(libc::EAGAIN as i64);
const EBUSY: i64 = -(libc::EBUSY as i64);
const ENOSYS: i64 = -(libc::ENOSYS as i64);
const ESTALE: i64 = -(libc::ESTALE as i64);
pub(crate) const ETIMEDOUT: i64 = -(libc::ETIMEDOUT as i64);
const EHOSTUNREACH: i64 = -(libc::EHOSTUNREACH as i64);
const ELOOP: i64 = -(libc::ELOOP as i64);

/// Every gate comes here, on the runtime's stack, with the runtime's rights.
pub(crate) extern "C" fn baton_dispatch(a: u64, b: u64, c: u64, number: u64) -> Verdict {
    let runtime = runtime();
    let Some(seat) = runtime.current() else { std::process::abort() };
    let is_loading = seat.state.get() == State::Loading || runtime.bell.borrow().is_none();
    let value = match usize::try_from(number).unwrap_or(usize::MAX) {
        gate::RECV => return runtime.gate_recv(seat, a, b),
        gate::CLOCK => runtime.gate_clock(seat, a, b),
        gate::LOG => runtime.gate_log(seat, a, b, c),
        gate::RANDOM => runtime.gate_random(seat, a, b),
        gate::WAIT if !is_loading => return runtime.gate_wait(seat, a, b),
        // Before the first receive there is nobody to call and no memory to give: a snapshot holds none of either.
        _ if is_loading => EACCES,
        gate::REPLY => runtime.gate_reply(seat, a),
        gate::CALL => runtime.gate_call(seat, a, b),
        gate::ALLOC => runtime.gate_alloc(seat, a, b, c),
        gate::FREE => runtime.gate_free(seat, a, b),
        gate::FREEZE => runtime.gate_freeze(seat, a),
        gate::REVOKE => runtime.gate_revoke(seat, a),
        gate::NARROW => runtime.gate_narrow(seat, a, b, c),
        gate::CANCEL => runtime.gate_cancel(seat, a),
        _ => ENOSYS,
    };
    // A guest that asks for much in a loop is in the runtime whenever a tick comes.
    if crate::arch::take_tick() && seat.is_over() {
        return crate::trap::end(seat, crate::seat::End::TimedOut);
    }
    stay(value)
}

const fn stay(value: i64) -> Verdict {
    Verdict { value, leave: 0 }
}

pub(crate) const fn leave(code: i64) -> Verdict {
    Verdict { value: code, leave: 1 }
}

impl Runtime {
    /// The descriptor of a parcel, and the rights that it names: copied once.
    #[inline]
    fn read_parcel(&self, seat: &Seat, at: u64) -> Option<(Descriptor, Rights)> {
        /// The descriptor and the fields behind it up to the rights, in a multiple of sixteen.
        const BYTES: usize = 112;
        let mut bytes = [0u8; BYTES];
        if !seat.space.borrow().read(at, &mut bytes) {
            return None;
        }
        let (words, _) = bytes.as_chunks::<8>();
        let word = |nth: usize| words.get(nth).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let descriptor = Descriptor::from_words(core::array::from_fn(word));
        let rights = u8::try_from(word(RIGHTS_WORD) & 0xff).unwrap_or(0);
        Some((descriptor, Rights(rights & Rights::ALL.0)))
    }

    fn read_pair(&self, seat: &Seat, at: u64) -> Option<Pair> {
        let mut bytes = [0u8; 8];
        if !seat.space.borrow().read(at, &mut bytes) {
            return None;
        }
        let [h0, h1, h2, h3, g0, g1, g2, g3] = bytes;
        Some(Pair {
            handle: u32::from_le_bytes([h0, h1, h2, h3]),
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
        })
    }

    // ---- receive and reply -------------------------------------------------------------------------------------------

    fn gate_recv(&self, seat: &Seat, reply_at: u64, out_at: u64) -> Verdict {
        if seat.state.get() == State::Loading {
            seat.recv_at.set(out_at);
            let mut kept_at = [0; 8];
            if seat.space.borrow().read(out_at.wrapping_add(KEPT_AT), &mut kept_at) {
                seat.kept_at.set(u64::from_le_bytes(kept_at));
            }
            seat.state.set(State::Waiting);
            return self.park(seat);
        }
        if self.bell.borrow().is_none() {
            return stay(EACCES);
        }
        if seat.threads.borrow().receiver.is_some() {
            // Another thread of the guest waits here: there is one way for events to take.
            return stay(EBUSY);
        }
        if reply_at != 0 {
            let replied = self.gate_reply(seat, reply_at);
            if replied < 0 {
                return stay(replied);
            }
        }
        if !seat.space.borrow().contains(out_at, size_of::<Parcel>() as u64) {
            return stay(EFAULT);
        }
        seat.recv_at.set(out_at);
        let resets = seat.facts.reset && seat.active.get() == 0;
        // Whoever waits for the answer that was just given goes first.
        if !self.is_answered.get()
            && !resets
            && let Some(parcel) = self.next_event(seat)
        {
            if self.write_parcel(seat, out_at, &parcel) {
                return stay(1);
            }
            self.drop_parcel(seat, &parcel);
            return stay(EFAULT);
        }
        if !seat.inbox.borrow().is_empty() {
            self.mark_ready(seat);
        }
        seat.state.set(State::Waiting);
        self.park(seat)
    }

    fn gate_reply(&self, seat: &Seat, at: u64) -> i64 {
        let Some((d, _)) = self.read_parcel(seat, at) else { return EFAULT };
        let found = seat.requests.borrow().get(d.tag).map(|request| (request.origin, request.invocation));
        let Some((origin, invocation)) = found else { return ESTALE };
        let d = Descriptor { kind: Message::Reply as u8, invocation, deadline_ns: 0, ..d };
        if d.flags.has(Flags::LEND) && !d.flags.has(Flags::INLINE) && !d.flags.has(Flags::BYTES) {
            // A payload in an answer is the caller's for good: what is only lent cannot be it.
            return EACCES;
        }
        self.copied.set((0, 0));
        self.handed.set(0);
        let refused = match origin {
            Origin::Seat { seat: caller, call } => self.reply_inside(seat, caller, call, &d),
            outside => self.answer_outside(seat, outside, &d),
        };
        if let Err(error) = refused {
            return error.errno();
        }
        let request = seat.requests.borrow_mut().remove(d.tag);
        seat.active.set(seat.active.get().saturating_sub(1));
        if let Some(request) = request.filter(|request| request.hop.is_some()) {
            self.report_hop(seat, &request, d.code);
        }
        0
    }

    fn reply_inside(&self, seat: &Seat, caller: u8, call: u32, d: &Descriptor) -> Result<(), HandError> {
        let waiting = self.seat(caller).filter(|caller| caller.calls.borrow().get(call).is_some());
        let Some(caller) = waiting else {
            // Nobody waits any more: the request is over all the same, and what the answer would have moved is given up.
            self.discard(seat, d);
            return Ok(());
        };
        let mut parcel = Parcel::EMPTY;
        self.hand(seat, caller, (d, Rights::NONE), &mut parcel)?;
        self.complete(caller, call, &mut parcel);
        Ok(())
    }

    /// Gives up what `d` would have moved.
    fn discard(&self, seat: &Seat, d: &Descriptor) {
        let stays = [Flags::INLINE, Flags::BYTES, Flags::SHARE].into_iter().any(|flag| d.flags.has(flag));
        if d.body.handle != NONE && !stays {
            self.give_up(seat, pair_of(d.body));
        }
        if d.head.handle != NONE {
            self.give_up(seat, Pair { handle: d.head.handle, generation: d.head.generation });
        }
    }

    /// The answer to a call is there.
    pub(crate) fn complete(&self, caller: &Seat, tag: u32, parcel: &mut Parcel) {
        set_tag(parcel, tag);
        let mut calls = caller.calls.borrow_mut();
        let Some(call) = calls.get_mut(tag) else {
            drop(calls);
            self.drop_parcel(caller, parcel);
            return;
        };
        let lent = call.lent.take();
        if let Stage::InGate { at } = call.stage {
            call.stage = Stage::Answered(self.give_answer(caller, at, parcel));
            self.is_answered.set(true);
            drop(calls);
        } else {
            calls.remove(tag);
            drop(calls);
            let waiter = caller.threads.borrow_mut().take_waiter(tag);
            if let Some(Waiter { thread, at, .. }) = waiter {
                let given = self.give_answer(caller, at, parcel);
                self.wake_waiter(caller, thread, given);
            } else {
                caller.inbox.borrow_mut().push_back(Event::Reply(*parcel));
                self.mark_ready(caller);
            }
        }
        if let Some(lent) = lent {
            self.take_back(caller, lent);
        }
    }

    // ---- calls -------------------------------------------------------------------------------------------------------

    fn gate_call(&self, seat: &Seat, index: u64, at: u64) -> i64 {
        let Some((d, lend)) = self.read_parcel(seat, at) else { return EFAULT };
        // What a lent payload may be used for: the guest says so in the parcel.
        let lend = if lend == Rights::NONE { Rights::FROZEN } else { lend };
        let callee = usize::try_from(index).ok().and_then(|index| seat.facts.callees.get(index));
        let Some(callee) = callee else { return EACCES };
        let (invocation, inherited, depth, record) = {
            let requests = seat.requests.borrow();
            requests.get(d.tag).map_or((0, 0, 0, false), |request| {
                (request.invocation, request.deadline_ns, request.depth, request.hop.is_some())
            })
        };
        if depth >= DEPTH_MAX {
            return ELOOP;
        }
        let deadline_ns = deadline(callee.timeout_ns, d.deadline_ns, inherited);
        let flags = if record { d.flags.with(baton_abi::Flags::RECORD) } else { d.flags };
        let on_behalf_of = d.tag;
        let d = Descriptor { kind: Message::Request as u8, invocation, deadline_ns, flags, ..d };
        match callee.seat {
            Some(id) => match self.seat(id) {
                Some(to) => self.call_inside(seat, to, (&d, lend), (depth, on_behalf_of), at),
                None => EHOSTUNREACH,
            },
            None => match self.choose_road(seat, &callee.name) {
                Ok(Some(road)) => self.call_away(seat, road, (&d, lend), at),
                Ok(None) => EAGAIN,
                Err(()) => EHOSTUNREACH,
            },
        }
    }

    fn call_inside(
        &self,
        seat: &Seat,
        to: &Seat,
        (d, lend): (&Descriptor, Rights),
        (depth, on_behalf_of): (u16, u32),
        at: u64,
    ) -> i64 {
        self.copied.set((0, 0));
        self.handed.set(0);
        let mut parcel = Parcel::EMPTY;
        // The room for both sides first: from then on only the hand-over can fail, and that changes nothing when it does.
        let call = Call {
            lent: None,
            deadline_ns: d.deadline_ns,
            to: Target::Seat(to.id),
            stage: Stage::InGate { at },
            request: 0,
            on_behalf_of,
        };
        let added = seat.calls.borrow_mut().add(call);
        let Some(call) = added else { return EAGAIN };
        let request = Request {
            origin: Origin::Seat { seat: seat.id, call },
            invocation: d.invocation,
            deadline_ns: d.deadline_ns,
            depth: depth + 1,
            hop: None,
        };
        let added = to.requests.borrow_mut().add(request);
        let handed = match added {
            Some(_) => self.hand(seat, to, (d, lend), &mut parcel).map_err(HandError::errno),
            None => Err(EAGAIN),
        };
        let (lent, tag) = match (handed, added) {
            (Ok(lent), Some(tag)) => (lent, tag),
            (Err(errno), tag) => {
                seat.calls.borrow_mut().remove(call);
                tag.and_then(|tag| to.requests.borrow_mut().remove(tag));
                return errno;
            }
            (Ok(_), None) => return EAGAIN,
        };
        if let Some(call) = seat.calls.borrow_mut().get_mut(call) {
            call.request = tag;
            call.lent = lent;
        }
        if d.flags.has(baton_abi::Flags::RECORD)
            && let Some(request) = to.requests.borrow_mut().get_mut(tag)
        {
            request.hop = self.begin_hop(seat, d);
        }
        set_tag(&mut parcel, tag);
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
        to.active.set(to.active.get() + 1);
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
            calls.remove(tag);
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
                self.write_pending(seat, tag, at)
            }
            Err(error) => {
                seat.calls.borrow_mut().remove(tag);
                error.errno()
            }
        }
    }

    fn gate_cancel(&self, seat: &Seat, tag: u64) -> i64 {
        match u32::try_from(tag) {
            Ok(tag) if self.abandon(seat, tag) => 0,
            _ => ESTALE,
        }
    }

    /// Nobody waits for a call any more: what was lent ends, the callee is told, its answer meets nobody.
    pub(crate) fn abandon(&self, seat: &Seat, tag: u32) -> bool {
        let removed = seat.calls.borrow_mut().remove(tag);
        let Some(call) = removed else {
            return self.drop_late(seat, tag);
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
                if let Some(road) =
                    seat.outgoing.borrow_mut().get_mut(road as usize).filter(|road| !road.dead)
                {
                    road.push(&Descriptor { tag, ..Descriptor::new(Message::Cancel) });
                }
            }
        }
        true
    }

    /// A request whose caller gave it up: one that was not begun never was, of any other its guest is told.
    fn withdraw(&self, seat: &Seat, tag: u32) {
        let waiting = {
            let inbox = seat.inbox.borrow();
            inbox.iter().position(|event| matches!(event, Event::Request(parcel) if tag_of(parcel) == tag))
        };
        let event = waiting.and_then(|at| seat.inbox.borrow_mut().remove(at));
        if let Some(Event::Request(parcel)) = event {
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

    /// The answer of a call that was given up while it waited in the inbox.
    fn drop_late(&self, seat: &Seat, tag: u32) -> bool {
        let at = {
            let inbox = seat.inbox.borrow();
            inbox.iter().position(|event| matches!(event, Event::Reply(parcel) if tag_of(parcel) == tag))
        };
        let event = at.and_then(|at| seat.inbox.borrow_mut().remove(at));
        match event {
            Some(Event::Reply(parcel)) => {
                self.drop_parcel(seat, &parcel);
                true
            }
            _ => false,
        }
    }

    /// For guests without an event loop: runs others until the answer is there.
    fn gate_wait(&self, seat: &Seat, tag: u64, at: u64) -> Verdict {
        let Ok(tag) = u32::try_from(tag) else { return stay(ESTALE) };
        loop {
            if let Some(parcel) = self.take_answer(seat, tag) {
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

    fn give_answer(&self, seat: &Seat, at: u64, parcel: &Parcel) -> i64 {
        if self.write_parcel(seat, at, parcel) {
            return 0;
        }
        self.drop_parcel(seat, parcel);
        EFAULT
    }

    fn take_answer(&self, seat: &Seat, tag: u32) -> Option<Parcel> {
        let at = {
            let inbox = seat.inbox.borrow();
            inbox.iter().position(|event| matches!(event, Event::Reply(parcel) if tag_of(parcel) == tag))
        }?;
        match seat.inbox.borrow_mut().remove(at)? {
            Event::Reply(parcel) => Some(parcel),
            _ => None,
        }
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

    // ---- memory ------------------------------------------------------------------------------------------------------

    fn gate_alloc(&self, seat: &Seat, bytes: u64, count: u64, out: u64) -> i64 {
        if seat.facts.access != PoolAccess::Write {
            return EACCES;
        }
        let mut made = 0u64;
        let mut last = HandError::Full;
        while made < count.min(GRANTS_MAX) {
            let grant = match self.allocate(seat, bytes) {
                Ok(grant) => grant,
                Err(error) => {
                    last = error;
                    break;
                }
            };
            let at = out.wrapping_add(made * size_of::<Grant>() as u64);
            let mut raw = [0u8; 24];
            let fields =
                [u64::from(grant.handle) | u64::from(grant.generation) << 32, grant.base, grant.capacity];
            for (place, field) in raw.chunks_exact_mut(8).zip(fields) {
                place.copy_from_slice(&field.to_le_bytes());
            }
            if !seat.space.borrow_mut().write(at, &raw) {
                self.give_up(seat, Pair { handle: grant.handle, generation: grant.generation });
                return EFAULT;
            }
            made += 1;
        }
        if made == 0 && count > 0 { last.errno() } else { i64::try_from(made).unwrap_or(0) }
    }

    fn gate_free(&self, seat: &Seat, at: u64, count: u64) -> i64 {
        let mut stale = false;
        for nth in 0..count.min(PAIRS_MAX) {
            let Some(pair) = self.read_pair(seat, at.wrapping_add(nth * 8)) else { return EFAULT };
            stale |= !self.give_up(seat, pair);
        }
        if stale { ESTALE } else { 0 }
    }

    fn gate_freeze(&self, seat: &Seat, at: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        if crate::book::what(pair.handle).is_mail() {
            // Mail is the guest's own memory: what it shares of it is copied.
            return if seat.mail.borrow().get(pair).is_some() { 0 } else { ESTALE };
        }
        let restricted = self.book.borrow_mut().restrict(seat.id, pair, Rights::FROZEN);
        let view = self.book.borrow().view(seat.id, pair);
        match (restricted, view) {
            (Ok(rights), Ok(view)) => match self.open_to(seat, view.place, rights) {
                Ok(()) => 0,
                Err(error) => error.errno(),
            },
            (Err(refusal), _) | (_, Err(refusal)) => HandError::Refused(refusal).errno(),
        }
    }

    fn gate_revoke(&self, seat: &Seat, at: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        let view = self.book.borrow().view(seat.id, pair);
        let Ok(view) = view else { return ESTALE };
        let ended = self.book.borrow_mut().end_derived(pair);
        if let Some((first, below)) = ended.split_first() {
            self.retire(seat, first, below);
        }
        // Pages that a reader had open are the owner's again, and nobody else's.
        if !ended.is_empty() && self.open_to(seat, view.place, view.rights).is_err() {
            return HandError::Full.errno();
        }
        let outside = self.revoke_outside(seat, pair);
        i64::try_from(ended.len()).unwrap_or(0) + i64::from(outside)
    }

    fn gate_narrow(&self, seat: &Seat, at: u64, offset: u64, len: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        match self.book.borrow_mut().narrow(seat.id, pair, Range { offset, len }) {
            Ok(()) => 0,
            Err(refusal) => HandError::Refused(refusal).errno(),
        }
    }

    // ---- the rest ----------------------------------------------------------------------------------------------------

    fn gate_clock(&self, seat: &Seat, id: u64, at: u64) -> i64 {
        let now = i32::try_from(id).ok().and_then(sys::clock);
        let Some((seconds, nanoseconds)) = now else { return EINVAL };
        let mut raw = [0u8; 16];
        for (place, field) in raw.chunks_exact_mut(8).zip([seconds, nanoseconds]) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        if seat.space.borrow_mut().write(at, &raw) { 0 } else { EFAULT }
    }

    fn gate_log(&self, seat: &Seat, level: u64, at: u64, len: u64) -> i64 {
        let len = len.min(LOG_MAX);
        let mut text = vec![0u8; usize::try_from(len).unwrap_or(0)];
        if !seat.space.borrow().read(at, &mut text) {
            return EFAULT;
        }
        let letter = match u8::try_from(level) {
            Ok(letter @ (b'E' | b'W' | b'I' | b'D')) => char::from(letter),
            _ => 'I',
        };
        let invocation = self.invocation_of(seat);
        let mut line = format!("\u{1}{letter}{invocation:016x} ").into_bytes();
        line.extend(text.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
        self.tell(baton_abi::cell::FromCell::Log { seat: u32::from(seat.id), stream: 2 }, &line);
        0
    }

    fn gate_random(&self, seat: &Seat, at: u64, len: u64) -> i64 {
        let mut bytes = vec![0u8; usize::try_from(len.min(RANDOM_MAX)).unwrap_or(0)];
        sys::random(&mut bytes);
        if !seat.space.borrow_mut().write(at, &bytes) {
            return EFAULT;
        }
        i64::try_from(bytes.len()).unwrap_or(0)
    }
}

/// The earliest of: the callee's time, the caller's own wish, and when whoever asked the caller stops waiting.
fn deadline(callee_ns: u64, wish: u64, inherited: u64) -> u64 {
    let own = if callee_ns == 0 { 0 } else { sys::coarse_now_ns().saturating_add(callee_ns) };
    [own, wish, inherited].into_iter().filter(|&at| at != 0).min().unwrap_or(0)
}
