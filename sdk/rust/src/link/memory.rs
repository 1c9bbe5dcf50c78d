//! The mapped memory of an app: pool, ledger and capability table, and what this replica does with them.

use std::sync::Arc;

use baton_abi::boot::PoolAccess;
use baton_abi::descriptor::{PAIRS_PER_DESCRIPTOR, pack_pairs};
use baton_abi::{Descriptor, Extent, Kind as Message64, NONE, Rights};
use baton_pool::capability::{CapabilityTable, Handle, Hold, Range, State};
use baton_pool::ledger::{LedgerView, class_bytes, class_of, class_of_capacity};
use baton_pool::region::Mapping;

use super::{Link, NODE_PATIENCE_NS, NODE_WAIT_NS};
use crate::error::Error;
use crate::held::{Holding, Kind, Place};

/// The shared memory of this replica's app.
pub(crate) struct Memory {
    /// This replica as a holder.
    pub(crate) holder: u16,
    pub(crate) access: PoolAccess,
    pub(crate) pool: Option<Arc<Mapping>>,
    pub(crate) ledger: LedgerView,
    pub(crate) table: CapabilityTable,
    /// Roots are the entries below this index.
    pub(crate) slots: u32,
}

impl Memory {
    /// The table entries that may hold derived capabilities.
    pub(crate) fn derived(&self) -> core::ops::Range<u32> {
        self.slots..self.slots.saturating_add(self.ledger.derived_used())
    }
}

impl Link {
    /// Whether this replica still may do `need` with `range`.
    pub(crate) fn check(&self, handle: Handle, need: Rights, range: Range) -> Result<(), Error> {
        let memory = &self.memory;
        let is_valid = if self.guard.is_some() && handle.index < memory.slots {
            // What its holder uses of a buffer is not in a table that it cannot write.
            self.check_root(handle, need, range)
        } else {
            let clock = (&memory.ledger, crate::clock::now_ns());
            memory.table.resolve(handle, memory.holder, need, range, clock).is_ok()
        };
        if !is_valid {
            return Err(Error::Denied { what: "using a payload that was revoked or has expired" });
        }
        if need.allows(Rights::WRITE) && memory.access != PoolAccess::Write {
            return Err(Error::Denied { what: "writing without `pool = \"write\"` in the manifest" });
        }
        Ok(())
    }

    /// Says in the table which range of a buffer is used, for whom, and how far bytes were written.
    #[inline]
    pub(crate) fn describe(&self, holding: &Holding) {
        if self.guard.is_some() {
            // It goes with the packet.
            return;
        }
        let (range, written) = (holding.range(), holding.written as u64);
        self.memory.table.describe_written(holding.handle, range, written, self.current.invocation());
    }

    /// Gives up all rights but to read and to pass on, for good.
    pub(crate) fn freeze(&self, holding: &mut Holding) {
        let memory = &self.memory;
        if self.guard.is_some() {
            if holding.kind == Kind::Owned {
                self.narrow(holding, Rights::FROZEN);
            }
            if let Ok(rights) = memory.table.in_hands(holding.handle, memory.holder) {
                holding.rights = rights;
            }
            return;
        }
        memory.table.describe(holding.handle, holding.range(), self.current.invocation());
        if let Ok(rights) = memory.table.restrict(holding.handle, memory.holder, Rights::FROZEN) {
            holding.rights = rights;
        }
    }

    /// Ends everything that was derived from a capability; how much that was.
    pub(crate) fn revoke_derived(&self, handle: Handle) -> u32 {
        match &self.guard {
            Some(_) => self.end_below(handle),
            None => self.memory.table.revoke_derived(handle, self.memory.derived()),
        }
    }

    /// A buffer for at least `len` payload bytes.
    pub(crate) fn take(&self, len: usize) -> Result<Place, Error> {
        if self.memory.access != PoolAccess::Write {
            return Err(Error::Denied { what: "allocating without `pool = \"write\"` in the manifest" });
        }
        let handle = match class_of(len as u64) {
            Some(class) => self.alloc_small(class, len)?,
            None => self.ask_node(len as u64, len)?,
        };
        let holder = self.memory.holder;
        let table = &self.memory.table;
        if self.guard.is_none() {
            table
                .pass(handle, Hold::new(State::Stashed, holder), Hold::held(holder))
                .map_err(|_| Error::Protocol { what: "a granted buffer that is someone else's" })?;
        }
        let place = self
            .memory
            .ledger
            .place(handle.index, handle.generation)
            .map_err(|_| Error::Protocol { what: "a granted buffer that does not exist" })?;
        let base = self.memory.pool.as_ref().and_then(|pool| pool.address(place.offset, place.capacity));
        let base = base.ok_or(Error::Protocol { what: "a buffer outside of the pool" })?;
        let capacity = usize::try_from(place.capacity).unwrap_or(0);
        Ok(Place { handle, base, capacity, written: 0 })
    }

    #[inline]
    fn alloc_small(&self, class: u8, len: usize) -> Result<Handle, Error> {
        let (taken, refill) = {
            let mut stash = self.stash.borrow_mut();
            let taken = stash.take(class);
            (taken, stash.should_ask(class).then(|| stash.batch(class)))
        };
        if let Some(batch) = refill {
            // Ahead of need, answered whenever the node comes to it: the tag 0 belongs to no one.
            self.ask(Message64::Refill, 0, u16::try_from(batch).unwrap_or(1), class_bytes(class));
        }
        match taken {
            Some(handle) => Ok(handle),
            None => self.ask_node(class_bytes(class), len),
        }
    }

