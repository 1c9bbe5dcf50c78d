//! What goes out of a cell: to the node over the links of its seats, and whatever is handed to other processes.
//!
//! What goes out is published first: the shared table says in whose hands it is before its receiver hears of it.

use baton_abi::boot::PoolAccess;
use baton_abi::cell::POOL_AT;
use baton_abi::descriptor::pack_pairs;
use baton_abi::gate::{Pair, Parcel};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind as Message, NONE, Rights};
use baton_pool::bell::Bell;
use baton_pool::capability::{Derivation, Handle, Hold, Range, State};

use crate::book::{Derived, Owner, View, What, what};
use crate::hand::{HandError, are_together, extent_of, pair_of, range_of, span};
use crate::memory;
use crate::runtime::Runtime;
use crate::seat::{Lent, Seat};
use crate::sys;

/// How long a full link is waited for before the node counts as gone, nanoseconds.
const NODE_PATIENCE_NS: u64 = 5_000_000_000;

impl Runtime {
    // ---- to the node ------------------------------------------------------------------------------------------------

    /// Puts a descriptor on a seat's link.
    pub(crate) fn push_link(&self, seat: &Seat, descriptor: &Descriptor) {
        self.push_words(seat, descriptor.to_words());
    }

    pub(crate) fn push_words(&self, seat: &Seat, words: [u64; 8]) {
        seat.link_dirty.set(true);
        let mut began = None;
        loop {
            let pushed = match seat.outside.borrow_mut().as_mut() {
                Some(outside) => outside.link.to_peer.push_words(words),
                None => return,
            };
            match pushed {
                Ok(()) => return,
                Err(baton_pool::ring::PushError::Full) => {}
                // The node does not break rings: this memory is not what it was.
                Err(baton_pool::ring::PushError::Overrun(_)) => std::process::exit(1),
            }
            let began = *began.get_or_insert_with(sys::now_ns);
            if sys::now_ns().saturating_sub(began) > NODE_PATIENCE_NS {
                std::process::exit(1);
            }
            self.flush();
            std::thread::yield_now();
        }
    }

    /// Gives buffers of nobody's back to the node, each in the name of the seat that wrote it last.
    pub(crate) fn return_to_node(&self, asker: &Seat, slots: &[u32]) {
        for &slot in slots {
            let found = self.book.borrow().root(slot).copied();
            let Some(root) = found else { continue };
            let by = match root.last {
                Owner::Seat(id) => self.seat(id).unwrap_or(asker),
                _ => asker,
            };
            let handle = Handle { index: slot, generation: root.generation };
            let range = Range { offset: 0, len: root.written };
            self.shared.table.describe_written(handle, range, root.written, 0);
            let stashed = Hold::new(State::Stashed, by.holder());
            let _ = self.shared.table.pass(handle, root.published, stashed);
            self.book.borrow_mut().dismiss(slot);
            self.push_words(by, pack_pairs(Message::Free, 0, &[(slot, root.generation)]));
        }
    }

    /// Brings the shared table up to date, if someone outside asked to see who holds what.
    pub(crate) fn show_if_asked(&self) {
        let asked = self.bell.get().and_then(Bell::asked_to_show);
        let Some(asked) = asked else { return };
        let slots = self.book.borrow().slots();
        for slot in slots {
            self.show_root(slot);
        }
        let derived = self.book.borrow().unpublished_derived();
        for (index, derived) in derived {
            self.publish_derived(index, &derived);
        }
        if let Some(bell) = self.bell.get() {
            bell.note_shown(asked);
        }
    }

    /// As [`Runtime::publish_root`], but what a guest only keeps for later is no one's payload.
    fn show_root(&self, slot: u32) {
        let found = self.book.borrow().root(slot).copied();
        let Some(root) = found else { return };
        let Owner::Seat(id) = root.owner else {
            self.publish_root(slot);
            return;
        };
        let Some(seat) = self.seat(id) else { return };
        let state = if seat.keeps(slot) { State::Stashed } else { State::Held };
        let handle = Handle { index: slot, generation: root.generation };
        self.shared.table.describe(handle, root.payload, self.invocation_of(seat));
        self.settle_root(slot, Hold::new(state, seat.holder()));
    }

