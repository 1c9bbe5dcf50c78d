//! What gates do. Guests come here with three numbers; nothing is believed of them.

mod calls;
mod memory;
mod terms;

use core::mem::MaybeUninit;

use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{self, Pair, Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Flags, Kind as Message, NONE, Rights};

use crate::arch::{self, Verdict};
use crate::book::Refusal;
use crate::guest::LEFT_IDLE;
use crate::hand::{Dispatch, HandError, Sent, extent_of, few, pair_of};
use crate::runtime::{Runtime, runtime};
use crate::seat::{Event, Lent, Origin, Request, Seat, Stage, State};
use crate::slab::Slab;
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
/// Where a parcel's small payload lies.
pub(crate) const SMALL_AT: u64 = core::mem::offset_of!(Parcel, small) as u64;
/// Where a parcel's rights lie.
const RIGHTS_AT: u64 = core::mem::offset_of!(Parcel, rights) as u64;
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
    // Before the first receive there is nobody to call and no memory to give: a snapshot holds none of either.
    let is_loading = seat.state.get() == State::Loading || runtime.bell.get().is_none();
    match usize::try_from(number).unwrap_or(usize::MAX) {
        gate::RECV => runtime.gate_recv(seat, a, b),
        gate::CALL if !is_loading => runtime.gate_call(seat, a, b),
        number => runtime.pass(seat, (number, is_loading), [a, b, c]),
    }
}

/// A gate's result, unless the guest's time is over: one that asks for much in a loop is in the runtime whenever a tick comes.
#[inline(always)]
fn stay_in_time(seat: &Seat, value: i64) -> Verdict {
    if crate::arch::take_tick() && seat.is_over() {
        return crate::trap::end(seat, crate::seat::End::TimedOut);
    }
    stay(value)
}

/// A payload in an answer is the caller's for good: what is only lent cannot be it.
fn may_be_kept(d: &Descriptor) -> Result<(), HandError> {
    let is_lent = d.flags.has(Flags::LEND) && !d.flags.has(Flags::INLINE) && !d.flags.has(Flags::BYTES);
    if is_lent { Err(HandError::Refused(Refusal::Denied)) } else { Ok(()) }
}

pub(crate) const fn stay(value: i64) -> Verdict {
    Verdict { value, leave: 0 }
}

pub(crate) const fn leave(code: i64) -> Verdict {
    Verdict { value: code, leave: 1 }
}

impl Runtime {
    /// Every gate but those that calls go through.
    #[inline(never)]
    fn pass(&self, seat: &Seat, (number, is_loading): (usize, bool), [a, b, c]: [u64; 3]) -> Verdict {
        let value = match number {
            gate::CLOCK => self.gate_clock(seat, a, b),
            gate::LOG => self.gate_log(seat, a, b, c),
            gate::RANDOM => self.gate_random(seat, a, b),
            gate::WAIT if !is_loading => return self.gate_wait(seat, a, b),
            _ if is_loading => EACCES,
            gate::REPLY => self.gate_reply(seat, a),
            gate::ALLOC => self.gate_alloc(seat, a, b, c),
            gate::FREE => self.gate_free(seat, a, b),
            gate::FREEZE => self.gate_freeze(seat, a),
            gate::REVOKE => self.gate_revoke(seat, a),
            gate::NARROW => self.gate_narrow(seat, a, b, c),
            gate::CANCEL => self.gate_cancel(seat, a),
            _ => ENOSYS,
        };
        stay_in_time(seat, value)
    }

    /// The descriptor of what a guest sends, and the rights that a lent body comes with.
    pub(crate) fn describe(&self, seat: &Seat, sent: Sent<'_>) -> Option<(Descriptor, Rights)> {
        let mut descriptor = Descriptor::from_words(arch::each(sent.words));
        if descriptor.flags.has(Flags::INLINE) && descriptor.body.len > 8 {
            // What lies in the parcel are bytes of the guest's own like any others.
            descriptor.flags = Flags(descriptor.flags.0 & !Flags::INLINE.0).with(Flags::BYTES);
            descriptor.body.offset = sent.at.wrapping_add(SMALL_AT);
            descriptor.body.len = descriptor.body.len.min(SMALL_BYTES as u64);
        }
        let is_lent = descriptor.flags.has(Flags::LEND);
        let rights = if is_lent { self.read_rights(seat, sent.at)? } else { Rights::NONE };
        Some((descriptor, rights))
    }

