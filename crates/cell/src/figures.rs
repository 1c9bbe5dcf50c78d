//! What passes between the seats of a cell and out of it, counted where people look for it: in the link of the caller's seat
//! (`crates/pool/src/figures.rs`), or in the edge that a call takes.

use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Flags};
use baton_pool::figures::Figures;

use crate::seat::{Seat, Target};
use crate::sys;

impl Seat {
    /// The figures of this seat's calls to `to`.
    #[inline(always)]
    fn with_row(&self, to: Target, note: impl FnOnce(&Figures) -> bool) -> bool {
        match to {
            Target::Seat(id) => {
                let outside = self.outside.borrow();
                let rows = outside.as_ref().map_or(&[][..], |outside| outside.link.rows());
                rows.get(usize::from(id)).is_some_and(note)
            }
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

    /// The answer to a call is there.
    #[inline(always)]
    pub(crate) fn note_answer(&self, to: Target, tag: u32, parcel: &Parcel) {
        let answer = Descriptor::from_words(parcel.words);
        let (timed, began_ns) = self.timed.get();
        let took_ns = (began_ns != 0 && timed == tag).then(|| {
            self.timed.set((0, 0));
            sys::now_ns().saturating_sub(began_ns)
        });
        self.with_row(to, |row| {
            row.note_answer(answer.body.len, answer.flags.has(Flags::ERROR));
            if let Some(ns) = took_ns {
                row.note_time(ns);
            }
            true
        });
    }
}