    /// Shows a capability that was lent or shared inside the cell to those who look from outside, as derived from its root.
    fn publish_derived(&self, index: u32, derived: &Derived) {
        let owner = self.book.borrow().root(derived.root.index).map(|root| root.owner);
        let Some(Owner::Seat(id)) = owner else { return };
        let (Some(owner), Some(holder)) = (self.seat(id), self.seat(derived.holder)) else { return };
        self.publish_root(derived.root.index);
        let Some(into) = owner.take_entry() else { return };
        let to = Hold::held(holder.holder());
        let what = Derivation { range: derived.range, rights: derived.rights, expiry_ns: 0, to };
        match self.shared.table.derive(derived.root, owner.holder(), into, what) {
            Ok(handle) => self.book.borrow_mut().note_published(index, (id, handle)),
            Err(_) => owner.arena.borrow_mut().push(into),
        }
    }

    /// Derived capabilities have ended: whoever outside knows of them is told, and what nobody reads any more comes back.
    pub(crate) fn retire(&self, seat: &Seat, first: &Derived, below: &[Derived]) {
        for derived in core::iter::once(first).chain(below) {
            if let Some(foreign) = derived.foreign {
                self.release_foreign(seat, foreign, derived.root.index);
            }
            if let Some((by, handle)) = derived.published
                && let (Some(by), Some(holder)) = (self.seat(by), self.seat(derived.holder))
            {
                let released = Hold::new(State::Released, holder.holder());
                let _ = self.shared.table.transfer(handle, Hold::held(holder.holder()), released);
                by.arena.borrow_mut().push(handle.index);
            }
        }
        let released = self.book.borrow_mut().take_released();
        for slot in released {
            let place = self.book.borrow().root(slot).map(|root| root.place);
            if let Some(place) = place {
                self.close(place);
            }
            self.return_to_node(seat, &[slot]);
        }
    }

    /// The hold that the shared table has for a root of this cell, made true.
    fn publish_root(&self, slot: u32) -> Option<Hold> {
        let book = self.book.borrow();
        let root = book.root(slot)?;
        let hold = match root.owner {
            Owner::Seat(id) => Hold::held(self.seat(id).map_or(0, Seat::holder)),
            // Whoever was granted it, or had it last: an empty buffer is of no interest to anyone.
            Owner::Stash | Owner::Nobody => Hold::new(State::Stashed, root.published.holder),
            // What is derived from it says who reads it.
            Owner::Orphan => Hold::held(root.published.holder),
        };
        drop(book);
        self.settle_root(slot, hold);
        Some(hold)
    }

    /// Moves a root's entry in the shared table to `hold`.
    fn settle_root(&self, slot: u32, hold: Hold) {
        let mut book = self.book.borrow_mut();
        let Some(root) = book.root_mut(slot) else { return };
        let handle = Handle { index: slot, generation: root.generation };
        if root.published != hold {
            let _ = self.shared.table.pass(handle, root.published, hold);
            root.published = hold;
        }
        if root.shown != root.rights && hold.state == State::Held {
            // An owner gave rights up, or the buffer has a new one, who has all.
            self.shared.table.renew(handle);
            let _ = self.shared.table.restrict(handle, hold.holder, root.rights);
            root.shown = root.rights;
        }
    }

