//! The book: who of this cell holds which capability. Private to the runtime, and what it decides by.
//!
//! Guests hold integers. Three kinds of them, told apart by their top bits:
//!
//! | handle | names |
//! |---|---|
//! | `slot` | the root of a pool buffer that belongs to a seat |
//! | `DERIVED \| index` | a part of a buffer that was lent to, or shared with, a seat |
//! | `MAIL \| index` | a chunk of the seat's own mail, where small payloads are copied to (`trust = "buffer"`) |
//!
//! The app's shared capability table says the same to others, but later: a change inside the cell is published when the
//! capability leaves the cell, or when someone asks to see. The node reclaims by holder, and all holders of a cell die with
//! it, so that a late entry loses nothing.

mod derived;

use baton_abi::Rights;
use baton_abi::cell::SEATS_MAX;
use baton_abi::gate::Pair;
use baton_pool::capability::{Handle, Hold, Range, State};
use baton_pool::ledger::Place;

pub(crate) use self::derived::Derived;

/// A seat's number.
pub(crate) type SeatId = u8;

const DERIVED: u32 = 0x4000_0000;
const MAIL: u32 = 0x8000_0000;
/// Who owns a pool buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not of this cell.
    Nobody,
    /// Given up by its owner, but still lent or shared: it comes back with the last of those.
    Orphan,
    /// Empty, to be given out.
    Stash,
    /// A seat.
    Seat(SeatId),
}

/// A pool buffer of this cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    pub(crate) generation: u32,
    pub(crate) owner: Owner,
    /// Who owned it last: its bytes are no secret to that seat.
    pub(crate) last: Owner,
    pub(crate) rights: Rights,
    /// What the shared table says.
    pub(crate) published: Hold,
    /// The rights that it gives there.
    pub(crate) shown: Rights,
    /// Where the payload lay in it when it last changed hands.
    pub(crate) payload: Range,
    /// Capabilities derived from it that live.
    pub(crate) derived: u16,
    pub(crate) place: Place,
    /// What its owner may use of it.
    pub(crate) range: Range,
    /// First byte behind everything that was written since it was zeros.
    pub(crate) written: u64,
}

const NO_ROOT: Root = Root {
    generation: 0,
    owner: Owner::Nobody,
    last: Owner::Nobody,
    rights: Rights::NONE,
    published: Hold { state: State::Free, holder: 0 },
    shown: Rights::NONE,
    payload: Range { offset: 0, len: 0 },
    derived: 0,
    place: Place { offset: 0, capacity: 0 },
    range: Range { offset: 0, len: 0 },
    written: 0,
};

/// What a seat may do with a handle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) place: Place,
    pub(crate) range: Range,
    pub(crate) rights: Rights,
    pub(crate) what: What,
    /// The bytes of the buffer that the holder can get at: all of a buffer of its own, else the part that it was given.
    pub(crate) part: Range,
}

/// What a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Root(u32),
    Derived(u32),
    /// The seat's own mail knows more.
    Mail(u32),
}

/// A handle that means nothing to its seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The seat does not hold it.
    NotHeld,
    /// The range does not lie inside the capability's.
    OutOfBounds,
    /// The right is not there.
    Denied,
    /// More than may be derived at a time, or deeper.
    TooMany,
}

/// All capabilities of a cell.
#[derive(Debug)]
pub(crate) struct Book {
    roots: Vec<Root>,
    /// How many of them belong to each seat.
    held: [u32; SEATS_MAX],
    derived: Vec<Derived>,
    free: Vec<u32>,
    /// Derived capabilities that live.
    live: u32,
    /// Orphans whose last derived capability has ended.
    released: Vec<u32>,
}

/// What kind of capability an index names.
pub(crate) const fn what(handle: u32) -> What {
    if handle & MAIL != 0 {
        What::Mail(handle & !MAIL)
    } else if handle & DERIVED != 0 {
        What::Derived(handle & !DERIVED)
    } else {
        What::Root(handle)
    }
}

/// The handle of a chunk of mail.
pub(crate) const fn mail_handle(index: u32) -> u32 {
    MAIL | index
}

impl Book {
    pub(crate) fn new(slots: u32) -> Book {
        Book {
            roots: vec![NO_ROOT; slots as usize],
            held: [0; SEATS_MAX],
            derived: Vec::new(),
            free: Vec::new(),
            live: 0,
            released: Vec::new(),
        }
    }

    pub(crate) fn root(&self, slot: u32) -> Option<&Root> {
        self.roots.get(slot as usize).filter(|root| root.owner != Owner::Nobody)
    }

    pub(crate) fn root_mut(&mut self, slot: u32) -> Option<&mut Root> {
        self.roots.get_mut(slot as usize).filter(|root| root.owner != Owner::Nobody)
    }

    /// A buffer came into the cell, with the hold and the rights that the shared table has for it.
    pub(crate) fn admit(
        &mut self,
        handle: Handle,
        place: Place,
        owner: Owner,
        (published, rights): (Hold, Rights),
    ) {
        self.count_held(handle.index, owner);
        if let Some(root) = self.roots.get_mut(handle.index as usize) {
            *root = Root {
                generation: handle.generation,
                owner,
                last: owner,
                rights,
                published,
                shown: rights,
                payload: Range { offset: 0, len: 0 },
                derived: 0,
                place,
                range: Range { offset: 0, len: place.capacity },
                written: 0,
            };
        }
    }

