//! What the other language holds, by handle.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use baton_abi::gate::{Grant, Pair};
use baton_abi::{Extent, Rights};

use super::{Outside, Refusal};
use crate::body::{Body, Shared};
use crate::buffer::Buffer;
use crate::call::Payload;
use crate::capability::{Handle, Range};
use crate::held::{Held, Kind};
use crate::runtime::Runtime;

type Key = (u32, u32);

pub(super) fn key(handle: Handle) -> Key {
    (handle.index, handle.generation)
}

enum Content {
    Held(Held),
    Shared(Shared),
}

struct Kept {
    content: Content,
    /// Calls that it is lent to.
    lent: u32,
    /// It goes back as soon as those are over.
    is_given_up: bool,
}

/// All payloads in the other language's hands.
#[derive(Default)]
pub(super) struct Payloads {
    kept: HashMap<Key, Kept>,
}

impl Payloads {
    pub(super) fn keep(&mut self, held: Held) {
        let kept = Kept { content: Content::Held(held), lent: 0, is_given_up: false };
        self.kept.insert(key(kept_handle(&kept)), kept);
    }

    /// Takes it out, to be moved on.
    fn take(&mut self, key: Key) -> Result<Content, Refusal> {
        match self.kept.entry(key) {
            Entry::Vacant(_) => Err(Refusal::Stale),
            Entry::Occupied(kept) if kept.get().lent > 0 || kept.get().is_given_up => Err(Refusal::Busy),
            Entry::Occupied(kept) => Ok(kept.remove().content),
        }
    }

    /// What a message of the other language carries, to be sent by value. `flags` say that it is shared.
    pub(super) fn send(&mut self, body: Extent, is_shared: bool) -> Result<Payload<'static>, Refusal> {
        let key = (body.handle, body.generation);
        let range = Range { offset: body.offset, len: body.len };
        if is_shared {
            return self.share(key, range).map(Payload::Shared);
        }
        // Looked at before it is taken: what is refused stays.
        let kept = self.kept.get(&key).ok_or(Refusal::Stale)?;
        match &kept.content {
            Content::Held(held) => fits(range, held)?,
            Content::Shared(_) => return self.share(key, range).map(Payload::Shared),
        }
        let Content::Held(mut held) = self.take(key)? else { return Err(Refusal::Stale) };
        held.narrow(range);
        Ok(Payload::Body(Body { held }))
    }

    /// Freezes it, if it is not frozen, and gives a part of it to read.
    fn share(&mut self, key: Key, range: Range) -> Result<Shared, Refusal> {
        self.freeze(key)?;
        let kept = self.kept.get(&key).ok_or(Refusal::Stale)?;
        let Content::Shared(shared) = &kept.content else { return Err(Refusal::Denied) };
        let whole = shared.range();
        let from = range.offset.checked_sub(whole.offset).ok_or(Refusal::Invalid)?;
        let (from, len) = (usize::try_from(from), usize::try_from(range.len));
        let (Ok(from), Ok(len)) = (from, len) else { return Err(Refusal::Invalid) };
        let to = from.checked_add(len).ok_or(Refusal::Invalid)?;
        shared.narrow(from..to).map_err(|_| Refusal::Invalid)
    }

    /// From now on it is read by anyone who is given it, and written by nobody.
    pub(super) fn freeze(&mut self, key: Key) -> Result<(), Refusal> {
        let kept = self.kept.get(&key).ok_or(Refusal::Stale)?;
        match &kept.content {
            Content::Shared(_) => return Ok(()),
            Content::Held(held) if matches!(held.kind, Kind::Lent | Kind::Inline) => {
                return Err(Refusal::Denied);
            }
            Content::Held(_) => {}
        }
        let Content::Held(held) = self.take(key)? else { return Ok(()) };
        let shared = Shared::frozen(Body { held });
        self.kept.insert(key, Kept { content: Content::Shared(shared), lent: 0, is_given_up: false });
        Ok(())
    }

    /// Lends it to one call more, if it may be lent with these rights; the range must lie inside.
    pub(super) fn lend(&mut self, body: Extent) -> Result<Key, Refusal> {
        let key = (body.handle, body.generation);
        let kept = self.kept.get_mut(&key).filter(|kept| !kept.is_given_up).ok_or(Refusal::Stale)?;
        let Content::Held(held) = &mut kept.content else { return Err(Refusal::Denied) };
        let range = Range { offset: body.offset, len: body.len };
        fits(range, held)?;
        if held.kind == Kind::Owned {
            if kept.lent == 0 {
                held.narrow(range);
            }
            held.describe();
        }
        kept.lent += 1;
        Ok(key)
    }

    /// What is lent, for the call.
    pub(super) fn lent(&self, key: Key, rights: Rights) -> Option<Payload<'_>> {
        match self.kept.get(&key).map(|kept| &kept.content) {
            Some(Content::Held(held)) => Some(Payload::Lend(held, rights)),
            _ => None,
        }
    }

    /// A call that it was lent to is over.
    pub(super) fn come_back(&mut self, key: Key) {
        let Some(kept) = self.kept.get_mut(&key) else { return };
        kept.lent = kept.lent.saturating_sub(1);
        if kept.lent == 0 && kept.is_given_up {
            self.kept.remove(&key);
        }
    }

    fn give_back(&mut self, key: Key) -> Result<(), Refusal> {
        let kept = self.kept.get_mut(&key).ok_or(Refusal::Stale)?;
        if kept.lent > 0 {
            kept.is_given_up = true;
        } else {
            self.kept.remove(&key);
        }
        Ok(())
    }

    /// The encoded head at a place in something that is held, which stays.
    pub(super) fn read(&self, key: Key, offset: u32, len: u32) -> Result<Vec<u8>, Refusal> {
        let kept = self.kept.get(&key).ok_or(Refusal::Stale)?;
        let Content::Held(held) = &kept.content else { return Err(Refusal::Denied) };
        let bytes = held.bytes_at(offset as usize, len as usize).ok_or(Refusal::Invalid)?;
        Ok(bytes.to_vec())
    }
}

