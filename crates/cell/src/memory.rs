//! Bytes of payloads: in the pool, and in the mail of seats.

// UNSAFETY: copies to and from the pool and the seats' mail, by addresses that the book gave.
#![expect(unsafe_code, reason = "payload memory that the runtime shares with guests")]

use baton_abi::cell::{MAIL_BYTES, POOL_AT, Trust};
use baton_abi::gate::{Grant, Pair, SMALL_BYTES};
use baton_abi::{Kind as Message, Rights};
use baton_pool::capability::{Handle, Hold, Range, State};
use baton_pool::ledger::{Place, class_bytes, class_of, class_of_capacity};
use rustix::io::Errno;

use crate::arch::{self, Plain};
use crate::book::{Owner, View, What, what};
use crate::hand::HandError;
use crate::outside::ask;
use crate::runtime::Runtime;
use crate::seat::Seat;
use crate::sys::{self, Access, PAGE, PAGE_BYTES};

/// How long the node may take to answer a request for memory, nanoseconds.
const NODE_PATIENCE_NS: u64 = 5_000_000_000;
/// One wait within that.
const NODE_WAIT_NS: u64 = 2_000_000;

/// Copies payload bytes. Both ranges were checked against the book or lie in a seat; `false` if a page is not accessible.
#[inline]
pub(crate) fn copy(to: u64, from: u64, len: u64) -> bool {
    // SAFETY: callers pass ranges of the pool and of seats, which hold nothing of the runtime's.
    usize::try_from(len).is_ok_and(|len| unsafe { arch::copy(to, from, len) })
}

/// As [`copy`], a line of 64 bytes.
#[inline]
pub(crate) fn copy_line(to: u64, from: u64) -> bool {
    // SAFETY: as in `copy`.
    unsafe { arch::copy_line(to, from) }
}

/// Writes a plain parcel to `to`, which lies in a seat, with what it says of the line at `line`, or none if that is 0; `false` if a
/// page is not accessible.
#[inline(always)]
pub(crate) fn write_plain(to: u64, line: u64, plain: Plain) -> bool {
    debug_assert!(line == 0 || plain.bytes <= SMALL_BYTES as u64);
    // SAFETY: as in `copy`; who says more than a parcel holds is not plain.
    unsafe { arch::write_plain(to, line, plain) }
}

/// Writes zeros over payload bytes of the pool.
pub(crate) fn wipe(at: u64, len: u64) {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(PAGE);
        copy(at + done, ZEROS.as_ptr() as u64, part);
        done += part;
    }
}

impl Runtime {
    /// A buffer for at least `len` bytes that `seat` owns.
    pub(crate) fn allocate(&self, seat: &Seat, len: u64) -> Result<Grant, HandError> {
        if !Runtime::may_use_pool(seat) {
            return Err(HandError::NoPool);
        }
        if self.trust == Trust::Buffer && class_of(len).is_some() {
            let (pair, chunk) = seat.mail.borrow_mut().take(len).ok_or(HandError::Full)?;
            let Pair { handle, generation } = pair;
            return Ok(Grant { handle, generation, base: chunk.base, capacity: chunk.capacity() });
        }
        let slot = self.take_buffer(seat, len)?;
        let mut book = self.book.borrow_mut();
        let Some(root) = book.root_mut(slot) else { return Err(HandError::Full) };
        let (place, generation) = (root.place, root.generation);
        // Its own bytes are no secret to a guest, but for one that must not know what it did before.
        if root.last != Owner::Seat(seat.id) || seat.facts.reset {
            wipe(POOL_AT + place.offset, root.written.min(place.capacity));
            root.written = 0;
        }
        root.rights = Rights::ALL;
        root.range = Range { offset: 0, len: place.capacity };
        book.give(slot, Owner::Seat(seat.id));
        drop(book);
        self.open_to(seat, place, Rights::ALL)?;
        Ok(Grant { handle: slot, generation, base: POOL_AT + place.offset, capacity: place.capacity })
    }

