//! The capability table against a plain model: after every step of a random life, for every handle that there ever
//! was, exactly those may access a range whom the model says so of.
#![expect(clippy::unwrap_used, reason = "what a test sets up either works or fails the test")]

use std::collections::BTreeMap;

use baton_abi::Rights;
use baton_pool::Placed;
use baton_pool::capability::{CapabilityTable, Derivation, Entry, Handle, Hold, Range, State};
use baton_pool::ledger::{Ledger, LedgerSlot, LedgerView};
use proptest::prelude::*;

const HOLDERS: u16 = 3;
const ROOTS: u32 = 2;
const ARENA: u32 = 2;
const BYTES: u64 = 256;

#[derive(Clone, Debug)]
enum Step {
    Grant {
        root: u32,
        to: u16,
    },
    Clear {
        root: u32,
    },
    Transfer {
        pick: usize,
        from: u16,
        to: u16,
    },
    Restrict {
        pick: usize,
        by: u16,
        rights: u8,
    },
    Derive {
        pick: usize,
        by: u16,
        offset: u64,
        len: u64,
        rights: u8,
        to: u16,
        into: u32,
        expires: bool,
    },
    Release {
        pick: usize,
        by: u16,
    },
    Revoke {
        pick: usize,
    },
    RevokeDerived {
        pick: usize,
    },
    /// Lends, lends on, gives the first loan up, and lends something else by the same entry.
    Recycle {
        pick: usize,
        other: usize,
        to: u16,
        on: u16,
        into: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let holder = 1..=HOLDERS;
    // Mostly whoever has it (0), so that lives are long; sometimes anybody.
    let by = prop_oneof![4 => Just(0), 1 => 1..=HOLDERS];
    let pick = any::<usize>();
    prop_oneof![
        1 => (0..ROOTS, holder.clone()).prop_map(|(root, to)| Step::Grant { root, to }),
        1 => (0..ROOTS).prop_map(|root| Step::Clear { root }),
        4 => (pick, by.clone(), holder.clone()).prop_map(|(pick, from, to)| Step::Transfer { pick, from, to }),
        1 => (pick, by.clone(), prop_oneof![Just(7u8), Just(5), 0..8u8]).prop_map(|(pick, by, rights)| Step::Restrict { pick, by, rights }),
        8 => (pick, by.clone(), prop_oneof![Just(0), 0..=BYTES], prop_oneof![Just(BYTES), Just(64), 0..=BYTES], prop_oneof![Just(7u8), Just(5), 0..8u8], holder.clone(), 0..ARENA, any::<bool>())
            .prop_map(|(pick, by, offset, len, rights, to, into, expires)| {
                Step::Derive { pick, by, offset, len, rights, to, into, expires: expires && len % 4 == 0 }
            }),
        3 => (pick, by).prop_map(|(pick, by)| Step::Release { pick, by }),
        2 => pick.prop_map(|pick| Step::Revoke { pick }),
        1 => pick.prop_map(|pick| Step::RevokeDerived { pick }),
        3 => (pick, pick, 1..=HOLDERS, 1..=HOLDERS, 0..ARENA).prop_map(|(pick, other, to, on, into)| {
            Step::Recycle { pick, other, to, on, into }
        }),
    ]
}

/// What the model knows of one index.
#[derive(Clone, Debug)]
struct Known {
    generation: u32,
    /// `None`: given up, taken away or free.
    holder: Option<u16>,
    revoked: bool,
    rights: u8,
    range: (u64, u64),
    root: Handle,
    parent: Option<Handle>,
    expiry: u64,
}

struct World {
    table: CapabilityTable,
    ledger: Ledger,
    view: LedgerView,
    roots: Vec<Handle>,
    model: BTreeMap<u32, Known>,
    /// Every handle that there ever was.
    ever: Vec<Handle>,
}

const NOW: u64 = 1000;

impl World {
    fn new() -> World {
        let slots: Placed<LedgerSlot> = Placed::heap(ROOTS as usize);
        let view = LedgerView::new(slots.share());
        let mut ledger = Ledger::new(slots, 1 << 20);
        let entries: Placed<Entry> = Placed::heap((ROOTS + ARENA * u32::from(HOLDERS)) as usize);
        let mut roots = vec![Handle { index: 0, generation: 0 }; ROOTS as usize];
        for _ in 0..ROOTS {
            let made = ledger.alloc(BYTES).unwrap();
            roots[made.slot as usize] = Handle { index: made.slot, generation: made.generation };
        }
        World {
            table: CapabilityTable::new(entries),
            ledger,
            view,
            roots,
            model: BTreeMap::new(),
            ever: Vec::new(),
        }
    }

