//! What passes between the seats of a cell and out of it, counted where people look for it: in the link of the caller's seat
//! (`crates/pool/src/figures.rs`), or in the edge that a call takes.

use baton_abi::Flags;
use baton_abi::gate::Parcel;
use baton_pool::figures::Figures;

use crate::arch;
use crate::book::SeatId;
use crate::seat::{Seat, Target};
use crate::sys;

impl Seat {
    /// The figures of this seat's calls to another one of the cell.
    #[inline(always)]
    fn row(&self, to: SeatId) -> Option<&Figures> {
        self.rows.get().and_then(|rows| rows.get(usize::from(to)))
    }

    /// The figures of this seat's calls to `to`.
    #[inline(always)]
    fn with_row(&self, to: Target, note: impl FnOnce(&Figures) -> bool) -> bool {
        match to {
            Target::Seat(id) => self.row(id).is_some_and(note),
            Target::Outside(road) => {
                let roads = self.outgoing.borrow();
                roads.get(road as usize).and_then(|road| road.duplex.figures()).is_some_and(note)
            }
        }
    }

    /// A call is on its way, with a payload of so many bytes.
    #[inline(always)]
    pub(crate) fn note_call(&self, to: Target, tag: u32, bytes: u64) {
        if self.with_row(to, |row| row.note_call(bytes)) {
            self.timed.set((tag, sys::now_ns()));
        }
    }

    /// The answer of a seat of this cell to a call is there, and no failure.
    #[inline(always)]
    pub(crate) fn note_plain_answer(&self, to: SeatId, tag: u32, bytes: u64) {
        let took_ns = if self.timed.get().1 == 0 { None } else { self.time_taken(tag) };
        let Some(row) = self.row(to) else { return };
        row.note_answer(bytes, false);
        if let Some(ns) = took_ns {
            row.note_time(ns);
        }
    }

    /// The answer to a call is there.
    #[inline(always)]
    pub(crate) fn note_answer(&self, to: Target, tag: u32, parcel: &Parcel) {
        let [first, _, _, _, _, bytes, ..] = &parcel.words;
        let [_, flags, ..] = arch::alone(first).to_le_bytes();
        let bytes = arch::alone(bytes);
        let took_ns = if self.timed.get().1 == 0 { None } else { self.time_taken(tag) };
        self.with_row(to, |row| {
            row.note_answer(bytes, Flags(flags).has(Flags::ERROR));
            if let Some(ns) = took_ns {
                row.note_time(ns);
            }
            true
        });
    }

    /// How long the call took that is timed, if it is that one.
    #[cold]
    fn time_taken(&self, tag: u32) -> Option<u64> {
        let (timed, began_ns) = self.timed.get();
        (timed == tag).then(|| {
            self.timed.set((0, 0));
            sys::now_ns().saturating_sub(began_ns)
        })
    }
}
