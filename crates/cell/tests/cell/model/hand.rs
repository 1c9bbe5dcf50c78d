//! The model's capabilities: who holds what, and how payloads change hands.

use baton_abi::cell::Trust;
use baton_abi::gate::SMALL_BYTES;

use super::script::{Body, NOBODY, Part};
use super::world::{
    ALL, Buffer, Cap, CapId, EACCES, EFAULT, EINVAL, ESTALE, Entry, FROZEN, Inline, LEND_FLAG, Landed, Lent,
    PASS, Parcel, READ, SHARE_FLAG, SMALL_MAX, SeatId, WRITE, World,
};

impl World {
    // ---- capabilities ------------------------------------------------------------------------------------------------

    pub(super) fn entry(&self, seat: SeatId, index: u16) -> Entry {
        let nothing = Entry { cap: None, start: 0, len: 64 };
        self.seats[seat].entries.get(usize::from(index)).copied().unwrap_or(nothing)
    }

    /// The same step with an entry that there is, if there is one.
    pub(super) fn place(&self, seat: SeatId, part: Part) -> Part {
        match self.entries(seat) {
            0 => Part { entry: NOBODY - 1, ..part },
            count => Part { entry: part.entry % u16::try_from(count).unwrap(), ..part },
        }
    }

    /// First byte and one behind the last.
    pub(super) fn cut(&self, seat: SeatId, part: Part) -> (usize, usize) {
        let entry = self.entry(seat, part.entry);
        let from = entry.len * usize::from(part.from) / 1000;
        let len = (entry.len * usize::from(part.len) / 1000).min(entry.len - from);
        let start = entry.start + from;
        (start, start + len + if part.beyond { 1 << 30 } else { 0 })
    }

    pub(super) fn live(&self, seat: SeatId, entry: Entry) -> Option<CapId> {
        entry.cap.filter(|&cap| self.caps[cap].holder == Some(seat))
    }

    /// The capability that a part names, if it is the seat's, has the rights and covers the range.
    pub(super) fn check(&self, seat: SeatId, part: Part, need: u8) -> Result<CapId, i64> {
        let cap = self.live(seat, self.entry(seat, part.entry)).ok_or(ESTALE)?;
        let of = self.caps[cap];
        if of.rights & need != need {
            return Err(EACCES);
        }
        let (start, end) = self.cut(seat, part);
        if start < of.range.0 || end > of.range.1 { Err(EINVAL) } else { Ok(cap) }
    }

    pub(super) fn is_mail(&self, cap: CapId) -> bool {
        self.buffers[self.caps[cap].buffer].is_mail
    }

    /// A new buffer of a seat's with these bytes.
    pub(super) fn make(&mut self, seat: SeatId, bytes: Vec<u8>) -> CapId {
        let is_mail = self.trust == Trust::Buffer && bytes.len() <= SMALL_MAX;
        // Its capacity is larger than the payload; parts that are beyond are far beyond.
        let range = (0, bytes.len().max(1) + (1 << 20));
        self.buffers.push(Buffer { bytes, is_mail });
        let buffer = self.buffers.len() - 1;
        self.caps.push(Cap { buffer, holder: Some(seat), parent: None, rights: ALL, range, part: range });
        self.caps.len() - 1
    }

    pub(super) fn land_copy(&mut self, to: SeatId, bytes: Vec<u8>) -> Landed {
        let len = bytes.len();
        Landed { cap: self.make(to, bytes), start: 0, len, rights: ALL, flag: 0 }
    }

    /// Few bytes without a head come in the parcel itself.
    fn land_bytes(&mut self, to: SeatId, bytes: Vec<u8>, head: Option<Part>, parcel: &mut Parcel) {
        if bytes.len() <= SMALL_BYTES && head.is_none() {
            parcel.inline = Some(Inline::of(&bytes));
        } else {
            parcel.body = Some(self.land_copy(to, bytes));
        }
    }

    pub(super) fn derive(&mut self, parent: CapId, to: SeatId, rights: u8, range: (usize, usize)) -> CapId {
        let of = self.caps[parent];
        let rights = of.rights & rights;
        self.caps.push(Cap { holder: Some(to), parent: Some(parent), rights, range, part: range, ..of });
        self.caps.len() - 1
    }

