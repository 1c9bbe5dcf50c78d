//! The gate page, and the calls through it.

// UNSAFETY: reads a page that the cell's runtime made, and calls the addresses in it.
#![expect(unsafe_code, reason = "gates are functions that are known by their address only")]

use core::ptr::NonNull;

use baton_abi::ABI_VERSION;
use baton_abi::gate::{
    ALLOC, AT_BATON, CALL, CANCEL, FREE, FREEZE, GATE_MAGIC, GatePage, Grant, LOG, NARROW, Pair, Parcel,
    RANDOM, RECV, REPLY, REVOKE,
};
use baton_pool::capability::Range;

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

fn address<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64
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

    /// # Errors
    /// [`PageError`] if this SDK cannot use it.
    pub(crate) fn check(self) -> Result<(), PageError> {
        let [m0, m1, m2, m3, v0, v1, v2, v3] = self.word(0).to_le_bytes();
        match (u32::from_le_bytes([m0, m1, m2, m3]), u32::from_le_bytes([v0, v1, v2, v3])) {
            (GATE_MAGIC, ABI_VERSION) => Ok(()),
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
    fn pass<const N: usize>(self, a: u64, b: u64, c: u64) -> i64 {
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

    #[inline]
    pub(crate) fn reply(self, reply: &Parcel) -> i64 {
        self.pass::<REPLY>(address(reply), 0, 0)
    }

    /// Calls the function at `index` of this one's `calls`.
    #[inline]
    pub(crate) fn call(self, index: u64, parcel: &mut Parcel) -> i64 {
        self.pass::<CALL>(index, address(&raw mut *parcel), 0)
    }

    pub(crate) fn cancel(self, tag: u32) -> i64 {
        self.pass::<CANCEL>(u64::from(tag), 0, 0)
    }

    /// Takes buffers for `bytes` each; how many.
    pub(crate) fn alloc(self, bytes: u64, grants: &mut [Grant]) -> i64 {
        self.pass::<ALLOC>(bytes, grants.len() as u64, address(grants.as_mut_ptr()))
    }

    pub(crate) fn free(self, pairs: &[Pair]) -> i64 {
        self.pass::<FREE>(address(pairs.as_ptr()), pairs.len() as u64, 0)
    }

    pub(crate) fn freeze(self, pair: Pair) -> i64 {
        self.pass::<FREEZE>(address(&raw const pair), 0, 0)
    }

    pub(crate) fn revoke(self, pair: Pair) -> i64 {
        self.pass::<REVOKE>(address(&raw const pair), 0, 0)
    }

    pub(crate) fn narrow(self, pair: Pair, range: Range) -> i64 {
        self.pass::<NARROW>(address(&raw const pair), range.offset, range.len)
    }

    pub(crate) fn log(self, level: u8, text: &[u8]) -> i64 {
        self.pass::<LOG>(u64::from(level), address(text.as_ptr()), text.len() as u64)
    }

    /// Fills `bytes` with random ones; how many were filled.
    pub(crate) fn random(self, bytes: &mut [u8]) -> i64 {
        self.pass::<RANDOM>(address(bytes.as_mut_ptr()), bytes.len() as u64, 0)
    }
}
