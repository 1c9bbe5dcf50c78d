//! Payloads to descriptors: putting them on the way.

use baton_abi::boot::PoolAccess;
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range};

use super::Link;
use crate::buffer::Buffer;
use crate::call::Payload;
use crate::error::Error;
use crate::held::{Holding, Kind};
use crate::runtime::Runtime;

/// A payload on its way.
pub(crate) struct Sent {
    pub(crate) body: Extent,
    pub(crate) head: HeadExtent,
    pub(crate) flags: Flags,
    /// Derived for this message: taken back when the call ends.
    pub(crate) lent: Option<Handle>,
    /// Where the kernel shall derive from the body, and with which rights; else [`NONE`].
    pub(super) into: u32,
    pub(super) rights: u8,
    /// How far bytes were ever written to the body's buffer, for the kernel.
    pub(super) written: u64,
}

impl Sent {
    pub(super) fn nothing() -> Sent {
        Sent {
            body: Extent::EMPTY,
            head: HeadExtent::EMPTY,
            flags: Flags::MOVE,
            lent: None,
            into: NONE,
            rights: 0,
            written: 0,
        }
    }
}

pub(super) fn extent(handle: Handle, range: Range) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset: range.offset, len: range.len }
}

/// How what is sent gets to whom it is for, and how what comes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Over a ring, in this hold on its way.
    Hold(Hold),
    /// By the kernel, with the packet that names it.
    Kernel,
    /// Over a ring from or to the node, where the kernel hands over: from hand to hand.
    Node,
}

/// Where a message goes, and what may go there.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) to: To,
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
        Payload::Buffer(buffer) => send_owned(link, &mut buffer.held, head, way, &mut sent)?,
        Payload::Body(body) => match body.held.kind {
            Kind::Owned => send_owned(link, &mut body.held, head, way, &mut sent)?,
            Kind::Shared => {
                let head = place_head(link, head)?;
                share(link, body.held.handle, body.held.range(), way, &mut sent)?;
                send_placed(link, head, way, &mut sent)?;
            }
            // What is lent cannot be moved on; within a call it can be lent on, in a reply it must be copied.
            Kind::Lent | Kind::Inline => send_bytes(link, body, head, way, &mut sent)?,
        },
        Payload::Bytes(bytes) => send_bytes(link, bytes, head, way, &mut sent)?,
        Payload::Lend(held, rights) if way.can_lend => {
            // First what may find no room: what is lent already would be left on its way.
            let head = place_head(link, head)?;
            let range = held.range();
            link.current.count(|hop| hop.add_handed(range.len));
            sent.lent = derive(link, held.handle, range, *rights, way.to, &mut sent)?;
            sent.flags = Flags::LEND;
            send_placed(link, head, way, &mut sent)?;
        }
        Payload::Lend(..) => {
            return Err(Error::Denied {
                what: "a response cannot lend what its handler owns: move or share it",
            });
        }
        Payload::Shared(shared) => {
            let head = place_head(link, head)?;
            share(link, shared.handle(), shared.range(), way, &mut sent)?;
            send_placed(link, head, way, &mut sent)?;
        }
        Payload::Empty => send_head(link, head, way, &mut sent)?,
    }
    Ok(sent)
}

/// An owned payload moves; the head goes in front of it if there is room.
#[inline]
fn send_owned(
    link: &'static Link,
    owned: &mut Holding,
    head: &[u8],
    way: Way,
    sent: &mut Sent,
) -> Result<(), Error> {
    let range = owned.range();
    link.current.count(|hop| hop.add_handed(range.len));
    if !head.is_empty() {
        match owned.put_head(head) {
            Some(at) => sent.head = head_extent(owned.handle, at, head.len()),
            None => send_head(link, head, way, sent)?,
        }
    }
    sent.written = written_of(owned);
    let handle = depart(link, owned, way)?;
    sent.body = extent(handle, range);
    Ok(())
}

