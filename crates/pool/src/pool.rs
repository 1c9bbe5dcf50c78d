//! The node's side of an app's payload memory: region, ledger and capability table as one.
//!
//! Every message of a replica is an allegation here: the ledger decides what exists and where it lies, the table only
//! says who claims it. A claim that the ledger does not bear out is a [`Refusal`]; nothing changes then.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX, slots_for};
use baton_abi::{Extent, Rights};

use crate::capability::{
    Capability, CapabilityError, CapabilityTable, Handle, Hold, NODE, Range, Scribe, State,
};
use crate::ledger::{Full, Ledger, LedgerError, LedgerSlot, NOBODY, Place};
use crate::placed::Placed;
use crate::region::{self, Access, Mapping, RegionError};
use own::OwnHolds;

pub use reclaim::Reclaimed;
pub use share::{OwnArena, ShareError};
pub use usage::Usage;

mod derived;
mod guarded;
mod over;
mod own;
mod reclaim;
mod share;
mod usage;

/// From this many dirty bytes on, whole pages go back to the kernel instead of being overwritten with zeros. That takes as long, and
/// whoever touches them next waits for each in every mapping; it is for what is too large to stay behind unused.
const PUNCH_FROM: u64 = 16 << 20;

/// Why the node did not believe a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ledger knows better.
    Ledger(LedgerError),
    /// The replica does not hold what it sends.
    Capability(CapabilityError),
}

/// One app's payload memory.
#[derive(Debug)]
pub struct Pool {
    fd: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    bytes: u64,
    ledger_fd: OwnedFd,
    ledger: Ledger,
    table_fd: OwnedFd,
    table: CapabilityTable,
    slots: u32,
    // Derived ranges that were ever given to a replica: the part of the table that is worth scanning.
    arenas_used: u32,
    // Buffers without an owner that someone may still read: at most one for each slot, however often a liar frees it.
    orphans: BTreeMap<u32, u32>,
    sweep_due: bool,
    punch_from: u64,
    // What the node itself holds, whatever the table says.
    own: OwnHolds,
    // Replicas cannot write the table: the kernel moves what they hand over.
    guarded: bool,
}

/// A buffer in the node's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeBuffer {
    /// Its capability.
    pub handle: Handle,
    /// Where it lies in the pool.
    pub place: Place,
}

/// What a replica handed to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The capability, now the node's.
    pub handle: Handle,
    /// Where the bytes lie in the pool.
    pub place: Place,
}

fn placed<T: crate::placed::SharedLayout>(
    fd: BorrowedFd<'_>,
    len: u32,
    access: Access,
) -> Result<Placed<T>, RegionError> {
    let malformed = RegionError { step: "laying out a table", errno: rustix::io::Errno::INVAL };
    let bytes = (len as usize).checked_mul(size_of::<T>()).ok_or(malformed)?;
    let mapping = Arc::new(Mapping::new(fd, bytes, access)?);
    Placed::mapped(&mapping, 0, len as usize).ok_or(malformed)
}

/// Bytes of a pool for which `bytes` were asked.
fn rounded(bytes: u64, huge_pages: bool) -> u64 {
    bytes.next_multiple_of(if huge_pages { 2 << 20 } else { 4096 })
}

impl Pool {
    /// Makes a pool of `bytes`.
    ///
    /// # Errors
    /// [`RegionError`] naming what the kernel refused.
    pub fn create(app: &str, bytes: u64, huge_pages: bool) -> Result<Pool, RegionError> {
        let table_bytes =
            u64::from(Pool::entries_for(bytes, huge_pages)) * size_of::<crate::capability::Entry>() as u64;
        let table_fd = region::create(&format!("baton-caps-{app}"), table_bytes, false)?;
        Pool::over(app, bytes, huge_pages, (table_fd, None))
    }

