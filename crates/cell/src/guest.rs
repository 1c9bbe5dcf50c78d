//! Running guests: entering them, feeding them events, and what happens when one ends.

// UNSAFETY: enters guests.
#![expect(unsafe_code, reason = "sets up the registers and rights of the next guest")]

use std::fmt::Write as _;

use baton_abi::cell::{FromCell, SEAT_BYTES};
use baton_abi::gate::{GatePage, Pair, Parcel};
use baton_abi::{Descriptor, Flags, Kind as Message};

use crate::arch::{self, CORE, SHARE};
use crate::os::Ending;
use crate::runtime::Runtime;
use crate::seat::{End, Event, Origin, Seat, State};
use crate::sys;

/// `enter` came back because the guest waits.
pub(crate) const LEFT_IDLE: i64 = 0;
/// The guest ended; the seat says how.
pub(crate) const LEFT_END: i64 = 1;
/// Another thread of the guest is to run: enter again.
pub(crate) const LEFT_AGAIN: i64 = 2;

/// Lines of a parcel; the last is its small payload.
const PARCEL_LINES: usize = size_of::<Parcel>() / 64;
const _: () = assert!(core::mem::offset_of!(Parcel, small) == (PARCEL_LINES - 1) * 64);
/// Return addresses that are looked for in the stack of a guest that faulted.
const FRAMES_MAX: usize = 16;
/// Words of the stack that are looked at for them.
const STACK_WORDS_MAX: u64 = 256;

impl Runtime {
    /// Runs the guest of `seat` until it waits or ends.
    #[inline(always)]
    pub(crate) fn enter(&self, seat: &Seat) {
        self.enter_from(self.current(), seat);
    }

    /// As [`Runtime::enter`], where it is known whose guest is in a gate meanwhile, if one is.
    #[inline(always)]
    pub(crate) fn enter_from(&self, outer: Option<&Seat>, seat: &Seat) {
        let core = CORE.get();
        // SAFETY: the one thread of the cell is here, not in the assembly.
        let host_rsp = unsafe { (*core).host_rsp };
        self.set_current(Some(seat));
        if seat.state.get() != State::Loading {
            seat.state.set(State::Busy);
            seat.space.borrow_mut().note_run();
        }
        seat.opened.set(0);
        // The guest around this one is in a gate, and so is the one that ran last: what x87 registers hold is theirs.
        let x87 = arch::take_x87();
        self.forget_return();
        // Whoever leaves says anew when to come back.
        seat.sleeps_until.set(None);
        let code = loop {
            // SAFETY: as above.
            unsafe { (*core).context = seat.context.get() };
            // SAFETY: as above; guests can read this and not write it.
            unsafe { (*SHARE.get()).pkru = seat.facts.pkru };
            self.is_returned.set(seat.registers().full != 0);
            // SAFETY: the context is the seat's, set by a gate, a trap or the loader. No borrow is alive: every method
            // that leads here ends its own before.
            let code = unsafe { arch::enter(seat.context.get()) };
            if code != LEFT_AGAIN {
                break code;
            }
        };
        self.forget_return();
        arch::take_x87();
        if let Some(x87) = x87.filter(|_| outer.is_some()) {
            arch::give_x87(&x87);
        }
        self.set_current(outer);
        // SAFETY: as above.
        unsafe { (*core).host_rsp = host_rsp };
        if let Some(outer) = outer {
            // SAFETY: as above.
            unsafe { (*core).context = outer.context.get() };
            // SAFETY: as above.
            unsafe { (*SHARE.get()).pkru = outer.facts.pkru };
        }
        if code == LEFT_END {
            self.bury(seat);
        }
    }

    /// Leaves nothing of one guest's registers where another one could read them, or go on with them.
    fn forget_return(&self) {
        if self.is_returned.take() {
            arch::forget_return();
        }
    }

