//! Replicas in this process, over the kernel's own program; the node is the test. Everything is on one thread: a buffer is there
//! before it is asked for.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use baton_abi::boot::{Edge, Hello, Message, NODE_PEER, Name, PoolAccess};
use baton_abi::descriptor::{pack_pairs, unpack_pairs};
use baton_abi::gate::Parcel;
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::packet::{PACKET_WORDS, Packet};
use baton_abi::{Descriptor, Extent, Flags, Kind as Message64};
use baton_kernel::{Ends, Plane, Scribe, Seat, Setup};
use baton_pool::Placed;
use baton_pool::capability::{CapabilityTable, Handle};
use baton_pool::ledger::LedgerView;
use baton_pool::link::{self, Duplex, Side, map_bell};
use baton_pool::pool::Pool;
use baton_pool::region::{self, Access, Mapping};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use zerocopy::IntoBytes;

use super::super::Link;
use super::super::boot::Boot;
use super::super::edge::{Road, Waits};
use super::super::memory::Memory;
use crate::outside::{Outgoing, Outside};

const BYTES: u64 = 8 << 20;
const ENTRIES: u32 = 512;
const WAITS_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How the node writes the table.
#[derive(Debug)]
struct Pen(Scribe);

impl baton_pool::capability::Scribe for Pen {
    fn write(&self, index: u32, was: u64, now: &[u64; 8], is_whole: bool) -> bool {
        self.0.write(index, was, now, is_whole)
    }

    fn write_all(&self, entries: &[(u32, u64, [u64; 8])]) -> usize {
        self.0.write_all(entries)
    }
}

/// One app.
pub(super) struct Stage {
    pub(super) plane: RefCell<Plane>,
    pub(super) pool: RefCell<Pool>,
}

/// A replica, with the node's ends of everything.
pub(super) struct Replica {
    pub(super) outside: Outside,
    pub(super) link: &'static Link,
    pub(super) seat: Seat,
    near: RefCell<Duplex>,
    pub(super) control: OwnedFd,
    /// Where what was refused comes.
    passed: OwnedFd,
    bell: OwnedFd,
}

impl Stage {
    /// `None`, loudly, where this kernel does not hand over.
    pub(super) fn open() -> Option<Stage> {
        if let Err(why) = baton_kernel::probe() {
            eprintln!("SKIPPED: the kernel does not hand over here: {why}");
            return None;
        }
        let slots = Pool::entries_for(BYTES, false) - REPLICAS_MAX * DERIVED_MAX;
        let plane = Plane::load(Setup { slots, arenas: REPLICAS_MAX, edges: 64 }).unwrap();
        let table = plane.table_fd().try_clone_to_owned().unwrap();
        let pen = Pen(plane.scribe());
        let pool = Pool::create_guarded("stage", BYTES, false, table, Box::new(pen)).unwrap();
        Some(Stage { plane: RefCell::new(plane), pool: RefCell::new(pool) })
    }

    fn boot(&self, seat: Seat, socket: OwnedFd) -> (Boot, Duplex, OwnedFd, OwnedFd) {
        let mut pool = self.pool.borrow_mut();
        let slots = pool.slots();
        let derived_base = pool.derived_base(u32::from(seat.arena));
        let map = |fd: &dyn AsFdDyn, bytes: usize, access: Access| {
            Arc::new(Mapping::new(fd.fd(), bytes, access).unwrap())
        };
        let entries = slots + REPLICAS_MAX * DERIVED_MAX;
        let table = self.plane.borrow().table_read_only().unwrap();
        let table = map(&table, entries as usize * 64, Access::Read);
        let ledger = region::read_only(pool.ledger_fd()).unwrap();
        let ledger = map(&ledger, slots as usize * 32, Access::Read);
        let memory = Memory {
            holder: seat.holder,
            access: PoolAccess::Write,
            pool: Some(map(&pool.fd(), usize::try_from(BYTES).unwrap(), Access::ReadWrite)),
            ledger: LedgerView::new(Placed::mapped(&ledger, 0, slots as usize).unwrap()),
            table: CapabilityTable::new(Placed::mapped(&table, 0, entries as usize).unwrap()),
            slots,
        };
        let rings = link::create("stage", ENTRIES).unwrap();
        let near = Duplex::map(&rings, ENTRIES, Side::Near).unwrap();
        let bell = link::create_bell("stage").unwrap();
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (control, peer) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        let hello = Hello {
            abi_version: baton_abi::ABI_VERSION,
            holder: seat.holder,
            access: PoolAccess::Write,
            pool_bytes: BYTES,
            slots,
            derived_base,
            ring_entries: ENTRIES,
            concurrency: 16,
            is_guarded: true,
        };
        let boot = Boot {
            control,
            hello,
            memory,
            link: Duplex::map(&rings, ENTRIES, Side::Far).unwrap(),
            bell: map_bell(&bell).unwrap(),
            eventfd: rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap(),
            socket: Some(socket),
        };
        (boot, near, peer, bell)
    }

