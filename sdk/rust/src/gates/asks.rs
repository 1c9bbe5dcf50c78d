//! What this function asks its runtime for: a gate each, whatever way gates are passed.

use baton_abi::gate::{
    ALLOC, CALL, CANCEL, FREE, FREEZE, Grant, LOG, NARROW, Pair, Parcel, RANDOM, REPLY, REVOKE,
};

use super::Page;
use crate::capability::Range;

/// Where something lies in this function's memory.
pub(super) fn address<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64
}

impl Page {
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
