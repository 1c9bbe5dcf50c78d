//! The terms of a call: what it inherits of the request that it serves, and what caller and callee add.

use baton_abi::Kind as Message;

use crate::hand::{Dispatch, Sent};
use crate::seat::{Callee, Request, Seat};
use crate::sys;

/// What a call is made by: the request that it serves, and who calls whom.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) invocation: u64,
    /// When its caller stops waiting.
    pub(super) deadline_ns: u64,
    /// When its callee is stopped.
    pub(super) limit_ns: u64,
    /// Calls that it is one of, each made for the one before.
    pub(super) depth: u16,
    pub(super) record: bool,
}

impl Terms {
    /// `None` if it serves no request.
    #[inline(always)]
    pub(super) fn of(seat: &Seat, callee: &Callee, sent: Sent<'_>) -> Option<Terms> {
        let requests = seat.requests.borrow();
        let &Request { invocation, deadline_ns, limit_ns, depth, ref hop, .. } = requests.get(sent.tag())?;
        let inherited = Terms { invocation, deadline_ns, limit_ns, depth, record: hop.is_some() };
        drop(requests);
        Some(inherited.with(seat, callee, sent))
    }

    #[cold]
    pub(super) fn for_nobody(seat: &Seat, callee: &Callee, sent: Sent<'_>) -> Terms {
        let none = Terms { invocation: 0, deadline_ns: 0, limit_ns: 0, depth: 0, record: false };
        none.with(seat, callee, sent)
    }

    /// What was inherited, and what caller and callee add.
    #[inline(always)]
    fn with(self, seat: &Seat, callee: &Callee, sent: Sent<'_>) -> Terms {
        let (inherited, limit) = (self.deadline_ns, self.limit_ns);
        let own = own_deadline(callee.timeout_ns, seat.facts.timeout_ns, (inherited, limit));
        let wished = sent.word(2);
        let (deadline_ns, limit_ns) = match own | wished {
            0 => (inherited, limit),
            // A caller may wish to wait for less than that. It does not decide by its wish when its callee is stopped.
            _ => (earliest([own, wished, inherited]), earliest([own, limit])),
        };
        Terms { deadline_ns, limit_ns, depth: self.depth.saturating_add(1), ..self }
    }

    /// What the runtime says of it to the callee, whose number for it that is.
    #[inline(always)]
    pub(super) fn request(&self, tag: u32) -> Dispatch {
        let &Terms { invocation, deadline_ns, record, .. } = self;
        Dispatch { kind: Message::Request, tag, invocation, deadline_ns, record }
    }
}

/// When a callee's own time is over; 0 for never, or where that is no earlier than what the caller's request is bound by already.
/// A request is stopped within its function's time from its beginning: a callee that has as long, or longer, ends no earlier. Then
/// no clock is read.
#[inline]
fn own_deadline(callee_ns: u64, caller_ns: u64, (inherited, limit): (u64, u64)) -> u64 {
    /// What a coarse clock may be behind.
    const COARSE_NS: u64 = 10_000_000;
    let is_bound = limit != 0 && inherited != 0 && inherited <= limit.saturating_add(COARSE_NS);
    if callee_ns == 0 || is_bound && caller_ns != 0 && callee_ns >= caller_ns {
        return 0;
    }
    from_now(callee_ns)
}

#[cold]
fn from_now(ns: u64) -> u64 {
    sys::coarse_now_ns().saturating_add(ns)
}

/// The earliest of several times, of which 0 is none.
#[inline(always)]
pub(super) fn earliest<const N: usize>(times: [u64; N]) -> u64 {
    // One less, none is the latest there is.
    times.into_iter().fold(u64::MAX, |first, at| first.min(at.wrapping_sub(1))).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_times_the_first_counts_and_none_is_later_than_any() {
        assert_eq!((earliest([0, 0]), earliest([0, 7, 3]), earliest([u64::MAX, 0])), (0, 3, u64::MAX));
    }

    #[test]
    fn a_callees_own_time_counts_where_it_may_end_first() {
        assert_eq!(own_deadline(0, 60, (1_000, 1_000)), 0, "it has none");
        assert_eq!(own_deadline(60, 60, (1_000, 1_000)), 0, "the caller's request ends no later");
        let now = sys::coarse_now_ns();
        for (callee, caller, bounds) in [
            (59, 60, (1_000, 1_000)),
            (60, 0, (1_000, 1_000)),
            (60, 60, (0, 1_000)),
            (60, 60, (1_000, 0)),
            (60, 60, (1_000 + 20_000_000, 1_000)),
        ] {
            let own = own_deadline(callee, caller, bounds);
            assert!(own >= now + callee, "{callee} in {caller}, bound by {bounds:?}");
        }
    }
}
