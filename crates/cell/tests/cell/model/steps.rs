//! What each step of a script comes to.

use super::script::{NO_PART, Op, Part, Raw, kind, sum_of};
use super::world::{
    ALL, EACCES, EFAULT, ESTALE, Event, FROZEN, Landed, READ, SeatId, TURNS_MAX, WRITE, World,
};

impl World {
    // ---- steps -------------------------------------------------------------------------------------------------------

    pub(super) fn step(&mut self, seat: SeatId, (id, place): (usize, usize), op: &Op) {
        let single = |entry: u16| self.place(seat, Part { entry, from: 0, len: 1000, beyond: false });
        match op {
            Op::Alloc { bytes, count } => self.alloc(seat, place, *bytes, *count),
            Op::Fill(part) => self.fill(seat, place, Part { beyond: false, ..self.place(seat, *part) }),
            Op::Read(part) => self.read(seat, place, Part { beyond: false, ..self.place(seat, *part) }),
            Op::Free(first, second) => {
                let (first, second) = (single(*first), second.map(single));
                self.free(seat, place, first, second);
            }
            Op::Freeze(entry) => self.freeze(seat, place, single(*entry)),
            Op::Revoke(entry) => self.revoke(seat, place, single(*entry)),
            Op::Narrow(part) => self.narrow(seat, place, self.place(seat, *part)),
            Op::Bad { gate, place: at } => self.bad(seat, place, *gate, *at),
            Op::Call(called) => self.call(seat, place, called),
            Op::Wait(nth) => self.wait(seat, place, *nth),
            Op::Cancel(nth) => self.cancel(seat, place, *nth),
            Op::Reply(body, head) => self.reply(seat, (id, place), *body, *head, 201),
        }
    }

    pub(super) fn alloc(&mut self, seat: SeatId, place: usize, bytes: u32, count: u8) {
        let (byte, count) = (self.fresh_byte(), count & 3);
        let raw = Raw {
            code: u16::from(byte),
            argument: u16::from(count),
            value: u64::from(bytes),
            ..Raw::new(kind::ALLOC)
        };
        self.emit(seat, place, raw);
        self.record(seat, kind::ALLOC, i64::from(count), [0; 6]);
        // The second of two may have what was written into the first, if that is given again.
        self.seats[seat].seen[0] = true;
        for _ in 0..count {
            let mut words = [0u64; 6];
            for (value, _) in self.seats[seat].seen.iter().enumerate().filter(|(_, seen)| **seen) {
                words[value / 64] |= 1 << (value % 64);
            }
            self.record(seat, kind::GRANT, i64::from(bytes), words);
            let len = bytes as usize;
            let cap = self.make(seat, vec![byte; len]);
            self.add_entry(seat, Landed { cap, start: 0, len, rights: ALL, flag: 0 });
        }
    }

    pub(super) fn fill(&mut self, seat: SeatId, place: usize, part: Part) {
        // Only what a well-behaved guest does: the rest ends it, which other tests look at.
        let Ok(cap) = self.check(seat, part, WRITE) else { return };
        let byte = self.fresh_byte();
        let (start, end) = self.cut(seat, part);
        self.buffers[self.caps[cap].buffer].bytes[start..end].fill(byte);
        self.seats[seat].seen[usize::from(byte)] = true;
        self.emit(seat, place, Raw { code: u16::from(byte), part, ..Raw::new(kind::FILL) });
    }

    pub(super) fn read(&mut self, seat: SeatId, place: usize, part: Part) {
        let Ok(cap) = self.check(seat, part, READ) else { return };
        let (start, end) = self.cut(seat, part);
        let sum = sum_of(&self.buffers[self.caps[cap].buffer].bytes[start..end]);
        self.see(seat, cap);
        self.emit(seat, place, Raw { part, ..Raw::new(kind::READ) });
        self.record(seat, kind::READ, sum.cast_signed(), [0; 6]);
    }

