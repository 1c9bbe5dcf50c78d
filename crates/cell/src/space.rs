//! The memory of one seat: which ranges it has, what may be done with them, and which pages a request wrote.
//!
//! ```text
//! seat  ┌ image ┬ heap … ┬─────────── mail ──────────── maps … ──────────── guard │ stack ┐
//!       └ 0     └ break  └ MAIL_OFFSET         MAPS_OFFSET                        STACK_TOP
//! ```
//! Everything carries the seat's key. Executable ranges are mapped by the loader, before the first guest runs, and never
//! after.
//!
//! **Watching.** A seat that is reset after each request has its writable ranges mapped read-only. The first write to a
//! page faults, the page joins the *hot* set and becomes writable; a reset copies the hot pages back. Requests of a function
//! dirty much the same pages, so that after a few of them nothing faults any more and a reset is one `memcpy` for each
//! hot range, without a system call.

// UNSAFETY: maps, unmaps and copies memory of guests.
#![expect(unsafe_code, reason = "the memory of guests")]

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::arch;
use crate::reach::Reach;
use crate::sys::{self, Access, Backing, PAGE};

/// Ranges that one seat may have: beyond it mappings fail as if memory were short.
const REGIONS_MAX: usize = 4096;
/// Hot pages from which on watching starts anew: copying more back costs more than finding out again. So many hot ranges end
/// it: each is two mappings of the kernel's, of which all seats together have 65,530.
const HOT_MAX: usize = 1024;

/// One range with one kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) end: u64,
    pub(crate) access: Access,
}

/// The memory of one seat.
#[derive(Debug)]
pub(crate) struct Space {
    reach: Reach,
    key: u32,
    regions: BTreeMap<u64, Region>,
    /// Something was mapped, unmapped or protected since the snapshot.
    pub(crate) changed: bool,
    watching: bool,
    is_fresh: bool,
    /// Pages that are writable while watched, as ranges.
    hot: BTreeMap<u64, u64>,
    hot_pages: usize,
}

/// What a write fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// The page is writable now: try again.
    Watched,
    /// The guest had no business there.
    Foreign,
}

impl Space {
    pub(crate) fn new(reach: Reach, key: u32) -> Space {
        Space {
            reach,
            key,
            regions: BTreeMap::new(),
            changed: false,
            watching: false,
            is_fresh: false,
            hot: BTreeMap::new(),
            hot_pages: 0,
        }
    }

    pub(crate) fn base(&self) -> u64 {
        self.reach.base()
    }

    /// As [`Reach::contains`].
    #[inline]
    pub(crate) fn contains(&self, at: u64, len: u64) -> bool {
        self.reach.contains(at, len)
    }