    /// Gives a waiting guest its next event and runs it, as long as it takes events.
    pub(crate) fn feed(&self, seat: &Seat) {
        loop {
            if seat.state.get() == State::Cold && !self.warm(seat) {
                return;
            }
            if seat.state.get() != State::Waiting {
                return;
            }
            let Some(parcel) = self.next_event(seat) else { return };
            self.deliver(seat, &parcel);
            self.settle(seat);
        }
    }

    /// The next event that the guest takes now. A request that waited beyond its time is answered in the guest's place: were it begun,
    /// functions that call each other would go on with what nobody waits for.
    pub(crate) fn next_event(&self, seat: &Seat) -> Option<Parcel> {
        loop {
            match Self::take_event(seat)? {
                Event::Request(parcel) if self.came_too_late(seat, &parcel) => {}
                Event::Request(parcel) => {
                    self.note_start(seat, crate::links::tag_of(&parcel));
                    return Some(parcel);
                }
                Event::Reply(parcel) => return Some(parcel),
                Event::Cancel(tag) => {
                    let words = Descriptor { tag, ..Descriptor::new(Message::Cancel) }.to_words();
                    return Some(Parcel { words, ..Parcel::EMPTY });
                }
            }
        }
    }

    fn take_event(seat: &Seat) -> Option<Event> {
        let mut inbox = seat.inbox.borrow_mut();
        let has_room = seat.has_room();
        let at = inbox.iter().position(|event| has_room || !matches!(event, Event::Request(_)))?;
        inbox.remove(at)
    }

    /// Whether a request's time was over before it was begun; then it is answered.
    fn came_too_late(&self, seat: &Seat, parcel: &Parcel) -> bool {
        let tag = crate::links::tag_of(parcel);
        let deadline = seat.requests.borrow().get(tag).map_or(0, |request| request.deadline_ns);
        if deadline == 0 || sys::coarse_now_ns() < deadline {
            return false;
        }
        self.drop_parcel(seat, parcel);
        self.fail_request(seat, tag, 504, b"its time was over before it was begun");
        true
    }

    /// The guest begins a request: its watch is set to that.
    pub(crate) fn note_start(&self, seat: &Seat, tag: u32) {
        let limit = seat.requests.borrow().get(tag).map_or(0, |request| request.limit_ns);
        // Mostly that is known; a clock is read only where it is not.
        let limit = match (limit, seat.facts.timeout_ns) {
            (0, 0) => 0,
            (0, longest) => {
                let limit = sys::coarse_now_ns().saturating_add(longest);
                if let Some(request) = seat.requests.borrow_mut().get_mut(tag) {
                    request.limit_ns = limit;
                }
                limit
            }
            (limit, _) => limit,
        };
        self.begin(seat, tag, limit);
    }

    /// As [`Runtime::note_start`], where it is known when the guest is stopped that works on it.
    #[inline(always)]
    pub(crate) fn begin(&self, seat: &Seat, tag: u32, limit_ns: u64) {
        seat.active.set(seat.active.get() + 1);
        seat.latest.set(tag);
        seat.deadline_ns.set(limit_ns);
        self.note_overdue(seat, limit_ns);
    }

    /// Writes an event where the waiting guest wants it, and runs the guest.
    #[inline(always)]
    pub(crate) fn deliver(&self, seat: &Seat, parcel: &Parcel) {
        if self.write_parcel(seat, seat.recv_at.get(), parcel) {
            self.wake_receiver(seat);
            self.enter(seat);
        } else {
            self.end_for_receive(seat, parcel);
        }
    }

    #[cold]
    fn end_for_receive(&self, seat: &Seat, parcel: &Parcel) {
        self.drop_parcel(seat, parcel);
        seat.end.set(Some(End::BadReceive));
        self.bury(seat);
    }

