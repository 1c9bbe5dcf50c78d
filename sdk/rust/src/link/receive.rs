//! Descriptors to payloads: accepting what a peer sends.

use core::ptr::NonNull;

use baton_abi::boot::PoolAccess;
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Handle, Hold, Range};

use super::Link;
use crate::body::Body;
use crate::capability::{Capability, Kind};
use crate::error::Error;
use crate::message::{Accepted, Content, Head, Inline};
use crate::runtime::Runtime;

/// Takes over what a peer alleges to send. `from` is the hold that an honest sender left it in.
pub(crate) fn accept(
    link: &'static Link,
    body: Extent,
    head: HeadExtent,
    flags: Flags,
    from: Hold,
) -> Result<Accepted, Error> {
    let content = if body.handle != NONE && !flags.has(Flags::INLINE) {
        let handle = Handle { index: body.handle, generation: body.generation };
        let range = Range { offset: body.offset, len: body.len };
        Content::Body(take(link, handle, range, flags, from)?)
    } else {
        Inline::of(Runtime::Link(link), body, flags)
    };
    if head.handle == NONE {
        return Ok(Accepted { content, head: Head::Absent });
    }
    let range = Range { offset: u64::from(head.offset), len: u64::from(head.len) };
    if let Content::Body(part) = &content
        && head.handle == body.handle
    {
        let capacity = part.capacity();
        if !(Range { offset: 0, len: capacity }).contains(range) {
            return Err(Error::Protocol { what: "a head outside of its buffer" });
        }
        return Ok(Accepted { content, head: Head::Beside { offset: head.offset, len: head.len } });
    }
    let handle = Handle { index: head.handle, generation: head.generation };
    let head = take(link, handle, range, Flags::MOVE, from)?;
    Ok(match content {
        Content::Empty => Accepted { content: Content::Body(head), head: Head::Alone },
        content => Accepted { content, head: Head::Apart(Box::new(head)) },
    })
}

/// Takes one capability over. Root or derived, the ledger has the last word on where its bytes lie.
fn take(link: &'static Link, handle: Handle, range: Range, flags: Flags, from: Hold) -> Result<Body, Error> {
    let memory = &link.memory;
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
    let base = memory.pool.as_ref().map(|pool| pool.address(place.offset, place.capacity));
    let mut capability = Capability {
        runtime: Runtime::Link(link),
        handle,
        base: base.flatten().unwrap_or(NonNull::dangling()),
        capacity: place.capacity,
        written: 0,
        kind,
        rights,
        armed: true,
    };
    if memory.access != PoolAccess::Write {
        capability.rights = rights.intersect(Rights::FROZEN);
    }
    // Only now: what is refused from here on goes back with the capability, since nobody else would give it back.
    match base {
        Some(Some(_)) => {}
        Some(None) => return Err(Error::Protocol { what: "a buffer outside of the pool" }),
        None => {
            let what = "a payload for a function whose manifest says `pool = \"none\"`";
            return Err(Error::Denied { what });
        }
    }
    // In bounds of the capacity, which fits the address space: it is mapped.
    let start = usize::try_from(range.offset).unwrap_or(0);
    let len = usize::try_from(range.len).unwrap_or(0);
    Ok(Body::new(capability, start, len))
}