    pub(super) fn free(&mut self, seat: SeatId, place: usize, first: Part, second: Option<Part>) {
        self.emit(seat, place, Raw { part: first, head: second.unwrap_or(NO_PART), ..Raw::new(kind::FREE) });
        let mut result = 0;
        for part in [Some(first), second].into_iter().flatten() {
            match self.live(seat, self.entry(seat, part.entry)) {
                Some(cap) => self.give_up(cap),
                None => result = ESTALE,
            }
        }
        self.record(seat, kind::FREE, result, [ESTALE.cast_unsigned(), 0, 0, 0, 0, 0]);
    }

    pub(super) fn freeze(&mut self, seat: SeatId, place: usize, part: Part) {
        self.emit(seat, place, Raw { part, ..Raw::new(kind::FREEZE) });
        let cap = self.live(seat, self.entry(seat, part.entry));
        // Mail is the guest's own memory: it is copied whenever it is handed over.
        if let Some(cap) = cap.filter(|&cap| !self.is_mail(cap)) {
            self.caps[cap].rights &= FROZEN;
        }
        self.record(seat, kind::FREEZE, if cap.is_some() { 0 } else { ESTALE }, [0; 6]);
    }

    pub(super) fn revoke(&mut self, seat: SeatId, place: usize, part: Part) {
        self.emit(seat, place, Raw { part, ..Raw::new(kind::REVOKE) });
        let cap = self.live(seat, self.entry(seat, part.entry)).filter(|&cap| !self.is_mail(cap));
        let result = cap.map_or(ESTALE, |cap| self.end_derived(cap));
        self.record(seat, kind::REVOKE, result, [0; 6]);
    }

    pub(super) fn narrow(&mut self, seat: SeatId, place: usize, part: Part) {
        self.emit(seat, place, Raw { part, ..Raw::new(kind::NARROW) });
        let live = self.live(seat, self.entry(seat, part.entry)).filter(|&cap| !self.is_mail(cap));
        let result = match (live, self.check(seat, part, 0)) {
            (None, _) => ESTALE,
            (_, Err(errno)) => errno,
            (_, Ok(cap)) => {
                self.caps[cap].range = self.cut(seat, part);
                0
            }
        };
        self.record(seat, kind::NARROW, result, [0; 6]);
    }

    pub(super) fn bad(&mut self, seat: SeatId, place: usize, gate: u8, at: u8) {
        let gate = gate % 14;
        let places = [0, 64, u64::MAX - 7, 0x1000_0000_0000, 0x3000_0000_0000, 0x2000_0000_0000 + (12 << 36)];
        let value = places[usize::from(at) % places.len()];
        let argument = u16::from(gate);
        self.emit(seat, place, Raw { argument, value, ..Raw::new(kind::BAD) });
        let result = match gate {
            11 => EACCES,
            12 | 13 => ESTALE,
            _ => EFAULT,
        };
        self.record(seat, kind::BAD, result, [0; 6]);
    }

    pub(super) fn wait(&mut self, seat: SeatId, place: usize, nth: u8) {
        let nth = self.nth_pending(seat, nth);
        let raw = Raw { argument: nth, ..Raw::new(kind::WAIT) };
        let call = self.seats[seat].pending.get(usize::from(nth)).copied();
        // A callee further up the stack cannot answer before this one has: both would wait for the end of their time.
        let callee = call.and_then(|call| self.calls[call].as_ref()).map(|call| call.callee);
        if callee.is_some_and(|callee| self.seats[callee].is_busy) {
            return;
        }
        self.emit(seat, place, raw);
        for _ in 0..TURNS_MAX {
            let mut inbox = self.seats[seat].inbox.iter();
            let at = inbox.position(|event| matches!(event, Event::Answer(of, ..) if Some(*of) == call));
            if let Some(Event::Answer(_, parcel, code)) = at.and_then(|at| self.seats[seat].inbox.remove(at))
            {
                self.take(seat, (kind::ANSWER, 1), parcel, (code, 2));
                return;
            }
            if call.is_none_or(|call| self.calls[call].is_none()) {
                self.record(seat, kind::WAIT, ESTALE, [0; 6]);
                return;
            }
            self.turn();
        }
        panic!("nobody answers what is waited for");
    }

    pub(super) fn nth_pending(&self, seat: SeatId, nth: u8) -> u16 {
        let count = self.seats[seat].pending.len();
        if count == 0 { 0 } else { u16::try_from(usize::from(nth) % count).unwrap() }
    }
}
