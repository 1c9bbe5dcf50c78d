//! What ought to come of gate calls: buffers, who holds which capability of them, and whose turn it is.
//!
//! Nothing is clever here. A buffer has bytes. A capability names a buffer, a range, rights and a holder, and perhaps the
//! capability that it was derived from. A handle that a seat was given is an index of its list of entries.

use std::collections::VecDeque;

use baton_abi::cell::Trust;

use super::script::{Body, NO_PART, NOBODY, Op, Part, Raw, Record, Script, kind, sum_of};

pub(crate) const READ: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const PASS: u8 = 4;
pub(crate) const ALL: u8 = 7;
pub(crate) const FROZEN: u8 = 5;

pub(crate) const ESTALE: i64 = -116;
pub(crate) const EACCES: i64 = -13;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const EFAULT: i64 = -14;
const PENDING: i64 = 1;

/// Largest payload that is copied under `trust = "buffer"`.
const SMALL_MAX: usize = 64 * 1024;

const LEND_FLAG: u64 = 1;
const SHARE_FLAG: u64 = 2;
const INLINE_FLAG: u64 = 16;

type SeatId = usize;
type CapId = usize;

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// It lies in its holder's own memory: what is handed over of it are copies.
    is_mail: bool,
}

#[derive(Clone, Copy, Debug)]
struct Cap {
    buffer: usize,
    /// `None` once it has ended or left the cell.
    holder: Option<SeatId>,
    parent: Option<CapId>,
    rights: u8,
    /// First byte and one behind the last; of a whole buffer, all that it may have.
    range: (usize, usize),
}

/// A handle that a seat was given, with the payload that it came with.
#[derive(Clone, Copy, Debug)]
struct Entry {
    cap: Option<CapId>,
    start: usize,
    len: usize,
}

/// A payload on its way.
#[derive(Clone, Copy, Debug)]
struct Landed {
    cap: CapId,
    start: usize,
    len: usize,
    rights: u8,
    flag: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Parcel {
    body: Option<Landed>,
    inline: Option<(u64, u16)>,
    head: Option<Landed>,
}

#[derive(Clone, Copy, Debug)]
enum Lent {
    Cap(CapId),
    /// A copy in the borrower's mail, and where it is from.
    Copy { copy: CapId, source: CapId, start: usize, len: usize, write_back: bool },
}

#[derive(Debug)]
struct Call {
    caller: SeatId,
    callee: SeatId,
    request: usize,
    lent: Option<Lent>,
    /// The caller is in the gate; the answer, once it is there.
    in_gate: bool,
    answer: Option<(Parcel, u16)>,
}

#[derive(Clone, Debug)]
struct Request {
    /// `None` for the node.
    call: Option<usize>,
    parcel: Parcel,
    number: u16,
    script: Script,
}

#[derive(Debug)]
enum Event {
    Request(usize),
    Answer(usize, Parcel, u16),
    Cancel,
}

/// What the model knows of one seat.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    entries: Vec<Entry>,
    /// Calls that were not answered at once, in order.
    pending: Vec<usize>,
    inbox: VecDeque<Event>,
    is_busy: bool,
    /// The request in its hands.
    active: Option<usize>,
    /// Bytes that it may have seen.
    seen: Vec<bool>,
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
    trust: Trust,
    pub(crate) seats: Vec<Seat>,
    buffers: Vec<Buffer>,
    caps: Vec<Cap>,
    calls: Vec<Option<Call>>,
    requests: Vec<Option<Request>>,
    ready: VecDeque<SeatId>,
    /// The innermost call that waits in its gate is answered.
    is_answered: bool,
    numbers: u16,
    bytes: u8,
    answer: Option<Answer>,
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
    fn settle(&mut self) {
        while !self.ready.is_empty() {
            self.turn();
        }
    }

    /// How many entries a seat has been given.
    pub(crate) fn entries(&self, seat: SeatId) -> usize {
        self.seats[seat].entries.len()
    }

