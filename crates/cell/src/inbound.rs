//! What comes into a cell, from the node and from replicas in other processes: requests, grants, cancellations.
//!
//! What comes in is an allegation: the ledger says where its bytes lie, the shared table is moved by compare-and-swap, and
//! only then does the book know of it.

use baton_abi::cell::{POOL_AT, Trust};
use baton_abi::descriptor::unpack_pairs;
use baton_abi::gate::{Grant, Pair, Parcel};
use baton_abi::{Descriptor, Extent, Flags, Kind as Message, NONE, Rights};
use baton_pool::capability::{Handle, Hold, Range, State};
use baton_pool::ledger::{Place, class_of_capacity};

use crate::book::{Owner, View, What};
use crate::hand::{HandError, Landed, extent_of, landed, pair_of, range_of};
use crate::links::set_tag;
use crate::memory;
use crate::runtime::{PER_TURN_MAX, Runtime};
use crate::seat::{Account, Event, Origin, Request, Seat, State as SeatState};

impl Runtime {
    /// Takes what the node sent.
    pub(crate) fn poll_link(&self, seat: &Seat) {
        for _ in 0..PER_TURN_MAX {
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
    pub(crate) fn accept(&self, seat: &Seat, d: &Descriptor, origin: Origin, from: Hold, caller: u16) {
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
            // The node's word counts; another function's is a wish.
            limit_ns: if matches!(origin, Origin::Node { .. }) { d.deadline_ns } else { 0 },
            depth: 0,
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
    pub(crate) fn take_in(
        &self,
        seat: &Seat,
        d: &Descriptor,
        from: Hold,
        caller: u16,
    ) -> Result<Parcel, HandError> {
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
        Ok(crate::hand::parcel(d, &body, &head, caller))
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
            let found =
                self.shared.table.look(handle.index).filter(|found| found.handle == handle).ok_or(bad)?;
            let kind = if flags.has(Flags::SHARE) { Flags::SHARE } else { Flags::LEND };
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
            None => self.land_root(seat, handle, place, (range, head_range), (held, rights)),
            Some(kind) => {
                let root = Handle { index: slot, generation: slot_generation };
                if self.trust == Trust::Buffer && class_of_capacity(place.capacity).is_some() {
                    return self.copy_lent(seat, handle, root, (place, range));
                }
                let part = head_range.map_or(range, |head| crate::hand::span(range, head));
                let view = View { place, range: part, rights, what: What::Root(slot), part };
                let pair = self.book.borrow_mut().admit_derived(handle, root, view, seat.id)?;
                self.open_to(seat, memory::reach(place, part), rights)?;
                Ok(landed(pair, range, place, rights, kind))
            }
        }
    }

    /// A small payload that was lent or shared from outside: its pages are not its own, so that the seat gets a copy to read,
    /// and the capability goes back at once.
    fn copy_lent(
        &self,
        seat: &Seat,
        foreign: Handle,
        root: Handle,
        (place, range): (Place, Range),
    ) -> Result<Landed, HandError> {
        let copy = self.copy_in(seat, POOL_AT + place.offset + range.offset, range.len);
        self.release_foreign(seat, foreign, root.index);
        Ok(Landed::in_grant(copy?, Range { offset: 0, ..range }, Rights::FROZEN, Flags::MOVE))
    }

    /// A buffer of the seat's with a copy of what lies at `from`.
    fn copy_in(&self, seat: &Seat, from: u64, len: u64) -> Result<Grant, HandError> {
        let grant = self.allocate(seat, len)?;
        self.note_copy(len);
        if memory::copy(grant.base, from, len) {
            return Ok(grant);
        }
        self.give_up(seat, grant.pair());
        Err(HandError::Fault)
    }

    fn land_root(
        &self,
        seat: &Seat,
        handle: Handle,
        place: Place,
        (range, head): (Range, Option<Range>),
        (held, rights): (Hold, Rights),
    ) -> Result<Landed, HandError> {
        let is_small = class_of_capacity(place.capacity).is_some();
        let pair = Pair { handle: handle.index, generation: handle.generation };
        if self.trust == Trust::App || !is_small {
            self.book.borrow_mut().admit(handle, place, Owner::Seat(seat.id), (held, rights));
            if let Some(root) = self.book.borrow_mut().root_mut(handle.index) {
                root.written = range.offset + range.len;
                // What it holds begins with the head, if that lies in front.
                let from = head.map_or(range.offset, |head| head.offset.min(range.offset));
                root.payload = Range { offset: from, len: root.written - from };
            }
            if !Runtime::may_use_pool(seat) {
                self.give_up(seat, pair);
                return Err(HandError::NoPool);
            }
            self.open_to(seat, place, rights)?;
            return Ok(landed(pair, range, place, rights, Flags::MOVE));
        }
        // Small ones are copied, with whatever head lies in front; the buffer is the stash's at once.
        let stashed = Hold::new(State::Stashed, held.holder);
        let _ = self.shared.table.pass(handle, held, stashed);
        self.book.borrow_mut().admit(handle, place, Owner::Stash, (stashed, rights));
        let end = head.map_or(0, |head| head.offset + head.len).max(range.offset + range.len);
        let copy = self.copy_in(seat, POOL_AT + place.offset, end);
        if let Some(root) = self.book.borrow_mut().root_mut(handle.index) {
            root.written = place.capacity;
        }
        let surplus = match class_of_capacity(place.capacity) {
            Some(class) => self.stash.borrow_mut().put(class, handle.index),
            None => vec![handle.index],
        };
        self.return_to_node(seat, &surplus);
        Ok(Landed::in_grant(copy?, range, Rights::ALL, Flags::MOVE))
    }

    /// A request that its caller gave up.
    pub(crate) fn cancel_request(&self, seat: &Seat, origin: Origin) {
        let found = {
            let requests = seat.requests.borrow();
            let tags = requests.tags();
            tags.into_iter().find(|&tag| requests.get(tag).is_some_and(|request| request.origin == origin))
        };
        let Some(tag) = found else { return };
        match seat.take_unbegun(tag) {
            Some(parcel) => {
                self.drop_parcel(seat, &parcel);
                self.fail_request(seat, tag, 504, b"cancelled before it was started");
            }
            None => {
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
            self.give_up(seat, pair_of(extent_of(d.head)));
        }
    }
}
