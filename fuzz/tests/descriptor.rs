//! Descriptors: any eight words, as the node takes them from a link, against a pool whose capability table the replica
//! writes as it likes. Nothing panics, the node's own buffers stay the node's, and everything is back when it dies.

use std::sync::Arc;

use baton_abi::descriptor::{HopCost, pack_pairs, unpack_pairs};
use baton_abi::{Descriptor, Extent, Kind, NONE};
use baton_fuzz::{INPUT_BYTES_MAX, Source};
use baton_pool::Placed;
use baton_pool::capability::{CapabilityTable, Entry, Handle, Hold, Range, State};
use baton_pool::ledger::class_of;
use baton_pool::link::{self, Duplex, Side};
use baton_pool::pool::{NodeBuffer, Pool};
use baton_pool::region::{Access, Mapping};

const BYTES: u64 = 1 << 20;
const LIAR: u16 = 3;
const RING: u32 = 16;

struct World {
    pool: Pool,
    table: CapabilityTable,
    raw: Mapping,
    near: Duplex,
    far: Duplex,
    ring: Mapping,
    own: Vec<NodeBuffer>,
    held: Vec<Handle>,
}

impl World {
    fn new() -> World {
        let mut pool = Pool::create("fuzz", BYTES, false).unwrap();
        pool.derived_base(0);
        let bytes = (pool.slots() as usize + 1024) * 64;
        let mapping = Arc::new(Mapping::new(pool.table_fd(), bytes, Access::ReadWrite).unwrap());
        let table = CapabilityTable::new(Placed::<Entry>::mapped(&mapping, 0, bytes / 64).unwrap());
        let raw = Mapping::new(pool.table_fd(), bytes, Access::ReadWrite).unwrap();
        let fd = link::create("fuzz", RING).unwrap();
        let near = Duplex::map(&fd, RING, Side::Near).unwrap();
        let far = Duplex::map(&fd, RING, Side::Far).unwrap();
        let ring =
            Mapping::new(&fd, usize::try_from(link::duplex_bytes(RING)).unwrap(), Access::ReadWrite).unwrap();
        World { pool, table, raw, near, far, ring, own: Vec::new(), held: Vec::new() }
    }

    /// What the node does with a descriptor, as `flow` does it.
    fn take(&mut self, descriptor: &Descriptor) {
        let body = descriptor.body;
        match Kind::from_u8(descriptor.kind) {
            Some(Kind::Reply) => {
                if body.handle != NONE
                    && let Ok(received) = self.pool.receive(body, LIAR)
                {
                    let end = received.place.offset.checked_add(received.place.capacity).unwrap();
                    assert!(end <= BYTES, "outside the pool");
                    let head = descriptor.head;
                    let head =
                        self.pool.head_place(received.handle, u64::from(head.offset), u64::from(head.len));
                    assert!(head.is_err() || head.unwrap().offset < BYTES);
                    self.held.push(received.handle);
                }
            }
            Some(Kind::Free) => {
                for (index, generation) in unpack_pairs(descriptor) {
                    let _ = self.pool.free_by(Handle { index, generation }, LIAR);
                }
            }
            Some(Kind::Alloc) => {
                if let Ok(handle) = self.pool.grant(body.len, LIAR) {
                    assert!(body.len <= BYTES);
                    let _ = Descriptor::from_words(pack_pairs(
                        Kind::Grant,
                        1,
                        &[(handle.index, handle.generation)],
                    ));
                }
            }
            Some(Kind::Refill) if class_of(body.len).is_some() => {
                for _ in 0..descriptor.code.min(8) {
                    let _ = self.pool.grant(body.len, LIAR);
                }
            }
            Some(Kind::Receipt) => {
                let cost = HopCost::from_descriptor(descriptor);
                assert_eq!(HopCost::from_descriptor(&Descriptor::from_words(cost.to_words())), cost);
            }
            _ => {}
        }
        self.pool.tidy();
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.byte() % 12 {
            0 => {
                if let Ok(buffer) = self.pool.alloc(u64::from(source.byte()) * 64) {
                    self.own.push(buffer);
                }
            }
            1 => {
                if let Some(buffer) = self.own.pop() {
                    let range = Range { offset: 0, len: buffer.place.capacity.min(64) };
                    if self.pool.send(&buffer, range, LIAR, 1).is_err() {
                        self.pool.release(buffer.handle);
                    }
                }
            }
            // The liar writes a word of an entry, near what there is.
            2 | 3 => {
                let index = u64::from(source.byte()) % 64;
                let index = if source.byte().is_multiple_of(4) {
                    u64::from(self.pool.slots()) + index
                } else {
                    index
                };
                let field = u64::from(source.byte() % 8);
                self.raw.write(index * 64 + field * 8, &source.word().to_le_bytes());
            }
            // It moves what it has as it should.
            4 | 5 => {
                let index = u32::from(source.byte()) % 64;
                if let Some(found) = self.table.look(index) {
                    let to = Hold::new(State::ToNode, LIAR);
                    let _ = self.table.transfer(found.handle, Hold::new(State::FromNode, LIAR), to);
                    let _ = self.table.transfer(found.handle, Hold::new(State::Stashed, LIAR), to);
                    let body = Extent {
                        handle: index,
                        generation: found.handle.generation,
                        offset: u64::from(source.byte()),
                        len: u64::from(source.byte()),
                    };
                    self.take(&Descriptor { body, ..Descriptor::new(Kind::Reply) });
                }
            }
            6 => {
                if let Some(handle) = self.held.pop() {
                    self.pool.release(handle);
                }
            }
            // Through the ring, whose positions it may have overwritten.
            7 | 8 => {
                let words = core::array::from_fn(|_| source.word());
                let _ = self.far.to_peer.push_words(words);
                if source.byte().is_multiple_of(8) {
                    self.ring.write(u64::from(source.byte() % 64) * 8, &source.word().to_le_bytes());
                }
                for _ in 0..RING {
                    let Ok(Some(descriptor)) = self.near.from_peer.pop() else { break };
                    self.take(&descriptor);
                }
                let _ = self.near.to_peer.push_words(words);
            }
            _ => {
                let mut words: [u64; 8] = core::array::from_fn(|_| source.word());
                words[0] = words[0] & !0xff | u64::from(1 + source.byte() % 9);
                if source.byte().is_multiple_of(2) {
                    words[3] &= 0x0000_0003_0000_003f;
                }
                self.take(&Descriptor::from_words(words));
            }
        }
    }

    fn end(mut self) {
        for buffer in &self.own {
            assert!(self.pool.write(buffer, 0, b""), "the node's buffer was taken away");
            self.pool.release(buffer.handle);
        }
        for &handle in &self.held {
            self.pool.release(handle);
        }
        self.pool.reclaim(LIAR, |_| false);
        let usage = self.pool.usage();
        assert_eq!((usage.buffers_out, usage.orphans, usage.free_bytes), (0, 0, BYTES), "{usage:?}");
    }
}

#[test]
fn descriptor() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let mut world = World::new();
        let mut source = Source::new(input);
        while !source.is_empty() {
            world.step(&mut source);
        }
        world.end();
    });
}