    /// How many calls were not answered at once.
    pub(crate) fn pending(&self) -> usize {
        self.seats.iter().map(|seat| seat.pending.len()).sum()
    }

    fn number(&mut self) -> u16 {
        self.numbers += 1;
        self.numbers
    }

    /// A byte that nobody has written yet, while there are such.
    fn fresh_byte(&mut self) -> u8 {
        self.bytes = self.bytes.checked_add(1).unwrap_or(1);
        self.bytes
    }

    // ---- whose turn it is --------------------------------------------------------------------------------------------

    fn mark_ready(&mut self, seat: SeatId) {
        if !self.ready.contains(&seat) {
            self.ready.push_back(seat);
        }
    }

    fn turn(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(seat) = self.ready.pop_front() else { return };
            self.feed(seat);
        }
    }

    fn next_event(&mut self, seat: SeatId) -> Option<Event> {
        let seat = &mut self.seats[seat];
        let has_room = seat.active.is_none();
        let at = seat.inbox.iter().position(|event| has_room || !matches!(event, Event::Request(_)))?;
        seat.inbox.remove(at)
    }

    fn feed(&mut self, seat: SeatId) {
        while !self.seats[seat].is_busy {
            let Some(event) = self.next_event(seat) else { return };
            self.deliver(seat, event);
        }
    }

    /// The guest runs, until it is in the receive gate and nothing is there for it.
    fn deliver(&mut self, seat: SeatId, event: Event) {
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

    fn handle(&mut self, seat: SeatId, event: Event) {
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

    fn run(&mut self, seat: SeatId, id: usize, request: &Request) {
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

    fn emit(&mut self, seat: SeatId, place: usize, raw: Raw) {
        self.seats[seat].program[place].1.push(raw);
    }

    fn record(&mut self, seat: SeatId, kind: u8, result: i64, rest: [u64; 6]) {
        let [a, b, c, d, e, f] = rest;
        self.seats[seat].records.push(Record([u64::from(kind), result.cast_unsigned(), a, b, c, d, e, f]));
    }

    // ---- what comes in -----------------------------------------------------------------------------------------------

    /// A parcel in a guest's hands.
    fn take(&mut self, seat: SeatId, (kind, result): (u8, i64), parcel: Parcel, (code, message): (u16, u64)) {
        let mut words = [u64::from(code) | message << 24, 0, u64::MAX, 0, u64::MAX, 0];
        if let Some((value, len)) = parcel.inline {
            words[0] |= INLINE_FLAG << 16;
            words[1] = u64::from(len);
            words[2] = value;
        }
        if let Some(body) = parcel.body {
            words[0] |= body.flag << 16 | u64::from(body.rights) << 32;
            words[1] = body.len as u64;
            if body.rights & READ != 0 {
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

    fn payload(&self, landed: Landed) -> &[u8] {
        let buffer = &self.buffers[self.caps[landed.cap].buffer];
        &buffer.bytes[landed.start..landed.start + landed.len]
    }

    fn add_entry(&mut self, seat: SeatId, landed: Landed) {
        for entry in self.seats[seat].entries.iter_mut().filter(|entry| entry.cap == Some(landed.cap)) {
            entry.cap = None;
        }
        let Landed { cap, start, len, .. } = landed;
        self.see(seat, cap);
        self.seats[seat].entries.push(Entry { cap: Some(cap), start, len });
    }

    /// The seat may have looked at all that a capability lets it see.
    fn see(&mut self, seat: SeatId, cap: CapId) {
        let buffer = self.caps[cap].buffer;
        for &byte in &self.buffers[buffer].bytes {
            self.seats[seat].seen[usize::from(byte)] = true;
        }
    }

    /// Pages of the pool are handed over as they are: what its sender wrote anywhere may lie beside the payload.
    fn see_all_of(&mut self, seat: SeatId, other: SeatId) {
        for byte in 0..256 {
            self.seats[seat].seen[byte] |= self.seats[other].seen[byte];
        }
    }

    // ---- capabilities ------------------------------------------------------------------------------------------------

    fn entry(&self, seat: SeatId, index: u16) -> Entry {
        let nothing = Entry { cap: None, start: 0, len: 64 };
        self.seats[seat].entries.get(usize::from(index)).copied().unwrap_or(nothing)
    }

    /// The same step with an entry that there is, if there is one.
    fn place(&self, seat: SeatId, part: Part) -> Part {
        match self.entries(seat) {
            0 => Part { entry: NOBODY - 1, ..part },
            count => Part { entry: part.entry % u16::try_from(count).unwrap(), ..part },
        }
    }

    /// First byte and one behind the last.
    fn cut(&self, seat: SeatId, part: Part) -> (usize, usize) {
        let entry = self.entry(seat, part.entry);
        let from = entry.len * usize::from(part.from) / 1000;
        let len = (entry.len * usize::from(part.len) / 1000).min(entry.len - from);
        let start = entry.start + from;
        (start, start + len + if part.beyond { 1 << 30 } else { 0 })
    }

    fn live(&self, seat: SeatId, entry: Entry) -> Option<CapId> {
        entry.cap.filter(|&cap| self.caps[cap].holder == Some(seat))
    }

    /// The capability that a part names, if it is the seat's, has the rights and covers the range.
    fn check(&self, seat: SeatId, part: Part, need: u8) -> Result<CapId, i64> {
        let cap = self.live(seat, self.entry(seat, part.entry)).ok_or(ESTALE)?;
        let of = self.caps[cap];
        if of.rights & need != need {
            return Err(EACCES);
        }
        let (start, end) = self.cut(seat, part);
        if start < of.range.0 || end > of.range.1 { Err(EINVAL) } else { Ok(cap) }
    }

    fn is_mail(&self, cap: CapId) -> bool {
        self.buffers[self.caps[cap].buffer].is_mail
    }

    /// A new buffer of a seat's with these bytes.
    fn make(&mut self, seat: SeatId, bytes: Vec<u8>) -> CapId {
        let is_mail = self.trust == Trust::Buffer && bytes.len() <= SMALL_MAX;
        // Its capacity is larger than the payload; parts that are beyond are far beyond.
        let range = (0, bytes.len().max(1) + (1 << 20));
        self.buffers.push(Buffer { bytes, is_mail });
        let buffer = self.buffers.len() - 1;
        self.caps.push(Cap { buffer, holder: Some(seat), parent: None, rights: ALL, range });
        self.caps.len() - 1
    }

    fn land_copy(&mut self, to: SeatId, bytes: Vec<u8>) -> Landed {
        let len = bytes.len();
        Landed { cap: self.make(to, bytes), start: 0, len, rights: ALL, flag: 0 }
    }

    fn derive(&mut self, parent: CapId, to: SeatId, rights: u8, range: (usize, usize)) -> CapId {
        let of = self.caps[parent];
        let rights = of.rights & rights;
        self.caps.push(Cap { holder: Some(to), parent: Some(parent), rights, range, ..of });
        self.caps.len() - 1
    }

    /// Ends what was derived from a capability; says how many there were.
    fn end_derived(&mut self, parent: CapId) -> i64 {
        let children: Vec<CapId> = (0..self.caps.len())
            .filter(|&cap| self.caps[cap].parent == Some(parent) && self.caps[cap].holder.is_some())
            .collect();
        children.into_iter().map(|cap| self.end(cap)).sum()
    }

    fn end(&mut self, cap: CapId) -> i64 {
        if let Some(seat) = self.caps[cap].holder.take() {
            self.see(seat, cap);
        }
        1 + self.end_derived(cap)
    }

    fn drop_parcel(&mut self, seat: SeatId, parcel: Parcel) {
        for landed in [parcel.body, parcel.head].into_iter().flatten() {
            if self.caps[landed.cap].holder == Some(seat) {
                self.end(landed.cap);
            }
        }
    }

    // ---- handing over ------------------------------------------------------------------------------------------------

    /// Hands what a step carries to another seat, or says why not, and then nothing has changed.
    fn hand(
        &mut self,
        from: SeatId,
        to: SeatId,
        (body, head): (Body, Option<Part>),
        is_answer: bool,
    ) -> Result<(Parcel, Option<Lent>), i64> {
        let head_cap = match head {
            Some(head) => Some(self.check_head(from, head)?),
            None => None,
        };
        let mut lent = None;
        let mut parcel = Parcel::default();
        match body {
            Body::Nothing => {}
            Body::Inline { value, len } => parcel.inline = Some((value, len & 7)),
            Body::Static { len, byte } => parcel.body = Some(self.land_copy(to, vec![byte; usize::from(len)])),
            Body::Bytes(part) => {
                let bytes = self.readable(from, part).ok_or(EFAULT)?;
                parcel.body = Some(self.land_copy(to, bytes));
            }
            Body::Lend(..) if is_answer => return Err(EACCES),
            Body::Move(part) | Body::Lend(part, _) | Body::Share(part) => {
                let cap = self.live(from, self.entry(from, part.entry)).ok_or(ESTALE)?;
                parcel.body = Some(if self.is_mail(cap) {
                    self.hand_mail(from, to, body, part, &mut lent)?
                } else {
                    self.hand_buffer(from, to, body, part, &mut lent)?
                });
            }
        }
        if let (Some(head), Some(cap)) = (head, head_cap) {
            parcel.head = Some(self.move_cap(from, to, cap, head));
        }
        Ok((parcel, lent))
    }

    fn check_head(&self, from: SeatId, head: Part) -> Result<CapId, i64> {
        let cap = self.check(from, head, 0)?;
        if self.caps[cap].parent.is_some() { Err(EACCES) } else { Ok(cap) }
    }

    /// Moves a whole buffer, or a copy of a part of mail.
    fn move_cap(&mut self, from: SeatId, to: SeatId, cap: CapId, part: Part) -> Landed {
        let (start, end) = self.cut(from, part);
        if self.is_mail(cap) {
            let bytes = self.buffers[self.caps[cap].buffer].bytes[start..end].to_vec();
            self.end(cap);
            return self.land_copy(to, bytes);
        }
        if self.trust == Trust::App {
            self.see_all_of(to, from);
        } else {
            let bytes = &mut self.buffers[self.caps[cap].buffer].bytes;
            bytes[..start].fill(0);
            bytes[end..].fill(0);
        }
        self.see(from, cap);
        self.caps[cap].holder = Some(to);
        Landed { cap, start, len: end - start, rights: self.caps[cap].rights, flag: 0 }
    }

    fn hand_buffer(
        &mut self,
        from: SeatId,
        to: SeatId,
        body: Body,
        part: Part,
        lent: &mut Option<Lent>,
    ) -> Result<Landed, i64> {
        let (rights, flag) = match body {
            Body::Lend(_, rights) => (if rights & ALL == 0 { FROZEN } else { rights & ALL }, LEND_FLAG),
            Body::Share(_) => (FROZEN, SHARE_FLAG),
            _ => {
                let cap = self.check(from, part, 0)?;
                return if self.caps[cap].parent.is_some() {
                    Err(EACCES)
                } else {
                    Ok(self.move_cap(from, to, cap, part))
                };
            }
        };
        let parent = self.check(from, part, PASS)?;
        let (start, end) = self.cut(from, part);
        let cap = self.derive(parent, to, rights, (start, end));
        self.see_all_of(to, from);
        if flag == LEND_FLAG {
            *lent = Some(Lent::Cap(cap));
        }
        Ok(Landed { cap, start, len: end - start, rights: self.caps[cap].rights, flag })
    }

    fn hand_mail(
        &mut self,
        from: SeatId,
        to: SeatId,
        body: Body,
        part: Part,
        lent: &mut Option<Lent>,
    ) -> Result<Landed, i64> {
        let source = self.check(from, part, 0)?;
        let (start, end) = self.cut(from, part);
        let len = end - start;
        let bytes = self.buffers[self.caps[source].buffer].bytes[start..end].to_vec();
        let landed = self.land_copy(to, bytes);
        match body {
            Body::Lend(_, rights) => {
                let rights = if rights & ALL == 0 { FROZEN } else { rights & ALL };
                let (copy, write_back) = (landed.cap, rights & WRITE != 0);
                self.caps[copy].rights = rights;
                *lent = Some(Lent::Copy { copy, source, start, len, write_back });
                Ok(Landed { rights, flag: LEND_FLAG, ..landed })
            }
            Body::Share(_) => Ok(landed),
            _ => {
                self.end(source);
                Ok(landed)
            }
        }
    }

    /// What a seat may read of a part.
    fn readable(&self, seat: SeatId, part: Part) -> Option<Vec<u8>> {
        let cap = self.live(seat, self.entry(seat, part.entry))?;
        let of = self.caps[cap];
        let other = |cap: &Cap| cap.holder == Some(seat) && cap.buffer == of.buffer && cap.rights & READ != 0;
        let (start, end) = self.cut(seat, part);
        let allowed = self.is_mail(cap) || self.caps.iter().any(other);
        allowed.then(|| self.buffers[of.buffer].bytes[start..end].to_vec())
    }

    fn take_back(&mut self, owner: SeatId, lent: Lent) {
        match lent {
            Lent::Cap(cap) => {
                self.see(owner, cap);
                if self.caps[cap].holder.is_some() {
                    self.end(cap);
                }
            }
            Lent::Copy { copy, source, start, len, write_back } => {
                if self.caps[copy].holder.is_none() {
                    return;
                }
                if write_back && self.caps[source].holder == Some(owner) {
                    let bytes = self.buffers[self.caps[copy].buffer].bytes[..len].to_vec();
                    let source = &mut self.buffers[self.caps[source].buffer].bytes;
                    source[start..start + len].copy_from_slice(&bytes);
                }
                self.see(owner, copy);
                self.end(copy);
            }
        }
    }

    // ---- steps -------------------------------------------------------------------------------------------------------

    fn step(&mut self, seat: SeatId, (id, place): (usize, usize), op: &Op) {
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

    fn alloc(&mut self, seat: SeatId, place: usize, bytes: u32, count: u8) {
        let (byte, count) = (self.fresh_byte(), count & 3);
        let raw = Raw { code: u16::from(byte), argument: u16::from(count), value: u64::from(bytes), ..Raw::new(kind::ALLOC) };
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

    fn fill(&mut self, seat: SeatId, place: usize, part: Part) {
        // Only what a well-behaved guest does: the rest ends it, which other tests look at.
        let Ok(cap) = self.check(seat, part, WRITE) else { return };
        let byte = self.fresh_byte();
        let (start, end) = self.cut(seat, part);
        self.buffers[self.caps[cap].buffer].bytes[start..end].fill(byte);
        self.seats[seat].seen[usize::from(byte)] = true;
        self.emit(seat, place, Raw { code: u16::from(byte), part, ..Raw::new(kind::FILL) });
    }

    fn read(&mut self, seat: SeatId, place: usize, part: Part) {
        let Ok(cap) = self.check(seat, part, READ) else { return };
        let (start, end) = self.cut(seat, part);
        let sum = sum_of(&self.buffers[self.caps[cap].buffer].bytes[start..end]);
        self.see(seat, cap);
        self.emit(seat, place, Raw { part, ..Raw::new(kind::READ) });
        self.record(seat, kind::READ, sum.cast_signed(), [0; 6]);
    }

    fn free(&mut self, seat: SeatId, place: usize, first: Part, second: Option<Part>) {
        self.emit(seat, place, Raw { part: first, head: second.unwrap_or(NO_PART), ..Raw::new(kind::FREE) });
        let mut result = 0;
        for part in [Some(first), second].into_iter().flatten() {
            match self.live(seat, self.entry(seat, part.entry)) {
                Some(cap) => {
                    self.end(cap);
                }
                None => result = ESTALE,
            }
        }
        self.record(seat, kind::FREE, result, [0; 6]);
    }

    fn freeze(&mut self, seat: SeatId, place: usize, part: Part) {
        self.emit(seat, place, Raw { part, ..Raw::new(kind::FREEZE) });
        let cap = self.live(seat, self.entry(seat, part.entry));
        // Mail is the guest's own memory: it is copied whenever it is handed over.
        if let Some(cap) = cap.filter(|&cap| !self.is_mail(cap)) {
            self.caps[cap].rights &= FROZEN;
        }
        self.record(seat, kind::FREEZE, if cap.is_some() { 0 } else { ESTALE }, [0; 6]);
    }

    fn revoke(&mut self, seat: SeatId, place: usize, part: Part) {
        self.emit(seat, place, Raw { part, ..Raw::new(kind::REVOKE) });
        let cap = self.live(seat, self.entry(seat, part.entry)).filter(|&cap| !self.is_mail(cap));
        let result = cap.map_or(ESTALE, |cap| self.end_derived(cap));
        self.record(seat, kind::REVOKE, result, [0; 6]);
    }

    fn narrow(&mut self, seat: SeatId, place: usize, part: Part) {
        let mut part = part;
        if part.len == 0 {
            // Puppets say where in the buffer's own terms, which for an empty part are nobody's business.
            part.len = 1000;
        }
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

    fn bad(&mut self, seat: SeatId, place: usize, gate: u8, at: u8) {
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

    fn wait(&mut self, seat: SeatId, place: usize, nth: u8) {
        let nth = self.nth_pending(seat, nth);
        let raw = Raw { argument: nth, ..Raw::new(kind::WAIT) };
        let call = self.seats[seat].pending.get(usize::from(nth)).copied();
        // A callee further up the stack cannot answer before this one has: both would wait for the end of their time.
        let callee = call.and_then(|call| self.calls[call].as_ref()).map(|call| call.callee);
        if callee.is_some_and(|callee| self.seats[callee].is_busy) {
            return;
        }
        self.emit(seat, place, raw);
        loop {
            let mut inbox = self.seats[seat].inbox.iter();
            let at = inbox.position(|event| matches!(event, Event::Answer(of, ..) if Some(*of) == call));
            if let Some(Event::Answer(_, parcel, code)) = at.and_then(|at| self.seats[seat].inbox.remove(at)) {
                self.take(seat, (kind::ANSWER, 1), parcel, (code, 2));
                return;
            }
            if call.is_none_or(|call| self.calls[call].is_none()) {
                self.record(seat, kind::WAIT, ESTALE, [0; 6]);
                return;
            }
            self.turn();
        }
    }

    fn nth_pending(&self, seat: SeatId, nth: u8) -> u16 {
        let count = self.seats[seat].pending.len();
        if count == 0 { 0 } else { u16::try_from(usize::from(nth) % count).unwrap() }
    }

    // ---- calls -------------------------------------------------------------------------------------------------------

    fn body(&self, seat: SeatId, body: Body) -> Body {
        match body {
            Body::Bytes(part) => {
                // Addresses of what is not the guest's are another test's.
                let part = Part { beyond: false, ..self.place(seat, part) };
                match self.live(seat, self.entry(seat, part.entry)) {
                    Some(_) => Body::Bytes(part),
                    None => Body::Static { len: 9, byte: 0 },
                }
            }
            Body::Move(part) => Body::Move(self.place(seat, part)),
            Body::Lend(part, rights) => Body::Lend(self.place(seat, part), rights),
            Body::Share(part) => Body::Share(self.place(seat, part)),
            other => other,
        }
    }

    /// A head that is not in the body's buffer.
    fn head(&self, seat: SeatId, head: Option<Part>, body: Body) -> Option<Part> {
        let head = self.place(seat, head?);
        let body = match body {
            Body::Move(part) | Body::Lend(part, _) | Body::Share(part) => part.entry,
            _ => NOBODY,
        };
        (head.entry != body && head.entry < NOBODY - 1).then_some(head)
    }

    fn call(&mut self, seat: SeatId, place: usize, called: &super::script::Called) {
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

    fn reply(&mut self, seat: SeatId, (id, place): (usize, usize), body: Body, head: Option<Part>, code: u16) {
        let body = self.body(seat, body);
        let head = self.head(seat, head, body);
        self.emit(seat, place, Raw { code, ..Raw::new(kind::REPLY) }.carrying(body, head));
        let result = match self.requests[id].as_ref().map(|request| request.call) {
            None => ESTALE,
            Some(None) => self.answer_node(seat, (body, head), code),
            Some(Some(call)) => self.answer_call(seat, call, (body, head), code),
        };
        let is_over = result == 0 || result == ESTALE && self.is_abandoned(id);
        if is_over && self.requests[id].take().is_some() {
            self.seats[seat].active = None;
        }
        self.record(seat, kind::REPLY, result, [0; 6]);
    }

    /// Nobody waits for the answer to a request any more.
    fn is_abandoned(&self, id: usize) -> bool {
        let call = self.requests[id].as_ref().and_then(|request| request.call);
        call.is_some_and(|call| self.calls[call].is_none())
    }

    fn answer_call(&mut self, seat: SeatId, call: usize, carries: (Body, Option<Part>), code: u16) -> i64 {
        let Some(caller) = self.calls[call].as_ref().map(|call| call.caller) else { return ESTALE };
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

    fn answer_node(&mut self, seat: SeatId, (body, head): (Body, Option<Part>), status: u16) -> i64 {
        // The node holds what it gets like a seat does, and keeps nothing of it.
        let body = match body {
            Body::Inline { value, len } => {
                let body = value.to_le_bytes()[..usize::from(len & 7)].to_vec();
                match head.map(|head| self.check_head(seat, head)) {
                    Some(Err(errno)) => return errno,
                    Some(Ok(cap)) => {
                        self.end(cap);
                    }
                    None => {}
                }
                body
            }
            Body::Share(_) | Body::Lend(..) => return self.refused_by_node(seat, body, head),
            _ => match self.hand(seat, seat, (body, head), true) {
                Ok((parcel, _)) => {
                    let bytes = parcel.body.map(|landed| self.payload(landed).to_vec()).unwrap_or_default();
                    self.drop_parcel(seat, parcel);
                    bytes
                }
                Err(errno) => return errno,
            },
        };
        self.answer = Some(Answer { status, body });
        0
    }

    /// Only what is the node's for good can be an answer.
    fn refused_by_node(&self, seat: SeatId, body: Body, head: Option<Part>) -> i64 {
        if let Some(Err(errno)) = head.map(|head| self.check_head(seat, head)) {
            return errno;
        }
        let (Body::Share(part) | Body::Lend(part, _)) = body else { return EINVAL };
        match self.live(seat, self.entry(seat, part.entry)) {
            None => ESTALE,
            Some(_) => EACCES,
        }
    }

    fn cancel(&mut self, seat: SeatId, place: usize, nth: u8) {
        let nth = self.nth_pending(seat, nth);
        self.emit(seat, place, Raw { argument: nth, ..Raw::new(kind::CANCEL) });
        let call = self.seats[seat].pending.get(usize::from(nth)).copied();
        let result = call.map_or(ESTALE, |call| self.abandon(seat, call));
        self.record(seat, kind::CANCEL, result, [0; 6]);
    }

    fn abandon(&mut self, seat: SeatId, call: usize) -> i64 {
        let Some(Call { callee, request, lent, .. }) = self.calls[call].take() else {
            let mut inbox = self.seats[seat].inbox.iter();
            let at = inbox.position(|event| matches!(event, Event::Answer(of, ..) if *of == call));
            let Some(Event::Answer(_, parcel, _)) = at.and_then(|at| self.seats[seat].inbox.remove(at)) else {
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
