//! Descriptors to payloads and back: accepting what a peer sends, and putting payloads on the way.

use baton_abi::boot::PoolAccess;
use baton_abi::head::{Field, Record, records};
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range};

use crate::body::Body;
use crate::call::Payload;
use crate::capability::{Capability, Departing, Kind};
use crate::error::Error;
use crate::runtime::Runtime;

/// Where the head of a message lies.
#[derive(Debug, Default)]
enum Head {
    #[default]
    Absent,
    /// In the same buffer as the payload, at this range.
    Beside { offset: u32, len: u32 },
    /// The buffer holds the head and nothing else.
    Alone,
    /// In a buffer of its own, beside the payload's.
    Apart(Box<Body>),
}

/// The payload of a message, or its head where there is no payload.
#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    /// Came in the descriptor itself.
    Inline([u8; 8], u8),
    Body(Body),
}

/// A received message. It is moved a few times on its way to the handler, so it is kept small.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    content: Content,
    head: Head,
}

impl Accepted {
    fn head_bytes(&self) -> &[u8] {
        match (&self.head, &self.content) {
            (Head::Beside { offset, len }, Content::Body(body)) => {
                body.before(Range { offset: u64::from(*offset), len: u64::from(*len) })
            }
            (Head::Alone, Content::Body(head)) => head,
            (Head::Apart(head), _) => head,
            _ => &[],
        }
    }

    /// Whether there are method, path or headers.
    #[inline]
    pub(crate) fn has_head(&self) -> bool {
        !matches!(self.head, Head::Absent)
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
        match (&self.content, &self.head) {
            (_, Head::Alone) | (Content::Empty, _) => &[],
            (Content::Body(body), _) => body,
            (Content::Inline(bytes, len), _) => bytes.get(..usize::from(*len)).unwrap_or_default(),
        }
    }

    pub(crate) fn into_body(self) -> Result<Body, Error> {
        match (self.content, self.head) {
            (Content::Body(body), Head::Absent | Head::Beside { .. } | Head::Apart(_)) => Ok(body),
            _ => Err(Error::Layout { len: 0, expected: 1 }),
        }
    }
}

/// The bytes of an inline payload.
fn inline(body: Extent, flags: Flags) -> Content {
    match u8::try_from(body.len) {
        Ok(len @ ..=8) if flags.has(Flags::INLINE) && body.handle == NONE => {
            Content::Inline(body.offset.to_le_bytes(), len)
        }
        _ => Content::Empty,
    }
}

/// Takes over what a peer alleges to send. `from` is the hold that an honest sender left it in.
pub(crate) fn accept(
    runtime: &'static Runtime,
    body: Extent,
    head: HeadExtent,
    flags: Flags,
    from: Hold,
) -> Result<Accepted, Error> {
    let content = if body.handle != NONE && !flags.has(Flags::INLINE) {
        let handle = Handle { index: body.handle, generation: body.generation };
        let range = Range { offset: body.offset, len: body.len };
        Content::Body(take(runtime, handle, range, flags, from)?)
    } else {
        inline(body, flags)
    };
    if head.handle == NONE {
        return Ok(Accepted { content, head: Head::Absent });
    }
    let range = Range { offset: u64::from(head.offset), len: u64::from(head.len) };
    if let Content::Body(part) = &content
        && head.handle == body.handle
    {
        let capacity = part.capability().capacity;
        if !(Range { offset: 0, len: capacity }).contains(range) {
            return Err(Error::Protocol { what: "a head outside of its buffer" });
        }
        return Ok(Accepted { content, head: Head::Beside { offset: head.offset, len: head.len } });
    }
    let handle = Handle { index: head.handle, generation: head.generation };
    let head = take(runtime, handle, range, Flags::MOVE, from)?;
    Ok(match content {
        Content::Empty => Accepted { content: Content::Body(head), head: Head::Alone },
        content => Accepted { content, head: Head::Apart(Box::new(head)) },
    })
}

/// Takes one capability over. Root or derived, the ledger has the last word on where its bytes lie.
fn take(
    runtime: &'static Runtime,
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
    let mut capability = Capability { runtime, handle, kind, rights, capacity: place.capacity, armed: true };
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
}

impl Sent {
    fn nothing() -> Sent {
        Sent { body: Extent::EMPTY, head: HeadExtent::EMPTY, flags: Flags::MOVE, lent: None }
    }
}

fn extent(handle: Handle, range: Range) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset: range.offset, len: range.len }
}

/// Where a message goes, and what may go there.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) to: Hold,
    pub(crate) invocation: u64,
    /// Whether its sender waits for an answer, so that what is lent comes back.
    pub(crate) can_lend: bool,
}

