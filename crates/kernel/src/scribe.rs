//! The node's pen: how the node writes the capability table, which no process can write.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::sys;

/// Words of an order: index and whether the whole entry changes, the word that must be there, the entry.
const ORDER_WORDS: usize = 10;
/// What the program returns when it has written.
pub(crate) const WRITTEN: u32 = 2;

/// Writes entries of one app's capability table, each by a run of a program in the kernel. May be used from any thread.
pub struct Scribe {
    program: OwnedFd,
}

impl Scribe {
    pub(crate) fn new(program: OwnedFd) -> Scribe {
        Scribe { program }
    }

    /// Brings the entry at `index` from the word `was` to `now`, whose first word is the entry's: all of it, or, unless `is_whole`, the
    /// word alone. `true` if the word was as it must be; nothing changes otherwise.
    #[must_use]
    pub fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool {
        let mut order = [0u64; ORDER_WORDS];
        let [what, expected, entry @ ..] = &mut order;
        *what = u64::from(index) | u64::from(is_whole) << 32;
        *expected = was;
        *entry = *now;
        // The kernel runs a program that it took once whenever it is asked; without memory for a frame it does not, and then nothing
        // was written.
        sys::run(self.program.as_fd(), &order.map(u64::to_le)).is_ok_and(|returned| returned == WRITTEN)
    }
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe").finish_non_exhaustive()
    }
}
