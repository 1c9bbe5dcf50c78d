//! Descriptors to payloads and back: accepting what a peer sends, and putting payloads on the way.

use std::rc::Rc;

use baton_abi::boot::PoolAccess;
use baton_abi::head::{Field, Record, records};
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range};

use crate::body::Body;
use crate::call::Payload;
use crate::capability::{Capability, Kind};
use crate::error::Error;
use crate::runtime::Runtime;

/// A received message: where its head lies, and its payload.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// A head in a buffer of its own.
    head: Option<Body>,
    /// Range of a head that lies in the same buffer as the payload.
    head_in_body: Option<Range>,
    body: Option<Body>,
    /// A payload that came in the descriptor itself.
    inline: Option<([u8; 8], usize)>,
}

impl Accepted {
    fn head_bytes(&self) -> &[u8] {
        match (&self.head, &self.head_in_body, &self.body) {
            (Some(head), _, _) => head,
            (None, Some(range), Some(body)) => body.before(*range),
            _ => &[],
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        records(self.head_bytes()).map_while(Result::ok)
    }

    pub(crate) fn find(&self, field: Field, name: &str) -> Option<&[u8]> {
        self.records().find(|record| record.field == field && record.name == name).map(|record| record.value)
    }

    pub(crate) fn text(&self, field: Field, name: &str) -> Option<&str> {
        self.find(field, name).and_then(|value| core::str::from_utf8(value).ok())
    }

    pub(crate) fn body(&self) -> &[u8] {
        match (&self.body, &self.inline) {
            (Some(body), _) => body,
            (None, Some((bytes, len))) => bytes.get(..*len).unwrap_or_default(),
            (None, None) => &[],
        }
    }

    pub(crate) fn into_body(self) -> Result<Body, Error> {
        self.body.ok_or(Error::Layout { len: 0, expected: 1 })
    }
}

/// The bytes of an inline payload.
fn inline(body: Extent, flags: Flags) -> Option<([u8; 8], usize)> {
    if !flags.has(Flags::INLINE) || body.handle != NONE {
        return None;
    }
    let len = usize::try_from(body.len).ok().filter(|len| *len <= 8)?;
    Some((body.offset.to_le_bytes(), len))
}

/// Takes over what a peer alleges to send. `from` is the hold that an honest sender left it in.
pub(crate) fn accept(
    runtime: &Rc<Runtime>,
    body: Extent,
    head: HeadExtent,
    flags: Flags,
    from: Hold,
) -> Result<Accepted, Error> {
    let mut accepted = Accepted { inline: inline(body, flags), ..Accepted::default() };
    if body.handle != NONE && !flags.has(Flags::INLINE) {
        let handle = Handle { index: body.handle, generation: body.generation };
        let range = Range { offset: body.offset, len: body.len };
        accepted.body = Some(take(runtime, handle, range, flags, from)?);
    }
    if head.handle == NONE {
        return Ok(accepted);
    }
    let range = Range { offset: u64::from(head.offset), len: u64::from(head.len) };
    if let (Some(body_part), true) = (&accepted.body, head.handle == body.handle) {
        let capacity = body_part.capability().capacity;
        if !(Range { offset: 0, len: capacity }).contains(range) {
            return Err(Error::Protocol { what: "a head outside of its buffer" });
        }
        accepted.head_in_body = Some(range);
    } else {
        let handle = Handle { index: head.handle, generation: head.generation };
        accepted.head = Some(take(runtime, handle, range, Flags::MOVE, from)?);
    }
    Ok(accepted)
}

/// Takes one capability over. Root or derived, the ledger has the last word on where its bytes lie.
fn take(
    runtime: &Rc<Runtime>,
    handle: Handle,
    range: Range,
    flags: Flags,
    from: Hold,
) -> Result<Body, Error> {
    let memory = &runtime.memory;
    let bad = |_| Error::Protocol { what: "a payload that its sender does not hold" };
    let (kind, slot, slot_generation) = if handle.index < memory.slots {
        (Kind::Owned, handle.index, handle.generation)
    } else {
        let found = memory.table.look(handle.index).filter(|found| found.handle == handle);
        let found = found.ok_or(Error::Protocol { what: "a payload that its sender does not hold" })?;
        if !found.range.contains(range) {
            return Err(Error::Protocol { what: "a payload wider than its capability" });
        }
        let kind = if flags.has(Flags::SHARE) { Kind::Shared } else { Kind::Lent };
        (kind, found.slot, found.slot_generation)
    };
    let place = memory
        .ledger
        .place(slot, slot_generation)
        .map_err(|_| Error::Protocol { what: "a payload in a buffer that does not exist any more" })?;
    if !(Range { offset: 0, len: place.capacity }).contains(range) {
        return Err(Error::Protocol { what: "a payload outside of its buffer" });
    }
    let rights = memory.table.transfer(handle, from, Hold::held(memory.holder)).map_err(bad)?;
    let mut capability = Capability {
        runtime: Rc::clone(runtime),
        handle,
        kind,
        rights,
        capacity: place.capacity,
        armed: true,
    };
    if memory.access != PoolAccess::Write {
        capability.rights = rights.intersect(Rights::FROZEN);
    }
    // Only now: what is refused from here on goes back with the capability, since nobody else would give it back.
    let pool = memory
        .pool
        .as_ref()
        .ok_or(Error::Denied { what: "a payload for a function whose manifest says `pool = \"none\"`" })?;
    let base = pool
        .address(place.offset, place.capacity)
        .ok_or(Error::Protocol { what: "a buffer outside of the pool" })?;
    // In bounds of the capacity, which fits the address space: it is mapped.
    let start = usize::try_from(range.offset).unwrap_or(0);
    let len = usize::try_from(range.len).unwrap_or(0);
    Ok(Body::owned(capability, base, start, len))
}

/// A payload on its way.
pub(crate) struct Sent {
    pub(crate) body: Extent,
    pub(crate) head: HeadExtent,
    pub(crate) flags: Flags,
    /// Derived for this message: taken back when the call ends.
    pub(crate) lent: Option<Handle>,
    /// Derived for this message, for the receiver to keep.
    pub(crate) shared: Option<Handle>,
}

impl Sent {
    fn nothing() -> Sent {
        Sent { body: Extent::EMPTY, head: HeadExtent::EMPTY, flags: Flags::MOVE, lent: None, shared: None }
    }
}

fn extent(handle: Handle, range: Range) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset: range.offset, len: range.len }
}

