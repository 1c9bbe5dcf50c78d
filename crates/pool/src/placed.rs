//! Typed views of shared memory: slices of structures made of atomics only.

// UNSAFETY: turns mapped bytes into references to structures of atomics.
#![expect(unsafe_code, reason = "references into mappings, valid because the types hold atomics only")]

use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use crate::region::Mapping;

/// Types that may be shared with other processes.
///
/// # Safety
/// The type must be `repr(C)`, hold nothing but atomics (and arrays of such types), and accept every bit pattern.
pub unsafe trait SharedLayout: Default {}

/// What keeps the values where they are.
#[derive(Debug)]
enum Backing<T> {
    Mapped(Arc<Mapping>),
    // For models and tests: no other process sees it.
    Heap(Arc<[T]>),
}

/// A slice of `T` in memory that others may change at any time, through atomics.
#[derive(Debug)]
pub struct Placed<T> {
    first: NonNull<T>,
    len: usize,
    backing: Backing<T>,
}

// SAFETY: `T` is made of atomics (the only constructors demand `SharedLayout`) and the mapping is `Send` and `Sync`.
unsafe impl<T: SharedLayout> Send for Placed<T> {}
// SAFETY: as above: shared access is by atomics only.
unsafe impl<T: SharedLayout> Sync for Placed<T> {}

impl<T: SharedLayout> Placed<T> {
    /// `len` values at byte `offset` of `mapping`; `None` if they do not lie inside it or are misaligned.
    #[must_use]
    pub fn mapped(mapping: &Arc<Mapping>, offset: u64, len: usize) -> Option<Placed<T>> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let first = mapping.address(offset, bytes as u64)?.cast::<T>();
        if !first.is_aligned() {
            return None;
        }
        Some(Placed { first, len, backing: Backing::Mapped(Arc::clone(mapping)) })
    }

    /// `len` fresh values on the heap.
    #[must_use]
    pub fn heap(len: usize) -> Placed<T> {
        let values: Arc<[T]> = (0..len).map(|_| T::default()).collect();
        Placed { first: NonNull::from(&*values).cast(), len, backing: Backing::Heap(values) }
    }

    /// A second view of the same values.
    #[must_use]
    pub fn share(&self) -> Placed<T> {
        let backing = match &self.backing {
            Backing::Mapped(mapping) => Backing::Mapped(Arc::clone(mapping)),
            Backing::Heap(values) => Backing::Heap(Arc::clone(values)),
        };
        Placed { first: self.first, len: self.len, backing }
    }
}

impl<T> Deref for Placed<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `mapped` checked range and alignment, `heap` points to its own values; the backing is kept alive beside
        // the pointer; `T` holds atomics only, for which concurrent change through other views is allowed.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}
