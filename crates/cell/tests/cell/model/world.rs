//! What ought to come of gate calls: buffers, who holds which capability of them, and whose turn it is.
//!
//! Nothing is clever here. A buffer has bytes. A capability names a buffer, a range, rights and a holder, and perhaps the
//! capability that it was derived from. A handle that a seat was given is an index of its list of entries.

use std::collections::VecDeque;

use baton_abi::cell::Trust;
use baton_abi::gate::SMALL_BYTES;

use super::script::{Body, PROGRAM_BYTES, Raw, Record, Script, kind, sum_of};

pub(crate) const READ: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const PASS: u8 = 4;
pub(crate) const ALL: u8 = 7;
pub(crate) const FROZEN: u8 = 5;

pub(crate) const ESTALE: i64 = -116;
pub(crate) const EACCES: i64 = -13;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const EFAULT: i64 = -14;
pub(super) const PENDING: i64 = 1;

/// Rounds in which everything is settled.
pub(super) const TURNS_MAX: usize = 1000;
/// Largest payload that is copied under `trust = "buffer"`.
pub(super) const SMALL_MAX: usize = 64 * 1024;

pub(super) const LEND_FLAG: u64 = 1;
pub(super) const SHARE_FLAG: u64 = 2;
pub(super) const INLINE_FLAG: u64 = 16;

pub(super) type SeatId = usize;
pub(super) type CapId = usize;

#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// It lies in its holder's own memory: what is handed over of it are copies.
    pub(super) is_mail: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    pub(super) buffer: usize,
    /// `None` once it has ended or left the cell.
    pub(super) holder: Option<SeatId>,
    pub(super) parent: Option<CapId>,
    pub(super) rights: u8,
    /// First byte and one behind the last; of a whole buffer, all that it may have.
    pub(super) range: (usize, usize),
    /// What that was at first: however it narrows itself, its holder can touch that much.
    pub(super) part: (usize, usize),
}

/// A handle that a seat was given, with the payload that it came with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) cap: Option<CapId>,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// A payload on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landed {
    pub(super) cap: CapId,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) rights: u8,
    pub(super) flag: u64,
}

/// A payload in the parcel itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inline {
    bytes: [u8; SMALL_BYTES],
    len: usize,
}

impl Inline {
    /// A payload that fits.
    pub(super) fn of(bytes: &[u8]) -> Inline {
        let mut small = [0; SMALL_BYTES];
        small[..bytes.len()].copy_from_slice(bytes);
        Inline { bytes: small, len: bytes.len() }
    }

