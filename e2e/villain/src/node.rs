//! The guest's side of the start protocol and of the link, without any of the SDK's manners: every position, slot and
//! table entry can be written as bytes.

// UNSAFETY: takes ownership of the inherited control descriptor.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_abi::boot::{CONTROL_FD, Edge, Hello, MESSAGE_BYTES, MESSAGE_FDS_MAX, Message, PoolAccess, READY};
use baton_abi::descriptor::unpack_pairs;
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind, NONE};
use baton_pool::Placed;
use baton_pool::bell::Bell;
use baton_pool::capability::{CapabilityTable, Entry, Handle, Hold, Range, State};
use baton_pool::ledger::LedgerView;
use baton_pool::link::{Duplex, Side, duplex_bytes, map_bell};
use baton_pool::region::{Access, Mapping};
use rustix::net::{RecvFlags, SendFlags};

/// How long anything that the villain waits for may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A road to or from another replica, as bytes and as rings.
pub struct Road {
    /// What the node said about it.
    pub edge: Edge,
    /// Its rings.
    pub duplex: Duplex,
    /// Its bytes.
    pub raw: Mapping,
    /// The peer's bell.
    pub bell: Bell,
    /// The bell's bytes.
    pub bell_raw: Mapping,
}

/// Everything that the node gave this process.
pub struct Node {
    /// The control socket.
    pub control: Option<OwnedFd>,
    /// Numbers.
    pub hello: Hello,
    /// The pool.
    pub pool: Arc<Mapping>,
    /// The ledger.
    pub ledger: LedgerView,
    /// The capability table.
    pub table: CapabilityTable,
    /// Its bytes.
    pub table_raw: Mapping,
    /// The link.
    pub link: Duplex,
    /// Its bytes.
    pub link_raw: Arc<Mapping>,
    /// The villain's own bell.
    pub bell: Bell,
    /// The node's eventfd.
    pub eventfd: OwnedFd,
    /// Its own socket, where the kernel hands over, and the table that it can only read.
    pub socket: Option<(OwnedFd, OwnedFd)>,
    /// Edges so far.
    pub roads: Vec<Road>,
    next_tag: u32,
}

