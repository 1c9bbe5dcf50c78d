//! Calls, answers, and calls that are given up.

use super::script::{Body, Called, NOBODY, Part, Raw, kind};
use super::world::{Answer, Call, EACCES, ESTALE, Event, PENDING, Request, SeatId, World};

impl World {
    // ---- calls -------------------------------------------------------------------------------------------------------

    pub(super) fn body(&mut self, seat: SeatId, body: Body) -> Body {
        match body {
            Body::Static { len, .. } => Body::Static { len, byte: self.fresh_byte() },
            Body::Bytes(part) => {
                // Addresses of what is not the guest's are another test's.
                let part = Part { beyond: false, ..self.place(seat, part) };
                match self.live(seat, self.entry(seat, part.entry)) {
                    Some(_) => Body::Bytes(part),
                    None => Body::Static { len: 9, byte: self.fresh_byte() },
                }
            }
            Body::Move(part) => Body::Move(self.place(seat, part)),
            Body::Lend(part, rights) => Body::Lend(self.place(seat, part), rights),
            Body::Share(part) => Body::Share(self.place(seat, part)),
            other => other,
        }
    }

    /// A head that is not in the body's buffer.
    pub(super) fn head(&self, seat: SeatId, head: Option<Part>, body: Body) -> Option<Part> {
        let head = self.place(seat, head?);
        let body = match body {
            Body::Move(part) | Body::Lend(part, _) | Body::Share(part) => part.entry,
            _ => NOBODY,
        };
        (head.entry != body && head.entry < NOBODY - 1).then_some(head)
    }

    pub(super) fn call(&mut self, seat: SeatId, place: usize, called: &Called) {
        let to = usize::from(called.callee) % self.seats.len();
        let body = self.body(seat, called.body);
        let head = self.head(seat, called.head, body);
        let number = self.number();
        let raw = Raw { code: number, callee: u16::try_from(to).unwrap(), ..Raw::new(kind::CALL) };
        self.emit(seat, place, raw.carrying(body, head));
        let (parcel, lent) = match self.hand(seat, to, (body, head), false) {
            Ok(handed) => handed,
            Err(errno) => {
                self.record(seat, kind::CALL, errno, [0; 6]);
                return;
            }
        };
        let (call, request) = (self.calls.len(), self.requests.len());
        self.calls.push(Some(Call { caller: seat, callee: to, request, lent, in_gate: true, answer: None }));
        self.requests.push(Some(Request { call: Some(call), parcel, number, script: called.script.clone() }));
        let outer = core::mem::take(&mut self.is_answered);
        if self.seats[to].is_busy || self.seats[to].active.is_some() || !self.seats[to].inbox.is_empty() {
            self.seats[to].inbox.push_back(Event::Request(request));
            self.mark_ready(to);
            self.feed(to);
        } else {
            self.deliver(to, Event::Request(request));
        }
        self.is_answered = outer;
        let answer = self.calls[call].as_mut().and_then(|call| {
            call.in_gate = false;
            call.answer.take()
        });
        match answer {
            Some((parcel, code)) => {
                self.calls[call] = None;
                self.take(seat, (kind::ANSWER, 0), parcel, (code, 2));
            }
            None => {
                self.seats[seat].pending.push(call);
                self.record(seat, kind::CALL, PENDING, [0; 6]);
            }
        }
    }

    pub(super) fn reply(
        &mut self,
        seat: SeatId,
        (id, place): (usize, usize),
        body: Body,
        head: Option<Part>,
        code: u16,
    ) {
        let call = self.requests[id].as_ref().map(|request| request.call);
        let body = match self.body(seat, body) {
            // What the node shares is for other tests.
            Body::Share(_) if call == Some(None) => Body::Nothing,
            body => body,
        };
        let head = self.head(seat, head, body);
        self.emit(seat, place, Raw { code, ..Raw::new(kind::REPLY) }.carrying(body, head));
        let result = match call {
            None => ESTALE,
            Some(None) => self.answer_node(seat, (body, head), code),
            Some(Some(call)) => self.answer_call(seat, call, (body, head), code),
        };
        if result == 0 && self.requests[id].take().is_some() {
            self.seats[seat].active = None;
        }
        self.record(seat, kind::REPLY, result, [0; 6]);
    }

