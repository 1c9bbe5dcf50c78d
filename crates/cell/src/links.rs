//! Messages from and to the outside: requests that come over links and roads, answers to them, calls to other processes.
//!
//! What comes in is an allegation: the ledger says where its bytes lie, the shared table is moved by compare-and-swap, and
//! only then does the book know of it. What goes out is published first.

use baton_abi::cell::{POOL_AT, Trust};
use baton_abi::descriptor::{pack_pairs, unpack_pairs};
use baton_abi::gate::{Pair, Parcel};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind as Message, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range, State};
use baton_pool::ledger::Place;

use crate::book::{Kind, Owner, View, What, what};
use crate::hand::{HandError, Landed, landed, pair_of, range_of};
use crate::memory;
use crate::outside::class_of_place;
use crate::runtime::{PER_TURN_MAX, Runtime};
use crate::seat::{Account, Event, Lent, Origin, Request, Seat, State as SeatState, Target};
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

    /// Says in the shared table who holds what, for everyone who looks from outside.
    pub(crate) fn publish(&self) {
        let slots = self.book.borrow_mut().take_unpublished();
        for slot in slots {
            self.publish_root(slot);
        }
    }

    /// The hold that the shared table has for a root of this cell, made true.
    fn publish_root(&self, slot: u32) -> Option<Hold> {
        let mut book = self.book.borrow_mut();
        let root = book.root_mut(slot)?;
        let hold = match root.owner {
            Owner::Seat(id) => Hold::held(self.seat(id).map_or(0, Seat::holder)),
            // Whoever was granted it, or had it last: an empty buffer is of no interest to anyone.
            Owner::Stash | Owner::Nobody => Hold::new(State::Stashed, root.published.holder),
        };
        if !root.is_published || root.published != hold {
            let handle = Handle { index: slot, generation: root.generation };
            let _ = self.shared.table.pass(handle, root.published, hold);
            root.published = hold;
            root.is_published = true;
        }
        Some(hold)
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
        let together = d.head.handle != NONE && d.head.handle == d.body.handle && !d.flags.has(Flags::INLINE);
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
        let body = Extent {
            handle: head.handle,
            generation: head.generation,
            offset: u64::from(head.offset),
            len: u64::from(head.len),
        };
        let d = Descriptor { body, ..Descriptor::new(Message::Reply) };
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
        let (source, head) = if d.flags.has(Flags::BYTES) {
            if !self.may_read(from, d.body.offset, d.body.len) {
                return Err(HandError::Fault);
            }
            (d.body.offset, None)
        } else {
            let chunk = from.mail.borrow().get(pair_of(d.body)).ok_or(crate::book::Refusal::NotHeld)?;
            let whole = Range { offset: 0, len: chunk.capacity() };
            let head = Range { offset: u64::from(d.head.offset), len: u64::from(d.head.len) };
            if !whole.contains(range_of(d.body)) || together && !whole.contains(head) {
                return Err(HandError::Refused(crate::book::Refusal::OutOfBounds));
            }
            (chunk.base + d.body.offset, together.then_some((chunk.base + head.offset, head.len)))
        };
        let head_bytes = head.map_or(0, |(_, len)| len.next_multiple_of(64));
        let extent = self.fill(from, head_bytes, (source, d.body.len), head, to)?;
        if !d.flags.has(Flags::BYTES) && !d.flags.has(Flags::LEND) {
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
    fn fill(
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
        // What lies behind it may be an older owner's.
        memory::wipe(base + body_at + len, root.written.saturating_sub(body_at + len));
        if !head_copied || !memory::copy(base + body_at, source, len) {
            self.return_to_node(by, &[slot]);
            return Err(HandError::Fault);
        }
        let handle = Handle { index: slot, generation: root.generation };
        let range = Range { offset: body_at, len };
        self.depart(handle, root.published, range, to);
        Ok(Extent { handle: slot, generation: root.generation, offset: body_at, len })
    }

    fn depart(&self, handle: Handle, published: Hold, range: Range, to: Hold) {
        self.shared.table.describe(handle, range, 0);
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
        self.handed.set(self.handed.get().saturating_add(range.len));
        match view.what {
            What::Root(slot) if !derive => {
                let handle = Handle { index: slot, generation: pair.generation };
                self.close(view.place);
                let written = self.book.borrow().root(slot).map_or(0, |root| root.written);
                let hold = self.publish_root(slot).unwrap_or(Hold::held(from.holder()));
                self.shared.table.describe_written(handle, range, written, d.invocation);
                self.depart(handle, hold, range, to);
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
                Handle { index: slot, generation: pair.generation }
            }
            What::Derived(index) => {
                let found = self.book.borrow().derived(index).copied();
                // One that was derived inside the cell is not in the shared table: its root is.
                found.and_then(|derived| derived.foreign).ok_or(HandError::Refused(crate::book::Refusal::Denied))?
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
    pub(crate) fn revoke_outside(&self, seat: &Seat, pair: Pair) -> u32 {
        let handle = match what(pair.handle) {
            What::Root(slot) => Some(Handle { index: slot, generation: pair.generation }),
            What::Derived(index) => self.book.borrow().derived(index).and_then(|derived| derived.foreign),
            What::Mail(_) => None,
        };
        let _ = seat;
        let used = self.shared.ledger.derived_used();
        let derived = self.shared.slots..self.shared.slots.saturating_add(used);
        handle.map_or(0, |handle| self.shared.table.revoke_derived(handle, derived))
    }

    // ---- from outside ------------------------------------------------------------------------------------------------

    /// Only grants: for a seat whose runtime waits for memory.
    pub(crate) fn look_for_grants(&self, seat: &Seat) {
        self.drain_link(seat, PER_TURN_MAX);
    }

    /// Takes what the node sent.
    pub(crate) fn poll_link(&self, seat: &Seat) {
        self.drain_link(seat, PER_TURN_MAX);
    }

    fn drain_link(&self, seat: &Seat, most: u32) {
        for _ in 0..most {
            let popped = match seat.outside.borrow_mut().as_mut() {
                Some(outside) => outside.link.from_peer.pop(),
                None => return,
            };
            let Ok(popped) = popped else { std::process::exit(1) };
            let Some(d) = popped else { return };
            match Message::from_u8(d.kind) {
                Some(Message::Request) => {
                    let from = Hold::new(State::FromNode, seat.holder());
                    self.accept(seat, &d, Origin::Node { tag: d.tag }, from, 0);
                }
                Some(Message::Grant) if d.flags.has(Flags::REFUSED) => match d.tag {
                    // A refused refill names its class in the code.
                    0 => self.stash.borrow_mut().answered(u8::try_from(d.code).unwrap_or(0)),
                    _ => self.granted.set(Some(None)),
                },
                Some(Message::Grant) => {
                    for (index, generation) in unpack_pairs(&d) {
                        self.take_grant(seat, Handle { index, generation }, d.tag);
                    }
                }
                Some(Message::Cancel) => self.cancel_request(seat, Origin::Node { tag: d.tag }),
                Some(Message::Shutdown) => self.stop(),
                _ => {}
            }
        }
    }

    /// Takes a request over and puts it into the seat's inbox.
    fn accept(&self, seat: &Seat, d: &Descriptor, origin: Origin, from: Hold, caller: u16) {
        self.copied.set((0, 0));
        let taken = self.take_in(seat, d, from, caller);
        let account = d.flags.has(Flags::RECORD).then(|| {
            let (copies, bytes) = self.copied.get();
            let mut account = Account::begin(d, caller, 1);
            account.cost.copies = copies;
            account.cost.bytes_copied = bytes;
            Box::new(account)
        });
        let request = Request {
            origin,
            invocation: d.invocation,
            deadline_ns: d.deadline_ns,
            depth: 0,
            operation: d.code,
            hop: account,
        };
        let added = seat.requests.borrow_mut().add(request);
        let Some(tag) = added else {
            // The node never has so many out; whoever does lost its answer.
            return;
        };
        match taken {
            Ok(mut parcel) => {
                set_tag(&mut parcel, tag);
                seat.inbox.borrow_mut().push_back(Event::Request(parcel));
                self.mark_ready(seat);
            }
            Err(error) => self.fail_request(seat, tag, 502, error.text().as_bytes()),
        }
    }

    /// The body and head of something that came from outside, as the seat's own.
    fn take_in(&self, seat: &Seat, d: &Descriptor, from: Hold, caller: u16) -> Result<Parcel, HandError> {
        let inline = d.flags.has(Flags::INLINE) && d.body.handle == NONE;
        let nothing = crate::hand::NOWHERE;
        let together = !inline && d.head.handle != NONE && d.head.handle == d.body.handle;
        let mut body = nothing;
        if inline {
            let len = d.body.len.min(8);
            body = Landed { extent: Extent { len, ..d.body }, flags: Flags::INLINE, ..nothing };
        } else if d.body.handle != NONE {
            let head = together.then_some((u64::from(d.head.offset), u64::from(d.head.len)));
            body = self.take_one(seat, d.body, head, d.flags, from)?;
        }
        let head = if d.head.handle == NONE {
            nothing
        } else if together {
            let (offset, len) = (u64::from(d.head.offset), u64::from(d.head.len));
            Landed { extent: Extent { offset, len, ..body.extent }, ..body }
        } else {
            let extent = Extent {
                handle: d.head.handle,
                generation: d.head.generation,
                offset: u64::from(d.head.offset),
                len: u64::from(d.head.len),
            };
            self.take_one(seat, extent, None, Flags::MOVE, from)?
        };
        Ok(self.parcel(d, body, head, caller))
    }

    /// Takes one capability over, which an honest sender left in the hold `from`.
    fn take_one(
        &self,
        seat: &Seat,
        extent: Extent,
        head: Option<(u64, u64)>,
        flags: Flags,
        from: Hold,
    ) -> Result<Landed, HandError> {
        let bad = HandError::Refused(crate::book::Refusal::NotHeld);
        let handle = Handle { index: extent.handle, generation: extent.generation };
        let range = range_of(extent);
        let (slot, slot_generation, kind) = if handle.index < self.shared.slots {
            (handle.index, handle.generation, None)
        } else {
            let found = self.shared.table.look(handle.index).filter(|found| found.handle == handle).ok_or(bad)?;
            let kind = if flags.has(Flags::SHARE) { Kind::Shared } else { Kind::Lent };
            if !found.range.contains(range) {
                return Err(HandError::Refused(crate::book::Refusal::OutOfBounds));
            }
            (found.slot, found.slot_generation, Some(kind))
        };
        let place = self.shared.ledger.place(slot, slot_generation).map_err(|_| bad)?;
        let whole = Range { offset: 0, len: place.capacity };
        let head_range = head.map(|(offset, len)| Range { offset, len });
        if !whole.contains(range) || head_range.is_some_and(|head| !whole.contains(head)) {
            return Err(HandError::Refused(crate::book::Refusal::OutOfBounds));
        }
        let held = Hold::held(seat.holder());
        let rights = self.shared.table.transfer(handle, from, held).map_err(|_| bad)?;
        match kind {
            None => self.land_root(seat, handle, place, (range, head_range), held),
            Some(kind) => {
                let root = Handle { index: slot, generation: slot_generation };
                let view = View { place, range, rights, what: What::Root(slot) };
                let pair = self.book.borrow_mut().admit_derived(handle, root, view, (kind, seat.id))?;
                self.open_to(seat, place, rights)?;
                let how = if kind == Kind::Shared { Flags::SHARE } else { Flags::LEND };
                Ok(landed(pair, range, place, rights, how))
            }
        }
    }

    fn land_root(
        &self,
        seat: &Seat,
        handle: Handle,
        place: Place,
        (range, head): (Range, Option<Range>),
        held: Hold,
    ) -> Result<Landed, HandError> {
        let is_small = class_of_place(place.capacity).is_some();
        let pair = Pair { handle: handle.index, generation: handle.generation };
        if self.trust == Trust::App || !is_small {
            self.book.borrow_mut().admit(handle, place, Owner::Seat(seat.id), held);
            if let Some(root) = self.book.borrow_mut().root_mut(handle.index) {
                root.written = range.offset + range.len;
            }
            if !Runtime::may_use_pool(seat) {
                self.give_up(seat, pair);
                return Err(HandError::NoPool);
            }
            self.open_to(seat, place, Rights::ALL)?;
            return Ok(landed(pair, range, place, Rights::ALL, Flags::MOVE));
        }
        // Small ones are copied, with whatever head lies in front; the buffer is the stash's at once.
        self.book.borrow_mut().admit(handle, place, Owner::Stash, held);
        let end = head.map_or(0, |head| head.offset + head.len).max(range.offset + range.len);
        let grant = self.allocate(seat, end);
        self.note_copy(end);
        let copied = grant.as_ref().is_ok_and(|grant| memory::copy(grant.base, POOL_AT + place.offset, end));
        if let Some(root) = self.book.borrow_mut().root_mut(handle.index) {
            root.written = place.capacity;
        }
        let surplus = match class_of_place(place.capacity) {
            Some(class) => self.stash.borrow_mut().put(class, handle.index),
            None => vec![handle.index],
        };
        self.return_to_node(seat, &surplus);
        let grant = grant?;
        if !copied {
            return Err(HandError::Fault);
        }
        let extent = Extent { handle: grant.handle, generation: grant.generation, offset: range.offset, len: range.len };
        Ok(Landed { extent, base: grant.base, capacity: grant.capacity, rights: Rights::ALL, flags: Flags::MOVE })
    }

    // ---- roads --------------------------------------------------------------------------------------------------------

    /// Takes what other processes sent over a seat's roads.
    pub(crate) fn poll_roads(&self, seat: &Seat) {
        let (incoming, outgoing) = (seat.incoming.borrow().len(), seat.outgoing.borrow().len());
        for index in 0..incoming {
            self.poll_incoming(seat, index);
        }
        for index in 0..outgoing {
            self.poll_outgoing(seat, index);
        }
    }

    fn poll_incoming(&self, seat: &Seat, index: usize) {
        for _ in 0..PER_TURN_MAX {
            let mut roads = seat.incoming.borrow_mut();
            let Some(road) = roads.get_mut(index).filter(|road| !road.dead) else { return };
            let (id, peer, closed) = (road.id, road.peer, road.duplex.flags().is_closed());
            let popped = road.pop();
            if popped.is_none() && closed {
                road.dead = true;
                road.duplex.flags().mark_drained();
            }
            let dead = road.dead;
            drop(roads);
            if dead {
                self.forget_callers(seat, index);
                return;
            }
            let Some(d) = popped else { return };
            match Message::from_u8(d.kind) {
                Some(Message::Request) => {
                    let from = Hold::new(State::InFlight, id);
                    self.accept(seat, &d, Origin::Road { road: index, tag: d.tag }, from, peer);
                }
                Some(Message::Cancel) => self.cancel_request(seat, Origin::Road { road: index, tag: d.tag }),
                _ => {}
            }
        }
    }

    /// Nobody waits for the answers over a road any more.
    fn forget_callers(&self, seat: &Seat, index: usize) {
        let is_theirs = |origin: Origin| matches!(origin, Origin::Road { road, .. } if road == index);
        let tags = seat.requests.borrow().tags();
        for tag in tags {
            let origin = seat.requests.borrow().get(tag).map(|request| request.origin);
            if let Some(origin) = origin.filter(|origin| is_theirs(*origin)) {
                self.cancel_request(seat, origin);
            }
        }
    }

    fn poll_outgoing(&self, seat: &Seat, index: usize) {
        for _ in 0..PER_TURN_MAX {
            let mut roads = seat.outgoing.borrow_mut();
            let Some(road) = roads.get_mut(index).filter(|road| !road.dead) else { return };
            let (id, peer, closed) = (road.id, road.peer, road.duplex.flags().is_closed());
            let popped = road.pop();
            let is_over = road.dead || popped.is_none() && closed;
            if is_over {
                road.dead = true;
                road.outstanding = 0;
                road.duplex.flags().mark_drained();
            }
            if popped.is_some() {
                road.outstanding = road.outstanding.saturating_sub(1);
            }
            drop(roads);
            if is_over {
                self.fail_calls(seat, index);
                return;
            }
            let Some(d) = popped else { return };
            if Message::from_u8(d.kind) == Some(Message::Reply) {
                self.take_reply(seat, index, &d, Hold::new(State::InFlight, id), peer);
            }
        }
    }

    fn take_reply(&self, seat: &Seat, road: usize, d: &Descriptor, from: Hold, peer: u16) {
        let expected = seat.calls.borrow().get(d.tag).is_some_and(|call| call.to == Target::Outside(road));
        let taken = self.take_in(seat, d, from, peer);
        if !expected {
            // An answer to a call that was never made, or given up: whatever it carries goes back.
            if let Ok(parcel) = taken {
                self.drop_parcel(seat, &parcel);
            }
            return;
        }
        match taken {
            Ok(parcel) => self.complete(seat, d.tag, parcel),
            Err(error) => self.complete_with_error(seat, d.tag, 502, error.text().as_bytes()),
        }
    }

    fn fail_calls(&self, seat: &Seat, road: usize) {
        let tags = seat.calls.borrow().tags();
        for tag in tags {
            let theirs = seat.calls.borrow().get(tag).is_some_and(|call| call.to == Target::Outside(road));
            if theirs {
                self.complete_with_error(seat, tag, 503, b"the called function's replica is gone");
            }
        }
    }

    /// The least loaded road to a function outside that has credit. `Err` if there is none at all.
    pub(crate) fn choose_road(&self, seat: &Seat, name: &str) -> Result<Option<usize>, ()> {
        let roads = seat.outgoing.borrow();
        let alive = roads.iter().enumerate().filter(|(_, road)| !road.dead && road.name == name);
        let mut any = false;
        let mut best: Option<(u32, usize)> = None;
        for (index, road) in alive {
            any = true;
            let load = road.outstanding.max(road.bell.in_flight());
            if road.outstanding < road.credits && best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
        }
        if any { Ok(best.map(|(_, index)| index)) } else { Err(()) }
    }

    /// Sends a call of `seat` over a road.
    pub(crate) fn call_outside(
        &self,
        seat: &Seat,
        road: usize,
        d: &Descriptor,
        lend: Rights,
    ) -> Result<Option<Lent>, HandError> {
        let id = seat.outgoing.borrow().get(road).map_or(0, |road| road.id);
        let (out, lent) = self.send_out(seat, d, Hold::new(State::InFlight, id), Some(lend))?;
        let pushed = seat.outgoing.borrow_mut().get_mut(road).is_some_and(|road| {
            road.outstanding += 1;
            road.push(&out)
        });
        if pushed { Ok(lent) } else { Err(HandError::Full) }
    }

    /// Sends an answer of `seat` outside.
    pub(crate) fn answer_outside(&self, seat: &Seat, origin: Origin, d: &Descriptor) -> Result<(), HandError> {
        match origin {
            Origin::Node { tag } => {
                let to = Hold::new(State::ToNode, seat.holder());
                let (out, _) = self.send_out(seat, &Descriptor { tag, ..*d }, to, None)?;
                self.push_link(seat, &out);
                Ok(())
            }
            Origin::Road { road, tag } => {
                let id = seat.incoming.borrow().get(road).map_or(0, |road| road.id);
                let to = Hold::new(State::InFlight, id);
                let (out, _) = self.send_out(seat, &Descriptor { tag, ..*d }, to, None)?;
                if let Some(road) = seat.incoming.borrow_mut().get_mut(road).filter(|road| !road.dead) {
                    // A caller never has more calls out than its ring has entries; one that lies loses its answer.
                    road.push(&out);
                }
                Ok(())
            }
            Origin::Seat { .. } => Ok(()),
        }
    }

    /// The text of a failure as an answer to someone outside.
    pub(crate) fn answer_text(&self, seat: &Seat, origin: Origin, status: u16, invocation: u64, text: &[u8]) {
        let to = match origin {
            Origin::Node { .. } => Hold::new(State::ToNode, seat.holder()),
            Origin::Road { road, .. } => {
                Hold::new(State::InFlight, seat.incoming.borrow().get(road).map_or(0, |road| road.id))
            }
            Origin::Seat { .. } => return,
        };
        let body = self.fill(seat, 0, (text.as_ptr() as u64, text.len() as u64), None, to);
        let body = body.unwrap_or(Extent::EMPTY);
        let d = Descriptor { flags: Flags::ERROR, code: status, invocation, body, ..Descriptor::new(Message::Reply) };
        match origin {
            Origin::Node { tag } => self.push_link(seat, &Descriptor { tag, ..d }),
            Origin::Road { road, tag } => {
                if let Some(road) = seat.incoming.borrow_mut().get_mut(road).filter(|road| !road.dead) {
                    road.push(&Descriptor { tag, ..d });
                }
            }
            Origin::Seat { .. } => {}
        }
    }

    /// A request that its caller gave up.
    fn cancel_request(&self, seat: &Seat, origin: Origin) {
        let found = {
            let requests = seat.requests.borrow();
            let tags = requests.tags();
            tags.into_iter().find(|&tag| requests.get(tag).is_some_and(|request| request.origin == origin))
        };
        let Some(tag) = found else { return };
        let waiting = {
            let inbox = seat.inbox.borrow();
            inbox.iter().position(|event| matches!(event, Event::Request(parcel) if tag_of(parcel) == tag))
        };
        let event = waiting.and_then(|at| seat.inbox.borrow_mut().remove(at));
        match event {
            Some(Event::Request(parcel)) => {
                self.drop_parcel(seat, &parcel);
                self.fail_request(seat, tag, 504, b"cancelled before it was started");
            }
            _ => {
                seat.inbox.borrow_mut().push_back(Event::Cancel(tag));
                if seat.state.get() == SeatState::Waiting {
                    self.mark_ready(seat);
                }
            }
        }
    }

    /// Gives back what a parcel that nobody takes carries.
    pub(crate) fn drop_parcel(&self, seat: &Seat, parcel: &Parcel) {
        let d = Descriptor::from_words(parcel.words);
        if d.body.handle != NONE && !d.flags.has(Flags::INLINE) {
            self.give_up(seat, pair_of(d.body));
        }
        if d.head.handle != NONE && d.head.handle != d.body.handle {
            self.give_up(seat, Pair { handle: d.head.handle, generation: d.head.generation });
        }
    }
}

/// The tag in a parcel.
pub(crate) fn tag_of(parcel: &Parcel) -> u32 {
    Descriptor::from_words(parcel.words).tag
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