    #[inline(always)]
    pub(crate) fn read_rights(&self, seat: &Seat, at: u64) -> Option<Rights> {
        let [rights, ..] = seat.reach.read_word(at.wrapping_add(RIGHTS_AT))?.to_le_bytes();
        Some(Rights(rights & Rights::ALL.0))
    }

    fn read_pair(&self, seat: &Seat, at: u64) -> Option<Pair> {
        seat.reach.read_word(at).map(Pair::from_word)
    }

    // ---- receive and reply -------------------------------------------------------------------------------------------

    #[inline(never)]
    fn gate_recv(&self, seat: &Seat, reply_at: u64, out_at: u64) -> Verdict {
        if seat.state.get() == State::Loading {
            return self.end_loading(seat, out_at);
        }
        if self.bell.get().is_none() {
            return stay(EACCES);
        }
        if seat.threads.borrow().receiver.is_some() {
            // Another thread of the guest waits here: there is one way for events to take.
            return stay(EBUSY);
        }
        if reply_at != 0 {
            let replied = self.answer(seat, reply_at);
            if replied < 0 {
                return stay(replied);
            }
        }
        if !seat.reach.holds::<{ size_of::<Parcel>() as u64 }>(out_at) {
            return stay(EFAULT);
        }
        seat.recv_at.set(out_at);
        let resets = seat.facts.reset && seat.active.get() == 0;
        // Whoever waits for the answer that was just given goes first.
        if !self.is_answered.get() && !resets {
            let given = self.give_next(seat, out_at);
            if given != 0 {
                return stay(given);
            }
        }
        if !seat.inbox.borrow().is_empty() {
            self.mark_ready(seat);
        }
        seat.state.set(State::Waiting);
        if seat.is_single() { leave(LEFT_IDLE) } else { self.park(seat) }
    }

    /// The first receive: the guest is as its snapshot will be.
    #[cold]
    fn end_loading(&self, seat: &Seat, out_at: u64) -> Verdict {
        seat.recv_at.set(out_at);
        if let Some(kept_at) = seat.reach.read_word(out_at.wrapping_add(KEPT_AT)) {
            seat.kept_at.set(kept_at);
        }
        seat.state.set(State::Waiting);
        self.park(seat)
    }

    /// Gives the next event, if there is one: 1, 0 if there is none.
    #[inline(never)]
    fn give_next(&self, seat: &Seat, out_at: u64) -> i64 {
        let Some(parcel) = self.next_event(seat) else { return 0 };
        if self.write_parcel(seat, out_at, &parcel) {
            return 1;
        }
        self.drop_parcel(seat, &parcel);
        EFAULT
    }

    #[inline(never)]
    fn gate_reply(&self, seat: &Seat, at: u64) -> i64 {
        self.answer(seat, at)
    }

    #[inline(always)]
    fn answer(&self, seat: &Seat, at: u64) -> i64 {
        let mut words = MaybeUninit::uninit();
        let Some(words) = seat.reach.read_line(at, &mut words) else { return EFAULT };
        let sent = Sent::new(at, words);
        let answered = self.answer_plain(seat, &mut seat.requests.borrow_mut(), sent);
        let Some((caller, lent)) = answered else { return self.answer_with(seat, at, words) };
        seat.active.set(seat.active.get().saturating_sub(1));
        if let Some(lent) = lent {
            self.take_back(caller, lent);
        }
        0
    }

