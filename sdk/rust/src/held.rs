//! What a function has in hand: one payload each, with the capability that it is reached by.
//!
//! [`crate::Buffer`], [`crate::Body`] and [`crate::Shared`] are views of the same thing. It lies in a box that is used
//! again for the next payload: what moves between handlers, calls and answers is one pointer, never the fields.

// UNSAFETY: slices and writes at the addresses of payloads; takes a box out of a value that is dropped.
#![expect(unsafe_code, reason = "payload memory that this function holds")]

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::capability::{Handle, Range};
use baton_abi::Rights;
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::runtime::Runtime;

/// How a payload came into this function's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The buffer is this function's.
    Owned,
    /// Derived; it ends with the call.
    Lent,
    /// Derived and read-only; this function may keep it.
    Shared,
    /// Came in the descriptor itself. There is no buffer, and nothing to give back.
    Inline,
}

/// Where the head of a received message lies.
#[derive(Debug)]
pub(crate) enum Head {
    Absent,
    /// In the same buffer as the payload, at this range, which was checked.
    Beside {
        offset: u32,
        len: u32,
    },
    /// What is held is the head, and there is no payload.
    Alone,
    /// In a buffer of its own.
    Apart(Held),
}

/// A buffer that was just taken, or came with a message: who claims it makes a [`Held`] of it at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) handle: Handle,
    /// Where the buffer is mapped, `capacity` bytes long.
    pub(crate) base: NonNull<u8>,
    pub(crate) capacity: usize,
    /// First byte behind everything that this function knows to have been written.
    pub(crate) written: usize,
}

/// No size class: there are never so many.
pub(crate) const UNKNOWN: u8 = u8::MAX;
/// Words of payload that come with a message itself, at most.
pub(crate) const INLINE_WORDS: usize = 8;

/// One payload in this function's hands.
pub struct Holding {
    pub(crate) runtime: Runtime,
    pub(crate) handle: Handle,
    pub(crate) base: NonNull<u8>,
    pub(crate) capacity: usize,
    /// The payload, `start + len <= capacity`.
    start: usize,
    pub(crate) len: usize,
    /// First byte behind everything that this function knows to have been written; 0 if it knows of nothing.
    pub(crate) written: usize,
    pub(crate) head: Head,
    /// An inline payload.
    inline: [u64; INLINE_WORDS],
    pub(crate) kind: Kind,
    pub(crate) rights: Rights,
    /// Whether it is still this function's to give back.
    pub(crate) armed: bool,
    /// The size class of an owned buffer; [`UNKNOWN`] until somebody has looked.
    pub(crate) class: u8,
    /// The box behind this one, where this one is kept for later.
    pub(crate) next: Option<Box<Holding>>,
}

/// A [`Holding`]. Dropping it gives back what is held.
pub struct Held {
    holding: ManuallyDrop<Box<Holding>>,
}

/// A box for a payload.
#[cold]
pub(crate) fn blank(runtime: Runtime) -> Box<Holding> {
    Box::new(Holding {
        runtime,
        handle: Handle { index: baton_abi::NONE, generation: 0 },
        base: NonNull::dangling(),
        capacity: 0,
        start: 0,
        len: 0,
        written: 0,
        head: Head::Absent,
        inline: [0; INLINE_WORDS],
        kind: Kind::Inline,
        rights: Rights::NONE,
        armed: false,
        class: UNKNOWN,
        next: None,
    })
}

impl Held {
    /// Claims the buffer at `place`. `start + len` lies inside it.
    #[inline]
    pub(crate) fn claim(
        runtime: Runtime,
        place: Place,
        (start, len): (usize, usize),
        (kind, rights): (Kind, Rights),
    ) -> Held {
        debug_assert!(start + len <= place.capacity);
        // Field by field: where they are moved together soon after, the processor waits for the stores.
        let mut holding = runtime.shelf().take(runtime);
        holding.handle = place.handle;
        holding.base = place.base;
        holding.capacity = place.capacity;
        holding.start = start;
        holding.len = len;
        holding.written = place.written;
        holding.kind = kind;
        holding.rights = rights;
        holding.class = UNKNOWN;
        holding.armed = true;
        Held { holding: ManuallyDrop::new(holding) }
    }

    /// Claims a buffer that was kept in its box, empty but for room in front.
    #[inline]
    pub(crate) fn again(mut holding: Box<Holding>, start: usize) -> Held {
        holding.start = start;
        holding.len = 0;
        holding.armed = true;
        Held { holding: ManuallyDrop::new(holding) }
    }

