//! Buffers: got, given back, narrowed, frozen, revoked.

use baton_abi::Rights;
use baton_abi::boot::PoolAccess;
use baton_abi::gate::Grant;
use baton_pool::capability::Range;

use super::{EACCES, EFAULT, ESTALE, GRANTS_MAX, PAIRS_MAX};
use crate::hand::HandError;
use crate::runtime::Runtime;
use crate::seat::Seat;

impl Runtime {
    #[inline(never)]
    pub(super) fn gate_alloc(&self, seat: &Seat, bytes: u64, count: u64, out: u64) -> i64 {
        if seat.facts.access != PoolAccess::Write {
            return EACCES;
        }
        let mut made = 0u64;
        let mut last = HandError::Full;
        while made < count.min(GRANTS_MAX) {
            let grant = match self.allocate(seat, bytes) {
                Ok(grant) => grant,
                Err(error) => {
                    last = error;
                    break;
                }
            };
            let at = out.wrapping_add(made * size_of::<Grant>() as u64);
            let raw = [grant.pair().to_word(), grant.base, grant.capacity].map(u64::to_le_bytes);
            if !seat.space.borrow_mut().write(at, raw.as_flattened()) {
                self.give_up(seat, grant.pair());
                return EFAULT;
            }
            made += 1;
        }
        if made == 0 && count > 0 { last.errno() } else { i64::try_from(made).unwrap_or(0) }
    }

    #[inline(never)]
    pub(super) fn gate_free(&self, seat: &Seat, at: u64, count: u64) -> i64 {
        let mut stale = false;
        for nth in 0..count.min(PAIRS_MAX) {
            let Some(pair) = self.read_pair(seat, at.wrapping_add(nth * 8)) else { return EFAULT };
            stale |= !self.give_up(seat, pair);
        }
        if stale { ESTALE } else { 0 }
    }

    #[inline(never)]
    pub(super) fn gate_freeze(&self, seat: &Seat, at: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        if crate::book::what(pair.handle).is_mail() {
            // Mail is the guest's own memory: what it shares of it is copied.
            return if seat.mail.borrow().get(pair).is_some() { 0 } else { ESTALE };
        }
        let restricted = self.book.borrow_mut().restrict(seat.id, pair, Rights::FROZEN);
        let view = self.book.borrow().view(seat.id, pair);
        match (restricted, view) {
            (Ok(rights), Ok(view)) => match self.open_to(seat, view.reach(), rights) {
                Ok(()) => 0,
                Err(error) => error.errno(),
            },
            (Err(refusal), _) | (_, Err(refusal)) => HandError::Refused(refusal).errno(),
        }
    }

    #[inline(never)]
    pub(super) fn gate_revoke(&self, seat: &Seat, at: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        let view = self.book.borrow().view(seat.id, pair);
        let Ok(view) = view else { return ESTALE };
        let ended = self.end_readers(seat, pair);
        // Pages that a reader had open are the owner's again, and nobody else's.
        if ended > 0 && self.open_to(seat, view.reach(), view.rights).is_err() {
            return HandError::Full.errno();
        }
        i64::try_from(ended).unwrap_or(0) + i64::from(self.revoke_outside(pair))
    }

    #[inline(never)]
    pub(super) fn gate_narrow(&self, seat: &Seat, at: u64, offset: u64, len: u64) -> i64 {
        let Some(pair) = self.read_pair(seat, at) else { return EFAULT };
        match self.book.borrow_mut().narrow(seat.id, pair, Range { offset, len }) {
            Ok(()) => 0,
            Err(refusal) => HandError::Refused(refusal).errno(),
        }
    }
}