    /// A pool buffer that belongs to nobody yet.
    pub(crate) fn take_buffer(&self, seat: &Seat, len: u64) -> Result<u32, HandError> {
        let Some(class) = class_of(len) else {
            return self.ask_node(seat, len);
        };
        let taken = self.stash.borrow_mut().take(class);
        if self.stash.borrow_mut().should_ask(class) {
            let batch = u16::try_from(self.stash.borrow().batch(class)).unwrap_or(1);
            // Ahead of need, answered whenever the node comes to it: the tag 0 belongs to no one.
            self.push_link(seat, &ask(Message::Refill, 0, batch, class_bytes(class)));
        }
        match taken {
            Some(slot) => Ok(slot),
            None => self.ask_node(seat, class_bytes(class)),
        }
    }

    /// Asks the node for one buffer and waits for it. The node always answers at once.
    fn ask_node(&self, seat: &Seat, bytes: u64) -> Result<u32, HandError> {
        let tag = self.alloc_tag.get();
        self.alloc_tag.set(tag.checked_add(1).unwrap_or(1));
        self.granted.set(None);
        self.push_link(seat, &ask(Message::Alloc, tag, 0, bytes));
        let began = sys::now_ns();
        loop {
            self.flush();
            for other in &self.seats {
                self.poll_link(other);
            }
            match self.granted.take() {
                Some(Some(handle)) => return Ok(handle.index),
                Some(None) => return Err(HandError::Full),
                None => {}
            }
            if sys::now_ns().saturating_sub(began) > NODE_PATIENCE_NS {
                return Err(HandError::Full);
            }
            self.wait_for_node(seat);
        }
    }

    fn wait_for_node(&self, seat: &Seat) {
        let Some(bell) = self.bell.get() else { return };
        bell.announce_sleep();
        let mut outside = seat.outside.borrow_mut();
        if outside.as_mut().is_some_and(|outside| outside.link.from_peer.is_empty().unwrap_or(false)) {
            bell.sleep(Some(NODE_WAIT_NS));
        }
        bell.announce_awake();
    }

    /// A buffer that the node granted to `seat` is the stash's, or the answer to the allocation that waits.
    pub(crate) fn take_grant(&self, seat: &Seat, handle: Handle, tag: u32) {
        let stashed = Hold::new(State::Stashed, seat.holder());
        let Ok(place) = self.shared.ledger.place(handle.index, handle.generation) else { return };
        {
            // Without a byte of anyone but `seat`, to whom it was granted: others may have it all the same.
            let mut book = self.book.borrow_mut();
            book.admit(handle, place, Owner::Stash, (stashed, Rights::ALL));
            if let Some(root) = book.root_mut(handle.index) {
                (root.last, root.written) = (Owner::Seat(seat.id), place.capacity);
            }
        }
        if tag != 0 {
            self.granted.set(Some(Some(handle)));
            return;
        }
        if let Some(class) = class_of_capacity(place.capacity) {
            self.stash.borrow_mut().answered(class);
            let surplus = self.stash.borrow_mut().put(class, handle.index);
            self.return_to_node(seat, &surplus);
        }
    }

    /// Takes whatever `pair` names from `seat`. `false` if it does not hold it.
    pub(crate) fn give_up(&self, seat: &Seat, pair: Pair) -> bool {
        if what(pair.handle).is_mail() {
            return seat.mail.borrow_mut().put(pair);
        }
        let Ok(view) = self.book.borrow().view(seat.id, pair) else { return false };
        match view.what {
            What::Mail(_) => false,
            What::Derived(_) => {
                let ended = self.book.borrow_mut().end(pair);
                if let Some((first, below)) = ended {
                    self.retire(seat, &first, &below);
                    self.reopen(first.root.index, first.place);
                }
                true
            }
            What::Root(slot) => {
                self.give_up_root(seat, slot, view.rights);
                true
            }
        }
    }