/// Puts `payload`, with `head` before it, on the way. What is sent is taken out of `payload`.
pub(crate) fn send(
    runtime: &'static Runtime,
    payload: &mut Payload<'_>,
    head: &[u8],
    way: Way,
) -> Result<Sent, Error> {
    let mut sent = Sent::nothing();
    match payload {
        Payload::Buffer(buffer) => send_owned(buffer.departing(), head, way, &mut sent)?,
        Payload::Body(body) => match body.capability().kind {
            Kind::Owned => send_owned(body.departing(), head, way, &mut sent)?,
            Kind::Shared => {
                share(runtime, body.capability().handle, body.range(), way, &mut sent)?;
                send_head(runtime, head, way, &mut sent)?;
            }
            // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
            Kind::Lent => send_copy(runtime, body, head, way, &mut sent)?,
        },
        Payload::Bytes(bytes) if bytes.is_empty() => send_head(runtime, head, way, &mut sent)?,
        Payload::Bytes(bytes) if runtime.memory.access != PoolAccess::Write => {
            let mut inline = [0u8; 8];
            let space = inline.get_mut(..bytes.len()).ok_or(Error::Denied {
                what: "more than 8 bytes from a function whose manifest does not say `pool = \"write\"`",
            })?;
            space.copy_from_slice(bytes);
            send_inline(inline, bytes.len() as u64, &mut sent);
            send_head(runtime, head, way, &mut sent)?;
        }
        Payload::Bytes(bytes) => send_copy(runtime, bytes, head, way, &mut sent)?,
        Payload::Lend(handle, range, rights) if way.can_lend => {
            runtime.current.count(|hop| hop.add_handed(range.len));
            let lent = derive(runtime, *handle, *range, *rights, way.to)?;
            sent.lent = Some(lent);
            sent.flags = Flags::LEND;
            sent.body = extent(lent, *range);
            send_head(runtime, head, way, &mut sent)?;
        }
        Payload::Lend(..) => {
            return Err(Error::Denied {
                what: "a response cannot lend what its handler owns: move or share it",
            });
        }
        Payload::Shared(shared) => {
            share(runtime, shared.capability().handle, shared.range(), way, &mut sent)?;
            send_head(runtime, head, way, &mut sent)?;
        }
        Payload::Empty => send_head(runtime, head, way, &mut sent)?,
        Payload::Inline(bytes, len) => {
            send_inline(*bytes, *len, &mut sent);
            send_head(runtime, head, way, &mut sent)?;
        }
    }
    Ok(sent)
}

fn send_inline(bytes: [u8; 8], len: u64, sent: &mut Sent) {
    sent.flags = Flags::INLINE;
    sent.body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(bytes), len };
}

/// An owned payload moves; the head goes in front of it if there is room.
#[inline]
fn send_owned(mut owned: Departing<'_>, head: &[u8], way: Way, sent: &mut Sent) -> Result<(), Error> {
    let runtime = owned.capability.runtime;
    let range = owned.range;
    runtime.current.count(|hop| hop.add_handed(range.len));
    if !head.is_empty() {
        match owned.put_head(head) {
            Some(at) => sent.head = head_extent(owned.capability.handle, at, head.len()),
            None => send_head(runtime, head, way, sent)?,
        }
    }
    let handle = owned.depart(way.invocation, way.to)?;
    sent.body = extent(handle, range);
    Ok(())
}

fn send_copy(
    runtime: &'static Runtime,
    bytes: &[u8],
    head: &[u8],
    way: Way,
    sent: &mut Sent,
) -> Result<(), Error> {
    runtime.current.count(|hop| hop.add_copy(bytes.len()));
    let mut buffer = runtime.alloc(bytes.len())?;
    buffer.extend_from_slice(bytes)?;
    send_owned(buffer.departing(), head, way, sent)
}

/// A head in a buffer of its own.
#[inline]
fn send_head(runtime: &'static Runtime, head: &[u8], way: Way, sent: &mut Sent) -> Result<(), Error> {
    if head.is_empty() {
        return Ok(());
    }
    let mut buffer = runtime.alloc(head.len())?;
    buffer.extend_from_slice(head)?;
    let departing = buffer.departing();
    let at = u32::try_from(departing.range.offset).unwrap_or(u32::MAX);
    let handle = departing.depart(way.invocation, way.to)?;
    sent.head = head_extent(handle, at, head.len());
    Ok(())
}

fn share(
    runtime: &'static Runtime,
    parent: Handle,
    range: Range,
    way: Way,
    sent: &mut Sent,
) -> Result<(), Error> {
    runtime.current.count(|hop| hop.add_handed(range.len));
    let derived = derive(runtime, parent, range, Rights::FROZEN, way.to)?;
    runtime.arena.borrow_mut().remember(derived);
    sent.flags = Flags::SHARE;
    sent.body = extent(derived, range);
    Ok(())
}

fn head_extent(handle: Handle, at: u32, len: usize) -> HeadExtent {
    HeadExtent {
        handle: handle.index,
        generation: handle.generation,
        offset: at,
        len: u32::try_from(len).unwrap_or(0),
    }
}

fn derive(
    runtime: &'static Runtime,
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
