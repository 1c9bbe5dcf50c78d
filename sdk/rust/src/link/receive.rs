//! Descriptors to payloads: accepting what a peer sends.

use core::ptr::NonNull;

use baton_abi::boot::PoolAccess;
use baton_abi::{Extent, Flags, HeadExtent, NONE, Rights};
use baton_pool::capability::{Handle, Hold, Range};

use super::Link;
use super::send::To;
use crate::error::Error;
use crate::held::{Head, Held, Kind, Place};
use crate::message::Message;
use crate::runtime::Runtime;

/// Whether what a message with these flags brings was derived, and its buffer stayed where it was.
pub(super) fn is_derived(flags: Flags) -> bool {
    flags.has(Flags::LEND) || flags.has(Flags::SHARE)
}

/// Takes over what a peer alleges to send. `from` says in what hold an honest sender left it, or that nobody need be believed: the
/// kernel, or the node, has put it into this replica's hands already.
pub(crate) fn accept(
    link: &'static Link,
    body: Extent,
    head: HeadExtent,
    flags: Flags,
    from: To,
) -> Result<Message, Error> {
    let mut content = if body.handle != NONE && !flags.has(Flags::INLINE) {
        let handle = Handle { index: body.handle, generation: body.generation };
        let range = Range { offset: body.offset, len: body.len };
        Some(take(link, handle, range, flags, from)?)
    } else {
        Message::inline(Runtime::Link(link), body, flags, None)
    };
    if head.handle == NONE {
        return Ok(Message(content));
    }
    let range = Range { offset: u64::from(head.offset), len: u64::from(head.len) };
    if let Some(part) = &mut content
        && head.handle == body.handle
    {
        let whole = Range { offset: 0, len: part.place().capacity as u64 };
        if !whole.contains(range) {
            return Err(Error::Protocol { what: "a head outside of its buffer" });
        }
        part.head = Head::Beside { offset: head.offset, len: head.len };
        return Ok(Message(content));
    }
    let handle = Handle { index: head.handle, generation: head.generation };
    let head = take(link, handle, range, Flags::MOVE, from)?;
    Ok(Message::with_head(content, head))
}

/// Takes one capability over. Root or derived, the ledger has the last word on where its bytes lie.
fn take(link: &'static Link, handle: Handle, range: Range, flags: Flags, from: To) -> Result<Held, Error> {
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
    let rights = match from {
        To::Hold(from) => memory.table.transfer(handle, from, Hold::held(memory.holder)),
        To::Kernel | To::Node => memory.table.in_hands(handle, memory.holder),
    };
    let rights = rights.map_err(bad)?;
    let base = memory.pool.as_ref().map(|pool| pool.address(place.offset, place.capacity));
    let claimed = Place {
        handle,
        base: base.flatten().unwrap_or(NonNull::dangling()),
        capacity: usize::try_from(place.capacity).unwrap_or(0),
        written: 0,
    };
    let readable = if memory.access == PoolAccess::Write { rights } else { rights.intersect(Rights::FROZEN) };
    // In bounds of the capacity, which fits the address space: it is mapped.
    let start = usize::try_from(range.offset).unwrap_or(0);
    let len = usize::try_from(range.len).unwrap_or(0);
    let held = Held::claim(Runtime::Link(link), claimed, (start, len), (kind, readable));
    // Only now: what is refused from here on goes back with the capability, since nobody else would give it back.
    match base {
        Some(Some(_)) => Ok(held),
        Some(None) => Err(Error::Protocol { what: "a buffer outside of the pool" }),
        None => {
            let what = "a payload for a function whose manifest says `pool = \"none\"`";
            Err(Error::Denied { what })
        }
    }
}