    /// A word over and over; one word is told whole, however short the payload.
    pub(super) fn words(word: u64, len: usize) -> Inline {
        let bytes = core::array::from_fn(|at| word.to_le_bytes()[at % 8]);
        Inline { bytes, len: len.min(SMALL_BYTES) }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What the puppet says of it.
    fn told(&self) -> u64 {
        let [first, ..] = *self.bytes.as_chunks::<8>().0 else { return 0 };
        if self.len > 8 { sum_of(self.payload()) } else { u64::from_le_bytes(first) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parcel {
    pub(super) body: Option<Landed>,
    pub(super) inline: Option<Inline>,
    pub(super) head: Option<Landed>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lent {
    Cap(CapId),
    /// A copy in the borrower's mail, and where it is from.
    Copy {
        copy: CapId,
        source: CapId,
        start: usize,
        len: usize,
        write_back: bool,
    },
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) caller: SeatId,
    pub(super) callee: SeatId,
    pub(super) request: usize,
    pub(super) lent: Option<Lent>,
    /// The caller is in the gate; the answer, once it is there.
    pub(super) in_gate: bool,
    pub(super) answer: Option<(Parcel, u16)>,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    /// `None` for the node.
    pub(super) call: Option<usize>,
    pub(super) parcel: Parcel,
    pub(super) number: u16,
    pub(super) script: Script,
}

#[derive(Debug)]
pub(super) enum Event {
    Request(usize),
    Answer(usize, Parcel, u16),
    Cancel,
}

/// What the model knows of one seat.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(super) entries: Vec<Entry>,
    /// Calls that were not answered at once, in order.
    pub(super) pending: Vec<usize>,
    pub(super) inbox: VecDeque<Event>,
    pub(super) is_busy: bool,
    /// The request in its hands.
    pub(super) active: Option<usize>,
    /// Bytes that it may have seen.
    pub(super) seen: Vec<bool>,
    /// What it is to do.
    pub(crate) program: Vec<(u16, Vec<Raw>)>,
    /// What it ought to record. Grants say what may be left in a fresh buffer: a set.
    pub(crate) records: Vec<Record>,
}

/// The answer that the node ought to get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// The cell as it ought to be.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) trust: Trust,
    pub(crate) seats: Vec<Seat>,
    pub(super) buffers: Vec<Buffer>,
    pub(super) caps: Vec<Cap>,
    pub(super) calls: Vec<Option<Call>>,
    pub(super) requests: Vec<Option<Request>>,
    pub(super) ready: VecDeque<SeatId>,
    /// The innermost call that waits in its gate is answered.
    pub(super) is_answered: bool,
    pub(super) numbers: u16,
    pub(super) bytes: u8,
    pub(super) answer: Option<Answer>,
}

impl World {
    pub(crate) fn new(trust: Trust, seats: usize) -> World {
        let seat = || Seat { seen: vec![false; 256], ..Seat::default() };
        World {
            trust,
            seats: (0..seats).map(|_| seat()).collect(),
            buffers: Vec::new(),
            caps: Vec::new(),
            calls: Vec::new(),
            requests: Vec::new(),
            ready: VecDeque::new(),
            is_answered: false,
            numbers: 0,
            bytes: 0,
            answer: None,
        }
    }

    /// A request of the node's, and everything that follows from it. Gives the number of the script and the answer.
    pub(crate) fn request(&mut self, seat: SeatId, body: &[u8], script: &Script) -> (u16, Answer) {
        let number = self.number();
        let body = (!body.is_empty()).then(|| self.land_copy(seat, body.to_vec()));
        let parcel = Parcel { body, ..Parcel::default() };
        self.requests.push(Some(Request { call: None, parcel, number, script: script.clone() }));
        self.seats[seat].inbox.push_back(Event::Request(self.requests.len() - 1));
        self.mark_ready(seat);
        self.answer = None;
        self.settle();
        (number, self.answer.take().expect("every script is answered"))
    }

    /// Runs whoever is ready until nobody is.
    pub(super) fn settle(&mut self) {
        while !self.ready.is_empty() {
            self.turn();
        }
    }

    /// A payload of the node's, of bytes that are nobody's yet.
    pub(crate) fn payload_of_node(&mut self, len: usize) -> Vec<u8> {
        vec![self.fresh_byte(); len]
    }

    /// Whether nothing is left of all capabilities.
    pub(crate) fn is_empty(&self) -> bool {
        self.caps.iter().all(|cap| cap.holder.is_none())
    }

    /// How many entries a seat has been given.
    pub(crate) fn entries(&self, seat: SeatId) -> usize {
        self.seats[seat].entries.len()
    }

    /// How many calls were not answered at once.
    pub(crate) fn pending(&self) -> usize {
        self.seats.iter().map(|seat| seat.pending.len()).sum()
    }

    pub(super) fn number(&mut self) -> u16 {
        self.numbers += 1;
        self.numbers
    }

    /// A byte that nobody has written yet, while there are such.
    pub(super) fn fresh_byte(&mut self) -> u8 {
        self.bytes = if self.bytes < PROGRAM_BYTES - 1 { self.bytes + 1 } else { 1 };
        self.bytes
    }

    // ---- whose turn it is --------------------------------------------------------------------------------------------

    pub(super) fn mark_ready(&mut self, seat: SeatId) {
        if !self.ready.contains(&seat) {
            self.ready.push_back(seat);
        }
    }

    pub(super) fn turn(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(seat) = self.ready.pop_front() else { return };
            self.feed(seat);
        }
    }

    pub(super) fn next_event(&mut self, seat: SeatId) -> Option<Event> {
        let seat = &mut self.seats[seat];
        let has_room = seat.active.is_none();
        let at = seat.inbox.iter().position(|event| has_room || !matches!(event, Event::Request(_)))?;
        seat.inbox.remove(at)
    }

    pub(super) fn feed(&mut self, seat: SeatId) {
        while !self.seats[seat].is_busy {
            let Some(event) = self.next_event(seat) else { return };
            self.deliver(seat, event);
        }
    }

    /// The guest runs, until it is in the receive gate and nothing is there for it.
    pub(super) fn deliver(&mut self, seat: SeatId, event: Event) {
        self.seats[seat].is_busy = true;
        let mut next = Some(event);
        while let Some(event) = next {
            self.handle(seat, event);
            next = if self.is_answered { None } else { self.next_event(seat) };
        }
        if !self.seats[seat].inbox.is_empty() {
            self.mark_ready(seat);
        }
        self.seats[seat].is_busy = false;
    }

    pub(super) fn handle(&mut self, seat: SeatId, event: Event) {
        match event {
            Event::Cancel => self.record(seat, kind::EVENT, 9, [0; 6]),
            Event::Answer(_, parcel, code) => self.take(seat, (kind::ANSWER, 2), parcel, (code, 2)),
            Event::Request(id) => {
                let Some(request) = self.requests[id].clone() else { return };
                self.seats[seat].active = Some(id);
                let from = i64::from(request.call.is_some());
                self.take(seat, (kind::REQUEST, from), request.parcel, (request.number, 1));
                self.run(seat, id, &request);
            }
        }
    }

    pub(super) fn run(&mut self, seat: SeatId, id: usize, request: &Request) {
        let place = self.seats[seat].program.len();
        self.seats[seat].program.push((request.number, Vec::new()));
        for step in &request.script.steps {
            self.step(seat, (id, place), step);
        }
        self.reply(seat, (id, place), request.script.answer, request.script.head, 200);
        if self.requests[id].is_some() {
            // What it wanted to answer with was refused.
            self.reply(seat, (id, place), Body::Inline { value: 7, len: 3 }, None, 299);
        }
    }

    pub(super) fn emit(&mut self, seat: SeatId, place: usize, raw: Raw) {
        self.seats[seat].program[place].1.push(raw);
    }

    pub(super) fn record(&mut self, seat: SeatId, kind: u8, result: i64, rest: [u64; 6]) {
        let [a, b, c, d, e, f] = rest;
        self.seats[seat].records.push(Record([u64::from(kind), result.cast_unsigned(), a, b, c, d, e, f]));
    }

    // ---- what comes in -----------------------------------------------------------------------------------------------

    /// A parcel in a guest's hands.
    pub(super) fn take(
        &mut self,
        seat: SeatId,
        (kind, result): (u8, i64),
        parcel: Parcel,
        (code, message): (u16, u64),
    ) {
        let mut words = [u64::from(code) | message << 24, 0, u64::MAX, 0, u64::MAX, 0];
        if let Some(inline) = parcel.inline {
            words[0] |= INLINE_FLAG << 16;
            words[1] = inline.payload().len() as u64;
            words[2] = inline.told();
        }
        if let Some(body) = parcel.body {
            words[0] |= body.flag << 16 | u64::from(body.rights) << 32;
            words[1] = body.len as u64;
            if self.caps[body.cap].holder != Some(seat) {
                // It was taken away again on its way.
                words[2] = u64::MAX - 1;
            } else if body.rights & READ != 0 {
                words[2] = sum_of(self.payload(body));
            }
            self.add_entry(seat, body);
        }
        if let Some(head) = parcel.head {
            words[4] = head.len as u64;
            words[3] = sum_of(self.payload(head));
            if parcel.body.is_none_or(|body| body.cap != head.cap) {
                self.add_entry(seat, head);
            }
        }
        self.record(seat, kind, result, words);
    }

    pub(super) fn payload(&self, landed: Landed) -> &[u8] {
        let buffer = &self.buffers[self.caps[landed.cap].buffer];
        &buffer.bytes[landed.start..landed.start + landed.len]
    }

    pub(super) fn add_entry(&mut self, seat: SeatId, landed: Landed) {
        for entry in self.seats[seat].entries.iter_mut().filter(|entry| entry.cap == Some(landed.cap)) {
            entry.cap = None;
        }
        let Landed { cap, start, len, .. } = landed;
        self.see(seat, cap);
        self.seats[seat].entries.push(Entry { cap: Some(cap), start, len });
    }

    /// The seat may have looked at all that a capability lets it see.
    pub(super) fn see(&mut self, seat: SeatId, cap: CapId) {
        let buffer = self.caps[cap].buffer;
        for &byte in &self.buffers[buffer].bytes {
            self.seats[seat].seen[usize::from(byte)] = true;
        }
    }

    /// Pages of the pool are handed over as they are: what its sender wrote anywhere may lie beside the payload.
    pub(super) fn see_all_of(&mut self, seat: SeatId, other: SeatId) {
        for byte in 0..256 {
            self.seats[seat].seen[byte] |= self.seats[other].seen[byte];
        }
    }
}