fn receive(control: &OwnedFd, flags: RecvFlags) -> Option<(Message, Vec<OwnedFd>)> {
    let mut bytes = [0u8; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let (len, fds) = baton_pool::control::receive(control.as_fd(), &mut bytes, &mut space, flags).ok()?;
    Some((Message::decode(bytes.get(..len)?)?, fds))
}

fn map(fd: &OwnedFd, bytes: u64, access: Access) -> Option<Mapping> {
    Mapping::new(fd, usize::try_from(bytes).ok()?, access).ok()
}

impl Node {
    /// The control socket, before anything was said.
    #[must_use]
    #[expect(unsafe_code, reason = "the control socket is inherited by number")]
    pub fn control() -> OwnedFd {
        // SAFETY: the node leaves the control socket at this number; it is taken once.
        unsafe { OwnedFd::from_raw_fd(CONTROL_FD) }
    }

    /// Maps what the node gives.
    #[must_use]
    pub fn boot(control: OwnedFd) -> Option<Node> {
        let (Message::Hello(hello), fds) = receive(&control, RecvFlags::empty())? else { return None };
        assert!(hello.access == PoolAccess::Write, "the villain wants the pool");
        let mut fds = fds.into_iter();
        let pool = Arc::new(map(&fds.next()?, hello.pool_bytes, Access::ReadWrite)?);
        let ledger = Arc::new(map(&fds.next()?, u64::from(hello.slots) * 32, Access::Read)?);
        let entries = hello.slots + REPLICAS_MAX * DERIVED_MAX;
        let table_fd = fds.next()?;
        let table_bytes = u64::from(entries) * 64;
        let access = if hello.is_guarded { Access::Read } else { Access::ReadWrite };
        let table = Arc::new(map(&table_fd, table_bytes, access)?);
        let link_fd = fds.next()?;
        let link = Duplex::map(&link_fd, hello.ring_entries, Side::Far).ok()?;
        let bell = map_bell(fds.next()?).ok()?;
        Some(Node {
            pool,
            ledger: LedgerView::new(Placed::mapped(&ledger, 0, hello.slots as usize)?),
            table: CapabilityTable::new(Placed::<Entry>::mapped(&table, 0, entries as usize)?),
            table_raw: map(&table_fd, table_bytes, access)?,
            link_raw: Arc::new(map(&link_fd, duplex_bytes(hello.ring_entries), Access::ReadWrite)?),
            link,
            bell,
            eventfd: fds.next()?,
            socket: fds.next().map(|socket| (socket, table_fd)),
            control: Some(control),
            hello,
            roads: Vec::new(),
            next_tag: 1,
        })
    }

    /// Says that the handler can take requests, or another byte.
    pub fn say(&self, byte: u8) {
        if let Some(control) = &self.control {
            let _ = rustix::net::send(control, &[byte], SendFlags::NOSIGNAL);
        }
    }

    /// Says that the handler can take requests.
    pub fn ready(&self) {
        self.say(READY);
    }

    /// This replica as a holder.
    #[must_use]
    pub fn me(&self) -> u16 {
        self.hello.holder
    }

    /// Takes new edges.
    pub fn edges(&mut self) {
        while let Some((Message::Edge(edge), fds)) =
            self.control.as_ref().and_then(|control| receive(control, RecvFlags::DONTWAIT))
        {
            self.add(edge, fds);
        }
    }

    fn add(&mut self, edge: Edge, fds: Vec<OwnedFd>) -> Option<()> {
        let mut fds = fds.into_iter();
        let side = if edge.is_caller { Side::Near } else { Side::Far };
        let (rings, bell) = (fds.next()?, fds.next()?);
        self.roads.push(Road {
            duplex: Duplex::map(&rings, edge.ring_entries, side).ok()?,
            raw: map(&rings, duplex_bytes(edge.ring_entries), Access::ReadWrite)?,
            bell_raw: map(&bell, 4096, Access::ReadWrite)?,
            bell: map_bell(&bell).ok()?,
            edge,
        });
        Some(())
    }

    /// The newest road on which this replica calls, or is called.
    #[must_use]
    pub fn road(&mut self, is_caller: bool) -> Option<&mut Road> {
        self.roads.iter_mut().rev().find(|road| road.edge.is_caller == is_caller)
    }

    /// The next request of the node. Waits for it.
    pub fn request(&mut self) -> Descriptor {
        loop {
            self.edges();
            if let Ok(Some(descriptor)) = self.link.from_peer.pop()
                && descriptor.kind == Kind::Request as u8
            {
                return descriptor;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Takes the payload of a request of the node. Its handle.
    pub fn accept(&self, request: &Descriptor) -> Handle {
        let (index, generation) = if request.body.handle == NONE {
            (request.head.handle, request.head.generation)
        } else {
            (request.body.handle, request.body.generation)
        };
        let handle = Handle { index, generation };
        if !self.hello.is_guarded {
            let _ = self.table.transfer(handle, Hold::new(State::FromNode, self.me()), Hold::held(self.me()));
        }
        handle
    }

    /// Puts a descriptor on the link without ringing.
    pub fn publish(&mut self, descriptor: &Descriptor) -> bool {
        self.link.to_peer.push(descriptor).is_ok()
    }

    /// Rings the node.
    pub fn ring(&self) {
        if self.link.node_bell.must_wake() {
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Puts a descriptor on the link and rings.
    pub fn push(&mut self, descriptor: &Descriptor) -> bool {
        let pushed = self.publish(descriptor);
        self.ring();
        pushed
    }

    /// A buffer of the node's, held; `None` if it is refused.
    pub fn alloc(&mut self, len: u64) -> Option<Handle> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let body = Extent { len, ..Extent::EMPTY };
        self.push(&Descriptor { tag, body, ..Descriptor::new(Kind::Alloc) });
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let Ok(Some(grant)) = self.link.from_peer.pop() else {
                std::thread::yield_now();
                continue;
            };
            if grant.kind != Kind::Grant as u8 || grant.tag != tag {
                continue;
            }
            if grant.flags.has(Flags::REFUSED) {
                return None;
            }
            let (index, generation) = unpack_pairs(&grant).next()?;
            let handle = Handle { index, generation };
            let stashed = Hold::new(State::Stashed, self.me());
            if !self.hello.is_guarded {
                self.table.transfer(handle, stashed, Hold::held(self.me())).ok()?;
            }
            return Some(handle);
        }
        None
    }

    /// Writes `bytes` at the start of a held buffer.
    pub fn fill(&self, handle: Handle, bytes: &[u8]) {
        if let Ok(place) = self.ledger.place(handle.index, handle.generation) {
            self.pool.write(place.offset, bytes);
        }
        if self.hello.is_guarded {
            return;
        }
        self.table.describe(handle, Range { offset: 0, len: bytes.len() as u64 }, 0);
    }

    /// Puts a held buffer on the way to the node.
    pub fn depart(&self, handle: Handle) {
        let _ = self.table.transfer(handle, Hold::held(self.me()), Hold::new(State::ToNode, self.me()));
    }

    /// An answer without a payload.
    #[must_use]
    pub fn reply(tag: u32) -> Descriptor {
        Descriptor { tag, code: 200, ..Descriptor::new(Kind::Reply) }
    }

    /// Answers with up to eight bytes, and frees what came with the request.
    pub fn answer(&mut self, request: &Descriptor, text: &[u8; 8]) {
        let handle = self.accept(request);
        self.free(&[handle]);
        let body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(*text), len: 8 };
        self.push(&Descriptor { flags: Flags::INLINE, body, ..Node::reply(request.tag) });
    }

    /// Gives buffers back.
    pub fn free(&mut self, handles: &[Handle]) {
        let pairs: Vec<(u32, u32)> = handles.iter().map(|handle| (handle.index, handle.generation)).collect();
        for some in pairs.chunks(7) {
            let words = baton_abi::descriptor::pack_pairs(Kind::Free, 0, some);
            self.push(&Descriptor::from_words(words));
        }
    }

    /// Overwrites one entry of the capability table.
    pub fn overwrite(&self, index: u32, words: [u64; 8]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.table_raw.write(u64::from(index) * 64, &bytes);
    }
}

/// A range of a buffer.
#[must_use]
pub fn extent(handle: Handle, offset: u64, len: u64) -> Extent {
    Extent { handle: handle.index, generation: handle.generation, offset, len }
}

/// A range of a buffer, as a head.
#[must_use]
pub fn head(handle: Handle, offset: u32, len: u32) -> HeadExtent {
    HeadExtent { handle: handle.index, generation: handle.generation, offset, len }
}

/// The words of a table entry as somebody wants them to be.
#[must_use]
pub fn entry(handle: Handle, state: u8, holder: u16, rights: u8) -> [u64; 8] {
    let word = u64::from(handle.generation) << 32
        | u64::from(holder) << 16
        | u64::from(state) << 8
        | u64::from(rights);
    let place = u64::from(handle.index) | u64::from(handle.generation) << 32;
    [word, 0, 64, 0, u64::MAX, place, 0, 0]
}

/// A cheap stream of numbers, the same on every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