    /// Writes a parcel into a guest's memory.
    #[inline(always)]
    pub(crate) fn write_parcel(&self, seat: &Seat, at: u64, parcel: &Parcel) -> bool {
        let from = core::ptr::from_ref(parcel) as u64;
        let [first, _, _, _, _, body_bytes, ..] = parcel.words;
        let [_, flags, ..] = first.to_le_bytes();
        let is_small = Flags(flags).has(Flags::INLINE) && body_bytes > 8;
        let lines = if is_small { PARCEL_LINES } else { PARCEL_LINES - 1 };
        // SAFETY: the range is checked to lie in the seat; the parcel is a value of the runtime's.
        seat.reach.contains(at, size_of::<Parcel>() as u64)
            && unsafe { seat.space.borrow_mut().copy_lines_in(at, from, lines) }
    }

    /// What is to be done once a guest waits: back to its snapshot, if the manifest says so.
    #[inline(always)]
    pub(crate) fn settle(&self, seat: &Seat) {
        if !seat.facts.reset {
            return;
        }
        // What it still has out is given up: an answer could tell one request of another.
        if seat.state.get() == State::Waiting && seat.active.get() == 0 {
            self.reset(seat);
        }
    }

    /// Back to the snapshot, by the shortest way.
    pub(crate) fn reset(&self, seat: &Seat) {
        self.reclaim(seat);
        self.drop_answers(seat);
        let snapshot = seat.snapshot.borrow().clone();
        let Some(snapshot) = snapshot else { return };
        let cooled = snapshot.cool(&seat.space.borrow());
        if cooled {
            self.stand(seat, &snapshot);
        } else {
            seat.state.set(State::Cold);
            self.warm(seat);
        }
    }

    /// Registers, library OS and promises as the snapshot has them.
    fn stand(&self, seat: &Seat, snapshot: &crate::snapshot::Snapshot) {
        // SAFETY: the guest does not run.
        unsafe { *seat.context.get() = snapshot.context.with_rights(seat.facts.pkru) };
        seat.recv_at.set(snapshot.recv_at);
        seat.kept_at.set(snapshot.kept_at);
        if let Some(os) = seat.os.borrow_mut().as_mut() {
            os.restore(&snapshot.os);
        }
        *seat.threads.borrow_mut() = snapshot.threads.clone();
        seat.running.set(snapshot.os.current());
        seat.sleeps_until.set(if snapshot.os.is_single() { None } else { snapshot.os.due() });
        seat.state.set(State::Waiting);
    }

    /// Makes a cold seat ready: its memory is mapped from the snapshot. `false` if that failed.
    pub(crate) fn warm(&self, seat: &Seat) -> bool {
        let (snapshot, executable) = (seat.snapshot.borrow().clone(), seat.executable.borrow().clone());
        let (Some(snapshot), Some(executable)) = (snapshot, executable) else { return false };
        let mut space = seat.space.borrow_mut();
        let mut mapped =
            if space.is_as_captured() { Ok(()) } else { snapshot.restore(&mut space, &executable) };
        if seat.facts.reset && mapped.is_ok() {
            mapped = space.watch();
        }
        drop(space);
        if let Err(errno) = mapped {
            self.complain(seat, &format!("its memory cannot be mapped: {errno}"));
            return false;
        }
        if seat.os.borrow().is_none() {
            *seat.os.borrow_mut() = Some(snapshot.os.clone());
        }
        self.stand(seat, &snapshot);
        true
    }

    fn complain(&self, seat: &Seat, what: &str) {
        self.tell(FromCell::Fault { seat: u32::from(seat.id), at: 0 }, what.as_bytes());
    }

    /// Gives up everything that a seat's guest holds. What requests in the inbox carry is the seat's, but not that guest's.
    fn reclaim(&self, seat: &Seat) {
        let tags = seat.calls.borrow().tags();
        for tag in tags {
            self.abandon(seat, tag);
        }
        let keep = waiting_handles(seat);
        let held: Vec<Pair> = self.book.borrow().held_by(seat.id).collect();
        for pair in held.into_iter().filter(|pair| !keep.contains(&pair.handle)) {
            self.give_up(seat, pair);
        }
        clear_mail(seat, &keep);
    }