    fn ask(&self, kind: Message64, tag: u32, count: u16, bytes: u64) {
        let body = Extent { len: bytes, ..Extent::EMPTY };
        let descriptor = Descriptor { tag, code: count, body, ..Descriptor::new(kind) };
        self.push_link(&descriptor);
    }

    /// Asks the node for one buffer and waits for the answer. The node always answers at once.
    fn ask_node(&self, bytes: u64, wanted: usize) -> Result<Handle, Error> {
        let tag = self.alloc_tag.get();
        self.alloc_tag.set(tag.checked_add(1).unwrap_or(1));
        self.granted.set(None);
        self.ask(Message64::Alloc, tag, 0, bytes);
        let started = crate::clock::now_ns();
        loop {
            self.poll_link();
            match self.granted.take() {
                Some(Some(handle)) => return Ok(handle),
                Some(None) => return Err(Error::PoolFull { wanted }),
                None => {}
            }
            if crate::clock::now_ns().saturating_sub(started) > NODE_PATIENCE_NS {
                return Err(Error::Protocol { what: "the node does not answer" });
            }
            self.flush_bells();
            self.bell.announce_sleep();
            if self.duplex.borrow_mut().from_peer.is_empty().unwrap_or(false) {
                self.nap(Some(NODE_WAIT_NS));
            }
            self.bell.announce_awake();
        }
    }

    /// Takes back what nobody needs any more.
    pub(crate) fn give_back(&self, holding: &Holding) {
        let Holding { handle, kind, rights, written, .. } = *holding;
        let holder = self.memory.holder;
        match kind {
            Kind::Inline => {}
            Kind::Owned => {
                if written > 0 {
                    self.describe(holding);
                }
                self.recycle(handle, rights, holding.place().capacity as u64);
            }
            Kind::Lent if self.guard.is_some() => self.give_up_lent(handle),
            Kind::Lent => {
                // A lender that took it back already is fine: it is given up either way.
                let released = Hold::new(State::Released, holder);
                let _ = self.memory.table.transfer(handle, Hold::held(holder), released);
            }
            Kind::Shared => self.give_up_shared(handle),
        }
    }

    /// Takes a buffer back: into the stash, or to the node.
    pub(super) fn recycle(&self, handle: Handle, rights: Rights, capacity: u64) {
        let holder = self.memory.holder;
        // Frozen buffers may have readers, and large ones are the node's to recycle.
        let class = class_of_capacity(capacity).filter(|_| rights == Rights::ALL);
        let Some(class) = class else {
            self.free_at_node(&[handle]);
            return;
        };
        if self.guard.is_none() {
            let stashed = Hold::new(State::Stashed, holder);
            if self.memory.table.transfer(handle, Hold::held(holder), stashed).is_err() {
                return;
            }
        }
        let surplus = self.stash.borrow_mut().put(class, handle);
        if !surplus.is_empty() {
            self.free_at_node(&surplus);
        }
    }

    fn free_at_node(&self, handles: &[Handle]) {
        for some in handles.chunks(PAIRS_PER_DESCRIPTOR) {
            let mut pairs = [(NONE, 0); PAIRS_PER_DESCRIPTOR];
            for (pair, handle) in pairs.iter_mut().zip(some) {
                *pair = (handle.index, handle.generation);
            }
            self.push_link(&Descriptor::from_words(pack_pairs(Message64::Free, 0, &pairs)));
        }
    }

    /// Gives up a capability that was shared with this replica.
    fn give_up_shared(&self, handle: Handle) {
        let holder = self.memory.holder;
        let table = &self.memory.table;
        let released = Hold::new(State::Released, holder);
        let slot = table.look(handle.index).map(|found| found.slot);
        match &self.guard {
            Some(_) => self.release(handle),
            None if table.transfer(handle, Hold::held(holder), released).is_err() => return,
            None => {}
        }
        // Whoever owns the buffer sees that on its own, unless it has no owner any more.
        let root = slot.and_then(|slot| table.look(slot));
        if root.is_some_and(|root| root.hold.state == State::Orphan) {
            self.flush_packets();
            self.free_at_node(&[handle]);
        }
    }

    /// A free entry of this replica's own range.
    pub(super) fn take_arena_entry(&self) -> Result<u32, Error> {
        let mut arena = self.arena.borrow_mut();
        let table = &self.memory.table;
        while let Some(index) = arena.take() {
            let left = self.guard.as_ref().and_then(|_| table.look(index));
            match left.filter(|left| left.hold.state.is_live()) {
                None => return Ok(index),
                // What a replica that had this range before shared, and someone still reads.
                Some(left) => arena.remember(left.handle),
            }
        }
        arena.collect(|handle| {
            table.look(handle.index).is_none_or(|found| {
                found.handle != handle || matches!(found.hold.state, State::Released | State::Revoked)
            })
        });
        arena
            .take()
            .ok_or(Error::Denied { what: "more payloads lent and shared at a time than a replica can" })
    }
}
