//! Tests of the ledger: unit tests by behaviour, and a random walk against a plain oracle.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const POOL: u64 = 1 << 20;

fn ledger() -> Ledger {
    Ledger::new(Placed::heap(64), POOL)
}

#[test]
fn slots_that_never_had_a_buffer_are_refused_whatever_is_named() {
    let mut ledger = ledger();
    let first = ledger.alloc(100).unwrap();
    for generation in [0, 1, 2, u32::MAX] {
        let slot = first.slot + 1;
        assert!(matches!(ledger.view().place(slot, generation), Err(LedgerError::Stale { .. })));
        assert!(ledger.check(slot, generation, 0, 0).is_err());
        assert!(ledger.free(slot, generation, 0, 0).is_err());
    }
    assert_eq!(ledger.out().count(), 1);
}

#[test]
fn a_stale_handle_after_recycle_is_refused() {
    let mut ledger = ledger();
    let first = ledger.alloc(100).unwrap();
    ledger.free(first.slot, first.generation, 1, 100).unwrap();
    let second = ledger.alloc(100).unwrap();
    assert_eq!(second.slot, first.slot, "hot memory is used first");
    assert!(matches!(ledger.check(first.slot, first.generation, 0, 1), Err(LedgerError::Stale { .. })));
    assert!(ledger.check(second.slot, second.generation, 0, 100).is_ok());
}

#[test]
fn a_double_free_is_refused_and_changes_nothing() {
    let mut ledger = ledger();
    let buffer = ledger.alloc(1).unwrap();
    ledger.free(buffer.slot, buffer.generation, 0, 0).unwrap();
    assert!(ledger.free(buffer.slot, buffer.generation, 0, 0).is_err());
    assert!(ledger.free(buffer.slot, buffer.generation + 1, 0, 0).is_err(), "right generation, but not out");
    assert!(ledger.free(9999, 1, 0, 0).is_err());
    assert_eq!((ledger.buffers_out(), ledger.bytes_out()), (0, 0));
}

#[test]
fn ranges_are_bound_by_the_buffer() {
    let mut ledger = ledger();
    let buffer = ledger.alloc(256).unwrap();
    let capacity = buffer.place.capacity;
    assert!(ledger.check(buffer.slot, buffer.generation, 0, capacity).is_ok());
    for (offset, len) in [(0, capacity + 1), (capacity, 1), (u64::MAX, 2), (1, u64::MAX)] {
        let refused = ledger.check(buffer.slot, buffer.generation, offset, len);
        assert!(matches!(refused, Err(LedgerError::OutOfBounds { .. })), "{offset} {len}");
    }
}

#[test]
fn a_payload_may_be_as_large_as_the_pool() {
    let mut ledger = ledger();
    let small: Vec<_> = (0..32).map(|_| ledger.alloc(4096).unwrap()).collect();
    assert!(ledger.alloc(POOL).is_err());
    for buffer in small {
        ledger.free(buffer.slot, buffer.generation, 0, 0).unwrap();
    }
    let whole = ledger.alloc(POOL).unwrap();
    assert_eq!(whole.place, Place { offset: 0, capacity: POOL });
    assert!(matches!(ledger.alloc(1), Err(Full { wanted: 1, .. })));
}

#[test]
fn only_bytes_that_someone_wrote_count_as_dirty() {
    let mut ledger = ledger();
    let fresh = ledger.alloc(500_000).unwrap();
    assert_eq!(fresh.dirty_len, 0);
    ledger.free(fresh.slot, fresh.generation, 3, 77).unwrap();
    let again = ledger.alloc(500_000).unwrap();
    assert_eq!((again.dirty_by, again.dirty_len), (3, 77));
    ledger.free(again.slot, again.generation, 3, 77).unwrap();
    // Other cuts of the same memory are nobody's and dirty as far as memory was ever used.
    let small = ledger.alloc(900_000).unwrap();
    assert_eq!(small.dirty_by, NOBODY);
    assert!(small.dirty_len >= 500_000);
}

#[test]
fn a_capacity_tells_its_class() {
    let mut ledger = ledger();
    for class in 0..9 {
        let buffer = ledger.alloc(class_bytes(class)).unwrap();
        assert_eq!(class_of_capacity(buffer.place.capacity), Some(class));
    }
    assert_eq!(class_of_capacity(100), None);
    assert_eq!(class_of_capacity(70_000), None);
}

#[test]
fn neighbours_do_not_start_at_the_same_cache_set() {
    let mut ledger = ledger();
    let sets: std::collections::HashSet<u64> =
        (0..16).map(|_| ledger.alloc(4096).unwrap().place.offset / 64 % 64).collect();
    assert!(sets.len() >= 8, "{sets:?}");
}

proptest! {
    /// Random allocations and frees: buffers never overlap, never leave the pool, and everything comes back.
    #[test]
    fn buffers_never_overlap(steps in prop::collection::vec((any::<bool>(), 0u64..300_000), 1..200)) {
        let mut ledger = ledger();
        let mut live: HashMap<u32, Allocation> = HashMap::new();
        for (allocate, size) in steps {
            if allocate {
                if let Ok(buffer) = ledger.alloc(size) {
                    prop_assert!(buffer.place.capacity >= size);
                    let end = buffer.place.offset + buffer.place.capacity;
                    prop_assert!(end <= POOL);
                    for other in live.values() {
                        let other_end = other.place.offset + other.place.capacity;
                        prop_assert!(end <= other.place.offset || other_end <= buffer.place.offset);
                    }
                    prop_assert!(live.insert(buffer.slot, buffer).is_none());
                }
            } else if let Some(slot) = live.keys().copied().nth(usize::try_from(size).unwrap() % live.len().max(1)) {
                let buffer = live.remove(&slot).unwrap();
                ledger.free(slot, buffer.generation, 1, size).unwrap();
            }
            prop_assert_eq!(ledger.buffers_out() as usize, live.len());
        }
        for buffer in live.values() {
            ledger.free(buffer.slot, buffer.generation, 1, 0).unwrap();
        }
        prop_assert_eq!(ledger.bytes_free(), POOL);
        prop_assert!(ledger.alloc(POOL).is_ok());
    }
}

#[test]
fn large_buffers_have_pages_of_their_own_if_asked_for() {
    let mut ledger = Ledger::new(Placed::heap(64), 1 << 20);
    ledger.keep_pages_apart();
    let small = ledger.alloc(100).unwrap();
    let large = ledger.alloc(70_000).unwrap();
    let next = ledger.alloc(100_000).unwrap();
    for place in [large.place, next.place] {
        assert_eq!((place.offset % PAGE, place.capacity % PAGE), (0, 0));
        assert!(place.capacity >= 70_000 + HEADROOM_BYTES);
        assert_eq!(class_of_capacity(place.capacity), None);
    }
    assert!(small.place.offset + small.place.capacity <= large.place.offset);
    for got in [small, large, next] {
        ledger.free(got.slot, got.generation, NOBODY, 0).unwrap();
    }
    let whole = ledger.alloc(1 << 20).unwrap();
    assert_eq!(whole.place, Place { offset: 0, capacity: 1 << 20 });
}