    fn give_up_root(&self, seat: &Seat, slot: u32, rights: Rights) {
        let found = self.book.borrow().root(slot).copied();
        let Some(root) = found else { return };
        // Whoever gets it next must not see what was in it, and only the guest knows how far it wrote.
        if let Some(root) = self.book.borrow_mut().root_mut(slot) {
            root.written = root.place.capacity;
        }
        if root.derived > 0 {
            // Others still read it: it comes back with the last of them. They open it again when they touch it.
            self.book.borrow_mut().give(slot, Owner::Orphan);
            self.close(root.place);
            return;
        }
        let place = root.place;
        let class = class_of_capacity(place.capacity).filter(|_| rights == Rights::ALL);
        self.close(place);
        self.book.borrow_mut().give(slot, Owner::Stash);
        match class {
            Some(class) => {
                let surplus = self.stash.borrow_mut().put(class, slot);
                self.return_to_node(seat, &surplus);
            }
            None => self.return_to_node(seat, &[slot]),
        }
    }

    /// Under `trust = "buffer"`: gives `seat`, and nobody else of the cell, access to a buffer's pages, or to some of them.
    #[inline]
    pub(crate) fn open_to(&self, seat: &Seat, place: Place, rights: Rights) -> Result<(), HandError> {
        if self.trust == Trust::App {
            return Ok(());
        }
        let access = match (rights.allows(Rights::WRITE), rights.allows(Rights::READ)) {
            (true, _) => Access::Write,
            (false, true) => Access::Read,
            _ => {
                self.close(place);
                return Ok(());
            }
        };
        if place.capacity == 0 {
            return Ok(());
        }
        let Some((at, len)) = pages(place) else { return Err(HandError::NoPool) };
        sys::protect(at, len, access, seat.facts.key).map_err(|_| HandError::Full)?;
        self.turn_windows(at, len, Some((seat, access))).map_err(|_| HandError::Full)?;
        // Others that hold it too open it again when they touch it, be it where they touched it last.
        self.seats.iter().filter(|other| other.id != seat.id).for_each(|other| other.opened.set(0));
        Ok(())
    }

    /// The same for the windows in which pages of the pool appear: open in that of one seat, closed in all others.
    fn turn_windows(&self, at: u64, len: u64, open: Option<(&Seat, Access)>) -> Result<(), Errno> {
        for seat in &self.seats {
            let Some(window) = seat.reach.in_window(at, len) else { continue };
            match open.filter(|(to, _)| to.id == seat.id) {
                Some((_, access)) => sys::protect(window, len, access, seat.facts.key)?,
                None => sys::protect(window, len, Access::Write, 0)?,
            }
        }
        Ok(())
    }

    /// Under `trust = "buffer"`: whoever had a buffer open has given it up. Its owner has it open again, if it has one.
    fn reopen(&self, slot: u32, place: Place) {
        if self.trust == Trust::App {
            return;
        }
        let owner = self.book.borrow().root(slot).map(|root| (root.owner, root.rights));
        let opened = match owner {
            Some((Owner::Seat(id), rights)) => {
                self.seat(id).is_some_and(|owner| self.open_to(owner, place, rights).is_ok())
            }
            _ => false,
        };
        if !opened {
            self.close(place);
        }
    }

    /// Under `trust = "buffer"`: a guest touched a page that is closed to it. If it holds a capability to that buffer (one
    /// that others hold as well, and had open last), the buffer opens to it.
    pub(crate) fn open_on_demand(&self, seat: &Seat, address: u64, write: bool) -> bool {
        let address = seat.reach.pool_address(address);
        // It may have been opened for reading before.
        let wanted = address << 1 | u64::from(write);
        if self.trust == Trust::App || seat.opened.replace(wanted) == wanted {
            return false;
        }
        let need = if write { Rights::WRITE } else { Rights::READ };
        let within = |view: &View| {
            let Place { offset, capacity } = view.reach();
            Range { offset, len: capacity }
        };
        let found = self.held_around(seat, (address, 1), need, within);
        found.is_some_and(|view| self.open_to(seat, view.reach(), view.rights).is_ok())
    }