    /// What `from` sends to someone outside, who finds it in the hold `to`.
    pub(crate) fn send_out(
        &self,
        from: &Seat,
        d: &Descriptor,
        to: Hold,
        lend: Option<Rights>,
    ) -> Result<(Descriptor, Option<Lent>), HandError> {
        let mut out = Descriptor { body: Extent::EMPTY, head: HeadExtent::EMPTY, ..*d };
        let mut lent = None;
        let together = are_together(d);
        if d.head.handle != NONE && !together {
            self.check_head(from, d.head)?;
        }
        if d.flags.has(Flags::INLINE) {
            out.body = Extent { handle: NONE, generation: 0, ..d.body };
            out.body.len = d.body.len.min(8);
        } else if d.flags.has(Flags::BYTES) || what(d.body.handle).is_mail() && d.body.handle != NONE {
            let (extent, head) = self.copy_out(from, d, to, together)?;
            out.flags = Flags(d.flags.0 & !(Flags::BYTES.0 | Flags::LEND.0 | Flags::SHARE.0));
            out.body = extent;
            out.head = head;
        } else if d.body.handle != NONE {
            let (extent, how) = self.pass_out(from, d, to, lend)?;
            out.body = extent;
            lent = how;
            if together {
                let within = u64::from(d.head.offset) + u64::from(d.head.len);
                let place = self.shared.ledger.place(extent.handle, extent.generation).ok();
                if place.is_some_and(|place| within <= place.capacity) {
                    out.head = HeadExtent { handle: extent.handle, generation: extent.generation, ..d.head };
                }
            }
        }
        if d.head.handle != NONE && !together {
            out.head = self.head_out(from, d.head, to)?;
        }
        Ok((out, lent))
    }

    /// A head in a buffer of its own.
    fn head_out(&self, from: &Seat, head: HeadExtent, to: Hold) -> Result<HeadExtent, HandError> {
        let d = Descriptor { body: extent_of(head), ..Descriptor::new(Message::Reply) };
        let extent = if what(head.handle).is_mail() {
            self.copy_out(from, &d, to, false)?.0
        } else {
            self.pass_out(from, &d, to, None)?.0
        };
        Ok(HeadExtent {
            handle: extent.handle,
            generation: extent.generation,
            offset: u32::try_from(extent.offset).unwrap_or(0),
            len: head.len,
        })
    }

    /// Copies bytes or mail into a pool buffer that goes out.
    fn copy_out(
        &self,
        from: &Seat,
        d: &Descriptor,
        to: Hold,
        together: bool,
    ) -> Result<(Extent, HeadExtent), HandError> {
        if from.facts.access != PoolAccess::Write {
            // As in a process: without the right to write the pool, answers are inline.
            return Err(HandError::NoPool);
        }
        let (source, head) = if d.flags.has(Flags::BYTES) {
            if !self.may_read(from, d.body.offset, d.body.len) {
                return Err(HandError::Fault);
            }
            (d.body.offset, None)
        } else {
            let chunk = self.chunk(from, pair_of(d.body), range_of(d.body))?;
            let head = range_of(extent_of(d.head));
            if together && !(Range { offset: 0, len: chunk.capacity() }).contains(head) {
                return Err(HandError::Refused(crate::book::Refusal::OutOfBounds));
            }
            (chunk.base + d.body.offset, together.then_some((chunk.base + head.offset, head.len)))
        };
        let head_bytes = head.map_or(0, |(_, len)| len.next_multiple_of(64));
        let extent = self.fill(from, head_bytes, (source, d.body.len), head, to)?;
        if ![Flags::BYTES, Flags::LEND, Flags::SHARE].into_iter().any(|flag| d.flags.has(flag)) {
            from.mail.borrow_mut().put(pair_of(d.body));
        }
        let len = head.map_or(0, |(_, len)| u32::try_from(len).unwrap_or(0));
        let head = match head {
            Some(_) => HeadExtent { handle: extent.handle, generation: extent.generation, offset: 0, len },
            None => HeadExtent::EMPTY,
        };
        Ok((extent, head))
    }

