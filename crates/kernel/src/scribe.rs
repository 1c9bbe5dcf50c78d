//! The node's pen: how the node writes the capability table, which no process can write.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{Array, MapData};

use crate::sys;

/// Words of an order: index and whether the whole entry changes, the word that must be there, the entry.
const ORDER_WORDS: usize = 10;
/// Orders that one run carries out at most.
pub(crate) const ORDERS: usize = 64;
/// What the program returns when it has written.
pub(crate) const WRITTEN: u32 = 2;

/// Orders for one run, as they lie in their map.
pub(crate) type Orders = Array<MapData, [u64; ORDERS * ORDER_WORDS]>;

/// What writes the table of one app: the programs, and where several orders are laid for the second.
pub(crate) struct Pen {
    pub(crate) one: OwnedFd,
    pub(crate) all: OwnedFd,
    pub(crate) orders: Mutex<Orders>,
}

/// Writes entries of one app's capability table, by runs of programs in the kernel. May be used from any thread.
pub struct Scribe {
    pen: Arc<Pen>,
}

impl Scribe {
    pub(crate) fn new(pen: Arc<Pen>) -> Scribe {
        Scribe { pen }
    }

    /// Brings the entry at `index` from the word `was` to `now`, whose first word is the entry's: all of it, or, unless `is_whole`, the
    /// word alone. `true` if the word was as it must be; nothing changes otherwise.
    #[must_use]
    pub fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool {
        let order = order(index, was, now, is_whole);
        // The kernel runs a program that it took once whenever it is asked; without memory for a frame it does not, and then nothing
        // was written.
        sys::run(self.pen.one.as_fd(), &order).is_ok_and(|returned| returned == WRITTEN)
    }

    /// The same with many entries, in their order, as a whole each: index, the word that must be there, the entry. Gives how many were
    /// written, up to the first that was not.
    #[must_use]
    pub fn write_all(&self, entries: &[(u32, u64, [u64; 8])]) -> usize {
        let mut written = 0;
        for some in entries.chunks(ORDERS) {
            let mut laid = [0; ORDERS * ORDER_WORDS];
            for (place, (index, was, now)) in laid.as_chunks_mut().0.iter_mut().zip(some) {
                *place = order(*index, *was, now, true);
            }
            let count = some.len() as u64;
            let mut orders = self.pen.orders.lock().unwrap_or_else(PoisonError::into_inner);
            let done = orders.set(0, laid, 0).map_or(0, |()| {
                sys::run(self.pen.all.as_fd(), &[count.to_le()]).map_or(0, |done| done as usize)
            });
            written += done;
            if done < some.len() {
                break;
            }
        }
        written
    }
}

fn order(index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> [u64; ORDER_WORDS] {
    let mut order = [0u64; ORDER_WORDS];
    let [what, expected, entry @ ..] = &mut order;
    *what = u64::from(index) | u64::from(is_whole) << 32;
    *expected = was;
    *entry = *now;
    order.map(u64::to_le)
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe").finish_non_exhaustive()
    }
}