    /// A payload that came with the message itself: the first `len` bytes of `words`.
    #[inline]
    pub(crate) fn inline(runtime: Runtime, words: &[u64; INLINE_WORDS], len: usize) -> Held {
        let mut holding = runtime.shelf().take(runtime);
        holding.inline = *words;
        holding.start = 0;
        holding.len = len.min(size_of_val(words));
        holding.capacity = size_of_val(words);
        holding.written = 0;
        holding.kind = Kind::Inline;
        holding.rights = Rights::ALL;
        Held { holding: ManuallyDrop::new(holding) }
    }
}

impl Deref for Held {
    type Target = Holding;

    #[inline]
    fn deref(&self) -> &Holding {
        &self.holding
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Holding {
        &mut self.holding
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken once, here: nothing uses the value after its drop.
        let holding = unsafe { ManuallyDrop::take(&mut self.holding) };
        if holding.armed || !matches!(holding.head, Head::Absent) {
            Holding::let_go(holding);
        } else {
            holding.runtime.shelf().put(holding);
        }
    }
}

impl core::fmt::Debug for Held {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Held").field("len", &self.len).field("kind", &self.kind).finish()
    }
}

impl Holding {
    /// The range of the payload in its buffer.
    #[inline]
    pub(crate) fn range(&self) -> Range {
        Range { offset: self.start as u64, len: self.len as u64 }
    }