    /// A pool buffer with a body (and a head in front of it), in the hold `to`.
    pub(crate) fn fill(
        &self,
        by: &Seat,
        body_at: u64,
        (source, len): (u64, u64),
        head: Option<(u64, u64)>,
        to: Hold,
    ) -> Result<Extent, HandError> {
        let slot = self.take_buffer(by, body_at + len)?;
        let found = self.book.borrow().root(slot).copied();
        let Some(root) = found else { return Err(HandError::Full) };
        let base = POOL_AT + root.place.offset;
        let head_copied = head.is_none_or(|(from, len)| memory::copy(base, from, len));
        self.note_copy(len);
        // What lies between and behind may be an older owner's.
        let head_end = head.map_or(0, |(_, len)| len);
        memory::wipe(base + head_end, body_at - head_end);
        memory::wipe(base + body_at + len, root.written.saturating_sub(body_at + len));
        if !head_copied || !memory::copy(base + body_at, source, len) {
            self.return_to_node(by, &[slot]);
            return Err(HandError::Fault);
        }
        let handle = Handle { index: slot, generation: root.generation };
        let range = Range { offset: body_at, len };
        self.depart(handle, root.published, (range, body_at + len), to);
        Ok(Extent { handle: slot, generation: root.generation, offset: body_at, len })
    }

    /// A buffer leaves the cell for the hold `to`. Up to `written` there may be bytes of its owners'.
    fn depart(&self, handle: Handle, published: Hold, (range, written): (Range, u64), to: Hold) {
        self.shared.table.describe_written(handle, range, written, 0);
        let _ = self.shared.table.pass(handle, published, to);
        self.book.borrow_mut().dismiss(handle.index);
    }

    /// Passes a capability of the pool on.
    fn pass_out(
        &self,
        from: &Seat,
        d: &Descriptor,
        to: Hold,
        lend: Option<Rights>,
    ) -> Result<(Extent, Option<Lent>), HandError> {
        let (pair, range) = (pair_of(d.body), range_of(d.body));
        let derive = d.flags.has(Flags::LEND) || d.flags.has(Flags::SHARE);
        let need = if derive { Rights::PASS } else { Rights::NONE };
        let view = self.book.borrow().check(from.id, pair, need, range)?;
        self.note_handed(range.len);
        match view.what {
            What::Root(slot) if !derive => {
                let handle = Handle { index: slot, generation: pair.generation };
                if self.book.borrow().root(slot).is_some_and(|root| root.derived > 0) {
                    // From now on others decide about it.
                    self.end_readers(from, pair);
                }
                self.close(view.place);
                // Only the guest knows how far it wrote.
                let written = view.place.capacity;
                let hold = self.publish_root(slot).unwrap_or(Hold::held(from.holder()));
                self.depart(handle, hold, (range, written), to);
                Ok((Extent { handle: slot, generation: pair.generation, ..d.body }, None))
            }
            What::Mail(_) => Err(HandError::Refused(crate::book::Refusal::NotHeld)),
            _ => {
                let rights = match lend.filter(|_| d.flags.has(Flags::LEND)) {
                    Some(rights) => rights,
                    None if d.flags.has(Flags::SHARE) => Rights::FROZEN,
                    None => return Err(HandError::Refused(crate::book::Refusal::Denied)),
                };
                let derived = self.derive_out(from, &view, pair, (range, rights), to)?;
                let lent = d.flags.has(Flags::LEND).then_some(Lent::Outside(derived));
                let Handle { index: handle, generation } = derived;
                Ok((Extent { handle, generation, ..d.body }, lent))
            }
        }
    }

    /// Whoever in the cell had a buffer lent or shared has it no more. How many had.
    pub(crate) fn end_readers(&self, seat: &Seat, pair: Pair) -> usize {
        let ended = self.book.borrow_mut().end_derived(pair);
        if let Some((first, below)) = ended.split_first() {
            self.retire(seat, first, below);
        }
        ended.len()
    }

