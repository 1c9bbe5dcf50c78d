//! What gates do. Guests come here with three numbers; nothing is believed of them.

mod calls;
mod memory;

use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{self, Pair, Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Flags, Kind as Message, NONE, Rights};

use crate::arch::{self, Verdict};
use crate::hand::{HandError, extent_of, pair_of};
use crate::runtime::{Runtime, runtime};
use crate::seat::{Event, Origin, Seat, Stage, State};
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
const SMALL_AT: u64 = core::mem::offset_of!(Parcel, small) as u64;
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

pub(crate) const fn stay(value: i64) -> Verdict {
    Verdict { value, leave: 0 }
}

pub(crate) const fn leave(code: i64) -> Verdict {
    Verdict { value: code, leave: 1 }
}

impl Runtime {
    /// The descriptor of a parcel, and the rights that a lent body comes with: copied once.
    #[inline]
    fn read_parcel(&self, seat: &Seat, at: u64) -> Option<(Descriptor, Rights)> {
        let mut words = [0u64; DESCRIPTOR_WORDS];
        if !seat.space.borrow().read_words(at, &mut words) {
            return None;
        }
        let mut descriptor = Descriptor::from_words(arch::each(&words));
        if descriptor.flags.has(Flags::INLINE) && descriptor.body.len > 8 {
            // What lies in the parcel are bytes of the guest's own like any others.
            descriptor.flags = Flags(descriptor.flags.0 & !Flags::INLINE.0).with(Flags::BYTES);
            descriptor.body.offset = at.wrapping_add(SMALL_AT);
            descriptor.body.len = descriptor.body.len.min(SMALL_BYTES as u64);
        }
        let is_lent = descriptor.flags.has(Flags::LEND);
        let rights = if is_lent { self.read_rights(seat, at)? } else { Rights::NONE };
        Some((descriptor, rights))
    }

    fn read_rights(&self, seat: &Seat, at: u64) -> Option<Rights> {
        let mut rights = [0];
        let is_there = seat.space.borrow().read(at.wrapping_add(RIGHTS_AT), &mut rights);
        let [rights] = rights;
        is_there.then_some(Rights(rights & Rights::ALL.0))
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
        let tag = d.tag;
        let found = seat.requests.borrow().get(tag).map(|request| {
            let inside = match request.origin {
                Origin::Seat { seat: caller, call } => Some((caller, call)),
                Origin::Node { .. } | Origin::Road { .. } => None,
            };
            (inside, request.invocation, request.hop.is_some())
        });
        let Some((inside, invocation, is_recorded)) = found else { return ESTALE };
        let mut d = Descriptor { kind: Message::Reply as u8, invocation, deadline_ns: 0, ..d };
        if d.flags.has(Flags::LEND) && !d.flags.has(Flags::INLINE) && !d.flags.has(Flags::BYTES) {
            // A payload in an answer is the caller's for good: what is only lent cannot be it.
            return EACCES;
        }
        self.copied.set((0, 0));
        self.handed.set(0);
        let replied = match inside {
            Some(call) => self.reply_inside(seat, call, &mut d),
            None => self.reply_outside(seat, &d),
        };
        if let Err(error) = replied {
            return error.errno();
        }
        seat.active.set(seat.active.get().saturating_sub(1));
        if is_recorded {
            let request = seat.requests.borrow_mut().remove(tag);
            if let Some(request) = request {
                self.report_hop(seat, &request, d.code);
            }
        } else {
            seat.requests.borrow_mut().discard(tag);
        }
        0
    }

    #[inline(never)]
    fn reply_outside(&self, seat: &Seat, d: &Descriptor) -> Result<(), HandError> {
        let origin = seat.requests.borrow().get(d.tag).map(|request| request.origin);
        origin.map_or(Ok(()), |origin| self.answer_outside(seat, origin, d))
    }

    fn reply_inside(
        &self,
        seat: &Seat,
        (caller, call): (u8, u32),
        d: &mut Descriptor,
    ) -> Result<(), HandError> {
        let waiting = self.seat(caller).filter(|caller| caller.calls.borrow().get(call).is_some());
        let Some(caller) = waiting else {
            // Nobody waits any more: the request is over all the same, and what the answer would have moved is given up.
            self.discard(seat, d);
            return Ok(());
        };
        let mut parcel = Parcel::EMPTY;
        d.tag = call;
        self.hand(seat, caller, (d, Rights::NONE), &mut parcel)?;
        self.complete(caller, call, &parcel);
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
    pub(crate) fn complete(&self, caller: &Seat, tag: u32, parcel: &Parcel) {
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