/// Puts `payload`, with `head` before it, on the way to `to`.
pub(crate) fn send(
    runtime: &Rc<Runtime>,
    payload: Payload<'_>,
    head: &[u8],
    to: Hold,
    can_lend: bool,
) -> Result<Sent, Error> {
    let mut sent = Sent::nothing();
    let invocation = runtime.invocation();
    let mut head_left = head;
    match payload.settle(runtime, can_lend)? {
        Payload::Empty => {}
        Payload::Inline(bytes, len) => {
            sent.flags = Flags::INLINE;
            sent.body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(bytes), len };
        }
        Payload::Body(mut body) => {
            let range = body.range();
            runtime.executor.count(|hop| hop.add_handed(range.len));
            if !head.is_empty()
                && let Some(at) = body.put_head(head)
            {
                head_left = &[];
                sent.head = head_extent(body.capability().handle, at, head.len());
            }
            let handle = body.into_capability().depart(range, invocation, to)?;
            sent.body = extent(handle, range);
        }
        Payload::Lend(handle, range, rights) => {
            runtime.executor.count(|hop| hop.add_handed(range.len));
            let lent = derive(runtime, handle, range, rights, to)?;
            sent.lent = Some(lent);
            sent.flags = Flags::LEND;
            sent.body = extent(lent, range);
        }
        Payload::Shared(shared) => {
            let range = shared.range();
            runtime.executor.count(|hop| hop.add_handed(range.len));
            let derived = derive(runtime, shared.capability().handle, range, Rights::FROZEN, to)?;
            runtime.arena.borrow_mut().remember(derived);
            sent.shared = Some(derived);
            sent.flags = Flags::SHARE;
            sent.body = extent(derived, range);
        }
        Payload::Buffer(_) | Payload::Bytes(_) => {
            return Err(Error::Protocol { what: "a payload that was not settled" });
        }
    }
    if !head_left.is_empty() {
        let mut buffer = runtime.alloc(head_left.len())?;
        buffer.extend_from_slice(head_left)?;
        let body = buffer.into_body();
        let range = body.range();
        let handle = body.into_capability().depart(range, invocation, to)?;
        let start = usize::try_from(range.offset).unwrap_or(0);
        sent.head = head_extent(handle, start, head_left.len());
    }
    Ok(sent)
}

fn head_extent(handle: Handle, at: usize, len: usize) -> HeadExtent {
    HeadExtent {
        handle: handle.index,
        generation: handle.generation,
        offset: u32::try_from(at).unwrap_or(u32::MAX),
        len: u32::try_from(len).unwrap_or(0),
    }
}

fn derive(
    runtime: &Rc<Runtime>,
    parent: Handle,
    range: Range,
    rights: Rights,
    to: Hold,
) -> Result<Handle, Error> {
    let memory = &runtime.memory;
    let into = runtime.take_arena_entry()?;
    let what = Derivation { range, rights, expiry_ns: 0, to };
    memory.table.derive(parent, memory.holder, into, what).map_err(|_| {
        runtime.arena.borrow_mut().put(into);
        Error::Denied { what: "lending or sharing a payload without the right to, or after its revocation" }
    })
}
