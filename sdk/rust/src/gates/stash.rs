//! Empty buffers that are kept for later, so that few allocations need a gate, and what waits to be given back.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use baton_abi::Rights;
use baton_abi::gate::{Grant, KeptMap, Pair};
use baton_abi::limits::{HEADROOM_BYTES, SLAB_CLASSES, SLOTS_MAX};
use baton_pool::capability::Handle;
use baton_pool::ledger::{class_bytes, class_of};

use super::{Gates, pair};
use crate::buffer::Buffer;
use crate::capability::{Capability, Kind};
use crate::error::Error;
use crate::runtime::Runtime;

/// Buffers that one gate takes, at most.
const BATCH_MAX: usize = 32;
/// Bytes that one gate takes, if that is more than one buffer.
const BATCH_BYTES: u64 = 16 << 10;
/// Lent capabilities that were dropped before their calls ended, told to the runtime so many at a time.
const SPENT_MAX: usize = 64;

/// One empty buffer.
#[derive(Clone, Copy, Debug)]
struct Kept {
    handle: Handle,
    base: NonNull<u8>,
    capacity: u32,
    /// First byte behind everything that was written since the buffer was zeros.
    written: u32,
}

/// Which pool buffers are in the stash: for those who look from outside.
static KEPT: KeptMap = [const { AtomicU64::new(0) }; SLOTS_MAX as usize / 64];

/// Where that lies.
pub(super) fn kept_at() -> u64 {
    KEPT.as_ptr().expose_provenance() as u64
}

/// Notes that a buffer is kept, or is not any more. There is one thread that does; handles beyond the pool's slots are not
/// shown to anyone.
#[inline]
fn note(handle: Handle, is_kept: bool) {
    let Some(word) = KEPT.get(handle.index as usize / 64) else { return };
    let bit = 1 << (handle.index % 64);
    let before = word.load(Ordering::Relaxed);
    word.store(if is_kept { before | bit } else { before & !bit }, Ordering::Relaxed);
}

/// Empty buffers by size class, last in, first out.
#[derive(Debug, Default)]
pub(super) struct Stash {
    classes: [Vec<Kept>; SLAB_CLASSES as usize],
    spent: Vec<Pair>,
}

/// Bytes that a buffer of a class may have beyond it: room for a head, and a cache line.
const SLACK_MAX: u64 = HEADROOM_BYTES + 64;

/// The class of a buffer with `capacity`, wherever it lies: in the pool, or in this function's mail.
#[inline]
fn class_of_buffer(capacity: u64) -> Option<u8> {
    let least = class_bytes(0);
    let class = u8::try_from(capacity.checked_div(least)?.checked_ilog2()?).ok()?;
    let is_small = u32::from(class) < SLAB_CLASSES && capacity - class_bytes(class) <= SLACK_MAX;
    is_small.then_some(class)
}

/// Buffers of a class that one gate takes or gives back.
#[inline]
fn batch(class: u8) -> usize {
    usize::try_from(BATCH_BYTES / class_bytes(class)).unwrap_or(1).clamp(1, BATCH_MAX)
}

impl Stash {
    #[inline]
    fn take(&mut self, class: u8) -> Option<Kept> {
        let kept = self.classes.get_mut(usize::from(class))?.pop()?;
        note(kept.handle, false);
        Some(kept)
    }

    /// Puts a buffer in; whether there are too many now.
    #[inline]
    fn put(&mut self, class: u8, kept: Kept) -> bool {
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return false };
        note(kept.handle, true);
        list.push(kept);
        list.len() > 2 * batch(class)
    }

    /// The colder ones of what there is too many of.
    fn surplus(&mut self, class: u8) -> Vec<Pair> {
        let Some(list) = self.classes.get_mut(usize::from(class)) else { return Vec::new() };
        list.drain(..batch(class).min(list.len())).map(given_back).collect()
    }

    /// Everything.
    fn clear(&mut self) -> Vec<Pair> {
        let mut pairs = core::mem::take(&mut self.spent);
        for list in &mut self.classes {
            pairs.extend(list.drain(..).map(given_back));
        }
        pairs
    }
}

/// A kept buffer on its way back to the runtime.
fn given_back(kept: Kept) -> Pair {
    note(kept.handle, false);
    pair(kept.handle)
}

