//! The plane of one app: the program, its maps, the sockets, and who may call whom.
//!
//! | map | who writes it |
//! |---|---|
//! | capability table | the node (mapped), the program; replicas have it read-only |
//! | edges | the node opens and closes, the program counts what is outstanding |
//! | identities | the node, once for each socket, before anybody else has it; they live and die with the socket |
//! | sockets | the node; the kernel takes out what was closed |
//! | counters, causes | the program |

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues, SkStorage, SockMap};
use aya::programs::{ProgramError, RawTracePoint, SkMsg};
use aya::util::nr_cpus;
use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader};
use baton_abi::Descriptor;
use baton_abi::Kind;
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::packet::{EDGES_MAX, Op, Packet};

use crate::cause::Cause;
use crate::network::Network;
use crate::scribe::{Pen, Scribe};
use crate::sockets::{NodeSocket, is_full};
use crate::sys;

/// Built by `cargo xtask kernel`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/handover.bpf.o");
/// The arena of the node's own socket.
pub(crate) const NODE_ARENA: u16 = u16::MAX;
/// The bit of an edge's counts that says that it is open.
const EDGE_OPEN: u64 = 1 << 63;
/// How many epochs an edge has before they begin anew.
const EPOCHS: u32 = 1 << 31;

/// How large the tables of an app are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Buffer slots of its pool.
    pub slots: u32,
    /// Ranges of derived capabilities behind them, one for each replica.
    pub arenas: u32,
    /// Edges that may be open; their numbers are below this.
    pub edges: u32,
}

/// A replica: its number as a holder, and which range of derived capabilities is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The holder.
    pub holder: u16,
    /// The range.
    pub arena: u16,
}

/// The two ends of a replica's socket.
#[derive(Debug)]
pub struct Ends {
    /// For the replica: what it writes here goes through the program.
    pub replica: OwnedFd,
    /// For the node: what was refused comes here, as it was written. Not blocking.
    pub node: OwnedFd,
}

/// What went over an edge since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    /// Requests.
    pub calls: u64,
    /// Answers.
    pub replies: u64,
    /// Bytes of bodies that were handed over, both ways.
    pub bytes: u64,
    /// Packets that were refused after it was clear that the edge is their sender's.
    pub refusals: u64,
}

/// Why something with a plane did not work.
#[derive(Debug)]
pub enum KernelError {
    /// The kernel's types, by which the program finds its way, cannot be read.
    Types(BtfError),
    /// The program or its maps could not be loaded.
    Load(Box<EbpfError>),
    /// The program could not be loaded or attached.
    Program(Box<ProgramError>),
    /// A map could not be read or written.
    Map(MapError),
    /// The app's own network, or a socket in it, could not be made.
    Network(io::Error),
    /// The embedded object lacks something.
    Object {
        /// What.
        what: &'static str,
    },
    /// The numbers of a set-up are out of what there can be.
    Setup(Setup),
    /// No such range, or no replica has it.
    Arena(u16),
    /// Another replica has the range.
    Taken(u16),
    /// No such edge.
    Edge(u16),
    /// The edge is open.
    Open(u16),
    /// The replica does not read what it is sent: it is told nothing more.
    Unread(u16),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::Types(error) => {
                write!(f, "the kernel's types (/sys/kernel/btf/vmlinux) cannot be read: {error}")
            }
            KernelError::Load(error) => write!(f, "the hand-over program cannot be loaded: {error}"),
            KernelError::Program(error) => write!(f, "the hand-over program is refused: {error}"),
            KernelError::Map(error) => write!(f, "a map of the hand-over program: {error}"),
            KernelError::Network(error) => write!(f, "the network for an app's sockets: {error}"),
            KernelError::Object { what } => write!(f, "the embedded hand-over program has no {what}"),
            KernelError::Setup(setup) => write!(f, "tables that cannot be: {setup:?}"),
            KernelError::Arena(arena) => {
                write!(f, "no replica has the range {arena} of derived capabilities")
            }
            KernelError::Taken(arena) => write!(f, "the range {arena} of derived capabilities is taken"),
            KernelError::Edge(id) => write!(f, "there is no edge {id}"),
            KernelError::Open(id) => write!(f, "the edge {id} is open"),
            KernelError::Unread(arena) => {
                write!(f, "the replica of the range {arena} does not read its socket")
            }
        }
    }
}

impl std::error::Error for KernelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KernelError::Types(error) => Some(error),
            KernelError::Load(error) => Some(error.as_ref()),
            KernelError::Program(error) => Some(error.as_ref()),
            KernelError::Map(error) => Some(error),
            KernelError::Network(error) => Some(error),
            _ => None,
        }
    }
}

