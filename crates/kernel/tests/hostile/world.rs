//! An app of three replicas with a table of its own, and what tests look at.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use baton_abi::packet::{Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind, NONE};
use baton_kernel::{Cause, Ends, Plane, Seat, Setup, probe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

pub(crate) const SLOTS: u32 = 64;
pub(crate) const ARENA: u32 = 1024;
pub(crate) const FREE: u8 = 0;
pub(crate) const STASHED: u8 = 1;
pub(crate) const HELD: u8 = 2;
pub(crate) const TO_NODE: u8 = 4;
pub(crate) const RELEASED: u8 = 6;
pub(crate) const REVOKED: u8 = 7;
pub(crate) const READ: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const PASS: u8 = 4;
pub(crate) const ALL: u8 = 7;
pub(crate) const FROZEN: u8 = 5;
/// The edges that every world has: A calls B, B calls C. Of the others none is open.
pub(crate) const AB: u16 = 0;
pub(crate) const BC: u16 = 1;
pub(crate) const EDGES: u32 = 8;
/// How long something that has to come may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One entry of the capability table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) generation: u32,
    pub(crate) holder: u16,
    pub(crate) state: u8,
    pub(crate) rights: u8,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) expiry_ns: u64,
    pub(crate) parent: u64,
    pub(crate) slot: u32,
    pub(crate) slot_generation: u32,
    pub(crate) invocation: u64,
    pub(crate) high_water: u64,
}

impl Entry {
    pub(crate) fn from_words(words: [u64; 8]) -> Entry {
        let [word, offset, len, expiry_ns, parent, slot, invocation, high_water] = words;
        let [rights, state, h0, h1, g0, g1, g2, g3] = word.to_le_bytes();
        let [s0, s1, s2, s3, t0, t1, t2, t3] = slot.to_le_bytes();
        Entry {
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
            holder: u16::from_le_bytes([h0, h1]),
            state,
            rights,
            offset,
            len,
            expiry_ns,
            parent,
            slot: u32::from_le_bytes([s0, s1, s2, s3]),
            slot_generation: u32::from_le_bytes([t0, t1, t2, t3]),
            invocation,
            high_water,
        }
    }

    pub(crate) fn to_words(self) -> [u64; 8] {
        let [h0, h1] = self.holder.to_le_bytes();
        let low = u32::from_le_bytes([self.rights, self.state, h0, h1]);
        [
            u64::from(low) | u64::from(self.generation) << 32,
            self.offset,
            self.len,
            self.expiry_ns,
            self.parent,
            u64::from(self.slot) | u64::from(self.slot_generation) << 32,
            self.invocation,
            self.high_water,
        ]
    }

    /// As the node grants a root.
    pub(crate) fn root(index: u32, generation: u32, state: u8, holder: u16) -> Entry {
        let parent = u64::MAX;
        Entry {
            generation,
            holder,
            state,
            rights: ALL,
            parent,
            slot: index,
            slot_generation: generation,
            ..Entry::default()
        }
    }
}

/// A replica: who it is and its socket.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) seat: Seat,
    pub(crate) ends: Ends,
}

