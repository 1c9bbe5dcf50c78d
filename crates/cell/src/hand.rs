//! Handing payloads over, from seat to seat.
//!
//! | what the sender names | `trust = "app"` | `trust = "buffer"` |
//! |---|---|---|
//! | eight bytes inline | copied | copied |
//! | plain bytes of its own, up to 64 | copied into the receiver's parcel | copied into the receiver's parcel |
//! | more of them | copied into a pool buffer of the receiver's | copied into the receiver's mail |
//! | a chunk of its mail | – | copied into the receiver's mail; what was lent writable is copied back |
//! | a pool buffer | the book changes, no byte moves | the book changes, and the key of its pages |
//!
//! Everything that a guest says is looked up in the book first; its own access ends before the receiver's begins.

mod copies;
mod lent;
mod plain;

use baton_abi::boot::PoolAccess;
use baton_abi::cell::{POOL_AT, Trust};
use baton_abi::gate::{Grant, Pair, Parcel, SMALL_BYTES};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::Range;

use crate::arch;
use crate::book::{Owner, Refusal, What, what};
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::{Lent, Seat};

pub(crate) use self::lent::or_frozen;
pub(crate) use self::plain::{Dispatch, Sent, few};

/// Why a hand-over was refused. Nothing has changed hands then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandError {
    /// Not held, not in bounds, or without the right to.
    Refused(Refusal),
    /// Addresses that are not the guest's own.
    Fault,
    /// No room for it now.
    Full,
    /// A payload for a function that may not use the pool.
    NoPool,
}

impl From<Refusal> for HandError {
    fn from(refusal: Refusal) -> Self {
        HandError::Refused(refusal)
    }
}

impl HandError {
    /// What the guest is told.
    pub(crate) const fn errno(self) -> i64 {
        match self {
            HandError::Refused(Refusal::NotHeld) => -(libc::ESTALE as i64),
            HandError::Refused(Refusal::OutOfBounds) => -(libc::EINVAL as i64),
            HandError::Refused(Refusal::Denied) | HandError::NoPool => -(libc::EACCES as i64),
            HandError::Refused(Refusal::TooMany) => -(libc::ENOBUFS as i64),
            HandError::Fault => -(libc::EFAULT as i64),
            HandError::Full => -(libc::ENOSPC as i64),
        }
    }
}

/// Where a payload came to lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landed {
    pub(crate) extent: Extent,
    pub(crate) base: u64,
    pub(crate) capacity: u64,
    pub(crate) rights: Rights,
    pub(crate) flags: Flags,
}

impl Landed {
    /// A part of a buffer that was just allocated.
    pub(crate) const fn in_grant(grant: Grant, part: Range, rights: Rights, flags: Flags) -> Landed {
        let Grant { handle, generation, base, capacity } = grant;
        let extent = Extent { handle, generation, offset: part.offset, len: part.len };
        Landed { extent, base, capacity, rights, flags }
    }
}

impl Landed {
    /// The same buffer, with the payload at `range` of it.
    #[inline(always)]
    const fn at(self, range: Range) -> Landed {
        Landed { extent: Extent { offset: range.offset, len: range.len, ..self.extent }, ..self }
    }
}

/// What becomes of a body that landed. Not a closure: those cannot be made to be inlined.
trait Then {
    type Made;

    /// The place in the parcel where a small payload may land, if it may.
    fn small(&mut self) -> Option<&mut [u64; SMALL_BYTES / 8]>;

    fn landed(self, body: Landed) -> Self::Made;
}

/// There is a head as well: nothing yet.
struct Keep;

impl Then for Keep {
    type Made = Landed;

    fn small(&mut self) -> Option<&mut [u64; SMALL_BYTES / 8]> {
        None
    }

    #[inline(always)]
    fn landed(self, body: Landed) -> Landed {
        body
    }
}

/// There is no head: it goes into a parcel at once.
struct Fill<'p> {
    d: &'p Descriptor,
    from: u16,
    out: &'p mut Parcel,
}