    fn over(
        app: &str,
        bytes: u64,
        huge_pages: bool,
        (table_fd, scribe): (OwnedFd, Option<Box<dyn Scribe>>),
    ) -> Result<Pool, RegionError> {
        let entries = Pool::entries_for(bytes, huge_pages);
        let bytes = rounded(bytes, huge_pages);
        let slots = slots_for(bytes);
        let fd = region::create(&format!("baton-pool-{app}"), bytes, huge_pages)?;
        let too_large = RegionError { step: "mapping the pool", errno: rustix::io::Errno::NOMEM };
        let len = usize::try_from(bytes).map_err(|_| too_large)?;
        let mapping = Arc::new(Mapping::new(&fd, len, Access::ReadWrite)?);
        let ledger_bytes = u64::from(slots) * size_of::<LedgerSlot>() as u64;
        let ledger_fd = region::create(&format!("baton-ledger-{app}"), ledger_bytes, false)?;
        let ledger = Ledger::new(placed(ledger_fd.as_fd(), slots, Access::ReadWrite)?, bytes);
        let guarded = scribe.is_some();
        let table = match scribe {
            None => CapabilityTable::new(placed(table_fd.as_fd(), entries, Access::ReadWrite)?),
            Some(scribe) => {
                CapabilityTable::written_by(placed(table_fd.as_fd(), entries, Access::Read)?, scribe)
            }
        };
        Ok(Pool {
            fd: Arc::new(fd),
            mapping,
            bytes,
            ledger_fd,
            ledger,
            table_fd,
            table,
            slots,
            arenas_used: 0,
            orphans: BTreeMap::new(),
            sweep_due: false,
            // A huge page that is given back may not be had again: then its next touch kills.
            punch_from: if huge_pages { u64::MAX } else { PUNCH_FROM },
            own: OwnHolds::none(slots),
            guarded,
        })
    }

    /// From now on buffers beyond the largest size class have pages of their own, so that a memory key can follow each.
    pub fn keep_pages_apart(&mut self) {
        self.ledger.keep_pages_apart();
    }