pub(crate) fn bytes_of(packet: &Packet) -> [u8; PACKET_BYTES] {
    let mut bytes = [0; PACKET_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(packet.to_words()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub(crate) fn packet_of(bytes: &[u8; PACKET_BYTES]) -> Packet {
    let mut words = [0; PACKET_BYTES / 8];
    for (word, from) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*from);
    }
    Packet::from_words(words)
}

fn wait(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap() > 0
}

impl Replica {
    pub(crate) fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        send(&self.ends.replica, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    pub(crate) fn say(&self, packet: &Packet) {
        assert_eq!(self.write(&bytes_of(packet)), Ok(PACKET_BYTES));
    }

    /// What came, if anything did. What is redirected is there when its sender's call returns.
    pub(crate) fn hear(&self) -> Option<Packet> {
        let mut bytes = [0; PACKET_BYTES];
        match recv(&self.ends.replica, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((PACKET_BYTES, _)) => Some(packet_of(&bytes)),
            Err(rustix::io::Errno::AGAIN) => None,
            other => panic!("{other:?}"),
        }
    }

    /// What the node gets of what was refused; `len` bytes have to come.
    pub(crate) fn passed(&self, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            assert!(wait(&self.ends.node), "{} of {len} bytes came", all.len());
            let mut bytes = vec![0; len - all.len()];
            let (read, _) = recv(&self.ends.node, bytes.as_mut_slice(), RecvFlags::DONTWAIT).unwrap();
            assert!(read > 0, "the socket was closed after {} of {len} bytes", all.len());
            all.extend_from_slice(&bytes[..read]);
        }
        all
    }

    /// The entry `place` of its own range of derived capabilities.
    pub(crate) fn own(&self, place: u32) -> u32 {
        SLOTS + u32::from(self.seat.arena) * ARENA + place
    }
}

/// The app.
pub(crate) struct World {
    pub(crate) plane: Plane,
    pub(crate) table: Array<MapData, [u64; 8]>,
    pub(crate) a: Replica,
    pub(crate) b: Replica,
    pub(crate) c: Replica,
}

/// A fresh app, where this machine can; says so if it cannot.
pub(crate) fn world() -> Option<World> {
    let mut plane = match Plane::load(Setup { slots: SLOTS, arenas: 4, edges: EDGES }) {
        Ok(plane) => plane,
        Err(error) => {
            let why = probe().err().map_or(error.to_string(), |why| why.to_string());
            println!("SKIP: the kernel does not hand over here, its program is not tested: {why}");
            return None;
        }
    };
    let fd = plane.table_fd().try_clone_to_owned().unwrap();
    let table = Array::try_from(Map::Array(MapData::from_fd(fd).unwrap())).unwrap();
    let mut join = |holder, arena| {
        let seat = Seat { holder, arena };
        Replica { seat, ends: plane.join(seat).unwrap() }
    };
    let (a, b, c) = (join(11, 0), join(12, 1), join(13, 2));
    plane.open_edge(AB, a.seat, b.seat).unwrap();
    plane.open_edge(BC, b.seat, c.seat).unwrap();
    Some(World { plane, table, a, b, c })
}

impl World {
    pub(crate) fn entry(&self, index: u32) -> Entry {
        Entry::from_words(self.table.get(&index, 0).unwrap())
    }

    pub(crate) fn put(&mut self, index: u32, entry: Entry) {
        let [was, ..] = self.entry(index).to_words();
        assert!(self.plane.scribe().write(index, was, &entry.to_words(), true));
    }

    /// Gives a root to `replica`; gives its generation.
    pub(crate) fn grant(&mut self, index: u32, to: Seat) -> u32 {
        let generation = self.entry(index).generation + 1;
        self.put(index, Entry::root(index, generation, HELD, to.holder));
        generation
    }

    /// All roots, and the first entries of each range.
    pub(crate) fn entries(&self) -> Vec<(u32, Entry)> {
        let derived = (0..4).flat_map(|arena| (0..20).map(move |place| SLOTS + arena * ARENA + place));
        (0..SLOTS).chain(derived).map(|index| (index, self.entry(index))).collect()
    }

    pub(crate) fn count(&self, cause: Cause) -> u64 {
        self.plane.refusals().unwrap().into_iter().find(|(one, _)| *one == cause).unwrap().1
    }

    pub(crate) fn all_refusals(&self) -> u64 {
        self.plane.refusals().unwrap().into_iter().map(|(_, count)| count).sum()
    }

    /// Says `packet`, which has to be refused for `cause`, and change nothing.
    #[track_caller]
    pub(crate) fn refuses(&self, by: &Replica, packet: &Packet, cause: Cause) {
        self.refuses_bytes(by, &bytes_of(packet), cause);
    }

    #[track_caller]
    pub(crate) fn refuses_bytes(&self, by: &Replica, bytes: &[u8], cause: Cause) {
        let look = || {
            let outstanding: Vec<_> = (0..8).map(|id| self.plane.outstanding(id).unwrap()).collect();
            (self.entries(), outstanding)
        };
        let (before, counted, all) = (look(), self.count(cause), self.all_refusals());
        assert_eq!(by.write(bytes), Ok(bytes.len()));
        assert_eq!(by.passed(bytes.len()), bytes, "not what was written");
        assert_eq!(self.count(cause), counted + 1, "{cause:?} is not counted: {:?}", self.plane.refusals());
        assert_eq!(self.all_refusals(), all + 1);
        let after = look();
        assert_eq!(after.1, before.1, "what is outstanding changed");
        for (was, is) in before.0.iter().zip(&after.0) {
            assert_eq!(is, was);
        }
        for other in [&self.a, &self.b, &self.c] {
            assert_eq!(other.hear(), None, "something arrived");
        }
    }

    /// A request of A to B with a fresh buffer and its answer still go through, and nothing else is on the way.
    #[track_caller]
    pub(crate) fn works(&mut self) {
        let generation = self.grant(SLOTS - 1, self.a.seat);
        self.a.say(&request(AB, root(SLOTS - 1, generation, 10)));
        let got = self.b.hear().expect("the request arrives");
        assert_eq!((got.op, got.descriptor.body.handle), (Op::Send as u8, SLOTS - 1));
        assert_eq!(self.entry(SLOTS - 1).holder, self.b.seat.holder);
        self.b.say(&reply(AB, got.descriptor.body));
        let got = self.a.hear().expect("the answer arrives");
        assert_eq!(got.descriptor.kind, Kind::Reply as u8);
        assert_eq!(self.entry(SLOTS - 1).holder, self.a.seat.holder);
    }
}

pub(crate) fn root(handle: u32, generation: u32, len: u64) -> Extent {
    Extent { handle, generation, offset: 64, len }
}

pub(crate) fn head(handle: u32, generation: u32) -> HeadExtent {
    HeadExtent { handle, generation, offset: 8, len: 32 }
}

pub(crate) fn message(kind: Kind, edge: u16, body: Extent) -> Packet {
    let written = if body.handle == NONE { 0 } else { body.offset.wrapping_add(body.len) };
    let descriptor = Descriptor { tag: 7, invocation: 99, body, ..Descriptor::new(kind) };
    Packet { edge, written, ..Packet::new(Op::Send, descriptor) }
}

pub(crate) fn request(edge: u16, body: Extent) -> Packet {
    message(Kind::Request, edge, body)
}

pub(crate) fn reply(edge: u16, body: Extent) -> Packet {
    message(Kind::Reply, edge, body)
}

/// A request that lends `parent` by the entry `into`.
pub(crate) fn lend(edge: u16, parent: Extent, into: u32, rights: u8) -> Packet {
    let mut packet = Packet { into, rights, ..request(edge, parent) };
    packet.descriptor.flags = Flags::LEND;
    packet
}

/// A packet to oneself about `body`, and about `above`.
pub(crate) fn own(op: Op, body: (u32, u32), above: (u32, u32)) -> Packet {
    let body = Extent { handle: body.0, generation: body.1, offset: 0, len: 0 };
    let head = HeadExtent { handle: above.0, generation: above.1, offset: 0, len: 0 };
    Packet::new(op, Descriptor { body, head, ..Descriptor::new(Kind::Request) })
}

impl World {
    /// Says `packet` by A, which has to be refused, whatever waits at A's own socket.
    #[track_caller]
    pub(crate) fn refuses_quietly(&self, packet: &Packet) {
        let before = self.all_refusals();
        self.a.say(packet);
        assert_eq!(self.a.passed(PACKET_BYTES), bytes_of(packet));
        assert_eq!(self.all_refusals(), before + 1);
    }

    /// As `count`, looked at in every hundredth round only.
    pub(crate) fn count_now(&self, cause: Cause, round: u32) -> u64 {
        if round.is_multiple_of(100) { self.count(cause) } else { 0 }
    }
}
