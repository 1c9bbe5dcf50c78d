//! Tests of the node's side: hand-over, refusals, zeroing, reclaim.

use super::*;

const A: u16 = 1;
const B: u16 = 2;

fn pool() -> Pool {
    Pool::create("test", 4 << 20, false).unwrap()
}

fn extent(handle: Handle, offset: u64, len: u64) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset, len }
}

/// Replica `holder` takes what the node sent and sends it back.
fn bounce(pool: &mut Pool, buffer: &NodeBuffer, holder: u16) {
    let table = CapabilityTable::new(placed(pool.table_fd(), pool.slots(), Access::ReadWrite).unwrap());
    table.transfer(buffer.handle, Hold::new(State::FromNode, holder), Hold::held(holder)).unwrap();
    table.transfer(buffer.handle, Hold::held(holder), Hold::new(State::ToNode, holder)).unwrap();
}

fn read(pool: &Pool, place: Place, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    assert!(pool.mapping().read(place.offset, &mut out));
    out
}

#[test]
fn a_payload_goes_out_and_comes_back_by_capability() {
    let mut pool = pool();
    let buffer = pool.alloc(100).unwrap();
    assert!(pool.write(&buffer, 0, b"hello"));
    pool.send(&buffer, Range { offset: 0, len: 5 }, A, 7).unwrap();
    bounce(&mut pool, &buffer, A);
    let back = pool.receive(extent(buffer.handle, 0, 5), A).unwrap();
    assert_eq!(read(&pool, back.place, 5), b"hello");
    pool.release(back.handle);
    assert_eq!(pool.usage().buffers_out, 0);
    assert_eq!(pool.usage().free_bytes, pool.bytes());
}

#[test]
fn what_was_not_handed_over_is_refused() {
    let mut pool = pool();
    let buffer = pool.alloc(100).unwrap();
    let own = extent(buffer.handle, 0, 5);
    assert!(matches!(pool.receive(own, A), Err(Refusal::Capability(_))), "the node's own buffer");
    pool.send(&buffer, Range { offset: 0, len: 5 }, A, 7).unwrap();
    bounce(&mut pool, &buffer, A);
    assert!(matches!(pool.receive(own, B), Err(Refusal::Capability(_))), "another replica's");
    let stale = Extent { generation: buffer.handle.generation + 1, ..own };
    assert!(matches!(pool.receive(stale, A), Err(Refusal::Ledger(LedgerError::Stale { .. }))));
    let wide = Extent { len: u64::MAX, ..own };
    assert!(matches!(pool.receive(wide, A), Err(Refusal::Ledger(LedgerError::OutOfBounds { .. }))));
    let forged = Extent { handle: u32::MAX - 1, ..own };
    assert!(matches!(pool.receive(forged, A), Err(Refusal::Capability(_))));
    assert!(pool.receive(own, A).is_ok());
    assert!(pool.receive(own, A).is_err(), "twice");
}