impl From<MapError> for KernelError {
    fn from(error: MapError) -> KernelError {
        KernelError::Map(error)
    }
}

/// A replica that joined.
#[derive(Debug)]
struct Joined {
    seat: Seat,
    /// Its socket once more: how much waits there, only its own side can say.
    socket: OwnedFd,
}

/// How often an edge was opened, and whether it is.
#[derive(Clone, Copy, Debug, Default)]
struct Opened {
    epoch: u32,
    is_open: bool,
}

/// Where the kernel hands over for one app.
pub struct Plane {
    setup: Setup,
    table: MapData,
    /// The programs by which the node writes the table.
    pen: Arc<Pen>,
    edges: Array<MapData, [u64; 2]>,
    counts: PerCpuArray<MapData, [u64; 4]>,
    causes: PerCpuArray<MapData, u64>,
    sockets: SockMap<MapData>,
    identities: SkStorage<MapData, u64>,
    network: Network,
    node: NodeSocket,
    joined: Vec<Option<Joined>>,
    opened: Vec<Opened>,
    cpus: usize,
    /// Keeps the program attached.
    _program: Ebpf,
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plane { setup, joined, .. } = self;
        f.debug_struct("Plane").field("setup", setup).field("joined", joined).finish_non_exhaustive()
    }
}

impl Plane {
    /// Loads the program with empty tables.
    ///
    /// # Errors
    /// Whatever the kernel does not grant; [`crate::probe()`] says it in words for people.
    pub fn load(setup: Setup) -> Result<Plane, KernelError> {
        let fits = setup.slots > 0
            && (1..=REPLICAS_MAX).contains(&setup.arenas)
            && (1..=u32::from(EDGES_MAX)).contains(&setup.edges);
        let entries =
            setup.arenas.checked_mul(DERIVED_MAX).and_then(|derived| derived.checked_add(setup.slots));
        let entries = entries.filter(|_| fits).ok_or(KernelError::Setup(setup))?;
        let mut program = EbpfLoader::new()
            .btf(Some(types()?))
            .override_global("SLOTS", &setup.slots, true)
            .map_max_entries("table", entries)
            .map_max_entries("edges", setup.edges)
            .map_max_entries("counts", setup.edges)
            // One more for the node's own socket.
            .map_max_entries("sockets", setup.arenas + 1)
            .load(OBJECT)
            .map_err(|error| KernelError::Load(Box::new(error)))?;
        let sockets: SockMap<MapData> = take(&mut program, "sockets")?;
        attach(&mut program, &sockets).map_err(|error| KernelError::Program(Box::new(error)))?;
        let mut load = |name| pen(&mut program, name).map_err(|error| KernelError::Program(Box::new(error)));
        let (one, all) = (load("scribe")?, load("scribe_all")?);
        let pen = Arc::new(Pen { one, all, orders: Mutex::new(take(&mut program, "orders")?) });
        let table = table(&mut program)?;
        sys::freeze(table.fd().as_fd()).map_err(KernelError::Network)?;
        let network = Network::new().map_err(KernelError::Network)?;
        let node = NodeSocket::new(network.pair().map_err(KernelError::Network)?);
        let mut plane = Plane {
            setup,
            table,
            pen,
            edges: take(&mut program, "edges")?,
            counts: take(&mut program, "counts")?,
            causes: take(&mut program, "causes")?,
            sockets,
            identities: take(&mut program, "identities")?,
            network,
            node,
            joined: (0..setup.arenas).map(|_| None).collect(),
            opened: vec![Opened::default(); setup.edges as usize],
            cpus: nr_cpus().map_err(|(_, error)| KernelError::Network(error))?,
            _program: program,
        };
        plane.identities.insert(plane.node.near(), identity(0, NODE_ARENA), 0)?;
        plane.sockets.set(setup.arenas, plane.node.near(), 0)?;
        Ok(plane)
    }