    /// A buffer left the cell.
    pub(crate) fn dismiss(&mut self, slot: u32) {
        self.count_held(slot, Owner::Nobody);
        if let Some(root) = self.roots.get_mut(slot as usize) {
            root.owner = Owner::Nobody;
        }
    }

    /// A root is about to belong to someone else.
    #[inline]
    fn count_held(&mut self, slot: u32, next: Owner) {
        let Some(root) = self.roots.get(slot as usize) else { return };
        if let Owner::Seat(seat) = root.owner
            && let Some(held) = self.held.get_mut(usize::from(seat))
        {
            *held -= 1;
        }
        if let Owner::Seat(seat) = next
            && let Some(held) = self.held.get_mut(usize::from(seat))
        {
            *held += 1;
        }
    }

    /// Gives a buffer to `owner`, whole and with all rights.
    #[inline]
    pub(crate) fn give(&mut self, slot: u32, owner: Owner) {
        self.count_held(slot, owner);
        let Some(root) = self.roots.get_mut(slot as usize) else { return };
        root.last = root.owner;
        root.owner = owner;
    }

    /// What `seat` may do with `pair`. Mail is looked up by the caller. This and what it is used for is inlined where calls go
    /// through: structures that are copied soon after they were written field by field keep the processor waiting.
    #[inline(always)]
    pub(crate) fn view(&self, seat: SeatId, pair: Pair) -> Result<View, Refusal> {
        match what(pair.handle) {
            What::Root(slot) => {
                let root = self.roots.get(slot as usize).ok_or(Refusal::NotHeld)?;
                if root.owner != Owner::Seat(seat) || root.generation != pair.generation {
                    return Err(Refusal::NotHeld);
                }
                let &Root { place, range, rights, .. } = root;
                let part = Range { offset: 0, len: place.capacity };
                Ok(View { place, range, rights, what: What::Root(slot), part })
            }
            What::Derived(index) => {
                let derived = self.derived.get(index as usize).ok_or(Refusal::NotHeld)?;
                let is_held = derived.live && derived.holder == seat && derived.generation == pair.generation;
                if !is_held {
                    return Err(Refusal::NotHeld);
                }
                let &Derived { place, range, rights, part, .. } = derived;
                Ok(View { place, range, rights, what: What::Derived(index), part })
            }
            What::Mail(_) => Err(Refusal::NotHeld),
        }
    }

    /// As [`Book::view`], for a range and with a right.
    #[inline(always)]
    pub(crate) fn check(
        &self,
        seat: SeatId,
        pair: Pair,
        need: Rights,
        range: Range,
    ) -> Result<View, Refusal> {
        let view = self.view(seat, pair)?;
        if !view.rights.allows(need) {
            return Err(Refusal::Denied);
        }
        if !view.range.contains(range) {
            return Err(Refusal::OutOfBounds);
        }
        Ok(view)
    }

    /// Narrows what a seat's capability covers, for good.
    pub(crate) fn narrow(&mut self, seat: SeatId, pair: Pair, range: Range) -> Result<(), Refusal> {
        match self.check(seat, pair, Rights::NONE, range)?.what {
            What::Root(slot) => self.root_mut(slot).map(|root| root.range = range),
            What::Derived(index) => self.derived.get_mut(index as usize).map(|derived| derived.range = range),
            What::Mail(_) => None,
        }
        .ok_or(Refusal::NotHeld)
    }

    /// Takes rights away, for good.
    pub(crate) fn restrict(&mut self, seat: SeatId, pair: Pair, rights: Rights) -> Result<Rights, Refusal> {
        match self.view(seat, pair)?.what {
            What::Root(slot) => self.root_mut(slot).map(|root| {
                root.rights = root.rights.intersect(rights);
                root.rights
            }),
            What::Derived(index) => self.derived.get_mut(index as usize).map(|derived| {
                derived.rights = derived.rights.intersect(rights);
                derived.rights
            }),
            What::Mail(_) => None,
        }
        .ok_or(Refusal::NotHeld)
    }

    /// Everything that `seat` holds. Looks at the table only as long as there is more of it.
    pub(crate) fn held_by(&self, seat: SeatId) -> impl Iterator<Item = Pair> + '_ {
        let roots = (0u32..).zip(&self.roots).filter(move |(_, root)| root.owner == Owner::Seat(seat));
        let held = self.held.get(usize::from(seat)).map_or(0, |&held| held as usize);
        let roots = roots.map(|(handle, root)| Pair { handle, generation: root.generation }).take(held);
        let live = (0u32..).zip(&self.derived).filter(|(_, derived)| derived.live).take(self.live as usize);
        let derived = live.filter(move |(_, derived)| derived.holder == seat);
        let derived =
            derived.map(|(index, derived)| Pair { handle: DERIVED | index, generation: derived.generation });
        derived.chain(roots)
    }

    /// The slots of all buffers that are in the cell.
    pub(crate) fn slots(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.roots)
            .filter(|(_, root)| root.owner != Owner::Nobody)
            .map(|(slot, _)| slot)
            .collect()
    }
}

#[cfg(test)]
mod tests;
