//! Payloads to descriptors: putting them on the way.

use baton_abi::boot::PoolAccess;
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range};

use super::Link;
use crate::call::Payload;
use crate::capability::{Departing, Kind};
use crate::error::Error;

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
    link: &'static Link,
    payload: &mut Payload<'_>,
    head: &[u8],
    way: Way,
) -> Result<Sent, Error> {
    let mut sent = Sent::nothing();
    match payload {
        Payload::Buffer(buffer) => send_owned(link, buffer.departing(), head, way, &mut sent)?,
        Payload::Body(body) => match body.kind() {
            Kind::Owned => send_owned(link, body.departing(), head, way, &mut sent)?,
            Kind::Shared => {
                share(link, body.handle(), body.range(), way, &mut sent)?;
                send_head(link, head, way, &mut sent)?;
            }
            // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
            Kind::Lent => send_copy(link, body, head, way, &mut sent)?,
        },
        Payload::Bytes(bytes) if bytes.is_empty() => send_head(link, head, way, &mut sent)?,
        Payload::Bytes(bytes) if link.memory.access != PoolAccess::Write => {
            let mut inline = [0u8; 8];
            let space = inline.get_mut(..bytes.len()).ok_or(Error::Denied {
                what: "more than 8 bytes from a function whose manifest does not say `pool = \"write\"`",
            })?;
            space.copy_from_slice(bytes);
            send_inline(inline, bytes.len() as u64, &mut sent);
            send_head(link, head, way, &mut sent)?;
        }
        Payload::Bytes(bytes) => send_copy(link, bytes, head, way, &mut sent)?,
        Payload::Lend(handle, range, rights) if way.can_lend => {
            link.current.count(|hop| hop.add_handed(range.len));
            let lent = derive(link, *handle, *range, *rights, way.to)?;
            sent.lent = Some(lent);
            sent.flags = Flags::LEND;
            sent.body = extent(lent, *range);
            send_head(link, head, way, &mut sent)?;
        }
        Payload::Lend(..) => {
            return Err(Error::Denied {
                what: "a response cannot lend what its handler owns: move or share it",
            });
        }
        Payload::Shared(shared) => {
            share(link, shared.handle(), shared.range(), way, &mut sent)?;
            send_head(link, head, way, &mut sent)?;
        }
        Payload::Empty => send_head(link, head, way, &mut sent)?,
    }
    Ok(sent)
}

fn send_inline(bytes: [u8; 8], len: u64, sent: &mut Sent) {
    sent.flags = Flags::INLINE;
    sent.body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(bytes), len };
}

/// An owned payload moves; the head goes in front of it if there is room.
#[inline]
fn send_owned(
    link: &'static Link,
    mut owned: Departing<'_>,
    head: &[u8],
    way: Way,
    sent: &mut Sent,
) -> Result<(), Error> {
    let range = owned.range;
    link.current.count(|hop| hop.add_handed(range.len));
    if !head.is_empty() {
        match owned.put_head(head) {
            Some(at) => sent.head = head_extent(owned.capability.handle, at, head.len()),
            None => send_head(link, head, way, sent)?,
        }
    }
    let handle = depart(link, owned, way)?;
    sent.body = extent(handle, range);
    Ok(())
}

/// Hands a capability over: this replica's access ends here, before the receiver's begins.
#[inline]
fn depart(link: &Link, owned: Departing<'_>, way: Way) -> Result<Handle, Error> {
    let handle = owned.capability.handle;
    let memory = &link.memory;
    memory.table.describe_written(handle, owned.range, owned.written, way.invocation);
    memory
        .table
        .pass(handle, Hold::held(memory.holder), way.to)
        .map_err(|_| Error::Denied { what: "handing on a payload that was revoked" })?;
    owned.capability.armed = false;
    Ok(handle)
}

fn send_copy(link: &'static Link, bytes: &[u8], head: &[u8], way: Way, sent: &mut Sent) -> Result<(), Error> {
    link.current.count(|hop| hop.add_copy(bytes.len()));
    let mut buffer = link.alloc(bytes.len())?;
    buffer.extend_from_slice(bytes)?;
    send_owned(link, buffer.departing(), head, way, sent)
}

/// A head in a buffer of its own.
#[inline]
fn send_head(link: &'static Link, head: &[u8], way: Way, sent: &mut Sent) -> Result<(), Error> {
    if head.is_empty() {
        return Ok(());
    }
    let mut buffer = link.alloc(head.len())?;
    buffer.extend_from_slice(head)?;
    let departing = buffer.departing();
    let at = u32::try_from(departing.range.offset).unwrap_or(u32::MAX);
    let handle = depart(link, departing, way)?;
    sent.head = head_extent(handle, at, head.len());
    Ok(())
}

fn share(link: &'static Link, parent: Handle, range: Range, way: Way, sent: &mut Sent) -> Result<(), Error> {
    link.current.count(|hop| hop.add_handed(range.len));
    let derived = derive(link, parent, range, Rights::FROZEN, way.to)?;
    link.arena.borrow_mut().remember(derived);
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
    link: &'static Link,
    parent: Handle,
    range: Range,
    rights: Rights,
    to: Hold,
) -> Result<Handle, Error> {
    let memory = &link.memory;
    let into = link.take_arena_entry()?;
    let what = Derivation { range, rights, expiry_ns: 0, to };
    memory.table.derive(parent, memory.holder, into, what).map_err(|_| {
        link.arena.borrow_mut().put(into);
        Error::Denied { what: "lending or sharing a payload without the right to, or after its revocation" }
    })
}
