//! Tests of the capability table: by behaviour here; the oracle walk and the models are beside it.

use super::*;

#[cfg(not(loom))]
mod behaviour {
    use super::*;
    use crate::ledger::{Ledger, LedgerSlot};

    const SLOTS: u32 = 1024;
    const DERIVED: core::ops::Range<u32> = SLOTS..SLOTS + 8;
    const WHOLE: Range = Range { offset: 0, len: 256 };
    const A: u16 = 1;
    const B: u16 = 2;

    struct Fixture {
        ledger: Ledger,
        table: CapabilityTable,
        root: Handle,
    }

    fn fixture() -> Fixture {
        let slots: Placed<LedgerSlot> = Placed::heap(SLOTS as usize);
        let mut ledger = Ledger::new(slots, 1 << 20);
        let table = CapabilityTable::new(Placed::heap(DERIVED.end as usize));
        let buffer = ledger.alloc(256).unwrap();
        let root = Handle { index: buffer.slot, generation: buffer.generation };
        table.grant(root, WHOLE, Hold::held(A));
        Fixture { ledger, table, root }
    }

    impl Fixture {
        fn resolve(&self, handle: Handle, by: u16, need: Rights) -> Result<Place, CapabilityError> {
            self.table.resolve(handle, by, need, Range { offset: 0, len: 16 }, (self.ledger.view(), 100))
        }

        fn lend(&self, parent: Handle, by: u16, into: u32, to: u16, rights: Rights) -> Handle {
            let what = Derivation { range: WHOLE, rights, expiry_ns: 0, to: Hold::held(to) };
            self.table.derive(parent, by, into, what).unwrap()
        }
    }

    #[test]
    fn a_move_ends_the_senders_access_before_the_receivers_begins() {
        let f = fixture();
        let edge = Hold::new(State::InFlight, 9);
        f.table.transfer(f.root, Hold::held(A), edge).unwrap();
        assert!(f.resolve(f.root, A, Rights::READ).is_err());
        assert!(f.resolve(f.root, B, Rights::READ).is_err());
        f.table.transfer(f.root, edge, Hold::held(B)).unwrap();
        assert!(f.resolve(f.root, B, Rights::ALL).is_ok());
        assert!(f.resolve(f.root, A, Rights::READ).is_err());
    }

    #[test]
    fn a_capability_is_handed_over_once() {
        let f = fixture();
        let edge = Hold::new(State::InFlight, 9);
        f.table.transfer(f.root, Hold::held(A), edge).unwrap();
        let again = f.table.transfer(f.root, Hold::held(A), edge);
        assert_eq!(again, Err(CapabilityError::NotHeld { index: f.root.index, by: edge }));
        f.table.transfer(f.root, edge, Hold::held(B)).unwrap();
        assert!(f.table.transfer(f.root, edge, Hold::held(B)).is_err(), "accepted twice");
    }

    #[test]
    fn rights_and_bounds_only_narrow() {
        let f = fixture();
        let half = Derivation {
            range: Range { offset: 0, len: 64 },
            rights: Rights::FROZEN,
            expiry_ns: 0,
            to: Hold::held(B),
        };
        let child = f.table.derive(f.root, A, DERIVED.start, half).unwrap();
        assert!(f.resolve(child, B, Rights::READ).is_ok());
        assert!(matches!(f.resolve(child, B, Rights::WRITE), Err(CapabilityError::Denied { .. })));
        let wider = Derivation { range: WHOLE, rights: Rights::ALL, ..half };
        let refused = f.table.derive(child, B, DERIVED.start + 1, wider);
        assert!(matches!(refused, Err(CapabilityError::OutOfBounds { .. })));
        let same = Derivation { rights: Rights::ALL, to: Hold::held(A), ..half };
        let grandchild = f.table.derive(child, B, DERIVED.start + 1, same).unwrap();
        assert!(f.resolve(grandchild, A, Rights::WRITE).is_err(), "rights grew");
    }

    #[test]
    fn without_the_right_to_pass_nothing_is_derived() {
        let f = fixture();
        let lent = f.lend(f.root, A, DERIVED.start, B, Rights::READ);
        let what = Derivation { range: WHOLE, rights: Rights::READ, expiry_ns: 0, to: Hold::held(A) };
        let refused = f.table.derive(lent, B, DERIVED.start + 1, what);
        assert!(matches!(refused, Err(CapabilityError::Denied { need: Rights::PASS, .. })));
    }

    #[test]
    fn revoking_takes_the_whole_subtree() {
        let f = fixture();
        let child = f.lend(f.root, A, DERIVED.start, B, Rights::FROZEN);
        let grandchild = f.lend(child, B, DERIVED.start + 1, A, Rights::FROZEN);
        let sibling = f.lend(f.root, A, DERIVED.start + 2, B, Rights::FROZEN);
        assert_eq!(f.table.revoke(child, DERIVED), 2);
        assert_eq!(f.resolve(child, B, Rights::READ), Err(CapabilityError::Revoked { index: child.index }));
        assert!(f.resolve(grandchild, A, Rights::READ).is_err());
        assert!(f.resolve(sibling, B, Rights::READ).is_ok());
        assert_eq!(f.table.revoke_derived(f.root, DERIVED), 1);
        assert!(f.resolve(f.root, A, Rights::ALL).is_ok());
    }