    /// What it was loaded with.
    #[must_use]
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// The capability table: `slots` roots, then 1,024 entries for each arena, 64 bytes each. Can be mapped read-only, and nothing else:
    /// who writes it are programs.
    #[must_use]
    pub fn table_fd(&self) -> BorrowedFd<'_> {
        self.table.fd().as_fd()
    }

    /// Length of the capability table, bytes.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        (self.setup.slots as usize + self.setup.arenas as usize * DERIVED_MAX as usize) * 64
    }

    /// The capability table for replicas: can be mapped read-only, and nothing else.
    ///
    /// # Errors
    /// [`KernelError::Map`], [`KernelError::Network`].
    pub fn table_read_only(&self) -> Result<OwnedFd, KernelError> {
        self.table.fd().as_fd().try_clone_to_owned().map_err(KernelError::Network)
    }

    /// How the node writes the capability table.
    #[must_use]
    pub fn scribe(&self) -> Scribe {
        Scribe::new(Arc::clone(&self.pen))
    }

    /// Makes the socket of a replica. From here on whatever is written to it is this replica's.
    ///
    /// # Errors
    /// [`KernelError::Arena`], [`KernelError::Taken`], or the kernel's.
    pub fn join(&mut self, seat: Seat) -> Result<Ends, KernelError> {
        let place = self.joined.get_mut(usize::from(seat.arena)).ok_or(KernelError::Arena(seat.arena))?;
        if place.is_some() {
            return Err(KernelError::Taken(seat.arena));
        }
        let pair = self.network.pair().map_err(KernelError::Network)?;
        let socket = pair.near.try_clone().map_err(KernelError::Network)?;
        rustix::io::ioctl_fionbio(&pair.far, true).map_err(|errno| KernelError::Network(errno.into()))?;
        // Who it is, before the program may be asked.
        self.identities.insert(&pair.near, identity(seat.holder, seat.arena), 0)?;
        self.sockets.set(u32::from(seat.arena), &pair.near, 0)?;
        *place = Some(Joined { seat, socket });
        Ok(Ends { replica: pair.near, node: pair.far })
    }

    /// Takes the replica of `arena` out: nothing more reaches it, and the program takes nothing more from it. Its edges are closed.
    ///
    /// # Errors
    /// [`KernelError::Arena`], or the kernel's.
    pub fn leave(&mut self, arena: u16) -> Result<(), KernelError> {
        let place = self.joined.get_mut(usize::from(arena)).ok_or(KernelError::Arena(arena))?;
        let Joined { seat, socket } = place.take().ok_or(KernelError::Arena(arena))?;
        for id in 0..self.setup.edges {
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            if self.opened.get(usize::from(id)).is_some_and(|edge| edge.is_open) && self.is_of(id, seat)? {
                self.close_edge(id)?;
            }
        }
        match self.sockets.clear_index(&u32::from(arena)) {
            // The kernel took it out when its last descriptor outside was closed, or its peer was.
            Err(MapError::SyscallError(error)) if is_missing(&error.io_error) => {}
            done => done?,
        }
        drop(socket);
        Ok(())
    }

    fn is_of(&self, id: u16, seat: Seat) -> Result<bool, KernelError> {
        let [_, ends] = self.edges.get(&u32::from(id), 0)?;
        let [caller, callee, caller_arena, callee_arena] = halves(ends);
        Ok((caller, caller_arena) == (seat.holder, seat.arena)
            || (callee, callee_arena) == (seat.holder, seat.arena))
    }

    /// Lets `caller` call `callee` over the edge `id`, whose counts begin anew.
    ///
    /// # Errors
    /// [`KernelError::Edge`], [`KernelError::Open`], or the kernel's.
    pub fn open_edge(&mut self, id: u16, caller: Seat, callee: Seat) -> Result<(), KernelError> {
        let opened = self.opened.get_mut(usize::from(id)).ok_or(KernelError::Edge(id))?;
        if opened.is_open {
            return Err(KernelError::Open(id));
        }
        let epoch = (opened.epoch + 1) % EPOCHS;
        let zeros = PerCpuValues::try_from(vec![[0; 4]; self.cpus]).map_err(KernelError::Network)?;
        self.counts.set(u32::from(id), zeros, 0)?;
        let ends = u64::from(caller.holder)
            | u64::from(callee.holder) << 16
            | u64::from(caller.arena) << 32
            | u64::from(callee.arena) << 48;
        // First who, closed; then open: the program takes the counts' word as it is read before the ends.
        self.edges.set(u32::from(id), [u64::from(epoch) << 32, ends], 0)?;
        self.edges.set(u32::from(id), [EDGE_OPEN | u64::from(epoch) << 32, ends], 0)?;
        *opened = Opened { epoch, is_open: true };
        Ok(())
    }

    /// Closes an edge: from when this returns, everything over it is refused. A closed edge stays as it is.
    ///
    /// # Errors
    /// [`KernelError::Edge`], or the kernel's.
    pub fn close_edge(&mut self, id: u16) -> Result<(), KernelError> {
        let opened = self.opened.get_mut(usize::from(id)).ok_or(KernelError::Edge(id))?;
        if opened.is_open {
            let [_, ends] = self.edges.get(&u32::from(id), 0)?;
            self.edges.set(u32::from(id), [u64::from(opened.epoch) << 32, ends], 0)?;
            opened.is_open = false;
        }
        Ok(())
    }

    /// Wakes a replica that sleeps at its socket. One that has more to read than it should is awake, and is told nothing.
    ///
    /// # Errors
    /// [`KernelError::Arena`], or the kernel's.
    pub fn wake(&self, arena: u16) -> Result<(), KernelError> {
        if is_full(self.seated(arena)?.socket.as_fd()) {
            return Ok(());
        }
        let packet =
            Packet { into: u32::from(arena), ..Packet::new(Op::NodeWake, Descriptor::new(Kind::Cancel)) };
        self.node.send(&packet).map_err(KernelError::Network)
    }

    /// Tells a replica that a packet of its own was refused: `packet` goes to it as [`Op::Refused`].
    ///
    /// # Errors
    /// [`KernelError::Unread`] if the replica reads nothing; [`KernelError::Arena`], or the kernel's.
    pub fn refuse(&self, arena: u16, packet: &Packet) -> Result<(), KernelError> {
        if is_full(self.seated(arena)?.socket.as_fd()) {
            return Err(KernelError::Unread(arena));
        }
        let packet = Packet { op: Op::Refused as u8, into: u32::from(arena), ..*packet };
        self.node.send(&packet).map_err(KernelError::Network)
    }

    fn seated(&self, arena: u16) -> Result<&Joined, KernelError> {
        self.joined.get(usize::from(arena)).and_then(Option::as_ref).ok_or(KernelError::Arena(arena))
    }

    /// What went over an edge since it was opened.
    ///
    /// # Errors
    /// [`KernelError::Edge`], or the kernel's.
    pub fn edge_counts(&self, id: u16) -> Result<EdgeCounts, KernelError> {
        if u32::from(id) >= self.setup.edges {
            return Err(KernelError::Edge(id));
        }
        let mut sum = EdgeCounts::default();
        for [calls, replies, bytes, refusals] in self.counts.get(&u32::from(id), 0)?.iter() {
            sum.calls += calls;
            sum.replies += replies;
            sum.bytes += bytes;
            sum.refusals += refusals;
        }
        Ok(sum)
    }

    /// Requests over an edge that were not answered yet.
    ///
    /// # Errors
    /// [`KernelError::Edge`], or the kernel's.
    pub fn outstanding(&self, id: u16) -> Result<u16, KernelError> {
        if u32::from(id) >= self.setup.edges {
            return Err(KernelError::Edge(id));
        }
        let [counts, _] = self.edges.get(&u32::from(id), 0)?;
        let [outstanding, ..] = halves(counts);
        Ok(outstanding)
    }

    /// How many packets were refused since the plane was loaded, by cause.
    ///
    /// # Errors
    /// The kernel's.
    pub fn refusals(&self) -> Result<[(Cause, u64); Cause::ALL.len()], KernelError> {
        let mut counted = Cause::ALL.map(|cause| (cause, 0));
        for (cause, count) in &mut counted {
            *count = self.causes.get(&(*cause as u32), 0)?.iter().sum();
        }
        Ok(counted)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT))
}