impl Then for Fill<'_> {
    type Made = ();

    #[inline(always)]
    fn small(&mut self) -> Option<&mut [u64; SMALL_BYTES / 8]> {
        Some(&mut self.out.small)
    }

    #[inline(always)]
    fn landed(self, body: Landed) {
        fill_parcel(self.d, &body, &NOWHERE, self.from, self.out);
    }
}

/// No payload.
pub(crate) const NOWHERE: Landed =
    Landed { extent: Extent::EMPTY, base: 0, capacity: 0, rights: Rights::NONE, flags: Flags::MOVE };

pub(crate) const fn pair_of(extent: Extent) -> Pair {
    Pair { handle: extent.handle, generation: extent.generation }
}

pub(crate) fn range_of(extent: Extent) -> Range {
    Range { offset: extent.offset, len: extent.len }
}

const HOW: u8 = Flags::LEND.0 | Flags::SHARE.0 | Flags::INLINE.0 | Flags::BYTES.0;

impl Runtime {
    /// Hands what `d` carries from `a` to `b`, and says in `out` where it landed. `lend` are the rights that a lent body comes
    /// with.
    pub(crate) fn hand(
        &self,
        a: &Seat,
        b: &Seat,
        (d, lend): (&Descriptor, Rights),
        out: &mut Parcel,
    ) -> Result<Option<Lent>, HandError> {
        if d.head.handle != NONE {
            return self.hand_both(a, b, (d, lend), out);
        }
        let mut lent = None;
        let fill = Fill { d, from: a.holder(), out };
        self.hand_body(a, b, (d, lend), &mut lent, fill)?;
        Ok(lent)
    }

    /// As [`Runtime::hand`], for what has a head.
    fn hand_both(
        &self,
        a: &Seat,
        b: &Seat,
        (d, lend): (&Descriptor, Rights),
        out: &mut Parcel,
    ) -> Result<Option<Lent>, HandError> {
        let mut lent = None;
        let together = are_together(d);
        if !together {
            // Before the body has changed hands: nothing may go wrong half-way.
            self.check_head(a, d.head)?;
        }
        let (body, head) = if together && what(d.body.handle).is_mail() {
            self.copy_mail(a, b, (d, lend), &mut lent)?
        } else {
            let body = self.hand_body(a, b, (d, lend), &mut lent, Keep)?;
            let head = if together {
                Landed { extent: head_in(&body, d.head), ..body }
            } else {
                self.hand_head(a, b, d.head)?
            };
            (body, head)
        };
        fill_parcel(d, &body, &head, a.holder(), out);
        Ok(lent)
    }

    /// Hands the body over and goes on with where it landed, each way by itself: what all of them brought to one place first
    /// would be copied soon after it was written, and the processor would wait for it.
    #[inline(always)]
    fn hand_body<T: Then>(
        &self,
        a: &Seat,
        b: &Seat,
        (d, lend): (&Descriptor, Rights),
        lent: &mut Option<Lent>,
        mut then: T,
    ) -> Result<T::Made, HandError> {
        if d.flags.has(Flags::INLINE) {
            let len = d.body.len.min(8);
            let extent = Extent { handle: NONE, generation: 0, offset: d.body.offset, len };
            return Ok(then.landed(Landed { extent, flags: Flags::INLINE, ..NOWHERE }));
        }
        let copies = d.flags.has(Flags::BYTES) || d.body.handle != NONE && what(d.body.handle).is_mail();
        if copies && a.facts.access != PoolAccess::Write {
            // As in a process: without the right to write the pool, payloads are inline.
            return Err(HandError::NoPool);
        }
        if d.flags.has(Flags::BYTES) {
            if d.body.len <= SMALL_BYTES as u64
                && Runtime::may_use_pool(b)
                && let Some(small) = then.small()
            {
                let landed = self.land_small(a, range_of(d.body), small)?;
                return Ok(then.landed(landed));
            }
            return Ok(then.landed(self.land_bytes(a, b, d.body.offset, d.body.len)?));
        }
        if d.body.handle == NONE {
            return Ok(then.landed(NOWHERE));
        }
        if what(d.body.handle).is_mail() {
            return Ok(then.landed(self.hand_mail(a, b, d, lend, lent)?));
        }
        if !Runtime::may_use_pool(b) {
            return Err(HandError::NoPool);
        }
        let (pair, range) = (pair_of(d.body), range_of(d.body));
        // A head in the same buffer goes the same way.
        let part = if are_together(d) { span(range, range_of(extent_of(d.head))) } else { range };
        self.note_handed(range.len);
        if d.flags.has(Flags::LEND) {
            return Ok(then.landed(self.lend(a, b, (pair, part), lend, lent)?.at(range)));
        }
        if d.flags.has(Flags::SHARE) {
            return Ok(then.landed(self.share(a, b, pair, part)?.at(range)));
        }
        Ok(then.landed(self.move_root(a, b, pair, part)?.at(range)))
    }