    /// Answers a caller of this cell that stands in its gate with a few bytes at most. Gives it, and what it lent for the call; `None`
    /// for any other answer, of which nothing has happened then.
    #[inline(always)]
    fn answer_plain(
        &self,
        seat: &Seat,
        requests: &mut Slab<Request>,
        sent: Sent<'_>,
    ) -> Option<(&Seat, Option<Lent>)> {
        let found = requests.find(sent.tag())?;
        let &Request { origin: Origin::Seat { seat: caller, call: tag }, invocation, hop: None, .. } =
            found.value()?
        else {
            return None;
        };
        let caller = self.seat(caller).filter(|caller| !caller.facts.reset)?;
        let few = few(seat, caller, sent)?;
        let mut calls = caller.calls.borrow_mut();
        let call = calls.get_mut(tag)?;
        let Stage::InGate { at } = call.stage else { return None };
        let as_what = Dispatch { kind: Message::Reply, tag, invocation, deadline_ns: 0, record: false };
        if !self.put_few(seat, (caller, at), (sent, few), &as_what) {
            return None;
        }
        call.stage = Stage::Answered(0);
        self.is_answered.set(true);
        caller.note_plain_answer(seat.id, tag, few.bytes);
        found.end();
        Some((caller, call.lent.take()))
    }

    /// Answers whoever waits with whatever it is.
    #[inline(never)]
    fn answer_with(&self, seat: &Seat, at: u64, words: &[u64; DESCRIPTOR_WORDS]) -> i64 {
        let sent = Sent::new(at, words);
        let tag = sent.tag();
        let found = seat.requests.borrow().get(tag).map(|request| {
            let inside = match request.origin {
                Origin::Seat { seat: caller, call } => Some((caller, call)),
                Origin::Node { .. } | Origin::Road { .. } => None,
            };
            (inside, request.invocation, request.hop.is_some())
        });
        let Some((inside, invocation, is_recorded)) = found else { return ESTALE };
        self.copied.set((0, 0));
        self.handed.set(0);
        let replied = match inside {
            Some(call) => self.reply_inside(seat, call, sent, invocation),
            None => self.reply_outside(seat, sent, invocation),
        };
        if let Err(error) = replied {
            return error.errno();
        }
        seat.active.set(seat.active.get().saturating_sub(1));
        if is_recorded {
            self.end_recorded(seat, sent);
        } else {
            seat.requests.borrow_mut().take_if(tag, |_| Some(()));
        }
        0
    }

    #[cold]
    fn end_recorded(&self, seat: &Seat, sent: Sent<'_>) {
        let request = seat.requests.borrow_mut().remove(sent.tag());
        if let Some(request) = request {
            self.report_hop(seat, &request, sent.code());
        }
    }

    #[inline(never)]
    fn reply_outside(&self, seat: &Seat, sent: Sent<'_>, invocation: u64) -> Result<(), HandError> {
        let (d, _) = self.describe(seat, sent).ok_or(HandError::Fault)?;
        let d = Descriptor { kind: Message::Reply as u8, invocation, deadline_ns: 0, ..d };
        may_be_kept(&d)?;
        let origin = seat.requests.borrow().get(d.tag).map(|request| request.origin);
        origin.map_or(Ok(()), |origin| self.answer_outside(seat, origin, &d))
    }

    #[inline(always)]
    fn reply_inside(
        &self,
        seat: &Seat,
        (caller, call): (u8, u32),
        sent: Sent<'_>,
        invocation: u64,
    ) -> Result<(), HandError> {
        let as_what = Dispatch { kind: Message::Reply, tag: call, invocation, deadline_ns: 0, record: false };
        let mut parcel = Parcel::EMPTY;
        let Some(caller) = self.seat(caller) else { return Ok(()) };
        if self.hand_plain(seat, caller, sent, &as_what, &mut parcel)? {
            self.complete_call(caller, call, &parcel);
            Ok(())
        } else {
            self.reply_with(seat, caller, sent, &as_what)
        }
    }

