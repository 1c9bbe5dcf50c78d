//! The gates back end: a function in a compartment of a cell, or in a Wasm module.
//!
//! ```text
//!  receive ──▶ request ──▶ task ──▶ finished at once? its answer goes out with the next receive: one gate a request
//!     ▲                     │
//!     │                     └─▶ call ──▶ answered during the gate: the future is ready when first polled
//!     └──────── pending ◀──────────────── else: an event tells the answer, and the task goes on
//! ```
//! The cell's runtime keeps the books: who holds what, deadlines, queues, receipts. Here are integers, and a few empty
//! buffers kept for later. The runtime is trusted; what a gate refuses is an error of the call that needed it.
//!
//! | | gates | events |
//! |---|---|---|
//! | in a compartment | addresses in a page that the auxiliary vector names (`page`) | by a gate (`compartment`) |
//! | in a Wasm module | an imported function (`import`) | by exports (`module`) |

use std::cell::{Cell, RefCell};

use baton_abi::Rights;
use baton_abi::gate::Pair;

use crate::capability::Handle;
use crate::error::Error;
use crate::executor::Current;
use crate::held::{Holding, Kind};
use crate::shelf::Shelf;

mod asks;
mod calls;
#[cfg(not(target_arch = "wasm32"))]
mod compartment;
mod errno;
#[cfg(target_arch = "wasm32")]
mod heap;
#[cfg(target_arch = "wasm32")]
mod import;
mod kept;
#[cfg(target_arch = "wasm32")]
mod module;
#[cfg(not(target_arch = "wasm32"))]
mod page;
mod receive;
mod send;
mod stash;
mod turn;

use calls::Calls;
use stash::Stash;

#[cfg(target_arch = "wasm32")]
pub(crate) use import::Page;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use page::Page;

/// Everything that a function in a compartment works with.
pub(crate) struct Gates {
    page: Page,
    pub(crate) current: Current,
    pub(crate) shelf: Shelf,
    stash: Stash,
    calls: RefCell<Calls>,
    /// Functions that the manifest's `calls` names; gates know them by their position.
    callees: Vec<String>,
    /// The one that was called last.
    callee: Cell<usize>,
    /// Counts gates in which others may run: a capability that was valid since the last one still is.
    epoch: Cell<u32>,
    /// What the page said when it was last looked at.
    incarnation: Cell<u64>,
}

impl Gates {
    /// Gates behind `page`, for a function that may call `callees`.
    pub(crate) fn start(page: Page, callees: Vec<String>) -> &'static Gates {
        Box::leak(Box::new(Gates {
            page,
            current: Current::new(),
            shelf: Shelf::default(),
            stash: Stash::default(),
            calls: RefCell::default(),
            callees,
            callee: Cell::new(0),
            epoch: Cell::new(0),
            incarnation: Cell::new(page.incarnation()),
        }))
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.get()
    }

    /// Others may run from here on.
    #[inline]
    fn next_epoch(&self) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
    }

    /// Whether this function still may do `need` with the payload. Memory keys enforce it; this turns what would be a fault
    /// into an error. Only what is shared can be taken away while it is held: the runtime knows.
    pub(crate) fn check(&self, holding: &Holding, need: Rights) -> Result<(), Error> {
        // To narrow a capability to what it covers changes nothing, and fails if it is gone.
        let is_there =
            || holding.kind != Kind::Shared || self.page.narrow(pair(holding.handle), holding.range()) == 0;
        if holding.rights.allows(need) && is_there() {
            Ok(())
        } else {
            Err(Error::Denied {
                what: "using a payload that was revoked, or in a way that its sender does not allow",
            })
        }
    }

    /// Gives up all rights but to read and to pass on, for good.
    pub(crate) fn freeze(&self, holding: &mut Holding) {
        if holding.rights.allows(Rights::WRITE) && self.page.freeze(pair(holding.handle)) == 0 {
            holding.rights = holding.rights.intersect(Rights::FROZEN);
        }
    }

    /// Ends everything that was derived from a capability; how much that was.
    pub(crate) fn revoke_derived(&self, handle: Handle) -> u32 {
        u32::try_from(self.page.revoke(pair(handle))).unwrap_or(0)
    }

    /// Writes a line to the function's log. A log that cannot be written is lost.
    pub(crate) fn log(&self, level: char, line: &str) {
        let _ = self.page.log(u8::try_from(level).unwrap_or(b'I'), line.as_bytes());
    }
}

#[inline]
const fn pair(handle: Handle) -> Pair {
    Pair { handle: handle.index, generation: handle.generation }
}

/// The errno of a gate as an error, where it is not about one call.
#[cold]
fn refused(gate: i64) -> Error {
    match i32::try_from(-gate).unwrap_or(0) {
        errno::EACCES => Error::Denied { what: "handing over a payload, or calling, without the right to" },
        errno::ESTALE => Error::Denied { what: "handing over a payload that was revoked" },
        errno::ENOBUFS => {
            Error::Denied { what: "more payloads lent and shared at a time than a replica can" }
        }
        errno::ELOOP => Error::Denied { what: "calls of calls of calls, deeper than a cell allows" },
        errno::ENOSPC => Error::PoolFull { wanted: 0 },
        _ => Error::Protocol { what: "the cell's runtime does not understand what it is given" },
    }
}

#[cfg(test)]
mod tests;
