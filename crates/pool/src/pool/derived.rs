//! The derived part of the table, as far as anyone wrote it.

use baton_abi::limits::DERIVED_MAX;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::Pool;
use crate::capability::{Capability, Entry};

impl Pool {
    /// Derived entries that may be anything but free: pages of the table that nobody wrote yet are not even there, and looking
    /// at them would bring them there.
    pub(super) fn derived(&self) -> Vec<core::ops::Range<u32>> {
        let all = self.slots..self.slots + self.arenas_used * DERIVED_MAX;
        let bytes = |index: u32| u64::from(index) * size_of::<Entry>() as u64;
        let index = |bytes: u64| u32::try_from(bytes / size_of::<Entry>() as u64).unwrap_or(u32::MAX);
        let mut written = Vec::new();
        let mut at = bytes(all.start);
        while at < bytes(all.end) {
            let data = match seek(self.table_fd(), SeekFrom::Data(at)) {
                Ok(data) => data,
                // There is nothing behind.
                Err(Errno::NXIO) => break,
                Err(_) => return vec![all],
            };
            // A page begins with an entry.
            let Ok(hole) = seek(self.table_fd(), SeekFrom::Hole(data)) else { return vec![all] };
            written.push(index(data).max(all.start)..index(hole).min(all.end));
            at = hole;
        }
        written
    }

    /// Every derived capability that is not free.
    pub(super) fn scan_derived(&self) -> impl Iterator<Item = Capability> + '_ {
        self.derived().into_iter().flat_map(|range| self.table.scan(range))
    }
}
