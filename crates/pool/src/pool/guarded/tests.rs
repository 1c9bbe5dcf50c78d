//! Tests of guarded pools. What the kernel's program does to the table is done by hand.

use baton_abi::Extent;

use super::super::Refusal;
use super::*;
use crate::capability::{Derivation, Entry};
use crate::region::{self, Access, Mapping};

const A: u16 = 1;
const B: u16 = 2;
const BYTES: u64 = 4 << 20;

/// Writes as the program in the kernel does.
#[derive(Debug)]
struct Pen(Mapping);

impl Scribe for Pen {
    fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool {
        let at = u64::from(index) * 64;
        let mut word = [0; 8];
        if !self.0.read(at, &mut word) || u64::from_le_bytes(word) != was {
            return false;
        }
        let words = if is_whole { &now[..] } else { &now[..1] };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.0.write(at, &bytes)
    }

    fn write_all(&self, entries: &[(u32, u64, [u64; 8])]) -> usize {
        entries.iter().take_while(|(index, was, now)| self.write(*index, *was, now, true)).count()
    }
}

fn pool() -> Pool {
    let bytes = u64::from(Pool::entries_for(BYTES, false)) * size_of::<Entry>() as u64;
    let table = region::create("guarded", bytes, false).unwrap();
    let pen = Pen(Mapping::new(&table, usize::try_from(bytes).unwrap(), Access::ReadWrite).unwrap());
    Pool::create_guarded("guarded", BYTES, false, table, Box::new(pen)).unwrap()
}

fn whole(handle: Handle, len: u64) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset: 0, len }
}

/// As the program derives.
fn derive(pool: &Pool, parent: Handle, by: u16, into: u32, to: Hold) -> Handle {
    let range = Range { offset: 0, len: 64 };
    pool.table.describe(parent, Range { offset: 0, len: 256 }, 0);
    let what = Derivation { range, rights: Rights::FROZEN, expiry_ns: 0, to };
    pool.table.derive(parent, by, into, what).unwrap()
}

fn hold(pool: &Pool, handle: Handle, from: State, by: u16) {
    pool.table.transfer(handle, Hold::new(from, by), Hold::held(by)).unwrap();
}

