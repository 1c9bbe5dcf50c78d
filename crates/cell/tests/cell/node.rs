//! A node of a few lines: starts the real `baton-cell`, loads guests, forks cells and speaks with their seats.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton_abi::boot::CONTROL_FD;
use baton_abi::cell::{
    ANY_CORE, CELL_MESSAGE_BYTES, Fork, FromCell, Load, SEATS_MAX, Seat, Setup, ToTemplate, Trust,
};
use baton_abi::descriptor::{pack_pairs, unpack_pairs};
use baton_abi::{ABI_VERSION, Descriptor, Extent, Flags, HeadExtent, Kind, NONE, plan};
use baton_pool::bell::Bell;
use baton_pool::capability::{Handle, Range};
use baton_pool::ledger::class_of;
use baton_pool::link::{self, Duplex, Side};
use baton_pool::pool::Pool;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

pub(crate) use crate::function::Function;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) is_error: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A template with its functions.
pub(crate) struct Node {
    child: Child,
    control: OwnedFd,
    pub(crate) pool: Pool,
    functions: Vec<Function>,
    /// How long each function took to its first receive.
    pub(crate) load_ns: Vec<u64>,
    pub(crate) snapshots: Vec<Option<OwnedFd>>,
    cells: u32,
    /// The number that the last holder got.
    holder: u16,
    /// Log lines and faults that templates told of.
    pub(crate) said: Vec<String>,
}

/// A cell.
pub(crate) struct Cell {
    control: OwnedFd,
    bell: Bell,
    links: Vec<(Duplex, OwnedFd)>,
    holders: Vec<u16>,
    pub(crate) pidfd: OwnedFd,
    tag: u32,
    /// Log lines and faults.
    pub(crate) said: Vec<String>,
    faults: usize,
}

fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn send(control: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

/// The next message: `None` when nothing came in time or the peer is gone.
fn receive(control: &OwnedFd, wait: Duration) -> Option<(FromCell, String, Option<OwnedFd>)> {
    let mut fds = [PollFd::new(control, PollFlags::IN)];
    let timeout = rustix::time::Timespec::try_from(wait).unwrap();
    if poll(&mut fds, Some(&timeout)).unwrap() == 0 {
        return None;
    }
    let mut bytes = [0u8; CELL_MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let received = baton_pool::control::receive(control.as_fd(), &mut bytes, &mut space, RecvFlags::empty());
    let (len, fds) = received.ok()?;
    let (message, text) = FromCell::decode(&bytes[..len])?;
    Some((message, String::from_utf8_lossy(text).into_owned(), fds.into_iter().next()))
}

impl Node {
    /// Starts a template and loads `functions`; gives the reason if one cannot be loaded.
    pub(crate) fn start(trust: Trust, functions: Vec<Function>) -> Result<Node, String> {
        Node::start_with(trust, functions, &[], false)
    }

    pub(crate) fn start_with(
        trust: Trust,
        functions: Vec<Function>,
        snapshots: &[Option<OwnedFd>],
        trace: bool,
    ) -> Result<Node, String> {
        let mut node = Node::begin(trust, functions, trace);
        for index in 0..node.functions.len() {
            let kept = snapshots.get(index).and_then(Option::as_ref);
            node.load(index, kept)?;
        }
        Ok(node)
    }

    /// Starts a template and loads what it will load of `functions`; gives the reasons why not, for each.
    #[allow(dead_code, reason = "for guests that are not to be loaded, which not every test has")]
    pub(crate) fn start_anyway(trust: Trust, functions: Vec<Function>) -> (Node, Vec<Option<String>>) {
        let mut node = Node::begin(trust, functions, false);
        let reasons = (0..node.functions.len()).map(|index| node.load(index, None).err()).collect();
        (node, reasons)
    }

    fn begin(trust: Trust, functions: Vec<Function>, trace: bool) -> Node {
        let mut pool = Pool::create("test", 256 << 20, false).unwrap();
        if trust == Trust::Buffer {
            pool.keep_pages_apart();
        }
        let (control, guest) = pair();
        let mut command = Command::new(super::cell_binary());
        command.env_clear().env("GLIBC_TUNABLES", "glibc.pthread.rseq=0").stdin(Stdio::null());
        super::give_control(&mut command, guest.as_raw_fd(), CONTROL_FD);
        let child = command.process_group(0).spawn().unwrap();
        drop(guest);
        let mut node = Node {
            child,
            control,
            pool,
            functions,
            load_ns: Vec::new(),
            snapshots: Vec::new(),
            cells: 0,
            holder: 0,
            said: Vec::new(),
        };
        node.set_up(trust, trace);
        node
    }

    fn set_up(&mut self, trust: Trust, trace: bool) {
        let plan = self.plan();
        let fd = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(rustix::io::pwrite(&fd, &plan, 0).unwrap(), plan.len());
        let setup = Setup {
            abi_version: ABI_VERSION,
            trust,
            pool_bytes: self.pool.bytes(),
            slots: self.pool.slots(),
            functions: u32::try_from(self.functions.len()).unwrap(),
            plan_bytes: u32::try_from(plan.len()).unwrap(),
            trace,
        };
        let fds = [fd.as_fd(), self.pool.fd(), self.pool.ledger_fd(), self.pool.table_fd()];
        send(&self.control, &ToTemplate::Setup(setup).encode(), &fds);
    }

    fn plan(&self) -> Vec<u8> {
        let mut plan = Vec::new();
        let mut writer = plan::Writer::new(|bytes: &[u8]| plan.extend_from_slice(bytes));
        for function in &self.functions {
            let elf = std::fs::read(&function.elf).unwrap();
            let timeout = u64::try_from(function.timeout.as_nanos()).unwrap();
            let calls: Vec<(&str, u64)> = function.calls.iter().map(|name| (*name, timeout)).collect();
            let names = format!("BATON_CALLS={}", function.calls.join(","));
            let mut env = vec![names.into_bytes()];
            env.extend(function.env.iter().map(|variable| variable.clone().into_bytes()));
            let env: Vec<&[u8]> = env.iter().map(Vec::as_slice).collect();
            writer.entry(&plan::NewEntry {
                name: function.name,
                access: 2,
                concurrency: function.concurrency,
                timeout_ns: timeout,
                memory_bytes: function.memory,
                reset: function.reset,
                key_group: 0,
                window: function.window,
                args: &[function.name.as_bytes()],
                env: &env,
                calls: &calls,
                patches: &function.patches.clone().unwrap_or_else(|| super::harmless(&elf)),
            });
        }
        plan
    }

    fn load(&mut self, index: usize, kept: Option<&OwnedFd>) -> Result<(), String> {
        let elf = std::fs::File::open(&self.functions[index].elf).unwrap();
        let files = self.functions[index].files.as_ref().map(|path| std::fs::File::open(path).unwrap());
        let load = Load {
            index: u32::try_from(index).unwrap(),
            elf_bytes: elf.metadata().unwrap().len(),
            host_bytes: 0,
            files_bytes: files.as_ref().map_or(0, |files| files.metadata().unwrap().len()),
            has_snapshot: kept.is_some(),
        };
        let mut fds = vec![elf.as_fd()];
        fds.extend(files.as_ref().map(AsFd::as_fd));
        fds.extend(kept.map(AsFd::as_fd));
        send(&self.control, &ToTemplate::Load(load).encode(), &fds);
        loop {
            match receive(&self.control, PATIENCE) {
                Some((FromCell::Loaded { load_ns, snapshot_bytes, .. }, _, fd)) => {
                    assert_eq!(fd.is_some(), snapshot_bytes > 0);
                    self.load_ns.push(load_ns);
                    self.snapshots.push(fd);
                    return Ok(());
                }
                Some((FromCell::Failed { .. }, why, _)) => return Err(why),
                Some((_, text, _)) => self.said.push(text),
                None => return Err("the template says nothing".to_owned()),
            }
        }
    }

    /// A new cell that takes requests.
    pub(crate) fn fork(&mut self) -> Cell {
        let (control, cell_control) = pair();
        let bell_fd = link::create_bell("bell").unwrap();
        let entries = link::ring_entries_for(256);
        let links: Vec<(OwnedFd, OwnedFd)> = (0..self.functions.len())
            .map(|_| {
                let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
                (link::create("link", entries).unwrap(), rustix::event::eventfd(0, flags).unwrap())
            })
            .collect();
        let mut seats = [Seat::default(); SEATS_MAX];
        let mut holders = Vec::new();
        for (nth, seat) in seats.iter_mut().enumerate().take(links.len()) {
            let arena = self.cells * 16 + u32::try_from(nth).unwrap();
            self.holder += 1;
            let holder = self.holder;
            *seat = Seat { holder, derived_base: self.pool.derived_base(arena), ring_entries: entries };
            holders.push(holder);
        }
        let count = u32::try_from(links.len()).unwrap();
        let order = ToTemplate::Fork(Fork { cell: self.cells, core: ANY_CORE, seats, count });
        let mut fds = vec![cell_control.as_fd(), bell_fd.as_fd()];
        fds.extend(links.iter().flat_map(|(link, eventfd)| [link.as_fd(), eventfd.as_fd()]));
        send(&self.control, &order.encode(), &fds);
        self.cells += 1;
        let pidfd = loop {
            match receive(&self.control, PATIENCE).expect("the template lives") {
                (FromCell::Forked { .. }, _, fd) => break fd.unwrap(),
                (_, text, _) => self.said.push(text),
            }
        };
        drop(cell_control);
        let links = links
            .into_iter()
            .map(|(fd, eventfd)| (Duplex::map(&fd, entries, Side::Near).unwrap(), eventfd))
            .collect();
        let bell = link::map_bell(&bell_fd).unwrap();
        let cell = Cell { control, bell, links, holders, pidfd, tag: 0, said: Vec::new(), faults: 0 };
        let first = receive(&cell.control, PATIENCE);
        assert!(matches!(first, Some((FromCell::Ready, ..))), "the cell is not ready: {first:?}");
        cell
    }

    /// All cells have ended: those that are forked from now on get their ranges of the table.
    pub(crate) fn reuse_ranges(&mut self) {
        self.cells = 0;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its cells die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cell {
    /// Has the cell say in the shared table who of it holds what. `false` if it does not come to it in time.
    pub(crate) fn show(&mut self, pool: &mut Pool) -> bool {
        const NO_TAG: u32 = u32::MAX;
        let asked = self.bell.ask_to_show();
        self.bell.ring();
        let until = Instant::now() + PATIENCE;
        while self.bell.shown() != asked && Instant::now() < until {
            // Meanwhile it may want something of the node's.
            self.wait_for(pool, (0, NO_TAG), Duration::from_millis(1));
        }
        self.wait_for(pool, (0, NO_TAG), Duration::from_micros(100));
        self.bell.shown() == asked
    }

    /// Ends the cell; what its seats held comes back.
    pub(crate) fn end(self, pool: &mut Pool) {
        rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL).unwrap();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        for holder in self.holders {
            pool.reclaim(holder, |_| true);
        }
    }

    /// Sends a request without waiting; gives its tag.
    pub(crate) fn send(&mut self, pool: &mut Pool, seat: usize, body: &[u8], operation: u16) -> u32 {
        self.tag += 1;
        let holder = self.holders[seat];
        let mut descriptor =
            Descriptor { tag: self.tag, code: operation, invocation: 7, ..Descriptor::new(Kind::Request) };
        if !body.is_empty() {
            let buffer = pool.alloc(body.len() as u64).expect("room in the pool");
            assert!(pool.write(&buffer, 0, body));
            let len = body.len() as u64;
            pool.send(&buffer, Range { offset: 0, len }, holder, 7).unwrap();
            let Handle { index: handle, generation } = buffer.handle;
            descriptor.body = Extent { handle, generation, offset: 0, len };
        }
        self.links[seat].0.to_peer.push(&descriptor).unwrap();
        self.bell.ring();
        self.tag
    }

    /// Waits for the answer to `tag`.
    pub(crate) fn wait(&mut self, pool: &mut Pool, seat: usize, tag: u32) -> Option<Answer> {
        self.wait_for(pool, (seat, tag), PATIENCE)
    }

    /// As [`Cell::wait`], not for so long.
    pub(crate) fn wait_for(
        &mut self,
        pool: &mut Pool,
        (seat, tag): (usize, u32),
        longest: Duration,
    ) -> Option<Answer> {
        let until = Instant::now() + longest;
        while Instant::now() < until {
            self.listen();
            for nth in 0..self.links.len() {
                while let Some(descriptor) = self.links[nth].0.from_peer.pop().unwrap() {
                    if let Some(answer) = self.take(pool, nth, &descriptor)
                        && (nth, descriptor.tag) == (seat, tag)
                    {
                        return Some(answer);
                    }
                }
            }
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let nap = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000 };
            if poll(&mut fds, Some(&nap)).unwrap() > 0
                && self.links.iter_mut().all(|(l, _)| l.from_peer.is_empty().unwrap())
            {
                return None;
            }
        }
        None
    }

    /// Takes what the cell said on its control socket.
    pub(crate) fn listen(&mut self) {
        while let Some((message, text, _)) = receive(&self.control, Duration::ZERO) {
            self.faults += usize::from(matches!(message, FromCell::Fault { .. }));
            self.said.push(text);
        }
    }

    /// Guests that were reset after a fault so far.
    pub(crate) fn faults(&mut self) -> usize {
        self.listen();
        self.faults
    }

    fn take(&mut self, pool: &mut Pool, seat: usize, descriptor: &Descriptor) -> Option<Answer> {
        let holder = self.holders[seat];
        match Kind::from_u8(descriptor.kind).expect("a kind") {
            Kind::Alloc => {
                let words = match pool.grant(descriptor.body.len, holder) {
                    Ok(handle) => {
                        pack_pairs(Kind::Grant, descriptor.tag, &[(handle.index, handle.generation)])
                    }
                    Err(_) => {
                        let refused = Descriptor {
                            tag: descriptor.tag,
                            flags: Flags::REFUSED,
                            ..Descriptor::new(Kind::Grant)
                        };
                        refused.to_words()
                    }
                };
                self.push(seat, words);
            }
            Kind::Refill => {
                let class = class_of(descriptor.body.len).expect("a class");
                for _ in 0..descriptor.code {
                    let Ok(handle) = pool.grant(descriptor.body.len, holder) else {
                        // Only what there is; the class is named where there is nothing more.
                        let refused = Descriptor {
                            flags: Flags::REFUSED,
                            code: u16::from(class),
                            ..Descriptor::new(Kind::Grant)
                        };
                        self.push(seat, refused.to_words());
                        break;
                    };
                    self.push(seat, pack_pairs(Kind::Grant, 0, &[(handle.index, handle.generation)]));
                }
            }
            Kind::Free => {
                for (index, generation) in unpack_pairs(descriptor) {
                    pool.free_by(Handle { index, generation }, holder).expect("freed by its holder");
                }
            }
            Kind::Receipt => {}
            Kind::Reply => return Some(self.answer(pool, holder, descriptor)),
            other => panic!("{other:?} from a cell"),
        }
        None
    }

    fn push(&mut self, seat: usize, words: [u64; 8]) {
        self.links[seat].0.to_peer.push_words(words).unwrap();
        self.bell.ring();
    }

    fn answer(&mut self, pool: &mut Pool, holder: u16, descriptor: &Descriptor) -> Answer {
        let mut body = Vec::new();
        if descriptor.flags.has(Flags::INLINE) {
            let len = usize::try_from(descriptor.body.len).unwrap();
            body = descriptor.body.offset.to_le_bytes()[..len].to_vec();
        } else if descriptor.body.handle != NONE {
            let received = pool.receive(descriptor.body, holder).expect("a payload that the seat holds");
            body = vec![0; usize::try_from(received.place.capacity).unwrap()];
            assert!(pool.mapping().read(received.place.offset, &mut body));
            pool.release(received.handle);
        }
        if descriptor.head != HeadExtent::EMPTY && descriptor.head.handle != descriptor.body.handle {
            let head = descriptor.head;
            let extent = Extent {
                handle: head.handle,
                generation: head.generation,
                offset: u64::from(head.offset),
                len: u64::from(head.len),
            };
            let received = pool.receive(extent, holder).expect("a head that the seat holds");
            pool.release(received.handle);
        }
        Answer { status: descriptor.code, is_error: descriptor.flags.has(Flags::ERROR), body }
    }

    /// A request and its answer.
    pub(crate) fn ask(&mut self, pool: &mut Pool, seat: usize, body: &[u8]) -> Answer {
        let tag = self.send(pool, seat, body, 0);
        self.wait(pool, seat, tag).unwrap_or_else(|| panic!("no answer; the cell said {:?}", self.said))
    }
}
