//! The gate page of a cell, and how a gate is passed in a compartment.

// UNSAFETY: reads a page that the cell's runtime made, and calls the addresses in it.
#![expect(unsafe_code, reason = "gates are functions that are known by their address only")]

use core::ptr::NonNull;

use baton_abi::ABI_VERSION;
use baton_abi::gate::{AT_BATON, GATE_MAGIC, GatePage, Parcel, RECV};

use super::asks::address;

/// A gate: negative results are errnos.
type Gate = extern "C" fn(u64, u64, u64) -> i64;

/// The page of gates of the cell that this function runs in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    at: NonNull<GatePage>,
}

/// Why the gates of a cell cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PageError {
    /// What the auxiliary vector points to is something else.
    Magic { found: u32 },
    /// The cell speaks another version.
    Version { cell: u32 },
}

impl core::fmt::Display for PageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PageError::Magic { found } => write!(f, "the cell's gate page begins with {found:#x}"),
            PageError::Version { cell } => {
                write!(f, "built for ABI version {ABI_VERSION}, the cell speaks {cell}: rebuild the function")
            }
        }
    }
}

impl Page {
    /// The page that the auxiliary vector names, if this program runs in a cell.
    pub(crate) fn find() -> Option<Page> {
        // SAFETY: looks a number up in the auxiliary vector.
        let address = unsafe { libc::getauxval(AT_BATON) };
        let at = core::ptr::with_exposed_provenance_mut::<GatePage>(usize::try_from(address).ok()?);
        NonNull::new(at).map(|at| Page { at })
    }

    /// The page at `at`, which lasts as long as the process.
    #[cfg(test)]
    pub(crate) fn of(at: &'static GatePage) -> Page {
        Page { at: NonNull::from(at) }
    }

    /// The eight bytes at `at`, as they are now: a fork or a restore changes them while this function waits in a gate.
    #[inline]
    fn word(self, at: usize) -> u64 {
        let at = self.at.as_ptr().cast::<u8>().wrapping_add(at).cast::<u64>();
        // SAFETY: callers name words of the page, which whoever wrote the entry of the auxiliary vector mapped for as long
        // as this process lives.
        unsafe { at.read_volatile() }
    }

    /// This page, if this SDK can use it.
    ///
    /// # Errors
    /// [`PageError`] if not.
    pub(crate) fn check(self) -> Result<Page, PageError> {
        let [m0, m1, m2, m3, v0, v1, v2, v3] = self.word(0).to_le_bytes();
        match (u32::from_le_bytes([m0, m1, m2, m3]), u32::from_le_bytes([v0, v1, v2, v3])) {
            (GATE_MAGIC, ABI_VERSION) => Ok(self),
            (GATE_MAGIC, cell) => Err(PageError::Version { cell }),
            (found, _) => Err(PageError::Magic { found }),
        }
    }

    /// Changes whenever this process finds itself in a copy.
    #[inline]
    pub(crate) fn incarnation(self) -> u64 {
        self.word(core::mem::offset_of!(GatePage, incarnation))
    }

    /// Passes through gate `N`.
    #[inline]
    pub(super) fn pass<const N: usize>(self, a: u64, b: u64, c: u64) -> i64 {
        const { assert!(N < baton_abi::gate::GATES) };
        // Gates differ between cells, so the address is read anew each time.
        let gate = self.word(core::mem::offset_of!(GatePage, gates) + N * size_of::<u64>());
        let gate = core::ptr::with_exposed_provenance::<()>(usize::try_from(gate).unwrap_or(0));
        // SAFETY: the page was checked: an entry below `GATES` is the address of a function of this type.
        let gate = unsafe { core::mem::transmute::<*const (), Gate>(gate) };
        gate(a, b, c)
    }

    /// Sends `reply` if there is one, then waits for the next event.
    #[inline]
    pub(crate) fn receive(self, reply: Option<&Parcel>, event: &mut Parcel) -> i64 {
        let reply = reply.map_or(0, |reply| address(reply));
        self.pass::<RECV>(reply, address(&raw mut *event), 0)
    }
}