    /// Forgets events that are about what the guest did before.
    fn drop_answers(&self, seat: &Seat) {
        let kept = |event: &Event| matches!(event, Event::Request(_));
        let dropped: Vec<Event> = {
            let mut inbox = seat.inbox.borrow_mut();
            let (keep, drop): (Vec<Event>, Vec<Event>) = inbox.drain(..).partition(kept);
            inbox.extend(keep);
            drop
        };
        for event in dropped {
            if let Event::Reply(parcel) = event {
                self.drop_parcel(seat, &parcel);
            }
        }
    }

    /// A guest ended: its requests fail with the reason, everything comes back, and it is reset to its snapshot.
    pub(crate) fn bury(&self, seat: &Seat) {
        let end = seat.end.take().unwrap_or(End::Violation);
        let (text, at) = describe(seat, end);
        let report = format!("{text}{}", frames(seat, end));
        if seat.snapshot.borrow().is_none() {
            // It never came to its first receive: whoever loads it says why.
            seat.last_words.replace(Some(report));
            return;
        }
        self.tell(FromCell::Fault { seat: u32::from(seat.id), at }, report.as_bytes());
        seat.state.set(State::Cold);
        seat.space.borrow_mut().changed = true;
        let status = if end == End::TimedOut { 504 } else { 502 };
        let tags = seat.requests.borrow().tags();
        let waiting = waiting_tags(seat);
        for tag in tags.into_iter().filter(|tag| !waiting.contains(tag)) {
            self.fail_request(seat, tag, status, text.as_bytes());
        }
        seat.active.set(0);
        self.drop_answers(seat);
        self.reclaim(seat);
        seat.threads.borrow_mut().clear();
        seat.sleeps_until.set(None);
        if !seat.inbox.borrow().is_empty() {
            self.mark_ready(seat);
        }
    }

    /// The answer to a request that its guest does not give.
    pub(crate) fn fail_request(&self, seat: &Seat, tag: u32, status: u16, text: &[u8]) {
        let removed = seat.requests.borrow_mut().remove(tag);
        let Some(request) = removed else { return };
        self.report_hop(seat, &request, status);
        match request.origin {
            Origin::Seat { seat: caller, call } => {
                if let Some(caller) = self.seat(caller) {
                    self.complete_with_error(caller, call, status, text);
                }
            }
            outside => self.answer_text(seat, outside, status, request.invocation, text),
        }
    }

    /// A failure as the answer to a call.
    pub(crate) fn complete_with_error(&self, caller: &Seat, call: u32, status: u16, text: &[u8]) {
        let text = text.get(..text.len().min(1024)).unwrap_or_default();
        let d =
            Descriptor { flags: Flags::ERROR, code: status, tag: call, ..Descriptor::new(Message::Reply) };
        let parcel = match self.land_text(caller, text) {
            Ok(body) => crate::hand::parcel(&d, &body, &crate::hand::NOWHERE, 0),
            Err(_) => crate::hand::parcel(&d, &crate::hand::NOWHERE, &crate::hand::NOWHERE, 0),
        };
        self.complete(caller, call, &parcel);
    }
}

/// Requests in the inbox.
pub(crate) fn waiting_tags(seat: &Seat) -> Vec<u32> {
    let inbox = seat.inbox.borrow();
    let tag = |event: &Event| match event {
        Event::Request(parcel) => Some(crate::links::tag_of(parcel)),
        _ => None,
    };
    inbox.iter().filter_map(tag).collect()
}

/// What requests in the inbox carry.
fn waiting_handles(seat: &Seat) -> Vec<u32> {
    let inbox = seat.inbox.borrow();
    let of = |event: &Event| match event {
        Event::Request(parcel) => {
            let d = Descriptor::from_words(parcel.words);
            vec![d.body.handle, d.head.handle]
        }
        _ => Vec::new(),
    };
    inbox.iter().flat_map(of).collect()
}