/// Hands a capability over: this replica's access ends here, before the receiver's begins.
#[inline]
fn depart(link: &Link, owned: &mut Holding, way: Way) -> Result<Handle, Error> {
    let (handle, range, memory) = (owned.handle, owned.range(), &link.memory);
    if let To::Hold(to) = way.to {
        let written = written_of(owned);
        memory.table.describe_written(handle, range, written, way.invocation);
        memory
            .table
            .pass(handle, Hold::held(memory.holder), to)
            .map_err(|_| Error::Denied { what: "handing on a payload that was revoked" })?;
    }
    owned.armed = false;
    Ok(handle)
}

#[inline]
fn written_of(owned: &Holding) -> u64 {
    let range = owned.range();
    (range.offset + range.len).max(owned.written as u64)
}

/// Plain bytes are copied into the pool; a few of them travel in the descriptor where the pool may not be written.
fn send_bytes(
    link: &'static Link,
    bytes: &[u8],
    head: &[u8],
    way: Way,
    sent: &mut Sent,
) -> Result<(), Error> {
    if bytes.is_empty() {
        return send_head(link, head, way, sent);
    }
    if link.memory.access == PoolAccess::Write {
        link.current.count(|hop| hop.add_copy(bytes.len()));
        let mut buffer = Buffer::copied(Runtime::Link(link), bytes)?;
        return send_owned(link, &mut buffer.held, head, way, sent);
    }
    let mut inline = [0u8; 8];
    let space = inline.get_mut(..bytes.len()).ok_or(Error::Denied {
        what: "more than 8 bytes from a function whose manifest does not say `pool = \"write\"`",
    })?;
    space.copy_from_slice(bytes);
    sent.flags = Flags::INLINE;
    let len = bytes.len() as u64;
    sent.body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(inline), len };
    send_head(link, head, way, sent)
}

/// A head in a buffer of its own.
#[inline]
fn send_head(link: &'static Link, head: &[u8], way: Way, sent: &mut Sent) -> Result<(), Error> {
    send_placed(link, place_head(link, head)?, way, sent)
}

/// Writes a head into a buffer of its own; `None` for no head.
#[inline]
fn place_head(link: &'static Link, head: &[u8]) -> Result<Option<Buffer>, Error> {
    if head.is_empty() { Ok(None) } else { Buffer::copied(Runtime::Link(link), head).map(Some) }
}

#[inline]
fn send_placed(link: &'static Link, head: Option<Buffer>, way: Way, sent: &mut Sent) -> Result<(), Error> {
    let Some(mut buffer) = head else { return Ok(()) };
    let (at, len) = (u32::try_from(buffer.held.range().offset).unwrap_or(u32::MAX), buffer.len());
    let handle = depart(link, &mut buffer.held, way)?;
    sent.head = head_extent(handle, at, len);
    Ok(())
}

fn share(link: &'static Link, parent: Handle, range: Range, way: Way, sent: &mut Sent) -> Result<(), Error> {
    link.current.count(|hop| hop.add_handed(range.len));
    if let Some(derived) = derive(link, parent, range, Rights::FROZEN, way.to, sent)? {
        link.arena.borrow_mut().remember(derived);
    }
    sent.flags = Flags::SHARE;
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

/// Makes of `parent` what the receiver gets, or prepares that the kernel does it with the packet: then there is none yet.
fn derive(
    link: &'static Link,
    parent: Handle,
    range: Range,
    rights: Rights,
    to: To,
    sent: &mut Sent,
) -> Result<Option<Handle>, Error> {
    if to == To::Node {
        let derived = link.derive_for_node(parent, range, rights)?;
        sent.body = extent(derived, range);
        return Ok(Some(derived));
    }
    let memory = &link.memory;
    let into = link.take_arena_entry()?;
    let To::Hold(to) = to else {
        // What is not held, or not to be passed on, is refused by the kernel.
        let has = memory.table.in_hands(parent, memory.holder).unwrap_or(rights);
        sent.body = extent(parent, range);
        sent.written = range.offset + range.len;
        sent.into = into;
        sent.rights = has.intersect(rights).0;
        return Ok(None);
    };
    let what = Derivation { range, rights, expiry_ns: 0, to };
    let derived = memory.table.derive(parent, memory.holder, into, what).map_err(|_| {
        link.arena.borrow_mut().put(into);
        Error::Denied { what: "lending or sharing a payload without the right to, or after its revocation" }
    })?;
    sent.body = extent(derived, range);
    Ok(Some(derived))
}