#[test]
fn what_a_replica_has_is_taken_straight_from_its_hands() {
    let mut pool = pool();
    assert!(pool.is_guarded());
    for is_held in [false, true] {
        let handle = pool.grant(200, A).unwrap();
        if is_held {
            hold(&pool, handle, State::Stashed, A);
        }
        let stranger = pool.receive(whole(handle, 200), B);
        assert!(matches!(stranger, Err(Refusal::Capability(CapabilityError::NotHeld { .. }))));
        assert_eq!(pool.receive(whole(handle, 200), A).unwrap().handle, handle);
        assert!(pool.owns(handle) && pool.still_has(handle));
        assert!(pool.receive(whole(handle, 200), A).is_err(), "twice");
        assert!(pool.free_by(handle, A).is_err(), "what the node has");
        pool.release(handle);
    }
    let over = pool.grant(200, A).unwrap();
    assert!(pool.receive_over(whole(over, 200), (9, B)).is_err());
    assert_eq!(pool.receive_over(whole(over, 200), (9, A)).unwrap().handle, over);
    pool.release(over);
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn many_buffers_are_granted_as_one_is() {
    let mut pool = pool();
    let one = pool.grant(200, A).unwrap();
    let many = pool.grant_many(200, A, 100);
    assert_eq!(many.len(), 100);
    for handle in many.iter().chain([&one]) {
        assert_eq!(pool.hold_of(*handle), Some(Hold::new(State::Stashed, A)));
        let found = pool.table.look(handle.index).unwrap();
        assert_eq!(
            (found.rights, found.range.len, found.high_water, found.parent),
            (Rights::ALL, 0, 0, None)
        );
    }
    // What came back is granted again, with a generation of its own.
    for handle in many.iter().chain([&one]) {
        pool.free_by(*handle, A).unwrap();
    }
    assert_eq!((pool.usage().buffers_out, pool.capabilities().count()), (0, 0));
    let again = pool.grant_many(200, B, 101);
    assert!(again.iter().all(|handle| pool.hold_of(*handle) == Some(Hold::new(State::Stashed, B))));
    assert!(many.iter().all(|handle| pool.hold_of(*handle).is_none()));
    // As many as there are.
    let rest = pool.grant_many(1 << 20, A, 1000);
    assert!(!rest.is_empty() && rest.len() < 1000);
    assert_eq!(pool.usage().buffers_out as usize, 101 + rest.len());
}

#[test]
fn what_the_node_sends_is_in_the_receivers_hands_at_once() {
    let mut pool = pool();
    let range = Range { offset: 0, len: 9 };
    let sent = pool.alloc(256).unwrap();
    pool.send(&sent, range, A, 1).unwrap();
    assert_eq!(pool.table.hold(sent.handle), Some(Hold::held(A)));
    assert!(!pool.owns(sent.handle) && !pool.still_has(sent.handle));
    assert!(!pool.unsend(&sent, B));
    assert!(pool.unsend(&sent, A));
    pool.send_over(&sent, range, (7, B), 1).unwrap();
    assert_eq!(pool.table.hold(sent.handle), Some(Hold::held(B)));
    pool.free_by(sent.handle, B).unwrap();
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn all_of_what_comes_back_over_a_link_counts_as_written() {
    let mut pool = pool();
    for is_freed in [true, false] {
        let first = pool.grant(1000, A).unwrap();
        let place = pool.ledger.view().place(first.index, first.generation).unwrap();
        let secret = vec![0x5a; usize::try_from(place.capacity).unwrap()];
        assert!(pool.mapping().write(place.offset, &secret));
        if is_freed {
            pool.free_by(first, A).unwrap();
        } else {
            pool.receive(whole(first, 3), A).unwrap();
            pool.release(first);
        }
        let second = pool.grant(1000, B).unwrap();
        assert_eq!(pool.ledger.view().place(second.index, second.generation), Ok(place), "recycled");
        let mut seen = secret;
        assert!(pool.mapping().read(place.offset, &mut seen));
        assert!(seen.iter().all(|&byte| byte == 0), "freed: {is_freed}");
        pool.free_by(second, B).unwrap();
    }
}

#[test]
fn what_was_derived_for_the_node_can_be_revoked_and_is_nobody_elses() {
    let mut pool = pool();
    let into = pool.derived_base(0);
    let root = pool.grant(200, A).unwrap();
    hold(&pool, root, State::Stashed, A);
    let child = derive(&pool, root, A, into, Hold::new(State::ToNode, A));
    assert!(pool.receive_over(whole(child, 64), (3, B)).is_err(), "another's");
    assert!(pool.receive_over(whole(child, 65), (3, A)).is_err(), "wider than it is");
    assert_eq!(pool.receive_over(whole(child, 64), (3, A)).unwrap().handle, child);
    assert!(pool.still_has(child) && !pool.owns(child));
    assert_eq!(pool.table.revoke(child, 0..0), 1);
    assert!(!pool.still_has(child));
    pool.release(child);
    pool.free_by(root, A).unwrap();
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn a_frozen_buffer_stays_until_the_node_has_read_what_it_was_given() {
    let mut pool = pool();
    let into = pool.derived_base(0);
    let root = pool.grant(200, A).unwrap();
    hold(&pool, root, State::Stashed, A);
    pool.table.restrict(root, A, Rights::FROZEN).unwrap();
    let child = derive(&pool, root, A, into, Hold::new(State::ToNode, A));
    // Its owner gives it up before the node has looked at the edge.
    pool.free_by(root, A).unwrap();
    pool.tidy();
    assert_eq!(pool.usage().orphans, 1);
    pool.receive_over(whole(child, 64), (3, A)).unwrap();
    pool.tidy();
    assert_eq!(pool.usage().orphans, 1);
    pool.release(child);
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn everything_of_a_dead_replica_comes_back_and_nothing_of_others() {
    let mut pool = pool();
    let into = pool.derived_base(0);
    let [stashed, held, others] = [A, A, B].map(|who| pool.grant(256, who).unwrap());
    hold(&pool, held, State::Stashed, A);
    derive(&pool, held, A, into, Hold::new(State::ToNode, A));
    // Handed over by the kernel, and in the dead one's socket or the living one's.
    let moved = pool.grant(256, B).unwrap();
    pool.table.transfer(moved, Hold::new(State::Stashed, B), Hold::held(A)).unwrap();
    let kept = pool.grant(256, A).unwrap();
    pool.table.transfer(kept, Hold::new(State::Stashed, A), Hold::held(B)).unwrap();
    let own = pool.alloc(256).unwrap();
    let reclaimed = pool.reclaim(A, |hold| hold.holder == B);
    assert_eq!((reclaimed.buffers, reclaimed.orphaned), (3, 0));
    for dead in [stashed, held, moved] {
        assert!(pool.ledger.check(dead.index, dead.generation, 0, 0).is_err());
    }
    assert_eq!(pool.scan_derived().filter(|found| found.hold.state.is_live()).count(), 0);
    pool.free_by(others, B).unwrap();
    pool.free_by(kept, B).unwrap();
    pool.release(own.handle);
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn a_root_cannot_be_taken_as_a_derived_one_nor_one_that_others_derive_from_be_reached() {
    let mut pool = pool();
    let into = pool.derived_base(0);
    let root = pool.grant(200, A).unwrap();
    hold(&pool, root, State::Stashed, A);
    let lent = derive(&pool, root, A, into, Hold::held(B));
    // B has it, and cannot hand it to the node as its own.
    assert!(pool.receive(whole(lent, 64), B).is_err());
    assert!(pool.receive(Extent { offset: u64::MAX, ..whole(root, 2) }, A).is_err());
    assert!(pool.receive(Extent { len: 1 << 40, ..whole(root, 0) }, A).is_err());
    assert_eq!(pool.table.hold(root), Some(Hold::held(A)), "nothing changed");
}
