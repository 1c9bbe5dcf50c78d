//! Memory keys: who gets which, and what a guest's rights register says.
//!
//! | key | pages | a guest may |
//! |---|---|---|
//! | 0 | the runtime's own, and everything that nobody thought of | nothing |
//! | share | selector, last registers of a return, gate page, vDSO | read |
//! | pool | the pool, under `trust = "app"` | read and write, or as `pool` in the manifest says |
//! | one a seat, or one for all seats with one `share_key` | the seat's memory, and buffers that are open to it | read and write |
//!
//! A key is never freed: the kernel would give it out again while pages still carry it.

use baton_abi::boot::PoolAccess;
use baton_abi::cell::Trust;
use baton_abi::plan::Entry;
use rustix::io::Errno;

use crate::book::SeatId;
use crate::sys;

/// The keys of a cell.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) share: u32,
    /// Of the pool: 0 where no guest may use it as a whole.
    pub(crate) pool: u32,
    seats: Vec<u32>,
}

impl Keys {
    /// Allocates a key for every seat, and one for each group that shares one.
    pub(crate) fn new(entries: &[Entry<'_>], trust: Trust) -> Result<Keys, Errno> {
        let share = sys::key()?;
        let pool = if trust == Trust::App { sys::key()? } else { 0 };
        let mut seats: Vec<u32> = Vec::new();
        for entry in entries {
            let before = entries.iter().zip(&seats);
            let shared =
                before.filter(|(other, _)| other.key_group == entry.key_group && entry.key_group != 0);
            let known = shared.map(|(_, key)| *key).next();
            seats.push(match known {
                Some(key) => key,
                None => sys::key()?,
            });
        }
        Ok(Keys { share, pool, seats })
    }

    pub(crate) fn of(&self, seat: SeatId) -> u32 {
        self.seats.get(usize::from(seat)).copied().unwrap_or(0)
    }

    /// The rights register of a guest with `key`: everything denied but what the table above says.
    pub(crate) fn rights(&self, key: u32, access: PoolAccess, trust: Trust) -> u32 {
        const DENY_WRITE: u32 = 0b10;
        const DENY_ALL: u32 = 0b11;
        let mut rights = !(DENY_ALL << (2 * key));
        rights = rights & !(DENY_ALL << (2 * self.share)) | DENY_WRITE << (2 * self.share);
        if trust == Trust::App {
            let pool = match access {
                PoolAccess::Absent => DENY_ALL,
                PoolAccess::Read => DENY_WRITE,
                PoolAccess::Write => 0,
            };
            rights = rights & !(DENY_ALL << (2 * self.pool)) | pool << (2 * self.pool);
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_its_own_key_and_what_all_may_read() {
        let keys = Keys { share: 1, pool: 2, seats: vec![3, 4] };
        // From the left: keys 15 to 4 denied, 3 open, 2 (the pool) open, 1 readable, 0 denied.
        let rights = keys.rights(3, PoolAccess::Write, Trust::App);
        assert_eq!(rights, 0b1111_1111_1111_1111_1111_1111_0000_1011);
        assert_eq!(keys.rights(4, PoolAccess::Absent, Trust::Buffer) & 0b11, 0b11, "never the runtime's");
        assert_eq!(keys.rights(4, PoolAccess::Read, Trust::App) >> 4 & 0b11, 0b10);
        assert_eq!(keys.of(1), 4);
    }
}