    #[test]
    fn expiry_ends_it_and_children_do_not_outlive_parents() {
        let f = fixture();
        let what = Derivation { range: WHOLE, rights: Rights::FROZEN, expiry_ns: 100, to: Hold::held(B) };
        let child = f.table.derive(f.root, A, DERIVED.start, what).unwrap();
        assert_eq!(f.resolve(child, B, Rights::READ), Err(CapabilityError::Expired { index: child.index }));
        let longer = Derivation { expiry_ns: 900, to: Hold::held(A), ..what };
        let grandchild = f.table.derive(child, B, DERIVED.start + 1, longer).unwrap();
        assert!(matches!(f.resolve(grandchild, A, Rights::READ), Err(CapabilityError::Expired { .. })));
    }

    #[test]
    fn a_recycled_buffer_is_out_of_reach_for_old_handles() {
        let mut f = fixture();
        f.ledger.free(f.root.index, f.root.generation, A, 256).unwrap();
        assert!(matches!(
            f.resolve(f.root, A, Rights::READ),
            Err(CapabilityError::Ledger(LedgerError::Stale { .. }))
        ));
        let again = f.ledger.alloc(256).unwrap();
        let fresh = Handle { index: again.slot, generation: again.generation };
        f.table.grant(fresh, WHOLE, Hold::held(B));
        assert!(matches!(f.resolve(f.root, A, Rights::READ), Err(CapabilityError::Stale { .. })));
    }

    #[test]
    fn forged_indices_and_states_are_refused() {
        let f = fixture();
        for index in [u32::MAX, DERIVED.end, 77] {
            assert!(f.resolve(Handle { index, generation: 1 }, A, Rights::READ).is_err());
        }
        f.table.entries[5].word.store(u64::MAX, Ordering::Relaxed);
        assert!(f.table.look(5).is_none());
        assert!(f.resolve(Handle { index: 5, generation: u32::MAX }, A, Rights::READ).is_err());
    }

    #[test]
    fn a_parent_chain_forged_into_a_circle_ends() {
        let f = fixture();
        let child = f.lend(f.root, A, DERIVED.start, B, Rights::FROZEN);
        f.table.entries[child.index as usize].parent.store(child.pack(), Ordering::Relaxed);
        let stranger = Handle { index: f.root.index, generation: f.root.generation + 1 };
        assert!(!f.table.has_derived(stranger, DERIVED));
        let what = Derivation { range: WHOLE, rights: Rights::READ, expiry_ns: 0, to: Hold::held(A) };
        assert_eq!(f.table.derive(child, B, DERIVED.start + 1, what), Err(CapabilityError::TooDeep));
        assert_eq!(f.table.revoke_derived(f.root, DERIVED), 1, "its root takes it all the same");
    }
}

#[cfg(loom)]
mod models {
    use super::*;

    const EDGE: Hold = Hold::new(State::InFlight, 7);
    const ROOT: Handle = Handle { index: 0, generation: 1 };
    const WHOLE: Range = Range { offset: 0, len: 64 };

    fn table() -> Placed<Entry> {
        let entries = Placed::heap(4);
        CapabilityTable::new(entries.share()).grant(ROOT, WHOLE, Hold::held(1));
        entries
    }

    /// Two receivers race for one capability in flight: exactly one gets it.
    #[test]
    fn loom_one_of_two_receivers_gets_it() {
        loom::model(|| {
            let entries = table();
            let first = CapabilityTable::new(entries.share());
            first.transfer(ROOT, Hold::held(1), EDGE).unwrap();
            let second = CapabilityTable::new(entries);
            let other = loom::thread::spawn(move || second.transfer(ROOT, EDGE, Hold::held(3)).is_ok());
            let mine = first.transfer(ROOT, EDGE, Hold::held(2)).is_ok();
            assert!(mine != other.join().unwrap());
        });
    }

    /// The node reclaims from a dead sender while the receiver accepts: one of them, never both.
    #[test]
    fn loom_reclaim_and_accept_exclude_each_other() {
        loom::model(|| {
            let entries = table();
            let receiver = CapabilityTable::new(entries.share());
            receiver.transfer(ROOT, Hold::held(1), EDGE).unwrap();
            let node = CapabilityTable::new(entries);
            let other = loom::thread::spawn(move || {
                node.transfer(ROOT, EDGE, Hold::new(State::Orphan, NODE)).is_ok()
            });
            let accepted = receiver.transfer(ROOT, EDGE, Hold::held(2)).is_ok();
            assert!(accepted != other.join().unwrap());
        });
    }

    /// A derivation races with the revocation of its parent: afterwards no child is live.
    #[test]
    fn loom_no_child_survives_the_revocation_of_its_parent() {
        loom::model(|| {
            let entries = table();
            let deriver = CapabilityTable::new(entries.share());
            let what = Derivation { range: WHOLE, rights: Rights::FROZEN, expiry_ns: 0, to: Hold::held(1) };
            let child = deriver.derive(ROOT, 1, 1, what).unwrap();
            let revoker = CapabilityTable::new(entries);
            let other = loom::thread::spawn(move || {
                revoker.revoke(child, 1..3);
                revoker
            });
            let _ = deriver.derive(child, 1, 2, what);
            let revoker = other.join().unwrap();
            for index in 1..3 {
                let live = revoker.look(index).is_some_and(|found| found.hold.state.is_live());
                assert!(!live, "entry {index} is live after its parent was revoked");
            }
        });
    }
}