impl Gates {
    /// An empty buffer for at least `len` payload bytes.
    #[inline]
    pub(crate) fn alloc(&'static self, len: usize) -> Result<Buffer, Error> {
        let class = class_of(len as u64);
        let kept = class.and_then(|class| self.stash.borrow_mut().take(class));
        let capability = match kept {
            Some(kept) => self.owned(kept.handle, kept.base, u64::from(kept.capacity), kept.written),
            None => self.take_grants(class, len)?,
        };
        Ok(Buffer::new(capability, len))
    }

    #[inline]
    fn owned(&'static self, handle: Handle, base: NonNull<u8>, capacity: u64, written: u32) -> Capability {
        Capability {
            runtime: Runtime::Gates(self),
            handle,
            base,
            capacity,
            written,
            kind: Kind::Owned,
            rights: Rights::ALL,
            armed: true,
        }
    }

    /// Takes buffers through the gate: one for now, more for later if they are small.
    #[cold]
    fn take_grants(&'static self, class: Option<u8>, len: usize) -> Result<Capability, Error> {
        let mut grants = [Grant { handle: 0, generation: 0, base: 0, capacity: 0 }; BATCH_MAX];
        let (count, bytes) = class.map_or((1, len as u64), |class| (batch(class), class_bytes(class)));
        let space = grants.get_mut(..count).unwrap_or_default();
        let got = match self.page.alloc(bytes, space) {
            got if got >= 0 => usize::try_from(got).unwrap_or(0),
            gate if gate == -i64::from(libc::EACCES) => {
                return Err(Error::Denied { what: "allocating without `pool = \"write\"` in the manifest" });
            }
            gate => return Err(with_wanted(super::refused(gate), len)),
        };
        let mut first = None;
        for grant in grants.iter().take(got.min(count)) {
            let handle = Handle { index: grant.handle, generation: grant.generation };
            let at = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(grant.base).unwrap_or(0));
            let Some(base) = NonNull::new(at) else { continue };
            // From here on dropping it keeps it.
            let owned = self.owned(handle, base, grant.capacity, 0);
            first.get_or_insert(owned);
        }
        first.ok_or(Error::PoolFull { wanted: len })
    }

    /// Takes back what this function does not need any more.
    #[inline]
    pub(crate) fn give_back(&self, capability: &Capability) {
        let Capability { handle, base, capacity, written, .. } = *capability;
        match capability.kind {
            Kind::Owned if capability.rights == Rights::ALL => match class_of_buffer(capacity) {
                Some(class) => {
                    // A class is far below 4 GiB.
                    let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
                    if self.stash.borrow_mut().put(class, Kept { handle, base, capacity, written }) {
                        self.return_surplus(class);
                    }
                }
                None => self.free(&[pair(handle)]),
            },
            Kind::Owned | Kind::Shared => self.free(&[pair(handle)]),
            Kind::Lent => self.spend(handle),
        }
    }

    /// What is lent ends with its call: that it is not needed any more is worth no gate of its own.
    #[inline]
    fn spend(&self, handle: Handle) {
        let spent = {
            let mut stash = self.stash.borrow_mut();
            stash.spent.push(pair(handle));
            if stash.spent.len() < SPENT_MAX { return } else { core::mem::take(&mut stash.spent) }
        };
        self.free(&spent);
    }

    #[cold]
    fn return_surplus(&self, class: u8) {
        let surplus = self.stash.borrow_mut().surplus(class);
        self.free(&surplus);
    }

    /// Gives everything back that is only kept for later.
    #[cold]
    pub(super) fn clear_stash(&self) {
        let pairs = self.stash.borrow_mut().clear();
        // No more at a time than the runtime looks at.
        pairs.chunks(SPENT_MAX).for_each(|some| self.free(some));
    }

    /// Gives capabilities up. Those that ended by themselves are no loss.
    pub(super) fn free(&self, pairs: &[Pair]) {
        if !pairs.is_empty() {
            let _ = self.page.free(pairs);
        }
    }
}

fn with_wanted(error: Error, wanted: usize) -> Error {
    match error {
        Error::PoolFull { .. } => Error::PoolFull { wanted },
        other => other,
    }
}