fn kept_handle(kept: &Kept) -> Handle {
    match &kept.content {
        Content::Held(held) => held.handle,
        Content::Shared(shared) => shared.handle(),
    }
}

/// Whether a range lies inside of what is held: of a buffer if it is one's own, of the payload if it is not.
fn fits(range: Range, held: &Held) -> Result<(), Refusal> {
    let whole = match held.kind {
        Kind::Owned => Range { offset: 0, len: held.place().capacity as u64 },
        _ => held.range(),
    };
    if whole.contains(range) { Ok(()) } else { Err(Refusal::Invalid) }
}

impl Outside {
    /// A buffer for at least `bytes` bytes. All of it may be written.
    ///
    /// # Errors
    /// [`Refusal::PoolFull`]; [`Refusal::Denied`] where the manifest does not let this function write the pool.
    pub fn alloc(&self, bytes: usize) -> Result<Grant, Refusal> {
        let buffer = Runtime::Link(self.link).alloc(bytes).map_err(|error| Refusal::from(&error))?;
        let Buffer { mut held } = buffer;
        let place = held.place();
        // Nobody sees what the other language writes: all of it counts as written.
        held.written = place.capacity;
        self.payloads.borrow_mut().keep(held);
        Ok(Grant {
            handle: place.handle.index,
            generation: place.handle.generation,
            base: place.base.as_ptr().expose_provenance() as u64,
            capacity: place.capacity as u64,
        })
    }

    /// Gives something back. What is lent goes back when the last call that it is lent to is over.
    ///
    /// # Errors
    /// [`Refusal::Stale`].
    pub fn free(&self, pair: Pair) -> Result<(), Refusal> {
        self.payloads.borrow_mut().give_back((pair.handle, pair.generation))
    }

    /// Makes something read-only for everyone, for good.
    ///
    /// # Errors
    /// [`Refusal::Stale`]; [`Refusal::Denied`] if it was only lent to this function; [`Refusal::Busy`].
    pub fn freeze(&self, pair: Pair) -> Result<(), Refusal> {
        self.payloads.borrow_mut().freeze((pair.handle, pair.generation))
    }

    /// Narrows an own payload to a range of its buffer, for good.
    ///
    /// # Errors
    /// [`Refusal::Stale`]; [`Refusal::Invalid`] if the range does not lie inside; [`Refusal::Denied`] once it is frozen.
    pub fn narrow(&self, pair: Pair, offset: u64, len: u64) -> Result<(), Refusal> {
        let mut payloads = self.payloads.borrow_mut();
        let kept = payloads.kept.get_mut(&(pair.handle, pair.generation)).ok_or(Refusal::Stale)?;
        let Content::Held(held) = &mut kept.content else { return Err(Refusal::Denied) };
        let range = Range { offset, len };
        fits(range, held)?;
        if kept.lent > 0 {
            return Err(Refusal::Busy);
        }
        held.narrow(range);
        Ok(())
    }

    /// Takes something away from everyone that it was lent to or shared with; how many capabilities ended.
    ///
    /// # Errors
    /// [`Refusal::Stale`].
    pub fn revoke(&self, pair: Pair) -> Result<u32, Refusal> {
        let payloads = self.payloads.borrow();
        let kept = payloads.kept.get(&(pair.handle, pair.generation)).ok_or(Refusal::Stale)?;
        Ok(match &kept.content {
            Content::Held(held) => held.revoke_derived(),
            Content::Shared(shared) => shared.revoke(),
        })
    }
}