    fn share(&self, a: &Seat, b: &Seat, pair: Pair, part: Range) -> Result<Landed, HandError> {
        let mut book = self.book.borrow_mut();
        let view = book.check(a.id, pair, Rights::PASS, part)?;
        let derived = book.derive_from(&view, pair, part, Rights::FROZEN, b.id)?;
        let rights = view.rights.intersect(Rights::FROZEN);
        Ok(landed(derived, part, view.place, rights, Flags::SHARE))
    }

    /// Moves a whole buffer.
    #[inline(always)]
    pub(crate) fn move_root(
        &self,
        a: &Seat,
        b: &Seat,
        pair: Pair,
        range: Range,
    ) -> Result<Landed, HandError> {
        let view = self.book.borrow().check(a.id, pair, Rights::NONE, range)?;
        let What::Root(slot) = view.what else {
            // What is lent cannot be moved on, and what is shared is shared on.
            return Err(HandError::Refused(Refusal::Denied));
        };
        let has_readers = self.book.borrow().root(slot).is_some_and(|root| root.derived > 0);
        if has_readers || !view.rights.allows(Rights::WRITE) {
            // Nobody writes pages that are open for reading, the runtime included.
            self.close(view.place);
        }
        self.wipe_slack(view.place, range);
        self.open_to(b, view.place, view.rights)?;
        let mut book = self.book.borrow_mut();
        book.give(slot, Owner::Seat(b.id));
        if let Some(root) = book.root_mut(slot) {
            root.written = root.written.max(range.offset + range.len);
            root.payload = range;
        }
        Ok(landed(pair, range, view.place, view.rights, Flags::MOVE))
    }

    /// Under `trust = "buffer"` a receiver sees whole pages: what lies beside the payload is not meant for it.
    fn wipe_slack(&self, place: baton_pool::ledger::Place, range: Range) {
        if self.trust == Trust::Buffer {
            let base = POOL_AT + place.offset;
            memory::wipe(base, range.offset.min(place.capacity));
            let end = (range.offset + range.len).min(place.capacity);
            memory::wipe(base + end, place.capacity - end);
        }
    }

    /// Whether `a` can move a head that lies in a buffer of its own.
    pub(crate) fn check_head(&self, a: &Seat, head: HeadExtent) -> Result<(), HandError> {
        let extent = extent_of(head);
        let (pair, range) = (pair_of(extent), range_of(extent));
        if what(head.handle).is_mail() {
            return self.chunk(a, pair, range).map(drop);
        }
        match self.book.borrow().check(a.id, pair, Rights::NONE, range)?.what {
            What::Root(_) => Ok(()),
            _ => Err(HandError::Refused(Refusal::Denied)),
        }
    }

