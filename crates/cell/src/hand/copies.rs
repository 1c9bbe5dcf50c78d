//! What is copied: plain bytes, and small payloads under `trust = "buffer"`.

use baton_abi::gate::{Pair, SMALL_BYTES};
use baton_abi::limits::HEADROOM_BYTES;
use baton_abi::{Descriptor, Extent, Flags, NONE, Rights};
use baton_pool::capability::Range;
use baton_pool::ledger::class_of;

use super::{HandError, Landed, NOWHERE, extent_of, pair_of, range_of};
use crate::book::{Refusal, What, what};
use crate::mail::Chunk;
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::{Lent, LentCopy, Seat};

impl Runtime {
    /// Copies plain bytes of `a`'s guest to `b`.
    pub(super) fn land_bytes(&self, a: &Seat, b: &Seat, from: u64, len: u64) -> Result<Landed, HandError> {
        if !self.may_read(a, from, len) {
            return Err(HandError::Fault);
        }
        self.land_copy(b, from, len)
    }

    /// Copies a few plain bytes of `a`'s guest into a parcel.
    #[inline(always)]
    pub(super) fn land_small(
        &self,
        a: &Seat,
        from: Range,
        small: &mut [u64; SMALL_BYTES / 8],
    ) -> Result<Landed, HandError> {
        let Range { offset: at, len } = from;
        let room = core::ptr::from_mut(small) as u64;
        if len > SMALL_BYTES as u64 || !self.may_read(a, at, len) || !memory::copy(room, at, len) {
            return Err(HandError::Fault);
        }
        self.note_copy(len);
        let [word, ..] = *small;
        let extent = Extent { handle: NONE, generation: 0, offset: if len > 8 { 0 } else { word }, len };
        Ok(Landed { extent, flags: Flags::INLINE, ..NOWHERE })
    }

    /// Copies `bytes` of the runtime's to `b`.
    pub(crate) fn land_text(&self, b: &Seat, bytes: &[u8]) -> Result<Landed, HandError> {
        self.land_copy(b, bytes.as_ptr() as u64, bytes.len() as u64)
    }

    /// Copies what lies at `from`, which was checked, to a buffer of `b`'s.
    pub(super) fn land_copy(&self, b: &Seat, from: u64, len: u64) -> Result<Landed, HandError> {
        let landed = self.room(b, len)?;
        self.note_copy(len);
        if let What::Root(slot) = what(landed.extent.handle)
            && let Some(root) = self.book.borrow_mut().root_mut(slot)
        {
            root.written = root.written.max(landed.extent.offset + len);
        }
        if memory::copy(landed.base + landed.extent.offset, from, len) {
            return Ok(landed);
        }
        self.give_up(b, pair_of(landed.extent));
        Err(HandError::Fault)
    }

    /// An empty place for `len` bytes that `b` owns, with room for a head in front where that costs nothing.
    fn room(&self, b: &Seat, len: u64) -> Result<Landed, HandError> {
        // Headroom is worth a larger class, but not a buffer of its own pages.
        let with_room = len.saturating_add(HEADROOM_BYTES);
        let wanted = if class_of(with_room).is_none() && class_of(len).is_some() { len } else { with_room };
        let grant = self.allocate(b, wanted).or_else(|_| self.allocate(b, len))?;
        let offset = if grant.capacity - len >= HEADROOM_BYTES { HEADROOM_BYTES } else { 0 };
        Ok(Landed::in_grant(grant, Range { offset, len }, Rights::ALL, Flags::MOVE))
    }

    /// Head and body in one chunk of mail.
    pub(super) fn copy_mail(
        &self,
        a: &Seat,
        b: &Seat,
        (d, lend): (&Descriptor, Rights),
        lent: &mut Option<Lent>,
    ) -> Result<(Landed, Landed), HandError> {
        let chunk = self.chunk(a, pair_of(d.body), range_of(d.body))?;
        let head = range_of(extent_of(d.head));
        if !(Range { offset: 0, len: chunk.capacity() }).contains(head) {
            return Err(HandError::Refused(Refusal::OutOfBounds));
        }
        let head_bytes = head.len.next_multiple_of(64);
        let grant = self.allocate(b, head_bytes + d.body.len)?;
        self.note_copy(head.len + d.body.len);
        let copied = memory::copy(grant.base, chunk.base + head.offset, head.len)
            && memory::copy(grant.base + head_bytes, chunk.base + d.body.offset, d.body.len);
        let pair = grant.pair();
        if !copied {
            self.give_up(b, pair);
            return Err(HandError::Fault);
        }
        let (flags, rights) = if d.flags.has(Flags::LEND) {
            let (from, to) = (chunk.base + d.body.offset, grant.base + head_bytes);
            *lent = Some(lent_copy(b, (pair_of(d.body), pair), (from, to, d.body.len), lend));
            (Flags::LEND, lend)
        } else {
            if !d.flags.has(Flags::SHARE) {
                a.mail.borrow_mut().put(pair_of(d.body));
            }
            (Flags::MOVE, Rights::ALL)
        };
        let at = |offset, len| Landed::in_grant(grant, Range { offset, len }, rights, flags);
        Ok((at(head_bytes, d.body.len), at(0, head.len)))
    }

    pub(super) fn hand_mail(
        &self,
        a: &Seat,
        b: &Seat,
        d: &Descriptor,
        lend: Rights,
        lent: &mut Option<Lent>,
    ) -> Result<Landed, HandError> {
        let (pair, range) = (pair_of(d.body), range_of(d.body));
        let chunk = self.chunk(a, pair, range)?;
        let from = chunk.base + range.offset;
        let mut landed = self.land_copy(b, from, range.len)?;
        if d.flags.has(Flags::LEND) {
            let to = landed.base + landed.extent.offset;
            *lent = Some(lent_copy(b, (pair, pair_of(landed.extent)), (from, to, range.len), lend));
            landed.flags = Flags::LEND;
            landed.rights = lend;
        } else if !d.flags.has(Flags::SHARE) {
            a.mail.borrow_mut().put(pair);
        }
        Ok(landed)
    }

    pub(crate) fn chunk(&self, a: &Seat, pair: Pair, range: Range) -> Result<Chunk, HandError> {
        let chunk = a.mail.borrow().get(pair).ok_or(Refusal::NotHeld)?;
        if !(Range { offset: 0, len: chunk.capacity() }).contains(range) {
            return Err(HandError::Refused(Refusal::OutOfBounds));
        }
        Ok(chunk)
    }
}

fn lent_copy(
    b: &Seat,
    (source, chunk): (Pair, Pair),
    (from, to, len): (u64, u64, u64),
    lend: Rights,
) -> Lent {
    let write_back = lend.allows(Rights::WRITE);
    Lent::Copy(Box::new(LentCopy { seat: b.id, source, chunk, from, to, len, write_back }))
}