    /// Bytes of the pool.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Buffer slots.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The region; [`region::read_only`] makes of it what a reader gets.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The region's descriptor, for a thread that sends from it.
    #[must_use]
    pub fn shared_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// The ledger's region. Replicas get it read-only.
    #[must_use]
    pub fn ledger_fd(&self) -> BorrowedFd<'_> {
        self.ledger_fd.as_fd()
    }

    /// The capability table's region.
    #[must_use]
    pub fn table_fd(&self) -> BorrowedFd<'_> {
        self.table_fd.as_fd()
    }

    /// The mapping, for bodies that are written to sockets in place.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// First table entry of the derived range of the replica at `index` (below [`REPLICAS_MAX`]).
    pub fn derived_base(&mut self, index: u32) -> u32 {
        self.arenas_used = self.arenas_used.max(index + 1).min(REPLICAS_MAX);
        self.ledger.publish_derived_used(self.arenas_used * DERIVED_MAX);
        self.slots + index * DERIVED_MAX
    }

    /// A buffer of `len` bytes for the node itself.
    ///
    /// # Errors
    /// [`Full`].
    pub fn alloc(&mut self, len: u64) -> Result<NodeBuffer, Full> {
        let buffer = self.ledger.alloc(len)?;
        let handle = Handle { index: buffer.slot, generation: buffer.generation };
        self.table.grant(handle, Range { offset: 0, len: 0 }, Hold::held(NODE));
        self.own.take(handle);
        Ok(NodeBuffer { handle, place: buffer.place })
    }

    /// A buffer of `len` bytes for the stash of replica `holder`, without a byte of anyone else in it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn grant(&mut self, len: u64, holder: u16) -> Result<Handle, Full> {
        let handle = self.set_aside(len, holder)?;
        self.table.grant(handle, Range { offset: 0, len: 0 }, Hold::new(State::Stashed, holder));
        Ok(handle)
    }

    /// [`Pool::grant`] of up to `count` buffers: as many as there are.
    pub fn grant_many(&mut self, len: u64, holder: u16, count: usize) -> Vec<Handle> {
        let handles: Vec<_> = (0..count).map_while(|_| self.set_aside(len, holder).ok()).collect();
        self.table.grant_all(&handles, Hold::new(State::Stashed, holder));
        handles
    }

    /// A clean buffer for `holder` that is in nobody's hands yet.
    fn set_aside(&mut self, len: u64, holder: u16) -> Result<Handle, Full> {
        let buffer = self.ledger.alloc(len)?;
        if buffer.dirty_by != holder {
            self.zero(buffer.place.offset, buffer.dirty_len.min(buffer.place.capacity));
            self.ledger.mark_clean(buffer.slot);
        }
        Ok(Handle { index: buffer.slot, generation: buffer.generation })
    }

    fn zero(&self, offset: u64, len: u64) {
        let pages = offset.next_multiple_of(4096)..(offset + len) / 4096 * 4096;
        if len < self.punch_from
            || pages.end <= pages.start
            || !region::punch(self.fd.as_fd(), pages.start, pages.end - pages.start)
        {
            self.mapping.zero(offset, len);
            return;
        }
        self.mapping.zero(offset, pages.start - offset);
        self.mapping.zero(pages.end, offset + len - pages.end);
    }

    /// Writes `bytes` at `at` in a buffer of the node's. `false` if they do not fit.
    pub fn write(&self, buffer: &NodeBuffer, at: u64, bytes: &[u8]) -> bool {
        match at.checked_add(bytes.len() as u64) {
            Some(end) if end <= buffer.place.capacity => self.mapping.write(buffer.place.offset + at, bytes),
            _ => false,
        }
    }

    /// Puts a buffer of the node's on the way to `holder`; its range is what was written. What lies behind the
    /// range from an owner before is zeroed.
    ///
    /// # Errors
    /// [`CapabilityError`] when the table was tampered with.
    pub fn send(
        &mut self,
        buffer: &NodeBuffer,
        range: Range,
        holder: u16,
        invocation: u64,
    ) -> Result<(), CapabilityError> {
        self.send_into(buffer, range, (self.hold_to(None, holder), holder), invocation)
    }

    /// Takes back what [`Pool::send`] put on the way, if the replica has not taken it yet.
    pub fn unsend(&mut self, buffer: &NodeBuffer, holder: u16) -> bool {
        let back = self.table.transfer(buffer.handle, self.hold_to(None, holder), Hold::held(NODE)).is_ok();
        if back {
            self.own.take(buffer.handle);
        }
        back
    }

    /// Takes over what `holder` alleges to send.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then.
    pub fn receive(&mut self, extent: Extent, holder: u16) -> Result<Received, Refusal> {
        self.receive_from(extent, (None, holder))
    }

    /// What came over an edge, or over the link, from `holder`.
    fn receive_from(
        &mut self,
        extent: Extent,
        (edge, holder): (Option<u16>, u16),
    ) -> Result<Received, Refusal> {
        let handle = Handle { index: extent.handle, generation: extent.generation };
        let place = if handle.index < self.slots {
            self.ledger.check(handle.index, handle.generation, extent.offset, extent.len)
        } else {
            let found = self
                .table
                .look(handle.index)
                .filter(|found| found.handle == handle)
                .ok_or(Refusal::Capability(CapabilityError::Index { index: handle.index }))?;
            let named = Range { offset: extent.offset, len: extent.len };
            if !found.range.contains(named) {
                let error = CapabilityError::OutOfBounds { named, has: found.range };
                return Err(Refusal::Capability(error));
            }
            self.ledger.check(found.slot, found.slot_generation, extent.offset, extent.len)
        }
        .map_err(Refusal::Ledger)?;
        self.refuse_own(handle)?;
        let range = Range { offset: extent.offset, len: extent.len };
        let rights = self.arrive(handle, range, edge, holder).map_err(Refusal::Capability)?;
        self.own.take(handle);
        if !rights.allows(Rights::READ) {
            self.release(handle);
            let error = CapabilityError::Denied { need: Rights::READ, has: rights };
            return Err(Refusal::Capability(error));
        }
        Ok(Received { handle, place })
    }

    /// Where a head lies that shares its buffer with a payload that the node just received.
    ///
    /// # Errors
    /// [`Refusal`] when it does not lie inside that buffer.
    pub fn head_place(&self, payload: Handle, offset: u64, len: u64) -> Result<Place, Refusal> {
        self.ledger.check(payload.index, payload.generation, offset, len).map_err(Refusal::Ledger)
    }

    /// Takes back a buffer that `holder` says it does not need any more. Frozen buffers, and what a derived capability
    /// pinned, come back with the next [`Pool::tidy`].
    ///
    /// # Errors
    /// [`Refusal`]; nothing changes then.
    pub fn free_by(&mut self, handle: Handle, holder: u16) -> Result<(), Refusal> {
        if handle.index >= self.slots {
            // A derived capability that its holder gave up: the orphan above it may come back now.
            self.sweep_due = true;
            return Ok(());
        }
        self.ledger.check(handle.index, handle.generation, 0, 0).map_err(Refusal::Ledger)?;
        self.refuse_own(handle)?;
        let stashed = Hold::new(State::Stashed, holder);
        let orphan = Hold::new(State::Orphan, NODE);
        let transfer = |from: Hold| match self.guarded {
            false => self.table.transfer(handle, from, orphan),
            true => self.soil(handle, from, orphan),
        };
        transfer(stashed).or_else(|_| transfer(Hold::held(holder))).map_err(Refusal::Capability)?;
        self.bury(handle, holder);
        Ok(())
    }

    /// What the node holds, or waits for the readers of, is nobody's to send or free, whatever the table says.
    fn refuse_own(&self, handle: Handle) -> Result<(), Refusal> {
        let by = if self.own.has(handle) {
            Hold::held(NODE)
        } else if self.orphans.get(&handle.index) == Some(&handle.generation) {
            Hold::new(State::Orphan, NODE)
        } else {
            return Ok(());
        };
        Err(Refusal::Capability(CapabilityError::NotHeld { index: handle.index, by }))
    }

    /// A buffer that has no owner any more comes back: now, or, if it was frozen and may be shared, when the last
    /// capability derived from it is gone.
    fn bury(&mut self, handle: Handle, dirty_by: u16) -> bool {
        let named = self.table.look(handle.index).filter(|found| found.handle == handle);
        match named {
            // Frozen buffers are the only ones that can have been shared beyond a call.
            Some(found) if found.rights != Rights::ALL => {
                self.orphans.insert(handle.index, handle.generation);
                self.sweep_due = true;
                false
            }
            Some(found) => {
                self.take_back(handle, dirty_by, found.high_water);
                true
            }
            // An entry that does not even name the buffer was overwritten by a liar: the ledger decides.
            None => {
                self.take_back(handle, NOBODY, u64::MAX);
                true
            }
        }
    }

    fn take_back(&mut self, handle: Handle, dirty_by: u16, dirty_len: u64) {
        // Where nobody else writes the table, what is the node's is in no hands: its next use overwrites what the entry says.
        if !(self.guarded && self.table.hold(handle).is_some_and(|hold| hold.holder == NODE)) {
            self.table.clear(handle.index);
        }
        // A refusal means that it is back already; there is nothing left to do then.
        let _ = self.ledger.free(handle.index, handle.generation, dirty_by, dirty_len);
    }

    /// Sweeps if anything happened since the last time that makes it worth while. Call it now and then, not for every
    /// message: a sweep looks at every derived capability, once.
    pub fn tidy(&mut self) {
        if self.sweep_due {
            self.sweep();
        }
    }

    /// Takes back every orphan whose derived capabilities are gone. Returns how many are left.
    pub fn sweep(&mut self) -> usize {
        self.sweep_due = false;
        if self.orphans.is_empty() {
            return 0;
        }
        let mut read = vec![false; self.slots as usize];
        for found in self.scan_derived().filter(|found| self.gives_access(found)) {
            if self.orphans.get(&found.slot) == Some(&found.slot_generation)
                && let Some(read) = read.get_mut(found.slot as usize)
            {
                *read = true;
            }
        }
        let is_over = |slot: &u32, _: &mut u32| !read.get(*slot as usize).is_some_and(|read| *read);
        let over: Vec<(u32, u32)> = self.orphans.extract_if(.., is_over).collect();
        for (index, generation) in over {
            let handle = Handle { index, generation };
            let named = self.table.look(index).filter(|found| found.handle == handle);
            self.take_back(handle, NOBODY, named.map_or(u64::MAX, |found| found.high_water));
        }
        self.orphans.len()
    }

    /// Whether someone stands behind a capability. The node knows best what it holds itself.
    fn gives_access(&self, found: &Capability) -> bool {
        found.hold.state.is_live() && (found.hold.holder != NODE || self.own.has(found.handle))
    }

    /// The node does not need a buffer any more, one of its own or one that it received.
    pub fn release(&mut self, handle: Handle) {
        if !self.own.has(handle) {
            return;
        }
        let dirty_by = self.own.put(handle);
        let state = if handle.index < self.slots { State::Orphan } else { State::Released };
        // Where others cannot write the table, what comes back at once is cleared at once.
        let is_over = self.guarded
            && handle.index < self.slots
            && self.table.look(handle.index).is_some_and(|found| found.rights == Rights::ALL);
        if !is_over {
            // What the table says does not matter: it is the node that held it.
            let _ = self.table.transfer(handle, Hold::held(NODE), Hold::new(state, NODE));
        }
        if handle.index >= self.slots || !self.bury(handle, dirty_by) {
            self.sweep();
        }
    }

    /// Every capability that gives someone access now, the node's own included.
    pub fn capabilities(&self) -> impl Iterator<Item = Capability> + '_ {
        self.roots().chain(self.scan_derived().filter(|found| self.is_live(found)))
    }

    /// Of these, the ones that cover whole buffers. The ranges of all replicas need not be looked through for them.
    pub fn roots(&self) -> impl Iterator<Item = Capability> + '_ {
        let roots = self.ledger.out().filter_map(|(slot, generation)| {
            self.table.look(slot).filter(|found| found.handle.generation == generation)
        });
        roots.filter(|found| self.is_live(found))
    }

    fn is_live(&self, found: &Capability) -> bool {
        found.hold.state.is_live() && found.slot_generation == self.generation_of(found.slot)
    }

    fn generation_of(&self, slot: u32) -> u32 {
        match self.ledger.view().place(slot, 0) {
            Err(LedgerError::Stale { has, .. }) => has,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
