//! Random walks of the node and three replicas over a pool: buffers never overlap, nobody reads what another owner
//! wrote, and everything is back at the end, whoever dies on the way, and whatever a liar writes into the table.
#![expect(clippy::unwrap_used, reason = "what a test sets up either works or fails the test")]

use std::sync::Arc;

use baton_abi::Extent;
use baton_pool::Placed;
use baton_pool::capability::{CapabilityTable, Entry, Handle, Hold, Range, State};
use baton_pool::pool::{NodeBuffer, Pool};
use baton_pool::region::{Access, Mapping};
use proptest::prelude::*;

const BYTES: u64 = 1 << 20;
const HOLDERS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// The node takes a buffer and keeps it.
    Keep {
        len: u64,
    },
    /// The node takes a buffer, writes and sends it.
    Send {
        len: u64,
        to: u16,
    },
    /// The node takes a buffer and gives it back.
    Waste {
        len: u64,
    },
    Grant {
        len: u64,
        to: u16,
    },
    /// A replica takes what is stashed or on its way to it, and writes all over it.
    Use {
        pick: usize,
    },
    /// A replica answers with it.
    Answer {
        pick: usize,
        lie: u8,
    },
    Free {
        pick: usize,
        by: u16,
    },
    Release {
        pick: usize,
    },
    Die {
        who: u16,
    },
    /// A liar writes a word of the table.
    Scribble {
        index: u32,
        state: u8,
        holder: u16,
        rights: u8,
        stale: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0..5000u64, Just(60_000), 100_000..400_000u64, Just(BYTES), Just(u64::MAX)];
    let holder = 1..=HOLDERS;
    let pick = any::<usize>();
    prop_oneof![
        3 => (len.clone(), holder.clone()).prop_map(|(len, to)| Step::Send { len, to }),
        1 => len.clone().prop_map(|len| Step::Waste { len }),
        2 => len.clone().prop_map(|len| Step::Keep { len }),
        3 => (len, holder.clone()).prop_map(|(len, to)| Step::Grant { len, to }),
        5 => pick.prop_map(|pick| Step::Use { pick }),
        4 => (pick, 0..6u8).prop_map(|(pick, lie)| Step::Answer { pick, lie }),
        3 => (pick, holder.clone()).prop_map(|(pick, by)| Step::Free { pick, by }),
        3 => pick.prop_map(|pick| Step::Release { pick }),
        1 => holder.prop_map(|who| Step::Die { who }),
    ]
}

fn lie() -> impl Strategy<Value = Step> {
    (
        0..24u32,
        prop_oneof![Just(2u8), 0..10u8],
        0..=HOLDERS,
        prop_oneof![Just(7u8), 0..8u8],
        prop::bool::weighted(0.2),
    )
        .prop_map(|(index, state, holder, rights, stale)| Step::Scribble {
            index,
            state,
            holder,
            rights,
            stale,
        })
}

/// Who has a buffer, as far as the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Replica(u16),
    Node,
}

struct World {
    pool: Pool,
    table: CapabilityTable,
    raw: Mapping,
    /// What is out: handle, owner, place.
    out: Vec<(Handle, Owner, u64, u64)>,
    honest: bool,
}

impl World {
    fn new(honest: bool) -> World {
        let pool = Pool::create("walk", BYTES, false).unwrap();
        let bytes = pool.slots() as usize * 64;
        let mapping = Arc::new(Mapping::new(pool.table_fd(), bytes, Access::ReadWrite).unwrap());
        let table =
            CapabilityTable::new(Placed::<Entry>::mapped(&mapping, 0, pool.slots() as usize).unwrap());
        let raw = Mapping::new(pool.table_fd(), bytes, Access::ReadWrite).unwrap();
        World { pool, table, raw, out: Vec::new(), honest }
    }

    fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        assert!(self.pool.mapping().read(offset, &mut bytes));
        bytes
    }

    /// A buffer came into `owner`'s hands: it overlaps no other, and holds no byte of anybody else.
    fn gain(&mut self, handle: Handle, owner: Owner, offset: u64, len: u64, from: u64) {
        if self.honest {
            for (other, _, at, size) in &self.out {
                assert!(offset + len <= *at || at + size <= offset, "{handle:?} overlaps {other:?}");
            }
            if let Owner::Replica(holder) = owner {
                let mark = u8::try_from(holder).unwrap();
                let foreign =
                    self.read(offset + from, len - from).into_iter().find(|&byte| byte != 0 && byte != mark);
                assert_eq!(foreign, None, "{holder} sees another's bytes in {handle:?}");
            }
        }
        self.out.push((handle, owner, offset, len));
    }

    fn picked(&self, pick: usize, fits: impl Fn(Owner) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.out.len()).filter(|&at| fits(self.out[at].1)).collect();
        (!fitting.is_empty()).then(|| fitting[pick % fitting.len()])
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Send { len, to } => {
                let Ok(buffer) = self.pool.alloc(len) else { return };
                assert!(buffer.place.capacity >= len, "less than was asked for");
                self.send(&buffer, len.min(500), to);
            }
            Step::Waste { len } => {
                if let Ok(buffer) = self.pool.alloc(len) {
                    self.pool.release(buffer.handle);
                }
            }
            Step::Keep { len } => {
                if let Ok(buffer) = self.pool.alloc(len) {
                    self.gain(buffer.handle, Owner::Node, buffer.place.offset, buffer.place.capacity, 0);
                }
            }
            Step::Grant { len, to } => {
                let Ok(handle) = self.pool.grant(len, to) else { return };
                let Ok(place) = self.pool.head_place(handle, 0, len) else {
                    panic!("less than was asked for")
                };
                self.gain(handle, Owner::Replica(to), place.offset, len, 0);
            }
            Step::Use { pick } => {
                let Some(at) = self.picked(pick, |owner| owner != Owner::Node) else { return };
                let (handle, Owner::Replica(holder), offset, len) = self.out[at] else { return };
                for from in [State::Stashed, State::FromNode] {
                    let _ = self.table.transfer(handle, Hold::new(from, holder), Hold::held(holder));
                }
                if self.honest {
                    let bytes = vec![u8::try_from(holder).unwrap(); usize::try_from(len).unwrap()];
                    assert!(self.pool.mapping().write(offset, &bytes));
                    self.table.describe(handle, Range { offset: 0, len }, 0);
                }
            }
            Step::Answer { pick, lie } => self.answer(pick, lie),
            Step::Free { pick, by } => {
                let Some(at) = self.picked(pick, |_| true) else { return };
                let (handle, owner, ..) = self.out[at];
                let freed = self.pool.free_by(handle, by).is_ok();
                if self.honest {
                    assert!(!freed || owner == Owner::Replica(by), "{by} freed what is {owner:?}'s");
                }
                assert!(!freed || owner != Owner::Node, "the node's buffer was freed by {by}");
                if freed {
                    self.out.remove(at);
                }
            }
            Step::Release { pick } => {
                let Some(at) = self.picked(pick, |owner| owner == Owner::Node) else { return };
                let (handle, ..) = self.out.remove(at);
                self.pool.release(handle);
                self.pool.release(handle);
            }
            Step::Die { who } => {
                self.pool.reclaim(who, |hold| hold.holder != who && (1..=HOLDERS).contains(&hold.holder));
                let before = self.out.len();
                self.out.retain(|(_, owner, ..)| *owner != Owner::Replica(who));
                assert!(before >= self.out.len());
            }
            Step::Scribble { index, state, holder, rights, stale } => {
                // Mostly something that is out, if need be something that is the node's.
                let at = self.picked(index as usize, |owner| holder > 1 || owner == Owner::Node);
                let index = at.filter(|_| index < 16).map_or(index, |at| self.out[at].0.index);
                let Some(found) = self.table.look(index) else { return };
                let generation =
                    if stale { found.handle.generation.wrapping_add(1) } else { found.handle.generation };
                let word = u64::from(generation) << 32
                    | u64::from(holder) << 16
                    | u64::from(state) << 8
                    | u64::from(rights);
                self.raw.write(u64::from(index) * 64, &word.to_le_bytes());
            }
        }
        self.pool.tidy();
    }

    fn send(&mut self, buffer: &NodeBuffer, len: u64, to: u16) {
        assert!(self.pool.write(buffer, 0, &vec![0; usize::try_from(len).unwrap()]));
        assert!(!self.pool.write(buffer, buffer.place.capacity, b"x"));
        if self.pool.send(buffer, Range { offset: 0, len }, to, 1).is_ok() {
            let place = buffer.place;
            self.gain(buffer.handle, Owner::Replica(to), place.offset, place.capacity, len);
        } else {
            assert!(!self.honest);
            self.pool.release(buffer.handle);
        }
    }

    fn answer(&mut self, pick: usize, lie: u8) {
        let Some(at) = self.picked(pick, |owner| owner != Owner::Node) else { return };
        let (handle, Owner::Replica(holder), offset, len) = self.out[at] else { return };
        let sent = self.table.transfer(handle, Hold::held(holder), Hold::new(State::ToNode, holder)).is_ok();
        let honest = Extent { handle: handle.index, generation: handle.generation, offset: 0, len };
        let (extent, by) = match lie {
            1 => (Extent { offset: u64::MAX - 3, ..honest }, holder),
            2 => (Extent { len: 1 << 40, ..honest }, holder),
            3 => (Extent { generation: honest.generation.wrapping_add(1), ..honest }, holder),
            4 => (Extent { handle: u32::MAX - 1, ..honest }, holder),
            5 => (honest, holder % HOLDERS + 1),
            _ => (honest, holder),
        };
        let received = self.pool.receive(extent, by);
        if self.honest {
            assert_eq!(received.is_ok(), sent && lie == 0, "{received:?}");
        }
        match received {
            Ok(received) => {
                assert_eq!((received.handle, received.place.offset), (handle, offset));
                self.out[at].1 = Owner::Node;
                assert!(self.pool.receive(extent, by).is_err(), "twice");
                assert!(self.pool.free_by(handle, by).is_err(), "freed what the node has");
            }
            Err(_) => {
                let _ = self.table.transfer(handle, Hold::new(State::ToNode, holder), Hold::held(holder));
            }
        }
    }

    /// The replicas die, the node gives back what it has.
    fn end(mut self) {
        for (handle, ..) in self.out.drain(..).filter(|(_, owner, ..)| *owner == Owner::Node) {
            self.pool.release(handle);
        }
        for who in 1..=HOLDERS {
            self.pool.reclaim(who, |hold| hold.holder > who && hold.holder <= HOLDERS);
        }
        let usage = self.pool.usage();
        assert_eq!((usage.buffers_out, usage.orphans, usage.free_bytes), (0, 0, BYTES), "{usage:?}");
        assert!(self.pool.alloc(BYTES).is_ok(), "not in one piece");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_shared_or_seen(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(true);
        for step in &steps {
            world.take(step);
        }
        world.end();
    }

    #[test]
    fn a_liar_with_the_table_in_its_hands_loses_nothing_for_others(
        steps in prop::collection::vec(prop_oneof![2 => step(), 1 => lie()], 1..120),
    ) {
        let mut world = World::new(false);
        for step in &steps {
            world.take(step);
        }
        world.end();
    }
}