/// Takes back all mail but `keep`. A later guest must not see what an earlier one had in it.
fn clear_mail(seat: &Seat, keep: &[u32]) {
    let mut mail = seat.mail.borrow_mut();
    for (base, bytes) in mail.clear(keep) {
        crate::memory::wipe(base, bytes);
    }
}

impl From<Ending> for End {
    fn from(ending: Ending) -> End {
        match ending {
            Ending::Exit(status) => End::Exit(status),
            Ending::Signal(signal) => End::Raised(signal),
            Ending::Deadlock => End::Deadlock,
        }
    }
}

/// A text about the end of a guest, and the place in its image where that was.
fn describe(seat: &Seat, end: End) -> (String, u64) {
    let name = &seat.facts.name;
    let in_image = |rip: u64| rip.checked_sub(seat.reach.base()).filter(|at| *at < SEAT_BYTES).unwrap_or(0);
    match end {
        End::Exit(status) => (format!("{name} exited with status {status} in the middle of its work"), 0),
        End::Raised(signal) => (format!("{name} ended itself by signal {signal}"), 0),
        End::Deadlock => (format!("{name} waits for itself: no thread of it can go on"), 0),
        End::TimedOut => (format!("{name} did not come back in its time"), 0),
        End::Violation => (format!("{name} jumped past the check of a gate"), 0),
        End::BadReceive => (format!("{name} wants its requests where it has no memory"), 0),
        End::Fault { signal, code, rip, address, .. } => {
            let what = match (signal, code) {
                (libc::SIGSEGV, 4) => "touched memory behind another key",
                (libc::SIGSEGV, _) => "touched memory that it does not have",
                (libc::SIGBUS, _) => "touched memory that is not there",
                (libc::SIGILL, _) => "ran into an illegal instruction",
                (libc::SIGFPE, _) => "divided by zero",
                _ => "was trapped",
            };
            (format!("{name} {what}: address {address:#x}, signal {signal}, code {code}"), in_image(rip))
        }
    }
}

/// Return addresses on the guest's stack, one a line: by frame pointers where they are kept, else whatever looks like one.
fn frames(seat: &Seat, end: End) -> String {
    let End::Fault { rsp, rbp, .. } = end else { return String::new() };
    let space = seat.space.borrow();
    let base = space.base();
    let code: Vec<(u64, u64)> = space
        .regions()
        .filter(|(_, region)| region.access == sys::Access::Execute)
        .map(|(at, region)| (at, region.end))
        .collect();
    let is_code = |at: u64| code.iter().any(|(from, to)| (*from..*to).contains(&at));
    let word = |at: u64| {
        let mut bytes = [0; 8];
        space.read(at, &mut bytes).then(|| u64::from_le_bytes(bytes))
    };
    let mut text = String::new();
    let mut count = 0;
    let mut add = |at: u64| {
        count += 1;
        // Writing to a string does not fail.
        let _ = write!(text, "\n{:#x}", at - base);
        count < FRAMES_MAX
    };
    let mut frame = rbp;
    let mut found = false;
    while let (Some(next), Some(back)) = (word(frame), word(frame.wrapping_add(8))) {
        if !is_code(back) || !add(back) {
            break;
        }
        found = true;
        if next <= frame {
            break;
        }
        frame = next;
    }
    if !found {
        for nth in 0..STACK_WORDS_MAX {
            let Some(value) = word(rsp.wrapping_add(nth * 8)) else { break };
            if is_code(value) && !add(value) {
                break;
            }
        }
    }
    text
}

/// Tells guests that they may be in a copy.
pub(crate) fn renew_incarnation(page: *mut GatePage) {
    let mut fresh = [0; 8];
    sys::random(&mut fresh);
    // SAFETY: the gate page is mapped in every cell, and only the runtime writes it.
    unsafe { (*page).incarnation = u64::from_le_bytes(fresh) };
}