    fn derived() -> core::ops::Range<u32> {
        ROOTS..ROOTS + ARENA * u32::from(HOLDERS)
    }

    /// Half the time one of the newest.
    fn pick(&self, pick: usize) -> Option<Handle> {
        let newest = self.ever.len().saturating_sub(6);
        let from = if pick.is_multiple_of(2) { newest } else { 0 };
        self.ever.get(from..).filter(|some| !some.is_empty()).map(|some| some[pick / 2 % some.len()])
    }

    /// Who acts: `by`, or for 0 whoever holds `handle`.
    fn actor(&self, handle: Handle, by: u16) -> u16 {
        if by != 0 { by } else { self.known(handle).and_then(|known| known.holder).unwrap_or(1) }
    }

    fn known(&self, handle: Handle) -> Option<&Known> {
        self.model.get(&handle.index).filter(|known| known.generation == handle.generation)
    }

    /// The model's own idea of descent: to the root always, to others along handles that are still what they were.
    fn descends(&self, child: &Known, ancestor: Handle) -> bool {
        if child.root == ancestor {
            return true;
        }
        match child.parent {
            Some(parent) if parent == ancestor => true,
            Some(parent) => self.known(parent).is_some_and(|parent| self.descends(parent, ancestor)),
            None => false,
        }
    }