fn identity(holder: u16, arena: u16) -> u64 {
    u64::from(holder) | u64::from(arena) << 16
}

fn halves(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
}

fn take<M>(program: &mut Ebpf, name: &'static str) -> Result<M, KernelError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = program.take_map(name).ok_or(KernelError::Object { what: name })?;
    Ok(M::try_from(map)?)
}

fn table(program: &mut Ebpf) -> Result<MapData, KernelError> {
    match program.take_map("table") {
        Some(Map::Array(table)) => Ok(table),
        _ => Err(KernelError::Object { what: "table" }),
    }
}

/// Loads a program by which the node writes the table.
fn pen(program: &mut Ebpf, name: &str) -> Result<OwnedFd, ProgramError> {
    let scribe: &mut RawTracePoint = program.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()?;
    scribe.load()?;
    Ok(scribe.fd()?.as_fd().try_clone_to_owned()?)
}

fn attach(program: &mut Ebpf, sockets: &SockMap<MapData>) -> Result<(), ProgramError> {
    let Some(found) = program.program_mut("handover") else {
        return Err(ProgramError::NotLoaded);
    };
    let handover: &mut SkMsg = found.try_into()?;
    handover.load()?;
    handover.attach(sockets.fd())?;
    Ok(())
}

/// The kernel's types, read once in the life of the process.
fn types() -> Result<&'static Btf, KernelError> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    if let Some(types) = TYPES.get() {
        return Ok(types);
    }
    let types = Btf::from_sys_fs().map_err(KernelError::Types)?;
    Ok(TYPES.get_or_init(|| types))
}