    /// All ranges, in order.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (u64, Region)> + '_ {
        self.regions.iter().map(|(&at, &region)| (at, region))
    }

    /// Replaces what the seat has in a range by a new mapping.
    pub(crate) fn map(&mut self, at: u64, len: u64, access: Access, backing: Backing) -> Result<(), Errno> {
        self.admit(at, len)?;
        // SAFETY: the range lies in this seat, of whose memory the runtime keeps no references.
        unsafe { sys::map(at, len, access, backing, self.key) }?;
        self.forget(at, at + len);
        self.regions.insert(at, Region { end: at + len, access });
        self.changed = true;
        Ok(())
    }

    /// Changes what may be done with a range that is mapped throughout.
    pub(crate) fn protect(&mut self, at: u64, len: u64, access: Access) -> Result<(), Errno> {
        self.admit(at, len)?;
        if !self.is_mapped(at, at + len) {
            return Err(Errno::NOMEM);
        }
        // What is watched stays so until its first write; a range that is opened anew counts as hot.
        sys::protect(at, len, access, self.key)?;
        self.forget(at, at + len);
        self.regions.insert(at, Region { end: at + len, access });
        self.changed = true;
        Ok(())
    }

    /// Unmaps a range, mapped or not.
    pub(crate) fn unmap(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.admit(at, len)?;
        // SAFETY: as in `map`.
        unsafe { sys::unmap(at, len) }?;
        self.forget(at, at + len);
        self.changed = true;
        Ok(())
    }

    /// Makes what is mapped in a range read as zeros. What may be done with it stays.
    pub(crate) fn discard(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.admit(at, len)?;
        for (from, to, access) in self.data_parts(at, at + len) {
            // A page of a private file mapping would come back with the file's bytes: a fresh mapping has none.
            // SAFETY: as in `map`.
            unsafe { sys::map(from, to - from, access, Backing::Anonymous, self.key) }?;
            self.changed = true;
        }
        Ok(())
    }

    fn admit(&self, at: u64, len: u64) -> Result<(), Errno> {
        let whole = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        if !whole || !self.contains(at, len) {
            return Err(Errno::INVAL);
        }
        if self.regions.len() >= REGIONS_MAX { Err(Errno::NOMEM) } else { Ok(()) }
    }

    fn is_mapped(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        while at < to {
            match self.regions.range(..=at).next_back() {
                Some((_, region)) if region.end > at => at = region.end,
                _ => return false,
            }
        }
        true
    }

    fn data_parts(&self, from: u64, to: u64) -> Vec<(u64, u64, Access)> {
        let first = self.regions.range(..from).next_back().filter(|(_, region)| region.end > from);
        first
            .into_iter()
            .chain(self.regions.range(from..to))
            .filter(|(_, region)| region.access != Access::Execute)
            .map(|(&at, region)| (at.max(from), region.end.min(to), region.access))
            .collect()
    }

    /// Takes `from..to` out of the list of ranges.
    fn forget(&mut self, from: u64, to: u64) {
        let first = self.regions.range(..from).next_back().map(|(&at, &region)| (at, region));
        if let Some((at, region)) = first.filter(|(_, region)| region.end > from) {
            self.regions.insert(at, Region { end: from, ..region });
            if region.end > to {
                self.regions.insert(to, region);
            }
        }
        let inside: Vec<(u64, Region)> =
            self.regions.range(from..to).map(|(&at, &region)| (at, region)).collect();
        for (at, region) in inside {
            self.regions.remove(&at);
            if region.end > to {
                self.regions.insert(to, region);
            }
        }
    }

    /// The list as a snapshot has it: called once the mappings are in place.
    pub(crate) fn set_regions(&mut self, regions: impl Iterator<Item = (u64, Region)>) {
        self.regions = regions.collect();
        self.changed = false;
        self.is_fresh = true;
        self.watching = false;
        self.hot.clear();
        self.hot_pages = 0;
    }

    /// Moves a range, with what it holds, to a place where nothing is.
    pub(crate) fn relocate(&mut self, from: u64, to: u64, len: u64) -> Result<(), Errno> {
        self.admit(from, len)?;
        self.admit(to, len)?;
        // SAFETY: both ranges lie in this seat, of whose memory the runtime keeps no references.
        unsafe { sys::relocate(from, to, len) }?;
        let moved: Vec<(u64, Region)> = self
            .regions
            .range(from..from + len)
            .map(|(&at, region)| {
                let end = region.end.min(from + len);
                (at - from + to, Region { end: end - from + to, access: region.access })
            })
            .collect();
        self.forget(from, from + len);
        self.forget(to, to + len);
        self.regions.extend(moved);
        self.changed = true;
        Ok(())
    }

    /// Whether nothing was written or mapped since the memory was put in place.
    pub(crate) fn is_as_captured(&self) -> bool {
        self.is_fresh && !self.changed
    }

    /// The guest is about to run.
    pub(crate) fn note_run(&mut self) {
        self.is_fresh = false;
    }

    // ---- bytes ----------------------------------------------------------------------------------------------------

    /// As [`Reach::read`].
    #[inline]
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> bool {
        self.reach.read(at, out)
    }

    /// Copies into guest memory; `false` if a page is not writable for the guest.
    #[inline]
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        // SAFETY: the range lies in this seat.
        self.contains(at, bytes.len() as u64)
            && unsafe { self.copy_in(at, bytes.as_ptr() as u64, bytes.len()) }
    }

    /// As [`Space::write`], from anywhere.
    ///
    /// # Safety
    /// `at..at + len` lies in this seat.
    pub(crate) unsafe fn copy_in(&mut self, at: u64, from: u64, len: usize) -> bool {
        if self.watching && !self.heat(at, at + len as u64) {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { arch::copy(at, from, len) }
    }

    /// As [`Space::copy_in`], lines of 64 bytes.
    ///
    /// # Safety
    /// They lie in this seat.
    #[inline]
    pub(crate) unsafe fn copy_lines_in(&mut self, at: u64, from: u64, lines: usize) -> bool {
        if self.watching && !self.heat(at, at + 64 * lines as u64) {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { arch::copy_lines(at, from, lines) }
    }

    // ---- watching --------------------------------------------------------------------------------------------------

    /// Begins to watch: every writable range becomes read-only.
    pub(crate) fn watch(&mut self) -> Result<(), Errno> {
        for (&at, region) in self.regions.iter().filter(|(_, region)| region.access == Access::Write) {
            sys::protect(at, region.end - at, Access::Read, self.key)?;
        }
        self.watching = true;
        self.hot.clear();
        self.hot_pages = 0;
        Ok(())
    }

    /// A guest of this seat wrote where it may not.
    pub(crate) fn write_fault(&mut self, at: u64) -> WriteFault {
        if self.watching && self.contains(at, 1) && !self.is_hot(at) && self.heat(at, at + 1) {
            WriteFault::Watched
        } else {
            WriteFault::Foreign
        }
    }

    fn is_hot(&self, at: u64) -> bool {
        self.hot.range(..=at).next_back().is_some_and(|(_, &end)| end > at)
    }

    /// Makes the pages of a range writable and remembers them. `false` if the guest may not write there.
    #[inline(never)]
    fn heat(&mut self, from: u64, to: u64) -> bool {
        let mut page = from & !(PAGE - 1);
        while page < to && self.watching {
            if self.hot.len() >= HOT_MAX {
                return self.stop_watching();
            }
            if !self.is_hot(page) {
                let region = self.regions.range(..=page).next_back().map(|(_, region)| *region);
                let writable =
                    region.is_some_and(|region| region.end > page && region.access == Access::Write);
                if !writable || sys::protect(page, PAGE, Access::Write, self.key).is_err() {
                    return false;
                }
                self.add_hot(page);
            }
            page += PAGE;
        }
        true
    }

    /// Everything becomes writable; the next reset maps the snapshot anew.
    fn stop_watching(&mut self) -> bool {
        self.watching = false;
        self.changed = true;
        let writable = self.regions.iter().filter(|(_, region)| region.access == Access::Write);
        writable.fold(true, |done, (&at, region)| {
            done && sys::protect(at, region.end - at, Access::Write, self.key).is_ok()
        })
    }

    fn add_hot(&mut self, page: u64) {
        let mut start = page;
        let mut end = page + PAGE;
        if let Some(next) = self.hot.remove(&end) {
            end = next;
        }
        if let Some((&before, &before_end)) = self.hot.range(..page).next_back()
            && before_end == page
        {
            start = before;
        }
        self.hot.insert(start, end);
        self.hot_pages += 1;
    }

    /// Whether so many pages are hot that watching should begin anew.
    pub(crate) fn is_overheated(&self) -> bool {
        self.hot_pages > HOT_MAX
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watching
    }

    /// The ranges that a request may have written.
    pub(crate) fn hot(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.hot.iter().map(|(&from, &to)| (from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_abi::cell::{SEAT_BYTES, SEATS_AT};

    fn space() -> Space {
        Space::new(Reach::new(SEATS_AT, 0), 0)
    }

    fn ranges(space: &Space) -> Vec<(u64, u64, Access)> {
        space.regions().map(|(at, region)| (at - SEATS_AT, region.end - SEATS_AT, region.access)).collect()
    }

    #[test]
    fn protecting_and_unmapping_split_ranges() {
        let mut space = space();
        space.map(SEATS_AT, 8 * PAGE, Access::Write, Backing::Anonymous).unwrap();
        space.protect(SEATS_AT + PAGE, PAGE, Access::Read).unwrap();
        space.unmap(SEATS_AT + 4 * PAGE, 2 * PAGE).unwrap();
        let p = PAGE;
        assert_eq!(
            ranges(&space),
            [
                (0, p, Access::Write),
                (p, 2 * p, Access::Read),
                (2 * p, 4 * p, Access::Write),
                (6 * p, 8 * p, Access::Write)
            ]
        );
        assert_eq!(space.protect(SEATS_AT + 3 * p, 2 * p, Access::Read), Err(Errno::NOMEM));
        space.unmap(SEATS_AT, 8 * p).unwrap();
        assert!(ranges(&space).is_empty());
    }

    #[test]
    fn ranges_outside_of_the_seat_are_refused() {
        let mut space = space();
        for (at, len) in
            [(SEATS_AT - PAGE, PAGE), (SEATS_AT, SEAT_BYTES + PAGE), (SEATS_AT + 1, PAGE), (SEATS_AT, 0)]
        {
            assert_eq!(space.map(at, len, Access::Write, Backing::Anonymous), Err(Errno::INVAL));
        }
        assert!(!space.contains(u64::MAX, 2));
        assert!(!space.contains(SEATS_AT + SEAT_BYTES - 1, 2));
        assert!(space.contains(SEATS_AT + SEAT_BYTES - 1, 1));
    }

    #[test]
    fn bytes_are_copied_where_they_are_mapped_for_it() {
        let mut space = space();
        let at = SEATS_AT + (1 << 30);
        space.map(at, 2 * PAGE, Access::Write, Backing::Anonymous).unwrap();
        assert!(space.write(at + PAGE - 2, b"over"));
        let mut out = [0; 4];
        assert!(space.read(at + PAGE - 2, &mut out));
        assert_eq!(&out, b"over");
        assert!(!space.contains(SEATS_AT - 1, 4));
        space.unmap(at, 2 * PAGE).unwrap();
    }

    #[test]
    fn so_many_hot_ranges_end_the_watch() {
        let mut space = space();
        let (at, pages) = (SEATS_AT + (3 << 30), 4 * HOT_MAX as u64);
        space.map(at, pages * PAGE, Access::Write, Backing::Anonymous).unwrap();
        space.watch().unwrap();
        for nth in (0..2 * HOT_MAX as u64).step_by(2) {
            assert_eq!(space.write_fault(at + nth * PAGE), WriteFault::Watched);
        }
        assert!(space.is_watching());
        assert_eq!(space.write_fault(at + 3 * HOT_MAX as u64 * PAGE), WriteFault::Watched);
        assert!(!space.is_watching() && space.changed);
        assert!(space.write(at + pages * PAGE - 4, b"last"), "all of it is writable");
        space.unmap(at, pages * PAGE).unwrap();
    }

    #[test]
    fn hot_pages_join_into_ranges() {
        let mut space = space();
        let at = SEATS_AT + (2 << 30);
        space.map(at, 8 * PAGE, Access::Write, Backing::Anonymous).unwrap();
        space.watch().unwrap();
        assert_eq!(space.write_fault(at + 2 * PAGE), WriteFault::Watched);
        assert_eq!(space.write_fault(at + 4 * PAGE + 7), WriteFault::Watched);
        assert_eq!(
            space.write_fault(at + 4 * PAGE),
            WriteFault::Foreign,
            "a hot page does not fault for writing"
        );
        assert!(space.write(at + 3 * PAGE - 1, b"12"));
        assert_eq!(space.hot().collect::<Vec<_>>(), [(at + 2 * PAGE, at + 5 * PAGE)]);
        assert_eq!(space.write_fault(at + 8 * PAGE), WriteFault::Foreign);
        space.unmap(at, 8 * PAGE).unwrap();
    }
}