    /// Ends what was derived from a capability; says how many there were.
    pub(super) fn end_derived(&mut self, parent: CapId) -> i64 {
        let children: Vec<CapId> = (0..self.caps.len())
            .filter(|&cap| self.caps[cap].parent == Some(parent) && self.caps[cap].holder.is_some())
            .collect();
        children.into_iter().map(|cap| self.end(cap)).sum()
    }

    pub(super) fn end(&mut self, cap: CapId) -> i64 {
        if let Some(seat) = self.caps[cap].holder.take() {
            self.see(seat, cap);
        }
        1 + self.end_derived(cap)
    }

    /// A seat gives a capability up. A buffer of its own that others still read stays theirs.
    pub(super) fn give_up(&mut self, cap: CapId) {
        let is_read = (0..self.caps.len())
            .any(|other| self.caps[other].parent == Some(cap) && self.caps[other].holder.is_some());
        match self.caps[cap].holder {
            Some(seat) if is_read && self.caps[cap].parent.is_none() => {
                self.see(seat, cap);
                self.caps[cap].holder = None;
            }
            _ => {
                self.end(cap);
            }
        }
    }

    pub(super) fn drop_parcel(&mut self, seat: SeatId, parcel: Parcel) {
        for landed in [parcel.body, parcel.head].into_iter().flatten() {
            if self.caps[landed.cap].holder == Some(seat) {
                self.give_up(landed.cap);
            }
        }
    }

    // ---- handing over ------------------------------------------------------------------------------------------------

    /// Hands what a step carries to another seat, or says why not, and then nothing has changed.
    pub(super) fn hand(
        &mut self,
        from: SeatId,
        to: SeatId,
        (body, head): (Body, Option<Part>),
        is_answer: bool,
    ) -> Result<(Parcel, Option<Lent>), i64> {
        if is_answer && matches!(body, Body::Lend(..)) {
            // What is only lent cannot be the caller's for good.
            return Err(EACCES);
        }
        let head_cap = match head {
            Some(head) => Some(self.check_head(from, head)?),
            None => None,
        };
        let mut lent = None;
        let mut parcel = Parcel::default();
        match body {
            Body::Nothing => {}
            Body::Inline { value, len } => {
                let inline = Inline::words(value, usize::from(len % 80));
                match (inline.payload().len(), head) {
                    (9.., Some(_)) => parcel.body = Some(self.land_copy(to, inline.payload().to_vec())),
                    _ => parcel.inline = Some(inline),
                }
            }
            Body::Static { len, byte } => {
                self.land_bytes(to, vec![byte; usize::from(len)], head, &mut parcel)
            }
            Body::Bytes(part) => {
                let bytes = self.readable(from, part).ok_or(EFAULT)?;
                self.land_bytes(to, bytes, head, &mut parcel);
            }
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

    pub(super) fn check_head(&self, from: SeatId, head: Part) -> Result<CapId, i64> {
        let cap = self.check(from, head, 0)?;
        if self.caps[cap].parent.is_some() { Err(EACCES) } else { Ok(cap) }
    }

    /// Moves a whole buffer, or a copy of a part of mail.
    pub(super) fn move_cap(&mut self, from: SeatId, to: SeatId, cap: CapId, part: Part) -> Landed {
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
        // As puppets do: a buffer may come back under the same name, which is then another entry's.
        for entry in self.seats[from].entries.iter_mut().filter(|entry| entry.cap == Some(cap)) {
            entry.cap = None;
        }
        self.caps[cap].holder = Some(to);
        Landed { cap, start, len: end - start, rights: self.caps[cap].rights, flag: 0 }
    }

    pub(super) fn hand_buffer(
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

    pub(super) fn hand_mail(
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
    pub(super) fn readable(&self, seat: SeatId, part: Part) -> Option<Vec<u8>> {
        let cap = self.live(seat, self.entry(seat, part.entry))?;
        let of = self.caps[cap];
        let (start, end) = self.cut(seat, part);
        let covers = |other: &Cap| {
            // In a pool that is open as a whole, the runtime copies from anywhere in a buffer too.
            let has_part = self.trust == Trust::App || other.part.0 <= start && end <= other.part.1;
            other.holder == Some(seat) && other.buffer == of.buffer && other.rights & READ != 0 && has_part
        };
        let allowed = start == end || self.is_mail(cap) || self.caps.iter().any(covers);
        allowed.then(|| self.buffers[of.buffer].bytes[start..end].to_vec())
    }

    pub(super) fn take_back(&mut self, owner: SeatId, lent: Lent) {
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
}