    /// Where the whole buffer is.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(crate) fn place(&self) -> Place {
        Place { handle: self.handle, base: self.base, capacity: self.capacity, written: self.written }
    }

    /// Bytes between the payload's start and the buffer's end.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.start
    }

    /// The payload.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.kind == Kind::Inline {
            return self.inline.as_bytes().get(..self.len).unwrap_or_default();
        }
        self.part(self.start, self.len)
    }

    /// The payload, to be written: the caller checked the right to.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.kind == Kind::Inline {
            return self.inline.as_mut_bytes().get_mut(..self.len).unwrap_or_default();
        }
        // SAFETY: `start <= capacity`, the length of the buffer.
        let from = unsafe { self.base.as_ptr().add(self.start) };
        // SAFETY: `start + len <= capacity`, and this function may write it: it owns the buffer, or whoever lent it gave the
        // right and cannot touch it while its `&mut` lasts. `&mut self` is the only reference here.
        unsafe { core::slice::from_raw_parts_mut(from, self.len) }
    }

    /// The head of the message.
    pub(crate) fn head(&self) -> &[u8] {
        match &self.head {
            Head::Absent => &[],
            Head::Beside { offset, len } => self.part(*offset as usize, *len as usize),
            Head::Alone => self.bytes(),
            Head::Apart(held) => held.bytes(),
        }
    }

    /// Bytes of the buffer, wherever they lie in it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bytes_at(&self, start: usize, len: usize) -> Option<&[u8]> {
        let is_inside = self.kind != Kind::Inline && start.checked_add(len)? <= self.capacity;
        is_inside.then(|| self.part(start, len))
    }

    /// The payload is this range of the buffer from now on. The caller checked that it lies inside.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn narrow(&mut self, range: Range) {
        let (start, len) = (usize::try_from(range.offset), usize::try_from(range.len));
        if let (Ok(start), Ok(len)) = (start, len)
            && start.checked_add(len).is_some_and(|end| end <= self.capacity)
        {
            self.start = start;
            self.len = len;
            if self.kind == Kind::Owned && self.rights.allows(Rights::WRITE) {
                self.written = self.written.max(start + len);
            }
        }
    }

    /// Says in the table which range is used.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn describe(&self) {
        if let Runtime::Link(link) = self.runtime {
            link.describe(self);
        }
    }

    fn part(&self, start: usize, len: usize) -> &[u8] {
        if start.checked_add(len).is_none_or(|end| end > self.capacity) {
            return &[];
        }
        // SAFETY: `start <= capacity`, the length of the buffer, by the check.
        let from = unsafe { self.base.as_ptr().add(start) };
        // SAFETY: the range lies inside the buffer, which is mapped. While this function holds the capability no other
        // function of the app has a right to write the range; functions of one app trust each other's intent.
        unsafe { core::slice::from_raw_parts(from, len) }
    }

    /// Writes `bytes` behind the payload, which grows by them. The caller checked that there is room, and the right to.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let end = self.start + self.len;
        if bytes.len() > self.capacity - end {
            return;
        }
        // SAFETY: `end + bytes.len() <= capacity`, by the check.
        let to = unsafe { self.base.as_ptr().add(end) };
        // SAFETY: so many bytes are writable memory that this function owns; no reference behind the payload is ever given
        // out, so `bytes` lie elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.len += bytes.len();
        self.written = self.written.max(end + bytes.len());
    }

    /// As [`Holding::append`], what `fill` writes: at most `most` bytes, and as many as it says.
    pub(crate) fn append_with<E>(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let end = self.start + self.len;
        let most = most.min(self.capacity - end);
        // Whatever is said afterwards, all of it may be written.
        self.written = self.written.max(end + most);
        // SAFETY: `end + most <= capacity`, by the bound.
        let to = unsafe { self.base.as_ptr().add(end) };
        // SAFETY: so many bytes are mapped memory that this function owns; every byte of a pool is initialised, and `&mut self`
        // is the only reference here.
        let space = unsafe { core::slice::from_raw_parts_mut(to, most) };
        let filled = fill(space)?.min(most);
        self.len += filled;
        Ok(filled)
    }

    /// As [`Holding::append`], zeros.
    #[inline]
    pub(crate) fn append_zeros(&mut self, count: usize) {
        let end = self.start + self.len;
        if count > self.capacity - end {
            return;
        }
        // SAFETY: as in `append`.
        let to = unsafe { self.base.as_ptr().add(end) };
        // SAFETY: as in `append`.
        unsafe { core::ptr::write_bytes(to, 0, count) };
        self.len += count;
        self.written = self.written.max(end + count);
    }

    /// Writes `head` in front of an owned payload if there is room; returns where.
    pub(crate) fn put_head(&mut self, head: &[u8]) -> Option<u32> {
        if self.kind != Kind::Owned || !self.rights.allows(Rights::WRITE) {
            return None;
        }
        let at = u32::try_from(self.start.checked_sub(head.len())?).ok()?;
        // SAFETY: `at + head.len()` is the payload's start, inside the buffer.
        let to = unsafe { self.base.as_ptr().add(at as usize) };
        // SAFETY: writable memory that this function owns; no reference to bytes in front of the payload is ever given out
        // once it is being sent, and `head` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len()) };
        Some(at)
    }

    /// Writes zeros over what was written behind the payload: only the payload's end is told to whoever gets the buffer.
    #[inline]
    pub(crate) fn wipe_tail(&mut self) {
        let end = self.start + self.len;
        if self.written > end && self.rights.allows(Rights::WRITE) {
            self.wipe(end, self.written.min(self.capacity) - end);
        }
    }

    #[cold]
    fn wipe(&mut self, start: usize, len: usize) {
        // SAFETY: `start + len <= capacity`, by the only caller.
        let from = unsafe { self.base.as_ptr().add(start) };
        // SAFETY: writable memory that this function owns; no reference behind the payload is ever given out.
        unsafe { core::ptr::write_bytes(from, 0, len) };
    }

    /// Whether this function still may do `need` with the payload.
    #[inline]
    pub(crate) fn check(&self, need: Rights) -> Result<(), Error> {
        match self.runtime {
            _ if self.kind == Kind::Inline => Ok(()),
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => link.check(self.handle, need, self.range()),
            Runtime::Gates(gates) => gates.check(self, need),
        }
    }

    /// Gives up all rights but to read and to pass on, for good.
    pub(crate) fn freeze(&mut self) {
        match self.runtime {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => link.freeze(self),
            Runtime::Gates(gates) => gates.freeze(self),
        }
    }

    /// Ends everything that was derived from this capability; how much that was.
    pub(crate) fn revoke_derived(&self) -> u32 {
        match self.runtime {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => link.revoke_derived(self.handle),
            Runtime::Gates(gates) => gates.revoke_derived(self.handle),
        }
    }

    /// Takes back what more there is than a box.
    #[inline(never)]
    fn let_go(mut holding: Box<Holding>) {
        // Mostly a small buffer that was used before. Nothing but the last steps calls anything, so that nothing has to be saved.
        if let Runtime::Gates(gates) = holding.runtime
            && matches!(holding.head, Head::Absent)
            && holding.is_recyclable()
        {
            holding.armed = false;
            return gates.keep(holding);
        }
        Holding::let_go_of_all(holding);
    }

    /// Whether it is known to be a small buffer of this function's own, with all rights.
    #[inline]
    fn is_recyclable(&self) -> bool {
        self.armed && self.kind == Kind::Owned && self.rights == Rights::ALL && self.class != UNKNOWN
    }

    #[inline(never)]
    fn let_go_of_all(mut holding: Box<Holding>) {
        if !matches!(holding.head, Head::Absent) {
            holding.head = Head::Absent;
        }
        if !core::mem::take(&mut holding.armed) {
            return holding.runtime.shelf().put(holding);
        }
        match holding.runtime {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => {
                link.give_back(&holding);
                link.shelf.put(holding);
            }
            Runtime::Gates(gates) => gates.give_back(holding),
        }
    }
}