    /// What an answer that nobody waits for would have moved is given up.
    fn discard(&mut self, seat: SeatId, (body, head): (Body, Option<Part>)) {
        let moved = match body {
            Body::Move(part) => Some(part),
            _ => None,
        };
        for part in [moved, head].into_iter().flatten() {
            if let Some(cap) = self.live(seat, self.entry(seat, part.entry)) {
                self.give_up(cap);
            }
        }
    }

    pub(super) fn answer_call(
        &mut self,
        seat: SeatId,
        call: usize,
        carries: (Body, Option<Part>),
        code: u16,
    ) -> i64 {
        if matches!(carries.0, Body::Lend(..)) {
            return EACCES;
        }
        let Some(caller) = self.calls[call].as_ref().map(|call| call.caller) else {
            self.discard(seat, carries);
            return 0;
        };
        let parcel = match self.hand(seat, caller, carries, true) {
            Ok((parcel, _)) => parcel,
            Err(errno) => return errno,
        };
        let Some(of) = self.calls[call].as_mut() else { return 0 };
        let lent = of.lent.take();
        if of.in_gate {
            of.answer = Some((parcel, code));
            self.is_answered = true;
        } else {
            self.calls[call] = None;
            self.seats[caller].inbox.push_back(Event::Answer(call, parcel, code));
            self.mark_ready(caller);
        }
        if let Some(lent) = lent {
            self.take_back(caller, lent);
        }
        0
    }

    pub(super) fn answer_node(
        &mut self,
        seat: SeatId,
        (body, head): (Body, Option<Part>),
        status: u16,
    ) -> i64 {
        // The node holds what it gets like a seat does, and keeps nothing of it.
        let parcel = match self.hand(seat, seat, (body, head), true) {
            Ok((parcel, _)) => parcel,
            Err(errno) => return errno,
        };
        let mut body = parcel.body.map(|landed| self.payload(landed).to_vec()).unwrap_or_default();
        if let Some(inline) = parcel.inline {
            body = inline.payload().to_vec();
        }
        for landed in [parcel.body, parcel.head].into_iter().flatten() {
            // Whoever read it besides does so no more: it left the cell.
            self.end(landed.cap);
        }
        self.answer = Some(Answer { status, body });
        0
    }

    pub(super) fn cancel(&mut self, seat: SeatId, place: usize, nth: u8) {
        let nth = self.nth_pending(seat, nth);
        self.emit(seat, place, Raw { argument: nth, ..Raw::new(kind::CANCEL) });
        let call = self.seats[seat].pending.get(usize::from(nth)).copied();
        let result = call.map_or(ESTALE, |call| self.abandon(seat, call));
        self.record(seat, kind::CANCEL, result, [0; 6]);
    }

    pub(super) fn abandon(&mut self, seat: SeatId, call: usize) -> i64 {
        let Some(Call { callee, request, lent, .. }) = self.calls[call].take() else {
            let mut inbox = self.seats[seat].inbox.iter();
            let at = inbox.position(|event| matches!(event, Event::Answer(of, ..) if *of == call));
            let Some(Event::Answer(_, parcel, _)) = at.and_then(|at| self.seats[seat].inbox.remove(at))
            else {
                return ESTALE;
            };
            self.drop_parcel(seat, parcel);
            return 0;
        };
        if let Some(lent) = lent {
            self.take_back(seat, lent);
        }
        let mut inbox = self.seats[callee].inbox.iter();
        let waiting = inbox.position(|event| matches!(event, Event::Request(id) if *id == request));
        match waiting {
            // It was not begun: it never was.
            Some(at) => {
                self.seats[callee].inbox.remove(at);
                if let Some(Request { parcel, .. }) = self.requests[request].take() {
                    self.drop_parcel(callee, parcel);
                }
            }
            None => {
                self.seats[callee].inbox.push_back(Event::Cancel);
                self.mark_ready(callee);
            }
        }
        0
    }
}