#[test]
fn a_double_free_by_a_replica_is_refused() {
    let mut pool = pool();
    let handle = pool.grant(256, A).unwrap();
    assert!(pool.free_by(handle, B).is_err());
    assert!(pool.free_by(handle, A).is_ok());
    assert!(pool.free_by(handle, A).is_err());
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn another_owner_never_sees_old_bytes() {
    for len in [200, 40_000, 2 << 20] {
        let mut pool = pool();
        let first = pool.grant(len, A).unwrap();
        let place = pool.ledger.view().place(first.index, first.generation).unwrap();
        let secret = vec![0x5a; usize::try_from(place.capacity).unwrap()];
        assert!(pool.mapping().write(place.offset, &secret));
        pool.table.describe(first, Range { offset: 0, len: place.capacity }, 0);
        pool.free_by(first, A).unwrap();
        let second = pool.grant(len, B).unwrap();
        let place = pool.ledger.view().place(second.index, second.generation).unwrap();
        let seen = read(&pool, place, usize::try_from(place.capacity).unwrap());
        assert!(seen.iter().all(|&byte| byte == 0), "{len}");
    }
}

/// A pool, a buffer of `len` bytes in it that `A` filled and moved to the node, and where that lies.
fn moved_to_node(len: u64) -> (Pool, Received) {
    let mut pool = Pool::create("test", 4 * PUNCH_FROM, false).unwrap();
    let handle = pool.grant(len, A).unwrap();
    let place = pool.ledger.view().place(handle.index, handle.generation).unwrap();
    assert!(pool.mapping().write(place.offset, &vec![0x5a; usize::try_from(len).unwrap()]));
    pool.table.describe(handle, Range { offset: 0, len }, 0);
    pool.table.transfer(handle, Hold::new(State::Stashed, A), Hold::new(State::ToNode, A)).unwrap();
    let received = pool.receive(extent(handle, 0, len), A).unwrap();
    (pool, received)
}

/// The one byte that `holder` sees all over it if it is the next to get that buffer.
fn seen_next(pool: &mut Pool, received: &Received, holder: u16) -> u8 {
    let Place { capacity, .. } = received.place;
    let again = pool.grant(capacity, holder).unwrap();
    assert_eq!(again.index, received.handle.index, "recycled");
    let seen = read(pool, received.place, usize::try_from(capacity).unwrap());
    assert!(seen.iter().all(|byte| *byte == seen[0]));
    seen[0]
}

#[test]
fn what_the_node_is_done_with_is_zeros_for_all_but_who_may_have_it_back() {
    let cases = [(true, A, 0x5a), (true, B, 0), (false, A, 0), (false, B, 0)];
    for (marked, next, expect) in cases {
        let (mut pool, received) = moved_to_node(PUNCH_FROM);
        if marked {
            pool.goes_back(&received, A);
        }
        pool.release(received.handle);
        assert_eq!(seen_next(&mut pool, &received, next), expect, "{marked} {next}");
    }
    let (mut pool, received) = moved_to_node(1000);
    pool.goes_back(&received, A);
    pool.release(received.handle);
    assert_eq!(seen_next(&mut pool, &received, A), 0, "little is zeroed anyway");
}

#[test]
fn whoever_gets_the_number_of_a_dead_replica_gets_none_of_its_bytes() {
    for is_back_before in [true, false] {
        let (mut pool, received) = moved_to_node(PUNCH_FROM);
        pool.goes_back(&received, A);
        if is_back_before {
            pool.release(received.handle);
        }
        pool.reclaim(NOBODY, |hold| hold.holder == B);
        pool.release(received.handle);
        assert_eq!(seen_next(&mut pool, &received, A), 0);
    }
}

#[test]
fn slack_behind_a_payload_is_zeroed_before_it_is_handed_over() {
    let mut pool = pool();
    let first = pool.grant(1000, A).unwrap();
    let place = pool.ledger.view().place(first.index, first.generation).unwrap();
    assert!(pool.mapping().write(place.offset, &[0x5a; 1000]));
    pool.table.describe(first, Range { offset: 0, len: 1000 }, 0);
    pool.free_by(first, A).unwrap();
    let buffer = pool.alloc(1000).unwrap();
    assert_eq!(buffer.place, place, "recycled");
    assert!(pool.write(&buffer, 0, b"new"));
    pool.send(&buffer, Range { offset: 0, len: 3 }, B, 0).unwrap();
    let seen = read(&pool, place, 1000);
    assert_eq!(&seen[..3], b"new");
    assert!(seen[3..].iter().all(|&byte| byte == 0));
}

#[test]
fn everything_of_a_dead_replica_comes_back() {
    let mut pool = pool();
    let stashed = pool.grant(256, A).unwrap();
    let held = pool.grant(256, A).unwrap();
    pool.table.transfer(held, Hold::new(State::Stashed, A), Hold::held(A)).unwrap();
    let flying = pool.grant(256, A).unwrap();
    pool.table.transfer(flying, Hold::new(State::Stashed, A), Hold::new(State::InFlight, 4)).unwrap();
    let others = pool.grant(256, B).unwrap();
    let sent = pool.alloc(256).unwrap();
    pool.send(&sent, Range { offset: 0, len: 9 }, A, 1).unwrap();
    let own = pool.alloc(256).unwrap();
    let reclaimed = pool.reclaim(A, |hold| hold.holder == B && hold.state != State::InFlight);
    assert_eq!(reclaimed, Reclaimed { buffers: 4, orphaned: 0 });
    assert_eq!(pool.usage().buffers_out, 2);
    for dead in [stashed, held, flying] {
        assert!(pool.ledger.check(dead.index, dead.generation, 0, 0).is_err());
    }
    pool.free_by(others, B).unwrap();
    pool.release(own.handle);
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn looking_for_what_a_replica_had_makes_no_pages() {
    let mut pool = pool();
    pool.derived_base(100);
    let pages = |pool: &Pool| rustix::fs::fstat(pool.table_fd()).unwrap().st_blocks;
    let before = pages(&pool);
    assert_eq!(pool.derived(), []);
    pool.reclaim(A, |_| true);
    assert_eq!(pages(&pool), before);
    // Written in the middle: that page is looked at, and no other.
    let index = pool.derived_base(7) + 70;
    let root = pool.grant(256, A).unwrap();
    pool.table.transfer(root, Hold::new(State::Stashed, A), Hold::held(A)).unwrap();
    let range = Range { offset: 0, len: 64 };
    pool.table.describe(root, range, 0);
    let what = crate::capability::Derivation { range, rights: Rights::READ, expiry_ns: 0, to: Hold::held(B) };
    pool.table.derive(root, A, index, what).unwrap();
    let first = index - index % 64;
    assert_eq!(pool.derived(), vec![std::ops::Range { start: first, end: first + 64 }]);
    assert_eq!(pool.scan_derived().count(), 1);
}

#[test]
fn a_liar_that_overwrites_the_table_leaks_nothing() {
    let mut pool = pool();
    let handle = pool.grant(256, A).unwrap();
    pool.table.clear(handle.index);
    assert_eq!(pool.usage().buffers_out, 1);
    assert_eq!(pool.reclaim(A, |_| false).buffers, 1);
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn a_shared_buffer_outlives_its_owner_until_the_last_reader_is_done() {
    let mut pool = pool();
    let base = pool.derived_base(0);
    let root = pool.grant(256, A).unwrap();
    pool.table.transfer(root, Hold::new(State::Stashed, A), Hold::held(A)).unwrap();
    pool.table.describe(root, Range { offset: 0, len: 64 }, 0);
    pool.table.restrict(root, A, Rights::FROZEN).unwrap();
    let what = crate::capability::Derivation {
        range: Range { offset: 0, len: 64 },
        rights: Rights::FROZEN,
        expiry_ns: 0,
        to: Hold::held(B),
    };
    let child = pool.table.derive(root, A, base, what).unwrap();
    assert_eq!(pool.reclaim(A, |hold| hold.holder == B), Reclaimed { buffers: 0, orphaned: 1 });
    assert_eq!(pool.usage().orphans, 1);
    pool.table.transfer(child, Hold::held(B), Hold::new(State::Released, B)).unwrap();
    pool.free_by(child, B).unwrap();
    pool.tidy();
    assert_eq!(pool.usage().buffers_out, 0);
}

#[test]
fn what_the_node_shares_is_read_by_many_and_comes_back_with_the_last() {
    let mut pool = pool();
    let mut arena = pool.own_arena(3);
    let buffer = pool.alloc(200).unwrap();
    let whole = Range { offset: 0, len: 128 };
    pool.freeze(buffer.handle, whole).unwrap();
    let edges = [(5, A), (6, B)];
    let readers: Vec<Handle> = edges
        .iter()
        .map(|&(edge, holder)| {
            let part = Range { offset: 64, len: 64 };
            let child = pool.share_over(&mut arena, buffer.handle, part, (edge, holder)).unwrap();
            let taken = pool.table.transfer(child, Hold::new(State::InFlight, edge), Hold::held(holder));
            assert_eq!(taken.unwrap(), Rights::FROZEN);
            child
        })
        .collect();
    let wide = Range { offset: 64, len: 65 };
    let refused = pool.share_over(&mut arena, buffer.handle, wide, (5, B));
    assert!(matches!(refused, Err(ShareError::Capability(CapabilityError::OutOfBounds { .. }))));
    pool.release(buffer.handle);
    assert_eq!((pool.usage().buffers_out, pool.usage().orphans), (1, 1), "still read");
    for (child, (_, holder)) in readers.iter().zip(edges) {
        pool.table.transfer(*child, Hold::held(holder), Hold::new(State::Released, holder)).unwrap();
        pool.free_by(*child, holder).unwrap();
        pool.tidy();
    }
    assert_eq!(pool.usage().buffers_out, 0);
    assert!(
        pool.share_over(&mut arena, buffer.handle, whole, (5, B)).is_err(),
        "it is not the node's any more"
    );
}

#[test]
fn the_node_shares_with_as_many_as_may_and_again_when_some_are_done() {
    let mut pool = pool();
    let mut arena = pool.own_arena(0);
    let buffer = pool.alloc(64).unwrap();
    let whole = Range { offset: 0, len: 64 };
    pool.freeze(buffer.handle, whole).unwrap();
    let mut given = Vec::new();
    let refused = loop {
        match pool.share_over(&mut arena, buffer.handle, whole, (5, B)) {
            Ok(child) => given.push(child),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, given.len()), (ShareError::Crowded, 1024));
    pool.table.transfer(given[70], Hold::new(State::InFlight, 5), Hold::new(State::Released, A)).unwrap();
    let again = pool.share_over(&mut arena, buffer.handle, whole, (5, B)).unwrap();
    assert_eq!((again.index, again.generation), (given[70].index, given[70].generation + 1));
    assert!(pool.table.hold(given[70]).is_none(), "the old one is no way in");
}

#[test]
fn a_full_pool_says_so_and_recovers() {
    let mut pool = pool();
    let whole = pool.alloc(4 << 20).unwrap();
    assert!(pool.alloc(1).is_err());
    assert!(pool.grant(1, A).is_err());
    pool.release(whole.handle);
    assert!(pool.alloc(1).is_ok());
}