    /// Whether a guest may read a range: it is its own memory, or lies in a buffer that it holds.
    #[inline(always)]
    pub(crate) fn may_read(&self, seat: &Seat, at: u64, len: u64) -> bool {
        // Where nothing lies is nobody's business: empty strings of some languages point nowhere.
        if len == 0 || seat.reach.contains(at, len) {
            return true;
        }
        self.held_around(seat, (at, len), Rights::READ, |view| view.bytes(self.trust)).is_some()
    }

    /// Whether a guest may write a range that is not of its library OS: its mail, or a buffer that it holds.
    pub(crate) fn may_write(&self, seat: &Seat, at: u64, len: u64) -> bool {
        let mail = seat.mail.borrow().base();
        let in_mail = at >= mail && len <= MAIL_BYTES && at - mail <= MAIL_BYTES - len;
        let is_mail = self.trust == Trust::Buffer && in_mail;
        is_mail || self.held_around(seat, (at, len), Rights::WRITE, |view| view.bytes(self.trust)).is_some()
    }

    /// What `seat` holds of which `within` gives a part of the pool that holds a range, with the rights that it needs.
    fn held_around(
        &self,
        seat: &Seat,
        (at, len): (u64, u64),
        need: Rights,
        within: impl Fn(&View) -> Range,
    ) -> Option<View> {
        let offset = at.checked_sub(POOL_AT).filter(|at| *at < self.shared.pool_bytes)?;
        let book = self.book.borrow();
        let covers = |view: &View| view.rights.allows(need) && within(view).contains(Range { offset, len });
        book.held_by(seat.id).filter_map(|pair| book.view(seat.id, pair).ok()).find(covers)
    }

    /// Under `trust = "buffer"`: nobody of the cell has access any more.
    pub(crate) fn close(&self, place: Place) {
        if self.trust == Trust::App {
            return;
        }
        if let Some((at, len)) = pages(place) {
            let closed =
                sys::protect(at, len, Access::Write, 0).and_then(|()| self.turn_windows(at, len, None));
            if let Err(errno) = closed {
                // Whoever had them open would have them open for ever, and what others do with the buffer with them.
                eprintln!("a buffer cannot be closed: {errno}");
                std::process::abort();
            }
            // Whoever holds it all the same opens it again, be it where it touched it last.
            self.seats.iter().for_each(|seat| seat.opened.set(0));
        }
    }
}

impl View {
    /// The bytes of the pool that its holder may have copied for it: what it could read itself.
    fn bytes(&self, trust: Trust) -> Range {
        let Place { offset, capacity } = self.place;
        match trust {
            Trust::App => Range { offset, len: capacity },
            Trust::Buffer => Range { offset: offset + self.part.offset, len: self.part.len },
        }
    }

    /// The pages that are open to its holder: what lies beside a part in its first and last page cannot be closed to it.
    pub(crate) fn reach(&self) -> Place {
        reach(self.place, self.part)
    }
}

/// The pages of a buffer that a range of it lies in.
pub(crate) fn reach(place: Place, range: Range) -> Place {
    let from = range.offset & !(PAGE - 1);
    let to = range.offset.saturating_add(range.len).min(place.capacity).next_multiple_of(PAGE);
    let capacity = if range.len == 0 { 0 } else { to.saturating_sub(from) };
    Place { offset: place.offset + from, capacity }
}

/// The pages of a buffer, if it shares none with another.
fn pages(place: Place) -> Option<(u64, u64)> {
    let whole = place.offset.is_multiple_of(PAGE) && place.capacity.is_multiple_of(PAGE);
    (whole && place.capacity > 0).then_some((POOL_AT + place.offset, place.capacity))
}