    fn hand_head(&self, a: &Seat, b: &Seat, head: HeadExtent) -> Result<Landed, HandError> {
        let extent = extent_of(head);
        let (pair, range) = (pair_of(extent), range_of(extent));
        if what(head.handle).is_mail() {
            let chunk = self.chunk(a, pair, range)?;
            let landed = self.land_copy(b, chunk.base + range.offset, range.len)?;
            a.mail.borrow_mut().put(pair);
            return Ok(landed);
        }
        self.move_root(a, b, pair, range)
    }

    pub(crate) fn note_copy(&self, bytes: u64) {
        let (copies, before) = self.copied.get();
        self.copied.set((copies.saturating_add(u16::from(bytes > 8)), before.saturating_add(bytes)));
    }

    pub(crate) fn note_handed(&self, bytes: u64) {
        self.handed.set(self.handed.get().saturating_add(bytes));
    }
}

/// Whether the head lies in the body's buffer.
pub(crate) fn are_together(d: &Descriptor) -> bool {
    let (head, body) = (d.head, d.body);
    head.handle != NONE
        && (head.handle, head.generation) == (body.handle, body.generation)
        && !d.flags.has(Flags::INLINE)
        && !d.flags.has(Flags::BYTES)
}

/// The bytes from the first to the last of two ranges; one that is empty is nowhere.
pub(crate) fn span(one: Range, other: Range) -> Range {
    if other.len == 0 {
        return one;
    }
    if one.len == 0 {
        return other;
    }
    let end = |range: Range| range.offset.saturating_add(range.len);
    let offset = one.offset.min(other.offset);
    Range { offset, len: end(one).max(end(other)) - offset }
}

/// A head as the payload that it is.
pub(crate) const fn extent_of(head: HeadExtent) -> Extent {
    let HeadExtent { handle, generation, offset, len } = head;
    // Widening: constant functions know no `From`.
    Extent { handle, generation, offset: offset as u64, len: len as u64 }
}

/// A parcel that says where things landed.
pub(crate) fn parcel(d: &Descriptor, body: &Landed, head: &Landed, from: u16) -> Parcel {
    let mut out = Parcel::EMPTY;
    fill_parcel(d, body, head, from, &mut out);
    out
}

/// As [`parcel`], in place: copies of what was just written cost more than writing it.
#[inline(always)]
fn fill_parcel(d: &Descriptor, body: &Landed, head: &Landed, from: u16, out: &mut Parcel) {
    let descriptor = Descriptor {
        kind: arch::alone(&d.kind),
        code: arch::alone(&d.code),
        flags: Flags(d.flags.0 & !HOW).with(body.flags),
        body: body.extent,
        head: HeadExtent {
            handle: head.extent.handle,
            generation: head.extent.generation,
            offset: u32::try_from(head.extent.offset).unwrap_or(0),
            len: u32::try_from(head.extent.len).unwrap_or(0),
        },
        ..*d
    };
    out.words = descriptor.to_words();
    out.body_base = body.base;
    out.body_capacity = body.capacity;
    out.head_base = head.base;
    out.head_capacity = head.capacity;
    out.rights = u32::from(body.rights.0);
    out.from = u32::from(from);
}

impl What {
    pub(crate) const fn is_mail(self) -> bool {
        matches!(self, What::Mail(_))
    }
}

fn head_in(body: &Landed, head: HeadExtent) -> Extent {
    let end = u64::from(head.offset) + u64::from(head.len);
    // A head outside of its buffer is none.
    let len = if end <= body.capacity { u64::from(head.len) } else { 0 };
    Extent { offset: u64::from(head.offset), len, ..body.extent }
}

#[inline(always)]
pub(crate) fn landed(
    pair: Pair,
    range: Range,
    place: baton_pool::ledger::Place,
    rights: Rights,
    flags: Flags,
) -> Landed {
    let Pair { handle, generation } = pair;
    Landed {
        extent: Extent { handle, generation, offset: range.offset, len: range.len },
        base: POOL_AT + place.offset,
        capacity: place.capacity,
        rights,
        flags,
    }
}