    fn derive_out(
        &self,
        from: &Seat,
        view: &View,
        pair: Pair,
        (range, rights): (Range, Rights),
        to: Hold,
    ) -> Result<Handle, HandError> {
        let full = HandError::Refused(crate::book::Refusal::TooMany);
        let parent = match view.what {
            What::Root(slot) => {
                self.publish_root(slot);
                let handle = Handle { index: slot, generation: pair.generation };
                self.widen_shown(handle, range);
                handle
            }
            What::Derived(index) => {
                let found = self.book.borrow().derived(index).copied();
                // One that was derived inside the cell is not in the shared table: its root is.
                found
                    .and_then(|derived| derived.foreign)
                    .ok_or(HandError::Refused(crate::book::Refusal::Denied))?
            }
            What::Mail(_) => return Err(full),
        };
        let into = from.take_entry().ok_or(full)?;
        let what = Derivation { range, rights: view.rights.intersect(rights), expiry_ns: 0, to };
        self.shared.table.derive(parent, from.holder(), into, what).map_err(|_| {
            from.arena.borrow_mut().push(into);
            HandError::Refused(crate::book::Refusal::Denied)
        })
    }

    /// The shared table knows the range of a buffer that came from outside, or has been shown; of one that was filled in here it
    /// learns as something is derived from it.
    fn widen_shown(&self, handle: Handle, range: Range) {
        let table = &self.shared.table;
        if let Some(found) = table.look(handle.index).filter(|found| found.handle == handle)
            && !found.range.contains(range)
        {
            table.describe(handle, span(found.range, range), found.invocation);
        }
    }

    /// Ends what was lent to someone outside.
    pub(crate) fn take_back_outside(&self, owner: &Seat, handle: Handle) {
        let table = &self.shared.table;
        let released = table.hold(handle).is_some_and(|hold| hold.state == State::Released);
        if !released {
            let used = self.shared.ledger.derived_used();
            table.revoke(handle, self.shared.slots..self.shared.slots.saturating_add(used));
        }
        owner.arena.borrow_mut().push(handle.index);
    }

    /// A capability that came from outside is not needed any more.
    pub(crate) fn release_foreign(&self, seat: &Seat, foreign: Handle, root: u32) {
        let table = &self.shared.table;
        let released = Hold::new(State::Released, seat.holder());
        if table.transfer(foreign, Hold::held(seat.holder()), released).is_err() {
            return;
        }
        // Whoever owns the buffer sees that on its own, unless it has no owner any more.
        if table.look(root).is_some_and(|found| found.hold.state == State::Orphan) {
            let pair = (foreign.index, foreign.generation);
            self.push_words(seat, pack_pairs(Message::Free, 0, &[pair]));
        }
    }

    /// Takes away what was derived from a capability in the shared table.
    pub(crate) fn revoke_outside(&self, pair: Pair) -> u32 {
        let handle = match what(pair.handle) {
            What::Root(slot) => Some(Handle { index: slot, generation: pair.generation }),
            What::Derived(index) => self.book.borrow().derived(index).and_then(|derived| derived.foreign),
            What::Mail(_) => None,
        };
        let used = self.shared.ledger.derived_used();
        let derived = self.shared.slots..self.shared.slots.saturating_add(used);
        handle.map_or(0, |handle| self.shared.table.revoke_derived(handle, derived))
    }
}

/// The tag in a parcel.
pub(crate) const fn tag_of(parcel: &Parcel) -> u32 {
    let [first, ..] = parcel.words;
    (first >> 32) as u32
}

/// Sets the tag in a parcel.
pub(crate) fn set_tag(parcel: &mut Parcel, tag: u32) {
    let [first, ..] = &mut parcel.words;
    *first = (*first & 0xffff_ffff) | u64::from(tag) << 32;
}

impl HandError {
    /// For whoever waits for what was refused.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            HandError::Refused(_) => "a payload that its sender does not hold",
            HandError::Fault => "a payload outside of its sender's memory",
            HandError::Full => "no memory for the payload",
            HandError::NoPool => "a payload for a function whose manifest says `pool = \"none\"`",
        }
    }
}