    /// Answers a call with what is more than a few bytes.
    #[inline(never)]
    fn reply_with(
        &self,
        seat: &Seat,
        caller: &Seat,
        sent: Sent<'_>,
        as_what: &Dispatch,
    ) -> Result<(), HandError> {
        let (d, _) = self.describe(seat, sent).ok_or(HandError::Fault)?;
        may_be_kept(&d)?;
        if caller.calls.borrow().get(as_what.tag).is_none() {
            // Nobody waits any more: the request is over all the same, and what the answer would have moved is given up.
            self.discard(seat, &d);
            return Ok(());
        }
        let mut parcel = Parcel::EMPTY;
        self.hand(seat, caller, (&as_what.of(&d), Rights::NONE), &mut parcel)?;
        self.complete(caller, as_what.tag, &parcel);
        Ok(())
    }

    /// Gives up what `d` would have moved.
    fn discard(&self, seat: &Seat, d: &Descriptor) {
        let stays = [Flags::INLINE, Flags::BYTES, Flags::SHARE].into_iter().any(|flag| d.flags.has(flag));
        if d.body.handle != NONE && !stays {
            self.give_up(seat, pair_of(d.body));
        }
        if d.head.handle != NONE {
            self.give_up(seat, pair_of(extent_of(d.head)));
        }
    }

    /// The answer to a call is there, with the call's tag.
    #[inline(never)]
    pub(crate) fn complete(&self, caller: &Seat, tag: u32, parcel: &Parcel) {
        self.complete_call(caller, tag, parcel);
    }

    #[inline(always)]
    fn complete_call(&self, caller: &Seat, tag: u32, parcel: &Parcel) {
        let mut calls = caller.calls.borrow_mut();
        let Some(call) = calls.get_mut(tag) else {
            drop(calls);
            self.drop_parcel(caller, parcel);
            return;
        };
        let lent = call.lent.take();
        caller.note_answer(call.to, tag, parcel);
        if let Stage::InGate { at } = call.stage {
            call.stage = Stage::Answered(self.give_answer(caller, at, parcel));
            self.is_answered.set(true);
            drop(calls);
        } else {
            calls.remove(tag);
            drop(calls);
            self.complete_later(caller, tag, parcel);
        }
        if let Some(lent) = lent {
            self.take_back(caller, lent);
        }
    }

    /// The answer to a call whose caller does not stand in its gate.
    #[inline(never)]
    fn complete_later(&self, caller: &Seat, tag: u32, parcel: &Parcel) {
        let waiter = caller.threads.borrow_mut().take_waiter(tag);
        if let Some(Waiter { thread, at, .. }) = waiter {
            let given = self.give_answer(caller, at, parcel);
            self.wake_waiter(caller, thread, given);
        } else {
            caller.inbox.borrow_mut().push_back(Event::Reply(*parcel));
            self.mark_ready(caller);
        }
    }

    // ---- the rest ----------------------------------------------------------------------------------------------------

    #[inline(never)]
    fn gate_clock(&self, seat: &Seat, id: u64, at: u64) -> i64 {
        let now = i32::try_from(id).ok().and_then(sys::clock);
        let Some((seconds, nanoseconds)) = now else { return EINVAL };
        let raw = [seconds, nanoseconds].map(i64::to_le_bytes);
        if seat.space.borrow_mut().write(at, raw.as_flattened()) { 0 } else { EFAULT }
    }

    #[inline(never)]
    fn gate_log(&self, seat: &Seat, level: u64, at: u64, len: u64) -> i64 {
        let len = len.min(LOG_MAX);
        let mut text = vec![0u8; usize::try_from(len).unwrap_or(0)];
        if !seat.reach.read(at, &mut text) {
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

    #[inline(never)]
    fn gate_random(&self, seat: &Seat, at: u64, len: u64) -> i64 {
        let mut bytes = vec![0u8; usize::try_from(len.min(RANDOM_MAX)).unwrap_or(0)];
        sys::random(&mut bytes);
        if !seat.space.borrow_mut().write(at, &bytes) {
            return EFAULT;
        }
        i64::try_from(bytes.len()).unwrap_or(0)
    }
}