    /// A replica that may call `calls`, with buffers in its stash.
    pub(super) fn join(&self, holder: u16, calls: &[&str]) -> Replica {
        let seat = Seat { holder, arena: holder - 1 };
        let Ends { replica, node } = self.plane.borrow_mut().join(seat).unwrap();
        let (boot, near, control, bell) = self.boot(seat, replica);
        let link = Link::new(boot, calls.iter().map(|&name| name.to_owned()).collect());
        let replica = Replica {
            outside: Outside::over(link),
            link,
            seat,
            near: RefCell::new(near),
            control,
            passed: node,
            bell,
        };
        for bytes in [256, 1024] {
            self.grant(&replica, bytes, 14);
        }
        replica.outside.turn();
        replica
    }

    fn grant(&self, to: &Replica, bytes: u64, count: usize) {
        let pairs: Vec<(u32, u32)> = (0..count)
            .map(|_| self.pool.borrow_mut().grant(bytes, to.seat.holder).unwrap())
            .map(|handle| (handle.index, handle.generation))
            .collect();
        for some in pairs.chunks(7) {
            let grant = Descriptor::from_words(pack_pairs(Message64::Grant, 0, some));
            to.near.borrow_mut().to_peer.push(&grant).unwrap();
        }
    }

    /// An edge, in the kernel and at both ends.
    pub(super) fn pave(&self, id: u16, caller: &Replica, callee: &Replica, name: &str) -> OwnedFd {
        let rings = self.pave_for(id, caller, callee);
        caller.add(id, callee.seat.holder, true, name, &rings);
        callee.add(id, caller.seat.holder, false, "caller", &rings);
        rings
    }

    /// An edge of which nobody was told.
    pub(super) fn pave_for(&self, id: u16, caller: &Replica, callee: &Replica) -> OwnedFd {
        self.plane.borrow_mut().open_edge(id, caller.seat, callee.seat).unwrap();
        link::create("stage", ENTRIES).unwrap()
    }

    /// The node takes what a replica gives back.
    pub(super) fn take_frees(&self, from: &Replica) -> u32 {
        let mut freed = 0;
        while let Some(descriptor) = from.near.borrow_mut().from_peer.pop().unwrap() {
            if descriptor.kind == Message64::Free as u8 {
                for (index, generation) in unpack_pairs(&descriptor) {
                    self.pool.borrow_mut().free_by(Handle { index, generation }, from.seat.holder).unwrap();
                    freed += 1;
                }
            }
        }
        self.pool.borrow_mut().tidy();
        freed
    }

    /// The node tells a replica that what it sent was refused.
    pub(super) fn answer_refused(&self, of: &Replica, status: u16) -> Packet {
        let mut words = [0u64; PACKET_WORDS];
        let count = rustix::io::read(&of.passed, words.as_mut_bytes()).unwrap();
        assert_eq!(count, size_of_val(&words));
        let packet = Packet::from_words(words);
        let Descriptor { kind, flags, .. } = packet.descriptor;
        let flags = flags.with(Flags::ERROR).with(Flags::REFUSED);
        let reply = Descriptor { kind: Message64::Reply as u8, code: status, flags, ..packet.descriptor };
        let answer = Packet { rights: kind, descriptor: reply, ..packet };
        self.plane.borrow().refuse(of.seat.arena, &answer).unwrap();
        packet
    }

    /// Refusals so far.
    pub(super) fn refusals(&self) -> u64 {
        self.plane.borrow().refusals().unwrap().iter().map(|(_, count)| count).sum()
    }
}

trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Replica {
    pub(super) fn edge(&self, id: u16, peer: u16, is_caller: bool, name: &str) -> Edge {
        let name = Name::new(name).unwrap();
        let own = self.seat.holder;
        Edge { id, peer, own, is_caller, ring_entries: ENTRIES, queue_max: 8, timeout_ms: 60_000, name }
    }

    fn add(&self, id: u16, peer: u16, is_caller: bool, name: &str, rings: &OwnedFd) {
        let edge = self.edge(id, peer, is_caller, name);
        let fds = vec![rings.try_clone().unwrap(), self.bell.try_clone().unwrap()];
        let road = Road::new(&edge, fds, Waits::new(&edge, true)).unwrap();
        let roads = if is_caller { &self.link.outgoing } else { &self.link.incoming };
        road.join(&mut roads.borrow_mut());
    }

    /// An edge to the node, by a ring.
    pub(super) fn add_outlet(&self, id: u16, name: &str) -> Duplex {
        let rings = link::create("stage", ENTRIES).unwrap();
        self.add(id, NODE_PEER, true, name, &rings);
        Duplex::map(&rings, ENTRIES, Side::Far).unwrap()
    }

    /// The node tells of an edge, as it does over the control socket.
    pub(super) fn tell(&self, edge: &Edge, rings: &OwnedFd) {
        let bytes = Message::Edge(*edge).encode();
        let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [rings.as_fd(), self.bell.as_fd()];
        assert!(ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let parts = [std::io::IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.control, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next event, which is on its way.
    pub(super) fn event(&self) -> (Descriptor, Parcel) {
        let began = std::time::Instant::now();
        loop {
            self.outside.turn();
            if let Some(parcel) = self.outside.next() {
                return (Descriptor::from_words(parcel.words), parcel);
            }
            assert!(began.elapsed() < WAITS_MAX, "nothing came");
            self.outside.sleep(Some(10_000_000), true);
        }
    }

    /// Nothing is there to be told.
    pub(super) fn has_no_event(&self) -> bool {
        (0..4).all(|_| {
            self.outside.turn();
            self.outside.next().is_none()
        })
    }

    pub(super) fn call_bytes(&self, bytes: &[u8]) -> u32 {
        let tag = self.post_bytes(bytes);
        self.link.flush_packets();
        tag
    }

    /// A call that goes at the end of the turn.
    pub(super) fn post_bytes(&self, bytes: &[u8]) -> u32 {
        let parcel = Parcel { words: Descriptor::new(Message64::Request).to_words(), ..Parcel::EMPTY };
        let outgoing = Outgoing { parcel: &parcel, head: &[], bytes: Some(bytes) };
        self.outside.call(0, outgoing).unwrap()
    }

    pub(super) fn call(&self, body: Extent, flags: Flags, rights: u32) -> u32 {
        let words = Descriptor { flags, body, ..Descriptor::new(Message64::Request) }.to_words();
        let parcel = Parcel { words, rights, ..Parcel::EMPTY };
        let tag = self.outside.call(0, Outgoing { parcel: &parcel, head: &[], bytes: None }).unwrap();
        self.link.flush_packets();
        tag
    }

    pub(super) fn reply(&self, tag: u32, body: Extent, flags: Flags) {
        self.post_reply(tag, body, flags);
        self.link.flush_packets();
    }

    /// An answer that goes at the end of the turn.
    pub(super) fn post_reply(&self, tag: u32, body: Extent, flags: Flags) {
        let words =
            Descriptor { tag, code: 200, flags, body, ..Descriptor::new(Message64::Reply) }.to_words();
        let parcel = Parcel { words, ..Parcel::EMPTY };
        self.outside.reply(Outgoing { parcel: &parcel, head: &[], bytes: None }).unwrap();
    }

    /// A buffer with these bytes at its start.
    pub(super) fn buffer(&self, stage: &Stage, bytes: &[u8]) -> Extent {
        let grant = self.outside.alloc(bytes.len()).unwrap();
        let place = stage.pool.borrow().head_place(handle(grant.handle, grant.generation), 0, 0).unwrap();
        assert!(stage.pool.borrow().mapping().write(place.offset, bytes));
        let len = bytes.len() as u64;
        let pair = baton_abi::gate::Pair { handle: grant.handle, generation: grant.generation };
        self.outside.narrow(pair, 0, len).unwrap();
        Extent { handle: grant.handle, generation: grant.generation, offset: 0, len }
    }

    /// What lies in an extent that this replica was given.
    pub(super) fn read(&self, stage: &Stage, body: Extent) -> Vec<u8> {
        let found = self.link.memory.table.look(body.handle).unwrap();
        let root = handle(found.slot, found.slot_generation);
        let place = stage.pool.borrow().head_place(root, body.offset, body.len).unwrap();
        let mut bytes = vec![0; usize::try_from(body.len).unwrap()];
        assert!(stage.pool.borrow().mapping().read(place.offset, &mut bytes));
        bytes
    }

    /// Buffers in this replica's stash.
    pub(super) fn stashed(&self, class: u8) -> usize {
        let mut stash = self.link.stash.borrow_mut();
        let all: Vec<Handle> = std::iter::from_fn(|| stash.take(class)).collect();
        all.iter().for_each(|handle| drop(stash.put(class, *handle)));
        all.len()
    }
}

pub(super) fn handle(index: u32, generation: u32) -> Handle {
    Handle { index, generation }
}
