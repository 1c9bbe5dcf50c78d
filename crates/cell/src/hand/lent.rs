//! What is lent for a call: handed over, and taken back. Pool buffers without a head go from words to words, as [`super::plain`]
//! says.

use baton_abi::cell::Trust;
use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{Pair, Parcel};
use baton_abi::{Flags, Rights};
use baton_pool::capability::Range;

use super::plain::nowhere;
use super::{Dispatch, HandError, Landed, Sent, landed};
use crate::book::{Owner, what};
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::{Lent, LentCopy, Seat};

/// What a lent payload may be used for: the guest says so in the parcel.
pub(crate) const fn or_frozen(lend: Rights) -> Rights {
    if lend.0 == Rights::NONE.0 { Rights::FROZEN } else { lend }
}

/// Capability and range of what is lent, if that is all that is sent, and lies in the pool.
#[inline(always)]
fn lent(sent: Sent<'_>) -> Option<(Pair, Range)> {
    let pair = Pair::from_word(sent.word(3));
    let is_lent = sent.flags() == Flags::LEND && nowhere(sent.word(6)) && !what(pair.handle).is_mail();
    is_lent.then(|| (pair, Range { offset: sent.word(4), len: sent.word(5) }))
}

impl Runtime {
    /// Hands over a parcel that lends a buffer; `None` if it does not, or does more.
    #[inline(always)]
    pub(crate) fn hand_lent(
        &self,
        a: &Seat,
        b: &Seat,
        sent: Sent<'_>,
        as_what: &Dispatch,
        out: &mut Parcel,
    ) -> Result<Option<Lent>, HandError> {
        let Some((pair, range)) = lent(sent).filter(|_| !as_what.record) else { return Ok(None) };
        let rights = or_frozen(self.read_rights(a, sent.at).ok_or(HandError::Fault)?);
        if !Runtime::may_use_pool(b) {
            return Err(HandError::NoPool);
        }
        self.note_handed(range.len);
        let mut lent = None;
        let landed = self.lend(a, b, (pair, range), rights, &mut lent)?;
        let name = super::pair_of(landed.extent).to_word();
        let words: [u64; DESCRIPTOR_WORDS] = as_what.words(sent, [name, range.offset, range.len]);
        out.words = words;
        out.body_base = landed.base;
        out.body_capacity = landed.capacity;
        out.rights = u32::from(landed.rights.0);
        out.from = u32::from(a.holder());
        Ok(lent)
    }

    #[inline(always)]
    pub(super) fn lend(
        &self,
        a: &Seat,
        b: &Seat,
        (pair, range): (Pair, Range),
        rights: Rights,
        lent: &mut Option<Lent>,
    ) -> Result<Landed, HandError> {
        let mut book = self.book.borrow_mut();
        let view = book.check(a.id, pair, Rights::PASS, range)?;
        let rights = view.rights.intersect(rights);
        let derived = book.derive_from(&view, pair, range, rights, b.id)?;
        drop(book);
        if self.trust == Trust::Buffer {
            self.open_lent(b, memory::reach(view.place, range), rights, derived)?;
        }
        *lent = Some(Lent::Capability(derived));
        Ok(landed(derived, range, view.place, rights, Flags::LEND))
    }

    /// Opens what was lent to its borrower; where that fails it was not lent.
    #[inline(never)]
    fn open_lent(
        &self,
        b: &Seat,
        place: baton_pool::ledger::Place,
        rights: Rights,
        derived: Pair,
    ) -> Result<(), HandError> {
        let opened = self.open_to(b, place, rights);
        if opened.is_err() {
            self.book.borrow_mut().end(derived);
        }
        opened
    }

    /// Ends what was lent for a call that is over.
    #[inline(always)]
    pub(crate) fn take_back(&self, owner: &Seat, lent: Lent) {
        let Lent::Capability(pair) = lent else { return self.take_copy_back(owner, lent) };
        let ended = self.book.borrow_mut().end_plain(pair);
        match ended {
            Some((slot, place)) => self.open_again(owner, slot, place),
            None => self.end_lent(owner, pair),
        }
    }

    #[inline(never)]
    fn take_copy_back(&self, owner: &Seat, lent: Lent) {
        match lent {
            Lent::Capability(_) => {}
            Lent::Copy(copy) => {
                let LentCopy { seat, source, chunk, from, to, len, write_back } = *copy;
                let Some(borrower) = self.seat(seat) else { return };
                // Either side may have given its chunk up meanwhile, and have it again for something else.
                let is_there =
                    borrower.mail.borrow().get(chunk).is_some() && owner.mail.borrow().get(source).is_some();
                if is_there && write_back && owner.reach.contains(from, len) {
                    self.note_copy(len);
                    memory::copy(from, to, len);
                }
                borrower.mail.borrow_mut().put(chunk);
            }
            Lent::Outside(handle) => self.take_back_outside(owner, handle),
        }
    }

    #[cold]
    fn end_lent(&self, owner: &Seat, pair: Pair) {
        let ended = self.book.borrow_mut().end(pair);
        let Some((first, below)) = ended else { return };
        self.retire(owner, &first, &below);
        self.open_again(owner, first.root.index, first.place);
    }

    /// What was lent of a buffer has ended: under `trust = "buffer"` its owner's pages open to it again.
    #[inline]
    fn open_again(&self, owner: &Seat, slot: u32, place: baton_pool::ledger::Place) {
        if self.trust == Trust::Buffer {
            // Failing means that the kernel is out of memory: the pages stay closed to everyone else.
            let _ = self.open_to(owner, place, self.rights_to(owner, slot));
        }
    }

    fn rights_to(&self, seat: &Seat, slot: u32) -> Rights {
        let book = self.book.borrow();
        book.root(slot)
            .filter(|root| root.owner == Owner::Seat(seat.id))
            .map_or(Rights::NONE, |root| root.rights)
    }
}