    fn revoke(&mut self, handle: Handle, itself: bool) {
        let below: Vec<u32> = self
            .model
            .iter()
            .filter(|(index, known)| {
                Self::derived().contains(*index)
                    && Handle { index: **index, generation: known.generation } != handle
                    && self.descends(known, handle)
            })
            .map(|(index, _)| *index)
            .collect();
        let own = self.known(handle).filter(|_| itself).map(|_| handle.index);
        for index in below.into_iter().chain(own) {
            if let Some(known) = self.model.get_mut(&index).filter(|known| known.holder.is_some()) {
                known.holder = None;
                known.revoked = true;
            }
        }
        if itself {
            self.table.revoke(handle, Self::derived());
        } else {
            self.table.revoke_derived(handle, Self::derived());
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Grant { root, to } => {
                if self.model.contains_key(&root) {
                    return;
                }
                let handle = self.roots[root as usize];
                self.table.grant(handle, Range { offset: 0, len: BYTES }, Hold::held(to));
                self.model.insert(
                    root,
                    Known {
                        generation: handle.generation,
                        holder: Some(to),
                        revoked: false,
                        rights: 7,
                        range: (0, BYTES),
                        root: handle,
                        parent: None,
                        expiry: 0,
                    },
                );
                self.ever.push(handle);
            }
            Step::Clear { root } => {
                if self.model.remove(&root).is_none() {
                    return;
                }
                // The buffer comes back: what was derived from it ends with its generation.
                let handle = self.roots[root as usize];
                self.table.clear(root);
                self.ledger.free(handle.index, handle.generation, 1, 0).unwrap();
                let again = self.ledger.alloc(BYTES).unwrap();
                assert_eq!(again.slot, root, "the newest buffer is given out first");
                self.roots[root as usize] = Handle { index: again.slot, generation: again.generation };
            }
            Step::Transfer { pick, from, to } => {
                let Some(handle) = self.pick(pick) else { return };
                let from = self.actor(handle, from);
                let may = self.known(handle).is_some_and(|known| known.holder == Some(from));
                let did = self.table.transfer(handle, Hold::held(from), Hold::held(to));
                assert_eq!(did.is_ok(), may, "{handle:?} {did:?}");
                if may {
                    self.model.get_mut(&handle.index).unwrap().holder = Some(to);
                }
            }
            Step::Restrict { pick, by, rights } => {
                let Some(handle) = self.pick(pick) else { return };
                let by = self.actor(handle, by);
                let may = self.known(handle).is_some_and(|known| known.holder == Some(by));
                assert_eq!(self.table.restrict(handle, by, Rights(rights)).is_ok(), may);
                if may {
                    self.model.get_mut(&handle.index).unwrap().rights &= rights;
                }
            }
            Step::Derive { pick, by, offset, len, rights, to, into, expires } => {
                let Some(handle) = self.pick(pick) else { return };
                let by = self.actor(handle, by);
                let into = ROOTS + u32::from(by - 1) * ARENA + into;
                // Only entries that nobody has are derived into.
                if self.model.get(&into).is_some_and(|known| known.holder.is_some()) || into == handle.index {
                    return;
                }
                let parent = self.known(handle).cloned();
                let may = parent.as_ref().is_some_and(|parent| {
                    parent.holder == Some(by)
                        && parent.rights & 4 != 0
                        && offset >= parent.range.0
                        && offset + len <= parent.range.0 + parent.range.1
                });
                let expiry_ns = if expires { NOW - 1 } else { 0 };
                let what = Derivation {
                    range: Range { offset, len },
                    rights: Rights(rights),
                    expiry_ns,
                    to: Hold::held(to),
                };
                let derived = self.table.derive(handle, by, into, what);
                assert_eq!(derived.is_ok(), may, "{handle:?} {derived:?}");
                let (Ok(derived), Some(parent)) = (derived, parent) else { return };
                self.model.insert(
                    into,
                    Known {
                        generation: derived.generation,
                        holder: Some(to),
                        revoked: false,
                        rights: parent.rights & rights,
                        range: (offset, len),
                        root: parent.root,
                        parent: Some(handle),
                        expiry: if parent.expiry != 0 { parent.expiry } else { expiry_ns },
                    },
                );
                self.ever.push(derived);
            }
            Step::Release { pick, by } => {
                let Some(handle) = self.pick(pick).filter(|handle| handle.index >= ROOTS) else { return };
                let by = self.actor(handle, by);
                let may = self.known(handle).is_some_and(|known| known.holder == Some(by));
                let did = self.table.transfer(handle, Hold::held(by), Hold::new(State::Released, by));
                assert_eq!(did.is_ok(), may);
                if may {
                    self.model.get_mut(&handle.index).unwrap().holder = None;
                }
            }
            Step::Revoke { pick } => {
                if let Some(handle) = self.pick(pick) {
                    self.revoke(handle, true);
                }
            }
            Step::Recycle { pick, other, to, on, into } => {
                let whole = |pick, to| Step::Derive {
                    pick,
                    by: 0,
                    offset: 0,
                    len: 64,
                    rights: 7,
                    to,
                    into,
                    expires: false,
                };
                let before = self.ever.len();
                self.take(&whole(pick, to));
                // Even numbers count from the newest six: ten is the newest once there are that many.
                let newest = 2 * (self.ever.len().min(6).saturating_sub(1));
                if self.ever.len() == before {
                    return;
                }
                self.take(&whole(newest, on));
                let first = if self.ever.len() == before + 2 { newest.saturating_sub(2) } else { newest };
                self.take(&Step::Release { pick: if self.ever.len() > 6 { first } else { newest }, by: 0 });
                self.take(&whole(other, on));
            }
            Step::RevokeDerived { pick } => {
                if let Some(handle) = self.pick(pick) {
                    self.revoke(handle, false);
                }
            }
        }
    }

    fn may(&self, handle: Handle, holder: u16, need: u8, named: (u64, u64)) -> bool {
        self.known(handle).is_some_and(|known| {
            known.holder == Some(holder)
                && !known.revoked
                && known.rights & need == need
                && (known.expiry == 0 || NOW < known.expiry)
                && named.0 >= known.range.0
                && named.0 + named.1 <= known.range.0 + known.range.1
                && self.roots[known.root.index as usize] == known.root
        })
    }

    fn compare(&self) {
        for &handle in &self.ever {
            for holder in 0..=HOLDERS {
                for (need, named) in
                    [(1, (0, 0)), (1, (0, BYTES)), (2, (64, 64)), (4, (200, 56)), (1, (255, 2))]
                {
                    let range = Range { offset: named.0, len: named.1 };
                    let says = self.table.resolve(handle, holder, Rights(need), range, (&self.view, NOW));
                    let may = self.may(handle, holder, need, named);
                    assert_eq!(
                        says.is_ok(),
                        may,
                        "{handle:?} by {holder}, rights {need}, {named:?}: {says:?}"
                    );
                    if let Ok(place) = says {
                        let root = self.known(handle).unwrap().root;
                        let whole = self.view.place(root.index, root.generation).unwrap();
                        assert_eq!((place.offset, place.capacity), (whole.offset + named.0, named.1));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn access_is_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.compare();
        }
    }
}
